"""A run of several work folders: one model of all their tasks a fold, which is in each folder a run of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import load_task, read_test, read_train
from kagglekit.files import fold_folders, resolve, run_folder, write_json
from kagglekit.learners.joint import JointTuner, shared_rows
from kagglekit.learners.joint_check import check_joint
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.initial_weights import find_starts
from kagglekit.runs.run_knobs import JointOptions, TrainingRun
from kagglekit.runs.tables import read_folds, read_run, training_rows
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe


@dataclass
class JointRun:
    """Trains one model of several tasks a fold; `fit` returns what it predicts for the task of the work folder, and
    writes that of the others into theirs. learner: of all tasks. folds: of the work folder. settings: of params.json.

    The folder of `learner` comes last: a fold that was killed on the way is trained again, with the same result.
    """

    learner: JointTuner
    run: TrainingRun
    folds: pd.DataFrame = field(repr=False)

    def __post_init__(self):
        self.others_ = [place for place in self.run.tasks if resolve(place) != resolve(self.run.work)]
        self.tables_ = [
            read_folds(place, one.train["id"]) for place, one in zip(self.others_, self.learner.others, strict=True)
        ]

    @property
    def task(self):
        return self.learner.task

    @property
    def train(self):
        return self.learner.train

    @property
    def settings(self):
        return self.learner.settings

    def fit(self, train_rows, valid_rows, folder: Path, seed: int, start: str | None = None) -> Fitted:
        """Train a fold of all tasks, see `JointTuner.fit_all`."""
        fold, seeds = int(self.folds["fold"].iloc[valid_rows[0]]), self.run.seeds
        number = int(folder.name.removeprefix("seed")) if folder.name.startswith("seed") else 0
        settings = self.settings_ | ({"seeds": seeds} if seeds > 1 else {})
        runs = [open_run(place, self.run.run, settings, self.run.overwrite) for place in self.others_]
        places = [run / folder.relative_to(run_folder(self.run.work, self.run.run)) for run in runs]
        held_out = [np.flatnonzero(table["fold"] == fold) for table in self.tables_]
        learned = [train_rows, *(training_rows(table, fold) for table in self.tables_)]
        texts = [one.train["text"].tolist() for one in (self.learner, *self.learner.others)]
        kept = shared_rows(
            list(zip(texts, learned, strict=True)), list(zip(texts, [valid_rows, *held_out], strict=True))
        )
        for place, before, after in zip([self.run.work, *self.others_], learned, kept, strict=True):
            if lost := len(before) - len(after):
                print(f"fold {fold}: {lost:,} rows of {place} are not learned: another task holds out the same texts")
        own, *found = self.learner.fit_all(kept, [valid_rows, *held_out], [folder, *places], seed, start)
        for one, run, rows, fitted, table in zip(self.learner.others, runs, held_out, found, self.tables_, strict=True):
            save_fold(run, fold, fitted, one.train["id"].iloc[rows], one.test["id"], one.task, number, seeds)
            if fold in fold_folders(run):
                result = read_run(run.parent, run.name, one.task, table, one.test["id"])
                write_json(run / "score.json", score_run(result, one.task, one.labels, table["group"].to_numpy()))
        return own


def make_joint(run: TrainingRun, recipe: Recipe, tuner: dict[str, Any], folds: pd.DataFrame) -> JointRun:
    """The learner of `tasks`. tuner: what the fine-tuner of the work folder is made of."""
    check_joint(run.work, run.run, run.tasks, recipe.tricks)
    places, options = [resolve(one) for one in run.tasks], JointOptions(**run.joint)
    others = []
    for place in places:
        if place != resolve(run.work):
            task = load_task(place)
            find_starts(place, "", run.backbone, [])  # a backbone that has seen labels of it
            others.append(
                FineTuner(task, read_train(task), read_test(task), tuner["backbone"], recipe, place / "tokens")
            )
    joint = JointTuner(**tuner, others=others, draw=options.draw, mixed=options.batches == "mixed")
    return JointRun(joint, run, folds)
