"""A run of several work folders: one model of all their tasks a fold, which is in each folder a run of its own."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import load_task, read_test, read_train
from kagglekit.data.duplicates import count_range, near_duplicate_groups
from kagglekit.files import fold_folders, fold_number, resolve, run_folder, write_json
from kagglekit.learners.joint import JointTuner, shared_rows
from kagglekit.learners.joint_check import check_joint
from kagglekit.progress import say
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.initial_weights import find_starts, read_sources
from kagglekit.runs.record import RunRecord, name_start, split_start
from kagglekit.runs.run_knobs import JointOptions, TrainingRun
from kagglekit.runs.tables import choose_folds, read_folds, read_run, training_rows
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe


@dataclass
class JointRun:
    """Trains one model of several tasks a fold; `fit` returns what it predicts for the task of the work folder, and
    writes that of the others into theirs. learner: of all tasks. folds: of the work folder. settings: of params.json.

    The folder of `learner` comes last: a fold that was killed on the way is trained again, with the same result.
    Raises ValueError for a fold in which a task has nothing to learn, as other tasks hold out all its texts.
    """

    learner: JointTuner
    run: TrainingRun
    folds: pd.DataFrame = field(repr=False)

    def __post_init__(self):
        self.places_, self.tuners_ = order_places(self.run), [self.learner, *self.learner.others]
        both = list(zip(self.places_, self.tuners_, strict=True))[1:]
        self.tables_ = [self.folds, *(read_folds(place, one.train["id"]) for place, one in both)]
        self.copies_, lost = self._find_copies(), []
        for fold in choose_folds(self.folds, self.run.folds):
            kept, _, left_out = self.split(fold)
            lost.append(left_out)
            for place, rows in zip(self.places_, kept, strict=True):
                if not len(rows):
                    raise ValueError(
                        f"tasks: in fold {fold} nothing is left of {place} to learn: other tasks hold out (nearly) all "
                        "its texts. Leave it out, or bring the labels of these texts into one work folder"
                    )
        counts = {place: [one[number] for one in lost] for number, place in enumerate(self.places_)}
        if words := ", ".join(f"{count_range(each)} of {place}" for place, each in counts.items() if any(each)):
            say(f"rows that a fold does not learn, as another task holds out (nearly) the same texts: {words}")
        if self.caution and not self.run.overwrite:
            say(self.caution)
        if self.run.start:
            self._check_starts()

    @cached_property
    def caution(self) -> str:
        """Which folds had learned near-copies of what another task holds out, as before version 0.7; "": none. Found
        when the run goes on: a fold that was half trained looks like those of today once it is finished."""
        record, found = RunRecord.open(self.run.work, self.run.run), {}
        version = record.params.get("versions", {}).get("kagglekit", "0.0")
        early = [int(number) for number in version.split(".")[:2]] < [0, 7]
        begun = {*record.folds, *(fold_number(place.parent) for place in record.folder.glob("fold*/checkpoints"))}
        old = sorted(begun - record.precisions.keys()) if early else []  # version 0.8 records these
        equal = self._find_copies(threshold=1) if old else []
        for fold in old:
            rows = [sum(self.split(fold, copies)[2]) for copies in (self.copies_, equal)]
            found |= {fold: rows[0] - rows[1]} if rows[0] > rows[1] else {}
        if not found:
            return ""
        return (
            f"fold {', '.join(map(str, found))} learned near-copies ({count_range(found.values())}) of texts that "
            "another task holds out, as kagglekit before 0.7 did: its score may be too good. Delete its folder in each "
            "work folder to train it again"
        )

    def _find_copies(self, threshold: float = 0.8) -> list[np.ndarray]:
        """Of each task, numbers of its rows (rows,): equal ones are copies, see `near_duplicate_groups`."""
        tables = [one.train for one in self.tuners_]
        for number, one in enumerate(self.tuners_):
            if one.task.pattern:  # its own words would make all texts alike
                tables[number] = read_train(one.task.by_columns)
        copies = near_duplicate_groups([text for table in tables for text in table["text"]], threshold)
        return np.split(copies, np.cumsum([len(table) for table in tables])[:-1])

    def _check_starts(self) -> None:
        """Raise ValueError for a run to begin from that learned texts of one task which another holds out."""
        tables = zip(self.copies_, self.tables_, strict=True)
        pairs = [pd.DataFrame({"text": copies, "fold": table["fold"].to_numpy()}) for copies, table in tables]
        pairs = [pair.drop_duplicates() for pair in pairs]
        for source in read_sources(self.run.work, split_start(self.run.start), tasks=self.run.tasks):
            record, numbers = source.record, range(len(pairs))
            kept = [*map(resolve, record.recipe.get("tasks", []))]  # their texts it left out
            own = [n for n in numbers if source.by_fold and record.is_of_data(resolve(self.places_[n]))]
            for one, other in ((a, b) for a in own for b in numbers if a != b and resolve(self.places_[b]) not in kept):
                both = pairs[one].merge(pairs[other], on="text", suffixes=("", "_other"))
                if count := both.loc[both["fold"] != both["fold_other"], "text"].nunique():
                    raise ValueError(
                        f"start={source.name!r} learned {count:,} texts that {self.places_[other]} holds out in "
                        "another fold: begin with a joint run of these tasks, which leaves them out, or take them out "
                        "of one of the two"
                    )

    @property
    def task(self):
        return self.learner.task

    @property
    def train(self):
        return self.learner.train

    @property
    def settings(self):
        return self.learner.settings

    def split(
        self, fold: int, copies: list[np.ndarray] | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
        """The rows of each task that a fold learns, those that it holds out, and how many it does not learn since
        another task holds out (nearly) the same texts. copies: others than those of `_find_copies`."""
        learned = [training_rows(table, fold) for table in self.tables_]
        held_out = [np.flatnonzero(table["fold"] == fold) for table in self.tables_]
        kept = shared_rows(self.copies_ if copies is None else copies, learned, held_out)
        return kept, held_out, [len(before) - len(after) for before, after in zip(learned, kept, strict=True)]

    def fit(self, train_rows, valid_rows, folder: Path, seed: int, start: str | None = None) -> Fitted:
        """Train a fold of all tasks, see `JointTuner.fit_all`."""
        fold, seeds = int(self.folds["fold"].iloc[valid_rows[0]]), self.run.seeds
        number = int(folder.name.removeprefix("seed")) if folder.name.startswith("seed") else 0
        kept, held_out, _ = self.split(fold)
        settings = self.settings_ | ({"seeds": seeds} if seeds > 1 else {})
        settings["start"] = name_start(self.run.work, self.run.start)
        more = {"asked": RunRecord.open(self.run.work, self.run.run).params.get("asked", {})}
        runs = [  # the prompt of a recipe, for one, is filled in for each task
            open_run(
                place, self.run.run, settings | one.settings, self.run.overwrite, more=more | {"defaults": one.defaults}
            )
            for place, one in zip(self.places_[1:], self.learner.others, strict=True)
        ]
        places = [run / folder.relative_to(run_folder(self.run.work, self.run.run)) for run in runs]
        own, *found = self.learner.fit_all(kept, held_out, [folder, *places], seed, start)
        if not PartialState().is_main_process:  # of several processes the first writes
            return own
        if weights := own.receipts.get("loss weights"):
            shown = [f"{place} {words}" for place, words in zip(self.places_, map(_weights, weights), strict=True)]
            say(f"fold {fold}: weights of the losses: {'; '.join(shown)}")
        others = self.learner.others, runs, held_out[1:], found, self.tables_[1:]
        for one, run, rows, fitted, table in zip(*others, strict=True):
            save_fold(run, fold, fitted, one.train["id"].iloc[rows], one.test["id"], one.task, number, seeds)
            if fold in fold_folders(run):
                result = read_run(run.parent, run.name, one.task, table, one.test["id"])
                write_json(run / "score.json", score_run(result, one.task, one.labels, table["group"].to_numpy()))
        return own


def _weights(found: float | list[float]) -> str:
    """In the end, or of each epoch."""
    return ", ".join(f"{one:.2f}" for one in ([found] if isinstance(found, float) else found))


def order_places(run: TrainingRun) -> list[str]:
    """The work folders of a joint run, that of `work` first."""
    return [run.work, *(place for place in run.tasks if resolve(place) != resolve(run.work))]


def make_joint(run: TrainingRun, recipe: Recipe, tuner: dict[str, Any], folds: pd.DataFrame) -> JointRun:
    """The learner of `tasks`. recipe: as it was given, which is filled in for each task. tuner: what the fine-tuner of
    the work folder is made of."""
    check_joint(vars(run) | vars(recipe))
    options, places, others = JointOptions(**run.joint), order_places(run), []
    for place in map(resolve, places[1:]):
        task = load_task(place)
        find_starts(place, "", run.backbone, [])  # a backbone that has seen labels of it
        others.append(
            FineTuner(
                task,
                read_train(task),
                read_test(task),
                tuner["backbone"],
                recipe,
                place / "tokens",
                vocabulary=tuner["vocabulary"],
            )
        )
    losses = options.losses
    if isinstance(losses, dict):
        given = {resolve(name): float(weight) for name, weight in losses.items()}
        losses = [given.get(resolve(place), 1.0) for place in places]
    joint = JointTuner(**tuner, others=others, draw=options.draw, mixed=options.batches == "mixed", losses=losses)
    return JointRun(joint, run, folds)
