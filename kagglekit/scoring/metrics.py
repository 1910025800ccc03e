"""Metrics by name: which kinds of task each fits, whether higher is better, and its value."""

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn import metrics as sk

CLASSES = ("binary", "multiclass")  # kinds of task whose predictions are one probability per class, 1 in sum


@dataclass(frozen=True)
class Metric:
    """`function(labels, predictions) -> float`; where `decides`, it is given classes in place of probabilities."""

    function: Callable
    higher_is_better: bool
    kinds: tuple[str, ...]
    decides: bool = False


def _qwk(labels, decisions) -> float:
    every = np.arange(
        max(labels.max(), decisions.max()) + 1
    )  # else a class that is not there brings its neighbours closer
    return sk.cohen_kappa_score(labels, decisions, labels=every, weights="quadratic")


def _f1(average: str) -> Callable:
    def f1(labels, decisions) -> float:
        return sk.f1_score(labels, decisions, average=average, zero_division=0.0)

    return f1


def _roc_auc(labels, probs) -> float:
    """The mean over the columns that have both kinds of rows; a class that these rows lack has no curve."""
    if labels.ndim == 1:
        labels = np.eye(probs.shape[1], dtype=bool)[labels]
        labels, probs = (
            (labels[:, 1:], probs[:, 1:]) if probs.shape[1] == 2 else (labels, probs)
        )  # the other is its mirror
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


METRICS = {
    "accuracy": Metric(sk.accuracy_score, True, (*CLASSES, "multilabel", "ordinal"), decides=True),
    "f1_macro": Metric(_f1("macro"), True, (*CLASSES, "multilabel", "ordinal"), decides=True),
    "f1_micro": Metric(_f1("micro"), True, (*CLASSES, "multilabel", "ordinal"), decides=True),
    "mcc": Metric(sk.matthews_corrcoef, True, (*CLASSES, "ordinal"), decides=True),
    "qwk": Metric(_qwk, True, ("multiclass", "ordinal"), decides=True),
    "roc_auc": Metric(_roc_auc, True, (*CLASSES, "multilabel")),
    "log_loss": Metric(_log_loss, False, (*CLASSES, "multilabel")),
    "rmse": Metric(_rmse, False, ("regression",)),
    "mcrmse": Metric(sk.root_mean_squared_error, False, ("regression",)),
    "mae": Metric(sk.mean_absolute_error, False, ("regression",)),
    "pearson": Metric(_correlation(stats.pearsonr), True, ("regression",)),
    "spearman": Metric(_correlation(stats.spearmanr), True, ("regression",)),
    "r2": Metric(sk.r2_score, True, ("regression",)),
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
    labels, predictions = _checked(labels, predictions)
    measure = _find(metric)
    if isinstance(measure, Metric):
        if measure.decides:
            predictions = decide(labels, predictions)
        elif measure.kinds == ("regression",):
            labels, predictions = labels.reshape(len(labels), -1).astype(np.float64), predictions.astype(np.float64)
    value = _value(measure, labels, predictions)
    if not np.isfinite(value):
        raise ValueError(f"the metric {metric} is {value} on these {len(labels)} rows, and cannot be compared")
    return value


def is_higher_better(metric: str) -> bool:
    """Whether higher is better. A function says so with an attribute `higher_is_better`; without one it is True."""
    return bool(getattr(_find(metric), "higher_is_better", True))


def check_metric(metric: str, kind: str) -> None:
    """Raise ValueError for a metric that is not known, cannot be imported, or does not fit the kind of task."""
    measure = _find(metric)
    if isinstance(measure, Metric) and kind not in measure.kinds:
        fitting = ", ".join(name for name, other in METRICS.items() if kind in other.kinds)
        raise ValueError(
            f"metric={metric!r} does not fit kind={kind!r}: it is for {', '.join(measure.kinds)}. "
            f"Choose one of {fitting}, or another kind"
        )


def _find(metric: str) -> Metric | Callable:
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
    return function


def _checked(labels, predictions) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    predictions = predictions.reshape(len(predictions), -1)
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(predictions)} predictions")
    bad = ~np.isfinite(predictions).all(axis=1)
    if bad.any():
        raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {bad.argmax()} (from 0)")
    return labels, predictions


def decide(labels, predictions) -> np.ndarray:
    """What metrics that decide see of predictions: classes, int (n,), or int (n, k) for several labels."""
    if labels.ndim == 2:
        return (predictions >= 0.5).astype(np.int64)
    if predictions.shape[1] == 1:
        return np.clip(np.rint(predictions[:, 0]), 0, labels.max()).astype(np.int64)
    return predictions.argmax(axis=1)


def _value(measure: Metric | Callable, labels, predictions) -> float:
    function = measure.function if isinstance(measure, Metric) else measure
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(constant|undefined|single label|one label|invalid value)")
        value = float(function(labels, predictions))
    # Kappa of rows that are all of one class, and named so, is 0 / 0; MCC calls that 0.
    return 0.0 if np.isnan(value) and measure is METRICS["qwk"] else value


def is_better(score: float, best: float, higher: bool) -> bool:
    """Whether `score` beats `best`; nan beats nothing, and is beaten by every number."""
    return not math.isnan(score) and (math.isnan(best) or (score > best if higher else score < best))
