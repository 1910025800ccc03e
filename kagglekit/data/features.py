"""Columns beside the text as numbers for a model: what they mean is learned from the training rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kagglekit.competition.checks import name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.task import Task

MISSING = ("", "nan", "na", "n/a", "null", "none", "<na>")  # how a number is left out, in any case


@dataclass(frozen=True)
class Features:
    """What the training rows say about columns: how numbers are standardised, and which categories there are.

    numbers, categories: names of columns. center, scale: of each number. gaps: whether it is missing in some training
    row. known: the categories of each column, in the order of their codes, which count from 1; 0 is a category that no
    training row has, or none. All plain data: `Features(**asdict(features))` is the same after a trip through JSON.
    """

    numbers: list[str]
    categories: list[str]
    center: list[float]
    scale: list[float]
    gaps: list[bool]
    known: list[list[str]]

    @classmethod
    def fit(cls, table: pd.DataFrame, numbers: Sequence[str] = (), categories: Sequence[str] = ()) -> "Features":
        """Learn from `table`, the training rows of a fold as written (str); no other row may be in it."""
        values = [_read_numbers(table[name]) for name in numbers]
        present = [column[~np.isnan(column)] for column in values]
        center = [float(column.mean()) if len(column) else 0.0 for column in present]
        spread = [float(column.std()) if len(column) else 0.0 for column in present]
        scale = [one if one > 1e-12 * abs(mean) else 1.0 for one, mean in zip(spread, center, strict=True)]
        gaps = [bool(np.isnan(column).any()) for column in values]
        known = [sorted(set(_read_categories(table[name])) - {""}) for name in categories]
        return cls(list(numbers), list(categories), center, scale, gaps, known)

    @property
    def sizes(self) -> dict[str, int | list[int]]:
        """How many numbers `transform` gives, and how many codes each category has: options of `FeatureEncoder`."""
        return {"numbers": len(self.numbers) + sum(self.gaps), "categories": [len(known) + 1 for known in self.known]}

    def transform(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """The columns of any rows: "numbers" (rows, n) float32 and "categories" (rows, columns) int64, those that there
        are.

        A number has mean 0 and standard deviation 1 over the training rows, and is 0 where it is missing; behind the
        numbers stands, for each that was missing in training, a column with 1 where it is. None is further from 0 than
        10,000, so that a stray value stays finite in half precision.
        """
        given = {}
        if self.numbers:
            values = np.column_stack([_read_numbers(table[name]) for name in self.numbers])
            missing = np.isnan(values)
            standard = np.where(missing, 0.0, (values - self.center) / self.scale).clip(-1e4, 1e4)
            given["numbers"] = np.column_stack([standard, missing[:, self.gaps]]).astype(np.float32)
        if self.categories:
            codes = [
                pd.Index(known).get_indexer(_read_categories(table[name])) + 1 if known else np.zeros(len(table))
                for name, known in zip(self.categories, self.known, strict=True)
            ]
            given["categories"] = np.column_stack(codes).astype(np.int64)
        return given


def check_features(
    task: Task, train: pd.DataFrame, test: pd.DataFrame, numbers: Sequence[str] = (), categories: Sequence[str] = ()
) -> None:
    """Raise ValueError unless columns of a competition can stand beside its text.

    train, test: tables with these columns as written, and id. A number may be missing ("", "NA", "nan" ...), and a
    category too ("" alone: "NA" may be a name). The error names file, column and row, and says what to do: a column
    that one of the files lacks, that is the id, the group or a label, or named twice, or a cell that is no number.
    """
    twice = set(numbers) & set(categories)
    if twice:
        raise ValueError(f"column {min(twice)!r} is named as a number and as a category: keep one of them")
    for name in (*numbers, *categories):
        if name == task.id or name in task.labels:
            what = "the id" if name == task.id else "a label"
            raise ValueError(f"column {name!r} is {what}: it cannot stand beside the text")
        if name == task.group and name in categories:
            raise ValueError(
                f"column {name!r} is the group, and no fold is trained on groups that it is validated on: what is "
                "learned about one of them helps nowhere. Leave it out of the categories"
            )
        for table, file in ((train, task.files["train"]), (test, task.files["test"])):
            if name not in table.columns:
                raise ValueError(
                    f"{file} has no column {name!r}: what stands beside the text must be in train and in test"
                )
            if name in numbers:
                _check_numbers(table[name], file, table["id"])


def _check_numbers(column: pd.Series, file: str, ids: pd.Series) -> None:
    written = are_numbers(column)
    finite = np.array([not number or np.isfinite(float(cell)) for cell, number in zip(column, written, strict=True)])
    bad = ~(written | _missing(column)) | ~finite  # 1e999 is written as a number, and is none
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{file}: column {column.name!r} holds {column.iloc[row]!r} in {name_row(row, ids)}, which is no number "
            f"({bad.sum():,} such rows); correct it, leave it empty, or name the column as a category"
        )


def _missing(column: pd.Series) -> np.ndarray:
    return column.str.strip().str.lower().isin(MISSING).to_numpy()


def _read_numbers(column: pd.Series) -> np.ndarray:
    """float64 (rows,), NaN where a number is missing."""
    return np.array([np.nan if gap else float(cell) for cell, gap in zip(column, _missing(column), strict=True)])


def _read_categories(column: pd.Series) -> list[str]:
    return [cell.strip() for cell in column]
