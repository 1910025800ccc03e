"""Scores: a metric by its name, of one prediction or of thousands of blends at once.

Names are those of catalogue.py, `map@3` at a rank, `roc_auc_by:COLUMN` for the mean over the values of a column, or
`package.module:function`.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kagglekit.scoring import fast_forms
from kagglekit.scoring.catalogue import AT_K, CLASSES, METRICS, OVER, Metric
from kagglekit.scoring.grouped import mean_of_groups, members_of, rows_by_group
from kagglekit.scoring.names import split_at, split_by, suggest

__all__ = ["CLASSES", "METRICS"]  # beside what is defined here

BLOCK = 2**17  # numbers worked on at a time: one megabyte stays in the cache of a core


def score(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """The value of a metric, named as in `METRICS` or "package.module:function".

    labels: int (n,), a class index each, or float (n, k), as from `encode_labels`. predictions: (n, columns), as in a
    predictions table. Metrics of classes see the likeliest class; for several labels 1 from 0.5 on; for ordinal values
    the nearest class, from 0 to the highest in `labels`. With several labels, accuracy wants all of a row right, RMSE
    and MSE are over all cells, and ROC AUC, average precision, log loss, Brier, MCRMSE, MAE, MAPE, correlations and R2
    are means over the columns. A constant has correlation 0. A function is called with labels and predictions as they
    are, or with labels and decisions where its attribute `wants_labels` is True. Metrics by group need `LabelsBy`, as
    from `encode_labels`; groups on which the metric is not defined are left out of the mean. Raises ValueError for
    unequal lengths, values that are not finite, ROC AUC of a single class, and a metric that is not finite itself.
    """
    measure, labels, predictions = find_metric(metric), np.asanyarray(labels), np.asarray(predictions)
    predictions = predictions.reshape(len(predictions), -1)
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(predictions)} predictions")
    bad = ~np.isfinite(predictions).all(axis=1)
    if bad.any():
        raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {bad.argmax()} (from 0)")
    truth, given = prepare(measure, labels, predictions)
    if measure.over:
        value = float(measure.over(truth, given, np.ones((1, len(truth))), members_of(labels, metric))[0])
    elif measure.by:
        parts = rows_by_group(labels, metric)
        value = float(mean_of_groups([value_of(measure, truth[rows], given[rows], False) for rows in parts]))
        if np.isnan(value):
            raise ValueError(f"{metric} is not defined on any of the {len(parts)} groups of these {len(labels)} rows")
    else:
        value = value_of(measure, truth, given)
    if not np.isfinite(value):
        raise ValueError(f"the metric {metric} is {value} on these {len(labels)} rows, and cannot be compared")
    return value


def score_if_defined(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float | None:
    """`score`, or None where the metric is not defined on these rows, such as ROC AUC on a fold of a single class."""
    try:
        return float(score(metric, labels, predictions))
    except ValueError:
        return None


def value_of(measure: Metric, truth: np.ndarray, given: np.ndarray, strict: bool = True) -> float:
    """The function of a metric on what `prepare` gives; NaN for a ValueError unless `strict`."""
    with warnings.catch_warnings():
        words = "constant|undefined|single label|one label|invalid value|classes not in y_true"
        warnings.filterwarnings("ignore", message=f".*({words})")
        try:
            return float(measure.function(truth, given))
        except ValueError:
            if strict:
                raise
            return np.nan


def prepare(measure: Metric, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the function of a metric is called with: decisions where it decides, float64 columns for values."""
    labels = np.asarray(labels)
    if measure.decides:
        return labels, decide(labels, predictions)
    if measure.kinds == ("regression",):
        return labels.reshape(len(labels), -1).astype(np.float64), predictions.astype(np.float64)
    return labels, predictions


def decide(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The usual decision from predictions (n, columns): classes, int (n,), or int (n, k) for several labels."""
    if labels.ndim == 2:
        return (predictions >= 0.5).astype(np.int64)
    if predictions.shape[1] == 1:
        return np.clip(np.rint(predictions[:, 0]), 0, labels.max()).astype(np.int64)
    return predictions.argmax(axis=1)


def find_metric(metric: str) -> Metric:
    """The entry of a metric. A function of the user says its direction with an attribute `higher_is_better` (without
    one: True), and with `wants_labels` whether it is called with decisions (True) or with probabilities or values
    (False); without one it gets what is predicted, and thresholds are tried.

    Raises ValueError for a name that is not known, or that cannot be imported.
    """
    if metric in METRICS:
        return METRICS[metric]
    (name, k), (base, column) = split_at(metric), split_by(metric)
    if name in AT_K and k:
        return AT_K[name](k)
    if column and is_catalogued(base):
        return replace(OVER.get(base) or find_metric(base), by=column)
    module, _, name = metric.partition(":")
    if not name:
        raise ValueError(suggest(metric, METRICS, AT_K))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        if column:
            raise ValueError(suggest(metric, METRICS, AT_K)) from error
        raise ValueError(f"metric={metric!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ValueError(f"metric={metric!r} is {type(function).__name__}, not a function of (labels, predictions)")
    higher, wants = getattr(function, "higher_is_better", True), getattr(function, "wants_labels", None)
    return Metric(function, bool(higher), decides=None if wants is None else bool(wants))


def is_catalogued(metric: str) -> bool:
    """Whether a name is one of the catalogue, with a rank where it needs one, and without a column."""
    name, k = split_at(metric)
    return metric in METRICS or metric in OVER or (name in AT_K and k > 0)


def metric_column(metric: str) -> str | None:
    """The column whose values a metric by group needs for each row: subreddit, of roc_auc_by:subreddit; else None."""
    base, column = split_by(metric)
    return column if column and is_catalogued(base) else None


def is_higher_better(metric: str) -> bool:
    """Whether higher is better. A function says so with an attribute `higher_is_better`; without one it is True."""
    return find_metric(metric).higher_is_better


def is_better(score: float, best: float, higher: bool) -> bool:
    """Whether `score` beats `best`; nan beats nothing, and is beaten by every number."""
    return not math.isnan(score) and (math.isnan(best) or (score > best if higher else score < best))


@dataclass(frozen=True)
class Scorer:
    """A metric of thousands of combinations of the same predictions; see fast_forms.py for `view` and `value`.

    sign: 1 where higher is better, otherwise -1.
    """

    view: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]
    sign: float

    def gains(self, views: np.ndarray, total: np.ndarray | float = 0.0, count: float = 1.0) -> np.ndarray:
        """The metric of (total + view) / count for each of the views (c, k, m), times the sign: higher is better."""
        size = max(1, BLOCK // max(1, views[0].size))
        blocks = [views[i : i + size] for i in range(0, len(views), size)]
        return self.sign * np.concatenate([self.value(_combine(total, block, count)) for block in blocks])

    def gain(self, predictions: np.ndarray) -> float:
        """The metric of predictions (n, columns), times the sign."""
        return float(self.gains(self.view(predictions)[None])[0])


def _combine(total: np.ndarray | float, block: np.ndarray, count: float) -> np.ndarray:
    made = total + block
    return np.divide(made, count, out=made)


def make_scorer(metric: str, labels: np.ndarray, columns: int) -> Scorer:
    """The scorer of a metric, named as in `metrics.score`, for predictions (n, columns) of rows with these labels.

    `view` takes predictions (..., n, columns). A metric without a fast form, or a function "package.module:function",
    is called once per combination. Scores are those of `metrics.score` but for rounding (1e-9). Raises ValueError for
    ROC AUC where all rows are of one class, and `view` for predictions that are not finite.
    """
    labels, measure = np.asanyarray(labels), find_metric(metric)
    view, value = _form(measure, labels, columns) or (fast_forms.whole, None)
    if value is None:

        def value(made: np.ndarray) -> np.ndarray:
            return np.array([score(metric, labels, np.ascontiguousarray(each.T)) for each in made])

    def checked(predictions: np.ndarray) -> np.ndarray:
        predictions = np.asarray(predictions, dtype=np.float64)
        bad = ~np.isfinite(predictions).all(axis=-1)
        if bad.any():
            row = int(np.argwhere(bad)[0][-1])
            raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {row} (from 0)")
        return np.ascontiguousarray(view(np.swapaxes(predictions, -1, -2)))

    return Scorer(checked, value, 1.0 if measure.higher_is_better else -1.0)


def _form(measure: Metric, labels: np.ndarray, columns: int) -> tuple[Callable, Callable] | None:
    """The fast form of a metric for rows with these labels; None where it has none."""
    if measure.by:
        return None if measure.over else _form_by_group(measure, labels, columns)
    if measure.from_counts:
        return fast_forms.decision_views(measure.from_counts, np.asarray(labels))
    return measure.views and measure.views(np.asarray(labels), columns)


def _form_by_group(measure: Metric, labels: np.ndarray, columns: int) -> tuple[Callable, Callable] | None:
    """The mean over the groups of their own forms. Decisions on values have none: they need the labels of all rows."""
    if not (measure.from_counts or measure.views) or (measure.decides and columns == 1):
        return None
    alone, forms = replace(measure, by=None), []
    for rows in rows_by_group(labels, measure.by):
        try:
            forms.append((rows, *_form(alone, np.asarray(labels)[rows], columns)))
        except ValueError:  # not defined on this group
            continue
    if not forms:
        raise ValueError(
            f"the metric is not defined on any of the groups of {measure.by!r} of these {len(labels)} rows"
        )

    def value(views: np.ndarray) -> np.ndarray:
        return np.mean([value(np.ascontiguousarray(view(views[..., rows]))) for rows, view, value in forms], axis=0)

    return fast_forms.whole, value
