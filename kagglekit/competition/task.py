"""The task of a competition: inferred from its three files, checked, and kept in work/task.json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition import checks, guess
from kagglekit.competition.read import find_table, read_table
from kagglekit.competition.settings import TaskSettings
from kagglekit.files import hash_files, read_json, resolve, write_json
from kagglekit.scoring.check import check_metric
from kagglekit.scoring.metrics import CLASSES, is_higher_better

FILES = ("train", "test", "sample_submission")


@dataclass(frozen=True)
class Task:
    """A competition: its columns, the target, the form of the submission, and the metric."""

    kind: str  # binary, multiclass, multilabel, regression or ordinal
    id: str
    text: list[str]  # joined by a line break
    labels: list[str]  # columns of train
    classes: list[str]  # in order, as written in the file; none for multilabel and regression
    form: str  # of the submission: label (or value), probability (of classes[1]), columns (one per class or label)
    submission: list[str]  # columns of the sample submission
    metric: str
    group: str | None  # rows with the same value share a fold
    data: str  # folder of the files
    files: dict[str, str]  # names of train, test and sample_submission
    encoding: str
    fingerprint: str  # of the three files

    @property
    def columns(self) -> list[str]:
        """The columns of a predictions table: one per class for binary and multiclass, else one per label."""
        return self.classes if self.kind in CLASSES else self.labels

    def save(self, work: str | Path, overwrite: bool = False) -> Path:
        """Write work/task.json. Raises ValueError when the folder belongs to another competition, or, unless
        `overwrite`, has runs that were trained with other settings."""
        path = resolve(work) / "task.json"
        if path.is_file():
            old, new = read_json(path), asdict(self)
            if old.get("fingerprint") != self.fingerprint:
                raise ValueError(
                    f"{path.parent} belongs to another competition, or to other versions of its files (those in "
                    f"{old.get('data')}): use another work=, or delete the folder"
                )
            runs = sorted(run.parent.name for run in path.parent.glob("*/params.json"))
            changed = [f"{k}: {old.get(k)!r} is now {new[k]!r}" for k in new if k != "data" and old.get(k) != new[k]]
            if changed and runs and not overwrite:
                raise ValueError(
                    f"{path.parent} has runs made for other settings ({', '.join(runs[:9])}); {'; '.join(changed)}. "
                    "Use another work=, or delete these runs"
                )
        write_json(path, asdict(self))
        return path


def load_task(work: str | Path) -> Task:
    """The task of a work folder. Raises FileNotFoundError before 1_eda has run or when the data files are gone, and
    ValueError when they have changed since."""
    path = resolve(work) / "task.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 1_eda first, with the same work=")
    values = read_json(path)
    if set(values) != {field.name for field in fields(Task)}:
        raise ValueError(f"{path} was written by another version of kagglekit: run 1_eda again")
    task = Task(**values)
    files = [Path(task.data) / task.files[what] for what in FILES]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is gone: put it back, or run 1_eda again with data= where it is now")
    if hash_files(files) != task.fingerprint:
        raise ValueError(
            f"the files in {task.data} have changed since 1_eda read them: put the former ones back, or run 1_eda with "
            "another work="
        )
    return task


def infer(folder: str | Path, **given) -> tuple[Task, pd.DataFrame]:
    """Infer the task from train*, test* and sample_submission* in `folder`, and check that the files agree.

    given: fields of `TaskSettings`, which are used as they are, where they fit. Returns the task and a table of
    findings (columns what, found, reason). Raises FileNotFoundError, and ValueError that names file, column and the
    first bad row: data row 1 is the one below the header.
    """
    settings, folder = TaskSettings(**given), resolve(folder)
    encoding, files = settings.encoding, (settings.train, settings.test, settings.sample)
    paths = {what: find_table(folder, what, name=name) for what, name in zip(FILES, files, strict=True)}
    tables = {what: read_table(path, encoding) for what, path in paths.items()}
    train, test, sample = tables.values()
    names = {what: path.name for what, path in paths.items()}
    findings = []

    def choose(what, given, rule, *known):
        value, reason = (given, "given") if given else rule(*known)
        findings.append((what, _shown(value), reason))
        return value

    id = choose("id", settings.id, lambda: (sample.columns[0], "the first column of the sample submission"))
    checks.check_ids(tables, names, id)
    if id not in train.columns:
        findings.append(("ids of train", "row1, row2, ...", f"{names['train']} has no column {id!r}"))
    alone = "rows count as independent; name a column (author, prompt, patient) whose rows must stay in one fold"
    group = choose("group", settings.group, lambda: (None, alone))
    targets = [column for column in sample.columns if column != id]
    labels = choose("labels", _listed(settings.labels), guess.guess_labels, train, test, targets, {id, group})
    checks.check_columns(train, names["train"], id, group, labels)
    kind = choose("kind", settings.kind, guess.guess_kind, train, labels, sample, targets, settings.metric)
    checks.check_kind(kind, train, names["train"], id, labels, bool(settings.classes))
    classes = [str(name) for name in settings.classes or []]
    if kind in ("binary", "multiclass", "ordinal"):
        classes = choose("classes", classes, guess.guess_classes, train[labels[0]], targets)
    checks.check_classes(kind, classes, train, names["train"], id, labels)
    form = choose("form", settings.form, guess.guess_form, kind, classes, sample, targets)
    checks.check_form(form, kind, classes, labels, targets, names["sample_submission"])
    metric = choose("metric", settings.metric, guess.guess_metric, kind, form, labels)
    check_metric(metric, kind)
    findings.append(("better", "higher" if is_higher_better(metric) else "lower", f"{metric} says so"))
    text = choose("text", _listed(settings.text), guess.guess_text, train, test, {id, group, *labels})
    checks.check_text(text, {id, *labels}, train, test, names)
    for what, table in (("train", train), ("test", test)):
        empty = [row for row, value in enumerate(_join(table, text)) if not value.strip()]
        if empty:
            first = checks.name_row(empty[0], row_ids(table, id))
            count = f"{len(empty):,} of {len(table):,}"
            findings.append((f"empty texts in {what}", count, f"kept as empty; first {first}"))
    fingerprint, columns = hash_files(paths.values()), list(sample.columns)
    task = Task(
        kind, id, text, labels, classes, form, columns, metric, group, str(folder), names, encoding, fingerprint
    )
    return task, pd.DataFrame(findings, columns=["what", "found", "reason"])


def row_ids(table: pd.DataFrame, id: str) -> list[str]:
    """The ids of a table; "row1", "row2" ... where train has no id column."""
    return table[id].tolist() if id in table.columns else [f"row{row}" for row in range(1, len(table) + 1)]


def read_train(task: Task, more: Sequence[str] = ()) -> pd.DataFrame:
    """Columns id, text, group (if the task has one), the labels and `more` columns, as they are written; all str.
    Raises ValueError for one of `more` that train does not have, or whose name is one of the others."""
    return _read(task, "train", task.labels, more)


def read_test(task: Task, more: Sequence[str] = ()) -> pd.DataFrame:
    """Columns id, text, group (if the task and test have one) and `more` columns, all str, in the order of the file.
    Raises ValueError as `read_train` does."""
    return _read(task, "test", [], more)


def read_sample(task: Task) -> pd.DataFrame:
    """The sample submission as it is, all str."""
    return read_table(Path(task.data) / task.files["sample_submission"], task.encoding)


def _read(task: Task, what: str, labels: Sequence[str], more: Sequence[str]) -> pd.DataFrame:
    file = task.files[what]
    table = read_table(Path(task.data) / file, task.encoding)
    columns = {"id": row_ids(table, task.id), "text": _join(table, task.text)}
    if task.group in table.columns:
        columns["group"] = table[task.group]
    columns |= {label: table[label] for label in labels}
    for name in more:
        if name not in table.columns:
            raise ValueError(f"{file} has no column {name!r}: it has {', '.join(table.columns)}")
        if name in columns:
            raise ValueError(f"column {name!r} of {file} cannot be read again: it is the id, text, group or a label")
    return pd.DataFrame(columns | {name: table[name] for name in more})


def encode_labels(task: Task, train: pd.DataFrame) -> np.ndarray:
    """The labels as numbers: int64 (n,), an index into `task.classes`; float32 (n, labels) for multilabel, regression.

    `train` needs the label columns, as they are written. Raises ValueError for a value that is no class or no number.
    """
    for label in task.labels:
        bad = ~train[label].isin(task.classes) if task.classes else ~guess.are_numbers(train[label])
        if bad.any():
            what = f"one of the classes {_shown(task.classes)}" if task.classes else "a number"
            raise ValueError(checks.first_bad(bad, train[label], row_ids(train, "id"), f"which is not {what}"))
    if task.classes:
        return pd.Index(task.classes, dtype=object).get_indexer(train[task.labels[0]]).astype(np.int64)
    return train[task.labels].to_numpy(dtype=object).astype(np.float64).astype(np.float32)


def _listed(columns: str | list[str] | None) -> list[str] | None:
    return [columns] if columns and isinstance(columns, str) else columns and list(columns)


def _join(table: pd.DataFrame, columns: list[str]) -> list[str]:
    parts = zip(*(table[column] for column in columns), strict=True)
    return ["\n".join(part for part in row if part.strip()) for row in parts]


def _shown(value) -> str:
    if isinstance(value, list):
        more = f" ... ({len(value)})" if len(value) > 12 else ""
        return ", ".join(value[:12]) + more
    return "none" if value is None else str(value)
