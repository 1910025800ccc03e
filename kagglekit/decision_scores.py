"""Metrics of decisions from counts of rows, for many samples or combinations at once: (...) scores, as `metrics.score`.

true, chosen, right (..., classes): how many rows have each class, are given it, and both; likewise for several labels.
The bootstrap, hill climbing and thresholds count each in its own way, and score what they counted by these.
"""

import numpy as np


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise, 0 where `below` is."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.zeros(shape), where=below != 0)


def f1(right: np.ndarray, both: np.ndarray) -> np.ndarray:
    """F1, elementwise. both: how many rows have the class, plus how many are given it."""
    return ratio(2 * right, both)


def f1_of_classes(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean over the classes that are true or chosen somewhere: the others do not count."""
    both = true + chosen
    return f1(right, both).sum(axis=-1) / np.count_nonzero(both, axis=-1)


def f1_of_labels(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean over all labels; one that is neither true nor chosen anywhere counts 0."""
    return f1(right, true + chosen).mean(axis=-1)


def accuracy(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The share of rows whose class is the chosen one."""
    return right.sum(axis=-1) / true.sum(axis=-1)


def mcc(true: np.ndarray, chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matthews' correlation; 0 where all rows have, or are given, the same class."""
    rows = true.sum(axis=-1)
    agreement = right.sum(axis=-1) * rows - (true * chosen).sum(axis=-1)
    return ratio(agreement, np.sqrt(rows**2 - (true**2).sum(axis=-1)) * np.sqrt(rows**2 - (chosen**2).sum(axis=-1)))


def qwk(true: np.ndarray, chosen: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Quadratic weighted kappa. apart (...): the squared distances of true and chosen class, summed over the rows.

    1 less the share that `apart` has of what it would be, had the two nothing to do with each other; 0 where all rows
    have, and are given, the same class.
    """
    classes = np.arange(true.shape[-1])
    distances = (classes[:, None] - classes) ** 2.0
    by_chance = (chosen @ distances * true).sum(axis=-1) / true.sum(axis=-1)
    return ratio(by_chance - apart, by_chance)
