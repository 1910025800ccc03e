"""The task of a competition: kept in work/task.json; and the rows of its files, read as it says."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.checks import first_bad
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.labels import decode, unlabelled
from kagglekit.competition.tables import EXAMPLES, existing_files, fill_sample, read_again, read_one
from kagglekit.competition.text_columns import SEPARATOR, join_columns
from kagglekit.files import Damaged, hash_files, read_json, resolve, write_json
from kagglekit.scoring.grouped import LabelsBy
from kagglekit.scoring.metrics import CLASSES, find_metric, metric_column

BY = "metric_by"  # the column of `read_train` that says which group of the metric a row is of
SUBMITTED = ("form", "mapping", "joiner", "bounds", "may_be_empty", "unclear")  # what only the submission depends on


@dataclass(frozen=True)
class Task:
    """A competition: its columns, the target, the form of the submission, and the metric.

    Columns of train and test have the names that `renamed` gives them; those of `submission` are as written.
    """

    kind: str  # binary, multiclass, multilabel, regression or ordinal
    id: str  # "": none, rows of the sample submission go by order
    text: list[str]  # columns
    labels: list[str]  # columns of `read_train`
    classes: list[str]  # in order, as written in the file; none for multilabel and regression
    form: str  # of the submission: label (or value), probability (of classes[1]), columns, list, top3; see forms.py
    submission: list[str]  # columns of the sample submission
    metric: str
    group: str | None  # rows with the same value share a fold
    data: str  # folder of the files
    files: dict[str, str]  # train, test, sample_submission (if there is one) and files that are joined: path in `data`
    encoding: str  # of files that are not UTF-8
    fingerprint: str  # of the files
    reading: dict[str, Any] = field(default_factory=dict)  # how they are read, see tables.py
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)  # file -> column as written -> as called here
    header: bool = True  # of the sample submission
    layout: str = ""  # how train holds the labels, see labels.py
    label_columns: list[str] = field(default_factory=list)  # of train, from which a layout makes `labels`
    separator: str = ""  # between labels of a cell of train
    spellings: dict[str, str] = field(default_factory=dict)  # label as written -> class
    drop_unlabelled: bool = False  # rows of train
    mapping: dict[str, str] = field(default_factory=dict)  # class -> what the submission writes, where they differ
    joiner: str = ""  # between names of a cell of the submission
    bounds: list[list[float]] = field(default_factory=list)  # smallest and largest value of each label; empty: not kept
    may_be_empty: bool = False  # a cell of the submission, as those of train
    unclear: str = ""  # why no submission can be written yet
    pattern: str | None = None  # template of the text over its columns; None: one after the other
    text_separator: str = "\n"  # between several text columns, see text_columns.py; a line break in version 0.2

    @property
    def columns(self) -> list[str]:
        """The columns of a predictions table: one per class for binary and multiclass, else one per label."""
        return self.classes if self.kind in CLASSES else self.labels

    @property
    def csv(self) -> dict[str, Any]:
        """How the submission is written: header or not, what divides cells, and the decimal point, as in the sample."""
        how = {name: self.reading.get(f"sample_{name}") for name in ("delimiter", "decimal")}
        return {"header": self.header, "sep": how["delimiter"] or ",", "decimal": how["decimal"] or "."}

    @property
    def by_columns(self) -> "Task":
        """The task with its text columns one after the other, not in a template: for finding copies."""
        return replace(self, pattern=None, text_separator=SEPARATOR)

    @property
    def sample_id(self) -> str | None:
        """The id column of the sample submission, as it is written there; None where it has labels alone."""
        names = self.renamed.get("sample_submission", {})
        return next((column for column in self.submission if names.get(column, column) == self.id), None)

    @property
    def targets(self) -> list[str]:
        """The columns of the sample submission that are predicted, as they are written there; not those of test."""
        names = self.renamed.get("sample_submission", {})
        return [column for column in self.submission if names.get(column, column) not in (self.id, "")]

    def save(self, work: str | Path, overwrite: bool = False) -> Path:
        """Write work/task.json. Raises ValueError when the folder belongs to another competition, or, unless
        `overwrite`, has runs that were trained with other settings."""
        path = resolve(work) / "task.json"
        new = asdict(self)
        with suppress(FileNotFoundError, Damaged):
            old = read_json(path)
            if old.get("fingerprint") != self.fingerprint:
                raise ValueError(
                    f"{path.parent} belongs to another competition, or to other versions of its files (those in "
                    f"{old.get('data')}): use another work=, or delete the folder"
                )
            runs = sorted(run.parent.name for run in path.parent.glob("*/params.json"))
            old = _defaults() | old
            kept = [name for name in new if name not in ("data", *SUBMITTED)]
            changed = [f"{name}: {old.get(name)!r} is now {new[name]!r}" for name in kept if old.get(name) != new[name]]
            if changed and runs and not overwrite:
                raise ValueError(
                    f"{path.parent} has runs made for other settings ({', '.join(runs[:9])}); {'; '.join(changed)}. "
                    "Use another work=, or delete these runs"
                )
        write_json(path, asdict(self))
        return path


def is_work(place: str | Path) -> bool:
    """Whether a path is a work folder: it has the task that 1_eda writes."""
    return (resolve(place) / "task.json").is_file()


def load_task(work: str | Path) -> Task:
    """The task of a work folder. Raises FileNotFoundError before 1_eda has run or when the data files are gone, and
    ValueError when they have changed since."""
    path = resolve(work) / "task.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 1_eda first, with the same work=")
    values = read_json(path)
    if (task := as_task(values)) is None:
        raise ValueError(f"{path} was written by another version of kagglekit: run 1_eda again")
    if hash_files(existing_files(task.data, task.files.values())) != task.fingerprint:
        raise ValueError(
            f"the files in {task.data} have changed since 1_eda read them: put the former ones back, or run 1_eda with "
            "another work="
        )
    return task


def as_task(values: dict) -> Task | None:
    """The task of a task.json, of this version or of 0.2; None for any other."""
    values = _defaults() | values
    return Task(**values) if set(values) == {one.name for one in fields(Task)} else None


def _defaults() -> dict:
    """The fields that tasks of version 0.2 do not have."""
    made = {one.name: one.default_factory() for one in fields(Task) if one.default_factory is not MISSING}
    return made | {one.name: one.default for one in fields(Task) if one.default is not MISSING}


def row_ids(table: pd.DataFrame, id: str, prefix: str = "row") -> list[str]:
    """The ids of a table; "row1", "row2" ... where it has no id column."""
    return table[id].tolist() if id in table.columns else [f"{prefix}{row}" for row in range(1, len(table) + 1)]


def read_train(task: Task, more: Sequence[str] = ()) -> pd.DataFrame:
    """Columns id, text, group (if the task has one), metric_by (if its metric is by a column), the labels and `more`
    columns, as they are written; all str. The text is one column of the file, several with `SEPARATOR` between them, or
    a template filled with them. Raises ValueError for one of `more` that train does not have, or whose name is one of
    the others."""
    return _read(task, "train", task.labels, more)


def read_test(task: Task, more: Sequence[str] = ()) -> pd.DataFrame:
    """Columns id, text, group (if the task and test have one) and `more` columns, all str, in the order of the file.
    Raises ValueError as `read_train` does."""
    return _read(task, "test", [], more)


def read_sample(task: Task) -> pd.DataFrame:
    """The sample submission as it is, all str; where there is none, the ids of test with one value in all rows."""
    sample = None
    if "sample_submission" in task.files:
        sample = read_submission(task, Path(task.data) / task.files["sample_submission"])
        if len(sample) > EXAMPLES:
            return sample
    test = read_again(task.data, task.files, task.encoding, task.reading, "test")
    if sample is not None:
        full = fill_sample(sample, test)
        return sample if full is None else full
    value = task.classes[0] if task.classes and task.form == "label" else "0"
    return pd.DataFrame({c: test[c] if c == task.sample_id else value for c in task.submission}, index=test.index)


def read_submission(task: Task, path: str | Path) -> pd.DataFrame:
    """A submission as it is, all str; one without a header gets the names of `task.submission`."""
    delimiter = task.reading.get("sample_delimiter") or task.reading.get("delimiter")
    table = read_one(Path(path), task.encoding, delimiter, header=task.header)
    table = table if task.header else table.set_axis(task.submission, axis=1)
    points = {name: table[name].str.replace(",", ".") for name in task.targets if task.csv["decimal"] == ","}
    return table.assign(**points)


def read_other_submissions(task: Task, path: Path) -> dict[str, pd.DataFrame]:
    """The submissions of other runs beside `path`, by the names of their files; without those that cannot be read."""
    found = {}
    for file in sorted(path.parent.glob("submission.*.csv")):
        with suppress(ValueError):
            found |= {file.name: read_submission(task, file)} if file != path else {}
    return found


def free_columns(task: Task) -> list[str]:
    """The columns of train that `read_train` can read as `more`: neither the id, the group, a label, nor the only
    column of text."""
    taken = {task.id, "id", "text", task.group, "group", *task.labels, *task.label_columns}
    taken |= set(task.text) if len(task.text) == 1 else set()
    return [name for name in as_written(task, "train").columns if name not in taken]


def shared_columns(task: Task) -> list[str]:
    """The columns that train and test share and that `read_train` and `read_test` can read as `more`, see
    `free_columns`."""
    test = set(as_written(task, "test").columns)
    return [name for name in free_columns(task) if name in test]


def as_written(task: Task, what: str) -> pd.DataFrame:
    """A file of the task as it is, with the names that columns have here."""
    table = read_again(task.data, task.files, task.encoding, task.reading, what)
    return table.rename(columns=task.renamed.get(what, {}))


def _read(task: Task, what: str, labels: Sequence[str], more: Sequence[str]) -> pd.DataFrame:
    table, written = as_written(task, what), task.label_columns or task.labels
    prefix, keep = "row" if what == "train" else "test", None
    if labels and task.drop_unlabelled:
        keep = ~unlabelled(table, written, task.layout, task.classes)
    return columns_of(table, task, task.files[what], labels, more, prefix, keep)


def columns_of(
    table: pd.DataFrame,
    task: Task,
    file: str,
    labels: Sequence[str],
    more: Sequence[str],
    prefix: str = "row",
    keep: np.ndarray | None = None,
) -> pd.DataFrame:
    """The table that `read_train` and `read_test` give, of one as it is written; keep: the rows that count."""
    made = {"id": row_ids(table, task.id, prefix), "text": join_texts(table, task)}
    if task.group in table.columns:
        made["group"] = table[task.group].tolist()
    if groups := group_cells(table, task.metric):
        made[BY] = groups
    for name in more:
        if name not in table.columns:
            raise ValueError(f"{file} has no column {name!r}: it has {', '.join(table.columns)}")
        if name in (*made, *labels):
            raise ValueError(f"column {name!r} of {file} cannot be read again: it is the id, text, group or a label")
    written = task.label_columns or task.labels
    if keep is not None:
        table, made = table[keep], {name: np.array(values, dtype=object)[keep] for name, values in made.items()}
    if labels:
        made |= decode(table, task.layout, written, task.labels, task.separator, task.spellings)
    return pd.DataFrame(made | {name: table[name].tolist() for name in more})


def group_cells(table: pd.DataFrame, metric: str) -> list[str] | None:
    """The group of each row that a metric by group needs, from its column; where groups share rows, a sign for each of
    its columns, 1 from 0.5 on: "101". None for another metric, or a table that lacks a column."""
    column = metric_column(metric)
    if column is None or column in table.columns:
        return column and table[column].tolist()
    names = column.split(",")
    if not find_metric(metric).over or not {*names} <= {*table.columns}:
        return None
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    return ["".join(row) for row in np.where(values >= 0.5, "1", "0")]


def encode_labels(task: Task, train: pd.DataFrame) -> np.ndarray:
    """The labels as numbers: int64 (n,), an index into `task.classes`; float32 (n, labels) for multilabel, regression.

    `train` needs the label columns, as they are written; with a column metric_by they are `LabelsBy`. Raises
    ValueError for a value that is no class or no number.
    """
    for label in task.labels:
        bad = ~train[label].isin(task.classes) if task.classes else ~are_numbers(train[label])
        if bad.any():
            what = f"one of the classes {', '.join(task.classes[:20])}" if task.classes else "a number"
            raise ValueError(first_bad(bad, train[label], row_ids(train, "id"), f"which is not {what}"))
    if task.classes:
        labels = pd.Index(task.classes, dtype=object).get_indexer(train[task.labels[0]]).astype(np.int64)
    else:
        labels = train[task.labels].to_numpy(dtype=object).astype(np.float64).astype(np.float32)
    return LabelsBy(labels, train[BY]) if metric_column(task.metric) and BY in train.columns else labels


def join_texts(table: pd.DataFrame, task: Task) -> list[str]:
    """The text of each row of a table with the columns of a task."""
    return join_columns(table, task.text, task.text_separator, task.pattern)
