"""Metrics by name: the kinds of task each fits, whether higher is better, its function, and its fast forms.

An entry in `METRICS` is all that a new metric needs: blends, thresholds and the bootstrap read its forms from there,
and call the function where it has none.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from kagglekit.scoring import counts, fast_forms

BLOCK = 2**17  # numbers worked on at a time: one megabyte stays in the cache of a core
CLASSES = ("binary", "multiclass")  # kinds of task whose predictions are one probability per class, 1 in sum


@dataclass(frozen=True)
class Metric:
    """A metric: `function(labels, predictions) -> float`, and forms that score many predictions at once.

    kinds: of task that it fits; empty: not known (a function of the user). decides: the function sees classes and not
    probabilities; None: not known. ordered: the distance of classes counts. The forms are optional, and without them
    everything is slower and as right. from_counts: of a metric that decides, its value from `counts.Counts`; it serves
    bootstrap, blends and thresholds. sums: for the bootstrap of others, see `counts.mean_sums`; weighted: of rows with
    weights, likewise. views: for blends of others, see fast_forms.py.
    """

    function: Callable
    higher_is_better: bool
    kinds: tuple[str, ...] = ()
    decides: bool | None = False
    ordered: bool = False
    from_counts: Callable[[counts.Counts], np.ndarray] | None = None
    sums: Callable | None = None
    weighted: Callable | None = None
    views: Callable | None = None


def _qwk(labels, decisions) -> float:
    every = np.arange(max(labels.max(), decisions.max()) + 1)  # else a missing class brings its neighbours closer
    value = sk.cohen_kappa_score(labels, decisions, labels=every, weights="quadratic")
    return 0.0 if np.isnan(value) else value  # rows all of one class, and named so, are 0 / 0; MCC calls that 0


def _f1(average: str) -> Callable:
    return lambda labels, decisions: sk.f1_score(labels, decisions, average=average, zero_division=0.0)


def _roc_auc(labels, probs) -> float:
    """The mean over the columns that have both kinds of rows; a class that these rows lack has no curve."""
    if labels.ndim == 1:
        labels = np.eye(probs.shape[1], dtype=bool)[labels]
        if probs.shape[1] == 2:  # the first column is the mirror of the second
            labels, probs = labels[:, 1:], probs[:, 1:]
    both = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    if not both:
        raise ValueError(f"roc_auc is not defined: these {len(labels)} rows are all of one class")
    return np.mean([sk.roc_auc_score(labels[:, k], probs[:, k]) for k in both])


def _log_loss(labels, probs) -> float:
    probs = probs.astype(np.float64)
    if labels.ndim == 1:
        probs /= probs.sum(axis=1, keepdims=True)
        return sk.log_loss(labels, probs, labels=np.arange(probs.shape[1]))
    return np.mean([sk.log_loss(labels[:, k], probs[:, k], labels=[0, 1]) for k in range(labels.shape[1])])


def _correlation(function: Callable) -> Callable:
    def correlation(labels, values) -> float:
        return np.mean([np.nan_to_num(function(labels[:, k], values[:, k])[0]) for k in range(labels.shape[1])])

    return correlation


def _rmse(labels, values) -> float:
    return float(np.sqrt(np.mean((labels - values) ** 2)))


def _decision(function: Callable, kinds: tuple[str, ...], from_counts: Callable, ordered: bool = False) -> Metric:
    return Metric(function, True, kinds, decides=True, ordered=ordered, from_counts=from_counts)


def _values(function: Callable, higher: bool, measure: Callable, sums: Callable) -> Metric:
    return Metric(function, higher, ("regression",), sums=sums, views=fast_forms.error_views(measure))


_SQUARES = counts.mean_sums(lambda labels, values: ((labels - values) ** 2).mean(axis=1), np.sqrt)
_SIZES = counts.mean_sums(lambda labels, values: np.abs(labels - values).mean(axis=1))

METRICS = {
    "accuracy": _decision(sk.accuracy_score, (*CLASSES, "multilabel", "ordinal"), counts.accuracy),
    "f1_macro": _decision(_f1("macro"), (*CLASSES, "multilabel", "ordinal"), counts.f1_macro),
    "f1_micro": _decision(_f1("micro"), (*CLASSES, "multilabel", "ordinal"), counts.f1_micro),
    "balanced_accuracy": _decision(sk.balanced_accuracy_score, CLASSES, counts.balanced_accuracy),
    "mcc": _decision(sk.matthews_corrcoef, (*CLASSES, "ordinal"), counts.mcc),
    "qwk": _decision(_qwk, ("multiclass", "ordinal"), counts.qwk, ordered=True),
    "roc_auc": Metric(
        _roc_auc, True, (*CLASSES, "multilabel"), weighted=counts.roc_auc_of_weights, views=fast_forms.roc_auc
    ),
    "log_loss": Metric(
        _log_loss,
        False,
        (*CLASSES, "multilabel"),
        sums=counts.mean_sums(counts.log_losses),
        views=fast_forms.log_loss,
    ),
    "rmse": _values(_rmse, False, lambda errors, _: np.sqrt(fast_forms.mean_square(errors).mean(axis=1)), _SQUARES),
    "mcrmse": _values(
        sk.root_mean_squared_error,
        False,
        lambda errors, _: np.sqrt(fast_forms.mean_square(errors)).mean(axis=1),
        counts.mcrmse_sums,
    ),
    "mae": _values(sk.mean_absolute_error, False, lambda errors, _: np.abs(errors).mean(axis=(1, 2)), _SIZES),
    "pearson": Metric(
        _correlation(stats.pearsonr),
        True,
        ("regression",),
        sums=counts.pearson_sums,
        views=fast_forms.correlation(ranked=False),
    ),
    "spearman": Metric(_correlation(stats.spearmanr), True, ("regression",), views=fast_forms.correlation(ranked=True)),
    "r2": _values(sk.r2_score, True, fast_forms.r2, counts.r2_sums),
}


def score(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """The value of a metric, named as in `METRICS` or "package.module:function".

    labels: int (n,), a class index each, or float (n, k), as from `encode_labels`. predictions: (n, columns), as in a
    predictions table. Metrics of classes see the likeliest class; for several labels 1 from 0.5 on; for ordinal values
    the nearest class, from 0 to the highest in `labels`. With several labels, accuracy wants all of a row right, RMSE
    is over all cells, and ROC AUC, log loss, MCRMSE, MAE, correlations and R2 are means over the columns. A constant
    has correlation 0. A function is called with labels and predictions as they are. Raises ValueError for unequal
    lengths, values that are not finite, ROC AUC of a single class, and a metric that is not finite itself.
    """
    measure, labels, predictions = find_metric(metric), np.asarray(labels), np.asarray(predictions)
    predictions = predictions.reshape(len(predictions), -1)
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(predictions)} predictions")
    bad = ~np.isfinite(predictions).all(axis=1)
    if bad.any():
        raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {bad.argmax()} (from 0)")
    with warnings.catch_warnings():
        words = "constant|undefined|single label|one label|invalid value|classes not in y_true"
        warnings.filterwarnings("ignore", message=f".*({words})")
        value = float(measure.function(*prepare(measure, labels, predictions)))
    if not np.isfinite(value):
        raise ValueError(f"the metric {metric} is {value} on these {len(labels)} rows, and cannot be compared")
    return value


def prepare(measure: Metric, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the function of a metric is called with: decisions where it decides, float64 columns for values."""
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
    """The entry of a metric. A function of the user says its direction with an attribute `higher_is_better`.

    Raises ValueError for a name that is not known, or that cannot be imported.
    """
    if metric in METRICS:
        return METRICS[metric]
    module, colon, name = metric.partition(":")
    if not colon:
        raise ValueError(
            f"metric={metric!r} is not known: use one of {', '.join(METRICS)}, or 'package.module:function'"
        )
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"metric={metric!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ValueError(f"metric={metric!r} is {type(function).__name__}, not a function of (labels, predictions)")
    return Metric(function, bool(getattr(function, "higher_is_better", True)), decides=None)


def check_metric(metric: str, kind: str) -> None:
    """Raise ValueError for a metric that is not known, cannot be imported, or does not fit the kind of task."""
    measure = find_metric(metric)
    if measure.kinds and kind not in measure.kinds:
        fitting = ", ".join(name for name, other in METRICS.items() if kind in other.kinds)
        raise ValueError(
            f"metric={metric!r} does not fit kind={kind!r}: it is for {', '.join(measure.kinds)}. "
            f"Choose one of {fitting}, or another kind"
        )


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
        return self.sign * np.concatenate([self.value((total + block) / count) for block in blocks])

    def gain(self, predictions: np.ndarray) -> float:
        """The metric of predictions (n, columns), times the sign."""
        return float(self.gains(self.view(predictions)[None])[0])


def make_scorer(metric: str, labels: np.ndarray, columns: int) -> Scorer:
    """The scorer of a metric, named as in `metrics.score`, for predictions (n, columns) of rows with these labels.

    `view` takes predictions (..., n, columns). A metric without a fast form, or a function "package.module:function",
    is called once per combination. Scores are those of `metrics.score` but for rounding (1e-9). Raises ValueError for
    ROC AUC where all rows are of one class, and `view` for predictions that are not finite.
    """
    labels, measure = np.asarray(labels), find_metric(metric)
    if measure.from_counts:
        view, value = fast_forms.decision_views(measure.from_counts, labels)
    elif measure.views:
        view, value = measure.views(labels, columns)
    else:
        view = fast_forms.whole

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
