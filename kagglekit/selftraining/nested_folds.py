"""Nested teachers, which saw neither a row's own fold nor the student's: out-of-fold within the training rows.

The out-of-fold predictions of a plain run are no honest teacher: for a row of fold j they come from a model that has
learned the labels of fold k, which so reach the student of fold k. Here one model leaves out both.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.files import remove
from kagglekit.files.parquet import read_metadata, read_parquet
from kagglekit.progress import parts
from kagglekit.runs.tables import first_difference, hash_folds, write_predictions

NEVER = 10**9  # steps between evaluations


@dataclass
class PairModels:
    """A model for each two folds, trained without both. It serves the students of both: its predictions of the two
    folds are kept as `folder/j-k.parquet`, its weights are not.

    learner: anything with `fit(train_rows, valid_rows, folder, seed)`. fold_of, ids: of the rows of train. columns: of
    predictions. seed: of the run; each pair has its own. start: passed on to `fit`; a model of one fold is an error.
    Cost: with n folds n - 1 models for the first student, n (n - 1) / 2 for all; a pair that was stopped goes on, a
    finished one is read. Raises ValueError for fewer than three folds.
    """

    learner: Any = field(repr=False)
    fold_of: np.ndarray = field(repr=False)
    ids: Sequence[str] = field(repr=False)
    columns: Sequence[str]
    folder: Path
    seed: int = 0
    start: str | None = None

    def __post_init__(self):
        folds = np.unique(self.fold_of)
        if len(folds) < 3:
            raise ValueError(
                f"by='nested' trains models without two folds, and folds.parquet has {len(folds)}: make three or more "
                "in 1_eda, or set by='fold'"
            )

    def label(self, rows: np.ndarray, fold: int) -> np.ndarray:
        """The labels that a student of `fold` learns for `rows` (row numbers of train, its training rows): (rows,
        columns). A row of fold j is labelled by the model without folds j and `fold`; models learn from `rows` alone.
        """
        found = np.full((len(self.fold_of), len(self.columns)), np.nan, dtype=np.float32)
        others, folds = np.unique(self.fold_of[rows]).tolist(), np.unique(self.fold_of)
        there = [other for other in others if self._place(fold, other).with_suffix(".parquet").is_file()]
        new = [other for other in others if other not in there]
        known = len(new) + len([*self.folder.glob("*-*.parquet")])
        later = len(folds) * (len(folds) - 1) // 2 - known  # models that the students of other folds need
        for other in chain(there, parts(new, "teacher without it and", once=True, later=later)):
            held_out, predictions = self.predict(rows, fold, other)
            theirs = self.fold_of[held_out] == other
            found[held_out[theirs]] = predictions[theirs]
        return found[rows]

    def predict(self, rows: np.ndarray, fold: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        """The row numbers of two folds, and the predictions (rows, columns) of the model without them."""
        low, high, place = *sorted((fold, other)), self._place(fold, other)
        held_out = np.flatnonzero(np.isin(self.fold_of, [low, high]))

        def fit(place: Path) -> np.ndarray:
            ours = rows[~np.isin(self.fold_of[rows], [low, high])]
            seed, begin = self.seed + 1000 * (low + 1) + high + 1, {} if self.start is None else {"start": self.start}
            check_shared(self.start)
            return without_choosing(self.learner).fit(ours, held_out, place, seed, **begin).oof

        folds = hash_folds(pd.DataFrame({"id": self.ids, "fold": self.fold_of}))
        lineage = {"folds": folds, "saw": f"all folds but {low} and {high}"}
        ids = [self.ids[row] for row in held_out]
        return held_out, kept(place, ids, self.columns, fit, lineage=lineage)

    def _place(self, fold: int, other: int) -> Path:
        return self.folder / "-".join(map(str, sorted((fold, other))))


def kept(
    place: Path,
    ids: Sequence[str],
    columns: Sequence[str],
    fit: Callable[[Path], np.ndarray],
    model: bool = False,
    lineage: dict[str, Any] | None = None,
) -> np.ndarray:
    """The predictions (rows, columns) in `place.parquet`; at the first call those of `fit(place)`, which are written
    there. The folder `place`, in which it trains, is deleted afterwards; with `model` it stays, and must be there.

    lineage: what the file records of its model. Raises ValueError for a file of other rows or another lineage.
    """
    file, state = place.with_name(place.name + ".parquet"), PartialState()
    if not file.is_file() or (model and not (place / "model").is_dir()):
        found = fit(place)
        if state.is_main_process:  # of several processes the first writes
            write_predictions(file, ids, found, columns, metadata=lineage)
    state.wait_for_everyone()
    if not model and state.is_main_process:
        remove(place)
    table, recorded = read_parquet(file), read_metadata(file)
    if where := first_difference(table["id"].tolist(), [str(value) for value in ids]):
        raise ValueError(f"{file} holds predictions of other rows: {where}. Delete it")
    if other := {name: value for name, value in (lineage or {}).items() if recorded.get(name, value) != value}:
        words = ", ".join(f"{name} {recorded[name]!r}, expected {value!r}" for name, value in other.items())
        raise ValueError(f"{file} holds predictions of a model that has seen other rows: {words}. Delete it")
    return table.iloc[:, 1:].to_numpy(dtype=np.float32)


def without_choosing(learner: Any) -> Any:
    """The learner, with its last weights in place of the best ones on the rows it predicts: no label chooses.

    A fine-tuner then evaluates at its end alone; any other learner is as it was.
    """
    if not hasattr(learner, "recipe"):
        return learner
    learner = copy.copy(learner)
    learner.recipe = replace(learner.recipe, keep_best=False, patience=0, evaluate_every=NEVER)
    return learner


def check_shared(start: str | None) -> None:
    """Raise ValueError when a model to start from is not that of all folds: it may have seen labels, or a probe may
    have chosen it by some."""
    if start is None:
        return
    place, run = Path(start), Path(start).parent
    trained = (place / "classifier.json").is_file()
    if trained or (run / "models.json").is_file() or not (run / "params.json").is_file():
        raise ValueError(
            f"by='nested' trains models without two folds, and {start} is of one fold, so that it may have seen the "
            "other: start from a run of 2_pretrain with one model for all folds and without a probe, or set by='fold'"
        )
