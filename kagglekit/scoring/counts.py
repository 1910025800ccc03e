"""Metrics of decisions from counts of rows, for many samples or combinations at once: (...) scores, as `metrics.score`.

true, chosen, right (..., classes): how many rows have each class, are given it, and both; likewise for several labels.
The bootstrap, hill climbing and thresholds count each in its own way, and score what they counted by these.

Metrics as functions of sums over rows: with them, a thousand samples of rows are scored at once.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from kagglekit.scoring import counts as decision_scores
from kagglekit.scoring.metrics import METRICS, decide


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise, 0 where `below` is."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.zeros(shape), where=below != 0)


def f1(right: np.ndarray, both: np.ndarray) -> np.ndarray:
    """F1, elementwise. both: how many rows have the class, plus how many are given it."""
    return ratio(2 * right, both)


def f1_of_classes(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean over the classes that are true or chosen somewhere: the others do not count."""
    both = true + chosen
    return f1(right, both).sum(axis=-1) / np.count_nonzero(both, axis=-1)


def f1_of_labels(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean over all labels; one that is neither true nor chosen anywhere counts 0."""
    return f1(right, true + chosen).mean(axis=-1)


def accuracy(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The share of rows whose class is the chosen one."""
    return right.sum(axis=-1) / true.sum(axis=-1)


def mcc(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matthews' correlation; 0 where all rows have, or are given, the same class."""
    rows = true.sum(axis=-1)
    agreement = right.sum(axis=-1) * rows - (true * chosen).sum(axis=-1)
    return ratio(agreement, np.sqrt(rows**2 - (true**2).sum(axis=-1)) * np.sqrt(rows**2 - (chosen**2).sum(axis=-1)))


def qwk(true: np.ndarray, chosen: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Quadratic weighted kappa. apart (...): the squared distances of true and chosen class, summed over the rows.

    1 less the share that `apart` has of what it would be, had the two nothing to do with each other; 0 where all rows
    have, and are given, the same class.
    """
    classes = np.arange(true.shape[-1])
    distances = (classes[:, None] - classes) ** 2.0
    by_chance = (chosen @ distances * true).sum(axis=-1) / true.sum(axis=-1)
    return ratio(by_chance - apart, by_chance)


def sums_of(metric: str, labels: np.ndarray, predictions: np.ndarray) -> tuple | None:
    """What to sum for a metric, and the metric of the sums; None for metrics that are no function of sums.

    labels, predictions: as in `metrics.score`. Returns `parts`, (rows, s), dense or sparse, the last of them
    ones, and a function that makes of the sums (samples, s) the scores (samples,). With the sum over all rows that is
    `score` itself; NaN where the metric is not defined on a sample, as R2 is not on a single row.
    """
    if metric not in _MAKERS:
        return None
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    predictions = predictions.reshape(len(predictions), -1)
    if METRICS[metric].decides:
        return _MAKERS[metric](labels, decide(labels, predictions))
    if METRICS[metric].kinds == ("regression",):
        labels = labels.reshape(len(labels), -1).astype(np.float64)
    return _MAKERS[metric](labels, predictions.astype(np.float64))


def _with_ones(*parts: np.ndarray) -> np.ndarray:
    return np.column_stack([*parts, np.ones(len(parts[0]))])


def _accuracy(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    return _mean((labels == decisions).reshape(len(labels), -1).all(axis=1))


def _of_counts(of_classes: Callable, of_labels: Callable | None = None) -> Callable:
    """Builds what sums the rows that have each class (or label), are given it, and both: see `decision_scores`."""

    def make(labels: np.ndarray, decisions: np.ndarray) -> tuple:
        parts, count = _one_hot(labels, decisions)
        measure = of_classes if labels.ndim == 1 else of_labels
        return parts, lambda sums: measure(*np.split(sums[:, :-1], [count, 2 * count], axis=1))

    return make


def _one_hot(labels: np.ndarray, decisions: np.ndarray) -> tuple[sparse.csr_array, int]:
    """Per class: is it, is it said to be, both (rows, 3 classes); then ones."""
    if labels.ndim == 2:
        both = _with_ones(labels, decisions, labels * decisions)
        return sparse.csr_array(both.astype(np.float64)), labels.shape[1]
    count, rows = int(max(labels.max(), decisions.max())) + 1, np.arange(len(labels))
    right = np.flatnonzero(labels == decisions)
    row = np.concatenate([rows, rows, right, rows])
    column = np.concatenate([labels, count + decisions, 2 * count + labels[right], np.full(len(rows), 3 * count)])
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(rows), 3 * count + 1)), count


def _f1_micro(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    if labels.ndim == 1:
        return _accuracy(labels, decisions)
    parts = _with_ones((labels * decisions).sum(axis=1), (labels + decisions).sum(axis=1))
    return parts, lambda sums: decision_scores.f1(sums[:, 0], sums[:, 1])


def _qwk(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    parts, count = _one_hot(labels, decisions)
    apart = sparse.csr_array(((labels - decisions) ** 2.0)[:, None])

    def value(sums: np.ndarray) -> np.ndarray:
        return decision_scores.qwk(sums[:, 1 : count + 1], sums[:, count + 1 : 2 * count + 1], sums[:, 0])

    return sparse.hstack([apart, parts], format="csr"), value


def _log_loss(labels: np.ndarray, probs: np.ndarray) -> tuple:
    if labels.ndim == 1:
        truth = (probs / probs.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels][:, None]
    else:
        truth = np.where(labels == 1, probs, 1 - probs)
    tiny = np.finfo(np.float64).eps
    return _mean(-np.log(truth.clip(tiny, 1 - tiny)).mean(axis=1))


def _mean(values: np.ndarray, last: Callable = lambda means: means) -> tuple:
    return _with_ones(values), lambda sums: last(sums[:, 0] / sums[:, 1])


def _rmse(labels: np.ndarray, values: np.ndarray) -> tuple:
    return _mean(((labels - values) ** 2).mean(axis=1), np.sqrt)


def _mae(labels: np.ndarray, values: np.ndarray) -> tuple:
    return _mean(np.abs(labels - values).mean(axis=1))


def _mcrmse(labels: np.ndarray, values: np.ndarray) -> tuple:
    def value(sums: np.ndarray) -> np.ndarray:
        return np.sqrt(sums[:, :-1] / sums[:, -1:]).mean(axis=1)

    return _with_ones((labels - values) ** 2), value


def _r2(labels: np.ndarray, values: np.ndarray) -> tuple:
    centred, k = labels - labels.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        error, total = sums[:, :k], sums[:, 2 * k : 3 * k] - sums[:, k : 2 * k] ** 2 / sums[:, -1:]
        flat = total <= 1e-12 * sums[:, 2 * k : 3 * k]
        each = np.where(flat, np.where(error == 0, 1.0, 0.0), 1 - ratio(error, total))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones((labels - values) ** 2, centred, centred**2), value


def _pearson(labels: np.ndarray, values: np.ndarray) -> tuple:
    x, y, k = labels - labels.mean(axis=0), values - values.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        n = sums[:, -1:]
        sx, sy, sxx, syy, sxy = (sums[:, i * k : (i + 1) * k] for i in range(5))
        vx, vy = sxx - sx**2 / n, syy - sy**2 / n
        flat = (vx <= 1e-12 * sxx) | (vy <= 1e-12 * syy)
        each = np.where(flat, 0.0, ratio(sxy - sx * sy / n, np.sqrt(np.maximum(vx * vy, 0))))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones(x, y, x**2, y**2, x * y), value


_MAKERS = {
    "accuracy": _accuracy,
    "f1_macro": _of_counts(decision_scores.f1_of_classes, decision_scores.f1_of_labels),
    "f1_micro": _f1_micro,
    "mcc": _of_counts(decision_scores.mcc),
    "qwk": _qwk,
    "log_loss": _log_loss,
    "rmse": _rmse,
    "mae": _mae,
    "mcrmse": _mcrmse,
    "r2": _r2,
    "pearson": _pearson,
}
