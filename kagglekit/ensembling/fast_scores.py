"""The score of thousands of combinations of the same members: what `metrics.score` gives, many at once, and faster."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from kagglekit.decision_scores import accuracy, f1_of_classes, f1_of_labels, mcc, ratio
from kagglekit.ensembling.fast_decisions import (
    all_right,
    as_they_are,
    f1_of_cells,
    kappa,
    of_class_counts,
    of_decisions,
    of_label_counts,
)
from kagglekit.metrics import is_higher_better, score

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
