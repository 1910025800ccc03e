"""What every way to make one prediction of several has in common: it is fitted on some rows, and predicts others."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Level:
    """What several runs say of n rows, and what the task is: the input of a second-level model.

    members: (members, n, columns) float64, probabilities or values, as in a predictions table. kind, metric: of the
    task. groups: (n,), equal for rows that must not be parted when rows have to be divided. documents: (n,), equal for
    rows of one document. meta: (n, features) float64, what else is known of a row. None: there is none.
    """

    members: np.ndarray
    kind: str
    metric: str
    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    meta: np.ndarray | None = None

    def __len__(self) -> int:
        return self.members.shape[1]

    def __getitem__(self, rows: np.ndarray) -> "Level":
        """The rows of these numbers, or where a mask (n,) is true."""
        beside = {name: getattr(self, name) for name in ("groups", "documents", "meta")}
        beside = {name: None if values is None else values[rows] for name, values in beside.items()}
        return replace(self, members=self.members[:, rows], **beside)

    def of(self, predictions: np.ndarray) -> "Level":
        """The same rows with one member alone: predictions (n, columns)."""
        return replace(self, members=np.asarray(predictions, dtype=np.float64)[None])


class Ensembler(ABC):
    """Makes one prediction of those of several members; with one member, a correction of it, such as a calibration.

    The constructor keeps its knobs under their own names; what `fit` learns ends in `_`. What comes out is what members
    are: probabilities whose rows sum to 1, probabilities of labels, or values on the scale of the target.
    """

    weights_: np.ndarray | None = None  # (members,) or (members, columns) that `fit` found, where there are such
    uses_labels = True  # False: `fit` never looks at labels, so that nothing needs to be cross-fitted

    @abstractmethod
    def fit(self, level: Level, labels: np.ndarray, folds: np.ndarray) -> Self:
        """Learn from rows with labels, which are as from `encode_labels`.

        folds: (n,), for what has to be chosen on rows that were not fitted on.
        """

    @abstractmethod
    def predict(self, level: Level) -> np.ndarray:
        """(n, columns) float64."""

    def fresh(self) -> Self:
        """The same knobs, and nothing learned."""
        other = copy.copy(self)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(other, name)
        return other

    def __repr__(self) -> str:
        knobs = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.endswith("_"))
        return f"{type(self).__name__}({knobs})"
