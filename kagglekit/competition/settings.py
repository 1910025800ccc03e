"""The parameters of `1_eda`: where the files are, what the task is where the files do not say it, and the folds."""

from __future__ import annotations  # the types of knobs are texts

import codecs
import re
from dataclasses import dataclass

from kagglekit.competition.text_columns import template_columns
from kagglekit.declared import read_names
from kagglekit.options import SEEDS, Knobs, did_you_mean, documented, knob
from kagglekit.scoring import KINDS
from kagglekit.scoring.names import check_metric_name

CLEANERS = read_names("data/clean.py", "CLEANERS")
FORMS = ("label", "probability", "columns", "list")  # of a submission; and top3: three names in a cell
TOP = re.compile(r"top([1-9]\d*)")


def check_encoding(encoding: str | None) -> None:
    """Raise ValueError for an encoding that Python does not know."""
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        usual = "usual ones are utf-8, cp1252, gb18030"
        raise ValueError(f"encoding={encoding!r} is not known to Python; {usual}") from error


@documented
@dataclass(frozen=True)
class TaskSettings(Knobs):
    """What `infer` takes: how the files are read, and what the task is. None is inferred from the files."""

    encoding: str | None = knob(None, "of files that are not UTF-8; None: a guess", shown="competition")
    train: str | None = knob(None, "its file name, where several could be train", shown="competition")
    test: str | None = knob(None, "its file name, where several could be test", shown="competition")
    sample: str | None = knob(None, "file name of the sample submission", shown="competition")
    join: dict[str, str] = knob({}, "file with more columns -> column that names its rows", shown="competition")
    delimiter: str | None = knob(None, "between the cells of a CSV", shown="competition")
    quotes: bool | None = knob(None, "whether quotes enclose cells of a CSV, or are text", shown="competition")
    id: str | None = knob(None, "column with ids", names="column", shown="task")
    text: str | list[str] | None = knob(None, "columns with text", names="column", shown="task")
    template: str | None = knob(
        None, 'the text, made of columns: "Rule: {rule} Post: {body}"; None: each by itself', shown="task"
    )
    labels: str | list[str] | None = knob(None, "columns of train to predict", names="column", shown="task")
    label_sep: str | None = knob(None, 'between several labels of one cell; "": a cell is one label', shown="task")
    merge_spellings: bool = knob(False, "labels that differ by case, blanks or 1 and 1.0 are one class", shown="task")
    drop_unlabelled: bool = knob(False, "leave out rows of train without a label", shown="task")
    kind: str | None = knob(None, "of the labels", choices=KINDS, shown="task")
    classes: list[str | int | float] | None = knob(None, "in order", shown="task")
    form: str | None = knob(None, "of the submission: label, probability, columns, list, or top3", shown="task")
    mapping: dict[str, str | int | float | bool] = knob(
        {}, 'what the submission writes for each class: {"none": 0, "hate": 1}', shown="task"
    )
    clip: bool = knob(True, "keep numbers of the submission inside the range of train", shown="task")
    metric: str | None = knob(
        None, "accuracy, f1, log_loss, rmse, map@3, roc_auc_by:COLUMN ... or package.module:function", shown="task"
    )
    group: str | None = knob(None, "column whose rows must share a fold; empty: none", names="column", shown="folds")

    def __post_init__(self):
        super().__post_init__()
        if self.template is not None:
            named = template_columns(self.template)
            if self.text and set(named) != {*([self.text] if isinstance(self.text, str) else self.text)}:
                raise ValueError(
                    f"template={self.template!r} and text={self.text!r} name other columns: leave text out"
                )
        if self.form not in (None, *FORMS) and not TOP.fullmatch(self.form):
            meant = did_you_mean(self.form, FORMS) or f": use one of {', '.join(FORMS)}, top1, top2, ..."
            raise ValueError(f"form={self.form!r} is not known{meant}")
        check_encoding(self.encoding)
        if self.metric is not None:
            check_metric_name(self.metric)


@documented
@dataclass(frozen=True)
class EdaSettings(Knobs):
    """The parameters of `1_eda` besides those of the task."""

    data: str = knob(
        "bbc",
        "folder with train, test and sample submission files, or a sample: bbc, tweets, reviews-zh, drugs",
        shown="competition",
    )
    work: str = knob("runs/bbc", "work folder: everything that this competition writes", shown="competition")
    support: dict[str, list[str]] = knob(
        {},
        'columns with labelled examples, made rows for extra of 3_train: {"positive": ["example_1"], ...}',
        names={"*": "column"},
        shown="task",
    )
    clean: list[str] = knob([], "cleaners, in order; empty: none is applied", choices=CLEANERS, shown="text")
    backbone: str = knob("minilm", "whose tokens are counted", shown="text")
    n_folds: int = knob(5, "number of folds", least=2, shown="folds")
    time: str | None = knob(
        None,
        "column with times, for a time-series split: models train on earlier rows only",
        names="column",
        shown="folds",
    )
    near_duplicates: float = knob(
        0.8,
        "share of three-word runs from which texts count as copies and share a fold; 0: identical only",
        least=0,
        most=1,
        shown="folds",
    )
    repeats: int = knob(
        1,
        "random splits; each further one gets its own work folder: runs/bbc.2, runs/bbc.3, ...",
        least=1,
        shown="folds",
    )
    seed: int = knob(0, "of the folds", least=0, most=SEEDS, shown="folds")
