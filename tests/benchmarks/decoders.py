"""What a decoder brings on small sets: LoRA, its answer head, zero-shot, against MiniLM, TF-IDF and their blend.

`python -m tests.benchmarks.decoders measure FOLDER` trains each on the same rows of each sample, once a seed, and
predicts the same other rows of train; what is in FOLDER is not trained again, so that it can be stopped and goes on.
`table FOLDER` compares all with MiniLM, seed by seed on the same rows, with intervals; `--write` puts the rows into
tests/benchmarks/README.md. `--rows 600 1200` learns and predicts more rows than SIZES (a folder for each).
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.infer import infer
from kagglekit.competition.task import Task, encode_labels, read_train
from kagglekit.gains.effect import measure_gain
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone
from kagglekit.runs.folder import Fitted
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.benchmarks.page import measure_or_table

LENGTHS = {"tweets": 64, "bbc": 128, "drugs": 128}
SIZES = {"tweets": (300, 600), "bbc": (200, 400), "drugs": (200, 400)}  # rows learned, and others predicted
RATING = {"1": ["terrible"], "2": ["okay"], "3": ["great"]}
MOODS = {"negative": ["negative"], "neutral": ["neutral"], "positive": ["positive"]}
TOPICS = {name: [name] for name in ("business", "entertainment", "politics", "sports", "tech")}
PROMPTS = {  # the answer head is a distribution over classes, also where they are ordered
    "tweets": {"pattern": "Tweet: {text}\nSentiment ({classes}): {mask}", "verbalizer": MOODS},
    "bbc": {"pattern": "Article: {text}\nTopic ({classes}): {mask}", "verbalizer": TOPICS},
    "drugs": {"pattern": "Review: {text}\nThis drug is {mask}", "verbalizer": RATING, "loss": {"cross_entropy": {}}},
}
LORA = {"tuning": "lora", "learning_rate": 1e-3, "batch_size": 16}
SLOWER = LORA | {"learning_rate": 2e-4}
BASE = "MiniLM"


@dataclass
class Rows:
    """The rows of a sample: `inside` are learned, `outside` predicted; labels are of all."""

    sample: str
    task: Task
    train: pd.DataFrame
    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def read(cls, sample: str, folder: Path, sizes: tuple[int, int] | None = None) -> "Rows":
        """The first rows of a sample: `sizes` to learn and to predict, or those of SIZES."""
        learned, others = sizes or SIZES[sample]
        task, _ = infer(write_sample(sample, folder / "data" / sample))
        train = read_train(task)[: learned + others]
        return cls(sample, task, train, np.arange(learned), np.arange(learned, len(train)))

    @property
    def labels(self) -> np.ndarray:
        return encode_labels(self.task, self.train)

    def tune(self, backbone: str, place: Path, seed: int, **knobs) -> Fitted:
        """Fine-tune, and predict the other rows."""
        recipe = Recipe(**{"max_length": LENGTHS[self.sample], **knobs})
        tuner = FineTuner(self.task, self.train, self.train[:8], find_backbone(backbone), recipe)
        return tuner.fit(self.inside, self.outside, place, seed)

    def answer(self, place: Path, seed: int, **knobs) -> Fitted:
        """The same with the answer head of the decoder."""
        return self.tune("smollm2-135m", place, seed, **{"head": "answer", **PROMPTS[self.sample], **knobs})

    def last_token(self, place: Path, seed: int, **knobs) -> Fitted:
        """The same with a linear head at its last token."""
        return self.tune("smollm2-135m", place, seed, pooling="last_token", **knobs)


WAYS: dict[str, Callable[[Rows, Path, int], Fitted]] = {
    "TF-IDF": lambda rows, place, seed: Baseline(rows.task, rows.train, rows.train[:8]).fit(
        rows.inside, rows.outside, place, seed
    ),
    BASE: lambda rows, place, seed: rows.tune("minilm", place, seed),
    "SmolLM2, zero-shot": lambda rows, place, seed: rows.answer(place, seed, epochs=0),
    "SmolLM2, answer head, LoRA": lambda rows, place, seed: rows.answer(place, seed, **LORA),
    "SmolLM2, last token, LoRA": lambda rows, place, seed: rows.last_token(place, seed, **LORA),
    "MiniLM, LoRA": lambda rows, place, seed: rows.tune("minilm", place, seed, **LORA),
    "SmolLM2, answer head, LoRA at 2e-4": lambda rows, place, seed: rows.answer(place, seed, **SLOWER),
    "SmolLM2, last token, LoRA at 2e-4": lambda rows, place, seed: rows.last_token(place, seed, **SLOWER),
    "MiniLM, LoRA at 2e-4": lambda rows, place, seed: rows.tune("minilm", place, seed, **SLOWER),
}
ONCE = ("TF-IDF", "SmolLM2, zero-shot")  # no seed changes them
BLEND = ("TF-IDF", BASE, "SmolLM2, answer head, LoRA", "SmolLM2, last token, LoRA")


def measure(
    folder: Path, samples: list[str], ways: list[str], seeds: int, sizes: tuple[int, int] | None = None
) -> None:
    """Train what is not in `folder` yet: SAMPLE/WAY.SEED.npz with predictions of the other rows, and seconds."""
    for seed in range(seeds):
        for sample in samples:
            rows = Rows.read(sample, folder, sizes)
            for way in ways:
                file = folder / sample / f"{way}.{seed}.npz"
                if file.exists() or (seed and way in ONCE):
                    continue
                place, began = folder / "train" / sample / f"{way}.{seed}", (time.monotonic(), time.process_time())
                fitted = WAYS[way](rows, place, seed)
                seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(".part.npz")
                np.savez(part, oof=fitted.oof, rows=len(rows.train), seconds=seconds, cpu=cpu)
                os.replace(part, file)
                shutil.rmtree(place, ignore_errors=True)
                print(f"{sample} seed {seed} {way}: {seconds:.0f} s", flush=True)


def read_cells(folder: Path, sample: str) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, float]]:
    """Way -> seed -> predictions, of those that are in `folder`, with the blend where all its members are; and the
    median CPU seconds of each."""
    cells, times = {}, {}
    for way in WAYS:
        files = {
            int(file.stem.rsplit(".", 1)[1]): np.load(file) for file in sorted(folder.glob(f"{sample}/{way}.*.npz"))
        }
        if files:
            cells[way] = {seed: file["oof"] for seed, file in files.items()}
            times[way] = float(np.median([file["cpu"] for file in files.values()]))
    seeds = sorted(cells.get(BASE, {}))
    for way in set(ONCE) & set(cells):
        cells[way] = dict.fromkeys(seeds, cells[way][0])
    if set(BLEND) <= set(cells):
        shared = set.intersection(*(set(cells[way]) for way in BLEND))
        cells["blend of the four trained"] = {k: np.mean([cells[way][k] for way in BLEND], axis=0) for k in shared}
        times["blend of the four trained"] = sum(times[way] for way in BLEND)
    return cells, times


def table(folder: Path, samples: list[str], sizes: tuple[int, int] | None = None) -> str:
    """A row for each sample and way: the score, the gain over MiniLM with its interval, the verdict, and CPU time."""
    lines = ["| sample | way | score | over MiniLM | | CPU |", "|---|---|---:|---:|---|---:|"]
    for sample in samples:
        rows, (cells, times) = Rows.read(sample, folder, sizes), read_cells(folder, sample)
        labels, folds = rows.labels[rows.outside], np.zeros(len(rows.outside), dtype=int)
        what = f"{sample}, {rows.task.metric}, {len(rows.inside):,} + {len(rows.outside):,} rows"
        for way, found in cells.items():
            gain = measure_gain(rows.task.metric, labels, folds, {0: cells[BASE]}, {0: found})
            shown = "" if way == BASE else f"{gain.better_by:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            verdict = "" if way == BASE else gain.verdict
            lines.append(f"| {what} | {way} | {gain.scores[1]:.3f} | {shown} | {verdict} | {times[way]:,.0f} s |")
            what = ""
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    more = {
        "--samples": {"nargs": "+", "default": list(PROMPTS), "choices": PROMPTS},
        "--ways": {"nargs": "+", "default": list(WAYS), "choices": WAYS, "help": "to measure"},
        "--rows": {"nargs": 2, "type": int, "metavar": ("LEARNED", "PREDICTED"), "help": "in place of SIZES"},
    }
    measure_or_table(
        __doc__,
        "decoders",
        lambda options: measure(options.folder, options.samples, options.ways, options.seeds, options.rows),
        lambda options: table(options.folder, options.samples, options.rows),
        arguments,
        more,
    )


if __name__ == "__main__":
    main()
