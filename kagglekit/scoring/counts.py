"""Fast forms of metrics from counts and sums of rows: many bootstrap samples, blends or thresholds scored at once.

Metrics of decisions are functions of `Counts`. Means of row losses, R2 and Pearson's correlation are functions of sums
over rows. catalogue.py says which metric has which form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kagglekit.scoring.functions import one_hot

Sums = tuple[np.ndarray | sparse.csr_array, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of rows by true and chosen class (or label), for many decisions at once: float64.

    true, chosen, right: (..., classes), rows that have the class, that are given it, and both. exact: (...), rows in
    which everything is right. rows: (...), all rows. distance: (..., 2), the distances of true and chosen class and
    their squares, summed over the rows. multilabel: a row may have several labels.
    """

    true: np.ndarray
    chosen: np.ndarray
    right: np.ndarray
    exact: np.ndarray
    rows: np.ndarray
    distance: np.ndarray | None = None
    multilabel: bool = False

    @classmethod
    def of_classes(cls, true: np.ndarray, chosen: np.ndarray, right: np.ndarray, distance: np.ndarray) -> "Counts":
        """Counts of rows that have one class each."""
        return cls(true, chosen, right, right.sum(axis=-1), true.sum(axis=-1), distance)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise above / below, 0 where `below` is 0."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.zeros(shape), where=below != 0)


def accuracy(counts: Counts) -> np.ndarray:
    """The share of rows in which everything is right."""
    return counts.exact / counts.rows


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """The mean recall of the classes that some row has."""
    return ratio(counts.right, counts.true).sum(axis=-1) / np.count_nonzero(counts.true, axis=-1)


def f_second(beta: float) -> Callable[[Counts], np.ndarray]:
    """F beta of the second class; 0 where no row has it or is given it."""

    def value(counts: Counts) -> np.ndarray:
        true, chosen, right = (some[..., 1:2].sum(axis=-1) for some in (counts.true, counts.chosen, counts.right))
        return ratio((1 + beta**2) * right, beta**2 * true + chosen)

    return value


def hamming(counts: Counts) -> np.ndarray:
    """The share of cells, a row and a label, that are wrong."""
    return (counts.true + counts.chosen - 2 * counts.right).mean(axis=-1) / counts.rows


def f1_macro(counts: Counts) -> np.ndarray:
    """The mean F1 of the classes that are true or chosen somewhere, or of all labels, where such a label counts 0."""
    both = counts.true + counts.chosen
    each = ratio(2 * counts.right, both)
    return each.mean(axis=-1) if counts.multilabel else each.sum(axis=-1) / np.count_nonzero(both, axis=-1)


def f1_micro(counts: Counts) -> np.ndarray:
    """F1 of all classes or labels in one; the accuracy where each row has one class."""
    return ratio(2 * counts.right.sum(axis=-1), (counts.true + counts.chosen).sum(axis=-1))


def f1_weighted(counts: Counts) -> np.ndarray:
    """The mean F1 of the classes or labels, weighted by how many rows have them."""
    each = ratio(2 * counts.right, counts.true + counts.chosen)
    return ratio((each * counts.true).sum(axis=-1), counts.true.sum(axis=-1))


def mcc(counts: Counts) -> np.ndarray:
    """Matthews' correlation; 0 where all rows have, or are given, the same class."""
    true, chosen, rows = counts.true, counts.chosen, counts.rows
    agreement = counts.exact * rows - (true * chosen).sum(axis=-1)
    return ratio(agreement, np.sqrt(rows**2 - (true**2).sum(axis=-1)) * np.sqrt(rows**2 - (chosen**2).sum(axis=-1)))


def cohen_kappa(counts: Counts) -> np.ndarray:
    """Cohen's kappa: 1 less the share of errors over the share expected by chance; 0 for 0 / 0."""
    by_chance = counts.rows - (counts.chosen * counts.true).sum(axis=-1) / counts.rows
    return ratio(by_chance - (counts.rows - counts.exact), by_chance)


def kappa_linear(counts: Counts) -> np.ndarray:
    """Linear weighted kappa: 1 less the distance's share of the one expected by chance; 0 for 0 / 0."""
    return _weighted_kappa(counts, 1)


def qwk(counts: Counts) -> np.ndarray:
    """Quadratic weighted kappa: the same of squared distances."""
    return _weighted_kappa(counts, 2)


def _weighted_kappa(counts: Counts, power: int) -> np.ndarray:
    classes = np.arange(counts.true.shape[-1])
    distances = np.abs(classes[:, None] - classes) ** float(power)
    by_chance = (counts.chosen @ distances * counts.true).sum(axis=-1) / counts.rows
    return ratio(by_chance - counts.distance[..., power - 1], by_chance)


def apart(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """The distance of true and chosen class, and its square: (..., 2) float64."""
    distance = np.abs(labels - decisions).astype(np.float64)
    return np.stack([distance, distance**2], axis=-1)


def count_sums(from_counts: Callable[[Counts], np.ndarray], labels: np.ndarray, decisions: np.ndarray) -> Sums:
    """Terms of each row (rows, s) and the metric of their sums (samples, s), for a metric `from_counts`.

    labels, decisions: (n,) classes, or (n, labels) of 0 and 1.
    """
    if labels.ndim == 2:
        exact = (labels == decisions).all(axis=1)
        terms = sparse.csr_array(_with_ones(labels, decisions, labels * decisions, exact).astype(np.float64))
        size = labels.shape[1]
    else:
        size, rows = int(max(labels.max(), decisions.max())) + 1, np.arange(len(labels))
        right, wrong = np.flatnonzero(labels == decisions), np.flatnonzero(labels != decisions)
        row = np.concatenate([rows, rows, right, wrong, wrong])
        column = np.concatenate([labels, size + decisions, 2 * size + labels[right], np.full(len(wrong), 3 * size)])
        column = np.append(column, np.full(len(wrong), 3 * size + 1))
        values = np.append(np.ones(2 * len(rows) + len(right)), apart(labels[wrong], decisions[wrong]).T)
        terms = sparse.csr_array((values, (row, column)), shape=(len(rows), 3 * size + 2))

    def value(sums: np.ndarray) -> np.ndarray:
        true, chosen, right, rest = np.split(sums, [size, 2 * size, 3 * size], axis=1)
        if labels.ndim == 2:
            return from_counts(Counts(true, chosen, right, rest[:, 0], rest[:, 1], multilabel=True))
        return from_counts(Counts.of_classes(true, chosen, right, rest))

    return terms, value


def _with_ones(*terms: np.ndarray) -> np.ndarray:
    return np.column_stack([*terms, np.ones(len(terms[0]))])


def mean_sums(loss: Callable, last: Callable = lambda means: means) -> Callable[..., Sums]:
    """The form of a mean over the rows of loss(labels, predictions) (n,), to which `last` is applied."""
    return lambda labels, values: (_with_ones(loss(labels, values)), lambda sums: last(sums[:, 0] / sums[:, 1]))


def log_losses(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The log loss of each row (n,); of several labels their mean."""
    if labels.ndim == 1:
        truth = (probs / probs.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels][:, None]
    else:
        truth = np.where(labels == 1, probs, 1 - probs)
    tiny = np.finfo(np.float64).eps
    return -np.log(truth.clip(tiny, 1 - tiny)).mean(axis=1)


def mcrmse_sums(labels: np.ndarray, values: np.ndarray) -> Sums:
    """The form of the mean over the columns of the root mean squared error."""
    return _with_ones((labels - values) ** 2), lambda sums: np.sqrt(sums[:, :-1] / sums[:, -1:]).mean(axis=1)


def r2_sums(labels: np.ndarray, values: np.ndarray) -> Sums:
    """The form of R2, NaN on a sample that is a single row."""
    centred, k = labels - labels.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        error, total = sums[:, :k], sums[:, 2 * k : 3 * k] - sums[:, k : 2 * k] ** 2 / sums[:, -1:]
        flat = total <= 1e-12 * sums[:, 2 * k : 3 * k]
        each = np.where(flat, np.where(error == 0, 1.0, 0.0), 1 - ratio(error, total))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones((labels - values) ** 2, centred, centred**2), value


def pearson_sums(labels: np.ndarray, values: np.ndarray) -> Sums:
    """The form of Pearson's correlation, NaN on a sample that is a single row."""
    x, y, k = labels - labels.mean(axis=0), values - values.mean(axis=0), labels.shape[1]

    def value(sums: np.ndarray) -> np.ndarray:
        n = sums[:, -1:]
        sx, sy, sxx, syy, sxy = (sums[:, i * k : (i + 1) * k] for i in range(5))
        vx, vy = sxx - sx**2 / n, syy - sy**2 / n
        flat = (vx <= 1e-12 * sxx) | (vy <= 1e-12 * syy)
        each = np.where(flat, 0.0, ratio(sxy - sx * sy / n, np.sqrt(np.maximum(vx * vy, 0))))
        return np.where(sums[:, -1] > 1, each.mean(axis=1), np.nan)

    return _with_ones(x, y, x**2, y**2, x * y), value


def roc_auc_of_weights(labels: np.ndarray, probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """ROC AUC (samples,) of rows with weights (samples, rows): the mean over the columns that have both kinds of rows.

    NaN for a sample without such a column.
    """
    total, defined = np.zeros(len(weights)), np.zeros(len(weights))
    for positive, negative in _weights_by_value(labels, probs, weights):
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        above = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
        total += ratio(above, pairs)
        defined += pairs > 0
    return np.divide(total, defined, out=np.full(len(weights), np.nan), where=defined > 0)


def bias_auc_of_weights(labels: np.ndarray, probs: np.ndarray, weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The mean of the ROC AUC of all rows and of three power means (p = -5) over the groups, (samples,): of the ROC AUC
    within a group, of its rows without the label and others with it, and the other way round.

    members: (rows, groups) bool, a row may be in several. Jigsaw Unintended Bias in Toxicity Classification (Kaggle,
    2019); Borkan et al., 2019. A group on which an AUC is not defined is left out of its mean.
    """
    having, whole = labels == 1, np.ones(len(labels), dtype=bool)

    def area(rows: np.ndarray) -> np.ndarray:
        if not rows.any():
            return np.full(len(weights), np.nan)
        return roc_auc_of_weights(labels[rows], probs[rows], weights[:, rows])

    found = [area(whole)]
    for kept in (lambda own: own, lambda own: own != having, lambda own: own == having):
        each = np.array([area(kept(own)) for own in members.T])
        with np.errstate(divide="ignore"):
            powers = np.where(np.isnan(each), 0, each**-5.0).sum(axis=0) / (~np.isnan(each)).sum(axis=0)
            found.append(powers ** (-1 / 5))
    return np.mean(found, axis=0)


def average_precision_of_weights(labels: np.ndarray, probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (samples,) of rows with weights (samples, rows): the mean over the columns."""
    each = []
    for positive, negative in _weights_by_value(labels, probs, weights):
        found = np.cumsum(positive[:, ::-1], axis=1)
        precision = ratio(found, found + np.cumsum(negative[:, ::-1], axis=1))
        each.append(ratio((precision * positive[:, ::-1]).sum(axis=1), found[:, -1]))
    return np.mean(each, axis=0)


def _weights_by_value(labels: np.ndarray, probs: np.ndarray, weights: np.ndarray) -> Iterator[tuple]:
    """For each column the weights (samples, values) of the rows with and without the label, by ascending probability.

    Rows with equal probabilities are one value.
    """
    truths = one_hot(labels, probs.shape[1])
    for truth, values in zip(truths.T, probs[:, -truths.shape[1] :].T, strict=True):
        order = np.argsort(values, kind="stable")
        _, starts = np.unique(values[order], return_index=True)
        drawn = weights[:, order]
        yield tuple(np.add.reduceat(drawn * kind[order], starts, axis=1) for kind in (truth, ~truth))
