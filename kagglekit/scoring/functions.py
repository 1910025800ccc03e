"""The functions of the metrics as scikit-learn, or the hosts of competitions, define them.

Each takes labels and predictions as `metrics.prepare` gives them. What scikit-learn calls undefined, and sets to 0 with
a warning, is 0 here: the F1 of a class that is neither true nor chosen, a kappa of 0 / 0. Functions of rows give a
value for each row, whose mean is the metric.
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np


class _Later:
    """`sklearn.metrics`, imported when one of its functions is called: who only reads a task need not wait for it."""

    def __getattr__(self, name: str) -> Callable:
        return lambda *args, **options: getattr(import_module("sklearn.metrics"), name)(*args, **options)


sk = _Later()


def kappa(weights: str | None) -> Callable:
    """Cohen's kappa, weighted or not."""

    def function(labels: np.ndarray, decisions: np.ndarray) -> float:
        every = np.arange(max(labels.max(), decisions.max()) + 1)  # else a missing class brings its neighbours closer
        value = sk.cohen_kappa_score(labels, decisions, labels=every, weights=weights)
        return 0.0 if np.isnan(value) else value  # rows all of one class, and named so, are 0 / 0; MCC calls that 0

    return function


def f1(average: str) -> Callable:
    """F1 over the classes or labels: macro, micro, weighted."""
    return lambda labels, decisions: sk.f1_score(labels, decisions, average=average, zero_division=0.0)


def f_second(beta: float) -> Callable:
    """F beta of the second of two classes: 0.5 counts precision more, 2 recall."""
    return lambda labels, decisions: sk.fbeta_score(labels == 1, decisions == 1, beta=beta, zero_division=0.0)


def one_hot(labels: np.ndarray, columns: int) -> np.ndarray:
    """Labels as bool (n, columns): classes a column each; several labels as they are; of two classes the second."""
    if labels.ndim == 2:
        return labels == 1
    return (labels == 1)[:, None] if columns == 2 else labels[:, None] == np.arange(columns)


def roc_auc(labels: np.ndarray, probs: np.ndarray) -> float:
    """The mean over the columns that have both kinds of rows; a class that these rows lack has no curve."""
    truth = one_hot(labels, probs.shape[1])
    probs = probs[:, -truth.shape[1] :]  # of two classes the first column is the mirror of the second
    both = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(labels)]
    if not both:
        raise ValueError(f"roc_auc is not defined: these {len(labels)} rows are all of one class")
    return np.mean([sk.roc_auc_score(truth[:, k], probs[:, k]) for k in both])


def average_precision(labels: np.ndarray, probs: np.ndarray) -> float:
    """The area under precision over recall, as steps; the mean over the columns, 0 for one that no row has."""
    truth = one_hot(labels, probs.shape[1])
    each = zip(truth.T, probs[:, -truth.shape[1] :].T, strict=True)
    return np.mean([sk.average_precision_score(true, column) if true.any() else 0.0 for true, column in each])


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Of several labels the mean over the columns."""
    probs = probs.astype(np.float64)
    if labels.ndim == 1:
        probs /= probs.sum(axis=1, keepdims=True)
        return sk.log_loss(labels, probs, labels=np.arange(probs.shape[1]))
    return np.mean([sk.log_loss(labels[:, k], probs[:, k], labels=[0, 1]) for k in range(labels.shape[1])])


def rmse(labels: np.ndarray, values: np.ndarray) -> float:
    """Over all cells."""
    return float(np.sqrt(np.mean((labels - values) ** 2)))


def rmsle(labels: np.ndarray, values: np.ndarray) -> float:
    """The root mean squared error of log(1 + value), the mean over the targets; a value below 0 counts as 0. Raises
    ValueError for a label below 0."""
    if labels.min() < 0:
        raise ValueError(f"rmsle is of labels from 0 on, and the smallest is {labels.min():g}: use rmse or mae")
    return sk.root_mean_squared_log_error(labels, values.clip(0))


def brier_rows(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The squared error of each row's probabilities: of the second of two classes; over three or more classes summed
    (from 0 to 2, Brier, 1950); of several labels the mean."""
    truth = one_hot(labels, probs.shape[1])
    squares = (probs[:, -truth.shape[1] :].astype(np.float64) - truth) ** 2
    return squares.mean(axis=1) if labels.ndim == 2 else squares.sum(axis=1)


def f1_rows(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """F1 of each row's labels; 0 where none is true or chosen."""
    both = (labels == 1).sum(axis=1) + decisions.sum(axis=1)
    return 2 * ((labels == 1) & (decisions == 1)).sum(axis=1) / np.maximum(both, 1)


def jaccard_rows(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """How many of each row's labels, true or chosen, are both; 0 where there is none."""
    true, chosen = labels == 1, decisions == 1
    return (true & chosen).sum(axis=1) / np.maximum((true | chosen).sum(axis=1), 1)


def average_precision_rows(k: int) -> Callable:
    """Average precision at k of each row, as Kaggle computes MAP@k: of equal probabilities the first column leads.

    With one true class: 1 / its rank, or 0 beyond rank k. With several labels: the mean precision at the ranks of those
    found, over as many as could be; 0 for a row without labels.
    """

    def rows(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
        top = np.argsort(-probs, axis=1, kind="stable")[:, :k]
        if labels.ndim == 1:
            return ((top == labels[:, None]) / np.arange(1.0, top.shape[1] + 1)).sum(axis=1)
        hits = np.take_along_axis(labels == 1, top, axis=1)
        precision = hits.cumsum(axis=1) / np.arange(1.0, top.shape[1] + 1)
        return (precision * hits).sum(axis=1) / np.clip((labels == 1).sum(axis=1), 1, k)

    return rows


def ndcg_rows(k: int) -> Callable:
    """Normalised discounted cumulative gain at k of each row (Järvelin and Kekäläinen, 2002): gains 0 and 1.

    Equal probabilities share their places (McSherry and Najork, 2008); 0 for a row without labels.
    """

    def rows(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
        truth, columns = labels == 1, probs.shape[1]
        if labels.ndim == 1:
            truth = labels[:, None] == np.arange(columns)
        discounts = np.where(np.arange(columns) < k, 1 / np.log2(np.arange(columns) + 2.0), 0)
        sums = np.append(0, discounts.cumsum())
        row, column = np.nonzero(truth)
        own = probs[row, column][:, None]
        above, upto = (probs[row] > own).sum(axis=1), (probs[row] >= own).sum(axis=1)
        gained = np.bincount(row, (sums[upto] - sums[above]) / (upto - above), len(labels))
        return gained / np.maximum(sums[truth.sum(axis=1)], sums[1])

    return rows


def top_rows(k: int) -> Callable:
    """Whether the true class is among the k likeliest; of equal probabilities the last column leads (scikit-learn)."""

    def rows(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
        order = np.argsort(probs, axis=1, kind="stable")[:, ::-1]
        return (order[:, :k] == labels[:, None]).any(axis=1).astype(np.float64)

    return rows
