"""Training and prediction with adapters (LoRA) on SmolLM2-135M: kagglekit beside `transformers.Trainer` with `peft`.

`python -m tests.benchmarks.lora_speed` from the root prints a table, in under two minutes; `peft` has to be installed
(0.21.2 was measured), in any environment that has the library's packages. Both systems read the same tweets in batches
of the same mean size, grouped by length, in the same precision, with adapters of rank 16 and dropout 0.05 on all linear
layers, and the same optimizer; activations are kept, or computed again (`--checkpointing`). `peft` has its faster form:
the backbone in bfloat16, torch's own attention, and, to predict, adapters merged. `--tuning full` trains all weights,
which are then float32 in both systems, and needs no `peft`. Rounds take turns; the table has medians over rounds, and
their range.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PrinterCallback

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens
from kagglekit.decoders.lora import narrow_frozen
from kagglekit.device import PRECISIONS, checkpoint_activations, choose_device, choose_precision, keep_memory
from kagglekit.model.backbones import find_backbone, load_config, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.samples import write_sample
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.predict import predict
from kagglekit.training.trainer import Trainer, training_arguments
from tests.benchmarks.step_cost import Memory

LORA = {"r": 16, "alpha": 32, "dropout": 0.05}
BATCH, CLASSES, RATE, THEIRS = 16, 2, 1e-4, "transformers.Trainer"
System = dict[str, Callable[[], object]]  # "train" and "predict" -> one epoch over the rows


def read_tweets(tokenizer, rows: int, length: int) -> Examples:
    """Tweets of the sample as examples, with labels of no meaning."""
    with tempfile.TemporaryDirectory() as place:
        texts = pd.read_csv(write_sample("tweets", Path(place) / "tweets", rows) / "train.csv")["text"].astype(str)
    ids = [np.array(tokenizer(text)["input_ids"][:length], dtype=np.int32) for text in texts[:rows]]
    lengths = np.array([len(one) for one in ids])
    return Examples(Tokens(np.concatenate(ids), lengths), tokenizer.pad_token_id, np.arange(len(ids)) % CLASSES)


def make_ours(folder: str, asked: argparse.Namespace, examples: Examples, place: Path) -> System:
    config, precision = load_config(folder), choose_precision()
    config.num_hidden_layers = asked.layers
    with quiet():
        backbone = transformers.AutoModel.from_pretrained(folder, config=config, dtype=torch.float32)
    adapters = LORA if asked.tuning == "lora" else None
    model = Classifier(backbone, "softmax", CLASSES, "last_token", adapters=adapters).to(choose_device())
    if asked.checkpointing:
        checkpoint_activations(model.backbone)
    if precision != "fp32":
        narrow_frozen(model.backbone, PRECISIONS[precision])

    def train():
        shutil.rmtree(place, ignore_errors=True)
        arguments = training_arguments(place, epochs=1, batch_size=BATCH, precision=precision, seed=0, log_every=100)
        Trainer(model, arguments, examples, F.cross_entropy, adamw(parameter_groups(model, RATE))).fit()

    return {"train": train, "predict": lambda: predict(model, examples, precision)}


def make_theirs(folder: str, asked: argparse.Namespace, examples: Examples, place: Path, tokenizer) -> System:
    config, precision = load_config(folder), choose_precision()
    config.num_hidden_layers, config.num_labels, config.pad_token_id = asked.layers, CLASSES, tokenizer.pad_token_id
    dtype = PRECISIONS.get(precision, torch.float32) if asked.tuning == "lora" else torch.float32
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(folder, config=config, dtype=dtype)
    if asked.tuning == "lora":
        from peft import LoraConfig, get_peft_model

        options = {"r": LORA["r"], "lora_alpha": LORA["alpha"], "lora_dropout": LORA["dropout"]}
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", **options))
    ids = np.split(examples.tokens.flat, np.cumsum(examples.tokens.lengths)[:-1])
    rows = [{"input_ids": one.tolist(), "labels": number % CLASSES} for number, one in enumerate(ids)]
    arguments = transformers.TrainingArguments(
        str(place),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=RATE,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        activation_checkpointing=asked.checkpointing,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        logging_steps=100,
        use_cpu=choose_device().type == "cpu",
        dataloader_pin_memory=False,
    )

    def train():
        collate = DataCollatorWithPadding(tokenizer)
        trainer = transformers.Trainer(model, arguments, data_collator=collate, train_dataset=rows)
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    def foretell():
        if asked.tuning == "lora":
            model.merge_adapter()
        trainer = transformers.Trainer(model, arguments, data_collator=DataCollatorWithPadding(tokenizer))
        trainer.remove_callback(PrinterCallback)
        trainer.predict(rows)
        if asked.tuning == "lora":
            model.unmerge_adapter()

    return {"train": train, "predict": foretell}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=6, help="of the 30 of SmolLM2-135M")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tuning", choices=("lora", "full"), default="lora")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again in the backward pass")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_memory()
    folder = find_backbone("smollm2-135m")
    tokenizer = load_tokenizer(folder)
    examples = read_tweets(tokenizer, asked.rows, asked.length)
    memory, measured = Memory(), {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        systems = {
            THEIRS: make_theirs(folder, asked, examples, place / "theirs", tokenizer),
            "kagglekit": make_ours(folder, asked, examples, place / "ours"),
        }
        for number in range(asked.rounds + 1):
            for what in ("train", "predict"):
                for name, system in systems.items():
                    memory.reset()
                    began = time.process_time(), time.monotonic()
                    system[what]()
                    if number:  # the first round warms up
                        used = time.process_time() - began[0], time.monotonic() - began[1], memory.peak()
                        measured.setdefault((what, name), []).append(used)
    tokens = int(examples.tokens.lengths.sum())
    print(
        f"{asked.tuning}, {asked.rows} tweets, {tokens:,} tokens, {asked.layers} layers, {choose_precision()}, "
        f"{asked.threads} threads{', checkpointing' if asked.checkpointing else ''}"
    )
    print("| | system | CPU s | s | times as fast (range) | MB above those held |\n|---|---|---|---|---|---|")
    for (what, name), rounds in sorted(measured.items(), reverse=True):
        cpu, seconds, megabytes = (statistics.median(one) for one in zip(*rounds, strict=True))
        ratios = [a[0] / b[0] for a, b in zip(measured[what, THEIRS], rounds, strict=True)]
        shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {what} | {name} | {cpu:.2f} | {seconds:.2f} | {shown} | {megabytes:.0f} |")


if __name__ == "__main__":
    main()
