"""What each trick costs: the time of a training step and the memory, against plain training on the same texts.

`python -m tests.benchmarks.step_cost` from the root of the repository prints a table for the README in one run: real
MiniLM weights, rows of the samples, `--steps` steps of each recipe, all recipes once a round, plain training after
every four. Time: the median step of a recipe over that of the last plain training, and the median of that over rounds.
Memory: the most that the process (on a GPU: the accelerator) held above what it held before, less that of plain runs.
`--before DIR`: another checkout of kagglekit is measured too, in turn. `--cpu-time`: seconds of one thread, for a busy
machine.
"""

import argparse
import csv
import ctypes
import gc
import os
import statistics
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from transformers import TrainerCallback

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.benchmarks.train_speed import ROOT, Worker, now, serve

DROP = {"dropout": 0.1, "attention_dropout": 0.1}
AUXILIARY = {"auxiliary": {"condition": 0.3}}
GROUPS = {  # workload -> name -> what differs from plain training
    "tweets": {
        "plain": {},  # against itself: what the noise is
        **{name: {"tricks": {name: {"start": 0.0}}} for name in ("FGM", "PGD", "AWP", "FreeLB")},
        **{name: {"tricks": {name: {"start": 0.0}}} for name in ("Mixup", "TokenMasking", "Mixout", "NEFTune")},
        "Mixup, hidden states": {"tricks": {"Mixup": {"layer": 3}}},
        **{name: {"tricks": {name: {"start": 0.0}}} for name in ("SupCon", "GradualUnfreezing", "EMA", "SWA")},
        "CheckpointSoup": {"tricks": {"CheckpointSoup": {"start": 0.0}}, "evaluate_every": 10},
        "keep_best": {"keep_best": True, "evaluate_every": 10},
        "dropout": DROP,
        "RDrop, doubled batch": {"tricks": {"RDrop": {}}, **DROP},
        "RDrop, two passes": {"tricks": {"RDrop": {"doubled": False}}, **DROP},
        "multi-sample dropout": {"head_dropout": 0.2, "dropout_samples": 5},
        "reinit_layers": {"reinit_layers": 1},
        "freeze_layers": {"freeze_layers": 4, "freeze_embeddings": True},
        "checkpointing": {"checkpointing": True},
        "accumulation": {"accumulation": 2, "batch_size": 8},
        "cosine_warm_restarts": {"schedule": "cosine_warm_restarts", "cycles": 2},
        "label smoothing": {"loss": {"cross_entropy": {"label_smoothing": 0.1}}},
        "class weights": {"loss": {"cross_entropy": {"class_weights": "balanced"}}},
        "focal": {"loss": {"focal": {}}},
        "soft_f1": {"loss": {"soft_f1": {}}},
        **{
            name: {"pooling": name}
            for name in ("cls", "max", "mean_max", "attention", "gem", "last_token", "pooler", "weighted_layers")
        },
        **{name: {"pooling": name} for name in ("last4_concat", "last4_max", "last4_pooler", "all_cls")},
        **{name: {"pooling": name} for name in ("all_cls_cnn", "all_cls_lstm", "all_cls_gru")},
        **{name: {"pooling": name} for name in ("lstm", "gru", "transformer", "transformer2")},
    },
    "multilabel": {
        "pos_weight": {"loss": {"bce": {"pos_weight": "balanced"}}},
        **{head: {"head": head} for head in ("separate", "queries", "flat")},
        "learned_weights": {"learned_weights": True},
    },
    "ratings": {
        **{
            loss: {"loss": {loss: {}}}
            for loss in ("smooth_l1", "bce_scaled", "corn", "cumulative", "pearson", "ranking")
        },
        "auxiliary": AUXILIARY,
        "categories": {"features": {"categories": ["condition", "drugName"]}},
        "vectors": {"features": {"vectors": "vectors"}},
        "vectors_at embeddings": {"features": {"vectors": "vectors", "vectors_at": "embeddings"}},
        "word_vectors": {"features": {"word_vectors": "words"}},
        "word_vectors_at embeddings": {"features": {"word_vectors": "words", "word_vectors_at": "embeddings"}},
    },
    "articles": {
        "plain, articles": {},
        **{cut: {"truncation": cut} for cut in ("tail", "head_tail", "middle", "key_parts")},
        "chunks": {"chunks": 4},
        "chunks, attention": {"chunks": 4, "chunk_pooling": "attention"},
    },
}
SAMPLES = {"tweets": ("tweets", 64), "multilabel": ("tweets", 64), "ratings": ("drugs", 128), "articles": ("bbc", 128)}


class Clock(TrainerCallback):
    """The seconds of each step."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds, self.last = [], now()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(now() - self.last)

    def on_step_begin(self, args, state, control, **kwargs):
        self.last = now()


class Memory:
    """The most megabytes that were held since `reset`, above what was held then."""

    def reset(self) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
            return
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = _status("VmRSS")

    def peak(self) -> float:
        held = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else _status("VmHWM")
        return held - self.before


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def make_workload(name: str, rows: int, folder: Path):
    """The task of a workload, its train and test rows with all columns, and the files of vectors that recipes name."""
    sample, _ = SAMPLES[name]
    data = write_sample(sample, folder / name, rows=rows)
    if name == "multilabel":
        for file, submission in (("train.csv", False), ("sample_submission.csv", True)):
            table = pd.read_csv(data / file, dtype=str)
            classes = ["negative", "neutral", "positive"]
            for k in classes:
                table[k] = "0" if submission else (table["sentiment"] == k).astype(int).astype(str)
            table.drop(columns="sentiment").to_csv(data / file, index=False, quoting=csv.QUOTE_ALL)
    task, _ = infer(data)
    beside = ("condition", "drugName") if sample == "drugs" else ()
    train, test = read_train(task, beside), read_test(task, beside)[:8]
    random = np.random.default_rng(0)
    ids = [*train["id"], *test["id"]]
    vectors = pd.DataFrame(random.normal(size=(len(ids), 64)), columns=[f"v{k}" for k in range(64)])
    vectors.insert(0, "id", ids)
    vectors.to_parquet(folder / f"{name}.parquet", index=False)
    words = sorted({word for text in train["text"] for word in text.lower().split() if word.isalpha()})
    lines = (f"{word} {' '.join(f'{x:.3f}' for x in random.normal(size=64))}" for word in words)
    (folder / f"{name}.txt").write_text("\n".join(lines))
    return task, train, test, {"vectors": folder / f"{name}.parquet", "words": folder / f"{name}.txt"}


def measure(workload, max_length: int, knobs: dict, folder: Path) -> tuple[float, float]:
    """Seconds of the median step, and megabytes."""
    task, train, test, files = workload
    beside = {
        name: str(files[value]) if isinstance(value, str) and value in files else value
        for name, value in knobs.get("features", {}).items()
    }
    knobs = {**knobs, "features": beside} if beside else knobs
    tuner = FineTuner(
        task, train, test, find_backbone("minilm"), Recipe(**{"max_length": max_length, "epochs": 1, **knobs})
    )
    memory = Memory()
    memory.reset()
    tuner.fit(np.arange(len(train) - 8), np.arange(len(train) - 8, len(train)), folder / "fold0", seed=0)
    return statistics.median(CLOCK.seconds[2:]), memory.peak()


CLOCK, FOLDER = Clock(), tempfile.TemporaryDirectory()


@cache
def workload_of(group: str, steps: int):
    """A workload with rows for so many steps; it is warm, since the first training is slower."""
    workload = make_workload(group, 16 * steps + 8, Path(FOLDER.name))
    measure(workload, SAMPLES[group][1], {}, Path(FOLDER.name))
    return workload


def measure_recipe(group: str, steps: int, recipe: str) -> tuple[float, float]:
    """Seconds of the median step of a recipe, and megabytes; "" is plain training."""
    if CLOCK not in transformers.trainer.DEFAULT_CALLBACKS:
        transformers.trainer.DEFAULT_CALLBACKS.append(CLOCK)
    knobs = GROUPS[group][recipe] if recipe else {}
    return measure(workload_of(group, steps), SAMPLES[group][1], knobs, Path(FOLDER.name))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of recipes or workloads; all by default")
    parser.add_argument("--before", type=Path, help="another checkout of kagglekit, to compare with")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of one thread instead of wall time")
    options = parser.parse_args()
    if options.cpu_time:
        os.environ |= {"CPU_TIME": "1", "OMP_NUM_THREADS": "1"}  # read by the workers
    roots = {"": ROOT} | ({" before": options.before} if options.before else {})
    workers = {name: Worker(name, root, __file__) for name, root in roots.items()}
    heads = [f"time of a step{name} | min to max | memory{name}, MB" for name in workers]
    print(f"| workload | recipe | {' | '.join(heads)} |\n|---|---|{'---:|' * 3 * len(heads)}")
    for group, recipes in GROUPS.items():
        chosen = [one for one in recipes if not options.only or {one, group} & set(options.only)]
        figures: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for number, recipe in enumerate(chosen):
                if number % 4 == 0:
                    plain = {name: worker.ask(group, options.steps, "") for name, worker in workers.items()}
                for name, worker in workers.items():
                    seconds, size = worker.ask(group, options.steps, recipe)
                    ratio = seconds / plain[name][0], size - plain[name][1]
                    figures.setdefault((recipe, name), []).append(ratio)
        for recipe in chosen:
            cells = []
            for name in workers:
                times, sizes = zip(*figures[recipe, name], strict=True)
                cells += [f"{statistics.median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}"]
                cells.append(f"{statistics.median(sizes):+.0f}")
            print(f"| {group} | {recipe} | {' | '.join(cells)} |", flush=True)
    for worker in workers.values():
        worker.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(measure_recipe)
    else:
        main()
