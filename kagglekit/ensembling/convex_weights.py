"""Weights of linear and log pools: their losses with derivatives, and Newton's method that minimises them.

Both losses are convex in weights that all columns share (log pools: Heskes, 1998). Newton's method takes few steps;
each is a problem of non-negative least squares (Lawson and Hanson, 1974), which gives weights of exactly 0 (likewise
for mixtures: Kim, Carbonetto, Stephens and Anitescu, 2020).
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.special import expit, log_softmax, logit

from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

FLOOR = 1e-6  # the least probability of which a logarithm is taken: a run that says 0 can be outvoted
CHUNK = 8192  # cells at a time: small enough for a processor's cache


def pool_loss(predictions: Sequence[np.ndarray], labels: np.ndarray, kind: str, metric: str = "") -> Callable:
    """The loss of the linear pool, as a function of the weights (runs,): loss, gradient, second derivatives.

    Log loss for binary, multiclass and multilabel, probabilities of the truth clipped to 1e-6. Squared error for
    ordinal and regression, in units of each target's standard deviation; with the metric rmse or mae all targets are
    in one unit, and with mae it is the absolute error, rounded off at 0 within a hundredth of the best run's.
    """
    predictions, labels = np.asarray(predictions, dtype=np.float64), np.asarray(labels)
    if kind in CLASSES:
        truth = predictions[:, np.arange(len(labels)), labels]  # what each run gave to the true class: (runs, n)
    elif kind == "multilabel":
        truth = np.where(labels == 1, predictions, 1 - predictions).reshape(len(predictions), -1)
    else:
        return _error(predictions, labels, metric)
    truth = truth.clip(FLOOR, 1)

    def log_loss(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pooled = weights @ truth
        return -np.log(pooled).mean(), -truth @ (1 / pooled) / len(pooled), gram(truth, pooled**-2)

    return log_loss


def _error(predictions: np.ndarray, labels: np.ndarray, metric: str) -> Callable:
    labels = labels.astype(np.float64).reshape(predictions.shape[1:])
    scale = np.full(labels.shape[1], labels.std()) if metric in ("rmse", "mae") else labels.std(axis=0)
    errors = ((predictions - labels) / (scale + (scale == 0))).reshape(len(predictions), -1)
    squares = 2 * gram(errors, np.ones(errors.shape[1]))
    rounding = 0.01 * np.abs(errors).mean(axis=1).min() + 1e-12

    def squared_error(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        error = weights @ errors  # that of the pool, as the weights sum to 1
        return np.mean(error**2), squares @ weights, squares

    def absolute_error(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        error = weights @ errors
        size = np.hypot(error, rounding)
        return np.mean(size), errors @ (error / size) / len(error), gram(errors, rounding**2 / size**3)

    return absolute_error if metric == "mae" else squared_error


def log_scores(predictions: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """The logarithms of probabilities, or log-odds of several labels: (runs, n, columns) float64."""
    check_range("kind", kind, kind in (*CLASSES, "multilabel"), "one of probabilities: values have no log pool")
    predictions = np.asarray(predictions, dtype=np.float64)
    return np.log(predictions.clip(FLOOR, 1)) if kind in CLASSES else logit(predictions.clip(FLOOR, 1 - FLOOR))


def log_pool_loss(predictions: Sequence[np.ndarray], labels: np.ndarray, kind: str) -> Callable:
    """The log loss of the log pool, as a function of the weights (runs,): loss, gradient, second derivatives."""
    scores, labels = log_scores(predictions, kind), np.asarray(labels)
    if kind in CLASSES:
        scores = np.ascontiguousarray(scores.transpose(0, 2, 1))  # (runs, columns, n): sums over short rows are slow
    flat = scores.reshape(len(scores), -1)

    def of_labels(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pooled = weights @ flat
        probs, truth = expit(pooled), labels.ravel()
        loss = np.mean(np.logaddexp(0, pooled) - truth * pooled)
        return loss, flat @ (probs - truth) / flat.shape[1], gram(flat, probs * (1 - probs))

    truth = scores[:, labels, np.arange(len(labels))].mean(axis=1) if kind in CLASSES else None

    def of_classes(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pooled = (weights @ flat).reshape(scores.shape[1:])  # (columns, n)
        logs = pooled - pooled.max(axis=0)
        logs -= np.log(np.exp(logs).sum(axis=0))
        probs, rows = np.exp(logs), np.arange(len(labels))
        expected = np.einsum("mkn,kn->mn", scores, probs)
        slope = expected.mean(axis=1) - truth
        curve = gram(flat, probs.ravel()) * len(probs) - gram(expected, np.ones(len(rows)))
        return -logs[labels, rows].mean(), slope, curve

    return of_classes if kind in CLASSES else of_labels


def class_loss(predictions: Sequence[np.ndarray], labels: np.ndarray, log: bool) -> Callable:
    """The log loss of a pool with weights per class (runs, classes), its rows scaled to sum to 1.

    log: of the log pool, which is convex in these too; else of the linear one, which is not. In place of the second
    derivatives it gives twice the expected ones of each class (Fisher scoring), (classes, runs, runs): that leaves out
    the interaction of classes, and twice is enough never to be too flat.
    """
    predictions = np.asarray(predictions, dtype=np.float64).clip(FLOOR, 1)
    features, rows = np.log(predictions) if log else predictions, np.arange(len(labels))
    columns = np.ascontiguousarray(features.transpose(2, 0, 1))  # (classes, runs, n)
    truth = np.eye(predictions.shape[2])[labels].T

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pooled = np.einsum("mk,kmn->kn", weights, columns)
        logs = log_softmax(pooled if log else np.log(pooled), axis=0)
        probs, stretch = np.exp(logs), 1.0 if log else 1 / pooled  # stretch: of a logarithm, by its column
        slope = np.einsum("kmn,kn->mk", columns, (probs - truth) * stretch) / len(rows)
        curves = zip(columns, 2 * probs * (1 - probs) * stretch**2, strict=True)
        return -logs[labels, rows].mean(), slope, np.stack([gram(*curve) for curve in curves])

    return loss


def gram(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of the outer products of features (m, cells) with themselves, each cell times its weight; (m, m)."""
    total = np.zeros((len(features), len(features)))
    for start in range(0, len(weights), CHUNK):
        part = features[:, start : start + CHUNK]
        total += (part * weights[start : start + CHUNK]) @ part.T
    return total / len(weights)


def minimise(loss: Callable, start: np.ndarray, free: bool = False, tolerance: float = 1e-9, steps: int = 300):
    """The weights, of the shape of `start`, at which a loss is lowest: each at least 0, and 1 in sum in each column.

    loss: as above. free: they may have any sum. Stops where a further step promises no more than `tolerance`; never
    ends higher than it starts. Equal runs keep the shares that they start with.
    """
    weights = np.asarray(start, dtype=np.float64)
    value, slope, curve = loss(weights)
    for _ in range(steps):
        flat, slopes = weights.reshape(len(weights), -1), slope.reshape(len(weights), -1)
        curves = curve.reshape(-1, len(weights), len(weights))
        target = [_newton(*each, free) for each in zip(flat.T, slopes.T, curves, strict=True)]
        step = np.stack(target, axis=1).reshape(weights.shape) - weights
        promise, length = -(slope * step).sum(), 1.0
        if promise <= tolerance:
            break
        while (new := loss(weights + length * step))[0] > value - 1e-4 * length * promise:
            length /= 2
            if length < 1e-9:
                return weights
        weights, (value, slope, curve) = weights + length * step, new
    return weights


def _newton(weights: np.ndarray, slope: np.ndarray, curve: np.ndarray, free: bool) -> np.ndarray:
    """The lowest point, among weights that are allowed, of the parabola with this slope and curvature at `weights`."""
    count = len(weights)
    curve = curve + (1e-8 * np.trace(curve) / count + 1e-12) * np.eye(count)  # one lowest point, also of equal runs
    root = cholesky(curve)  # upper: root' root = curve
    shift = solve_triangular(root, slope - curve @ weights, trans="T")
    if free:
        return nnls(root, -shift, maxiter=100 * count)[0]
    # As they sum to 1: |root w + shift| = |(root + shift 1') w|, whose lowest ray is that of the same plus (sum - 1)^2.
    square = root + shift[:, None]
    scale = np.linalg.norm(square @ weights) + 1e-12
    found = nnls(np.vstack([square / scale, np.ones(count)]), np.append(np.zeros(count), 1.0), maxiter=100 * count)[0]
    return found / found.sum()


def fit_weights(
    predictions: Sequence[np.ndarray],
    labels: np.ndarray,
    kind: str,
    metric: str = "",
    per_column: bool = False,
    log: bool = False,
    sharpen: bool = False,
) -> np.ndarray:
    """The weights (runs,), each at least 0 and 1 in sum, of the pool with the lowest loss on these rows.

    log: of the log pool (`log_pool_loss`), else of the linear one (`pool_loss`). Never worse on these rows than the
    best run or the (geometric) mean. per_column: (runs, columns), each label or target by itself, and classes together
    (`class_loss`). sharpen: weights of a log pool that may have any sum.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    count, columns = predictions.shape[0], predictions.shape[2]
    if per_column and kind not in (*CLASSES, "ordinal") and columns > 1:
        each = [(predictions[:, :, [k]], np.asarray(labels)[:, [k]]) for k in range(columns)]
        return np.stack([fit_weights(*part, kind, metric, False, log, sharpen) for part in each], axis=1)
    loss = log_pool_loss(predictions, labels, kind) if log else pool_loss(predictions, labels, kind, metric)
    found = minimise(loss, np.full(count, 1 / count), sharpen)
    slope = loss(found)[1]
    possible = np.eye(count)[slope < slope @ found]  # runs that could be better alone: no others, as it is convex
    found = min([found, *possible], key=lambda weights: loss(weights)[0])
    if not per_column:
        return found
    found = np.repeat(found[:, None], columns, axis=1)
    return minimise(class_loss(predictions, labels, log), found, sharpen, 1e-8) if kind in CLASSES else found
