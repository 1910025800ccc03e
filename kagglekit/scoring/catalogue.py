"""The catalogue of metrics: the kinds of task each fits, whether higher is better, its function, and its fast forms.

An entry in `METRICS` is all that a new metric needs: blends, thresholds and the bootstrap read its forms from there,
and call the function where it has none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kagglekit.scoring import CLASSES, counts, fast_forms, functions
from kagglekit.scoring.functions import sk


@dataclass(frozen=True)
class Metric:
    """A metric: `function(labels, predictions) -> float`, and forms that score many predictions at once.

    kinds: of task that it fits; empty: not known (a function of the user). decides: the function sees classes and not
    probabilities; None: not known. ordered: the distance of classes counts. by: the column over whose values it is a
    mean, see grouped.py. The forms are optional, and without them everything is slower and as right. from_counts: of a
    metric that decides, its value from `counts.Counts`; it serves bootstrap, blends and thresholds. sums: for the
    bootstrap of others, see `counts.mean_sums`; weighted: of rows with weights, likewise. views: for blends of others,
    see fast_forms.py. over: of groups that share rows, in place of all these: over(labels, predictions, weights
    (samples, rows), members (rows, groups) bool) -> (samples,); the function is of one group.
    """

    function: Callable
    higher_is_better: bool
    kinds: tuple[str, ...] = ()
    decides: bool | None = False
    ordered: bool = False
    by: str | None = None
    from_counts: Callable[[counts.Counts], np.ndarray] | None = None
    sums: Callable | None = None
    weighted: Callable | None = None
    views: Callable | None = None
    over: Callable | None = None


def _decision(function: Callable, kinds: tuple[str, ...], from_counts: Callable, ordered: bool = False) -> Metric:
    return Metric(function, True, kinds, decides=True, ordered=ordered, from_counts=from_counts)


def _values(function: Callable, higher: bool, measure: Callable, sums: Callable) -> Metric:
    return Metric(function, higher, _NUMBERS, sums=sums, views=fast_forms.error_views(measure))


def _rows(function: Callable, higher: bool, kinds: tuple[str, ...], decides: bool = False, views=None) -> Metric:
    """The mean over the rows of function(labels, predictions) (n,)."""

    def mean(labels: np.ndarray, predictions: np.ndarray) -> float:
        return function(labels, predictions).mean()

    return Metric(mean, higher, kinds, decides, sums=counts.mean_sums(function), views=views)


def _logs(values: np.ndarray) -> np.ndarray:
    return np.log1p(values.clip(0))


_ANY = (*CLASSES, "multilabel", "ordinal")
_CHANCES = (*CLASSES, "multilabel")
_NUMBERS = ("regression",)
_SQUARES = counts.mean_sums(lambda labels, values: ((labels - values) ** 2).mean(axis=1))
_ROOTS = counts.mean_sums(lambda labels, values: ((labels - values) ** 2).mean(axis=1), np.sqrt)
_SIZES = counts.mean_sums(lambda labels, values: np.abs(labels - values).mean(axis=1))
_SHARES = counts.mean_sums(lambda labels, values: (np.abs(labels - values) / fast_forms.size_of(labels)).mean(axis=1))

METRICS = {
    "accuracy": _decision(sk.accuracy_score, _ANY, counts.accuracy),
    "balanced_accuracy": _decision(sk.balanced_accuracy_score, (*CLASSES, "ordinal"), counts.balanced_accuracy),
    "f1": _decision(functions.f_second(1), ("binary",), counts.f_second(1)),
    "f0.5": _decision(functions.f_second(0.5), ("binary",), counts.f_second(0.5)),
    "f2": _decision(functions.f_second(2), ("binary",), counts.f_second(2)),
    "f1_macro": _decision(functions.f1("macro"), _ANY, counts.f1_macro),
    "f1_micro": _decision(functions.f1("micro"), _ANY, counts.f1_micro),
    "f1_weighted": _decision(functions.f1("weighted"), _ANY, counts.f1_weighted),
    "f1_samples": _rows(functions.f1_rows, True, ("multilabel",), decides=True),
    "jaccard_samples": _rows(functions.jaccard_rows, True, ("multilabel",), decides=True),
    "hamming": Metric(sk.hamming_loss, False, ("multilabel",), decides=True, from_counts=counts.hamming),
    "mcc": _decision(sk.matthews_corrcoef, (*CLASSES, "ordinal"), counts.mcc),
    "qwk": _decision(functions.kappa("quadratic"), ("multiclass", "ordinal"), counts.qwk, ordered=True),
    "kappa_linear": _decision(functions.kappa("linear"), ("multiclass", "ordinal"), counts.kappa_linear, ordered=True),
    "cohen_kappa": _decision(functions.kappa(None), (*CLASSES, "ordinal"), counts.cohen_kappa),
    "roc_auc": Metric(functions.roc_auc, True, _CHANCES, weighted=counts.roc_auc_of_weights, views=fast_forms.roc_auc),
    "average_precision": Metric(
        functions.average_precision, True, _CHANCES, weighted=counts.average_precision_of_weights
    ),
    "log_loss": Metric(
        functions.log_loss, False, _CHANCES, sums=counts.mean_sums(counts.log_losses), views=fast_forms.log_loss
    ),
    "brier": _rows(functions.brier_rows, False, _CHANCES, views=fast_forms.brier),
    "rmse": _values(
        functions.rmse, False, lambda errors, _: np.sqrt(fast_forms.mean_square(errors).mean(axis=1)), _ROOTS
    ),
    "mcrmse": _values(
        sk.root_mean_squared_error,
        False,
        lambda errors, _: np.sqrt(fast_forms.mean_square(errors)).mean(axis=1),
        counts.mcrmse_sums,
    ),
    "rmsle": _values(
        functions.rmsle,
        False,
        lambda errors, truth: np.sqrt(fast_forms.mean_square(_logs(truth + errors) - _logs(truth))).mean(axis=1),
        lambda labels, values: counts.mcrmse_sums(_logs(labels), _logs(values)),
    ),
    "mse": _values(
        sk.mean_squared_error, False, lambda errors, _: fast_forms.mean_square(errors).mean(axis=1), _SQUARES
    ),
    "mae": _values(sk.mean_absolute_error, False, lambda errors, _: np.abs(errors).mean(axis=(1, 2)), _SIZES),
    "mape": _values(
        sk.mean_absolute_percentage_error,
        False,
        lambda errors, truth: (np.abs(errors) / fast_forms.size_of(truth)).mean(axis=(1, 2)),
        _SHARES,
    ),
    "pearson": Metric(
        fast_forms.alone(fast_forms.pearson), True, _NUMBERS, sums=counts.pearson_sums, views=fast_forms.pearson
    ),
    "spearman": Metric(fast_forms.alone(fast_forms.spearman), True, _NUMBERS, views=fast_forms.spearman),
    "r2": _values(sk.r2_score, True, fast_forms.r2, counts.r2_sums),
}  # name -> entry

OVER = {
    "bias_auc": Metric(functions.roc_auc, True, ("binary",), over=counts.bias_auc_of_weights),
}  # name -> the entry over groups that share rows; written bias_auc_by:male,female

AT_K = {
    "map": lambda k: _rows(functions.average_precision_rows(k), True, ("multiclass", "multilabel")),
    "ndcg": lambda k: _rows(functions.ndcg_rows(k), True, ("multiclass", "multilabel")),
    "top_k_accuracy": lambda k: _rows(functions.top_rows(k), True, ("multiclass",)),
}  # name -> the entry at k; written map@3
