"""Self-training: a model labels rows that have no labels, and the next one learns from them too (Scudder, 1965; for
neural networks, pseudo labels: Lee, 2013)."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import encode_labels
from kagglekit.files import fold_number, remove, replacing
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.progress import parts
from kagglekit.runs.folder import Fitted
from kagglekit.selftraining.labelling import DONE, Labelling, RoundOutput, make_pool, name_maker
from kagglekit.selftraining.pseudo_labels import PseudoLabels
from kagglekit.selftraining.selftraining_knobs import SelfTrainingOptions
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.training.predict import SavedModel


@dataclass(frozen=True)
class FoldRows:
    """Row numbers of train to learn from and to predict, the name of their fold, and the seed of its models."""

    train: np.ndarray
    valid: np.ndarray
    name: str
    seed: int


@dataclass
class SelfTrainer:
    """Trains students on the rows of train and on rows that a teacher labelled, round after round.

    learner: `FineTuner`, or a learner around one; its task, train and test are used. folds: as from `read_folds`.
    options: of `SelfTrainingOptions`.
    A pseudo label for fold k comes from a model of fold k: of the named teacher, or of the run's own earlier rounds.
    Labels of fold k only measure how good its pseudo labels are; they choose nothing. Costs a training on more rows for
    each round, and one for the first teacher unless a run is named.
    Raises ValueError for options that do not fit each other, the task, the recipe or the teacher, before anything is
    trained.
    """

    learner: Any
    work: str | Path = field(repr=False)
    folds: pd.DataFrame = field(repr=False)
    options: dict[str, Any]

    def __post_init__(self):
        self.tuner = tuner = _innermost(self.learner)
        self.task, self.train, self.test = tuner.task, tuner.train, tuner.test
        self.knobs = knobs = SelfTrainingOptions(**self.options)
        knobs.check_kind(self.task.kind)
        self.fold_of, labels = self.folds["fold"].to_numpy(), encode_labels(self.task, self.train)
        pool = make_pool(self.task, self.train, self.test if knobs.test else None, knobs.unlabelled, tuner.recipe)
        self.labelling = Labelling(knobs, self.task, self.train, labels, pool)
        self.teacher = None
        if knobs.teacher:
            ids = self.test["id"]
            own = labels[: len(self.folds)]  # extra rows are behind them
            self.teacher = read_teacher(self.work, knobs.teacher, self.task, self.folds, ids, own, tuner.cache)
            self._check_teacher()
        self._check_recipe(self.teacher.recipe if self.teacher else tuner.recipe.as_dict())

    def _check_teacher(self):
        knobs, fold = self.knobs, self.teacher.run.folds[0]
        if knobs.labels == "ust" or knobs.begin == "teacher":
            self.teacher.saved(fold)
        elif knobs.unlabelled:
            self.teacher.check_reads(fold)
        if knobs.begin == "teacher":
            self._check_weights_fit(self.teacher.model(fold))
        plan = getattr(self.learner, "plan", None)
        if plan and plan.source == "nested" and (knobs.begin == "teacher" or knobs.order == "first"):
            raise ValueError(
                f"pseudo: teacher={knobs.teacher!r} with begin='teacher' or order='first' gives students a start of "
                "their own fold, and the models of distill by='nested' need one that has seen neither of two: set "
                "distill={'by': 'fold'}, or leave the teacher of pseudo empty"
            )

    def _check_weights_fit(self, model: Path):
        """Raise ValueError when students cannot start from the weights of the teacher."""
        name, recipe = self.knobs.teacher, self.teacher.recipe
        if find_backbone(recipe["backbone"]) != self.tuner.backbone:
            raise ValueError(
                f"pseudo: begin='teacher' goes on with the weights of {name!r}, which has another backbone, "
                f"{recipe['backbone']!r}: name another teacher, or set begin='start'"
            )
        if load_tokenizer(str(model)).get_vocab() != self.tuner.tokenizer.get_vocab():
            raise ValueError(
                f"pseudo: begin='teacher' goes on with the weights of {name!r}, which reads other tokens: set "
                f"start={recipe.get('start', '')!r}, as it had, or begin='start'"
            )

    def _check_recipe(self, teacher: dict[str, Any]):
        knobs, layers = self.knobs, self.tuner.recipe.reinit_layers
        if layers and (knobs.order == "first" or knobs.begin == "teacher"):
            raise ValueError(
                f"pseudo: reinit_layers={layers} would throw away what the model before has learned in its topmost "
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
        """What params.json records of the run, beside the backbone."""
        return {**getattr(self.learner, "settings", {}), "pseudo": self.knobs.as_dict()}

    def fit(
        self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, start: str | None = None, **more
    ) -> Fitted:
        """Train the rounds of the fold that `folder` is named after, and predict `valid_rows` and the test rows.

        The last round's model goes to `folder/model`. Predictions and added rows of each round stay, in `folder/round1`
        and so on; a run that was stopped goes on in its round. more: for the learner. Raises ValueError for a row to be
        predicted that is of another fold than the teacher's.
        """
        fold = fold_number(folder)
        if self.teacher and (self.fold_of[valid_rows] != fold).any():
            raise ValueError(f"{folder} is to predict rows of other folds than {fold}, which its teacher has seen")
        rows, begin = FoldRows(train_rows, valid_rows, f"fold{fold}", seed), {} if start is None else {"start": start}
        if self.teacher:
            before, model = self.labelling.ask_teacher(self.teacher, fold, valid_rows, seed), self.teacher.model(fold)
        receipts, place = [], folder / "teacher"
        for number in parts(range(bool(self.teacher), self.knobs.rounds + 1), "round"):
            if not number:  # without labels of its own kind: the teacher
                before = self._train(rows, place, begin | more)
                model = place / rows.name / "model"
                continue
            chosen = self.labelling.choose(before.pool, seed + number)
            if self.knobs.begin == "teacher":
                begin = {"start": str(model)}
            after = self._train(rows, folder / f"round{number}", begin | more, chosen, number)
            receipts.append(self.labelling.receipt(before, after, chosen, valid_rows, seed + number))
            _remove_models(place)
            place = folder / f"round{number}"
            before, model = after, place / rows.name / "model"
        if model.is_dir() and PartialState().is_main_process:
            with replacing(folder / "model") as part:
                shutil.copytree(model, part)
        PartialState().wait_for_everyone()
        _remove_models(place)
        last = before.fitted
        return Fitted(
            last.oof, last.test, last.history, {**last.receipts, "pseudo": {"rounds": receipts}}, {}, last.predicting
        )

    def _train(
        self, rows: FoldRows, place: Path, options: dict[str, Any], chosen: PseudoLabels | None = None, number: int = 0
    ) -> RoundOutput:
        """Train a model in `place` and ask it; a model that was asked already is read back."""
        if (place / DONE).is_dir():
            return RoundOutput.load(place / DONE)
        extra = None if chosen is None else self.labelling.extra(chosen)
        if extra is not None and self.knobs.order == "first":
            first = place / "pseudo" / rows.name
            if not (first / "model").is_dir():
                self.learner.fit(rows.train[:0], rows.valid, first, rows.seed, extra=extra, **options)
            options = {**options, "start": str(first / "model")}
        elif extra is not None:
            options = {**options, "extra": extra}
        fitted = self.learner.fit(rows.train, rows.valid, place / rows.name, rows.seed, **options)
        tuner = self.tuner
        model = SavedModel(place / rows.name / "model", tuner.recipe.as_dict(), tuner.cache, tuner.precision)
        output = self.labelling.ask_model(fitted, model, rows.valid, rows.seed + number)
        maker = name_maker(self.teacher, rows.name, number)
        output.save(place / DONE, None if chosen is None else self.labelling.show(chosen, rows.name, maker))
        return output


def _innermost(learner: Any) -> Any:
    """The fine-tuner that others wrap. Raises ValueError where there is none."""
    inner = learner
    while hasattr(inner, "learner"):
        inner = inner.learner
    if not hasattr(inner, "tokenizer") or not hasattr(inner, "recipe"):
        raise ValueError(f"pseudo labels are learned by a fine-tuned backbone, and {type(inner).__name__} is none")
    return inner


def _remove_models(place: Path) -> None:
    """Remove the models of a finished round; their predictions stay."""
    if (place / DONE).is_dir() and PartialState().is_main_process:
        for folder in place.iterdir():
            if folder.name != DONE:
                remove(folder)
