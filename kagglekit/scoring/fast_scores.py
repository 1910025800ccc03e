"""Scores of thousands of combinations of the same predictions, as `metrics.score` gives them, many at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kagglekit.scoring import views as forms
from kagglekit.scoring.metrics import find_metric, score

BLOCK = 2**17  # numbers worked on at a time: one megabyte stays in the cache of a core


@dataclass(frozen=True)
class Scorer:
    """A metric on the rows of some labels, for combinations of predictions; see views.py for `view` and `value`.

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
        view, value = forms.decision_views(measure.from_counts, labels)
    elif measure.views:
        view, value = measure.views(labels, columns)
    else:
        view, value = forms.whole, lambda views: np.array([score(metric, labels, _rows(view)) for view in views])

    def checked(predictions: np.ndarray) -> np.ndarray:
        predictions = np.asarray(predictions, dtype=np.float64)
        bad = ~np.isfinite(predictions).all(axis=-1)
        if bad.any():
            row = int(np.argwhere(bad)[0][-1])
            raise ValueError(f"{bad.sum()} predictions are not finite numbers, the first in row {row} (from 0)")
        return np.ascontiguousarray(view(np.swapaxes(predictions, -1, -2)))

    return Scorer(checked, value, 1.0 if measure.higher_is_better else -1.0)


def _rows(view: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(view.T)  # (n, columns)
