"""Thresholds: decisions that suit the metric, found on out-of-fold rows.

F1, MCC and QWK are rarely highest where the likeliest class is chosen. A threshold moves the predictions so that the
usual decision (likeliest class, 0.5, nearest class) becomes the chosen one; nothing else has to know of it. Thresholds
overfit the rows they are tuned on: report their score with `cross_fit`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit, logit

from kagglekit.ensembling.ensembler import Ensembler, StackInput, single_prediction
from kagglekit.ensembling.threshold_search import Thresholds, check_decides, class_scan, label_scan
from kagglekit.options import check_range
from kagglekit.scoring.metrics import find_metric, is_higher_better, score

LEAST, MARGIN = 1e-9, 1e-4


@dataclass(repr=False, eq=False)
class ClassThresholds(Thresholds):
    """A factor for each class's probability before the likeliest is chosen: rare classes usually need more than 1.

    For binary and multiclass. `thresholds_` (classes,): the factors, each set exactly, over all ratios at which a row
    changes its class, starting from 1 and from the inverse of the classes' shares. Rows still sum to 1.
    """

    kinds = ("binary", "multiclass")
    link, unlink = staticmethod(np.log), staticmethod(np.exp)

    def _usual(self, predictions, labels):
        return np.ones(predictions.shape[1])

    def _starts(self, predictions, labels, usual):
        shares = np.bincount(labels, minlength=len(usual)) / len(labels)
        return [usual, shares.max() / np.maximum(shares, 1 / len(labels))]

    def _map(self, predictions, at):
        scaled = np.maximum(predictions, LEAST) * at
        return scaled / scaled.sum(axis=1, keepdims=True)

    def _line(self, k, at, predictions, labels):
        scaled = np.maximum(predictions, LEAST) * at
        own = scaled[:, k] / at[k]
        scaled[:, k] = 0
        others = scaled.argmax(axis=1)
        levels = np.log(scaled[np.arange(len(labels)), others] / own)
        order = levels.argsort()
        return levels[order], lambda: class_scan(labels, others, order, k)


@dataclass(repr=False, eq=False)
class LabelThresholds(Thresholds):
    """A threshold for each of several labels in place of 0.5: rare labels usually need less.

    `thresholds_` (labels,), between 0 and 1; for f1_macro each is the exact optimum. The odds of a label are divided by
    those of its threshold.
    """

    kinds = ("multilabel",)
    link, unlink = staticmethod(logit), staticmethod(expit)

    def _usual(self, predictions, labels):
        return np.full(predictions.shape[1], 0.5)

    def _map(self, predictions, at):
        probs = predictions.clip(LEAST, 1 - LEAST)  # a 0 or a 1 could not be moved
        up, down = probs * (1 - at), (1 - probs) * at
        return np.where(at == 0.5, predictions, up / (up + down))

    def _line(self, k, at, predictions, labels):
        probs = predictions.clip(LEAST, 1 - LEAST)
        levels, given = logit(probs[:, k]), probs >= at
        order = levels.argsort()
        return levels[order], lambda: label_scan(labels, given, k, order)


@dataclass(repr=False, eq=False)
class CutPoints(Thresholds):
    """Cut points between classes in order, in place of 0.5, 1.5, ...: QWK is usually won with them.

    For ordinal tasks; for multiclass with a metric like qwk on the expected class (the sum of k times the probability
    of class k), and rows then have probabilities of at most two neighbouring classes. `thresholds_` (classes - 1,):
    ascending, each set exactly over all values, starting from the usual ones and from those that give the shares of the
    classes. `shrink` goes towards 0.5, 1.5, ... also for multiclass, where 1 still changes nothing. Between cut points
    the map is linear, outside of them a shift. Classes above the highest fitted one need a value more than 1 above the
    last cut.
    """

    kinds = ("ordinal", "multiclass")

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        if inputs.kind == "multiclass" and not find_metric(inputs.metric).ordered:
            raise ValueError(
                "CutPoints takes the classes of a multiclass task as a scale, which "
                f"metric={inputs.metric!r} does not: use ClassThresholds"
            )
        return super().fit(inputs, labels, folds)

    def _usual(self, predictions, labels):
        classes = predictions.shape[1] if predictions.shape[1] > 1 else int(labels.max()) + 1
        return np.arange(classes - 1) + 0.5

    def _starts(self, predictions, labels, usual):
        below = np.bincount(labels, minlength=len(usual) + 1).cumsum()[:-1] / len(labels)
        return [usual, np.quantile(expected_class(predictions), below)]

    def _map(self, predictions, at):
        if predictions.shape[1] == 1 and np.array_equal(at, np.arange(len(at)) + 0.5):
            return predictions.copy()
        moved = place_values(expected_class(predictions), at)
        if predictions.shape[1] == 1:
            return moved[:, None]
        classes = np.arange(predictions.shape[1])
        return np.maximum(1 - np.abs(moved.clip(0, classes[-1])[:, None] - classes), 0)

    def _line(self, k, at, predictions, labels):
        values = expected_class(predictions)
        decided = np.searchsorted(at, values, side="right")
        order = np.flatnonzero((decided == k) | (decided == k + 1))
        order = order[values[order].argsort()]
        decided[order] = k + 1
        return values[order], lambda: class_scan(labels, decided, order, k)

    def _scan(self, k, at, predictions, labels, metric):
        places, values = super()._scan(k, at, predictions, labels, metric)
        low = at[k - 1] if k else -np.inf
        return places.clip(low, at[k + 1] if k + 1 < len(at) else np.inf), values


def expected_class(predictions: np.ndarray) -> np.ndarray:
    """The value of each row (n,): of one column as it is, of probabilities the sum of k times that of class k."""
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions @ np.arange(predictions.shape[1])


def place_values(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Values (n,) moved so that rounding gives the classes between ascending cut points (m,): cuts[k] goes to k + 0.5.

    A value at a cut point belongs to the higher class. All end 0.0001 or more away from the halves.
    """
    decided = np.searchsorted(cuts, values, side="right")
    ends = np.concatenate([[cuts[0] - 1], cuts, [cuts[-1] + 1]])
    width = ends[decided + 1] - ends[decided]  # equal cut points have nothing between them
    moved = decided - 0.5 + (values - ends[decided]) / width
    low = np.where(decided == 0, -np.inf, decided - 0.5 + MARGIN)
    return moved.clip(low, np.where(decided == len(cuts), np.inf, decided + 0.5 - MARGIN))


@dataclass(repr=False, eq=False)
class TopK(Ensembler):
    """Exactly the k likeliest of several labels for each row, for tasks whose rows have about equally many.

    k=None chooses k on the fitted rows, 0 where none is better than the threshold 0.5; k=0 leaves the predictions as
    they are. `k_`: the k in use. Of equal labels the first is taken. The order of a row's labels stays; chosen ones go
    to 0.5 and above, the others below.
    """

    k: int | None = None

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        predictions = single_prediction(self, inputs, ("multilabel",))
        check_decides(inputs.metric)
        sign = 1 if is_higher_better(inputs.metric) else -1
        most = predictions.shape[1]
        fits = self.k is None or 0 <= self.k <= most
        check_range("k", self.k, fits, f"from 0 to {most}, the number of labels, or None")
        self.k_ = self.k
        if self.k is None:
            scores = [sign * score(inputs.metric, labels, choose_top(predictions, k)) for k in range(most + 1)]
            self.k_ = int(np.argmax(scores))
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return choose_top(single_prediction(self, inputs), self.k_)


def choose_top(predictions: np.ndarray, k: int) -> np.ndarray:
    """Probabilities (n, labels) of which the k highest of each row are 0.5 or more, and the others less; k=0: as is."""
    if k == 0:
        return predictions.copy()
    places = (-predictions).argsort(axis=1, kind="stable").argsort(axis=1)
    return np.where(places < k, 0.5 + predictions / 2, predictions * (0.5 - MARGIN))
