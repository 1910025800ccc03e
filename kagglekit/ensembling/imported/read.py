"""Imported predictions: a folder of tables made elsewhere becomes a task, runs and folds, as if trained here.

Each file is a model, and its name the model's: CSV, TSV, parquet, JSON lines, also as .gz or .zip, or .npy and .npz.

- Ids: the column `id`, or any that all files share and that tells rows apart. The rows are the same in every file, in
  any order; ids are text ("007" stays "007"). Files without ids, such as arrays, are in the order of the labels.
- Predictions. Classes: a column each, named as in the labels, but for case and what all names begin or end with
  ("prob_cat"); two classes may have one column of any name, the probability of the second (the larger number, or the
  later by alphabet). Several labels or targets: a column each, named as the labels. One number, or classes in order:
  one column of any name, on the scale of the labels. Logits are made probabilities. Columns of words are left out.
- Labels, here or in `labels.csv` (or train.csv, y_true.npy, ...): one column `label` or `target`, or one that holds
  names of columns of predictions, or a column `label_NAME` for each column NAME of predictions. A label may be the
  number of its column, and columns may be the numbers of classes in alphabetical order: that is checked against the
  predictions. If `labels.csv` has no such column, all but id, fold and group are labels; if it has, the rest is not
  read, and a single column of predictions may be called `label` or `target` too.
- `fold`, where the models were trained in folds: whole numbers from 0; predictions of fold k must come from models that
  did not see fold k. `group`: rows with equal values stay together; an empty one is alone.

Labels, fold and group may stand in one file or in several, and must agree. Predictions of test are in a file beside the
model's: `NAME.test.csv`, or `test_NAME` or `sub_NAME` beside `oof_NAME`; or they are rows of the same file that have no
label in labels.csv. Rows that no model predicts are left out. What was guessed stands in the findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition import checks, guess
from kagglekit.competition.labels import is_missing
from kagglekit.competition.task import BY, Task, encode_labels
from kagglekit.data.folds import assign_folds, join_groups
from kagglekit.ensembling.imported.columns import (
    align_columns,
    holds_logits,
    name_classes,
    plain_names,
    to_probabilities,
)
from kagglekit.ensembling.imported.files import ImportedFiles, read_files
from kagglekit.files import hash_files, resolve
from kagglekit.options import check_range
from kagglekit.runs.tables import Run, column_names
from kagglekit.scoring import KINDS
from kagglekit.scoring.check import check_metric
from kagglekit.scoring.metrics import CLASSES, metric_column


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
    folder: str | Path,
    kind: str | None = None,
    metric: str | None = None,
    seed: int = 0,
    n_folds: int = 5,
    id: str | None = None,
    labels: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> ImportedPredictions:
    """Read predictions that were made elsewhere; the module's first lines say how the tables look.

    kind, metric: as of a task; None infers them from labels and columns. id, labels: names of columns. classes: in the
    order of the columns, or of the numbers that are the labels. Empty: inferred. Without a column `fold`, `n_folds` are
    made (`assign_folds`, with `seed`) for the second level: if a model saw the labels of the rows that it predicts,
    which cannot be checked here, no score is worth anything. A quarter of a second for a file of 37,000 rows and 3
    classes. Raises FileNotFoundError where there is nothing to read, and ValueError that names file, column and row.
    """
    folder = resolve(folder)
    files = read_files(folder, id, labels)
    every = align_columns({**files.models, **{f"{stem}.test": table for stem, table in files.tests.items()}},
                          files.names, files.notes)  # fmt: skip
    name, targets, names = files.source, list(next(iter(every.values())).columns), list(files.labels.columns)
    checked = files.labels.reset_index(names="id")
    for label in names:
        if (missing := is_missing(checked[label], targets)).any():
            where = checks.name_row(int(missing.argmax()), checked["id"])
            raise ValueError(
                f"{name}: column {label!r} has no value in {where} ({missing.sum():,} such rows): fill them in, or "
                "leave these rows out of all files"
            )
    if kind is not None:
        check_range("kind", kind, kind in KINDS, f"one of {', '.join(KINDS)}")
    kind, reason = (kind, "given") if kind else guess_kind(files.labels, every, targets, metric)
    checks.check_kind(kind, checked, name, "id", names, False)
    models = {stem: every[stem] for stem in files.models}
    classes, renamed, matched = read_classes(files, models, kind, targets, classes)
    every = {stem: table.rename(columns=renamed) for stem, table in every.items()}
    form = "probability" if len(targets) == 1 and kind == "binary" else "columns"
    metric, why = (metric, "given") if metric else guess.guess_metric(kind, form, names)
    check_metric(metric, kind)
    column = metric_column(metric)
    if column and (column != "group" or files.group is None):
        raise ValueError(
            f"metric={metric!r}: of the columns beside the labels only 'group' is read here: give {column!r} that name "
            f"in labels.csv or in a file, and say metric={metric.partition('_by:')[0]}_by:group"
        )
    group, columns = ("group" if files.group is not None else None), classes if kind in CLASSES else names
    task = Task(
        kind=kind, id="id", text=[], labels=names, classes=classes, form="columns", submission=["id", *columns],
        metric=metric, group=group, data=str(folder), files={}, encoding="utf-8", fingerprint=hash_files(files.paths),
    )  # fmt: skip
    checked = checked.assign(**{names[0]: matched.to_numpy()}) if classes else checked
    labels = encode_labels(task, checked.assign(**{BY: files.group.to_numpy()}) if column else checked)
    check_metric(metric, kind, labels, len(columns))
    folds = _read_folds(files, labels, task, n_folds, seed)
    runs = [_make_run(files, every, model, task, folds) for model in files.models]
    found = [
        ("models", ", ".join(files.models), f"the tables of predictions in {folder.name}"),
        ("kind", kind, reason),
        ("columns", checks.listed(columns, 12), "one for each class" if kind in CLASSES else "one for each label"),
        ("metric", metric, why),
        ("rows", f"{len(files.ids):,}", f"labels from {name}"),
        ("folds", str(folds["fold"].nunique()), "made for the second level" if files.fold is None else "in the files"),
        ("groups", f"{folds['group'].nunique():,}", "in the files" if group else "every row by itself"),
        ("rows of test", f"{len(runs[0].test_ids):,}", "in the files" if files.tests else "no NAME.test.csv"),
        *files.notes,
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


def _make_run(files: ImportedFiles, every: dict[str, pd.DataFrame], model: str, task: Task, folds: pd.DataFrame) -> Run:
    logits = task.kind in (*CLASSES, "multilabel") and holds_logits(every[model])
    if logits:
        files.notes.append((files.names[model], "logits", "not between 0 and 1: made probabilities"))
    predictions = to_columns(every[model], files.names[model], task, logits).loc[files.ids]
    oof = pd.DataFrame(predictions.to_numpy(), columns=column_names(task.columns)).astype(np.float32)
    oof.insert(0, "id", files.ids)
    oof.insert(1, "fold", folds["fold"].to_numpy())
    ids, test = [], np.zeros((0, len(task.columns)), dtype=np.float32)
    if files.tests:
        ids = next(iter(files.tests.values())).index.tolist()
        table = to_columns(every[f"{model}.test"], files.names[f"{model}.test"], task, logits).loc[ids]
        test = table.to_numpy(dtype=np.float32)
    tests = {int(k): test.copy() for k in np.unique(folds["fold"])}
    return Run(model, None, list(task.columns), oof, np.arange(len(oof)), tests, ids)


def guess_kind(labels: pd.DataFrame, every: dict, targets: list[str], metric: str | None) -> tuple[str, str]:
    """The kind of task and the reason, from the labels' values and the columns of predictions."""
    names = list(labels.columns)
    if len(names) == 1 and len(targets) > 1:
        kind = "binary" if len(targets) == 2 else "multiclass"
        return kind, f"{len(targets)} columns of predictions, one of labels"
    shown = next(iter(every.values())).astype(str)
    return guess.guess_kind(labels, names, shown, targets, metric)


def read_classes(
    files: ImportedFiles, models: dict[str, pd.DataFrame], kind: str, targets: list[str], given: Sequence[str]
) -> tuple[list[str], dict[str, str], pd.Series]:
    """The classes in order, none for multilabel and regression; new names of the columns of predictions; and the labels
    as the classes are written. Raises ValueError where columns and labels differ."""
    names, first, labels = list(files.labels.columns), files.names[next(iter(models))], files.labels.iloc[:, 0]
    if len(names) > 1 or kind == "multilabel":
        plain = dict(zip(plain_names(names), names, strict=True))
        renamed = {column: plain.get(name, column) for name, column in zip(plain_names(targets), targets, strict=True)}
        renamed = {column: column if column in names else name for column, name in renamed.items()}
        if set(names) != set(renamed.values()):
            raise ValueError(
                f"{first} predicts {checks.listed(targets, 9)}, and the labels of {files.source} are "
                f"{checks.listed(names, 9)}: {sorted(set(names) ^ set(targets))[0]!r} is in one of them only. Name "
                "them alike"
            )
        return [], renamed, labels
    values = set(labels)
    if kind in CLASSES and len(targets) > 1:
        if kind == "binary" and len(targets) > 2:
            raise ValueError(f"kind='binary' has two classes, and {first} has {len(targets)} columns of predictions")
        try:
            classes, order = name_classes(targets, labels, models, given, files.notes)
        except ValueError as error:
            raise ValueError(f"{files.source}: {error}") from error
        return classes, dict(zip(targets, classes, strict=True)), labels.map(order)
    if len(targets) > 1 or kind == "multiclass":
        needs = "a column for each class" if kind == "multiclass" else "one column of predictions"
        raise ValueError(f"kind={kind!r} needs {needs}, and {first} has {checks.listed(targets, 9)}: say another kind=")
    if kind != "ordinal":
        classes = (list(given) or guess.guess_classes(values, [])[0]) if kind == "binary" else []
        check_range(
            "classes", classes, not classes or values <= set(classes), f"the labels {checks.listed(sorted(values), 9)}"
        )
        return classes, {}, labels
    numbers = np.array(sorted({float(value) for value in values}))
    step = np.diff(numbers).min()
    places = (numbers - numbers[0]) / step
    if not np.allclose(places, np.rint(places), atol=1e-6):
        raise ValueError(
            f"{files.source}: kind='ordinal' needs labels that are equally far apart, and column {names[0]!r} holds "
            f"{checks.listed([f'{number:g}' for number in numbers], 9)}: number the classes, or say kind='regression'"
        )
    classes = [f"{numbers[0] + step * place:g}" for place in range(round(places[-1]) + 1)]
    return classes, {}, labels.map(lambda value: classes[round((float(value) - numbers[0]) / step)])


def to_columns(table: pd.DataFrame, name: str, task: Task, logits: bool = False) -> pd.DataFrame:
    """Predictions as a run has them, a column for each of `task.columns`, float64 in the order of the file."""
    if task.kind not in (*CLASSES, "multilabel"):
        if task.kind == "ordinal":  # from the scale of the labels to class indices
            first, second = float(task.classes[0]), float(task.classes[1])
            table = (table - first) / (second - first)
        return table.set_axis(task.columns, axis=1) if table.shape[1] == 1 else table[task.columns]
    table = to_probabilities(table, name, task.kind, logits)
    if table.shape[1] == 1 and task.kind == "binary":
        second = table.iloc[:, 0]
        return pd.DataFrame({task.columns[0]: 1 - second, task.columns[1]: second})
    return table[task.columns]
