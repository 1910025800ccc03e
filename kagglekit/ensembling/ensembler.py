"""The second level: the predictions that an ensemble is fitted on, and what all ways to combine them share."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class StackInput:
    """Base predictions of n rows, and the task: the input of a second-level model.

    predictions: (runs, n, columns) float64, probabilities or values, as in a predictions table. kind, metric: of the
    task. groups: (n,), equal for rows that must stay together where rows are split. documents: (n,), equal for rows of
    one document. meta: (n, features) float64, features of the row. None: there are none.
    """

    predictions: np.ndarray
    kind: str
    metric: str
    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    meta: np.ndarray | None = None

    def __len__(self) -> int:
        return self.predictions.shape[1]

    def __getitem__(self, rows: np.ndarray) -> "StackInput":
        """The rows of these numbers, or where a mask (n,) is true."""
        features = {name: getattr(self, name) for name in ("groups", "documents", "meta")}
        features = {name: None if values is None else values[rows] for name, values in features.items()}
        return replace(self, predictions=self.predictions[:, rows], **features)

    def with_predictions(self, predictions: np.ndarray) -> "StackInput":
        """The same rows with one prediction (n, columns) alone."""
        return replace(self, predictions=np.asarray(predictions, dtype=np.float64)[None])


class Ensembler(ABC):
    """Combines several predictions into one; of a single prediction, a correction such as a calibration.

    The constructor stores the knobs under their own names; what `fit` learns ends in `_`. The result is what base
    predictions are: probabilities whose rows sum to 1, probabilities of labels, or values on the scale of the target.
    """

    weights_: np.ndarray | None = None  # (runs,) or (runs, columns), where `fit` finds weights
    uses_labels = True  # False: `fit` never looks at labels, so cross-fitting changes nothing

    @abstractmethod
    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        """Fit on rows with labels, as from `encode_labels`. folds: (n,), to choose knobs on rows not fitted on."""

    @abstractmethod
    def predict(self, inputs: StackInput) -> np.ndarray:
        """(n, columns) float64."""

    def fresh(self) -> Self:
        """An unfitted copy with the same knobs."""
        other = copy.copy(self)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(other, name)
        return other

    def __repr__(self) -> str:
        knobs = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.endswith("_"))
        return f"{type(self).__name__}({knobs})"


def single_prediction(ensembler: Ensembler, inputs: StackInput, kinds: tuple[str, ...] = ()) -> np.ndarray:
    """The one prediction (n, columns) that a correction is for. Raises ValueError for several, or another kind."""
    name = type(ensembler).__name__
    if kinds and inputs.kind not in kinds:
        raise ValueError(f"{name} is for {', '.join(kinds)}: it does not fit kind={inputs.kind!r}")
    if len(inputs.predictions) != 1:
        raise ValueError(f"{name} corrects one prediction, and there are {len(inputs.predictions)}: combine them first")
    return inputs.predictions[0]
