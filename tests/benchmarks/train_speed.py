"""Training and prediction against transformers.Trainer or an earlier checkout, in real (non-padding) tokens a second.

`python -m tests.benchmarks.train_speed` from the root of the repository prints a table for the README. Each round draws
rows of a sample; every system trains a fresh model on them for one epoch and then predicts them, one system after the
other. What counts is the median over the rounds. A system has a process of its own, since `keep_memory` would help the
others too; only one of them works at a time. Texts are tokenised, models made and files read outside the timing.
`--before DIR`: another checkout of kagglekit is a rival. `--cpu-time`: seconds of one thread, for a busy machine.
"""

import argparse
import os
import pickle
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.device import choose_attention, choose_device, choose_precision, keep_memory
from kagglekit.losses.catalogue import default_loss
from kagglekit.model.backbones import find_backbone, load_backbone, load_config, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.samples import SAMPLES, write_sample
from kagglekit.training.learning_rates import adamw, parameter_groups, suggest_learning_rate
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from kagglekit.training.trainer import Trainer, training_arguments

NEWER = "train_sampling_strategy" in TrainingArguments.__dataclass_fields__  # transformers after 5.0
GROUP_BY_LENGTH = {"train_sampling_strategy": "group_by_length"} if NEWER else {"group_by_length": True}
ROOT = Path(__file__).parents[2]
# name -> sample, max_length, rows of a round, backbone (None: BERT-base with random weights)
WORKLOADS = {
    "bbc": ("bbc", 256, 192, "minilm"),
    "tweets": ("tweets", 128, 3200, "minilm"),
    "bert-base": ("bbc", 128, 64, None),
}


class Clock(TrainerCallback):
    """Seconds from the start of the first step to the end of the last one."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds = -now()

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds += now()


def now() -> float:
    """The time in seconds (see `--cpu-time`), once the accelerator has done all it was told to do."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.process_time() if os.environ.get("CPU_TIME") else time.perf_counter()


def time_kagglekit(
    backbone: str, max_length: int, classes: int, texts: list[str], labels: np.ndarray
) -> tuple[int, float, float]:
    """Real tokens, seconds of training and of prediction, with `FineTuner`'s parts and `Recipe`'s defaults."""
    keep_memory()
    set_seed(0)
    tokenizer, precision, clock = load_tokenizer(backbone), choose_precision(), Clock()
    examples = Examples(tokenize(texts, tokenizer, max_length), tokenizer.pad_token_id, labels)
    encoder = load_backbone(backbone, Recipe.dropout, choose_attention(choose_device(), max_length))
    model = Classifier(encoder, "softmax", classes, "mean", head_dropout=Recipe.head_dropout)
    rate, decays = suggest_learning_rate(encoder), (Recipe.layer_decay, Recipe.weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            training_arguments(folder, epochs=1, batch_size=Recipe.batch_size, precision=precision, seed=0),
            examples,
            default_loss("multiclass"),
            adamw(parameter_groups(model, rate, Recipe.head_learning_rate, *decays)),
            callbacks=[clock],
        )
        trainer.fit()
    start = now()
    predict(model, examples, precision)
    return int(examples.tokens.lengths.sum()), clock.seconds, now() - start


def time_plain(
    backbone: str, max_length: int, classes: int, texts: list[str], labels: np.ndarray, at_its_best: bool
) -> tuple[int, float, float]:
    """The same with transformers alone. At its best: our precision, batch size and dropout, and its own way to group by
    length; for prediction batches of 64 texts that were sorted by length."""
    set_seed(0)
    tokenizer, clock = load_tokenizer(backbone), Clock()
    encoded = tokenizer(texts, truncation=True, max_length=max_length)
    rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    to_train = [{**row, "labels": int(label)} for row, label in zip(rows, labels, strict=True)]
    options = {"num_train_epochs": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    if at_its_best:
        rows.sort(key=lambda row: len(row["input_ids"]), reverse=True)
        precision = choose_precision()
        options |= {
            "bf16": precision == "bf16",
            "fp16": precision == "fp16",
            "use_cpu": choose_device().type == "cpu",  # bf16 asks for it
            **GROUP_BY_LENGTH,
            "per_device_train_batch_size": Recipe.batch_size,
            "per_device_eval_batch_size": 64,
        }
    config = load_config(backbone, Recipe.dropout if at_its_best else None)
    config.num_labels = classes
    with quiet(), tempfile.TemporaryDirectory() as folder:
        model = AutoModelForSequenceClassification.from_pretrained(backbone, config=config, dtype=torch.float32)
        trainer = transformers.Trainer(
            model,
            TrainingArguments(folder, **options),
            train_dataset=to_train,
            processing_class=tokenizer,  # which makes DataCollatorWithPadding the collator
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        start = now()
        trainer.predict(rows)
        return sum(len(row["input_ids"]) for row in rows), clock.seconds, now() - start


SYSTEMS = {
    "kagglekit": time_kagglekit,
    "kagglekit before": time_kagglekit,
    "Trainer, defaults": partial(time_plain, at_its_best=False),
    "Trainer, at its best": partial(time_plain, at_its_best=True),
}


class Worker:
    """A process that measures one system, with the kagglekit of a checkout: `script --serve system`."""

    def __init__(self, system: str, root: Path, script: str = __file__):
        self.place = tempfile.TemporaryDirectory()  # of the checkout's library alone: the benchmarks are those of today
        Path(self.place.name, "kagglekit").symlink_to((root / "kagglekit").resolve())
        environment = {**os.environ, "PYTHONPATH": f"{self.place.name}{os.pathsep}{ROOT}"}
        command = [sys.executable, script, "--serve", system]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *block) -> Any:
        """What the script answers to a block."""
        pickle.dump(block, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(measure: Callable) -> None:
    """Be the process of a `Worker`, which answers with what `measure(*block)` gives."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    while sys.stdin.buffer.peek(1):
        pickle.dump(measure(*pickle.load(sys.stdin.buffer)), answers)
        answers.flush()


def time_system(system: str, *block) -> tuple[int, float, float, float]:
    """Real tokens, seconds of training and of prediction, and the peak memory of the process in GiB."""
    return *SYSTEMS[system](*block), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def random_bert(folder: str) -> str:
    """A folder with BERT-base, weights at random, and the tokenizer of MiniLM, which is BERT's."""
    set_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    load_tokenizer(find_backbone("minilm")).save_pretrained(folder)
    return folder


def measure(workload: str, rows: int | None, rounds: int, systems: list[str], before: Path | None) -> dict:
    """(phase, system) -> real tokens per second in each round, and peak memory; one round more comes first."""
    sample, max_length, usual_rows, backbone = WORKLOADS.get(workload, (workload, 256, 192, "minilm"))
    figures = {(phase, system): [] for phase in ("training", "prediction", "memory") for system in systems}
    with tempfile.TemporaryDirectory() as folder:
        task, _ = infer(write_sample(sample, folder))
        train = read_train(task)
        path = find_backbone(backbone) if backbone else random_bert(folder)
        texts, labels = train["text"].to_numpy(dtype=object), encode_labels(task, train)
        workers = {system: Worker(system, before if system == "kagglekit before" else ROOT) for system in systems}
        for number in range(rounds + 1):
            size = min(rows or usual_rows, len(train))
            drawn = np.random.default_rng(number).choice(len(train), size=size, replace=False)
            block = (path, max_length, len(task.classes), texts[drawn].tolist(), labels[drawn])
            counts = set()
            for system, worker in workers.items():
                tokens, *seconds, memory = worker.ask(*block)
                counts.add(tokens)
                figures["memory", system] = [memory]
                if number:
                    for phase, spent in zip(("training", "prediction"), seconds, strict=True):
                        figures[phase, system].append(tokens / spent)
            assert len(counts) == 1, f"the systems did not read the same tokens: {counts}"
            print(f"{workload}: round {number} of {rounds}, {tokens} tokens", file=sys.stderr, flush=True)
        for worker in workers.values():
            worker.end()
    return figures


def table(speeds: dict[str, dict]) -> str:
    """Markdown, from what `measure` gives for each workload."""
    lines = ["| workload | phase | system | real tokens/s, median | min to max | kagglekit is faster |"]
    lines.append("|---|---|---|---:|---:|---:|")
    for workload, measured in speeds.items():
        medians = {key: statistics.median(values) for key, values in measured.items()}
        for (phase, system), values in measured.items():
            if phase == "memory":
                lines.append(f"| {workload} | peak memory, GiB | {system} | {values[0]:.2f} | | |")
                continue
            times = medians[phase, "kagglekit"] / medians[phase, system]
            spread = f"{min(values):,.0f} to {max(values):,.0f}"
            faster = "" if system == "kagglekit" else f"{times:.2f} times"
            lines.append(f"| {workload} | {phase} | {system} | {medians[phase, system]:,.0f} | {spread} | {faster} |")
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on, in a line."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if platform.system() == "Linux" else ""
    cpu = cpuinfo.partition("model name\t: ")[2].partition("\n")[0] or platform.processor()
    amx = "with" if getattr(torch.cpu, "_is_amx_tile_supported", bool)() else "without"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA GPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{cpu}, {os.cpu_count()} cores, {amx} AMX; {gpu}; {choose_precision()}; {versions}"


def main() -> None:
    command = "python -m tests.benchmarks.train_speed"
    parser = argparse.ArgumentParser(prog=command, description=__doc__)
    known = [*WORKLOADS, *(sample for sample in SAMPLES if sample not in WORKLOADS)]
    parser.add_argument("--workloads", nargs="+", choices=known, default=["bbc", "tweets"], help="samples")
    parser.add_argument("--before", type=Path, help="another checkout of kagglekit, to compare with")
    parser.add_argument("--rivals", nargs="*", choices=SYSTEMS, default=list(SYSTEMS), help="all; --before is one")
    parser.add_argument("--rounds", type=int, default=5, help="that count (5); one more comes before them")
    parser.add_argument("--rows", type=int, help="texts of a round (default: 192 of bbc, 3200 of tweets)")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of one thread instead of wall time")
    parser.add_argument("--quick", action="store_true", help="one round of 16 texts: shows only that it runs")
    options = parser.parse_args()
    rounds, rows = (1, 16) if options.quick else (options.rounds, options.rows)
    if options.cpu_time:
        os.environ |= {"CPU_TIME": "1", "OMP_NUM_THREADS": "1"}  # read by the workers
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # Trainer would spread over all GPUs
    wanted = {"kagglekit", *options.rivals} - (set() if options.before else {"kagglekit before"})
    systems, speeds = [system for system in SYSTEMS if system in wanted], {}
    for workload in options.workloads:
        speeds[workload] = measure(workload, rows, rounds, systems, options.before)
    print(f"{table(speeds)}\n\n{machine()}\n\n`{shlex.join([*command.split(), *sys.argv[1:]])}`")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(partial(time_system, sys.argv[2]))
    else:
        main()
