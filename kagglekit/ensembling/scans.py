"""What a metric is at every place of one threshold: rows are sorted, change their decision one after the other, and
the counts that the metric is made of are carried along, so that n scores cost about as much as one.

The scores are those of `metrics.score`, for the metrics of `METRICS` that decide.
"""

import numpy as np

from kagglekit import decision_scores
from kagglekit.decision_scores import f1


def cut_places(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a sorted array (n,) can be cut: how many rows lie below, and the value, halfway between its neighbours.

    Equal levels are never parted. Below the first and above the last there is a place 0.5 away.
    """
    inside = np.flatnonzero(np.diff(levels) > 0) + 1
    values = [levels[:1] - 0.5, (levels[inside - 1] + levels[inside]) / 2, levels[-1:] + 0.5]
    return np.concatenate([[0], inside, [len(levels)]]), np.concatenate(values)


def scores_along(metric: str, labels: np.ndarray, start: np.ndarray, order: np.ndarray, then: int) -> np.ndarray:
    """The score when the first t rows of `order` are decided to be class `then`, and all others as in `start`.

    labels, start: int (n,), classes. order: row numbers (m,), each once. Returns (m + 1,), for t from 0 to m. Memory:
    16 bytes for each row and class.
    """
    size, steps = int(max(labels.max(), start.max(), then)) + 1, np.arange(1, len(order) + 1)
    true, before = np.bincount(labels, minlength=size).astype(np.float64), start[order]
    given, hits = np.zeros((2, len(order) + 1, size))
    given[0] = np.bincount(start, minlength=size)
    hits[0] = np.bincount(labels[start == labels], minlength=size)
    given[steps, before] -= 1
    given[steps, then] += 1
    hits[steps, before] -= labels[order] == before
    hits[steps, then] += labels[order] == then
    given, hits = given.cumsum(axis=0), hits.cumsum(axis=0)
    if metric == "qwk":
        changes = (labels[order] - then) ** 2.0 - (labels[order] - before) ** 2.0
        return decision_scores.qwk(true, given, np.append(np.sum((labels - start) ** 2.0), changes).cumsum())
    if metric == "f1_macro":
        return decision_scores.f1_of_classes(true, given, hits)
    if metric == "mcc":
        return decision_scores.mcc(true, given, hits)
    return decision_scores.accuracy(true, given, hits)  # f1_micro is the same where each row has one class


def label_scores_along(
    metric: str, labels: np.ndarray, given: np.ndarray, column: int, order: np.ndarray
) -> np.ndarray:
    """The score when the first t rows of `order` lack the label in `column`, and the other rows have it.

    labels, given: 0 or 1, (n, labels); what is given in the other columns stays. order: all row numbers (n,). Returns
    (n + 1,), for t from 0 to n.
    """
    true, given = labels == 1, given == 1
    truth = true[order, column]
    hits = truth.sum() - np.append(0, truth.cumsum())
    count = np.arange(len(order), -1, -1) + truth.sum()  # the label's rows that are given, and those that are true
    others = np.arange(labels.shape[1]) != column
    if metric == "accuracy":
        rest = (true == given)[:, others].all(axis=1)[order]
        return ((rest & truth).sum() + np.append(0, np.where(truth, -1, 1) * rest).cumsum()) / len(order)
    other_hits = (true & given)[:, others].sum(axis=0)
    other_count = true[:, others].sum(axis=0) + given[:, others].sum(axis=0)
    if metric == "f1_micro":
        return f1(hits + other_hits.sum(), count + other_count.sum())
    return (f1(hits, count) + f1(other_hits, other_count).sum()) / len(others)
