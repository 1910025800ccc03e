"""Probabilities that mean what they say: of all rows given 0.8, eight in ten should be right.

Corrections of one member, fitted on out-of-fold rows. Log loss gains where a model is too sure or too timid; what only
sees decisions or an order hardly changes. Whether it pays is seen in `cross_fit` and in `reliability`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression

from kagglekit.ensembling.base import Ensembler, StackInput, check_kind, fit_logistic, fit_softmax, single_prediction
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

LEAST = 1e-8  # a probability of 0 has no logarithm
PROBABILITIES = (*CLASSES, "multilabel")


class ByColumn(Ensembler):
    """A curve for each class or label by itself, `curves_`; classes are scaled to sum to 1 again.

    Of two classes only the second has a curve. A class or label that all the fitted rows have, or none, stays as it is.
    """

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_kind(self, inputs, PROBABILITIES)
        probs = single_prediction(self, inputs)
        if hasattr(self, "penalty"):
            check_range("penalty", self.penalty, self.penalty >= 0, "0 or more")
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


class Logistic(ByColumn):
    """A curve that is a logistic regression on functions of the probability, whose off position is `start`."""

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

    More than a temperature: it also corrects which classes are given too often. With two classes or labels this is
    Platt scaling. penalty: how strongly it is drawn to leaving all as it is, against the log loss summed over the
    rows; 0 not at all (rows that a slope parts fully have no optimum then), inf leaves all as it is. `curves_`: slope
    and intercept by column; multiclass `slope_`, `intercept_` (classes,). Source: Guo et al., 2017; Platt, 1999.
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
        check_range("penalty", self.penalty, self.penalty >= 0, "0 or more")
        logits = np.log(single_prediction(self, inputs).clip(LEAST))
        self.slope_, self.intercept_ = fit_softmax(logits, np.asarray(labels), self.penalty, self.vector)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        probs = single_prediction(self, inputs)
        if inputs.kind != "multiclass":
            return super().predict(inputs)
        if np.all(self.slope_ == 1) and not self.intercept_.any():
            return probs.copy()
        return softmax(self.slope_ * np.log(probs.clip(LEAST)) + self.intercept_, axis=1)


@dataclass(repr=False, eq=False)
class Temperature(VectorScaling):
    """Every logit divided by one number: the order of a row's classes, and so accuracy, stays.

    Above 1 for models that are too sure, as networks usually are. `temperature_`: a float, or by label (labels,); 1
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
    """A curve of three numbers for each class or label, a ln p - b ln(1 - p) + c as log-odds, which may be S-shaped
    either way or lie to one side, where a temperature is only steeper or flatter.

    a, b at least 0: the order within a column stays. penalty: as in `VectorScaling`, towards (1, 1, 0), which changes
    nothing. `curves_`: (a, b, c) by column. Source: Kull, Silva Filho and Flach, 2017.
    """

    penalty: float = 1.0
    start = (1.0, 1.0, 0.0)
    slopes = 2

    def _features(self, probs):
        probs = probs.clip(LEAST, 1 - LEAST)
        return np.stack([np.log(probs), -np.log1p(-probs), np.ones_like(probs)], axis=1)


@dataclass(repr=False, eq=False)
class Isotonic(ByColumn):
    """A curve of steps for each class or label that may have any rising shape: wants 1,000 rows or more.

    smoothing: each step is drawn to the mean of its probabilities as by so many rows more, so that a step of few rows
    does not end at 0 or 1, which one wrong row makes a catastrophe of in log loss; 0 is the plain method, inf leaves
    all as it is. Between steps it is linear. Source: Zadrozny and Elkan, 2002.
    """

    smoothing: float = 1.0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_range("smoothing", self.smoothing, self.smoothing >= 0, "0 or more")
        return super().fit(inputs, labels, folds)

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
