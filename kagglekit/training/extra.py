"""Rows to learn from beside those of train: pseudo labels, and whatever else a fold is taught."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kagglekit.metrics import CLASSES
from kagglekit.ranges import check_range
from kagglekit.task import Task


@dataclass(frozen=True, eq=False)
class Extra:
    """Rows with labels that may be soft, and how much each counts.

    table: id, text, and the columns beside the text that the recipe names. labels: (rows,) int64 class numbers, or
    (rows, columns) float32, probabilities of classes or labels, or values. weights: (rows,) float32, what the loss of a
    row is multiplied with, where a row of train has 1; 0 leaves it out. source: (rows,) int64, which row of train each
    is a changed copy of, by its number, -1 for none; it is learned only where that row is. None: they are no copies.
    Raises ValueError where these do not go together.
    """

    table: pd.DataFrame
    labels: np.ndarray
    weights: np.ndarray
    source: np.ndarray | None = None

    def __post_init__(self):
        for name in ("labels", "weights", *(["source"] if self.source is not None else [])):
            rows = len(getattr(self, name))
            check_range(f"extra rows: {name}", rows, rows == len(self.table), f"one for each of {len(self.table)} rows")
            finite = bool(np.isfinite(getattr(self, name)).all())
            check_range(f"extra rows: {name}", "NaN or infinity", finite, "finite numbers")
        lowest = float(np.min(self.weights, initial=0.0))
        check_range("extra rows: weights", lowest, lowest >= 0, "0 or more")

    def __len__(self) -> int:
        return len(self.table)

    def check_sources(self, rows: np.ndarray) -> None:
        """Raise ValueError when there is a copy of a row that is not among `rows` (numbers of train), those that are
        learned: with its text, and its label, a row that the model is to be scored on would have been seen."""
        if self.source is None:
            return
        away = (self.source >= 0) & ~np.isin(self.source, rows)
        if away.any():
            first = int(np.argmax(away))
            raise ValueError(
                f"extra rows: {away.sum()} of {len(self)} are changed copies of rows of train that this model does not "
                f"learn from, the first is id {self.table['id'].iloc[first]!r}, a copy of row {self.source[first]}: "
                "leave out the copies of held-out rows, fold by fold"
            )

    def soft(self, task: Task) -> np.ndarray:
        """The labels as (rows, columns of a predictions table) float32; class numbers become probabilities of 1."""
        if self.labels.ndim == 1 and task.kind in CLASSES:
            return np.eye(len(task.classes), dtype=np.float32)[self.labels]
        return self.labels.reshape(len(self), -1).astype(np.float32)
