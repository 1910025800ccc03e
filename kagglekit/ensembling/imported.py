"""Imported predictions: a folder of tables made elsewhere becomes a task, runs and folds, as if trained here.

Each table is a model, and its file name the model's: .csv, .tsv or .parquet, also as .gz or .zip. Its columns:

- `id`: the same rows in every file, in any order; ids are text ("007" stays "007").
- the predictions. Classes: a column each, named as in the labels; two classes may have one column of any name, the
  probability of the second (the larger number, or the later by alphabet). Several labels or targets: a column each,
  named as the labels. One number, or classes in order: one column of any name, on the scale of the labels.
- the labels, here or in `labels.csv`: one column `label` or `target`, or a column `label_NAME` for each column NAME of
  predictions. If `labels.csv` has no such column, all but id, fold and group are labels; if it has, the rest is not
  read, and a single column of predictions may be called `label` or `target` too.
- `fold`, where the models were trained in folds: whole numbers from 0; predictions of fold k must come from models that
  did not see fold k. `group`: rows with equal values stay together; an empty one is alone.

Labels, fold and group may stand in one file or in several, and must agree. `NAME.test.csv` beside `NAME.csv` holds the
predictions of test: id and the columns of predictions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition import checks, guess
from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.folds import assign_folds, join_groups
from kagglekit.ensembling.prediction_files import ImportedFiles, read_files
from kagglekit.files import hash_files, resolve
from kagglekit.runs.tables import Run, column_names
from kagglekit.scoring.check import check_metric
from kagglekit.scoring.metrics import CLASSES

NEAR_ONE = 0.02  # how far the sum of a row's probabilities may be from 1: they may be rounded


@dataclass(frozen=True, eq=False)
class ImportedPredictions:
    """A folder of predictions as notebooks have their own.

    runs: one per model, without a folder; without test files their tests have no rows. labels: as from `encode_labels`.
    folds: id, fold, group and forward, as from `read_folds`; `made`: no file had folds. found: what was inferred from
    the files, and why (columns what, found, reason).
    """

    task: Task
    runs: list[Run]
    labels: np.ndarray
    folds: pd.DataFrame
    made: bool
    found: pd.DataFrame


def read_imported(
    folder: str | Path, kind: str | None = None, metric: str | None = None, seed: int = 0, n_folds: int = 5
) -> ImportedPredictions:
    """Read predictions that were made elsewhere; the module's first lines say how the tables look.

    kind, metric: as of a task; None infers them from labels and columns. Without a column `fold`, `n_folds` are made
    (`assign_folds`, with `seed`) for the second level: if a model saw the labels of the rows that it predicts, which
    cannot be checked here, no score is worth anything. Half a second for a file of 37,000 rows and 3 classes.
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
    form = "probability" if len(targets) == 1 and kind == "binary" else "columns"
    metric, why = (metric, "given") if metric else guess.guess_metric(kind, form, names)
    check_metric(metric, kind)
    group, columns = ("group" if files.group is not None else None), classes if kind in CLASSES else names
    task = Task(
        kind=kind, id="id", text=[], labels=names, classes=classes, form="columns", submission=["id", *columns],
        metric=metric, group=group, data=str(folder), files={}, encoding="utf-8", fingerprint=hash_files(files.paths),
    )  # fmt: skip
    matched = checked.assign(**{names[0]: match_labels(files, classes, name)}) if classes else checked
    labels = encode_labels(task, matched)
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
    findings = pd.DataFrame(found, columns=["what", "found", "reason"])
    return ImportedPredictions(task, runs, labels, folds, files.fold is None, findings)


def _read_folds(files: ImportedFiles, labels: np.ndarray, task: Task, n_folds: int, seed: int) -> pd.DataFrame:
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
                f"the folds split the group {files.group.iloc[row]!r} (id {files.ids[row]!r}): leave out the column "
                "'group' if its rows need not stay together, else train the models again with other folds"
            )
        if len(np.unique(folds)) < 2:
            raise ValueError("column 'fold' holds one fold: leave it out where the models were not trained in folds")
    return pd.DataFrame({"id": files.ids, "fold": folds.astype(np.int64), "group": groups, "forward": False})


def _make_run(files: ImportedFiles, model: str, task: Task, folds: pd.DataFrame) -> Run:
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


def guess_kind(files: ImportedFiles, targets: list[str], metric: str | None) -> tuple[str, str]:
    """The kind of task and the reason, from the labels' values and the columns of predictions."""
    names = list(files.labels.columns)
    if len(names) == 1 and len(targets) > 1:
        kind = "binary" if len(targets) == 2 else "multiclass"
        return kind, f"{len(targets)} columns of predictions, one of labels"
    shown = next(iter(files.models.values())).astype(str)
    return guess.guess_kind(files.labels, names, shown, targets, metric)


def read_classes(files: ImportedFiles, kind: str, targets: list[str], name: str) -> list[str]:
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


def match_labels(files: ImportedFiles, classes: list[str], name: str) -> np.ndarray:
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

    Raises ValueError for values that are no probabilities, and for rows whose class probabilities are more than 0.02
    from 1 in sum; the others are scaled.
    """
    if task.kind not in (*CLASSES, "multilabel"):
        if task.kind == "ordinal":  # from the scale of the labels to class indices
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
