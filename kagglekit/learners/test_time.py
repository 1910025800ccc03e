"""Learning at test time: the saved models of a run are trained once more before they predict test.

On labelled examples that stand in columns of test (a rule with two examples of each class), and on predictions that are
sure; as most winners of Jigsaw Agile Community Rules (Kaggle, 2025) did. At home a replay says whether it helps: each
fold's model learns the examples of its own held-out rows, and predicts these with and without.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.mounts import mount_root
from kagglekit.competition.support import read_support
from kagglekit.competition.task import BY, Task
from kagglekit.declared import read_tricks
from kagglekit.files import read_json, remove, resolve, temporary_folder, write_json
from kagglekit.files.parquet import read_parquet
from kagglekit.progress import clock, parts, say
from kagglekit.runs.record import RunRecord
from kagglekit.runs.seeds import mean_predictions
from kagglekit.runs.tables import Run, read_run, write_predictions
from kagglekit.selftraining.selftraining_knobs import REPLAY, LearningOptions
from kagglekit.time_budget import OutOfTime, TimeBudget, kernel_began
from kagglekit.training.extra_files import compare, tag_texts
from kagglekit.training.finetune import FineTuner

PLACE = "learned"  # in the folder of a run: the folds of a replay in progress


@dataclass(eq=False)
class TestTimeLearner:
    """Trains the models of a run once more, on what test says, and replays that at home.

    folds, train, labels: as from `read_folds`, `read_train` and `encode_labels`. Raises ValueError, before anything is
    trained, as `LearningOptions.check_run` does.
    """

    __test__ = False  # pytest: no test

    work: str | Path
    run: str
    task: Task = field(repr=False)
    folds: pd.DataFrame = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    labels: np.ndarray = field(repr=False)
    options: LearningOptions
    budget: TimeBudget = field(default_factory=TimeBudget)

    def __post_init__(self):
        self.work = resolve(self.work)
        self.record = RunRecord.open(self.work, self.run)
        knobs = self.options.check_run(self.task.kind, self.record)
        rate = self.options.learning_rate or knobs.learning_rate
        tricks = {name: one for name, one in knobs.tricks.items() if not read_tricks()[name].traits["chooses"]}
        plain = dict(augment={}, augment_copies=1, keep_best=False, patience=0, evaluate_every=0, tricks=tricks)
        plain |= dict(augment_share=0.5, learned_weights=False)
        self.recipe = replace(knobs, epochs=self.options.passes, learning_rate=rate, **plain)

    def check(self) -> dict[str, Any]:
        """What the replay of these settings found, see `compare`: the one that is on disk, or at home a new one, which
        is written to learn.json and goes with the run into kernels. Empty in a kernel without one."""
        found = self.options.read_replay(self.record)
        if found or mount_root().is_dir():
            return found
        found = self.replay()
        write_json(self.record.folder / REPLAY, {"settings": self.options.settings(self.record), "found": found})
        remove(self.record.folder / PLACE)
        return found

    def replay(self) -> dict[str, Any]:
        """Each fold's models learn from the examples of the rows that were held out from them, and predict these: the
        score with and without, and the gain with its 95 % interval (paired bootstrap; rows of a group are drawn
        together). A fold that is finished is not trained again. Raises OutOfTime."""
        place, run, settings = self.record.folder / PLACE, self._stored(), self.options.settings(self.record)
        if not (place / REPLAY).is_file() or read_json(place / REPLAY) != settings:
            remove(place)
            write_json(place / REPLAY, settings)
        learned = np.empty_like(run.oof_array)
        for fold in parts(run.folds, "replay, fold"):
            ours, file = (run.oof["fold"] == fold).to_numpy(), place / f"fold{fold}.parquet"
            if not file.is_file():
                rows = self.train.iloc[run.rows[ours]]
                found = self._learn(fold, rows, "train", run.oof_array[ours], place / f"fold{fold}", self.budget)
                write_predictions(file, rows["id"].tolist(), found, self.task.columns, fold)
            learned[ours] = read_parquet(file)[self.task.columns].to_numpy()
        groups = self.folds["group"].to_numpy()[run.rows]
        return compare(self.task.metric, self.labels[run.rows], learned, run.oof_array, groups)

    def predict(self, result: Run, test: pd.DataFrame) -> Iterator[Run]:
        """`result`, with one more fold predicted by models that have learned, each time one is ready; the others stay
        as they were. Ends when the minutes, or the hours of the kernel, are over; in a kernel also at an error, which
        is told: nobody could mend it there, and the submission that is written counts."""
        budget, tests = self._limit(), dict(result.tests)
        for fold in parts(result.folds, "learning, fold"):
            began = time.monotonic()
            try:
                budget.check(f"learning in fold {fold}")
                with temporary_folder() as place:
                    found = self._learn(fold, test, "test", tests[fold], place / f"fold{fold}", budget)
            except OutOfTime:
                print(
                    f"The minutes to learn are over: folds {list(tests)[list(tests).index(fold) :]} stay as they were"
                )
                break
            except Exception as error:
                if not mount_root().is_dir():
                    raise
                say(f"CAUTION: learning from test failed in fold {fold}, and the submission stays as it is: {error}")
                break
            if found is tests[fold]:
                print(f"fold {fold}: test has nothing to learn")
                continue
            tests[fold] = found
            print(f"fold {fold}: learned, and predicted {len(test):,} rows, in {clock(time.monotonic() - began)}")
            yield replace(result, tests=dict(tests))

    def _limit(self) -> TimeBudget:
        """The minutes from now on, or the hours of the kernel where they are over before."""
        if not self.options.minutes:
            return self.budget
        hours = (time.time() - kernel_began()) / 3600 + self.options.minutes / 60
        return min(self.budget, TimeBudget(hours, reserve=0.0), key=lambda one: one.left())

    def _stored(self) -> Run:
        folds = self.record.folds
        ids = read_parquet(next(iter(folds.values())) / "test.parquet")["id"].tolist()
        return read_run(self.work, self.run, self.task, self.folds, ids)

    def _learn(
        self, fold: int, rows: pd.DataFrame, what: str, frozen: np.ndarray, place: Path, budget: TimeBudget
    ) -> np.ndarray:
        """What the models of a fold predict for `rows` of train or test (`what`), (rows, columns), after they have
        learned from these; `frozen`, what they predicted before, where there is nothing to learn."""
        label, options, learned = self.task.labels[0], self.options, []
        if options.support:
            learned.append(read_support(self.task, options.support, options.column, what, {*rows["id"]}))
        sure = frozen.max(axis=1) >= options.pseudo if options.pseudo else np.zeros(len(rows), dtype=bool)
        if sure.any():
            named = [self.task.classes[k] for k in frozen[sure].argmax(axis=1)]
            learned.append(rows[sure].assign(**{label: named}))
        if not any(map(len, learned)):
            return frozen
        table = pd.concat(learned, ignore_index=True)[["id", "text", label]]
        rows = rows.drop(columns=[name for name in (BY, *self.task.labels) if name in rows])
        if self.record.recipe.get("extra_source"):
            table, rows = tag_texts(table), tag_texts(rows)
        found = []
        for number, model in enumerate(self.record.saved_models[fold]):
            how = dict(cache=self.work / "tokens", budget=budget)
            tuner = FineTuner(self.task, table, rows, str(model), self.recipe, **how)
            seed = self.record.recipe.get("seed", 0) + 1000 * number + fold
            every, none = np.arange(len(table)), np.arange(0)
            fitted = tuner.fit(every, none, place / f"seed{number}", seed, str(model), reopened=True)
            found.append(fitted.test)
        remove(place)
        return mean_predictions(found)
