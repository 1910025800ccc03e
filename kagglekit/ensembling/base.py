"""What every way to make one prediction of several has in common: it is fitted on some rows, and predicts others.

What corrections of one member share, and the plainest of them: a line through the values.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from kagglekit.options import check_range


@dataclass(frozen=True, eq=False)
class StackInput:
    """What several runs say of n rows, and what the task is: the input of a second-level model.

    predictions: (runs, n, columns) float64, probabilities or values, as in a predictions table. kind, metric: of the
    task. groups: (n,), equal for rows that must not be parted when rows have to be divided. documents: (n,), equal for
    rows of one document. meta: (n, features) float64, what else is known of a row. None: there is none.
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
        """The same rows with one member alone: predictions (n, columns)."""
        return replace(self, predictions=np.asarray(predictions, dtype=np.float64)[None])


class Ensembler(ABC):
    """Makes one prediction of those of several members; with one member, a correction of it, such as a calibration.

    The constructor keeps its knobs under their own names; what `fit` learns ends in `_`. What comes out is what members
    are: probabilities whose rows sum to 1, probabilities of labels, or values on the scale of the target.
    """

    weights_: np.ndarray | None = None  # (members,) or (members, columns) that `fit` found, where there are such
    uses_labels = True  # False: `fit` never looks at labels, so that nothing needs to be cross-fitted

    @abstractmethod
    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        """Learn from rows with labels, which are as from `encode_labels`.

        folds: (n,), for what has to be chosen on rows that were not fitted on.
        """

    @abstractmethod
    def predict(self, inputs: StackInput) -> np.ndarray:
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


def single_prediction(ensembler: Ensembler, inputs: StackInput) -> np.ndarray:
    """The predictions (n, columns) of the one member that a correction is for."""
    if len(inputs.predictions) != 1:
        raise ValueError(
            f"{type(ensembler).__name__} corrects one prediction, and there are {len(inputs.predictions)} members: "
            "combine them first"
        )
    return inputs.predictions[0]


def check_kind(ensembler: Ensembler, inputs: StackInput, kinds: tuple[str, ...]) -> None:
    """Raise ValueError for a kind of task that a correction is not for."""
    if inputs.kind not in kinds:
        raise ValueError(f"{type(ensembler).__name__} is for {', '.join(kinds)}: it does not fit kind={inputs.kind!r}")


def fit_logistic(
    features: np.ndarray, truth: np.ndarray, start: np.ndarray, penalty: float = 0.0, slopes: int = 1
) -> np.ndarray:
    """Logistic regression without intercept whose penalty draws the coefficients (f,) to `start`, not to 0.

    features (n, f); truth (n,) bool; the first `slopes` coefficients are at least 0. The log loss is convex, with an
    analytic gradient. penalty=inf gives `start`, and so do rows that are all alike.
    """
    start = np.asarray(start, dtype=np.float64)
    if truth.all() or not truth.any() or np.isinf(penalty):
        return start

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        scores, away = features @ at, at - start
        value = np.mean(np.logaddexp(0, scores) - truth * scores) + penalty / 2 * away @ away / len(truth)
        return value, (features.T @ (expit(scores) - truth) + penalty * away) / len(truth)

    bounds = [(0, None)] * slopes + [(None, None)] * (len(start) - slopes)
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-7}).x


def fit_softmax(logits: np.ndarray, labels: np.ndarray, penalty: float, vector: bool) -> tuple[np.ndarray, np.ndarray]:
    """The slope and intercept of each class, (classes,) both, that give the lowest log loss of softmax(slope * logits +
    intercept); without `vector` one slope for all and no intercept. Penalty and gradient as in `fit_logistic`."""
    rows, size = logits.shape
    slopes = size if vector else 1
    start = np.append(np.ones(slopes), np.zeros(size if vector else 0))
    truth = np.eye(size)[labels]

    def spread(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(at[:slopes], size), at[slopes:] if vector else np.zeros(size)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = spread(at)
        logs, away = log_softmax(logits * slope + intercept, axis=1), at - start
        errors = np.exp(logs) - truth
        by_slope, by_intercept = np.sum(errors * logits, axis=0), errors.sum(axis=0)
        gradient = np.append(by_slope, by_intercept) if vector else by_slope.sum(keepdims=True)
        value = -np.sum(truth * logs) + penalty / 2 * away @ away
        return value / rows, (gradient + penalty * away) / rows

    if np.isinf(penalty):
        return spread(start)
    bounds = [(0, None)] * slopes + [(None, None)] * (len(start) - slopes)
    options = {"ftol": 1e-12, "gtol": 1e-7}
    return spread(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)


@dataclass(repr=False, eq=False)
class LinearCalibration(Ensembler):
    """For values: each target times a slope plus an intercept, by least squares; for models that are too timid or off.

    For ordinal and regression. penalty: as so many rows that say that all is right as it is; 0 plain least squares, inf
    leaves all as it is. `slope_`, `intercept_` (columns,). A constant column keeps slope 1. Lowers squared error, and
    can raise the absolute one.
    """

    penalty: float = 1.0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_kind(self, inputs, ("ordinal", "regression"))
        check_range("penalty", self.penalty, self.penalty >= 0, "0 or more")
        values, rows = single_prediction(self, inputs), len(inputs)
        errors = np.asarray(labels, dtype=np.float64).reshape(values.shape) - values
        spread = values - values.mean(axis=0)
        weight = 1 / (1 + self.penalty / rows)
        variance = np.mean(spread**2, axis=0)
        tilt = weight * np.mean(spread * errors, axis=0) / np.where(variance > 0, variance, 1)
        self.slope_ = 1 + tilt
        self.intercept_ = weight * errors.mean(axis=0) - tilt * values.mean(axis=0)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return single_prediction(self, inputs) * self.slope_ + self.intercept_
