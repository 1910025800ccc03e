"""Tables of a work folder: predictions with their metadata, and the folds.

Predictions have a row per text and a column per class or target. Their metadata says who made them and which labels the
maker saw: JSON in the parquet schema, so that it goes wherever the file is copied to, and pandas reads the table as any
other. The same holds for their checksum.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.files import Damaged, fold_folders, resolve, run_folder
from kagglekit.files.parquet import read_metadata, read_parquet, write_parquet

EVERYTHING = "all folds"  # of predictions whose maker saw every row of train
FULL = "full"  # the folder of the model of all rows, in that of its run


@dataclass(frozen=True, eq=False)
class Run:
    """The predictions of one run, read and checked.

    `oof` has the columns `id`, `fold` and one per class or target, in the order of train: only the rows of the finished
    folds. `rows` are these rows' positions in train, so `labels[run.rows]` belong to `oof`. `tests` holds one array
    (rows of test, columns) per finished fold, in the order of `test_ids`. `cross_fitted`: `oof` is not what the saved
    models predict, but what those of other epochs do, see `honest_run`. `full`: what the model of all rows predicts for
    test, as one more model; None: it is not asked.
    """

    name: str
    folder: Path | None
    columns: list[str]
    oof: pd.DataFrame = field(repr=False)
    rows: np.ndarray = field(repr=False)
    tests: dict[int, np.ndarray] = field(repr=False)
    test_ids: list[str] = field(repr=False)
    cross_fitted: bool = field(default=False, kw_only=True)
    full: np.ndarray | None = field(default=None, kw_only=True, repr=False)

    @property
    def folds(self) -> list[int]:
        """The finished folds."""
        return sorted(self.tests)

    @property
    def oof_array(self) -> np.ndarray:
        """The out-of-fold predictions, float32 (rows, columns)."""
        return self.oof.iloc[:, 2:].to_numpy(dtype=np.float32)

    @property
    def test_mean(self) -> np.ndarray:
        """The mean of the test predictions of all models, float32 (rows of test, columns)."""
        models = [self.tests[k] for k in self.folds] + ([] if self.full is None else [self.full])
        return np.mean(models, axis=0, dtype=np.float64).astype(np.float32)


def read_run(work: str | Path, run: str, task, folds: pd.DataFrame, test_ids: Sequence[str]) -> Run:
    """Read the finished folds of a run, and check that they belong to this task, these folds and this test file.

    folds: as from `read_folds`. test_ids: of test in its order.
    Raises FileNotFoundError for a run that is not there, ValueError for one that does not fit.
    """
    folder, test_ids = run_folder(work, run), [str(value) for value in test_ids]
    if not folder.is_dir():
        there = ", ".join(list_runs(work)) or "none with a finished fold"
        raise FileNotFoundError(f"run={run!r} does not exist in {resolve(work)}. Runs there: {there}")
    found = fold_folders(folder)
    if not found:
        raise FileNotFoundError(f"run={run!r} has no finished fold in {folder}: train one, or wait until it is done")
    again = f"Train it again (delete {folder}), or give run another name"
    if unknown := set(found) - set(folds["fold"]):
        raise ValueError(
            f"run={run!r} was made with other folds: it has fold {min(unknown)}, and folds.parquet has "
            f"{folds['fold'].min()} to {folds['fold'].max()}. {again}"
        )
    columns, oofs, tests, ours = column_names(task.columns), [], {}, hash_folds(folds)
    for k, place in found.items():
        rows = folds.loc[folds["fold"] == k, "id"].tolist()
        oof, test = read_parquet(place / "oof.parquet"), read_parquet(place / "test.parquet")
        for name, table, lead, ids, otherwise in (
            ("oof.parquet", oof, ["id", "fold"], rows, "with other folds than folds.parquet"),
            ("test.parquet", test, ["id"], test_ids, "for another test file"),
        ):
            file, metadata = place / name, read_metadata(place / name)
            if list(table.columns) != lead + columns:
                raise ValueError(
                    f"{file} has the columns {', '.join(table.columns)} and the task needs "
                    f"{', '.join(lead + columns)}: the run was made for another task. {again}"
                )
            if where := first_difference(table["id"].tolist(), ids):
                raise ValueError(f"{file} was made {otherwise}: {where}. {again}")
            if "fold" in table and (table["fold"] != k).any():
                raise ValueError(f"{file} holds rows of fold {table['fold'][table['fold'] != k].iloc[0]}. {again}")
            if metadata.get("fold", k) != k:
                raise ValueError(f"{file} holds predictions by the model of fold {metadata['fold']}. {again}")
            if metadata.get("folds", ours) != ours:
                raise ValueError(
                    f"{file} was made with other folds than folds.parquet has now: its model learned from "
                    f"{metadata.get('saw', 'some')} of those, and so may have seen rows that it would be scored on. "
                    f"{again}"
                )
        oofs.append(oof)
        tests[k] = test[columns].to_numpy(dtype=np.float32)
    rows = np.flatnonzero(folds["fold"].isin(list(found)).to_numpy())
    oof = pd.concat(oofs).set_index("id").loc[folds["id"].iloc[rows]].reset_index()
    return Run(run, folder, list(task.columns), oof, rows, tests, test_ids)


def add_full(run: Run, task, test_ids: Sequence[str], only: bool) -> Run:
    """A run that submits its model of all rows too, beside the models of its folds or as the only one.

    Raises as `find_full`, and ValueError for a table of another task or test file.
    """
    file, columns = find_full(run) / "test.parquet", column_names(task.columns)
    table = read_parquet(file)
    if list(table.columns) != ["id", *columns]:
        raise ValueError(f"{file} has the columns {', '.join(table.columns)}, and the task {', '.join(columns)}")
    if where := first_difference(table["id"].tolist(), [str(one) for one in test_ids]):
        raise ValueError(f"{file} was made for another test file: {where}. Delete {file.parent} and train it again")
    return replace(run, full=table[columns].to_numpy(dtype=np.float32), tests={} if only else run.tests)


def find_full(run: Run) -> Path:
    """The folder of the model of all rows. Raises FileNotFoundError for a run without it, such as a blend."""
    if (run.folder / "weights.json").is_file():
        raise FileNotFoundError(
            f"full: run={run.name!r} is a blend, whose weights were found for models of folds: submit one run with its "
            "model of all rows, or the blend without full="
        )
    if not (run.folder / FULL / "test.parquet").is_file():
        raise FileNotFoundError(
            f"full: run={run.name!r} has no finished model of all rows: run 3_train again with full_fit=true, which "
            "trains no finished fold again, or leave full= out"
        )
    return run.folder / FULL


def list_runs(work: str | Path) -> list[str]:
    """The names of the runs in a work folder that have a finished fold."""
    work = resolve(work)
    return sorted(p.name for p in work.iterdir() if p.is_dir() and fold_folders(p)) if work.is_dir() else []


def trained_runs(work: str | Path) -> list[str]:
    """The names of the trained runs (no blends) of a work folder that have a finished fold."""
    return [name for name in list_runs(work) if (run_folder(work, name) / "params.json").is_file()]


def column_names(columns: Sequence[str]) -> list[str]:
    """The names under which classes or targets stand in a table: their own, unless one is called `id` or `fold`."""
    return [f"{name} (class)" if name in ("id", "fold") else str(name) for name in columns]


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    predictions: np.ndarray,
    columns: Sequence[str],
    fold: int | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write predictions (rows, columns) as parquet, whole or not at all; `fold` is given for out-of-fold rows.

    metadata: who made them, and what it saw, as from `table_metadata`; `read_metadata` reads it back.
    Raises ValueError for a shape that does not fit, an id that comes twice, and NaN or infinity.
    """
    predictions = np.asarray(predictions)
    if predictions.shape != (len(ids), len(columns)):
        raise ValueError(
            f"{path}: the predictions have the shape {predictions.shape}, and {len(ids)} ids with {len(columns)} "
            f"columns ({', '.join(map(str, columns))}) need {(len(ids), len(columns))}"
        )
    frame = pd.DataFrame(predictions.astype(np.float32), columns=column_names(columns))
    bad = ~np.isfinite(frame.to_numpy())
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{path}: {bad.any(axis=1).sum()} of {len(ids)} rows hold NaN or infinity, the first is id "
            f"{ids[row]!r}, column {columns[column]!r} ({predictions[row, column]}): nothing was written. "
            "A smaller learning rate or another precision often helps"
        )
    frame.insert(0, "id", [str(value) for value in ids])
    if frame["id"].duplicated().any():
        raise ValueError(
            f"{path}: id {frame['id'][frame['id'].duplicated()].iloc[0]!r} comes twice: nothing was written"
        )
    if fold is not None:
        frame.insert(1, "fold", np.int64(fold))
    write_parquet(path, frame, metadata)


def first_difference(have: list[str], want: list[str]) -> str:
    """Where two lists of ids first differ, in words; an empty string where they are equal."""
    for number, (left, right) in enumerate(zip(have, want, strict=False), 1):
        if left != right:
            return f"row {number} has id {left!r}, expected {right!r}"
    return "" if len(have) == len(want) else f"{len(have)} rows, expected {len(want)}"


def write_folds(
    work: str | Path,
    ids: Sequence[str],
    folds: np.ndarray,
    groups: np.ndarray | None = None,
    forward: bool = False,
) -> Path:
    """Write folds.parquet in the order of train, and return its path: `id`, `fold`, `group`, `forward`.

    folds: (n,), fold -1 for rows that every model learns from. groups: (n,) numbers of rows that belong together; None:
    each row by itself. forward: the model of a fold learns from earlier folds alone, see `training_rows`.
    Raises ValueError for a group in two folds, for forward folds without a fold -1, and while there are runs of other
    folds. A file of these folds then stays as it is, and one that is damaged is made again.
    """
    path, folds = resolve(work) / "folds.parquet", np.asarray(folds).astype(np.int64)
    groups = np.arange(len(folds)) if groups is None else np.asarray(groups).astype(np.int64)
    table = pd.DataFrame({"id": list(ids), "fold": folds, "group": groups, "forward": bool(forward)})
    split = table.groupby("group")["fold"].nunique().gt(1)
    if split.any():
        raise ValueError(f"group {split.idxmax()} lies in several folds: assign the folds with these groups")
    if forward and folds.min() != -1:
        raise ValueError("forward folds begin with fold -1, which the model of fold 0 learns from: this has none")
    runs = list_runs(work)
    if path.is_file() and runs:
        try:
            before = read_parquet(path)
            same = before.equals(table[list(before.columns)]) and ("forward" in before or not forward)
        except Damaged:  # the tables of the runs know it, those of old versions excepted
            before, ours = None, {hash_folds(table), None}
            tables = [place / "oof.parquet" for run in runs for place in fold_folders(path.parent / run).values()]
            same = all(read_metadata(file).get("folds") in ours for file in tables)
        if not same:
            raise ValueError(
                f"{path.parent} has runs of other folds ({', '.join(runs)}): use another work=, or delete them"
            )
        if before is not None:
            return path
    write_parquet(path, table)
    return path


def read_folds(work: str | Path, ids: Sequence[str]) -> pd.DataFrame:
    """The table of folds.parquet: `id`, `fold` int64, `group` int64, `forward` bool, in the order of train.

    A file by an older version has neither groups nor times: each row is then its own group, and no fold goes forward.
    Raises FileNotFoundError before 1_eda has run, ValueError when the file has other ids.
    """
    path = resolve(work) / "folds.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 1_eda first, with the same work=")
    table = read_parquet(path)
    if where := first_difference(table["id"].tolist(), list(ids)):
        raise ValueError(f"{path} was made for another train file: {where}. Run 1_eda again")
    added = {"group": np.arange(len(table)), "forward": False}
    return table.assign(**{name: values for name, values in added.items() if name not in table})


def choose_folds(table: pd.DataFrame, folds: Sequence[int]) -> list[int]:
    """The folds to train, all of folds.parquet for an empty list. Raises ValueError for one that it lacks.

    Rows of fold -1 are learned from in every fold, and never validated.
    """
    there = sorted(fold for fold in table["fold"].unique().tolist() if fold >= 0)
    for fold in folds:
        if fold not in there:
            raise ValueError(f"folds={folds}: fold {fold} is not in folds.parquet: it has {there[0]} to {there[-1]}")
    return list(folds) or there


def training_rows(table: pd.DataFrame, fold: int) -> np.ndarray:
    """The positions of the rows that the model of a fold learns from, int64 in the order of train.

    table: as from `read_folds`. All rows of other folds, with those of fold -1; where the folds go forward in time, the
    rows of earlier folds alone. Raises ValueError for a fold that nothing is validated on.
    """
    (fold,), fold_of = choose_folds(table, [fold]), table["fold"].to_numpy()
    return np.flatnonzero(fold_of < fold if goes_forward(table) else fold_of != fold)


def goes_forward(folds: pd.DataFrame) -> bool:
    """Whether the folds of a table of folds.parquet go forward in time."""
    return bool(folds["forward"].any()) if "forward" in folds else False


def hash_folds(folds: pd.DataFrame) -> str:
    """A hash (16 hexadecimal digits) of which row is in which fold, and of whether the folds go forward in time.

    folds: `id`, `fold`, and `forward` where there is one, in the order of train; groups do not count. Equal for tables
    in which every model saw the same rows.
    """
    content = [folds["id"].astype(str).tolist(), folds["fold"].astype(int).tolist(), goes_forward(folds)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
