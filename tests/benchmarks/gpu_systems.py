"""The systems that the GPU benchmark compares, each in a process of its own: kagglekit (any checkout) and `Trainer`.

As a script it reads requests, one JSON object a line, and answers each with a line; see tests/benchmarks/gpu.py. It
imports nothing of the tests, so that an earlier checkout on PYTHONPATH is measured by the same code.
"""

import gc
import json
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification, TrainerCallback, TrainingArguments

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens
from kagglekit.device import choose_attention, choose_device, choose_precision, keep_memory
from kagglekit.losses.catalogue import default_loss
from kagglekit.model.backbones import load_backbone, load_config, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.predict import predict
from kagglekit.training.trainer import Trainer, training_arguments
from kagglekit.tricks import TRICKS

CLASSES, FIRST_WORD = 3, 5
WARM = 3  # steps before nothing may wait: kernels are chosen, and memory is taken


class Clock(TrainerCallback):
    """Seconds from the first step to the last one; on a GPU, where `strict`, an error wherever a steady step waits."""

    def __init__(self, strict: bool = False):
        self.strict = strict and torch.cuda.is_available()

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds = -now()

    def on_step_end(self, args, state, control, **kwargs):
        if self.strict:
            steady = WARM <= state.global_step < state.max_steps - 1
            torch.cuda.set_sync_debug_mode("error" if steady else "default")

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds += now()


def now() -> float:
    """The time in seconds, once the accelerator has done all it was told to do."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@contextmanager
def timed(answer: dict, phase: str):
    """Add the seconds of a phase and the most memory that was held, in MB above what was held before, to an answer."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    start = now()
    yield
    answer[f"{phase}, seconds"] = now() - start
    if torch.cuda.is_available():
        answer[f"{phase}, MB"] = (torch.cuda.max_memory_allocated() - held) / 2**20


def make_rows(request: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids of all rows, one after the other, their lengths (log-normal, cut at the longest), and labels."""
    random = np.random.default_rng(request["seed"])
    mean, deviation = np.log(request["median"]), request["deviation"]
    lengths = random.lognormal(mean, deviation, request["rows"]).round().clip(4, request["longest"]).astype(np.int64)
    flat = random.integers(FIRST_WORD, request["words"], lengths.sum()).astype(np.int32)
    return flat, lengths, random.integers(0, CLASSES, request["rows"])


def run_kagglekit(request: dict) -> dict:
    """Train a model for an epoch and predict the rows again; `tricks`: train with these, strictly, and no more.

    flash: with the attention of disentangled-flash (Triton, for GPUs of sm_80 or later) in place of ours.
    """
    answer, (flat, lengths, labels) = {}, make_rows(request)
    examples, precision = Examples(Tokens(flat, lengths), 0, labels), choose_precision()
    encoder = load_backbone(request["folder"], 0.0, choose_attention(choose_device(), request["longest"]))
    if request.get("flash"):
        from disentangled_flash import optimize_deberta_training

        encoder = optimize_deberta_training(encoder, backend="triton")
    model = Classifier(encoder, "softmax", CLASSES, "mean")
    model.mask_id, model.special_ids = 4, (0, 1, 2, 3, 4)
    tricks = request.get("tricks")
    clock, options = Clock(strict=tricks is not None), {"epochs": 1, "batch_size": request["batch_size"], "seed": 0}
    with tempfile.TemporaryDirectory() as folder, timed(answer, "training"):
        trainer = Trainer(
            model,
            training_arguments(folder, precision=precision, log_every=1000 if tricks is not None else 10, **options),
            examples,
            default_loss("multiclass"),
            adamw(parameter_groups(model, 1e-5)),
            [TRICKS[name](**knobs) for name, knobs in (tricks or {}).items()],
            callbacks=[clock],
        )
        trainer.train()
    answer |= {"training, seconds": clock.seconds, "tokens": int(lengths.sum()), "pairs": int((lengths**2).sum())}
    if tricks is None:
        with timed(answer, "prediction"):
            predict(model, examples, precision)
    return answer


def run_trainer(request: dict) -> dict:
    """The same with `transformers.Trainer` at its best: our precision, batch size and dropout, rows by length."""
    answer, (flat, lengths, labels) = {}, make_rows(request)
    texts = np.split(flat.astype(np.int64), lengths.cumsum()[:-1])
    rows = [{"input_ids": text, "labels": int(label)} for text, label in zip(texts, labels, strict=True)]
    config, precision, clock = load_config(request["folder"], 0.0), choose_precision(), Clock()
    config.num_labels = CLASSES
    options = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "num_train_epochs": 1}
    options |= {"bf16": precision == "bf16", "fp16": precision == "fp16", "use_cpu": choose_device().type == "cpu"}
    newer = "train_sampling_strategy" in TrainingArguments.__dataclass_fields__  # transformers after 5.0
    options |= {"train_sampling_strategy": "group_by_length"} if newer else {"group_by_length": True}
    options |= {"logging_nan_inf_filter": False, "remove_unused_columns": False, "logging_steps": 10}
    options |= {"per_device_train_batch_size": request["batch_size"], "per_device_eval_batch_size": 64}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        model = AutoModelForSequenceClassification.from_pretrained(
            request["folder"], config=config, dtype=torch.float32
        )
        with timed(answer, "training"):
            arguments = TrainingArguments(folder, **options)
            trainer = transformers.Trainer(
                model, arguments, train_dataset=rows, data_collator=pad_rows, callbacks=[clock]
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        answer |= {"training, seconds": clock.seconds, "tokens": int(lengths.sum()), "pairs": int((lengths**2).sum())}
        rows.sort(key=lambda row: len(row["input_ids"]), reverse=True)
        with timed(answer, "prediction"):
            trainer.predict(rows)
    return answer


def pad_rows(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A batch of rows, padded on the right."""
    ids = [torch.from_numpy(row["input_ids"]) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.arange(padded.shape[1]) < torch.tensor([len(one) for one in ids])[:, None]
    return {"input_ids": padded, "attention_mask": mask.long(), "labels": torch.tensor([row["labels"] for row in rows])}


def matmul_rate(request: dict) -> dict:
    """Operations a second of a large matrix product in the precision of training: what this device can reach."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[choose_precision()]
    size = request["size"]
    a = torch.ones(size, size, dtype=dtype, device=choose_device())
    a @ a
    start, times = now(), 10
    for _ in range(times):
        a @ a
    return {"rate": times * 2 * size**3 / (now() - start)}


ASKED = {"kagglekit": run_kagglekit, "trainer": run_trainer, "matmul": matmul_rate}


def answer(request: dict) -> dict:
    """What a request asks for; an error as words, with no memory held."""
    try:
        return ASKED[request["ask"]](request)
    except Exception as error:  # of one system: the others are measured
        traceback.print_exc()
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def main() -> None:
    """Answer requests until there are no more; libraries print to the standard error in the meantime."""
    keep_memory()
    out, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": str(Path(transformers.__file__).parent)}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
