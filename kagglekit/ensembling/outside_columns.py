"""What the columns of somebody else's predictions mean, given the labels."""

import numpy as np
import pandas as pd

from kagglekit.ensembling.outside_files import Files
from kagglekit.metrics import CLASSES
from kagglekit.reading import checks, guess
from kagglekit.task import Task

NEAR_ONE = 0.02  # how far the probabilities of a row may be from 1 in sum: they may be rounded


def guess_kind(files: Files, targets: list[str], metric: str | None) -> tuple[str, str]:
    """The kind of task and the reason, from the labels' values and the columns of predictions."""
    names = list(files.labels.columns)
    if len(names) == 1 and len(targets) > 1:
        return (
            "binary" if len(targets) == 2 else "multiclass"
        ), f"{len(targets)} columns of predictions, one of labels"
    shown = next(iter(files.models.values())).astype(str)
    return guess.guess_kind(files.labels, names, shown, targets, metric)


def read_classes(files: Files, kind: str, targets: list[str], name: str) -> list[str]:
    """The classes in order, none for multilabel and regression. Raises ValueError where columns and labels differ."""
    names, first = list(files.labels.columns), files.names[next(iter(files.models))]
    if len(names) > 1 or kind == "multilabel":
        if set(names) != set(targets):
            raise ValueError(
                f"{first} predicts {', '.join(targets[:9])}, and the labels of {name} are {', '.join(names[:9])}: "
                f"{sorted(set(names) ^ set(targets))[0]!r} is in one of them only. Name them alike"
            )
        return []
    values = set(files.labels[names[0]])
    if kind in CLASSES and len(targets) > 1:
        if kind == "binary" and len(targets) > 2:
            raise ValueError(f"kind='binary' has two classes, and {first} has {len(targets)} columns of predictions")
        return targets
    if len(targets) > 1 or kind == "multiclass":
        needs = "a column for each class" if kind == "multiclass" else "one column of predictions"
        raise ValueError(f"kind={kind!r} needs {needs}, and {first} has {', '.join(targets[:9])}: say another kind=")
    if kind != "ordinal":
        return guess.guess_classes(values, [])[0] if kind == "binary" else []
    numbers = np.array(sorted({float(value) for value in values}))
    step = np.diff(numbers).min()
    places = (numbers - numbers[0]) / step
    if not np.allclose(places, np.rint(places), atol=1e-6):
        raise ValueError(
            f"{name}: kind='ordinal' needs labels that are equally far apart, and column {names[0]!r} holds "
            f"{', '.join(f'{number:g}' for number in numbers[:9])}: number the classes, or say kind='regression'"
        )
    return [f"{numbers[0] + step * place:g}" for place in range(round(places[-1]) + 1)]


def match_labels(files: Files, classes: list[str], name: str) -> np.ndarray:
    """The labels as the classes are written; "1.0" and "1" are the same number."""
    column = files.labels.iloc[:, 0]
    numbers = {float(one): one for one, number in zip(classes, guess.are_numbers(classes), strict=True) if number}
    same = {v: numbers.get(float(v), v) for v in set(column) if v not in classes and guess.are_numbers([v]).all()}
    matched = column.map(lambda value: same.get(value, value))
    unknown = ~matched.isin(classes).to_numpy()
    if unknown.any():
        row = int(unknown.argmax())
        raise ValueError(
            f"{name}: column {column.name!r} holds {column.iloc[row]!r} in {checks.name_row(row, files.ids)}, and the "
            f"predictions have the columns {', '.join(classes[:9])}: name each column as its class is written"
        )
    return matched.to_numpy()


def to_columns(table: pd.DataFrame, name: str, task: Task) -> pd.DataFrame:
    """Predictions as a run has them, a column for each of `task.columns`, float64 in the order of the file.

    Raises ValueError for what is no probability, and for rows whose probabilities of the classes do not sum to 1
    (within 0.02: they are made to).
    """
    if task.kind not in (*CLASSES, "multilabel"):
        if task.kind == "ordinal":  # from the scale of the labels to places
            first, second = float(task.classes[0]), float(task.classes[1])
            table = (table - first) / (second - first)
        return table.set_axis(task.columns, axis=1) if table.shape[1] == 1 else table[task.columns]
    values = table.to_numpy()
    bad = (values < -1e-6) | (values > 1 + 1e-6)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: column {table.columns[column]!r} holds {values[row, column]:g} in "
            f"{checks.name_row(row, table.index)}, which is no probability ({bad.any(axis=1).sum():,} such rows): put "
            f"logits through {'a sigmoid' if task.kind != 'multiclass' else 'a softmax'} first, or say another kind="
        )
    table = table.clip(0, 1)
    if task.kind == "multilabel":
        return table[task.columns]
    if table.shape[1] == 1:
        second = table.iloc[:, 0]
        return pd.DataFrame({task.columns[0]: 1 - second, task.columns[1]: second})
    sums = table.sum(axis=1).to_numpy()
    far = abs(sums - 1) > NEAR_ONE
    if far.any():
        row = int(far.argmax())
        raise ValueError(
            f"{name}: the probabilities of {checks.name_row(row, table.index)} are {sums[row]:g} in sum and not 1 "
            f"({far.sum():,} such rows): divide each row by its sum, or say kind='multilabel' with a column label_NAME "
            "for each label"
        )
    return table[task.columns].div(sums, axis=0)
