"""How long a run will take: hours for training and for inference, from a short timed sample on this machine."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition.task import load_task, read_test, read_train
from kagglekit.files import resolve
from kagglekit.kaggle.timing import describe_device, time_prediction, time_recipe
from kagglekit.model.backbones import find_backbone
from kagglekit.options import check_range
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters, with_defaults
from kagglekit.runs.record import RunRecord
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe


@dataclass(frozen=True)
class Budget:
    """What a sample of a recipe took on this machine, and the hours that follow.

    step, spread: mean and standard deviation of an optimizer step, in seconds; startup: what a fold takes beside steps
    and predictions; tokenise, row: a row of test, read and predicted by one model; load: to read a model. batch: rows
    of a step. copies: how often a row of train is learned in an epoch, with its augmented copies. rows, test_rows,
    folds, epochs, evaluate_every: of the run. limit: hours that a kernel may take: 12, and of most code competitions 9.
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
    limit: float = 12.0

    def hours(
        self,
        rows: int | None = None,
        folds: int | None = None,
        epochs: float | None = None,
        test_rows: int | None = None,
        gpus: int = 1,
    ) -> dict[str, float]:
        """Hours of "a fold" (steps, evaluations, predictions of test), "training" of all folds with `gpus` of them at a
        time, of these "predicting", and "inference" by all folds' models on one GPU.

        None is what the run has. test_rows: also those of a hidden test, which is often larger than the public one.
        """
        rows, folds = self.rows if rows is None else rows, self.folds if folds is None else folds
        epochs, test_rows = (
            self.epochs if epochs is None else epochs,
            self.test_rows if test_rows is None else test_rows,
        )
        least = {"rows": rows - 1, "folds": folds - 1, "epochs": epochs, "test_rows": test_rows + 1, "gpus": gpus}
        for name, value in least.items():
            check_range(name, value, value > 0, "large enough to train and predict something")
        learned = rows * (folds - 1) / folds if folds > 1 else rows
        steps = math.ceil(math.ceil(learned * self.copies / self.batch) * epochs)
        evaluations = max(1, steps // self.evaluate_every if self.evaluate_every else math.ceil(epochs))
        reading = (rows + test_rows) * self.tokenise
        predicting = (evaluations * rows / folds + test_rows) * self.row
        fold = self.startup + steps * self.step + predicting
        found = {
            "a fold": reading + fold,
            "training": reading + math.ceil(folds / gpus) * fold,
            "predicting": math.ceil(folds / gpus) * predicting,
            "inference": folds * (self.load + test_rows * (self.tokenise + self.row)),
        }
        return {name: seconds / 3600 for name, seconds in found.items()}

    def table(self) -> pd.DataFrame:
        """The hours with one fold at a time and with two, on a GPU each; a row for each of `hours`."""
        columns = {"1 at a time": self.hours(), "2 at a time": self.hours(gpus=2)}
        return pd.DataFrame(columns).rename_axis("hours")

    def advice(self) -> list[str]:
        """What does not fit into the limit, and what would."""
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
                found.append(f"  less work a fold: shorter texts (max_length), a smaller backbone{more}")
        if one["inference"] > self.limit:
            models = int(self.limit / one["inference"] * self.folds)
            kept = f"the models of {models} folds" if models else "shorter texts (max_length) or a smaller backbone"
            found.append(f"inference takes {one['inference']:.1f} hours of {self.limit:g}. What fits: {kept}")
        return found

    def __str__(self):
        told = f"{self.rows:,} rows of train, {self.test_rows:,} of test, {self.folds} folds, {self.epochs:g} epochs"
        lines = [
            told,
            self.table().to_string(float_format="{:.3g}".format),
            f"measured on {self.device}: {1e3 * self.step:.3g} ms a step (± {1e3 * self.spread:.2g}), "
            f"{1e3 * (self.tokenise + self.row):.3g} ms a row of test. Another GPU takes other times",
        ]
        return "\n".join([*lines, *(f"WARNING: {line}" if line[0] != " " else line for line in self.advice())])


def measure(
    work: str | Path,
    parameters: Mapping[str, Any],
    seconds: float = 60.0,
    *,
    limit: float = 12.0,
    test_rows: int | None = None,
) -> Budget:
    """A budget for a run of 3_train with these parameters, beside the notebook's own: a timed sample on this machine.

    The run's own recipe trains twice in a temporary folder, with the epochs, tricks and schedule of the run, on so few
    rows that it takes about `seconds`: the first, short training warms the device up, the second is timed step by step.
    Then its model predicts. The weights that a run starts from change no time, and are left out. A step is as long as
    the texts are: the sample is drawn at random.
    limit: hours, for the warning. test_rows: of the hidden test; None is as many as test has.
    Raises ValueError for what does not fine-tune, or fine-tunes more than once: its time does not follow from a step.
    """
    check_range("seconds", seconds, seconds > 0, "above 0")
    parameters = with_defaults(read_parameters(find_notebook("3_train")), parameters)
    for name, plain in (("learner", "finetune"), ("pseudo", {}), ("distill", {})):
        fits = parameters[name] == plain
        check_range(name, parameters[name], fits, f"{plain!r}, for the time of one fine-tuning is measured")
    fits = parameters["backbone"] not in ("tfidf", "soup")
    check_range("backbone", parameters["backbone"], fits, "one that is fine-tuned")
    task, recipe = load_task(work), Recipe.choose(parameters)
    train, test = read_train(task, recipe.train_columns), read_test(task, recipe.columns)
    path = resolve(work) / "folds.parquet"
    folds = pd.read_parquet(path)["fold"] if path.is_file() else []
    figures = time_recipe(task, recipe, train, test, find_backbone(parameters["backbone"]), seconds)
    return Budget(
        device=describe_device(),
        batch=recipe.batch_size * recipe.accumulation,
        copies=1 + (recipe.augment_copies if recipe.augment else 0),
        rows=len(train),
        test_rows=len(test) if test_rows is None else test_rows,
        folds=len({fold for fold in folds if fold >= 0}) or 5,
        epochs=recipe.epochs,
        evaluate_every=recipe.evaluate_every,
        limit=limit,
        **figures,
    )


def measure_inference(work: str | Path, run: str, rows: int = 256) -> tuple[float, float]:
    """Seconds that all models of a run need beside rows, and seconds a row of test: of a blend, all its members'.

    rows: of test, drawn at random; each run's first model predicts them. Runs without saved models, such as TF-IDF,
    which learns again in seconds, count nothing. `load + test_rows * row` is the time on a hidden test.
    Raises FileNotFoundError for a run without a finished fold.
    """
    task, load, row = load_task(work), 0.0, 0.0
    runs = list(RunRecord.open(work, run).leaves())
    if not any(one.folder.is_dir() for one in runs):
        raise FileNotFoundError(f"run={run!r} does not exist in {work}: name a run that 3_train or 4_ensemble has made")
    for one in runs:
        if models := one.saved_models:
            model = SavedModel(next(iter(models.values())), one.recipe)
            test = read_test(task, model.knobs.columns)
            once, tokenise, each = time_prediction(model, test.sample(min(rows, len(test)), random_state=0))
            load, row = load + len(models) * once, row + len(models) * (tokenise + each)
    return load, row
