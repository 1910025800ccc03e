"""Fast forms of metrics for blends: the score of many combinations of the same predictions at once.

A form is a function of (labels, columns) that gives two functions. `view` maps predictions (..., columns, n) to
(..., k, m), all that the metric needs of them. It is linear, so the view of a mean is the mean of the views, and each
model is looked at once. `value` maps views (c, k, m) to scores (c,).
"""

from collections.abc import Callable

import numpy as np

from kagglekit.scoring.counts import Counts, apart, ratio
from kagglekit.scoring.functions import one_hot

View = Callable[[np.ndarray], np.ndarray]


def whole(predictions: np.ndarray) -> np.ndarray:
    """The view of a metric that needs all of the predictions."""
    return predictions  # (..., columns, n)


def decision_views(from_counts: Callable[[Counts], np.ndarray], labels: np.ndarray) -> tuple[View, View]:
    """The form of a metric of decisions, from its form `from_counts`."""
    if labels.ndim == 1:
        return whole, lambda views: from_counts(_count_classes(labels, views))
    truth = labels.T == 1
    true, rows = np.count_nonzero(truth, axis=-1), len(labels)

    def value(views: np.ndarray) -> np.ndarray:
        chosen = views >= 0.5
        given, right = (np.count_nonzero(cells, axis=-1) for cells in (chosen, chosen & truth))
        exact = np.count_nonzero((chosen == truth).all(axis=1), axis=-1)
        return from_counts(Counts(true, given, right, exact, rows, multilabel=True))

    return whole, value


def _count_classes(labels: np.ndarray, views: np.ndarray) -> Counts:
    """The likeliest class of each row, or the nearest to a value, counted by way of confusion matrices."""
    size = max(views.shape[1], int(labels.max()) + 1)
    if views.shape[1] == 1:
        chosen = np.rint(views[:, 0]).clip(0, labels.max()).astype(np.int64)
    else:
        chosen, highest = np.zeros((len(views), len(labels)), dtype=np.int64), views[:, 0].copy()
        for k in range(1, views.shape[1]):  # argmax over so short an axis is ten times slower
            np.copyto(chosen, k, where=views[:, k] > highest)
            np.maximum(highest, views[:, k], out=highest)
    cells = (np.arange(len(views))[:, None] * size + labels) * size + chosen
    matrix = np.bincount(cells.ravel(), minlength=len(views) * size**2).reshape(-1, size, size).astype(np.float64)
    distance = np.einsum("cij,ijd->cd", matrix, apart(np.arange(size)[:, None], np.arange(size)))
    return Counts.of_classes(matrix.sum(axis=2), matrix.sum(axis=1), np.diagonal(matrix, axis1=1, axis2=2), distance)


def log_loss(labels: np.ndarray, columns: int) -> tuple[View, View]:
    """Log loss: needs the probability of the true class and, of classes, the sum of all."""
    tiny = np.finfo(np.float64).eps
    if labels.ndim == 2:
        truth = labels.T == 1
        return lambda p: np.where(truth, p, 1 - p), lambda views: -np.log(views.clip(tiny, 1 - tiny)).mean(axis=(1, 2))
    rows = np.arange(len(labels))

    def view(probs: np.ndarray) -> np.ndarray:
        return np.stack([probs[..., labels, rows], probs.sum(axis=-2)], axis=-2)

    def value(views: np.ndarray) -> np.ndarray:
        truth = views[:, 0] / views[:, 1]
        np.clip(truth, tiny, 1 - tiny, out=truth)  # in place: new arrays of this size cost more than the logarithm
        return -np.log(truth, out=truth).mean(axis=1)

    return view, value


def roc_auc(labels: np.ndarray, columns: int) -> tuple[View, View]:
    """ROC AUC: the share of pairs of a row with and one without the label that are ranked right; ties count half.

    The view has a column's rows with the label before the others. Raises ValueError for rows of a single class.
    """
    truth = labels.T == 1 if labels.ndim == 2 else labels == np.arange(columns)[:, None]
    counts = truth.sum(axis=1)
    curves = (counts > 0) & (counts < len(labels))
    if labels.ndim == 1 and columns == 2:
        curves[0] = False  # the mirror of the other
    used = np.flatnonzero(curves)
    if not len(used):
        raise ValueError(f"roc_auc is not defined: these {len(labels)} rows are all of one class")
    counts, order = counts[used], np.argsort(~truth[used], axis=1, kind="stable")

    def area(column: np.ndarray, count: int) -> float:
        having, others = np.sort(column[:count]), np.sort(column[count:])
        below = np.searchsorted(others, having)
        upto = below
        if (others[np.minimum(below, len(others) - 1)] == having).any():
            upto = np.searchsorted(others, having, "right")
        return (below.sum() + upto.sum()) / 2 / (count * len(others))

    def value(views: np.ndarray) -> np.ndarray:
        return np.array([np.mean([area(*both) for both in zip(view, counts, strict=True)]) for view in views])

    return lambda p: p[..., used[:, None], order], value


def error_views(measure: Callable) -> Callable[..., tuple[View, View]]:
    """The form of a metric of errors: measure(errors (c, targets, n), truth (targets, n)) -> (c,)."""

    def form(labels: np.ndarray, columns: int) -> tuple[View, View]:
        truth = labels.reshape(len(labels), -1).T.astype(np.float64)
        return lambda values: values - truth, lambda views: measure(views, truth)

    return form


def mean_square(errors: np.ndarray) -> np.ndarray:
    """The mean squared error of each target: (c, targets)."""
    return np.einsum("ckn,ckn->ck", errors, errors) / errors.shape[2]


def r2(errors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """R2 of errors, the mean over the targets; of a constant target 1 without an error, else 0."""
    left, spread = mean_square(errors), truth.var(axis=1)
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), left == 0).mean(axis=1)


def size_of(truth: np.ndarray) -> np.ndarray:
    """The size of true values, at least epsilon, as MAPE divides by it."""
    return np.maximum(np.abs(truth), np.finfo(np.float64).eps)


def brier(labels: np.ndarray, columns: int) -> tuple[View, View]:
    """The Brier score: needs the errors of the probabilities; of two classes those of the second."""
    truth = one_hot(labels, columns).T
    last = len(truth) if labels.ndim == 2 else 1  # errors of several labels are averaged, those of classes added

    def value(views: np.ndarray) -> np.ndarray:
        return np.einsum("ckn,ckn->c", views, views) / (views.shape[2] * last)

    return lambda probs: probs[..., -len(truth) :, :] - truth, value


def correlation(ranked: bool) -> Callable[..., tuple[View, View]]:
    """The form of Pearson's correlation, or of ranks Spearman's; a constant has correlation 0.

    Spearman's for 6,079 rows and 30 targets takes 4 ms a blend, of which sorting is half.
    """

    def form(labels: np.ndarray, columns: int) -> tuple[View, View]:
        truth = np.ascontiguousarray(labels.reshape(len(labels), -1).T, dtype=np.float64)
        varies = truth.max(axis=1) > truth.min(axis=1)
        truth = _ranks(truth) if ranked else truth
        truth = truth - truth.mean(axis=1, keepdims=True)
        length = np.sqrt(np.einsum("kn,kn->k", truth, truth)) * varies

        def value(views: np.ndarray) -> np.ndarray:
            constant = views.max(axis=2) == views.min(axis=2)
            views = _ranks(views) if ranked else views
            centred = views - views.mean(axis=2, keepdims=True)
            lengths = np.sqrt(np.einsum("ckn,ckn->ck", centred, centred)) * length
            lengths[constant] = 0
            return ratio(np.einsum("ckn,kn->ck", centred, truth), lengths).clip(-1, 1).mean(axis=1)

        return whole, value

    return form


def correlate(ranked: bool) -> Callable[[np.ndarray, np.ndarray], float]:
    """Pearson's correlation, or Spearman's, of labels and values (n, targets): the mean over the targets."""

    def function(labels: np.ndarray, values: np.ndarray) -> float:
        _, value = correlation(ranked)(labels, values.shape[1])
        return value(np.ascontiguousarray(values.T, dtype=np.float64)[None])[0]

    return function


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, from 1; equal values have the mean of theirs. `rankdata` is six times slower."""
    n = values.shape[-1]
    flat = values.reshape(-1, n)
    order = np.argsort(flat, axis=-1)
    order += np.arange(len(flat))[:, None] * n
    ordered = values.ravel()[order]
    first = np.ones(flat.shape, dtype=bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    ranks = np.empty(flat.size)
    if first.all():
        ranks[order] = np.arange(1.0, n + 1)
    else:
        starts = np.flatnonzero(first)
        lengths = np.diff(starts, append=flat.size)
        ranks[order.ravel()] = np.repeat(starts % n + (lengths + 1) / 2, lengths)
    return ranks.reshape(values.shape)
