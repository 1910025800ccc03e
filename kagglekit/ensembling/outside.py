"""Predictions that somebody else made: a folder of tables becomes a task, runs and folds, as if trained here.

Each table of the folder is a model, and its file name the model's: .csv, .tsv or .parquet, also as .gz or .zip. Its
columns:

- `id`: the same rows in every file, in any order; ids are text ("007" stays "007").
- the predictions. Classes: a column per class, named as the class is in the labels. Two classes may have one column
  instead, of any name: the probability of the second (the larger number, or the later by alphabet). Several labels or
  targets: a column each, named as the labels. One number, or classes in order: one column of any name, on the scale of
  the labels; where `labels.csv` holds those, it may be called `label` or `target` too.
- the labels, here or in `labels.csv`: one column `label` or `target`; where there are several, a column `label_NAME`
  for each column NAME of predictions. If `labels.csv` has no column of such a name, every one beside id, fold and group
  is a label; if it has, the rest is not read.
- `fold`, where the models were trained in folds: whole numbers from 0. The predictions of fold k must come from models
  that did not see fold k. And `group`, where rows belong together: equal values are never parted, an
  empty one is alone.

Labels, fold and group may stand in one file or in several, and must agree. `NAME.test.csv` beside `NAME.csv` holds the
predictions of test: id and the columns of predictions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.data.folds import assign_folds, join_groups
from kagglekit.ensembling.outside_columns import guess_kind, match_labels, read_classes, to_columns
from kagglekit.ensembling.outside_files import Files, read_files
from kagglekit.metrics import CLASSES, check_metric
from kagglekit.paths import hash_files, resolve
from kagglekit.reading import checks, guess
from kagglekit.tables import Run, column_names
from kagglekit.task import Task, encode_labels


@dataclass(frozen=True, eq=False)
class Outside:
    """A folder of predictions, as notebooks have their own.

    runs: one per model, without a folder; without test files their tests have no rows. labels: as from `encode_labels`.
    folds: id, fold, group and forward, as from `read_folds`; `made` says that no file had folds. found: what was read
    off the files, and why (columns what, found, reason).
    """

    task: Task
    runs: list[Run]
    labels: np.ndarray
    folds: pd.DataFrame
    made: bool
    found: pd.DataFrame


def read_outside(
    folder: str | Path, kind: str | None = None, metric: str | None = None, seed: int = 0, n_folds: int = 5
) -> Outside:
    """Read predictions that somebody else made; the top of this file says what the tables have to look like.

    kind, metric: as of a task; None reads them off the labels and the columns. Without a column `fold`, `n_folds` are
    made (`assign_folds`, with `seed`), which part the rows for the second level alone: whether the predictions were
    made without the rows' labels cannot be seen, and if they were not, no score of theirs is worth anything.
    A file of 37,000 rows and 3 classes takes about half a second.
    Raises FileNotFoundError where there is nothing to read, and ValueError that names file, column and row.
    """
    folder = resolve(folder)
    files = read_files(folder)
    name, targets, names = files.source, list(next(iter(files.models.values())).columns), list(files.labels.columns)
    checked = files.labels.reset_index(names="id")
    checks.check_columns(checked, name, "id", None, names)
    kind, reason = (kind, "given") if kind else guess_kind(files, targets, metric)
    checks.check_kind(kind, checked, name, "id", names, False)
    classes = read_classes(files, kind, targets, name)
    one = len(targets) == 1 and kind == "binary"
    guessed = guess.guess_metric(kind, "probability" if one else "columns", names)
    metric, why = (metric, "given") if metric else guessed
    check_metric(metric, kind)
    group, columns = ("group" if files.group is not None else None), classes if kind in CLASSES else names
    task = Task(
        kind=kind, id="id", text=[], labels=names, classes=classes, form="columns", submission=["id", *columns],
        metric=metric, group=group, data=str(folder), files={}, encoding="utf-8", fingerprint=hash_files(files.paths),
    )  # fmt: skip
    labels = encode_labels(
        task, checked.assign(**{names[0]: match_labels(files, classes, name)}) if classes else checked
    )
    folds = _read_folds(files, labels, task, n_folds, seed)
    runs = [_make_run(files, model, task, folds) for model in files.models]
    found = [
        ("models", ", ".join(files.models), f"the tables of predictions in {folder.name}"),
        ("kind", kind, reason),
        ("columns", ", ".join(columns[:12]), "one for each class" if kind in CLASSES else "one for each label"),
        ("metric", metric, why),
        ("rows", f"{len(files.ids):,}", f"labels from {name}"),
        ("folds", str(folds["fold"].nunique()), "made for the second level" if files.fold is None else "in the files"),
        ("groups", f"{folds['group'].nunique():,}", "in the files" if group else "every row by itself"),
        ("rows of test", f"{len(runs[0].test_ids):,}", "in the files" if files.tests else "no NAME.test.csv"),
    ]
    return Outside(
        task, runs, labels, folds, files.fold is None, pd.DataFrame(found, columns=["what", "found", "reason"])
    )


def _read_folds(files: Files, labels: np.ndarray, task: Task, n_folds: int, seed: int) -> pd.DataFrame:
    """The folds of the files, or new ones."""
    groups = np.arange(len(labels)) if files.group is None else join_groups(files.group.tolist())
    if files.fold is None:
        spread = labels[:, None] == np.arange(len(task.classes)) if task.classes else labels
        folds = assign_folds(spread, groups, n_folds, seed)  # a class may have fewer rows than there are folds
    else:
        folds = pd.to_numeric(files.fold, errors="coerce").to_numpy(dtype=np.float64)
        bad = ~(folds >= 0) | (folds % 1 != 0)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"column 'fold' holds {files.fold.iloc[row]!r} for id {files.ids[row]!r}: use 0, 1, 2 ...")
        parted = pd.Series(folds).groupby(groups).transform("nunique").to_numpy() > 1
        if parted.any():
            row = int(parted.argmax())
            raise ValueError(
                f"the folds part the group {files.group.iloc[row]!r} (id {files.ids[row]!r}): leave out the column "
                "'group' if its rows need not stay together, else make the models again with other folds"
            )
        if len(np.unique(folds)) < 2:
            raise ValueError("column 'fold' holds one fold: leave it out where the models were not trained in folds")
    return pd.DataFrame({"id": files.ids, "fold": folds.astype(np.int64), "group": groups, "forward": False})


def _make_run(files: Files, model: str, task: Task, folds: pd.DataFrame) -> Run:
    predictions = to_columns(files.models[model], files.names[model], task).loc[files.ids]
    oof = pd.DataFrame(predictions.to_numpy(), columns=column_names(task.columns)).astype(np.float32)
    oof.insert(0, "id", files.ids)
    oof.insert(1, "fold", folds["fold"].to_numpy())
    ids, test = [], np.zeros((0, len(task.columns)), dtype=np.float32)
    if files.tests:
        ids = next(iter(files.tests.values())).index.tolist()
        table = to_columns(files.tests[model], files.names[f"{model}.test"], task).loc[ids]
        test = table.to_numpy(dtype=np.float32)
    tests = {int(k): test.copy() for k in np.unique(folds["fold"])}
    return Run(model, None, list(task.columns), oof, np.arange(len(oof)), tests, ids)
