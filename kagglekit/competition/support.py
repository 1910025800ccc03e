"""Support examples: labelled texts in columns of train and test, such as two of each class for a rule, as rows.

Each row is as the one that it stands in, with the example in place of one column of the text.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kagglekit.competition.task import Task, as_written, columns_of, row_ids
from kagglekit.files import replacing
from kagglekit.options import did_you_mean
from kagglekit.scoring.metrics import CLASSES

SIGNS = {"negative": 0, "positive": 1}  # names for the classes of a binary task
Support = Mapping[str, Sequence[str]]  # class -> columns with examples of it


def read_support(
    task: Task, support: Support, column: str = "", what: str = "test", ids: Collection[str] | None = None
) -> pd.DataFrame:
    """The support examples of train or test (`what`) as rows of `read_train`, each text once in a group.

    support: its classes may be called "positive" and "negative" in a binary task. column: the text column that an
    example takes the place of; empty: the one with most different values. ids: of the rows to look at; None: all.
    Empty cells are no examples; the ids of examples are "ID:COLUMN". A text that stands under two classes of a group
    says nothing, and is left out, which is printed.
    Raises ValueError for a task without classes or with labels in another layout, for a class or column that is not
    there, a column that is named twice, and for a file without any example.
    """
    table, classes = _expand(task, support, column, what, ids)
    rows = columns_of(table, task, task.files[what], [], []).assign(**{task.labels[0]: classes})
    return _of_one_class(rows, ["text", *(["group"] if "group" in rows else [])], "id", task.labels[0], what)


def write_support(task: Task, support: Support, path: Path, column: str = "") -> int:
    """Write the support examples of train and test as a file of labelled rows for `extra` of 3_train, whole or not at
    all; returns how many there are. Raises ValueError as `read_support` does."""
    parts = []
    for what in ("train", "test"):
        table, classes = _expand(task, support, column, what)
        keep = [name for name in dict.fromkeys((task.id, task.group, *task.text)) if name and name in table]
        parts.append(table[keep].assign(**{task.labels[0]: classes}))
    rows = pd.concat(parts, ignore_index=True)
    known = [name for name in rows if name not in (task.id, task.labels[0])]
    rows = _of_one_class(rows, known, task.id, task.labels[0], "train and test")
    with replacing(path) as part:
        rows.to_csv(part, index=False)
    return len(rows)


def _expand(
    task: Task, support: Support, column: str, what: str, ids: Collection[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a file once for each example, as written, and the class of each."""
    check_support(task, support, column)
    own, (table, parts, classes) = task.id or "id", (as_written(task, what), [], [])
    column = column or max(task.text, key=lambda name: table[name].nunique())
    table = table.assign(**{own: row_ids(table, task.id, "row" if what == "train" else "test")})
    table = table if ids is None else table[table[own].isin(ids)]
    for name, columns in support.items():
        label = class_of(task, name)
        for one in columns:
            if one not in table.columns:
                meant = did_you_mean(one, table.columns) or f": it has {', '.join(table.columns)}"
                raise ValueError(f"support: {task.files[what]} has no column {one!r}{meant}")
            given = table[table[one].str.strip() != ""]
            parts.append(given.assign(**{column: given[one], own: [f"{id}:{one}" for id in given[own]]}))
            classes += [label] * len(given)
    if not classes and ids is None:
        raise ValueError(f"support: the columns of {task.files[what]} hold no example")
    return pd.concat(parts, ignore_index=True), classes


def _of_one_class(rows: pd.DataFrame, known: list[str], id: str | None, label: str, what: str) -> pd.DataFrame:
    """Rows that differ in the columns `known`, once each, without those that stand under two classes."""
    rows = rows.drop_duplicates([*known, label], ignore_index=True)
    if (both := rows.duplicated(known, keep=False)).any():
        row = rows[both].iloc[0]
        named = f", such as {row[id]!r}" if id else ""
        print(f"support: {both.sum()} examples of {what} stand under two classes, and are left out{named}")
    if len(rows) and both.all():
        raise ValueError(f"support: each example of {what} stands under two classes: name other columns")
    return rows[~both].reset_index(drop=True)


def check_support(task: Task, support: Support, column: str = "") -> None:
    """Raise ValueError for a task without classes, or whose labels are in several columns or cells, for what is none of
    its classes, and for columns that are named twice or are no text. task: also one of the fields of task.json."""
    if task.kind not in CLASSES:
        raise ValueError(f"support: examples are of classes, and the labels are {task.kind}")
    if task.layout:
        made = ", ".join(task.label_columns[:12])
        raise ValueError(f"support: examples are of the classes of one column, and the labels were made from {made}")
    for name in support:
        class_of(task, name)
    columns = [one for each in support.values() for one in each]
    if twice := [one for one in columns if columns.count(one) > 1]:
        raise ValueError(f"support: the column {twice[0]!r} is named twice: name each once")
    if column and column not in task.text:
        raise ValueError(f"support: column={column!r} is none of the text columns {', '.join(task.text)}")


def class_of(task: Task, name: str) -> str:
    """The class that a key of `Support` means. Raises ValueError for one that is none."""
    if name in task.classes:
        return name
    if len(task.classes) != 2 or name not in SIGNS:
        raise ValueError(f"support: {name!r} is none of the classes {', '.join(task.classes[:20])}")
    return task.classes[SIGNS[name]]
