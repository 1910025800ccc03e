"""Rows without labels: those of test, and those of other files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.data.clean import clean_texts
from kagglekit.data.duplicates import normalise
from kagglekit.data.features import check_beside
from kagglekit.paths import resolve
from kagglekit.reading.files import read_table
from kagglekit.task import Task, row_ids
from kagglekit.training.recipe import Recipe

TEST = "test"  # the source of rows of test


def make_pool(
    task: Task, train: pd.DataFrame, test: pd.DataFrame | None, files: Sequence[str], recipe: Recipe
) -> pd.DataFrame:
    """The rows to label: columns id, text, those beside the text that the recipe names, and source: those of test first
    (test=None leaves them out), then those of the files.

    A row of a file is left out when its text is empty, is in the pool already, or is in train, as the model reads it,
    upper case and white space aside: a copy of a row to be validated on would make it one that was seen. Raises
    FileNotFoundError, and ValueError that names file and column, and when no row is left.
    """
    parts = [] if test is None else [test.assign(source=TEST)]
    parts += [read_unlabelled(task, file, recipe) for file in files]
    pool = pd.concat(parts, ignore_index=True)
    texts, ours = pd.Series(_plain(pool, recipe)), np.arange(len(pool)) < (0 if test is None else len(test))
    new = ~texts.isin(_plain(train, recipe)) & ~texts.duplicated() & (texts != "")
    pool = pool[ours | new].reset_index(drop=True)
    if not len(pool):
        raise ValueError(f"pseudo: no text in {', '.join(files)} is new: all are empty, or in train")
    return pool


def read_unlabelled(task: Task, file: str | Path, recipe: Recipe) -> pd.DataFrame:
    """The rows of a file that has the task's text columns: id (row1, row2, ... where it has none), text, the columns
    beside the text, and source, the name of the file."""
    path = resolve(file)
    table = read_table(path, task.encoding)
    for name in task.text:
        if name not in table.columns:
            raise ValueError(f"{path} has no column {name!r}, the text: it has {', '.join(table.columns)}")
    for name in recipe.columns:
        if name not in table.columns:
            raise ValueError(f"{path} has no column {name!r}, which the model reads beside the text")
    parts = zip(*(table[column] for column in task.text), strict=True)
    texts = ["\n".join(part for part in row if part.strip()) for row in parts]
    columns = {"id": row_ids(table, task.id), "text": texts, **{name: table[name] for name in recipe.columns}}
    read = pd.DataFrame(columns)
    where = replace(task, files={"train": path.name, "test": path.name})
    check_beside(where, read, read, *(recipe.beside.get(kind, ()) for kind in ("numbers", "categories")))
    return read.assign(source=path.name)


def _plain(table: pd.DataFrame, recipe: Recipe) -> list[str]:
    """The texts, cleaned, without what makes copies look different."""
    return [normalise(text) for text in clean_texts(table["text"], recipe.clean)]
