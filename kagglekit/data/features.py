"""Features: columns as numbers for a model, and the classes that a group can have, fitted on training rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kagglekit.competition.checks import first_bad
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.task import Task

MISSING = ("", "nan", "na", "n/a", "null", "none", "<na>")  # how a missing number is written, in any case


@dataclass(frozen=True)
class Features:
    """How numbers are standardised, and which categories are known.

    numbers, categories: names of columns. center, scale: of each number. gaps: whether it is missing in some training
    row. known: the categories of each column in the order of their codes, from 1; 0 is an unknown category, or none.
    All plain data: `Features(**asdict(features))` is the same after a round trip through JSON.
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
        known = [sorted(set(table[name].str.strip()) - {""}) for name in categories]
        return cls(list(numbers), list(categories), center, scale, gaps, known)

    @property
    def sizes(self) -> dict[str, int | list[int]]:
        """Numbers from `transform`, and codes of each category: the options of `FeatureEncoder`."""
        return {"numbers": len(self.numbers) + sum(self.gaps), "categories": [len(known) + 1 for known in self.known]}

    def transform(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """The columns of any rows: "numbers" (rows, n) float32 and "categories" (rows, columns) int64, where there are
        any.

        A number has mean 0 and standard deviation 1 over the training rows, and is 0 where it is missing; after the
        numbers comes a 0/1 column for each that was missing in training. Values are clipped to +-10,000, to stay finite
        in half precision.
        """
        columns = {}
        if self.numbers:
            values = np.column_stack([_read_numbers(table[name]) for name in self.numbers])
            missing = np.isnan(values)
            standard = np.where(missing, 0.0, (values - self.center) / self.scale).clip(-1e4, 1e4)
            columns["numbers"] = np.column_stack([standard, missing[:, self.gaps]]).astype(np.float32)
        if self.categories:
            codes = [
                pd.Index(known, dtype=object).get_indexer(table[name].str.strip()) + 1
                for name, known in zip(self.categories, self.known, strict=True)
            ]
            columns["categories"] = np.column_stack(codes).astype(np.int64)
        return columns


@dataclass(frozen=True)
class Candidates:
    """Which classes the rows of a group can have: those that it has among the training rows, as the misconceptions of a
    question. Plain data like `Features`.

    column: of the groups. known: group -> numbers of its classes. classes: how many there are.
    """

    column: str
    known: dict[str, list[int]]
    classes: int

    @classmethod
    def fit(cls, table: pd.DataFrame, column: str, labels: np.ndarray, classes: int) -> "Candidates":
        """Learn from `table`, the training rows of a fold as written; labels: their class numbers (rows,), or their
        probabilities (rows, classes), of which those above 0 count."""
        own = labels > 0 if labels.ndim == 2 else labels[:, None] == np.arange(classes)  # (rows, classes)
        found = pd.DataFrame(own).groupby(table[column].str.strip().to_numpy()).any()
        known = {str(group): np.flatnonzero(row).tolist() for group, row in found.iterrows() if group}
        return cls(column, known, classes)

    def allowed(self, table: pd.DataFrame) -> np.ndarray:
        """The classes that each row of any table can have, (rows, classes) float32: 1, or 0; all in an unseen group
        and where the cell is empty."""
        masks = {group: np.isin(np.arange(self.classes), known) for group, known in self.known.items()}
        every = np.ones(self.classes, dtype=bool)
        rows = [masks.get(group, every) for group in table[self.column].str.strip()]
        return np.array(rows, dtype=np.float32).reshape(-1, self.classes)


def join_candidates(parts: Sequence[Candidates | None]) -> Candidates | None:
    """The classes that a group has in any of the parts; None where the first is none."""
    known: dict[str, set[int]] = {}
    for part in parts if parts[0] else ():
        for group, classes in part.known.items():
            known.setdefault(group, set()).update(classes)
    return parts[0] and Candidates(
        parts[0].column, {name: sorted(one) for name, one in known.items()}, parts[0].classes
    )


def keep_allowed(probs: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Probabilities (rows, classes) of the classes that are allowed, 0 for the others, with a sum of 1 again; where
    nothing is left of a row, all that are allowed are alike."""
    kept = np.where(allowed > 0, probs, 0)
    kept = np.where(kept.sum(axis=1, keepdims=True) > 0, kept, allowed)
    every = (allowed > 0).all(axis=1, keepdims=True)  # such a row stays as it is
    return np.where(every, probs, kept / kept.sum(axis=1, keepdims=True)).astype(probs.dtype)


def move_into(probs: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of others, such as pseudo labels (rows, classes), as a loss over allowed classes takes them, and the
    classes that are allowed then: what lies outside moves inside; where all of a row lies outside, that counts too."""
    outside = ~((probs > 0) & (allowed > 0)).any(axis=1, keepdims=True)
    allowed = np.where(outside & (probs > 0), 1, allowed).astype(allowed.dtype)
    return keep_allowed(probs, allowed), allowed


def check_features(
    task: Task, train: pd.DataFrame, test: pd.DataFrame, numbers: Sequence[str] = (), categories: Sequence[str] = ()
) -> None:
    """Raise ValueError unless these columns of a competition can be features.

    train, test: tables with these columns as written, and id. A number may be missing ("", "NA", "nan" ...), a category
    too ("" alone: "NA" may be a name). Refused are a column that one of the files lacks, that is the id, the group or a
    label, that is named twice, and a cell that is no number; the error names file, column and row.
    """
    twice = set(numbers) & set(categories)
    if twice:
        raise ValueError(f"column {min(twice)!r} is named as a number and as a category: keep one of them")
    for name in (*numbers, *categories):
        if name == task.id or name in (*task.labels, *task.label_columns):
            what = "the id" if name == task.id else "a label"
            raise ValueError(f"column {name!r} is {what}: it cannot be a feature")
        if name == task.group and name in categories:
            raise ValueError(
                f"column {name!r} is the group, and a model never sees the groups that it is validated on: what it "
                "learns about one helps nowhere. Leave it out of the categories"
            )
        for table, file in ((train, task.files["train"]), (test, task.files["test"])):
            if name not in table.columns:
                raise ValueError(f"{file} has no column {name!r}: features must be in train and in test")
            if name in numbers:
                check_number_column(table[name], file, table["id"], "name the column as a category")


def check_number_column(column: pd.Series, file: str, ids: pd.Series | None, otherwise: str) -> None:
    """Raise ValueError for a cell that is neither a number nor missing. otherwise: another way out, in words."""
    written = are_numbers(column)
    finite = np.array([not number or np.isfinite(float(cell)) for cell, number in zip(column, written, strict=True)])
    bad = ~(written | _missing(column)) | ~finite  # 1e999 is written as a number, and is none
    if bad.any():
        cell = first_bad(bad, column, ids, "which is no number")
        raise ValueError(f"{file}: {cell}; correct it, leave it empty, or {otherwise}")


def _missing(column: pd.Series) -> np.ndarray:
    return column.str.strip().str.lower().isin(MISSING).to_numpy()


def _read_numbers(column: pd.Series) -> np.ndarray:
    """float64 (rows,), NaN where a number is missing."""
    return np.array([np.nan if gap else float(cell) for cell, gap in zip(column, _missing(column), strict=True)])
