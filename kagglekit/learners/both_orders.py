"""Both orders of two text columns, for learners without epochs: a row is learned in both, and predicted as their mean.

Fine-tuning draws an order at each visit instead, see `EitherOrder`, and costs no more; here training rows are doubled.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.runs.folder import Fitted
from kagglekit.training.column_knobs import swap_table


@dataclass
class BothOrders:
    """A learner of tables in which every row stands twice, the second time with two text columns exchanged.

    make: f(train, test) -> the learner. swap: of a recipe, filled in: labels and features that name a side go with the
    columns. Predictions of the second order are turned back before the mean. Both orders of a row share its fold.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    swap: dict[str, Any]
    make: Callable[[pd.DataFrame, pd.DataFrame], Any] = field(repr=False)

    def __post_init__(self):
        turned = exchange_labels(swap_table(self.train, self.swap), self.task, self.swap["labels"])
        tables = (self.train, turned), (self.test, swap_table(self.test, self.swap))
        self.learner = self.make(*(pd.concat(both, ignore_index=True) for both in tables))

    @property
    def settings(self) -> dict[str, Any]:
        return getattr(self.learner, "settings", {})

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, **begin: Any) -> Fitted:
        """Fit and predict; rows are those of the table before it was doubled."""
        both = (np.concatenate([rows, rows + len(self.train)]) for rows in (train_rows, valid_rows))
        fitted = self.learner.fit(*both, folder, seed=seed, **begin)
        return replace(fitted, oof=self._mean(fitted.oof), test=self._mean(fitted.test))

    def _mean(self, predictions: np.ndarray) -> np.ndarray:
        first, second = np.split(predictions, 2)
        return ((first + second[:, self.swap["exchange"]]) / 2).astype(first.dtype)


def exchange_labels(table: pd.DataFrame, task: Task, labels: dict[str, str]) -> pd.DataFrame:
    """A table with the classes, or the label columns, of each pair exchanged."""
    both = labels | {new: old for old, new in labels.items()}
    if task.classes:
        return table.assign(**{label: table[label].map(lambda name: both.get(name, name)) for label in task.labels})
    return table.assign(**{old: table[new].to_numpy() for old, new in both.items()})
