"""Calibration: temperature, Platt, beta and isotonic scaling of probabilities, and a line for values.

Of all rows given 0.8, eight in ten should be right. Each is a correction of one prediction, fitted on out-of-fold rows.
Log loss gains where a model is over- or under-confident; metrics of decisions or of the order hardly change.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from kagglekit.ensembling.ensembler import Ensembler, StackInput, single_prediction
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

LEAST = 1e-8  # a probability of 0 has no logarithm


class ByColumn(Ensembler):
    """A curve for each class or label by itself, `curves_`; classes are scaled to sum to 1 again.

    Of two classes only the second has a curve. A class or label that all the fitted rows have, or none, stays as it is.
    """

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        probs = single_prediction(self, inputs, (*CLASSES, "multilabel"))
        check_penalty(self)
        self.curves_ = {}
        for k in [1] if inputs.kind == "binary" else range(probs.shape[1]):
            truth = np.asarray(labels)[:, k] == 1 if inputs.kind == "multilabel" else np.asarray(labels) == k
            curve = self._learn(probs[:, k], truth) if truth.any() and not truth.all() else None
            if curve is not None:
                self.curves_[k] = curve
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        probs = single_prediction(self, inputs).copy()
        if not self.curves_:
            return probs
        for k, curve in self.curves_.items():
            probs[:, k] = self._read(curve, probs[:, k])
        if inputs.kind == "binary":
            probs[:, 0] = 1 - probs[:, 1]
        if inputs.kind == "multiclass":
            sums = probs.sum(axis=1, keepdims=True)
            probs = np.where(sums > 0, probs / np.where(sums > 0, sums, 1), inputs.predictions[0])
        return probs

    @abstractmethod
    def _learn(self, probs: np.ndarray, truth: np.ndarray):
        """The curve of a column, None for none: probs (n,) float64, truth (n,) bool, of both kinds."""

    @abstractmethod
    def _read(self, curve, probs: np.ndarray) -> np.ndarray:
        """Probabilities (n,), read off a curve."""


def check_penalty(correction: Ensembler) -> None:
    """Raise ValueError for a knob `penalty` or `smoothing` below 0."""
    for name in ("penalty", "smoothing"):
        value = getattr(correction, name, 0)
        check_range(name, value, value >= 0, "0 or more")


class Logistic(ByColumn):
    """A curve that is a logistic regression on functions of the probability; `start` are the coefficients of no change.

    `slopes`: how many of the coefficients, the first ones, are at least 0.
    """

    start: tuple[float, ...]
    slopes = 1

    @abstractmethod
    def _features(self, probs: np.ndarray) -> np.ndarray:
        """(n, f): with the coefficients `start` they give the log-odds."""

    def _learn(self, probs, truth):
        found = fit_logistic(self._features(probs), truth, self.start, self.penalty, self.slopes)
        return None if np.array_equal(found, self.start) else found

    def _read(self, curve, probs):
        return expit(self._features(probs) @ curve)


@dataclass(repr=False, eq=False)
class VectorScaling(Logistic):
    """A slope and an intercept for each class's log-probability, or for the log-odds of two classes or of a label.

    Also corrects which classes are given too often. Platt scaling for two classes or labels. penalty: towards no
    change, against the summed log loss; 0 none (rows that a slope separates fully then have no optimum), inf leaves all
    as it is. `curves_`: slope and intercept by column; multiclass `slope_`, `intercept_` (classes,). Source: Guo et
    al., 2017; Platt, 1999.
    """

    penalty: float = 1.0
    vector = True
    start = (1.0, 0.0)

    def _features(self, probs):
        logits = logit(probs.clip(LEAST, 1 - LEAST))
        return np.stack([logits, np.ones_like(logits)], axis=1)

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        if inputs.kind != "multiclass":
            return super().fit(inputs, labels, folds)
        check_penalty(self)
        logits = np.log(single_prediction(self, inputs).clip(LEAST))
        self.slope_, self.intercept_ = fit_softmax(logits, np.asarray(labels), self.penalty, self.vector)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        if inputs.kind != "multiclass":
            return super().predict(inputs)
        probs = single_prediction(self, inputs)
        if np.all(self.slope_ == 1) and not self.intercept_.any():
            return probs.copy()
        return softmax(self.slope_ * np.log(probs.clip(LEAST)) + self.intercept_, axis=1)


@dataclass(repr=False, eq=False)
class Temperature(VectorScaling):
    """Every logit divided by one number: the order of a row's classes, and so accuracy, stays.

    `temperature_`: a float, or by label (labels,); above 1 for over-confident models, as networks usually are; 1
    changes nothing. penalty: 0 for the plain method, inf leaves all as it is. Source: Guo et al., 2017.
    """

    penalty: float = 0.0
    vector = False
    start = (1.0,)

    def _features(self, probs):
        return logit(probs.clip(LEAST, 1 - LEAST))[:, None]

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        super().fit(inputs, labels, folds)
        if inputs.kind == "multiclass":
            slope = self.slope_[:1]
        else:
            columns = [1] if inputs.kind == "binary" else range(inputs.predictions.shape[2])
            slope = np.array([self.curves_.get(k, self.start)[0] for k in columns])
        with np.errstate(divide="ignore"):
            found = 1 / slope
        self.temperature_ = found if inputs.kind == "multilabel" else float(found[0])
        return self


@dataclass(repr=False, eq=False)
class Beta(Logistic):
    """Log-odds a ln p - b ln(1 - p) + c for each class or label: S-shaped either way, where a temperature is not.

    a, b at least 0, so the order within a column stays. penalty: as in `VectorScaling`, towards (1, 1, 0), no change.
    `curves_`: (a, b, c) by column. Source: Kull, Silva Filho and Flach, 2017.
    """

    penalty: float = 1.0
    start = (1.0, 1.0, 0.0)
    slopes = 2

    def _features(self, probs):
        probs = probs.clip(LEAST, 1 - LEAST)
        return np.stack([np.log(probs), -np.log1p(-probs), np.ones_like(probs)], axis=1)


@dataclass(repr=False, eq=False)
class Isotonic(ByColumn):
    """Isotonic regression for each class or label: any rising shape, needs 1,000 rows or more.

    smoothing: pulls each step to the mean of its probabilities as that many extra rows would, so that a step of few
    rows does not end at 0 or 1, where one wrong row ruins the log loss; 0 is the plain method, inf leaves all as it is.
    Between steps it is linear. Source: Zadrozny and Elkan, 2002.
    """

    smoothing: float = 1.0

    def _learn(self, probs, truth):
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        if self.smoothing == 0:
            return curve.fit(probs, truth)
        if np.isinf(self.smoothing):
            return None
        _, step, rows = np.unique(curve.fit_transform(probs, truth), return_inverse=True, return_counts=True)
        hits, means = np.bincount(step, truth), np.bincount(step, probs) / rows
        return curve.fit(probs, ((hits + self.smoothing * means) / (rows + self.smoothing))[step])

    def _read(self, curve, probs):
        return curve.predict(probs)


@dataclass(repr=False, eq=False)
class LinearCalibration(Ensembler):
    """Each target times a slope plus an intercept, by least squares; for ordinal and regression.

    For models that are under-confident or biased. penalty: as many extra rows that say that all is right; 0 plain least
    squares, inf leaves all as it is. `slope_`, `intercept_` (columns,); a constant column keeps slope 1. Lowers squared
    error, and can raise the absolute one.
    """

    penalty: float = 1.0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        values, rows = single_prediction(self, inputs, ("ordinal", "regression")), len(inputs)
        check_penalty(self)
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


def fit_logistic(
    features: np.ndarray, truth: np.ndarray, start: np.ndarray, penalty: float = 0.0, slopes: int = 1
) -> np.ndarray:
    """Logistic regression without intercept whose penalty pulls the coefficients (f,) to `start` and not to 0.

    scikit-learn's has no such penalty, nor bounds. features (n, f); truth (n,) bool; the first `slopes` coefficients
    are at least 0. penalty=inf gives `start`, and so do rows that are all alike.
    """
    start = np.asarray(start, dtype=np.float64)
    if truth.all() or not truth.any() or np.isinf(penalty):
        return start

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        scores, away = features @ at, at - start
        value = np.mean(np.logaddexp(0, scores) - truth * scores) + penalty / 2 * away @ away / len(truth)
        return value, (features.T @ (expit(scores) - truth) + penalty * away) / len(truth)

    return _lowest(loss, start, slopes)


def fit_softmax(logits: np.ndarray, labels: np.ndarray, penalty: float, vector: bool) -> tuple[np.ndarray, np.ndarray]:
    """The slopes and intercepts (classes,) with the lowest log loss of softmax(slope * logits + intercept).

    Without `vector` one slope for all and no intercept. Penalty as in `fit_logistic`.
    """
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

    return spread(start) if np.isinf(penalty) else spread(_lowest(loss, start, slopes))


def _lowest(loss: Callable, start: np.ndarray, slopes: int) -> np.ndarray:
    """Where a convex loss with its gradient is lowest, the first `slopes` coordinates at least 0."""
    bounds = [(0, None)] * slopes + [(None, None)] * (len(start) - slopes)
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-7}).x
