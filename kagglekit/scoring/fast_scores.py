"""The score of thousands of combinations of the same members: what `metrics.score` gives, many at once, and faster.

Scores of decisions, many combinations at once: from counts of the rows by what is true and what is chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from kagglekit.scoring.counts import accuracy, f1, f1_of_classes, f1_of_labels, mcc, qwk, ratio
from kagglekit.scoring.metrics import is_higher_better, score


def as_they_are(predictions: np.ndarray) -> np.ndarray:
    """The view of metrics that need all of the predictions."""
    return predictions  # (..., columns, n)


def of_decisions(of_classes: Callable, of_labels: Callable | None = None) -> Callable:
    """Builds what scores decisions.

    of_classes: counts (c, classes, classes) of rows by true and chosen class -> (c,). of_labels: right and chosen
    (c, labels, n), truth (labels, n) -> (c,).
    """

    def build(labels: np.ndarray) -> tuple[Callable, Callable]:
        if labels.ndim == 2:
            truth = labels.T == 1

            def several(views: np.ndarray) -> np.ndarray:
                chosen = views >= 0.5
                return of_labels(chosen & truth, chosen, truth)

            return as_they_are, several
        return as_they_are, lambda views: of_classes(_confusion(labels, views))

    return build


def _confusion(labels: np.ndarray, views: np.ndarray) -> np.ndarray:
    """How many rows of each class (axis 1) are given to each class (axis 2); float64 (c, classes, classes)."""
    count = max(views.shape[1], int(labels.max()) + 1)
    if views.shape[1] == 1:
        chosen = np.rint(views[:, 0]).clip(0, labels.max()).astype(np.int64)
    else:
        chosen, highest = np.zeros((len(views), len(labels)), dtype=np.int64), views[:, 0].copy()
        for k in range(1, views.shape[1]):  # argmax over so short an axis is ten times slower
            np.copyto(chosen, k, where=views[:, k] > highest)
            np.maximum(highest, views[:, k], out=highest)
    cells = (np.arange(len(views))[:, None] * count + labels) * count + chosen
    return np.bincount(cells.ravel(), minlength=len(views) * count**2).reshape(-1, count, count).astype(np.float64)


def all_right(right: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Accuracy of several labels: the share of rows in which every label is right."""
    return (chosen == truth).all(axis=1).mean(axis=1)


def of_label_counts(measure: Callable) -> Callable:
    """Scores several labels by how many rows have each, are given it, and both: see `decision_scores`."""

    def score(right: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return measure(*(np.count_nonzero(cells, axis=-1) for cells in (truth, chosen, right)))

    return score


def f1_of_cells(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """F1 over all labels in one."""
    return f1(right.sum(axis=-1), (true + chosen).sum(axis=-1))


def of_class_counts(measure: Callable) -> Callable:
    """Scores a confusion matrix (c, classes, classes) by how many rows have each class, are given it, and both."""
    return lambda counts: measure(counts.sum(axis=2), counts.sum(axis=1), np.diagonal(counts, axis1=1, axis2=2))


def kappa(counts: np.ndarray) -> np.ndarray:
    """Quadratic weighted kappa of a confusion matrix (c, classes, classes)."""
    classes = np.arange(counts.shape[1])
    apart = (counts * (classes[:, None] - classes) ** 2).sum(axis=(1, 2))
    return qwk(counts.sum(axis=2), counts.sum(axis=1), apart)


BLOCK = 2**17  # numbers worked on at a time: one megabyte stays in the cache of a core


@dataclass(frozen=True)
class Scorer:
    """The metric on the rows of some labels, for combinations of predictions.

    view: predictions (..., n, columns) -> (..., k, m), all that the metric needs of them, in the order in which it
    needs it. A mean of views is the view of the mean, so views are made once per member, and what is combined later
    are the views. value: views (c, k, m) -> the metric of each (c,). sign: 1 where higher is better, otherwise -1.
    """

    view: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]
    sign: float

    def gains(self, views: np.ndarray, total: np.ndarray | float = 0.0, count: float = 1.0) -> np.ndarray:
        """The metric of (total + view) / count for each of the views (c, k, m), times the sign: higher is better."""
        size = max(1, BLOCK // max(1, views[0].size))
        blocks = [views[i : i + size] for i in range(0, len(views), size)]
        return self.sign * np.concatenate([self.value((total + block) / count) for block in blocks])

    def gain(self, predictions: np.ndarray) -> float:
        """The metric of predictions (n, columns), times the sign."""
        return float(self.gains(self.view(predictions)[None])[0])


def make_scorer(metric: str, labels: np.ndarray, columns: int) -> Scorer:
    """The scorer of a metric, named as in `metrics.score`, for predictions (n, columns) of rows with these labels.

    Every metric of `METRICS` has a fast way; a function of the user's is called once per combination. Values are those
    of `metrics.score` but for rounding (1e-9). Raises ValueError for ROC AUC where all rows are of one class, and
    `view` for predictions that are not finite.
    """
    labels = np.asarray(labels)
    if metric == "roc_auc":
        view, value = _roc_auc(labels, columns)
    else:
        view, value = FAST[metric](labels) if metric in FAST else _by_calling(metric, labels)

    def checked(predictions: np.ndarray) -> np.ndarray:
        predictions = np.asarray(predictions, dtype=np.float64)
        bad = ~np.isfinite(predictions).all(axis=-1)
        if bad.any():
            row = int(np.argwhere(bad)[0][-1])
            raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {row} (from 0)")
        return np.ascontiguousarray(view(np.swapaxes(predictions, -1, -2)))

    return Scorer(checked, value, 1.0 if is_higher_better(metric) else -1.0)


def _by_calling(metric: str, labels: np.ndarray) -> tuple[Callable, Callable]:
    return as_they_are, lambda views: np.array([score(metric, labels, np.ascontiguousarray(view.T)) for view in views])


def _log_loss(labels: np.ndarray) -> tuple[Callable, Callable]:
    """Of probabilities, those of what is true and, of classes, their sum are enough."""
    tiny = np.finfo(np.float64).eps
    if labels.ndim == 2:
        truth = labels.T == 1
        return lambda p: np.where(truth, p, 1 - p), lambda views: -np.log(views.clip(tiny, 1 - tiny)).mean(axis=(1, 2))
    rows = np.arange(len(labels))

    def view(probs: np.ndarray) -> np.ndarray:
        return np.stack([probs[..., labels, rows], probs.sum(axis=-2)], axis=-2)

    return view, lambda views: -np.log((views[:, 0] / views[:, 1]).clip(tiny, 1 - tiny)).mean(axis=1)


def _roc_auc(labels: np.ndarray, columns: int) -> tuple[Callable, Callable]:
    """The share of pairs of a row with the label and one without, in which the first is ranked higher; ties are half.

    The view has a column's rows with the label before the others.
    """
    truth = labels.T == 1 if labels.ndim == 2 else labels == np.arange(columns)[:, None]
    counts = truth.sum(axis=1)
    curves = (counts > 0) & (counts < len(labels))
    if labels.ndim == 1 and columns == 2:
        curves[0] = False  # the other is its mirror
    columns = np.flatnonzero(curves)
    if not len(columns):
        raise ValueError(f"roc_auc is not defined: these {len(labels)} rows are all of one class")
    counts, order = counts[columns], np.argsort(~truth[columns], axis=1, kind="stable")

    def area(column: np.ndarray, count: int) -> float:
        having, others = np.sort(column[:count]), np.sort(column[count:])
        below = np.searchsorted(others, having)
        upto = below
        if (others[np.minimum(below, len(others) - 1)] == having).any():
            upto = np.searchsorted(others, having, "right")
        return (below.sum() + upto.sum()) / 2 / (count * len(others))

    def value(views: np.ndarray) -> np.ndarray:
        return np.array([np.mean([area(*both) for both in zip(view, counts, strict=True)]) for view in views])

    return lambda p: p[..., columns[:, None], order], value


def _of_errors(measure: Callable) -> Callable:
    """Builds what scores errors: measure(errors (c, targets, n), truth (targets, n)) -> (c,)."""

    def build(labels: np.ndarray) -> tuple[Callable, Callable]:
        truth = labels.reshape(len(labels), -1).T.astype(np.float64)
        return lambda values: values - truth, lambda views: measure(views, truth)

    return build


def _mean_square(errors: np.ndarray) -> np.ndarray:
    return np.einsum("ckn,ckn->ck", errors, errors) / errors.shape[2]


def _r2(errors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    left, spread = _mean_square(errors), truth.var(axis=1)
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), left == 0).mean(axis=1)


def _correlation(ranked: bool) -> Callable:
    def build(labels: np.ndarray) -> tuple[Callable, Callable]:
        truth = labels.reshape(len(labels), -1).T.astype(np.float64)
        varies = truth.max(axis=1) > truth.min(axis=1)
        truth = _ranks(truth) if ranked else truth
        truth = truth - truth.mean(axis=1, keepdims=True)
        length = np.sqrt((truth**2).sum(axis=1)) * varies

        def value(views: np.ndarray) -> np.ndarray:
            views = _ranks(views) if ranked else views
            apart = views - views.mean(axis=2, keepdims=True)
            lengths = np.sqrt(np.einsum("ckn,ckn->ck", apart, apart)) * length
            lengths[views.max(axis=2) == views.min(axis=2)] = 0  # a constant has correlation 0
            return ratio(np.einsum("ckn,kn->ck", apart, truth), lengths).clip(-1, 1).mean(axis=1)

        return as_they_are, value

    return build


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis; equal values share theirs, which is the slow case."""
    order = np.argsort(values, axis=-1)
    if not np.diff(np.take_along_axis(values, order, axis=-1), axis=-1).all():
        return rankdata(values, axis=-1)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, values.shape[-1] + 1).reshape((1,) * (values.ndim - 1) + (-1,)), -1)
    return ranks


FAST = {
    "accuracy": of_decisions(of_class_counts(accuracy), all_right),
    "f1_macro": of_decisions(of_class_counts(f1_of_classes), of_label_counts(f1_of_labels)),
    "f1_micro": of_decisions(of_class_counts(accuracy), of_label_counts(f1_of_cells)),
    "mcc": of_decisions(of_class_counts(mcc)),
    "qwk": of_decisions(kappa),
    "log_loss": _log_loss,
    "rmse": _of_errors(lambda errors, truth: np.sqrt(_mean_square(errors).mean(axis=1))),
    "mcrmse": _of_errors(lambda errors, truth: np.sqrt(_mean_square(errors)).mean(axis=1)),
    "mae": _of_errors(lambda errors, truth: np.abs(errors).mean(axis=(1, 2))),
    "pearson": _correlation(ranked=False),
    "spearman": _correlation(ranked=True),
    "r2": _of_errors(_r2),
}
