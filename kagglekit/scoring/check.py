"""Checks of a metric when it is named: does it fit the task, and does a function of the user work on a few rows?"""

import numpy as np

from kagglekit.scoring.catalogue import AT_K, CLASSES, METRICS
from kagglekit.scoring.grouped import members_of, rows_by_group
from kagglekit.scoring.metrics import Metric, find_metric, prepare, value_of


def check_metric(metric: str, kind: str, labels: np.ndarray | None = None, columns: int = 0) -> None:
    """Raise ValueError for a metric that is not known, cannot be imported, or does not fit the kind of task.

    labels, columns: of train, as from `encode_labels`, and of a predictions table. With them a function of the user is
    tried on three rows, or on one of each class where there are more: it must take (labels, predictions), leave them
    as they are, and return a finite number.
    """
    measure = find_metric(metric)
    if measure.kinds and kind not in measure.kinds:
        every = METRICS | {f"{name}@3": make(3) for name, make in AT_K.items()}
        fitting = ", ".join(name for name, other in every.items() if kind in other.kinds)
        raise ValueError(
            f"metric={metric!r} does not fit kind={kind!r}: it is for {', '.join(measure.kinds)}. "
            f"Choose one of {fitting}, or another kind"
        )
    if measure.kinds:
        if labels is not None and kind == "regression":
            truth = np.asarray(labels)
            measure.function(*prepare(measure, truth, truth))  # raises for labels out of range
        return
    if measure.decides and kind == "regression":
        raise ValueError(f"metric={metric!r} has wants_labels=True, and a regression has no classes to decide: drop it")
    if labels is not None and len(labels):
        _try(metric, measure, kind, np.asarray(labels), columns)


def _try(metric: str, measure: Metric, kind: str, labels: np.ndarray, columns: int) -> None:
    labels = labels[_some_rows(labels, kind)]
    truth, given = prepare(measure, labels, likely(labels, kind, columns))
    what = "the classes decided on" if measure.decides else "probabilities" if kind in CLASSES else "predictions"
    called = (
        f"metric={metric!r} was tried on {len(labels)} rows, with labels {truth.dtype} {truth.shape} and {what} "
        f"{given.dtype} {given.shape}"
    )
    hint = "" if measure.decides or kind == "regression" else _HINT
    kept = truth.copy(), given.copy()
    try:
        value = measure.function(truth, given)
    except Exception as error:  # whatever a function of the user raises
        raise ValueError(f"{called}, and failed: {type(error).__name__}: {error}. {_SHAPE}{hint}") from error
    if not np.isscalar(value) and np.ndim(value):
        raise ValueError(f"{called}, and gave {np.size(value)} values, not one number. {_SHAPE}{hint}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{called}, and gave {value!r}, which is no number. {_SHAPE}{hint}") from None
    if not np.isfinite(number):
        raise ValueError(f"{called}, and gave {number}: it must be a finite number for every set of rows{hint}")
    if not all(np.array_equal(now, then) for now, then in zip((truth, given), kept, strict=True)):
        raise ValueError(f"{called}, and changed them: work on a copy, such as labels.copy()")


_SHAPE = "It must be a function of (labels, predictions) that returns one number"
_HINT = ". If it takes classes and not probabilities, say so below the function: FUNCTION.wants_labels = True"


def _some_rows(labels: np.ndarray, kind: str) -> np.ndarray:
    """Three rows, or as many as it takes to have every class, or each label present and absent."""
    chosen = list(range(min(3, len(labels)))) if kind == "regression" else []
    if not chosen:
        first = [np.unique(column, return_index=True)[1] for column in labels.reshape(len(labels), -1).T]
        chosen = np.unique(np.concatenate(first)).tolist()
    others = [row for row in range(min(6, len(labels))) if row not in chosen]
    return np.array([*chosen, *others[: max(0, 3 - len(chosen))]])


def likely(labels: np.ndarray, kind: str, columns: int) -> np.ndarray:
    """Predictions (n, columns) float32, as in a predictions table, that are nearly right."""
    if kind in CLASSES:
        return (np.eye(columns)[labels] / 2 + 0.5 / columns).astype(np.float32)
    values = labels.reshape(len(labels), -1).astype(np.float32)
    return 0.25 + 0.5 * values if kind == "multilabel" else values + np.float32(0.25)


def describe_groups(metric: str, kind: str, labels: np.ndarray, columns: int) -> tuple[str, str]:
    """How many groups a metric by group has, and how many of them are left out of the mean, and why.

    labels: `LabelsBy` of all rows of train, as from `encode_labels`.
    """
    measure, parts = find_metric(metric), rows_by_group(labels, metric)
    if measure.over:
        names, sizes = measure.by.split(","), members_of(labels, metric).sum(axis=0)
        each = ", ".join(f"{name} {size:,}" for name, size in zip(names, sizes, strict=True))
        return f"{len(names)} columns", f"rows with 1, or 0.5 at least: {each}; a row may be of several, or of none"
    truth, given = prepare(measure, labels, likely(np.asarray(labels), kind, columns))
    lost = sum(bool(np.isnan(value_of(measure, truth[rows], given[rows], strict=False))) for rows in parts)
    sizes = sorted(len(rows) for rows in parts)
    reason = f"of {sizes[0]:,} to {sizes[-1]:,} rows; each counts the same"
    if lost:
        reason += f"; {lost:,} have rows of one class alone, where the metric is not defined: left out of the mean"
    return f"{len(parts):,} values of {measure.by}", reason
