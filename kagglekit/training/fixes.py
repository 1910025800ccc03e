"""Fixes: labels of train corrected by hand, in a file; learned in training folds, while validation keeps those given.

The file may be a run's suspects.csv with its column `fix` filled in, see `label_noise.write_suspects`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.checks import listed, name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.read import read_table
from kagglekit.competition.task import Task, encode_labels
from kagglekit.files import resolve
from kagglekit.options import did_you_mean
from kagglekit.runs.tables import Run
from kagglekit.scoring.bootstrap import standard_error
from kagglekit.scoring.metrics import score

DROP = ("drop", "<drop>")  # in place of a label: the row is left out of training; the second where a class is "drop"


@dataclass(frozen=True, eq=False)
class Fixes:
    """Corrected labels of rows of train.

    labels: column of the task -> row number -> label as train has it, where it differs from the one given. dropped:
    numbers of rows that are left out of training. Rows behind those of train, such as extra ones, stay as they are.
    """

    labels: dict[str, dict[int, str]]
    dropped: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def read(cls, task: Task, train: pd.DataFrame, test_ids: Iterable[str], file: str | Path) -> "Fixes":
        """Read a table with the ids of train and the column `fix`: a label, a word of `DROP`, or nothing.

        Of a task with several labels it needs `column` too, the label's name. Where there are two columns, the second
        may have any name. Ids and labels that a spreadsheet has turned into numbers (7.0, or 7 for 007) are found.
        Raises FileNotFoundError, and ValueError for an unknown id or label, a row of test, fixes that disagree, and
        none at all.
        """
        path = resolve(file)
        if not path.is_file():
            raise FileNotFoundError(f"fixes: {path} does not exist, or is no file")
        table = read_table(path, task.encoding)
        ids, fixes, columns = _find_columns(task, table, path)
        row_of, test = _lookup(train["id"]), set(test_ids)
        labels, said = {name: {} for name in task.labels}, dict[tuple[int, str], int]()
        dropped, given = dict[int, int](), train[task.labels].to_numpy(dtype=object)
        for line, (id, fix, column) in enumerate(zip(ids, fixes, columns, strict=True)):
            if not fix.strip():
                continue
            where = f"fixes: {path.name}, {name_row(line)}"
            if (row := row_of(id)) is None:
                of_test = "a row of test: only labels of train can be fixed" if id in test else "no id of train"
                raise ValueError(f"{where}: {id!r} is {of_test}{'' if id in test else did_you_mean(id, train['id'])}")
            if fix.strip().casefold() in DROP and fix.strip() not in task.classes:
                dropped.setdefault(row, line)
                continue
            if column not in task.labels:
                raise ValueError(
                    f"{where}: column {column!r} is no label{did_you_mean(column, task.labels)} ({listed(task.labels)})"
                )
            label = _as_label(task, fix.strip(), where)
            if said.setdefault((row, column), line) != line and labels[column][row] != label:
                before = f"{name_row(said[row, column])} says {labels[column][row]!r}"
                raise ValueError(f"{where}: the label of {id!r} is {label!r} here, and {before}: keep one")
            labels[column][row] = label
        for row, column in said:
            if row in dropped:
                rows = f"{name_row(dropped[row])} leaves it out, and {name_row(said[row, column])} gives it a label"
                raise ValueError(f"fixes: {path.name}: the id {train['id'].iloc[row]!r} comes twice: {rows}: keep one")
        if not said and not dropped:
            raise ValueError(f"fixes: {path} fixes nothing: write labels, or drop, into its column 'fix'")
        for number, name in enumerate(task.labels):
            labels[name] = {row: to for row, to in labels[name].items() if not _equal(task, given[row, number], to)}
        return cls(labels, np.array(sorted(dropped), dtype=np.int64))

    def apply(self, train: pd.DataFrame) -> pd.DataFrame:
        """A copy of train, and what stands behind it, with the corrected labels."""
        made = {name: train[name].to_numpy(dtype=object).copy() for name in self.labels}
        for name, cells in self.labels.items():
            made[name][list(cells)] = list(cells.values())
        return train.assign(**made)

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """The row numbers without those that are left out of training."""
        return rows[~np.isin(rows, self.dropped)]

    def written(self, train: pd.DataFrame) -> dict[tuple[str, str], str]:
        """(id, column) -> label, or drop; for `write_suspects`. train: all rows."""
        ids, first = train["id"].tolist(), next(iter(self.labels))
        known = {(ids[row], name): to for name, cells in self.labels.items() for row, to in cells.items()}
        return known | {(ids[row], first): DROP[1] for row in self.dropped}

    def count(self, rows: np.ndarray) -> dict[str, int]:
        """How many labels of these rows are corrected, and how many of the rows are left out."""
        changed = sum(np.isin(list(cells), rows).sum() for cells in self.labels.values() if cells)
        return {"corrected": int(changed), "left out": int(np.isin(self.dropped, rows).sum())}

    def score(self, run: Run, task: Task, train: pd.DataFrame, groups: np.ndarray | None = None) -> dict[str, Any]:
        """The out-of-fold score of a run against the corrected labels, without the rows that are left out, its standard
        error, and the counts; train, groups: of all rows."""
        known = ~np.isin(run.rows, self.dropped)
        rows, predictions = run.rows[known], run.oof_array[known]
        labels = encode_labels(task, self.apply(train))[rows]
        together = None if groups is None else groups[rows]
        return {
            "score": float(score(task.metric, labels, predictions)),
            "standard_error": float(standard_error(task.metric, labels, predictions, groups=together)),
            **self.count(run.rows),
        }

    def __str__(self):
        found = self.count(np.unique([*self.dropped, *(row for cells in self.labels.values() for row in cells)]))
        return (
            f"Fixes: {found['corrected']:,} labels are corrected and {found['left out']:,} rows left out where models "
            "learn; each fold is validated against the labels given."
        )


def check_place(file: str | Path, folder: Path) -> None:
    """Raise ValueError for fixes in the folder of the run that learns them: beginning again would delete them."""
    if folder in resolve(file).parents:
        raise ValueError(
            f"fixes: {file} is in the folder of this run, {folder.name!r}: give the run with fixes another name, run="
        )


def describe_fixed(metric: str, scores: dict[str, Any]) -> str:
    """Both scores of a run with fixes, from its score.json, in a sentence."""
    fixed = scores["fixes"]
    return (
        f"Against the labels given: {metric} {scores['score']:.4f} ± {scores['standard_error']:.4f}; against the fixed "
        f"ones: {fixed['score']:.4f} ± {fixed['standard_error']:.4f} ({fixed['corrected']:,} corrected, "
        f"{fixed['left out']:,} rows left out). Compare runs by the first: labels of test are as those given."
    )


def _find_columns(task: Task, table: pd.DataFrame, path: Path) -> tuple[list[str], list[str], list[str]]:
    """The ids, the fixes, and the label that each is of."""
    known = {name.strip().casefold(): name for name in table.columns}
    id = known.get("id") or known.get(task.id.strip().casefold())
    if id is None:
        raise ValueError(f"fixes: {path} has no column 'id'; it has {listed(table.columns)}")
    others = [name for name in table.columns if name != id]
    fix = known.get("fix") or (others[0] if len(others) == 1 else None)
    if fix is None:
        raise ValueError(f"fixes: {path} has no column 'fix', the new labels; it has {listed(table.columns)}")
    several = len(task.labels) > 1
    if several and "column" not in known:
        raise ValueError(
            f"fixes: {path} has no column 'column', which label is meant ({listed(task.labels)}); it has "
            f"{listed(table.columns)}"
        )
    columns = table[known["column"]].tolist() if several else task.labels * len(table)
    return table[id].tolist(), table[fix].tolist(), columns


def _lookup(ids: Iterable[str]) -> Callable[[str], int | None]:
    """Finds the row of an id: as it is written, or else as the same whole number, where one id alone has it."""
    exact = {id: row for row, id in enumerate(ids)}
    numbers = pd.Series({id: _whole(id) for id in exact}, dtype=object).dropna()
    once = {number: exact[id] for id, number in numbers[~numbers.duplicated(keep=False)].items()}

    def find(id: str) -> int | None:
        return exact.get(id, exact.get(id.strip(), once.get(_whole(id))))

    return find


def _whole(text: str) -> int | None:
    """7 of "7", "007" and "7.0"; None of any other text."""
    head, _, tail = text.strip().partition(".")
    return int(head) if head.isdecimal() and not tail.strip("0") else None


def _as_label(task: Task, fix: str, where: str) -> str:
    """A label as train has it. Raises ValueError for one that the task does not have."""
    if task.classes:
        same = {name.strip().casefold(): name for name in task.classes}
        number = [name for name in task.classes if _equal(task, name, fix)]
        found = fix if fix in task.classes else task.spellings.get(fix) or same.get(fix.casefold())
        if found is None and len(number) != 1:
            raise ValueError(f"{where}: {fix!r} is no class{did_you_mean(fix, task.classes)} ({listed(task.classes)})")
        return found or number[0]
    if not are_numbers([fix]).all() or (task.kind == "multilabel" and float(fix) not in (0, 1)):
        needed = "0 or 1" if task.kind == "multilabel" else "a number"
        raise ValueError(f"{where}: {fix!r} is not {needed}, nor drop")
    return fix


def _equal(task: Task, one: str, other: str) -> bool:
    """Whether two labels are the same, as text or as numbers."""
    return one == other or (bool(are_numbers([one, other]).all()) and float(one) == float(other))
