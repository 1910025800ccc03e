"""The second level: the predictions that an ensemble is fitted on, and what all ways to combine them share."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, eq=False)
class StackInput:
    """Base predictions of n rows, and the task: the input of a second-level model.

    predictions: (runs, n, columns) float64, probabilities or values, as in a predictions table. kind, metric: of the
    task. groups: (n,), equal for rows that must stay together where rows are split. documents: (n,), equal for rows of
    one document. meta: (n, features) float64, features of the row. None: there are none.

    Parts of the same rows share a memory: what `once` computed for the rows of three folds is computed once, in
    whichever order they were held out.
    """

    predictions: np.ndarray
    kind: str
    metric: str
    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    meta: np.ndarray | None = None
    place: np.ndarray = field(init=False, repr=False)  # (n,), the rows' positions in the whole that they are part of
    memory: dict = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "place", np.arange(len(self)))

    def __len__(self) -> int:
        return self.predictions.shape[1]

    def __getitem__(self, rows: np.ndarray) -> "StackInput":
        """The rows of these numbers, or where a mask (n,) is true."""
        features = {name: getattr(self, name) for name in ("groups", "documents", "meta")}
        features = {name: None if values is None else values[rows] for name, values in features.items()}
        part = replace(self, predictions=self.predictions[:, rows], **features)
        object.__setattr__(part, "place", self.place[rows])
        object.__setattr__(part, "memory", self.memory)
        return part

    def once(self, what: str, rows: np.ndarray, arrays: tuple[np.ndarray, ...], make: Callable[[], Any]) -> Any:
        """make(), or what it gave before: `what` is computed from these of the rows, and from arrays (n, ...) there."""
        known = hashlib.blake2b(self.place[rows].tobytes(), digest_size=16)
        for array in arrays:
            known.update(np.ascontiguousarray(array[rows]))
        key = what, known.digest()
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]

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
