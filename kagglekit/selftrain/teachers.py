"""Runs whose predictions become labels: found, checked, asked fold by fold.

What fold k's model learns may come from a run's fold k alone: its model never saw the rows of fold k. The mean of all
folds, which is what one would submit, has seen them all: with pseudo labels by it the out-of-fold score is too good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.ensembling.blend import combine
from kagglekit.paths import hash_files, read_json, resolve, run_folder
from kagglekit.starts import find_run, split_start
from kagglekit.tables import Run, read_run
from kagglekit.task import Task
from kagglekit.training.hardware import choose_precision
from kagglekit.training.saved import SavedModel


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained run or a blend.

    run: its tables. recipe: of params.json, empty for a blend. members: of a blend, which is made anew from them where
    new rows are to be predicted; how: what its weights.json says. rows: how many train has.
    """

    run: Run
    kind: str
    rows: int
    recipe: dict[str, Any] = field(repr=False)
    members: list["Teacher"] = field(default_factory=list)
    how: dict[str, Any] = field(default_factory=dict, repr=False)
    cache: Path | None = field(default=None, repr=False)
    precision: str = field(default_factory=choose_precision, repr=False)

    def test(self, fold: int) -> np.ndarray:
        """How the model of a fold predicts the rows of test: (rows of test, columns) float32.

        Raises ValueError when the fold is not finished.
        """
        if fold not in self.run.tests:
            there = ", ".join(map(str, self.run.folds))
            raise ValueError(f"teacher={self.run.name!r} has no fold {fold}, only {there}: train that fold first")
        return self.run.tests[fold]

    @property
    def oof(self) -> np.ndarray:
        """The out-of-fold predictions, (rows of train, columns) float32; NaN in folds that are not finished."""
        found = np.full((self.rows, len(self.run.columns)), np.nan, dtype=np.float32)
        found[self.run.rows] = self.run.oof_array
        return found

    def model(self, fold: int) -> Path | None:
        """The folder with the model of a fold; None for a blend, and for a run that keeps none that reads text."""
        folder = self.run.folder / f"fold{fold}" / "model"
        return folder if (folder / "classifier.json").is_file() and not self.members else None

    def saved(self, fold: int) -> SavedModel:
        """The model of a fold, ready to read new rows. Raises ValueError where there is none."""
        self.test(fold)
        folder = self.model(fold)
        if folder is None:
            what = "is a blend, which has no model of its own" if self.members else "has kept no model"
            raise ValueError(
                f"teacher={self.run.name!r} {what}: it can label the rows of test, from its tables; for this, name a "
                "run of 3_train with a backbone"
            )
        return SavedModel(folder, self.recipe, self.cache, self.precision)

    def check_reads(self, fold: int) -> None:
        """Raise ValueError, before anything is read, where the fold has no model that can predict new rows."""
        for teacher in self.members or [self]:
            teacher.check_reads(fold) if teacher.members else teacher.saved(fold)

    def predict(self, fold: int, table: pd.DataFrame) -> np.ndarray:
        """How the model of a fold predicts new rows, (rows, columns) float32; table: as for `SavedModel.examples`.

        A blend asks its members, and weighs them as it did in this fold; a blend by rank ranks the rows of `table`
        among themselves. Raises ValueError where there is no model, and for a blend whose members have changed since.
        """
        if not self.members:
            return self.saved(fold).predict(table)
        self.test(fold)
        names = [member.run.name for member in self.members]
        weights = np.array([self.how["weights"][str(fold)][name] for name in names])
        method = self.how["method"]
        again = combine([member.test(fold) for member in self.members], weights, self.kind, method)
        if not np.allclose(again, self.test(fold), atol=1e-5):
            raise ValueError(
                f"teacher={self.run.name!r} was blended from other predictions of {', '.join(names)} than they have "
                "now: run 4_ensemble again"
            )
        return combine([member.predict(fold, table) for member in self.members], weights, self.kind, method)


def read_teacher(
    work: str | Path, name: str, task: Task, folds: pd.DataFrame, test_ids: Sequence[str], cache: Path | None = None
) -> Teacher:
    """The run or blend of that name in a work folder, checked to be one whose fold k may teach fold k.

    folds: folds.parquet, `id` and `fold` in the order of train. test_ids: of test, in its order. cache: for tokens.
    Raises FileNotFoundError for a run that is not there, and ValueError for one of other folds or other data, one that
    crossed folds, itself or by way of a run that it is made from, and an average over all folds.
    """
    run = read_run(work, name, task, folds, test_ids)
    refuse_crossed(run.folder, "teacher", name)
    recipe, how, members = {}, {}, []
    if (run.folder / "weights.json").is_file():
        how = read_json(run.folder / "weights.json")
        there = [member for member in how["members"] if run_folder(work, member).is_dir()]
        if len(there) == len(how["members"]):
            members = [read_teacher(work, member, task, folds, test_ids, cache) for member in there]
    elif (run.folder / "params.json").is_file():
        told = read_json(run.folder / "params.json")
        recipe = told["recipe"]
        if told["inputs"].get("folds") != hash_files([resolve(work) / "folds.parquet"]):
            raise ValueError(
                f"teacher={name!r} was trained with other folds than folds.parquet has now: its models have seen rows "
                "that they would label for. Train it again"
            )
    return Teacher(run, task.kind, len(folds), recipe, members, how, cache)


def refuse_crossed(folder: Path, what: str, name: str) -> None:
    """Raise ValueError when a run's model of fold k has heard of the labels of fold k, as far as the records tell.

    what: the parameter that names the run. Runs of other data do not count: their folds are not ours.
    """
    for before in lineage(folder):
        way = "" if before == folder else f" stands on {before.name!r}, which"
        if _recipe(before).get("crosses"):
            raise ValueError(
                f"{what}={name!r}{way} crossed folds: it learned from out-of-fold predictions, and so its model of a "
                'fold knows of the labels of that fold. Name a run without distill={"by": "oof"}'
            )
    for before in [folder, *_members(folder)]:
        if _recipe(before).get("soup") == "folds":
            raise ValueError(
                f"{what}={name!r}: {before.name!r} predicts test with the average over all folds, which has seen every "
                "row of train: name a soup of soup='uniform'"
            )


def lineage(folder: Path) -> list[Path]:
    """A run, and the runs of the same data that it grew from, directly or by way of others: those that it started from,
    averaged or blended, and its teachers."""
    found = [folder]
    for run in found:
        recipe = _recipe(run)
        names = [*split_start(recipe.get("start", "")), *recipe.get("soup_of", []), *_how(run).get("members", [])]
        names += [recipe.get(knob, {}).get("teacher", "") for knob in ("pseudo", "distill")]
        names.append(recipe.get("scorer", ""))
        places = [find_run(run.parent, name) for name in names if name]
        found += [place for place in places if place not in found and _same_data(place.parent, folder.parent)]
    return found


def _members(folder: Path) -> list[Path]:
    """The runs whose test tables are in those of a blend."""
    found = [folder]
    for run in found:
        found += [run.parent / name for name in _how(run).get("members", []) if run.parent / name not in found]
    return found[1:]


def _recipe(run: Path) -> dict[str, Any]:
    return read_json(run / "params.json")["recipe"] if (run / "params.json").is_file() else {}


def _how(run: Path) -> dict[str, Any]:
    return read_json(run / "weights.json") if (run / "weights.json").is_file() else {}


def _same_data(work: Path, ours: Path) -> bool:
    if work == ours:
        return True
    prints = [read_json(place / "task.json") if (place / "task.json").is_file() else {} for place in (work, ours)]
    return prints[0].get("fingerprint") == prints[1].get("fingerprint")
