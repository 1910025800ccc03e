"""Pseudo labels: confident predictions of rows without labels become labels (Lee, 2013).

Pure functions on predictions (rows, columns), as predictions tables have them. Probabilities: binary and multiclass,
one a class; multilabel, one a label. Values: regression, and ordinal, whose classes are numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kagglekit.scoring.metrics import CLASSES

NONE = "(none)"  # the group of rows without any of several labels


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions of one model: mean (rows, columns) float32, NaN for rows that were not asked; uncertainty and
    variance (rows,) float32 over passes with dropout, None without such passes."""

    mean: np.ndarray
    uncertainty: np.ndarray | None = None
    variance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Chosen rows (row numbers), their labels, weights in the loss, and confidence."""

    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    confidence: np.ndarray


def confidence(predictions: np.ndarray, kind: str) -> np.ndarray:
    """The confidence of each row (rows,): the highest probability; for several labels that of the least certain one, on
    or off; 1 for values."""
    if kind in CLASSES:
        return predictions.max(axis=1)
    if kind == "multilabel":
        return np.maximum(predictions, 1 - predictions).min(axis=1)
    return np.ones(len(predictions), dtype=np.float32)


def find_groups(predictions: np.ndarray, kind: str) -> np.ndarray:
    """The predicted class of each row: bool (rows, groups), see `group_names`. Several labels: a row is in the group of
    each label that it has, or of none. Values: all rows are one group."""
    if kind in CLASSES:
        return np.eye(predictions.shape[1], dtype=bool)[predictions.argmax(axis=1)]
    if kind == "multilabel":
        there = predictions >= 0.5
        return np.column_stack([there, ~there.any(axis=1)])
    return np.ones((len(predictions), 1), dtype=bool)


def group_names(kind: str, columns: Sequence[str]) -> list[str]:
    """Names of the columns of `find_groups`; columns: of a predictions table."""
    return {"multilabel": [*columns, NONE]}.get(kind, list(columns) if kind in CLASSES else ["all"])


def choose_rows(predictions: np.ndarray, kind: str, threshold: float, top: int = 0) -> np.ndarray:
    """The rows (row numbers, rising) with a confidence of at least `threshold`; of each group at most the `top` most
    confident, of equal ones the first. A row of several groups is kept where one of them keeps it. top=0 is all."""
    sure = confidence(predictions, kind)
    fits = ~np.isnan(predictions).any(axis=1) & (sure >= threshold)
    if not top:
        return np.flatnonzero(fits)
    kept = np.zeros(len(predictions), dtype=bool)
    for group in find_groups(predictions, kind).T:
        members = np.flatnonzero(group & fits)
        kept[members[np.argsort(-sure[members], kind="stable")[:top]]] = True
    return np.flatnonzero(kept)


def make_labels(predictions: np.ndarray, kind: str, classes: int, soft: bool = False) -> np.ndarray:
    """Predictions as labels for `ExtraRows`.

    hard: int64 class numbers (rows,), the most probable, for ordinal the nearest of `classes`; float32 (rows, labels)
    of 0 and 1, 1 from 0.5 on. soft: the probabilities. Values stay as they are.
    """
    if kind == "ordinal":
        return predictions[:, 0].round().clip(0, classes - 1).astype(np.int64)
    if soft or kind == "regression":
        return predictions.astype(np.float32)
    return predictions.argmax(axis=1) if kind in CLASSES else (predictions >= 0.5).astype(np.float32)


def are_right(predictions: np.ndarray, labels: np.ndarray, kind: str, classes: int) -> np.ndarray:
    """Whether each row's hard label is right, float (rows,); for several labels the share that is. Not for values."""
    guessed = make_labels(predictions, kind, classes)
    return (guessed == labels).reshape(len(labels), -1).mean(axis=1)


def estimate(predictions: np.ndarray, labels: np.ndarray, kind: str, classes: int) -> dict[str, float | int | None]:
    """The quality of pseudo labels, measured on rows that the same rule chose among those with known labels.

    predictions, labels: of these rows. Returns the `estimated precision` (share of right labels; for regression the
    `estimated error`, the RMSE), its `standard error`, and `from rows`, their number. None where no row was chosen.
    """
    name = "estimated error" if kind == "regression" else "estimated precision"
    if not len(predictions):
        return {name: None, "standard error": None, "from rows": 0}
    if kind == "regression":
        squares = ((predictions - labels.reshape(predictions.shape)) ** 2).mean(axis=1)
        value = float(np.sqrt(squares.mean()))
        error = float(squares.std() / np.sqrt(len(squares)) / (2 * value)) if value else 0.0  # of a root, by its slope
        return {name: value, "standard error": error, "from rows": len(predictions)}
    right = are_right(predictions, labels, kind, classes)
    error = float(right.std() / np.sqrt(len(right)))
    return {name: float(right.mean()), "standard error": error, "from rows": len(predictions)}


def agreement(before: np.ndarray, after: np.ndarray, kind: str, classes: int) -> float | None:
    """The share of equal hard labels in two predictions of the same rows; for regression the correlation, a mean over
    targets. Rows that are NaN in one of them do not count; None where nothing is left."""
    both = ~(np.isnan(before) | np.isnan(after)).any(axis=1)
    before, after = before[both], after[both]
    if not len(before):
        return None
    if kind != "regression":
        return float(are_right(before, make_labels(after, kind, classes), kind, classes).mean())
    if (before.std(axis=0) == 0).any() or (after.std(axis=0) == 0).any():
        return None
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(before.T, after.T, strict=True)]))
