"""Scores of decisions, many combinations at once: from counts of the rows by what is true and what is chosen."""

from collections.abc import Callable

import numpy as np

from kagglekit.decision_scores import f1, qwk


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
