"""Ways to make one prediction of those of several members, with nothing to learn but weights that are given.

A member is an array of predictions (n, columns), and the members have the same rows. Each way keeps what predictions
are (probabilities whose rows sum to 1, values on the scale of the target), so a blend is a run like any. What comes out
is float64 (n, columns).
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit, softmax
from scipy.stats import pmean

from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

FLOOR = 1e-6  # the least probability of which a logarithm is taken: a member that says 0 can be outvoted


def weighted_mean(members: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The linear pool: the sum of the members, each times its weight.

    weights: (members,), or (members, columns) for a weight of its own in each column: rows of probabilities then need
    not sum to 1 any more.
    """
    members, weights = np.asarray(members), np.asarray(weights, dtype=np.float64)
    if weights.ndim == 1:
        return np.tensordot(weights, members, axes=1)
    return np.einsum("mk,mnk->nk", weights, members)


def mean(members: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the members."""
    return weighted_mean(members, np.full(len(members), 1 / len(members)))


def median(members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The median of the members, column by column: a few wild ones do not count. Rows of classes are scaled."""
    return normalise(np.median(np.asarray(members, dtype=np.float64), axis=0), members, kind)


def log_pool(members: Sequence[np.ndarray], weights: np.ndarray, kind: str) -> np.ndarray:
    """The log pool: the members' logarithms, each times its weight, summed, and scaled to be probabilities again.

    weights: (members,) or (members, columns). Several labels: log-odds in place of logarithms. A member that is sure
    counts more than in a mean. Weights of more than 1 in sum sharpen, of less than 1 flatten; all 0 makes all classes
    alike. Probabilities below 1e-6 count as 1e-6. Raises ValueError for ordinal and regression.
    """
    pooled = weighted_mean(log_scores(members, kind), weights)
    return softmax(pooled, axis=1) if kind in CLASSES else expit(pooled)


def log_scores(members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The logarithms of probabilities, or log-odds of several labels: (members, n, columns) float64."""
    check_range("kind", kind, kind in (*CLASSES, "multilabel"), "one of probabilities: values have no log pool")
    members = np.asarray(members, dtype=np.float64)
    return np.log(members.clip(FLOOR, 1)) if kind in CLASSES else logit(members.clip(FLOOR, 1 - FLOOR))


def geometric_mean(members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The log pool with equal weights: the geometric mean of probabilities, scaled to sum to 1.

    Several labels: the mean of the log-odds. Raises ValueError for ordinal and regression.
    """
    return log_pool(members, np.full(len(members), 1 / len(members)), kind)


def power_mean(members: Sequence[np.ndarray], power: float, kind: str) -> np.ndarray:
    """The mean of the members' powers, and the root of that; scaled to be probabilities again.

    power: 1 is the mean and 0 the geometric mean. Towards 20 the member with the highest probability decides, towards
    -20 the one with the lowest. Several labels: of the probabilities for and against, which are then scaled to sum to
    1. Raises ValueError beyond -20 to 20, and for ordinal and regression with a power other than 1: values may be
    below 0.
    """
    check_range("power", power, -20 <= power <= 20, "from -20 to 20")
    if power == 1:
        return mean(members)
    check_range("power", power, kind in (*CLASSES, "multilabel"), f"1 in a {kind} task: values may be below 0")
    if power == 0:
        return geometric_mean(members, kind)
    members = np.asarray(members, dtype=np.float64).clip(FLOOR if power < 0 else 0, 1)
    pooled = pmean(members, float(power), axis=0)
    if kind in CLASSES:
        return normalise(pooled, members, kind)
    against = pmean((1 - members).clip(FLOOR if power < 0 else 0, 1), float(power), axis=0)
    return pooled / (pooled + against)


def rank_mean(members: Sequence[np.ndarray], kind: str, fitted: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """The mean of the members' ranks, read off on the members' mean distribution.

    For metrics that see only the order (ROC AUC, Spearman), when members are spread differently: a timid member then
    counts as much as a bold one. Per column, a mean rank r becomes the mean of the members' r-th smallest values, so
    thresholds and class shares keep their meaning, and one member alone stays what it is (quantile normalisation,
    Bolstad et al., 2003). Rows of class probabilities are scaled to sum to 1.

    fitted: the members' predictions of other rows (members, rows, columns): ranks and distribution are those among
    them, so that what a row gets does not depend on which rows are predicted beside it. Between two fitted values a
    rank is interpolated; beyond them, up to 0 and 1, or for values up to the fitted range once more on either side.
    None: the rows themselves.
    """
    members = np.asarray(members, dtype=np.float64)  # (members, n, columns)
    fitted = np.sort(members if fitted is None else np.asarray(fitted, dtype=np.float64), axis=1)
    low, high = fitted[:, :1], fitted[:, -1:]
    chances = kind in (*CLASSES, "multilabel")
    ends = (np.zeros_like(low), np.ones_like(high)) if chances else (2 * low - high, 2 * high - low)
    levels = np.concatenate([ends[0], fitted, ends[1]], axis=1).mean(axis=0)
    pooled = np.empty(members.shape[1:])
    for k in range(members.shape[2]):
        bounds = zip(ends[0][:, 0, k], ends[1][:, 0, k], strict=True)
        places = [_rank(*each) for each in zip(members[:, :, k], fitted[:, :, k], bounds, strict=True)]
        pooled[:, k] = np.interp(np.mean(places, axis=0), np.arange(len(levels)), levels[:, k])
    return normalise(pooled, members, kind)


def _rank(values: np.ndarray, among: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The ranks of values (n,), from 0 at the lower to rows + 1 at the upper bound, among sorted ones (rows,)."""
    known, first, count = np.unique(among, return_index=True, return_counts=True)
    ranks = first + (count + 1) / 2  # equal ones share the mean of theirs
    before, after = [bounds[0]] * int(bounds[0] < known[0]), [bounds[1]] * int(bounds[1] > known[-1])
    known = np.concatenate([before, known, after])
    ranks = np.concatenate([[0.0] * len(before), ranks, [len(among) + 1.0] * len(after)])
    return np.interp(values, known, ranks)


def vote(members: Sequence[np.ndarray], kind: str, weights: np.ndarray | None = None) -> np.ndarray:
    """The share of members that choose a class (several labels: that say 0.5 or more); the median of values.

    weights: (members,), 1 in sum, what a vote of each counts; None: all the same. A thousandth of the mean probability
    is mixed in, so that a tie goes to the more probable class. Raises ValueError for values with weights.
    """
    members = np.asarray(members, dtype=np.float64)
    if kind not in (*CLASSES, "multilabel"):
        check_range("weighted", True, weights is None, f"False in a {kind} task: its vote is the median")
        return np.median(members, axis=0)
    weights = np.full(len(members), 1 / len(members)) if weights is None else weights
    chosen = np.eye(members.shape[2])[members.argmax(axis=2)] if kind in CLASSES else members >= 0.5
    return 0.999 * weighted_mean(chosen, weights) + 0.001 * weighted_mean(members, weights)


def normalise(pooled: np.ndarray, members: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """Rows of classes scaled to sum to 1; a row of nothing but zeros becomes the mean of the members."""
    if kind not in CLASSES:
        return pooled
    total = pooled.sum(axis=1, keepdims=True)
    return np.where(total > 0, pooled / np.where(total > 0, total, 1), mean(members) if (total <= 0).any() else 0)
