"""A teacher from anywhere: a file with predictions of any model, by id, and by the fold that its model did not learn.

A model with 70 billion weights elsewhere, or one behind an API: what it predicts of the rows of train is learned by the
models of a run. Nobody sees which labels such a model has learned, so that the file says it (`fold`), or the user does
(`seen=False`).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from kagglekit.competition.checks import first_bad, listed, name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.read import read_table
from kagglekit.competition.task import Task
from kagglekit.options import did_you_mean
from kagglekit.scoring import CLASSES

NEAR_ONE = 0.02  # how far the sum of a row's probabilities may be from 1: they may be rounded


@dataclass(frozen=True, eq=False)
class FileTeacher:
    """Predictions of a file, in place of a `Teacher`.

    tables: the fold that the model of a table did not learn -> predictions of train, (rows, columns) float32, NaN where
    the file has none; one table, of fold None, of a model that never saw train. ids: of train. fold_of: of its rows.
    told: what the file was found to hold, in words.
    """

    name: str
    tables: dict[int | None, np.ndarray] = field(repr=False)
    ids: list[str] = field(repr=False)
    fold_of: np.ndarray = field(repr=False)
    told: str

    @property
    def folds(self) -> list[int]:
        """The folds that it may teach."""
        return [fold for fold in self.tables if fold is not None] or sorted({*self.fold_of.tolist()} - {-1})

    @property
    def oof(self) -> np.ndarray:
        """Predictions of each row by a model that did not learn its fold, NaN where there are none."""
        if None in self.tables:
            return self.tables[None]
        found = np.full_like(next(iter(self.tables.values())), np.nan)
        for fold, table in self.tables.items():
            found[self.fold_of == fold] = table[self.fold_of == fold]
        return found

    def model(self, fold: int) -> None:
        """There is none to compare states with."""

    def check_reads(self, fold: int) -> None:
        """Raise ValueError where a fold's student would lack a prediction, see `predict`."""
        self.predict(fold, pd.DataFrame({"id": self.ids})[self.fold_of != fold])

    def predict(self, fold: int, table: pd.DataFrame, of_train: bool = True) -> np.ndarray:
        """What a model that did not learn the fold predicts of rows of train (id), (rows, columns) float32.

        Raises ValueError for a row that it does not have, or only from a model that has learned labels of the fold.
        """
        own = self.tables.get(None, self.tables.get(fold))
        at = pd.Index(self.ids).get_indexer(table["id"])
        found = np.full((len(at), next(iter(self.tables.values())).shape[1]), np.nan) if own is None else own[at]
        missing = np.isnan(found).any(axis=1)
        if not missing.any():
            return found
        where = f"{name_row(int(at[missing.argmax()]), self.ids)} of train ({missing.sum():,} such rows)"
        if None in self.tables:
            raise ValueError(f"{self.name} has no prediction of {where}: predict every row of train")
        if not np.isnan(self.oof).any():
            raise ValueError(
                f"{self.name} has of {where} only what models say that have learned the labels of fold {fold}, which "
                "its student must not hear of. Predict all rows of train with each model, a row for each id and fold; "
                "or set by='oof', whose score is too good"
            )
        raise ValueError(
            f"{self.name} has no prediction of {where} by a model that did not learn fold {fold}: it needs one for "
            "each id and fold"
        )


def read_teacher_file(
    path: Path, task: Task, ids: list[str], fold_of: np.ndarray, seen: bool | None = None
) -> FileTeacher:
    """Read predictions of the rows of train from a table: an id, a column for each class, label or value of the task,
    and where its models learned from train `fold`, the fold that the model of a row did not learn.

    ids, fold_of: of train. seen: whether its model learned from train, where the file has no folds. Rows of other ids
    are left out. Values are probabilities where all are from 0 to 1 and sum to 1, else logits; of several labels,
    probabilities where all are from 0 to 1. Raises ValueError that names the row for an id that stands twice, a cell
    that is no number, and for a model that has seen train, or about which nobody says whether it has.
    """
    table, name = read_table(path), path.name
    id = next((column for column in (task.id, "id") if column and column in table.columns), None)
    for column in [id or task.id or "id", *task.columns]:
        if column not in table.columns:
            meant = did_you_mean(column, table.columns) or f": it has {listed([*table.columns])}"
            raise ValueError(f"{name} has no column {column!r}{meant}")
    at = pd.Index(ids).get_indexer(table[id])
    if not (at >= 0).any():
        raise ValueError(f"{name} has no id of train: its first is {table[id].iloc[0]!r}, that of train {ids[0]!r}")
    by_fold = "fold" in table.columns and "fold" not in task.columns
    _check_seen(name, by_fold, seen)
    keys = table[[id, "fold"]] if by_fold else table[[id]]
    if (twice := keys.duplicated().to_numpy()).any():
        what = f"id {table[id][twice].iloc[0]!r}" + (f" of fold {keys['fold'][twice].iloc[0]}" if by_fold else "")
        raise ValueError(f"{name}: {what} stands twice, again in {name_row(int(twice.argmax()))}")
    for column in task.columns:
        bad = ~are_numbers(table[column])
        bad |= ~np.isfinite([np.nan if wrong else float(cell) for cell, wrong in zip(table[column], bad, strict=True)])
        if bad.any():
            raise ValueError(f"{name}: {first_bad(bad, table[column], table[id], 'which is no number')}")
    values, told = _to_predictions(table[task.columns].astype(float).to_numpy(), task.kind, name, table[id])
    models = table["fold"] if by_fold else pd.Series(["None"] * len(table))
    tables = {}
    for model in sorted(set(models[at >= 0])):
        rows = np.flatnonzero((models == model).to_numpy() & (at >= 0))
        fold = _read_fold(model, fold_of, name) if by_fold else None
        tables[fold] = np.full((len(ids), len(task.columns)), np.nan, dtype=np.float32)
        tables[fold][at[rows]] = values[rows]
    what = f"of models that did not learn folds {listed([*tables])}" if by_fold else "of a model that never saw train"
    return FileTeacher(name, tables, ids, fold_of, f"{name}: {told} {what}")


def _check_seen(name: str, by_fold: bool, seen: bool | None) -> None:
    if by_fold and seen is not None:
        raise ValueError(f"distill: seen={seen} is of a file without a column 'fold', and {name} has one: leave it out")
    if not by_fold and seen is None:
        raise ValueError(
            f"{name} predicts rows of train, and has no column 'fold': a model that has learned their labels tells "
            "each student those of the fold that it is scored on. Say seen=False in distill if the model never saw a "
            "label of train; else add 'fold', the fold that the model of a row did not learn"
        )
    if not by_fold and seen:
        raise ValueError(
            f"{name} is of a model that has learned the labels of train, each student's own fold among them: the "
            "out-of-fold score would be too good. Train one for each fold, and add 'fold', the one it did not learn"
        )


def _read_fold(cell: str, fold_of: np.ndarray, name: str) -> int:
    if not cell.strip().removesuffix(".0").isdigit() or int(float(cell)) not in fold_of:
        raise ValueError(
            f"{name}: column 'fold' holds {cell!r}, and folds.parquet has {listed(sorted({*fold_of.tolist()}))}"
        )
    return int(float(cell))


def _to_predictions(values: np.ndarray, kind: str, name: str, ids: pd.Series) -> tuple[np.ndarray, str]:
    """Predictions of a task of this kind, and what they were taken for."""
    if kind not in (*CLASSES, "multilabel"):
        return values, "values"
    sums = values.sum(axis=1, keepdims=True)
    if kind in CLASSES and values.min() >= 0 and values.max() > 1 and np.ptp(sums) <= NEAR_ONE * sums[0, 0]:
        raise ValueError(
            f"{name}: the columns of the classes are {sums[0, 0]:g} in sum in each row, and none is below 0: they are "
            "percent or votes, most likely; divide them by their sum"
        )
    if ((values < 0) | (values > 1)).any():
        return (softmax(values, axis=1), "logits, through a softmax,") if kind in CLASSES else (
            expit(values), "logits, through a sigmoid,"
        )  # fmt: skip
    if kind not in CLASSES:
        return values, "probabilities"
    if (far := abs(sums[:, 0] - 1) > NEAR_ONE).any():
        row = int(far.argmax())
        raise ValueError(
            f"{name}: the columns of the classes are {sums[row, 0]:g} in sum in {name_row(row, ids)} ({far.sum():,} "
            "such rows), and all from 0 to 1: they are neither probabilities nor logits"
        )
    return values / sums, "probabilities"
