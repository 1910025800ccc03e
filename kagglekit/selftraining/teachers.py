"""Teachers: runs and blends whose predictions become labels, checked and asked fold by fold.

Labels for the model of fold k come from a run's fold k alone, whose model never saw the rows of fold k. The mean of all
folds, which one would submit, has seen them all: with pseudo labels by it the out-of-fold score is too good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.ensembling.base_predictions import RowFeatures
from kagglekit.ensembling.blend import fit_blend, make_stack_input
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import hash_files, resolve
from kagglekit.files.parquet import read_metadata
from kagglekit.runs.best_epoch import honest_run
from kagglekit.runs.leaks import refuse_leak
from kagglekit.runs.record import RunRecord, count_seeds, seed_models
from kagglekit.runs.tables import EVERYTHING, Run, read_run
from kagglekit.training.predict import SavedModel, SavedModels


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained run or a blend.

    run: its tables. rows: how many train has. recipe: of params.json, empty for a blend. members: of a blend. makers:
    fold -> the ensembler fitted without it, which blends the members' predictions of new rows; None where it needs more
    of a row than these.
    """

    run: Run
    kind: str
    metric: str
    rows: int
    recipe: dict[str, Any] = field(repr=False)
    members: list["Teacher"] = field(default_factory=list)
    makers: dict[int, Ensembler] | None = field(default=None, repr=False)
    cache: Path | None = field(default=None, repr=False)
    precision: str = field(default="", repr=False)  # that of the run

    @property
    def folds(self) -> list[int]:
        """The folds that are finished."""
        return self.run.folds

    def test(self, fold: int) -> np.ndarray:
        """The predictions of a fold's model for the rows of test: (rows of test, columns) float32.

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

    def models(self, fold: int) -> list[Path]:
        """The folders with the models of a fold, one a seed; none for a blend, and for a run that keeps none that reads
        text."""
        folders = [] if self.members else seed_models(place := self.run.folder / f"fold{fold}", count_seeds(place))
        return folders if all((folder / "classifier.json").is_file() for folder in folders) else []

    def model(self, fold: int) -> Path | None:
        """The first of these: whose weights or states are used, and not what it predicts; None where there is none."""
        return next(iter(self.models(fold)), None)

    def saved(self, fold: int, all_seeds: bool = False) -> SavedModel | SavedModels:
        """The model of a fold, of several seeds the first, or all of them, whose mean the fold predicts: ready to read
        new rows. Raises ValueError where there is none."""
        self.test(fold)
        folders = self.models(fold)
        if not folders:
            what = "is a blend, which has no model of its own" if self.members else "has kept no model"
            raise ValueError(
                f"teacher={self.run.name!r} {what}: it can label the rows of test, from its tables; for this, name a "
                "run of 3_train with a backbone"
            )
        given = self.recipe, self.cache, self.precision
        return SavedModels(folders, *given) if all_seeds else SavedModel(folders[0], *given)

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
        """The predictions of a fold's model, (rows, columns) float32; table, of_train: see `SavedModel.examples`.

        A blend asks its members, and blends their predictions as in this fold. Raises ValueError without a model.
        """
        if not self.members:
            return self.saved(fold, all_seeds=True).predict(table, of_train)
        self.test(fold)
        self.check_reads(fold)
        predictions = np.stack([member.predict(fold, table, of_train) for member in self.members])
        inputs = StackInput(predictions.astype(np.float64), self.kind, self.metric)
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
    """The run or blend of that name in a work folder, whose fold k may teach fold k.

    folds: as from `read_folds`. test_ids: of test, in its order. labels: of all rows of train, from which blends are
    fitted again. cache: for tokens.
    Raises FileNotFoundError for a missing run, and ValueError for one of other folds or data, one that leaks, itself or
    through its parents, an average over all folds, and a blend of runs that have changed since or are missing.
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
            makers = refit_blend(task, [member.run for member in members], BlendPlan(**weights["plan"]), folds, labels)
    elif record.recipe and record.params["inputs"].get("folds") != hash_files([resolve(work) / "folds.parquet"]):
        raise ValueError(
            f"teacher={name!r} was trained with other folds than folds.parquet has now: its models have seen rows that "
            "they would label for. Train it again"
        )
    return Teacher(run, task.kind, task.metric, len(folds), record.recipe, members, makers, cache)


def refit_blend(
    task: Task,
    runs: list[Run],
    plan: BlendPlan,
    folds: pd.DataFrame,
    labels: np.ndarray,
    documents: np.ndarray | None = None,
) -> dict[int, Ensembler]:
    """Fold -> its ensembler, fitted as in 4_ensemble. documents: of all rows of train, see `StackInput`; None for a
    blend that does not read them."""
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
    """Raise ValueError when one model of all folds made a run's predictions of test."""
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
