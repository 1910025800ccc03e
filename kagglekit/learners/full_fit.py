"""The model of all rows: trained beside those of the folds, never scored, and submitted by `full` of 5_submit."""

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from kagglekit.competition.task import Task
from kagglekit.files import replacing, seed_folder
from kagglekit.files.parquet import read_metadata
from kagglekit.runs.folder import Fitted
from kagglekit.runs.leaks import table_metadata
from kagglekit.runs.record import RunRecord, split_start
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.seeds import finished_seeds, join_seeds, table_folder
from kagglekit.runs.tables import EVERYTHING, FULL, write_predictions
from kagglekit.time_budget import TimeBudget
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from kagglekit.tricks import make_tricks

SEED = 1000  # what is added to the run's seed; folds add their number


def check_full_fit(run: TrainingRun, recipe: Recipe) -> None:
    """Raise ValueError for what needs rows to be validated on, and for a start that is not the same for all folds."""
    if choosing := [trick for trick in make_tricks(recipe.tricks) if trick.chooses]:
        raise ValueError(
            f"full_fit: {type(choosing[0]).__name__} chooses weights by scores on held-out rows, and a model of all "
            "rows has none: leave the trick out, or full_fit"
        )
    for name in split_start(run.start):
        if not RunRecord.open(run.work, name).has_one_model:
            raise ValueError(
                f"full_fit: start={name!r} has a model for each fold, and none for all rows: begin with a run of "
                "2_pretrain that has one model, or leave full_fit out"
            )


def fit_full(
    choice: Any,
    folder: Path,
    task: Task,
    test_ids: Sequence[str],
    epochs: float | None,
    budget: TimeBudget,
    seeds: int = 1,
) -> None:
    """Train the model of all rows of a run, extra ones too, in `folder/full`, with each of so many seeds; one that is
    finished stays.

    choice: of `choose_learner`. epochs: None: those of a fold. Its last file is test.parquet, the mean of the seeds.
    Raises OutOfTime where no time is left, and ValueError where there is one of other epochs.
    """
    main, name = folder / FULL, "test.parquet"
    there = finished_seeds(main, seeds, name)
    for file in [file for file in (main / name, main / "seed0" / name) if file.is_file()]:
        if (before := read_metadata(file).get("epochs")) != epochs:
            raise ValueError(
                f"{main} was trained with full_fit_epochs={before}, and now it is {epochs}: delete this folder, or say "
                f"full_fit_epochs={before}"
            )
    if len(there) == seeds:
        print("the model of all rows is finished")
    for number in (number for number in range(seeds) if number not in there):
        place = seed_folder(main, number)
        budget.check("the model of all rows" + f", seed {number}" * (seeds > 1))
        fitted = predict_full(choice, place, epochs, number)
        if not PartialState().is_main_process:  # of several processes the first writes
            continue
        with replacing(place / "history.jsonl") as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in fitted.history))
        about = table_metadata(RunRecord(folder), -1, test=True) | {"saw": EVERYTHING, "epochs": epochs}
        write_predictions(table_folder(main, number, seeds) / name, test_ids, fitted.test, task.columns, metadata=about)
    if PartialState().is_main_process:
        join_seeds(main, seeds, (name,))


def predict_full(choice: Any, place: Path, epochs: float | None = None, number: int = 0) -> Fitted:
    """Train on all rows in `place`, with a seed of its own, and predict test; nothing is validated."""
    learner, tuner = choice.learner, isinstance(choice.learner, FineTuner)
    if tuner and epochs is not None:
        learner = copy(learner)
        learner.recipe = replace(learner.recipe, epochs=epochs)
    rows = choice.kept(np.arange(len(learner.train)))
    begin = {"start": choice.begin(next(iter(choice.starts)), place)} if choice.starts else {}
    held_out = rows[:0] if tuner else rows[:1]  # the others need a row to predict, which nobody looks at
    fitted = learner.fit(rows, held_out, place, seed=choice.seed + SEED * (number + 1), **begin)
    return replace(fitted, oof=fitted.oof[:0])
