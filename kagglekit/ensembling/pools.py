"""Pools as second-level models: what they learn is at most one weight for each member, or for each of its columns.

What each does with predictions: kagglekit/ensembling/combinations.py. How weights are found: convex.py beside it.
"""

from abc import abstractmethod
from typing import Self

import numpy as np
from scipy.special import logit
from sklearn.metrics import recall_score

from kagglekit.ensembling import combinations
from kagglekit.ensembling.base import Ensembler, StackInput
from kagglekit.ensembling.convex import fit_log_weights, fit_weights
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES, is_higher_better, score


class BestSingle(Ensembler):
    """The one member with the best score on the fitted rows, by the metric of the task; of equal ones the first.

    The yardstick of every ensemble. With many members alike its score in sample is the luckiest one's.
    """

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        scores = [score(inputs.metric, labels, member) for member in inputs.predictions]
        best = np.argmax(scores) if is_higher_better(inputs.metric) else np.argmin(scores)
        self.weights_ = np.eye(len(scores))[best]
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return inputs.predictions[self.weights_.argmax()].astype(np.float64)


class Fixed(Ensembler):
    """A combination with nothing to learn: each member counts the same."""

    uses_labels = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self._combine(inputs[:1])  # what does not fit the task is an error here, before any row is predicted
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return self._combine(inputs)

    @abstractmethod
    def _combine(self, inputs: StackInput) -> np.ndarray:
        """(n, columns)."""


class Mean(Fixed):
    """The mean of the members. Nothing is learned, so nothing is overfitted: often hard to beat."""

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = np.full(len(inputs.predictions), 1 / len(inputs.predictions))
        return self

    def _combine(self, inputs: StackInput) -> np.ndarray:
        return combinations.mean(inputs.predictions)


class Median(Fixed):
    """The median of the members, column by column: a few wild ones do not count."""

    def _combine(self, inputs: StackInput) -> np.ndarray:
        return combinations.median(inputs.predictions, inputs.kind)


class GeometricMean(Fixed):
    """The geometric mean of probabilities, of several labels the mean of log-odds: see `geometric_mean`.

    Surer than the mean where members agree. Refused for ordinal and regression.
    """

    def _combine(self, inputs: StackInput) -> np.ndarray:
        return combinations.geometric_mean(inputs.predictions, inputs.kind)


class PowerMean(Fixed):
    """The mean of the members' powers, and the root of that: see `power_mean`.

    power: 1 is the mean, 0 the geometric mean; above 1 a member that is sure of a class counts more, below 0 one that
    is sure that it is not. From -20 to 20. Refused for ordinal and regression, unless 1.
    """

    def __init__(self, power: float = 2.0):
        self.power = power

    def _combine(self, inputs: StackInput) -> np.ndarray:
        return combinations.power_mean(inputs.predictions, self.power, inputs.kind)


class RankMean(Ensembler):
    """The mean of the members' ranks: see `rank_mean`. For metrics that see only the order.

    A rank is always one among the fitted rows: ranked among the rows that are predicted, a row would get another
    prediction with other rows beside it, and test rows would not be on the scale of the out-of-fold ones. Keeps the
    members' predictions of the fitted rows; a prediction costs sorting them.
    """

    uses_labels = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.fitted_ = np.sort(inputs.predictions, axis=1)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return combinations.rank_mean(inputs.predictions, inputs.kind, self.fitted_)


class Vote(Ensembler):
    """The share of members that choose a class, or of several labels that say yes; of values the median. See `vote`.

    weighted: a vote counts by how good its member's decisions are: with r, the mean share of each class that it finds
    on the fitted rows, the log-odds of r less those of chance, and nothing below chance. That is the best weight of
    voters that err independently (Nitzan and Paroush, 1982; several classes: Zhu et al., 2009). The share of right
    decisions in place of r would reward those who always name the most frequent class. False: all count the same.
    Refused, when true, for ordinal and regression.
    """

    def __init__(self, weighted: bool = False):
        self.weighted = weighted

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
        return combinations.vote(inputs.predictions, inputs.kind, self.votes_)


def vote_weights(members: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """What the vote of each member counts (members,), 1 in sum; see `Vote`. All the same where none beats chance."""
    labels = np.asarray(labels)
    if kind in CLASSES:
        chance, known = 1 / members.shape[2], np.unique(labels)
        found = [recall_score(labels, m.argmax(axis=1), labels=known, average="macro") for m in members]
    else:
        chance, truth = 0.5, np.stack([labels == 1, labels == 0])  # (2, n, columns): the rows each answer is right for
        right = np.stack([members >= 0.5, members < 0.5], axis=1) & truth
        there = truth.any(axis=1)
        found = (right.sum(axis=2)[:, there] / truth.sum(axis=1)[there]).mean(axis=1)
    count = len(labels)
    found = (np.array(found) * count + chance) / (count + 1)  # as if one more row were decided by chance
    weights = logit(found) - logit(chance)
    weights[weights < 1e-9] = 0
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(members), 1 / len(members))


class LinearPool(Ensembler):
    """The members' weighted mean, with the weights, each at least 0 and 1 in sum, that are best on the fitted rows.

    Best: by log loss for probabilities, by squared error for values (by absolute error with the metric mae), whatever
    else the metric is. Never worse there than the best member or the mean. A member gets weight for what it knows that
    the others do not, and one that hedges where the others are too sure gets some for that.
    per_column: weights of their own for each class, label or target; weights_ is then (members, columns). Pays where
    members are good at different ones, and has more to overfit. Rows of classes are scaled to sum to 1.
    35 members, 37,000 rows and 3 classes: 0.1 s, per column 1 s.
    """

    def __init__(self, per_column: bool = False):
        self.per_column = per_column

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = fit_weights(inputs.predictions, labels, inputs.kind, inputs.metric, self.per_column)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        if self.weights_.ndim == 1 or inputs.kind not in CLASSES:
            return combinations.weighted_mean(inputs.predictions, self.weights_)
        pooled = combinations.weighted_mean(inputs.predictions.clip(combinations.FLOOR, 1), self.weights_)
        return combinations.normalise(pooled, inputs.predictions, inputs.kind)


class LogPool(Ensembler):
    """The members' weighted geometric mean, of several labels their weighted mean of log-odds: see `log_pool`.

    The weights, each at least 0 and 1 in sum, have the lowest log loss on the fitted rows: never worse there than the
    best member or the geometric mean. Refused for ordinal and regression.
    sharpen: the weights may have any sum: above 1 makes the pool surer than its members, below 1 less sure, which
    members that are too timid or too sure need; it is a temperature that is fitted along.
    per_column: as in `LinearPool`. 35 members, 37,000 rows and 3 classes: 0.5 s, per column 0.7 s.
    """

    def __init__(self, per_column: bool = False, sharpen: bool = False):
        self.per_column = per_column
        self.sharpen = sharpen

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.weights_ = fit_log_weights(inputs.predictions, labels, inputs.kind, self.per_column, self.sharpen)
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return combinations.log_pool(inputs.predictions, self.weights_, inputs.kind)
