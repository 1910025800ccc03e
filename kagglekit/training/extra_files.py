"""Extra rows: labelled rows of other files, learned by every fold and never validated on; and whether they help.

Rows that nearly copy what a fold is validated on, or that are of a group of it, are left out of that fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.labelled import read_labelled
from kagglekit.competition.task import Task, read_test, read_train
from kagglekit.data.duplicates import count_range, near_duplicate_groups
from kagglekit.data.features import check_features
from kagglekit.files import resolve
from kagglekit.files.parquet import read_parquet
from kagglekit.runs.record import count_seeds
from kagglekit.runs.tables import Run
from kagglekit.scoring.bootstrap import bootstrap_scores, interval
from kagglekit.scoring.metrics import is_higher_better, score
from kagglekit.training.recipe import Recipe

OWN = "own"  # the source of the rows of train and of test
WITHOUT = "without.parquet"  # in the folder of a fold: out-of-fold predictions without extra rows


def tag_texts(table: pd.DataFrame, sources: str | Sequence[str] = OWN) -> pd.DataFrame:
    """A copy of a table with the source in front of each text, as "own: ..."."""
    names = [sources] * len(table) if isinstance(sources, str) else sources
    return table.assign(text=[f"{name}: {text}" for name, text in zip(names, table["text"], strict=True)])


@dataclass(frozen=True, eq=False)
class ExtraFiles:
    """Rows of train, and behind them those of files.

    train: as from `read_train`; the id of an extra row is "FILE:ID". test: as given, or with its source. own: number of
    rows of train. copies: (rows,) numbers, equal for near-copies. groups: (rows,) values of the task's group, "" for
    none. weights: (rows,) float32, of the loss.
    """

    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    own: int
    copies: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)

    @classmethod
    def read(
        cls,
        task: Task,
        train: pd.DataFrame,
        test: pd.DataFrame,
        files: str | Sequence[str],
        recipe: Recipe,
        prefix: bool = False,
        weight: float = 1.0,
    ) -> "ExtraFiles":
        """Read the files and find copies; says how many rows there are, and how many are copies of rows of test.

        prefix: each text begins with its source: the column `source` of a file, or the file's name; "own" in train and
        test. weight: of the loss of an extra row, where one of train has 1. Copies are those of
        `near_duplicate_groups`. Raises ValueError as `read_labelled` does, and for a file without rows.
        """
        paths = [resolve(file) for file in ([files] if isinstance(files, str) else files)]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise ValueError(f"extra: {twice[0]} is named twice")
        if gone := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(f"extra: {gone[0]} does not exist, or is no file")
        parts = [_read_file(task, path, recipe) for path in paths]
        extra = pd.concat(parts, ignore_index=True)
        if clash := sorted({*extra["id"]} & {*train["id"]}):
            raise ValueError(f"extra: the id {clash[0]!r} is in train too: give the file another name")
        plain = [table["text"] for table in (train, extra, test)]
        if task.pattern:  # its own words would make all texts alike
            columns = task.by_columns
            plain = [read_train(columns)["text"], *(_read_file(columns, path, recipe)["text"] for path in paths)]
            plain.append(read_test(columns)["text"])
        copies = near_duplicate_groups([text for texts in plain for text in texts])
        own, rows = len(train), len(train) + len(extra)
        in_test = int(np.isin(copies[own:rows], copies[rows:]).sum())
        print(f"extra: {len(extra):,} rows of {', '.join(path.name for path in paths)}, learned and never validated on")
        if in_test:
            print(
                f"extra: {in_test:,} of them are (nearly) texts of test; they are learned, as any labelled row may be"
            )
        sources = extra.pop("source")
        groups = pd.concat([table.get("group", pd.Series("", table.index)) for table in (train, extra)]).fillna("")
        if prefix:
            train, test, extra = tag_texts(train), tag_texts(test), tag_texts(extra, sources)
        both = pd.concat([train, extra[[name for name in train if name in extra]]], ignore_index=True).fillna("")
        weights = np.where(np.arange(rows) < own, 1.0, weight).astype(np.float32)
        return cls(both, test, own, copies[:rows], groups.to_numpy(), weights)

    def rows(self, valid_rows: np.ndarray) -> np.ndarray:
        """The extra rows (numbers in `train`) for a model that is validated on `valid_rows`."""
        return np.flatnonzero(~np.any(list(self._reasons(valid_rows).values()), axis=0)) + self.own

    def left_out(self, valid_rows: np.ndarray) -> dict[str, int]:
        """How many extra rows it does not learn, by reason."""
        return {why: int(rows.sum()) for why, rows in self._reasons(valid_rows).items() if rows.any()}

    def describe_left_out(self, folds: Sequence[np.ndarray]) -> str:
        """How many extra rows folds do not learn, in words, by reason; empty where there are none. folds: the rows that
        each is validated on."""
        each = pd.DataFrame([self.left_out(rows) for rows in folds]).fillna(0).astype(int)
        found = [f"{count_range(counts.tolist())} {why}" for why, counts in each.items()]
        return f"extra: rows that a fold does not learn: {', '.join(found)}" if found else ""

    def _reasons(self, valid_rows: np.ndarray) -> dict[str, np.ndarray]:
        copied = np.isin(self.copies[self.own :], self.copies[valid_rows])
        groups = self.groups[self.own :]
        grouped = np.isin(groups, self.groups[valid_rows]) & (groups != "") & ~copied
        return {"(nearly) texts of validation rows": copied, "of groups of validation rows": grouped}


def _read_file(task: Task, path: Path, recipe: Recipe) -> pd.DataFrame:
    """The rows of a file with ids of their own and their source."""
    rows = read_labelled(task, path, recipe.train_columns)
    if not len(rows):
        raise ValueError(f"{path} has no labelled row: leave it out of extra")
    where = replace(task, files={"train": path.name, "test": path.name})
    check_features(where, rows, rows, *(recipe.features.get(kind, ()) for kind in ("numbers", "categories")))
    given = rows["source"].str.strip() if "source" in rows else pd.Series("", rows.index)
    sources = given.where(given != "", path.name.split(".")[0])
    return rows.assign(id=[f"{path.name}:{one}" for one in rows["id"]], source=sources)


def measure_extra(run: Run, task: Task, labels: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """What extra rows bring: the gain of the out-of-fold score by them, above 0 where it is better with them, its 95 %
    interval (paired bootstrap over `groups` of rows), and a word: helps, hurts or cannot tell.

    labels, groups: of all rows of train. Over the finished folds that were trained without them too, with as many
    seeds; empty without any.
    """
    places = {fold: run.folder / f"fold{fold}" for fold in run.folds}
    known = [fold for fold, place in places.items() if count_seeds(place, WITHOUT) == max(1, count_seeds(place))]
    if not known:
        return {}
    ours = run.oof["fold"].isin(known).to_numpy()
    rows, ids = run.rows[ours], run.oof["id"][ours]
    found = pd.concat([read_parquet(run.folder / f"fold{fold}" / WITHOUT) for fold in known]).set_index("id").loc[ids]
    without = found.drop(columns="fold").to_numpy(dtype=np.float32)
    together = None if groups is None else groups[rows]
    return compare(task.metric, labels[rows], run.oof_array[ours], without, together) | {"folds": known}


def compare(
    metric: str, labels: np.ndarray, given: np.ndarray, without: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Scores `with` and `without`, `gain`, `interval` and `verdict`, see `measure_extra`; all of the same rows."""
    sign = 1 if is_higher_better(metric) else -1
    both = [float(score(metric, labels, one)) for one in (given, without)]
    drawn = bootstrap_scores(metric, labels, [given, without], groups, n=1000)
    units = len(labels) if groups is None else len(np.unique(groups))
    low, high = interval(sign * (drawn[:, 0] - drawn[:, 1]), units)
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "cannot tell"
    scores = {"with": both[0], "without": both[1], "gain": sign * (both[0] - both[1])}
    return scores | {"interval": [low, high], "verdict": verdict}


def describe_gain(metric: str, found: dict[str, Any]) -> str:
    """What `measure_extra` found, in a sentence."""
    low, high = found["interval"]
    what = {"helps": "extra rows help", "hurts": "extra rows hurt"}.get(found["verdict"], "extra rows: cannot tell")
    gain = f"the gain by them is {found['gain']:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
    return f"{what}: {metric} {found['with']:.4f} with and {found['without']:.4f} without, {gain}"
