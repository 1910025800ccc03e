"""Self-training: a model labels rows that have no labels, and the next one learns from them too.

Scudder (1965); for neural networks, pseudo labels: Lee (2013).
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import Task, encode_labels
from kagglekit.files import remove, replacing
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.runs.folder import Fitted
from kagglekit.selftraining.labelling import DONE, Labelling, RoundOutput, make_pool, name_maker
from kagglekit.selftraining.options import SelfTrainingOptions
from kagglekit.selftraining.pseudo import PseudoLabels
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.training.predict import SavedModel


@dataclass
class SelfTrainer:
    """Trains students on the rows of train and on rows that a teacher labelled, round after round.

    learner: `FineTuner`, or what wraps one. train, test, folds: of `work`; folds as in folds.parquet.
    options: the knobs of `SelfTrainingOptions`.
    A pseudo label for fold k comes from a model of fold k: of the teacher that is named, or of the run's own earlier
    rounds. Labels of fold k are looked at only to say how good its pseudo labels are; they choose nothing.
    Costs a training on more rows for each round, and one for the first teacher unless a run is named. Raises ValueError
    for knobs that do not fit each other, the task, the recipe or the teacher, before anything is trained.
    """

    learner: Any
    work: str | Path = field(repr=False)
    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    folds: pd.DataFrame = field(repr=False)
    options: dict[str, Any]

    def __post_init__(self):
        self.knobs = knobs = SelfTrainingOptions(**self.options)
        knobs.check_kind(self.task.kind)
        self.tuner = _innermost(self.learner)
        self.fold_of, labels = self.folds["fold"].to_numpy(), encode_labels(self.task, self.train)
        test = self.test if knobs.test else None
        pool = make_pool(self.task, self.train, test, knobs.unlabelled, self.tuner.recipe)
        self.labelling = Labelling(knobs, self.task, self.train, labels, pool)
        self.teacher = None
        if knobs.teacher:
            ids, cache = self.test["id"], self.tuner.cache
            self.teacher = read_teacher(self.work, knobs.teacher, self.task, self.folds, ids, labels, cache)
            self._check_teacher()
        self._check_recipe(self.teacher.recipe if self.teacher else self.tuner.recipe.as_dict())

    def _check_teacher(self):
        knobs = self.knobs
        if knobs.labels == "ust" or knobs.begin == "teacher":
            self.teacher.saved(self.teacher.run.folds[0])
        elif knobs.unlabelled:
            self.teacher.check_reads(self.teacher.run.folds[0])
        if knobs.begin == "teacher":
            self._check_beginning(self.tuner.backbone)
        plan = getattr(self.learner, "plan", None)
        if plan and plan.source == "nested" and (knobs.begin == "teacher" or knobs.order == "first"):
            raise ValueError(
                f"pseudo: teacher={knobs.teacher!r} with begin='teacher' or order='first' gives students a start of "
                "their own fold, and the models of distill by='nested' need one that has seen neither of two: set "
                "distill={'by': 'fold'}, or leave the teacher of pseudo empty"
            )

    def _check_beginning(self, backbone: str):
        """Raise ValueError when the weights of the teacher do not fit the students."""
        name, recipe = self.knobs.teacher, self.teacher.recipe
        if find_backbone(recipe["backbone"]) != backbone:
            raise ValueError(
                f"pseudo: begin='teacher' goes on with the weights of {name!r}, which has another backbone, "
                f"{recipe['backbone']!r}: name another teacher, or set begin='start'"
            )
        theirs = load_tokenizer(str(self.teacher.model(self.teacher.run.folds[0])))
        if theirs.get_vocab() != self.tuner.tokenizer.get_vocab():
            raise ValueError(
                f"pseudo: begin='teacher' goes on with the weights of {name!r}, which reads other tokens: set "
                f"start={recipe.get('start', '')!r}, as it had, or begin='start'"
            )

    def _check_recipe(self, teacher: dict[str, Any]):
        knobs, anew = self.knobs, self.tuner.recipe.reinit_layers
        if anew and (knobs.order == "first" or knobs.begin == "teacher"):
            raise ValueError(
                f"pseudo: reinit_layers={anew} would throw away what the model before has learned in its topmost "
                "layers: set it to 0, or order='mixed' and begin='start'"
            )
        drops = [teacher.get(name, 0) for name in ("dropout", "attention_dropout", "head_dropout")]
        if knobs.labels == "ust" and knobs.dropout is None and drops[0] == 0 and drops[1] in (0, None) and not drops[2]:
            raise ValueError(
                "pseudo: ust compares passes through dropout, and the teacher is trained with dropout=0: set "
                'dropout=0.1, or pseudo={"dropout": 0.1}, a dropout for these passes alone'
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What params.json says of the run, beside the backbone."""
        return {**getattr(self.learner, "settings", {}), "pseudo": self.knobs.as_dict()}

    def fit(
        self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, start: str | None = None, **more
    ) -> Fitted:
        """Train the rounds of the fold that `folder` is named after, and predict `valid_rows` and the test rows.

        The last round's model goes to `folder/model`. Of all rounds predictions and what was added stay, in
        `folder/round1` and so on; a run that was cut off goes on in the round that it was in. more: for the learner.
        Raises ValueError for a row to be predicted that is of another fold than that of the teacher.
        """
        fold = int(folder.name.removeprefix("fold"))
        if self.teacher and (self.fold_of[valid_rows] != fold).any():
            raise ValueError(f"{folder} is to predict rows of other folds than {fold}, which its teacher has seen")
        rows, begin = (train_rows, valid_rows), {} if start is None else {"start": start}
        if self.teacher:
            step = self.labelling.ask_teacher(self.teacher, fold, valid_rows, seed)
            model = self.teacher.model(fold)
        else:
            model = folder / "teacher" / folder.name / "model"
            step = self._train(rows, folder / "teacher", folder.name, seed, begin | more)
        told, places = [], [folder / "teacher"]
        for number in range(1, self.knobs.rounds + 1):
            chosen = self.labelling.choose(step.pool, seed + number)
            if self.knobs.begin == "teacher":
                begin = {"start": str(model)}
            places.append(folder / f"round{number}")
            after = self._train(rows, places[-1], folder.name, seed, begin | more, chosen, number)
            told.append(self.labelling.receipt(step, after, chosen, valid_rows, seed + number))
            step, model = after, places[-1] / folder.name / "model"
            _tidy(places[-2])
        self._finish(model, folder, places[-1])
        last = step.fitted
        return Fitted(last.oof, last.test, last.history, {**last.receipts, "pseudo": {"rounds": told}})

    def _train(
        self,
        rows: tuple[np.ndarray, np.ndarray],
        place: Path,
        name: str,
        seed: int,
        options: dict[str, Any],
        chosen: PseudoLabels | None = None,
        number: int = 0,
    ) -> RoundOutput:
        """Train a model in `place/name` and ask it; where it was asked already, that is read."""
        if (place / DONE).is_dir():
            return RoundOutput.load(place / DONE)
        extra = None if chosen is None else self.labelling.extra(chosen)
        if extra is not None and self.knobs.order == "first":
            before = place / "pseudo" / name
            if not (before / "model").is_dir():
                self.learner.fit(rows[0][:0], rows[1], before, seed, extra=extra, **options)
            options = {**options, "start": str(before / "model")}
        elif extra is not None:
            options = {**options, "extra": extra}
        fitted = self.learner.fit(*rows, place / name, seed, **options)
        recipe, tuner = self.tuner.recipe.as_dict(), self.tuner
        model = SavedModel(place / name / "model", recipe, tuner.cache, tuner.precision)
        step = self.labelling.ask_model(fitted, model, rows[1], seed + number)
        maker = name_maker(self.teacher, name, number)
        step.save(place / DONE, None if chosen is None else self.labelling.show(chosen, name, maker))
        return step

    def _finish(self, model: Path, folder: Path, place: Path) -> None:
        """Put the last round's model where that of a fold is, and drop it where it was."""
        if model.is_dir() and PartialState().is_main_process:
            with replacing(folder / "model") as part:
                shutil.copytree(model, part)
        PartialState().wait_for_everyone()
        _tidy(place)


def _innermost(learner: Any) -> Any:
    """The fine-tuner that others wrap. Raises ValueError where there is none."""
    inner = learner
    while hasattr(inner, "learner"):
        inner = inner.learner
    if not hasattr(inner, "tokenizer") or not hasattr(inner, "recipe"):
        raise ValueError(f"pseudo labels are learned by a fine-tuned backbone, and {type(inner).__name__} is none")
    return inner


def _tidy(place: Path) -> None:
    """Drop the models of a round that is done; what they said stays."""
    if (place / DONE).is_dir() and PartialState().is_main_process:
        for folder in place.iterdir():
            if folder.name != DONE:
                remove(folder)
