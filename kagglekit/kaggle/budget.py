"""How long a run will take: hours for training and for inference, from a short timed sample on this machine."""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kagglekit.competition.task import Task, encode_labels, load_task, read_test, read_train
from kagglekit.decoders.causal import is_causal
from kagglekit.decoders.memory import what_fits
from kagglekit.device import choose_device, choose_precision
from kagglekit.files import resolve, temporary_folder
from kagglekit.files.parquet import read_parquet
from kagglekit.model.backbones import count_weights, find_backbone, load_config
from kagglekit.options import check_range
from kagglekit.progress import time_unit
from kagglekit.running.arguments import check_parameters, with_defaults
from kagglekit.running.beforehand import check_beforehand
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel, predict
from kagglekit.training.recipe import Recipe
from kagglekit.tricks.trick import Trick

SAMPLE = 4000  # rows of train and of test that the sample is drawn from, at most
SHORT, LEAST = 3, 8  # batches in an epoch of the first training; steps of the second one, at least
SHARE = 0.6  # of the remaining seconds for the second training; the rest is for its start and for predictions


@dataclass(frozen=True)
class Budget:
    """The seconds that a sample of a recipe took on this machine, and the hours that follow.

    step, spread: mean and standard deviation of an optimizer step; startup: a fold without its steps and predictions;
    tokenise, row: to tokenise and to predict a row of test by one model; load: to load a model. batch: rows of a step.
    copies: 1 plus the augmented copies of a row. rows, test_rows, folds, epochs, evaluate_every, seeds: of the run.
    limit: hours that a kernel may take: 12, in most code competitions 9. fits: of a decoder, see `what_fits`.
    """

    device: str
    step: float
    spread: float
    startup: float
    tokenise: float
    row: float
    load: float
    batch: int
    copies: int
    rows: int
    test_rows: int
    folds: int
    epochs: float
    evaluate_every: int = 0
    seeds: int = 1
    limit: float = 12.0
    fits: Mapping[str, str] = field(default_factory=dict)

    def hours(self, gpus: int = 1) -> dict[str, float]:
        """Hours for "a fold" (steps, evaluations, predictions of test), "training" of all folds, `gpus` of them at a
        time, "predicting" as a part of these, and "inference" by all folds' models on one GPU."""
        check_range("gpus", gpus, gpus > 0, "1 or more")
        rows, folds, epochs, test_rows = self.rows, self.folds, self.epochs, self.test_rows
        learned = rows * (folds - 1) / folds if folds > 1 else rows
        steps = math.ceil(math.ceil(learned * self.copies / self.batch) * epochs)
        evaluations = max(1, steps // self.evaluate_every if self.evaluate_every else math.ceil(epochs))
        reading = (rows + test_rows) * self.tokenise
        predicting = (evaluations * rows / folds + test_rows) * self.row
        predicting *= self.seeds
        fold = self.seeds * (self.startup + steps * self.step) + predicting
        found = {
            "a fold": reading + fold,
            "training": reading + math.ceil(folds / gpus) * fold,
            "predicting": math.ceil(folds / gpus) * predicting,
            "inference": folds * self.seeds * (self.load + test_rows * (self.tokenise + self.row)),
        }
        return {name: seconds / 3600 for name, seconds in found.items()}

    def table(self) -> pd.DataFrame:
        """`hours` with one fold at a time and with two, each on a GPU, in a unit that reads well."""
        found = pd.DataFrame({"1 at a time": self.hours(), "2 at a time": self.hours(gpus=2)})
        unit, long = time_unit(3600 * found.max(axis=None))
        return (found * 3600 / long).rename_axis(unit)

    def advice(self) -> list[str]:
        """What exceeds the limit, and what would fit, in lines."""
        one, two = self.hours(), self.hours(gpus=2)
        found = []
        if one["training"] > self.limit:
            found.append(f"training takes {one['training']:.1f} hours of {self.limit:g}, a fold at a time. What fits:")
            if two["training"] <= self.limit:
                found.append(f"  a fold on each of two GPUs: {two['training']:.1f} hours")
            if one["a fold"] <= self.limit:
                fits = max(1, int(self.folds * self.limit / one["training"]))
                found.append(f"  one kernel a fold: {one['a fold']:.1f} hours each")
                found.append(f"  {fits} of {self.folds} folds in a kernel, the others in the next")
            else:
                reading = (self.rows + self.test_rows) * self.tokenise / 3600
                learning = one["a fold"] - one["predicting"] / self.folds - reading
                epochs = self.epochs * (self.limit - one["a fold"] + learning) / learning
                more = f", or about {epochs:.1g} epochs" if epochs > 0 else ": predicting alone takes longer"
                fewer = ", fewer seeds" * (self.seeds > 1)
                found.append(f"  less work a fold: shorter texts (max_length), a smaller backbone{fewer}{more}")
        if one["inference"] > self.limit:
            models = int(self.limit / one["inference"] * self.folds)  # of a fold with its seeds
            kept = f"the models of {models} folds" if models else "shorter texts (max_length) or a smaller backbone"
            found.append(f"inference takes {one['inference']:.1f} hours of {self.limit:g}. What fits: {kept}")
        return found

    def __str__(self):
        head = f"{self.rows:,} rows of train, {self.test_rows:,} of test, {self.folds} folds, {self.epochs:g} epochs"
        head += f", {self.seeds} seeds" * (self.seeds > 1)
        lines = [
            head,
            self.table().to_string(float_format="{:.3g}".format),
            f"measured on {self.device}: {1e3 * self.step:.3g} ms a step (± {1e3 * self.spread:.2g}), "
            f"{1e3 * (self.tokenise + self.row):.3g} ms a row of test. Another GPU takes other times",
        ]
        if self.fits:
            each = ", ".join(f"{gpu} {ways}" for gpu, ways in self.fits.items())
            lines.append(f"memory, by arithmetic (the tuning that asks for most / how it predicts): {each}")
        return "\n".join([*lines, *(f"WARNING: {line}" if line[0] != " " else line for line in self.advice())])


def measure(
    work: str | Path,
    parameters: Mapping[str, Any],
    seconds: float = 60.0,
    *,
    limit: float = 12.0,
    test_rows: int | None = None,
) -> Budget:
    """Time a sample of a run of 3_train with these parameters (over the notebook's defaults) on this machine.

    The recipe trains twice in a temporary folder, with the epochs, tricks and schedule of the run, on so few rows that
    it takes about `seconds`: the first, short training warms the device up, the second is timed step by step. Then its
    model predicts. The sample is drawn at random, since a step is as long as its texts. The weights that a run starts
    from change no time and are left out.
    limit: hours, for the warning. test_rows: of the hidden test; None: as many as test has.
    Raises ValueError for a run that does not fine-tune, or fine-tunes more than once, and as `check_beforehand` does.
    """
    check_range("seconds", seconds, seconds > 0, "above 0")
    known = read_parameters(find_notebook("3_train"))
    parameters = with_defaults(known, check_parameters("3_train", known, parameters)) | {"work": str(work), "run": ""}
    for name, plain in (("learner", "finetune"), ("pseudo", {}), ("distill", {})):
        fits = parameters[name] == plain
        check_range(name, parameters[name], fits, f"{plain!r}, for the time of one fine-tuning is measured")
    fits = parameters["backbone"] not in ("tfidf", "soup")
    check_range("backbone", parameters["backbone"], fits, "one that is fine-tuned")
    check_range("epochs", parameters["epochs"], parameters["epochs"] > 0, "above 0, for steps of training are timed")
    check_beforehand("3_train", known, parameters | {"start": ""})
    task, recipe = load_task(work), Recipe.read(parameters)
    train, test = read_train(task, recipe.train_columns), read_test(task, recipe.columns)
    path = resolve(work) / "folds.parquet"
    folds = read_parquet(path)["fold"] if path.is_file() else []
    backbone = find_backbone(parameters["backbone"])
    config, figures = load_config(backbone), _time(task, recipe, train, test, backbone, seconds)
    return Budget(
        device=_device(),
        batch=recipe.batch_size * recipe.accumulation,
        copies=1 + (recipe.augment_copies if recipe.augment else 0),
        rows=len(train),
        test_rows=len(test) if test_rows is None else test_rows,
        folds=len({fold for fold in folds if fold >= 0}) or 5,
        epochs=recipe.epochs,
        evaluate_every=recipe.evaluate_every,
        seeds=parameters["seeds"],
        limit=limit,
        fits=what_fits(count_weights(config) / 1e6) if is_causal(config) else {},
        **figures,
    )


class Stopwatch(Trick):
    """Times each step with its batch and its log line, without evaluations."""

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
    """Wait until the GPU has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device() -> str:
    """The device and the precision: "Tesla T4, fp16"."""
    device = choose_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads of {os.cpu_count()} cores" if device.type == "cpu" else ""
    return f"{name}{threads}, {choose_precision()}"


def _time(
    task: Task, recipe: Recipe, train: pd.DataFrame, test: pd.DataFrame, backbone: str, seconds: float
) -> dict[str, float]:
    """The measured seconds of a `Budget`, see `measure`: step, spread, startup, tokenise, row, load."""
    began = time.perf_counter()
    train = _every_label_first(task, train.sample(min(SAMPLE, len(train)), random_state=0).reset_index(drop=True))
    test = test.sample(min(SAMPLE, len(test)), random_state=0)
    sampled = replace(recipe, evaluate_every=0, patience=0)
    tuner = FineTuner(task, train, test[:64], backbone, sampled, save_seconds=math.inf)
    batch, watch = recipe.batch_size * recipe.accumulation, Stopwatch()
    with temporary_folder() as place:
        folder, valid = place / "sample", np.arange(min(64, len(train)))
        tuner.fit(np.arange(min(SHORT * batch, len(train))), valid, folder, seed=0, tricks=[watch])
        typical = float(np.median(watch.seconds))
        left = max(SHARE * (seconds - (time.perf_counter() - began)), 0.0)
        steps = max(LEAST, left / typical) / recipe.epochs
        rows = np.arange(min(max(round(steps), SHORT) * batch, len(train)))
        started = time.perf_counter()
        tuner.fit(rows, valid, folder, seed=0, tricks=[watch])
        whole = time.perf_counter() - started
        model = SavedModel(folder / "model", tuner.settings)
        load, *_ = _time_prediction(model, test[:64])
        _, tokenise, row = _time_prediction(model, test[: 64 + round(SAMPLE * min(1.0, seconds / 60))])
    predicted = math.ceil(recipe.epochs) * len(valid) + len(test[:64])
    startup = max(whole - sum(watch.seconds) - predicted * row, 0.0)
    steps = {"step": float(np.mean(watch.seconds)), "spread": float(np.std(watch.seconds))}
    return {**steps, "startup": startup, "tokenise": tokenise, "row": row, "load": load}


def _every_label_first(task: Task, train: pd.DataFrame) -> pd.DataFrame:
    """The rows in an order in which the first ones have every class: losses may weigh them."""
    if task.kind in ("regression", "multilabel"):
        return train
    again = pd.Series(encode_labels(task, train)).duplicated()
    return pd.concat([train[~again.to_numpy()], train[again.to_numpy()]], ignore_index=True)


def _time_prediction(model: SavedModel, table: pd.DataFrame) -> tuple[float, float, float]:
    """Seconds to load a model (0 when it was loaded), to tokenise a row, and to predict one."""
    began = time.perf_counter()
    classifier = model.classifier
    loaded = time.perf_counter()
    examples = model.examples(table)
    read = time.perf_counter()
    predict(classifier, examples, model.precision)
    _wait()
    return loaded - began, (read - loaded) / len(table), (time.perf_counter() - read) / len(table)
