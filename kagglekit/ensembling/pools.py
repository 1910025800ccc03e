"""Pools: mean, median, rank mean, vote, and weighted means, each as a function and as a second-level model.

The functions take predictions (runs, n, columns) and give float64 (n, columns), which is again what predictions are.
The classes learn at most one weight for each run, or for each of its columns; convex.py finds the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit, logit, softmax
from scipy.stats import pmean
from sklearn.metrics import recall_score

from kagglekit.ensembling.convex_weights import FLOOR, fit_weights, log_scores
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES, make_scorer

Predictions = Sequence[np.ndarray]  # or one array (runs, n, columns)


def weighted_mean(predictions: Predictions, weights: Sequence[float]) -> np.ndarray:
    """The weighted sum. weights: (runs,), or (runs, columns): rows of probabilities then need not sum to 1 any more."""
    predictions, weights = np.asarray(predictions), np.asarray(weights, dtype=np.float64)
    if weights.ndim == 1:
        return np.tensordot(weights, predictions, axes=1)
    return np.einsum("mk,mnk->nk", weights, predictions)


def equal_weights(predictions: Predictions) -> np.ndarray:
    """1 / runs for each."""
    return np.full(len(predictions), 1 / len(predictions))


def normalise(pooled: np.ndarray, predictions: Predictions, kind: str) -> np.ndarray:
    """Rows of classes scaled to sum to 1; a row of zeros becomes the mean of the predictions."""
    if kind not in CLASSES:
        return pooled
    total = pooled.sum(axis=1, keepdims=True)
    mean = weighted_mean(predictions, equal_weights(predictions)) if (total <= 0).any() else 0
    return np.where(total > 0, pooled / np.where(total > 0, total, 1), mean)


def log_pool(predictions: Predictions, weights: np.ndarray, kind: str) -> np.ndarray:
    """The weighted sum of logarithms (several labels: of log-odds), scaled to be probabilities again.

    weights: (runs,) or (runs, columns); above 1 in sum they sharpen, below they flatten, all 0 makes all classes equal.
    A run that is sure counts more than in a mean. Probabilities below 1e-6 count as 1e-6. Raises ValueError for ordinal
    and regression.
    """
    pooled = weighted_mean(log_scores(predictions, kind), weights)
    return softmax(pooled, axis=1) if kind in CLASSES else expit(pooled)


def power_mean(predictions: Predictions, power: float, kind: str) -> np.ndarray:
    """The root of the mean of powers, scaled to be probabilities again; of labels for yes and no alike.

    power: 1 is the mean, 0 the geometric mean; towards 20 the highest probability decides, towards -20 the lowest.
    Raises ValueError beyond, and for ordinal and regression unless 1: values may be below 0.
    """
    check_range("power", power, -20 <= power <= 20, "from -20 to 20")
    if power == 1:
        return weighted_mean(predictions, equal_weights(predictions))
    check_range("power", power, kind in (*CLASSES, "multilabel"), f"1 in a {kind} task: values may be below 0")
    if power == 0:
        return log_pool(predictions, equal_weights(predictions), kind)
    predictions = np.asarray(predictions, dtype=np.float64).clip(FLOOR if power < 0 else 0, 1)
    pooled = pmean(predictions, float(power), axis=0)
    if kind in CLASSES:
        return normalise(pooled, predictions, kind)
    against = pmean((1 - predictions).clip(FLOOR if power < 0 else 0, 1), float(power), axis=0)
    return pooled / (pooled + against)


def rank_mean(predictions: Predictions, kind: str, fitted: Predictions | None = None) -> np.ndarray:
    """The mean rank, mapped back to the mean distribution of the runs (quantile normalisation, Bolstad et al., 2003).

    For metrics that see only the order (ROC AUC, Spearman): an under-confident run counts as much as a bold one. Per
    column, mean rank r becomes the mean of the r-th smallest values, so thresholds and class shares keep their meaning
    and one run alone stays as it is. Rows of classes are scaled to sum to 1.

    fitted: predictions of other rows (runs, rows, columns); ranks and distribution are those among them, so a row's
    result does not depend on the other rows predicted. Between fitted values ranks are interpolated; beyond them, up to
    0 and 1, or for values up to the fitted range once more on either side. None: the rows themselves.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    fitted = np.sort(predictions if fitted is None else np.asarray(fitted, dtype=np.float64), axis=1)
    low, high = fitted[:, :1], fitted[:, -1:]
    chances = kind in (*CLASSES, "multilabel")
    ends = (np.zeros_like(low), np.ones_like(high)) if chances else (2 * low - high, 2 * high - low)
    levels = np.concatenate([ends[0], fitted, ends[1]], axis=1).mean(axis=0)
    pooled = np.empty(predictions.shape[1:])
    for k in range(predictions.shape[2]):
        bounds = zip(ends[0][:, 0, k], ends[1][:, 0, k], strict=True)
        places = [_rank(*each) for each in zip(predictions[:, :, k], fitted[:, :, k], bounds, strict=True)]
        pooled[:, k] = np.interp(np.mean(places, axis=0), np.arange(len(levels)), levels[:, k])
    return normalise(pooled, predictions, kind)


def _rank(values: np.ndarray, among: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The ranks of values (n,), from 0 at the lower to rows + 1 at the upper bound, among sorted ones (rows,)."""
    known, first, count = np.unique(among, return_index=True, return_counts=True)
    ranks = first + (count + 1) / 2  # equal values share their mean rank
    before, after = [bounds[0]] * int(bounds[0] < known[0]), [bounds[1]] * int(bounds[1] > known[-1])
    ranks = np.concatenate([[0.0] * len(before), ranks, [len(among) + 1.0] * len(after)])
    return np.interp(values, np.concatenate([before, known, after]), ranks)


def vote(predictions: Predictions, kind: str, weights: np.ndarray | None = None) -> np.ndarray:
    """The share of runs that choose a class (several labels: that say 0.5 or more); the median of values.

    weights: (runs,), 1 in sum, of each vote; None: equal. A thousandth of the mean probability is mixed in, so that a
    tie goes to the more probable class. Raises ValueError for values with weights.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    if kind not in (*CLASSES, "multilabel"):
        check_range("weighted", True, weights is None, f"False in a {kind} task: its vote is the median")
        return np.median(predictions, axis=0)
    weights = equal_weights(predictions) if weights is None else weights
    chosen = np.eye(predictions.shape[2])[predictions.argmax(axis=2)] if kind in CLASSES else predictions >= 0.5
    return 0.999 * weighted_mean(chosen, weights) + 0.001 * weighted_mean(predictions, weights)


def vote_weights(predictions: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """The weight of each run's vote (runs,), 1 in sum; see `Vote`. Equal where none beats chance."""
    labels = np.asarray(labels)
    if kind in CLASSES:
        chance, known = 1 / predictions.shape[2], np.unique(labels)
        found = [recall_score(labels, m.argmax(axis=1), labels=known, average="macro") for m in predictions]
    else:
        chance, truth = 0.5, np.stack([labels == 1, labels == 0])  # (2, n, columns): the rows each answer is right for
        right = np.stack([predictions >= 0.5, predictions < 0.5], axis=1) & truth
        there = truth.any(axis=1)
        found = (right.sum(axis=2)[:, there] / truth.sum(axis=1)[there]).mean(axis=1)
    count = len(labels)
    found = (np.array(found) * count + chance) / (count + 1)  # as if one more row were decided by chance
    weights = logit(found) - logit(chance)
    weights[weights < 1e-9] = 0
    return weights / weights.sum() if weights.sum() > 0 else equal_weights(predictions)


class BestSingle(Ensembler):
    """The one run with the best score on the fitted rows, by the task's metric; of equal ones the first.

    The yardstick of every ensemble. Among many similar runs its in-sample score is the luckiest one's.
    """

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        scorer = make_scorer(inputs.metric, labels, inputs.predictions.shape[2])
        gains = scorer.gains(scorer.view(inputs.predictions))
        self.weights_ = np.eye(len(gains))[gains.argmax()]
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return inputs.predictions[self.weights_.argmax()].astype(np.float64)


class Fixed(Ensembler):
    """A combination with nothing to learn: every run counts the same."""

    uses_labels = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.predict(inputs[:1])  # raises here, before any row is predicted, what does not fit the task
        return self


class Mean(Fixed):
    """The mean. Nothing is learned, so nothing is overfitted: often hard to beat."""

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = equal_weights(inputs.predictions)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return weighted_mean(inputs.predictions, equal_weights(inputs.predictions))


class Median(Fixed):
    """The median, column by column, which a few wild runs do not move. Rows of classes are scaled to sum to 1."""

    def predict(self, inputs: StackInput) -> np.ndarray:
        middle = np.median(np.asarray(inputs.predictions, dtype=np.float64), axis=0)
        return normalise(middle, inputs.predictions, inputs.kind)


class GeometricMean(Fixed):
    """The geometric mean of probabilities (several labels: the mean log-odds): `log_pool` with equal weights.

    Surer than the mean where runs agree. Raises ValueError for ordinal and regression.
    """

    def predict(self, inputs: StackInput) -> np.ndarray:
        return log_pool(inputs.predictions, equal_weights(inputs.predictions), inputs.kind)


@dataclass(repr=False, eq=False)
class PowerMean(Fixed):
    """`power_mean`: power 1 is the mean, 0 the geometric mean; above 1 sure runs count more."""

    power: float = 2.0

    def predict(self, inputs: StackInput) -> np.ndarray:
        return power_mean(inputs.predictions, self.power, inputs.kind)


class RankMean(Ensembler):
    """`rank_mean`, with ranks among the fitted rows, so that test rows are on the scale of the out-of-fold rows.

    Keeps the fitted rows' predictions; a prediction costs sorting them.
    """

    uses_labels = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.fitted_ = np.sort(inputs.predictions, axis=1)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return rank_mean(inputs.predictions, inputs.kind, self.fitted_)


@dataclass(repr=False, eq=False)
class Vote(Ensembler):
    """The share of runs that choose a class, or of several labels that say yes; of values the median. See `vote`.

    weighted: a vote counts log-odds of r less those of chance, and nothing below chance; r is the mean recall of the
    classes on the fitted rows. That is the best weight of voters that err independently (Nitzan and Paroush, 1982;
    several classes: Zhu et al., 2009); accuracy in place of r would reward always naming the most frequent class. Not
    for ordinal and regression.
    """

    weighted: bool = False

    @property
    def uses_labels(self) -> bool:
        """Only to weigh the votes."""
        return self.weighted

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        chances = inputs.kind in (*CLASSES, "multilabel")
        rule = f"False in a {inputs.kind} task: its vote is the median"
        check_range("weighted", self.weighted, chances or not self.weighted, rule)
        self.votes_ = vote_weights(inputs.predictions, labels, inputs.kind) if self.weighted else None
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return vote(inputs.predictions, inputs.kind, self.votes_)


@dataclass(repr=False, eq=False)
class LinearPool(Ensembler):
    """The weighted mean, with the weights, at least 0 and 1 in sum, that are best on the fitted rows.

    Best by log loss for probabilities, by squared error for values (absolute error with the metric mae), whatever else
    the metric is. Never worse there than the best run or the mean. A run gets weight for what it alone knows, and for
    hedging where the others are too sure. per_column: separate weights for each class, label or target, (runs,
    columns): more to overfit; pays where runs are good at different ones. 35 runs, 37,000 rows and 3 classes: 0.1 s,
    per column 1 s.
    """

    per_column: bool = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = fit_weights(inputs.predictions, labels, inputs.kind, inputs.metric, self.per_column)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        if self.weights_.ndim == 1 or inputs.kind not in CLASSES:
            return weighted_mean(inputs.predictions, self.weights_)
        pooled = weighted_mean(inputs.predictions.clip(FLOOR, 1), self.weights_)
        return normalise(pooled, inputs.predictions, inputs.kind)


@dataclass(repr=False, eq=False)
class LogPool(Ensembler):
    """The weighted geometric mean (several labels: mean log-odds), see `log_pool`, with the lowest log loss.

    Weights are at least 0 and 1 in sum; never worse on the fitted rows than the best run or the geometric mean.
    sharpen: they may have any sum, a temperature fitted along: above 1 for under-confident runs, below 1 for
    over-confident ones. per_column: as in `LinearPool`. Not for ordinal and regression. 35 runs, 37,000 rows and 3
    classes: 0.5 s, per column 0.7 s.
    """

    per_column: bool = False
    sharpen: bool = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = fit_weights(
            inputs.predictions, labels, inputs.kind, per_column=self.per_column, log=True, sharpen=self.sharpen
        )
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return log_pool(inputs.predictions, self.weights_, inputs.kind)
