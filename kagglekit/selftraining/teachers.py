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

from kagglekit.competition.task import Task
from kagglekit.device import choose_precision
from kagglekit.ensembling.base import Ensembler, StackInput
from kagglekit.ensembling.base_predictions import RowFeatures, make_stack_input
from kagglekit.ensembling.blend import fit_blend
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import hash_files, resolve
from kagglekit.runs.best_epoch import honest_run
from kagglekit.runs.lineage import refuse_leak
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import EVERYTHING, Run, read_metadata, read_run
from kagglekit.training.predict import SavedModel


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained run or a blend.

    run: its tables. recipe: of params.json, empty for a blend. members: of a blend, which is made anew from them where
    new rows are to be predicted: makers, fold -> what was fitted without it; None where it cannot be made anew, because
    it sees more of a row than its members' predictions. rows: how many train has.
    """

    run: Run
    kind: str
    metric: str
    rows: int
    recipe: dict[str, Any] = field(repr=False)
    members: list["Teacher"] = field(default_factory=list)
    makers: dict[int, Ensembler] | None = field(default=None, repr=False)
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
        if self.members and self.makers is None:
            raise ValueError(
                f"teacher={self.run.name!r} is a blend that sees more of a row than predictions (meta, documents): it "
                "can label the rows of test, from its tables; for this, blend without them"
            )
        for teacher in self.members or [self]:
            teacher.check_reads(fold) if teacher.members else teacher.saved(fold)

    def predict(self, fold: int, table: pd.DataFrame, of_train: bool = False) -> np.ndarray:
        """How the model of a fold predicts rows, (rows, columns) float32; table, of_train: see `SavedModel.examples`.

        A blend asks its members, and combines what they say as it did in this fold. Raises ValueError where there is no
        model.
        """
        if not self.members:
            return self.saved(fold).predict(table, of_train)
        self.test(fold)
        self.check_reads(fold)
        return self._combine(fold, [member.predict(fold, table, of_train) for member in self.members])

    def _combine(self, fold: int, predictions: list[np.ndarray]) -> np.ndarray:
        """The blend of what its members say, in their order."""
        inputs = StackInput(np.stack(predictions).astype(np.float64), self.kind, self.metric)
        return self.makers[fold].predict(inputs).astype(np.float32)


def read_teacher(
    work: str | Path,
    name: str,
    task: Task,
    folds: pd.DataFrame,
    test_ids: Sequence[str],
    labels: np.ndarray,
    cache: Path | None = None,
) -> Teacher:
    """The run or blend of that name in a work folder, checked to be one whose fold k may teach fold k.

    folds: as from `read_folds`. test_ids: of test, in its order. labels: of all rows of train, from which blends are
    fitted anew. cache: for tokens.
    Raises FileNotFoundError for a run that is not there, and ValueError for one of other folds or other data, one that
    leaks, itself or by way of a run that it is made from, an average over all folds, and a blend of runs that
    have changed since or are not there any more.
    """
    run = read_run(work, name, task, folds, test_ids)
    record, members, makers = RunRecord(run.folder), [], None
    if lost := [member.name for member in record.members if not member.folder.is_dir()]:
        raise ValueError(
            f"teacher={name!r} was blended from {', '.join(lost)} too, of which nothing is left: nobody knows what "
            "it has seen. Blend again in 4_ensemble, from runs that are there"
        )
    refuse_leak(record, "teacher", name)
    refuse_average(record, name)
    if weights := record.weights:
        members = [read_teacher(work, one.name, task, folds, test_ids, labels, cache) for one in record.members]
        check_unchanged(record)
        if not weights["beside"]:
            makers = make_anew(task, [member.run for member in members], BlendPlan(**weights["plan"]), folds, labels)
    elif record.recipe and record.params["inputs"].get("folds") != hash_files([resolve(work) / "folds.parquet"]):
        raise ValueError(
            f"teacher={name!r} was trained with other folds than folds.parquet has now: its models have seen rows that "
            "they would label for. Train it again"
        )
    return Teacher(run, task.kind, task.metric, len(folds), record.recipe, members, makers, cache)


def make_anew(
    task: Task,
    runs: list[Run],
    plan: BlendPlan,
    folds: pd.DataFrame,
    labels: np.ndarray,
    documents: np.ndarray | None = None,
) -> dict[int, Ensembler]:
    """Fold -> what combines the members in it, fitted as 4_ensemble did. documents: of all rows of train, see
    `StackInput`; None for a blend that does not read them."""
    runs = [honest_run(run, task, labels) for run in runs]
    inputs = make_stack_input(runs, plan.kind, plan.metric, RowFeatures(folds["group"].to_numpy(), documents))
    return fit_blend(runs, labels[runs[0].rows], plan, inputs)[1]


def check_unchanged(blend: RunRecord, what: str = "teacher") -> None:
    """Raise ValueError for a blend that was made of other predictions than its members have now: what those had seen,
    nobody knows. what: the parameter that names the blend."""
    for member in blend.members:
        now = member.hash_tables()
        if any(now.get(fold) != then for fold, then in blend.weights["tables"][member.name].items()):
            raise ValueError(
                f"{what}={blend.name!r} was blended from other predictions of {member.name} than it has now: run "
                "4_ensemble again"
            )


def refuse_average(run: RunRecord, name: str) -> None:
    """Raise ValueError when there are predictions of test in a run that one model of all folds has made."""
    for part in [run, *run.members]:
        if part.recipe.get("soup") == "folds":
            raise ValueError(
                f"teacher={name!r}: {part.name!r} predicts test with the average over all folds, which has seen every "
                "row of train: name a soup of soup='uniform'"
            )
    for place in run.folds.values():
        if read_metadata(place / "test.parquet").get("saw") == EVERYTHING:
            raise ValueError(
                f"teacher={name!r}: {place / 'test.parquet'} says that its maker saw all folds, also the one that "
                "it would label for: name a run in which each fold predicts test by itself"
            )
