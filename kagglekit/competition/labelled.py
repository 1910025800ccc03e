"""Rows of another file, labelled or new: read with the task's columns, and refused where they do not fit it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import first_bad
from kagglekit.competition.formats.label_lists import split_labels
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.labels import is_missing, unlabelled
from kagglekit.competition.read import read_table
from kagglekit.competition.tables import join_again
from kagglekit.competition.task import Task, columns_of
from kagglekit.files import resolve


def read_labelled(task: Task, path: str | Path, more: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of another file that has the text and the labels as train has them, as `read_train` gives them, with
    source where the file has such a column; it needs neither ids nor groups.

    Names of columns may differ in case and outer blanks. What was guessed of the file is printed. Raises
    FileNotFoundError, and ValueError that names file, column and row, for a missing column, a missing label, and one
    that is no class or no number.
    """
    path, written = resolve(path), task.label_columns or task.labels
    table = _open(task, "train", path, written, more, ["source"])
    missing = unlabelled(table, written, task.layout, task.classes)
    if task.drop_unlabelled:
        table = table[~missing]
    else:
        blank = {name: missing & is_missing(table[name], task.classes) for name in written}
        _refuse(path, table, blank, "which is no label; add it, or take such rows out of the file")
    numbers = task.layout in ("largest", "threshold") or not (task.classes or task.layout)
    bad = {name: ~are_numbers(table[name]) for name in written if numbers}
    _refuse(path, table, bad, "and the labels of train are numbers; correct it")
    try:
        rows = columns_of(table, task, path.name, task.labels, more)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if task.layout == "list":
        bad = _foreign(table[written[0]], task)
        _refuse(
            path, table, {written[0]: bad}, f"and the labels of train are {', '.join(task.labels[:20])}; correct it"
        )
    elif task.classes:
        bad = ~rows[task.labels[0]].isin(task.classes).to_numpy()
        of = f"which is none of the classes {', '.join(task.classes[:20])}"
        _refuse(path, table, {written[0]: bad}, f"{of}; correct it, or take such rows out of the file")
    elif task.layout == "comma":
        bad = {name: ~are_numbers(rows[name]) for name in written}
        _refuse(path, table, bad, "and the labels of train are numbers; correct it")
    elif task.kind == "multilabel":
        bad = {name: ~np.isin(rows[name].astype(float), (0, 1)) for name in task.labels if name in written}
        _refuse(path, table, bad, "and the labels of train are 0 or 1; correct it")
    return rows.assign(source=table["source"].tolist()) if "source" in table and "source" not in rows else rows


def read_new(task: Task, path: str | Path, more: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a file without labels, as `read_test` gives them; their numbers, from 1, where it has no ids.

    Names of columns and errors are as of `read_labelled`; texts that are all numbers are an error too.
    """
    path = resolve(path)
    table = _open(task, "test", path, [], more, [])
    if task.id not in table.columns:
        table = table.assign(**{task.id or "id": [str(row) for row in range(1, len(table) + 1)]})
    for name in task.text:
        if len(table) > 4 and are_numbers(table[name]).all():
            raise ValueError(
                f"{path}: column {name!r} is the text, and holds numbers alone, such as {table[name][0]!r}"
            )
    return columns_of(table, replace(task, id=task.id or "id"), path.name, [], more)


def _open(
    task: Task, role: str, path: Path, labels: Sequence[str], more: Sequence[str], others: Sequence[str]
) -> pd.DataFrame:
    """A file with the names that the columns of train, or of test, have here. Raises ValueError where one is missing,
    but for those of `others`."""
    notes: list = []
    table = read_table(path, task.encoding, notes=notes)
    for what, found, why in notes:
        print(f"{what}: {found} ({why})")
    table = table.rename(columns=task.renamed.get(role, {}))
    known = {name.strip().casefold(): name for name in table.columns}
    wanted = [task.id, task.group, *task.text, *labels, *more, *others]
    called = {known.get(name.strip().casefold()): name for name in wanted if name and name not in table.columns}
    table = join_again(task.data, task.encoding, task.reading, table.rename(columns=called), role)
    for name in [*task.text, *labels, *more]:
        if name not in table.columns:
            what = "the text" if name in task.text else "the labels" if name in labels else "which the model reads"
            raise ValueError(f"{path} has no column {name!r}, {what}: it has {', '.join(table.columns)}")
    return table


def _foreign(cells: pd.Series, task: Task) -> np.ndarray:
    """Which cells hold a label that is none of train's; bool (n,)."""
    rows = (split_labels(cell, task.separator) or [] for cell in cells)
    return np.array([any(task.spellings.get(one, one) not in task.labels for one in row) for row in rows], dtype=bool)


def _refuse(path: Path, table: pd.DataFrame, bad: dict[str, np.ndarray], why: str) -> None:
    """Raise ValueError that names the first bad cell of the columns of a file."""
    for name, rows in bad.items():
        if rows.any():
            raise ValueError(f"{path}: {first_bad(rows, table[name], None, why)}")
