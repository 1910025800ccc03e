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
    truth = one_hot(labels, columns).T
    counts = truth.sum(axis=1)
    used = np.flatnonzero((counts > 0) & (counts < len(labels)))
    if not len(used):
        raise ValueError(f"roc_auc is not defined: these {len(labels)} rows are all of one class")
    counts, order = counts[used], np.argsort(~truth[used], axis=1, kind="stable")
    used += columns - len(truth)  # of two classes the second

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
        truth = labels.reshape(len(labels), -1).T.astype(np.float64, order="C")
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


def pearson(labels: np.ndarray, columns: int) -> tuple[View, View]:
    """Pearson's correlation, the mean over the targets; a constant has correlation 0."""
    truth = labels.reshape(len(labels), -1).T.astype(np.float64, order="C")
    varies = truth.max(axis=1) > truth.min(axis=1)
    truth = truth - truth.mean(axis=1, keepdims=True)
    length = np.sqrt((truth**2).sum(axis=1)) * varies

    def value(views: np.ndarray) -> np.ndarray:
        apart = views - views.mean(axis=2, keepdims=True)
        lengths = np.sqrt(np.einsum("ckn,ckn->ck", apart, apart)) * length
        lengths[views.max(axis=2) == views.min(axis=2)] = 0
        return ratio(np.einsum("ckn,kn->ck", apart, truth), lengths).clip(-1, 1).mean(axis=1)

    return whole, value


def spearman(labels: np.ndarray, columns: int) -> tuple[View, View]:
    """Pearson's correlation of ranks; equal values have the mean of their ranks, and a constant has correlation 0.

    Column by column, which stays in the cache: 6,079 rows and 30 targets take 2 ms, of which sorting is most.
    """
    truth = [_ranks(np.ascontiguousarray(column, dtype=np.float64)) for column in labels.reshape(len(labels), -1).T]
    truth = [ranks - ranks.mean() for ranks in truth]
    lengths = [np.sqrt(ranks @ ranks) for ranks in truth]

    def one(values: np.ndarray, ranks: np.ndarray, length: float) -> float:
        n = float(len(values))
        order, edges = _runs(np.ascontiguousarray(values, dtype=np.float64))
        along, spread = ranks.take(order), (n**3 - n) / 12
        if edges is None:
            total = along @ np.arange(n)  # `along` sums to 0, so that where ranks begin does not count
        else:
            sizes = np.diff(edges).astype(np.float64)
            spread -= (sizes * sizes * sizes - sizes).sum() / 12
            total = np.add.reduceat(along, edges[:-1]) @ ((edges[:-1] + edges[1:]) / 2)
        return total / (np.sqrt(spread) * length) if spread > 0 and length > 0 else 0.0

    def value(views: np.ndarray) -> np.ndarray:
        each = [[one(*some) for some in zip(view, truth, lengths, strict=True)] for view in views]
        return np.clip(each, -1, 1).mean(axis=1)

    return whole, value


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 (n,), as of `scipy.stats.rankdata`."""
    (order, edges), ranks = _runs(values), np.empty(len(values))
    places = np.arange(1.0, len(values) + 1)
    ranks[order] = places if edges is None else np.repeat((edges[:-1] + edges[1:] + 1) / 2, np.diff(edges))
    return ranks


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The order of float64 values (n,), and where runs of equal ones begin in it, with n at the end; None: no two are.

    The bits of floats are in order as integers are; with the row number in the lowest ones, a sort is an argsort in
    half the time. Values that differ in those bits alone may come out in the wrong order, which is seen.
    """
    low = (1 << len(values).bit_length()) - 1
    keys = values.view(np.int64)
    keys = keys ^ ((keys >> 63) & np.iinfo(np.int64).max)  # negative numbers the other way round
    keys &= ~low
    keys |= np.arange(len(values))
    keys.sort()
    order = keys & low
    ordered = values.take(order)
    if (ordered[1:] < ordered[:-1]).any():
        order = values.argsort()
        ordered = values.take(order)
    new = ordered[1:] != ordered[:-1]
    return order, None if new.all() else np.concatenate([[0], np.flatnonzero(new) + 1, [len(values)]])


def alone(form: Callable[..., tuple[View, View]]) -> Callable[[np.ndarray, np.ndarray], float]:
    """The function of labels and values (n, targets) of a form whose view is the whole."""
    return lambda labels, values: form(labels, values.shape[1])[1](values.T[None])[0]
