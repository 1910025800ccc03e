"""Scores of decisions, many combinations at once: from counts of the rows by what is true and what is chosen."""

from collections.abc import Callable

import numpy as np


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


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where `below` is."""
    return np.divide(above, below, out=np.zeros_like(below, dtype=np.float64), where=below != 0)


def share_right(counts: np.ndarray) -> np.ndarray:
    return np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))


def f1_of_classes(counts: np.ndarray) -> np.ndarray:
    both = counts.sum(axis=1) + counts.sum(axis=2)  # a class that is neither true nor chosen does not count
    return ratio(2 * np.diagonal(counts, axis1=1, axis2=2), both).sum(axis=1) / (both > 0).sum(axis=1)


def mcc(counts: np.ndarray) -> np.ndarray:
    true, chosen, rows = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    agreement = np.trace(counts, axis1=1, axis2=2) * rows - (true * chosen).sum(axis=1)
    return ratio(agreement, np.sqrt(rows**2 - (true**2).sum(axis=1)) * np.sqrt(rows**2 - (chosen**2).sum(axis=1)))


def qwk(counts: np.ndarray) -> np.ndarray:
    classes = np.arange(counts.shape[1])
    far = (classes[:, None] - classes) ** 2
    expected = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None] / counts.sum(axis=(1, 2))[:, None, None]
    seen, expected = (counts * far).sum(axis=(1, 2)), (expected * far).sum(axis=(1, 2))
    return np.where(expected > 0, 1 - ratio(seen, expected), 0.0)


def all_right(right: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (chosen == truth).all(axis=1).mean(axis=1)


def f1_of_labels(right: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    both = np.count_nonzero(chosen, axis=2) + np.count_nonzero(truth, axis=1)
    return ratio(2 * np.count_nonzero(right, axis=2), both).mean(axis=1)


def f1_of_cells(right: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    both = np.count_nonzero(chosen, axis=(1, 2)) + np.count_nonzero(truth)
    return ratio(2 * np.count_nonzero(right, axis=(1, 2)), both)
