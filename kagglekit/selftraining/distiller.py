"""A run whose models are students: of another run, of a blend, or of earlier models of the run itself."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import encode_labels
from kagglekit.files import remove, resolve
from kagglekit.model.backbones import load_config, load_tokenizer
from kagglekit.options import names_file
from kagglekit.progress import parts
from kagglekit.runs.folder import Fitted
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import goes_forward, hash_folds, training_rows
from kagglekit.scoring.metrics import score
from kagglekit.selftraining.distillation_loss import Distillation
from kagglekit.selftraining.nested_folds import PairModels, kept, without_choosing
from kagglekit.selftraining.selftraining_knobs import DistillationOptions
from kagglekit.selftraining.teacher_files import FileTeacher, read_teacher_file
from kagglekit.selftraining.teachers import Teacher, read_teacher
from kagglekit.tricks import TRICKS


@dataclass
class Distiller:
    """Trains one student a fold, on the labels and on a teacher's predictions of the training rows.

    learner: a fine-tuner, with its task, train and test. folds: as from `read_folds`. seed: of the run. options: of
    `DistillationOptions`; by:
    "fold": the teacher's model of fold k labels the rows of student k. It never saw fold k; it has seen the rows that
    it labels, so that its labels say less than they could. The teacher may be any run or blend.
    "nested": a row of fold j is labelled, for student k, by a model of the run's own recipe trained without folds j and
    k: out of fold, and honest. `PairModels` has its cost; the predictions are in the run's folder `pairs`.
    "oof": the out-of-fold predictions of the teacher, at no cost. But its model of fold j has learned the labels of
    fold k, and through it so does student k: the score is too good, and the run is marked: `crosses`.
    Each round after the first is taught by the student before it, by its predictions of its own training rows
    (born-again networks; Furlanello et al., 2018, arXiv 1805.04770), and costs a training a fold.
    Folds of a time series take "fold" alone: the others have no labels of the first rows. In a run of keep_best, models
    that only teach keep their last weights: no label of any fold chooses one.
    Raises ValueError for options that do not fit the task, and for a learner that cannot be taught.
    """

    learner: Any
    work: str | Path = field(repr=False)
    folds: pd.DataFrame = field(repr=False)
    options: dict[str, Any]
    seed: int = 0

    def __post_init__(self):
        self.task, self.train = self.learner.task, self.learner.train
        self.plan = plan = DistillationOptions(**self.options)
        plan.check_kind(self.task.kind)
        if "teacher" not in inspect.signature(self.learner.fit).parameters:
            raise ValueError(f"distill: a student is a fine-tuned model, and {type(self.learner).__name__} makes none")
        if plan.hidden:
            self._check_states_fit()
        self.labels, self.fold_of = encode_labels(self.task, self.train), self.folds["fold"].to_numpy()
        self.teacher = None
        if plan.teacher:
            self.teacher = self._read_teacher()
            fold = self.teacher.folds[0]
            if plan.source == "fold":
                self.teacher.check_reads(fold)
            if plan.hidden:
                check_sizes(self.teacher.model(fold), self.learner.backbone, self.learner.tokenizer)
        if plan.source != "fold" and goes_forward(self.folds):
            raise ValueError(
                f"distill: by={plan.source!r} labels rows with models of other folds, and the folds go forward in "
                "time: their models learn from earlier rows, so that the first rows have no such label. Set by='fold'"
            )
        if plan.source == "nested":
            self._pairs(Path())  # an error in the folds shows now

    def _read_teacher(self) -> Teacher | FileTeacher:
        if names_file(self.plan.teacher):
            given = resolve(self.plan.teacher), self.task, self.train["id"].tolist(), self.fold_of, self.plan.seen
            found = read_teacher_file(*given)
            print(f"teacher {found.told}")
            return found
        ids, cache = self.learner.test["id"], self.learner.cache
        return read_teacher(self.work, self.plan.teacher, self.task, self.folds, ids, self.labels, cache)

    def describe(self, rows: np.ndarray, student: float) -> str:
        """The score of the teacher on rows of train, by models that did not learn their fold, beside the student's;
        empty where it has not predicted them all."""
        theirs = np.full((1, 1), np.nan) if self.teacher is None else self.teacher.oof[rows]
        if np.isnan(theirs).any():
            return ""
        worth = score(self.task.metric, self.labels[rows], theirs)
        return (
            f"teacher {self.plan.teacher}: {self.task.metric} {worth:.4f} on the same rows; the student: {student:.4f}"
        )

    def _check_states_fit(self):
        if self.learner.recipe.chunks or self.learner.recipe.answers:
            raise ValueError(
                "distill: hidden compares texts token by token, and chunks or answers are several texts: set hidden=0"
            )
        if mixing := [name for name in self.learner.recipe.tricks if TRICKS[name].mixes_texts]:
            raise ValueError(
                f"distill: hidden compares states of one text, and {mixing[0]} mixes two: leave one of them out"
            )

    @property
    def caution(self) -> str:
        """A warning about the run's score; empty where it is honest."""
        if not self.plan.crosses:
            return ""
        return (
            f"The models of {self.plan.teacher!r} that label these rows have learned the labels of the fold that they "
            "help to predict: the out-of-fold score is too good. Set by='fold' for an honest one"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What params.json records of the run, beside the backbone."""
        crosses = {"crosses": True} if self.plan.crosses else {}
        return {**self.learner.settings, "distill": self.plan.as_dict(), **crosses}

    def fit(
        self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, start: str | None = None, **more
    ) -> Fitted:
        """Teach a student on `train_rows` (row numbers of train), and predict `valid_rows` and the test rows.

        The predictions that students learn are in `folder/teachers`, a table for each round. more: for the learner,
        such as extra rows, whose labels are also their teacher's predictions. Without rows of train the learner fits by
        itself.
        """
        more = more if start is None else {**more, "start": start}
        if not len(train_rows):
            return self.learner.fit(train_rows, valid_rows, folder, seed, **more)
        labels, model = self._label_first(train_rows, valid_rows, folder, seed, more)
        for number in parts(range(1, self.plan.rounds), "student", later=1.0):
            given = self._taught(train_rows, labels, model, more)
            labels, model = self._label_in_sample(train_rows, folder, number, seed, given)
        given = self._taught(train_rows, labels, model, more)
        fitted = self.learner.fit(train_rows, valid_rows, folder, seed, **given)
        for place in (folder / "teachers").glob("*/") if PartialState().is_main_process else ():
            remove(place)  # models of teachers, kept for hidden states
        theirs = score(self.task.metric, self.labels[train_rows], labels)
        by = self.plan.source if self.plan.rounds == 1 else "fold"
        fitted.receipts["teacher"] = {"labels by": by, "score of the labels on the training rows": float(theirs)}
        if self.caution:
            fitted.receipts["teacher"]["caution"] = self.caution
        return fitted

    def _label_first(
        self, rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, more: dict[str, Any]
    ) -> tuple[np.ndarray, Path | None]:
        """The first teacher's predictions of the training rows (rows, columns), and the folder of its model."""
        fold, source = self._left_out(rows, valid_rows), self.plan.source
        if self.teacher is None and source == "fold":
            return self._label_in_sample(rows, folder, 0, seed, more)
        model = self.teacher.model(fold) if self.plan.hidden else None
        find = {
            "nested": partial(self._nested, rows, fold, folder, more.get("start")),
            "oof": partial(self._oof, rows),
            "fold": lambda: self.teacher.predict(fold, self.train.iloc[rows], of_train=True),
        }[source]
        return self._kept(rows, folder, 0, lambda place: find()), model

    def _label_in_sample(
        self, rows: np.ndarray, folder: Path, number: int, seed: int, given: dict[str, Any]
    ) -> tuple[np.ndarray, Path]:
        """The same of a model of the run's own recipe, which learns these rows and predicts them."""

        def fit(place: Path) -> np.ndarray:
            return without_choosing(self.learner).fit(rows, rows, place, seed + 10_000 * (number + 1), **given).oof

        return self._kept(rows, folder, number, fit), folder / "teachers" / str(number) / "model"

    def _kept(self, rows: np.ndarray, folder: Path, number: int, fit: Callable[[Path], np.ndarray]) -> np.ndarray:
        ids, place = self.train["id"].iloc[rows].tolist(), folder / "teachers" / str(number)
        ours = number > 0 or (self.teacher is None and self.plan.source == "fold")
        lineage = {"folds": hash_folds(self.folds), "by": "the student before" if number else self.plan.taught_by}
        return kept(place, ids, self.task.columns, fit, ours and self.plan.hidden > 0, lineage)

    def _nested(self, rows: np.ndarray, fold: int, folder: Path, start: str | None) -> np.ndarray:
        if len(rows) == len(training_rows(self.folds, fold)):  # else other students may have other rows
            run = RunRecord.around(folder)
            folder = run.folder if run else folder.parent
        return self._pairs(folder, start).label(rows, fold)

    def _pairs(self, folder: Path, start: str | None = None) -> PairModels:
        ids = self.train["id"].tolist()
        return PairModels(self.learner, self.fold_of, ids, self.task.columns, folder / "pairs", self.seed, start)

    def _oof(self, rows: np.ndarray) -> np.ndarray:
        labels = self.teacher.oof[rows]
        missing = np.unique(self.fold_of[rows[np.isnan(labels).any(axis=1)]]).tolist()
        if missing:
            raise ValueError(
                f"distill: teacher={self.plan.teacher!r} has no out-of-fold predictions of folds {missing}: train them "
                "first, or set by='fold'"
            )
        return labels

    def _taught(self, rows: np.ndarray, labels: np.ndarray, model: Path | None, more: dict[str, Any]) -> dict[str, Any]:
        """The options of the learner's `fit`, with the teacher's predictions and the trick that learns them."""
        plan, teacher = self.plan, np.full((len(self.train), labels.shape[1]), np.nan, dtype=np.float32)
        teacher[rows] = labels
        if plan.hidden:
            check_sizes(model, self.learner.backbone, self.learner.tokenizer)
        trick = Distillation(plan.weight, plan.loss, plan.temperature, plan.hidden, str(model) if plan.hidden else "")
        return {**more, "teacher": teacher, "tricks": (*more.get("tricks", ()), trick)}

    def _left_out(self, rows: np.ndarray, valid_rows: np.ndarray) -> int:
        """The fold that the student must not see: that of `valid_rows`, or the one without training rows."""
        absent = set(self.fold_of.tolist()) - set(self.fold_of[rows].tolist())
        held_out = set(self.fold_of[valid_rows].tolist())
        fold = held_out if len(held_out) == 1 and held_out <= absent else absent
        if len(fold) != 1:
            raise ValueError(f"distill: a student leaves out one fold, and these rows leave out {sorted(absent)}")
        return fold.pop()


def check_sizes(model: Path | None, backbone: str, tokenizer: Any) -> None:
    """Raise ValueError when a teacher's states cannot be compared with a student's: other widths or other tokens."""
    if model is None:
        raise ValueError(
            "distill: hidden needs a teacher with one model for each fold: this one has none. Set hidden=0"
        )
    theirs, ours = (load_config(str(place)).hidden_size for place in (model, backbone))
    if theirs != ours:
        raise ValueError(f"distill: the teacher's states are {theirs} wide, the student's {ours}: set hidden=0")
    if load_tokenizer(str(model)).get_vocab() != tokenizer.get_vocab():
        raise ValueError("distill: teacher and student cut texts into other tokens: set hidden=0")
