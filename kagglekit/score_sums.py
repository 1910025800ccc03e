"""Metrics as functions of sums over rows: with them, a thousand samples of rows are scored at once."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from kagglekit.metrics import METRICS, decide


def sums_of(metric: str, labels: np.ndarray, predictions: np.ndarray) -> tuple | None:
    """What to sum for a metric, and the metric of the sums; None for metrics that are no function of sums.

    labels, predictions: as in `kagglekit.metrics.score`. Returns `parts`, (rows, s), dense or sparse, the last of them
    ones, and a function that makes of the sums (samples, s) the scores (samples,). With the sum over all rows that is
    `score` itself; NaN where the metric is not defined on a sample, as for a sample without rows.
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


def _divide(top: np.ndarray, bottom: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """Elementwise, `empty` where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), empty), where=bottom != 0)


def _accuracy(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    right = (labels == decisions).reshape(len(labels), -1).all(axis=1)
    return _with_ones(right), lambda sums: _divide(sums[:, 0], sums[:, 1], np.nan)


def _one_hot(labels: np.ndarray, decisions: np.ndarray) -> tuple[sparse.csr_array, int]:
    """Per class: is it, is it said to be, both (rows, 3 classes); then ones."""
    if labels.ndim == 2:
        both = np.column_stack([labels, decisions, labels * decisions, np.ones(len(labels))])
        return sparse.csr_array(both.astype(np.float64)), labels.shape[1]
    count, rows = int(max(labels.max(), decisions.max())) + 1, np.arange(len(labels))
    right = np.flatnonzero(labels == decisions)
    row = np.concatenate([rows, rows, right, rows])
    column = np.concatenate([labels, count + decisions, 2 * count + labels[right], np.full(len(rows), 3 * count)])
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(rows), 3 * count + 1)), count


def _f1_macro(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    parts, count = _one_hot(labels, decisions)

    def value(sums: np.ndarray) -> np.ndarray:
        true, said, both = sums[:, :count], sums[:, count : 2 * count], sums[:, 2 * count : 3 * count]
        each = _divide(2 * both, true + said)
        there = (true + said > 0) | (labels.ndim == 2)  # of classes, those of the sample; of labels, all
        return np.where(sums[:, -1] > 0, _divide(each.sum(axis=1), there.sum(axis=1)), np.nan)

    return parts, value


def _f1_micro(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    if labels.ndim == 1:
        return _accuracy(labels, decisions)
    parts = _with_ones((labels * decisions).sum(axis=1), (labels + decisions).sum(axis=1))
    return parts, lambda sums: np.where(sums[:, -1] > 0, _divide(2 * sums[:, 0], sums[:, 1]), np.nan)


def _mcc(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    parts, count = _one_hot(labels, decisions)

    def value(sums: np.ndarray) -> np.ndarray:
        true, said, n = sums[:, :count], sums[:, count : 2 * count], sums[:, -1]
        right = sums[:, 2 * count : 3 * count].sum(axis=1)
        spread = (n**2 - (true**2).sum(axis=1)) * (n**2 - (said**2).sum(axis=1))
        return np.where(n > 0, _divide(right * n - (true * said).sum(axis=1), np.sqrt(spread)), np.nan)

    return parts, value


def _qwk(labels: np.ndarray, decisions: np.ndarray) -> tuple:
    true, said = labels.astype(np.float64), decisions.astype(np.float64)

    def value(sums: np.ndarray) -> np.ndarray:
        apart, true, said, squares, n = sums.T
        by_chance = squares - 2 * _divide(true * said, n)  # what `apart` would be if the two knew nothing of each other
        return np.where(n > 0, np.where(by_chance > 1e-9 * n, 1 - _divide(apart, by_chance), 0.0), np.nan)

    return _with_ones((true - said) ** 2, true, said, true**2 + said**2), value


def _log_loss(labels: np.ndarray, probs: np.ndarray) -> tuple:
    if labels.ndim == 1:
        truth = (probs / probs.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels][:, None]
    else:
        truth = np.where(labels == 1, probs, 1 - probs)
    tiny = np.finfo(np.float64).eps
    return _mean(-np.log(truth.clip(tiny, 1 - tiny)).mean(axis=1))


def _mean(values: np.ndarray, last: Callable = lambda means: means) -> tuple:
    return _with_ones(values), lambda sums: last(_divide(sums[:, 0], sums[:, 1], np.nan))


def _rmse(labels: np.ndarray, values: np.ndarray) -> tuple:
    return _mean(((labels - values) ** 2).mean(axis=1), np.sqrt)


def _mae(labels: np.ndarray, values: np.ndarray) -> tuple:
    return _mean(np.abs(labels - values).mean(axis=1))


def _mcrmse(labels: np.ndarray, values: np.ndarray) -> tuple:
    def value(sums: np.ndarray) -> np.ndarray:
        return np.sqrt(_divide(sums[:, :-1], sums[:, -1:], np.nan)).mean(axis=1)

    return _with_ones((labels - values) ** 2), value


def _r2(labels: np.ndarray, values: np.ndarray) -> tuple:
    centred, k = labels - labels.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        error, total = sums[:, :k], sums[:, 2 * k : 3 * k] - _divide(sums[:, k : 2 * k] ** 2, sums[:, -1:])
        flat = total <= 1e-12 * sums[:, 2 * k : 3 * k]
        each = np.where(flat, np.where(error == 0, 1.0, 0.0), 1 - _divide(error, total))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones((labels - values) ** 2, centred, centred**2), value


def _pearson(labels: np.ndarray, values: np.ndarray) -> tuple:
    x, y, k = labels - labels.mean(axis=0), values - values.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        n = np.maximum(sums[:, -1:], 1)
        sx, sy, sxx, syy, sxy = (sums[:, i * k : (i + 1) * k] for i in range(5))
        vx, vy = sxx - sx**2 / n, syy - sy**2 / n
        flat = (vx <= 1e-12 * sxx) | (vy <= 1e-12 * syy)
        each = np.where(flat, 0.0, _divide(sxy - sx * sy / n, np.sqrt(np.maximum(vx * vy, 0))))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones(x, y, x**2, y**2, x * y), value


_MAKERS = {
    "accuracy": _accuracy,
    "f1_macro": _f1_macro,
    "f1_micro": _f1_micro,
    "mcc": _mcc,
    "qwk": _qwk,
    "log_loss": _log_loss,
    "rmse": _rmse,
    "mae": _mae,
    "mcrmse": _mcrmse,
    "r2": _r2,
    "pearson": _pearson,
}
