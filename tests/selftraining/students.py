"""Learners and teachers for tests of students: one that counts its models, one that trains nothing, and runs."""

import hashlib

import numpy as np

from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.training.finetune import FineTuner

FOLDS = np.arange(24) % 3


class Counting(FineTuner):
    """A fine-tuner in float32 that counts its trainings, (folder, seed) each, and is stopped before number `stop`."""

    stop = 0

    def __post_init__(self):
        super().__post_init__()
        self.precision, self.fits = "fp32", []

    def fit(self, train_rows, valid_rows, folder, seed, start=None, *, extra=None, teacher=None, tricks=()):
        self.fits.append((folder.name, seed))
        if len(self.fits) == self.stop:
            raise KeyboardInterrupt
        return self.train_model(
            train_rows, valid_rows, folder, seed, start, extra=extra, teacher=teacher, tricks=tricks
        )

    def train_model(self, *args, **options):
        return super().fit(*args, **options)


class Echo(Counting):
    """Trains nothing: two predictions are equal where rows, labels, seed, start and whatever else was given are."""

    def train_model(self, train_rows, valid_rows, folder, seed, start, *, extra, teacher, tricks):
        given = [train_rows.tolist(), self.labels[train_rows].tolist(), valid_rows.tolist(), seed, tricks]
        given += [start and (type(folder)(start) / "given").read_text(), self.recipe]
        given += [] if extra is None else [list(extra.table["id"]), extra.labels.tolist(), extra.weights.tolist()]
        given += [] if teacher is None else [teacher.tolist()]
        words = hashlib.sha256(repr(given).encode()).hexdigest()
        (folder / "model").mkdir(parents=True, exist_ok=True)
        (folder / "model" / "given").write_text(words)
        draw, count, kind = np.random.default_rng(int(words[:12], 16)), len(self.task.columns), self.task.kind
        made = [draw.random((n, count), dtype=np.float32) for n in (len(valid_rows), len(self.test))]
        if kind in ("binary", "multiclass"):
            made = [x / x.sum(axis=1, keepdims=True) for x in made]
        made = [x * {"ordinal": 3, "regression": 10}.get(kind, 1) for x in made]
        return Fitted(*made, [{"step": 1, "given": words}], {"given": {"words": words}})


def save_teacher(work, tuner, folds=(0, 1, 2), seed=0):
    """A run whose folds predict at random, each in its own way."""
    folder = open_run(work, "base", {"backbone": "tfidf", "start": ""})
    task, count = tuner.task, len(tuner.task.columns)
    for fold in folds:
        draw, rows = np.random.default_rng([seed, fold]), int((fold == FOLDS).sum())
        made = [draw.dirichlet(np.full(count, 0.3), n) if task.classes else draw.random((n, count)) for n in (rows, 12)]
        made = [100 + 10 * x for x in made] if task.kind == "regression" else made
        made = [3 * x[:, :1] for x in made] if task.kind == "ordinal" else made
        save_fold(folder, fold, Fitted(*made), tuner.train["id"][fold == FOLDS], tuner.test["id"], task)
