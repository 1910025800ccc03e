"""A recipe timed on this machine: its steps one by one, and what its model takes to predict."""

import math
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kagglekit.competition.task import Task, encode_labels
from kagglekit.device import choose_device, choose_precision
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel, predict
from kagglekit.training.recipe import Recipe
from kagglekit.tricks.trick import Trick

SAMPLE = 4000  # rows of train and of test at most that the sample is drawn from
SHORT, LEAST = 3, 8  # batches in an epoch of the first training; steps of the second one at least
SHARE = 0.6  # of the seconds that are left for the second training; the rest is for its start and for predictions


def describe_device() -> str:
    """What trains here, and in which precision: "Tesla T4, fp16"."""
    device = choose_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads of {os.cpu_count()} cores" if device.type == "cpu" else ""
    return f"{name}{threads}, {choose_precision()}"


class Stopwatch(Trick):
    """Times each step with what belongs to it, such as its batch and its log line; evaluations are left out."""

    def __init__(self):
        self.seconds: list[float] = []
        self.last = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds, self.last = [], time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        _wait()
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last, self.steps_ = now, self.steps_ + 1

    def on_evaluate(self, args, state, control, **kwargs):
        self.last = time.perf_counter()


def _wait() -> None:
    """Until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_recipe(
    task: Task, recipe: Recipe, train: pd.DataFrame, test: pd.DataFrame, backbone: str, seconds: float
) -> dict[str, float]:
    """The seconds of a `Budget`, see `measure`: step, spread, startup, tokenise, row, load."""
    began = time.perf_counter()
    train = _every_label_first(task, train.sample(min(SAMPLE, len(train)), random_state=0).reset_index(drop=True))
    test = test.sample(min(SAMPLE, len(test)), random_state=0)
    sampled = replace(recipe, evaluate_every=0, patience=0)
    tuner = FineTuner(task, train, test[:64], backbone, sampled, save_seconds=math.inf)
    batch, watch = recipe.batch_size * recipe.accumulation, Stopwatch()
    with tempfile.TemporaryDirectory(prefix="kagglekit-") as place:
        folder, valid = Path(place, "sample"), np.arange(min(64, len(train)))
        tuner.fit(np.arange(min(SHORT * batch, len(train))), valid, folder, seed=0, tricks=[watch])
        typical = float(np.median(watch.seconds))
        left = max(SHARE * (seconds - (time.perf_counter() - began)), 0.0)
        steps = max(LEAST, left / typical) / recipe.epochs
        rows = np.arange(min(max(round(steps), SHORT) * batch, len(train)))
        started = time.perf_counter()
        tuner.fit(rows, valid, folder, seed=0, tricks=[watch])
        whole = time.perf_counter() - started
        model = SavedModel(folder / "model", tuner.settings)
        load, *_ = time_prediction(model, test[:64])
        _, tokenise, row = time_prediction(model, test[: 64 + round(SAMPLE * min(1.0, seconds / 60))])
    predicted = math.ceil(recipe.epochs) * len(valid) + len(test[:64])
    startup = max(whole - sum(watch.seconds) - predicted * row, 0.0)
    return {
        "step": float(np.mean(watch.seconds)),
        "spread": float(np.std(watch.seconds)),
        "startup": startup,
        "tokenise": tokenise,
        "row": row,
        "load": load,
    }


def _every_label_first(task: Task, train: pd.DataFrame) -> pd.DataFrame:
    """The rows so that a few of the first ones have every class: losses may weigh them."""
    if task.kind in ("regression", "multilabel"):
        return train
    again = pd.Series(encode_labels(task, train)).duplicated()
    return pd.concat([train[~again.to_numpy()], train[again.to_numpy()]], ignore_index=True)


def time_prediction(model: SavedModel, table: pd.DataFrame) -> tuple[float, float, float]:
    """Seconds to load a model (0 when that was done), to tokenise a row, and to predict one."""
    began = time.perf_counter()
    classifier = model.classifier
    loaded = time.perf_counter()
    examples = model.examples(table)
    read = time.perf_counter()
    predict(classifier, examples, model.precision)
    _wait()
    return loaded - began, (read - loaded) / len(table), (time.perf_counter() - read) / len(table)
