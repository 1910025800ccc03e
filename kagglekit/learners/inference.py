"""Inference: a finished run predicts new test rows, such as the hidden test of a code competition."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.ensembling.crossfit import steps_of
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import resolve, temporary_folder
from kagglekit.files.parquet import read_parquet
from kagglekit.learners.choose import Choice, choose_learner
from kagglekit.learners.full_fit import predict_full
from kagglekit.model.classifier import Classifier
from kagglekit.progress import clock, parts
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.tables import FULL, Run, find_full, read_run, training_rows
from kagglekit.selftraining.teachers import check_unchanged, refit_blend
from kagglekit.time_budget import TimeBudget
from kagglekit.training.predict import SavedModels, free_memory
from kagglekit.training.recipe import Recipe

Predict = Callable[[int], np.ndarray]  # fold -> (rows of test, columns) float32


@dataclass(eq=False)
class Inference:
    """Predicts new test rows with the finished runs of a work folder; nothing is trained but what takes seconds.

    folds, train, labels: as from `read_folds`, `read_train` and `encode_labels`. test: as from `read_test`, with the
    columns of `feature_columns`; the rows need not be those that the runs predicted when they were trained.
    precision: of fine-tuned models; None is that of the run, on this machine; "int8" as in `SavedModel`. asked: numbers
    of the rows of test to predict, for a cascade; None: all.
    """

    work: str | Path
    task: Task
    folds: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    labels: np.ndarray
    precision: str | None = None
    asked: np.ndarray | None = None

    def __post_init__(self):
        self.work, self.precision = resolve(self.work), self.precision or ""
        self.asked = np.arange(len(self.test)) if self.asked is None else self.asked
        self._known: dict[str, np.ndarray] = {}  # predictions of each run in the current fold: each is computed once
        self._spare: tuple[str, Classifier | None] = ("", None)  # of the run that was last, its frozen backbone

    def predict(self, run: str, budget: TimeBudget, full: str = "") -> Run:
        """The run with new predictions of `test`, one array for each finished fold.

        full: "with" asks the model of all rows too, and first; "only" asks none of a fold.

        Fine-tuned runs predict with their saved models. TF-IDF and frozen embeddings are fitted again on the same rows
        with the same seed. A blend predicts with its base runs, however deeply nested, and combines them as in that
        fold. On the test rows of the training run the predictions are the stored ones, up to rounding.
        Where `budget` does not hold another fold, `tests` has the folds that are done, at least one, and a line says
        so. `oof` stays that of all finished folds.
        Costs one pass over the test rows for each fold and each base run; one model is in memory at a time.
        Raises FileNotFoundError and ValueError, before anything is predicted, for a run without saved models (setfit),
        a stacker that reads row features (meta), base runs that have changed since, and missing columns or vectors.
        """
        stored = self._read(run)
        if full:
            stored = replace(stored, full=self._predict_full(stored))
        predict, tests, longest = self._find(run) if full != "only" else None, {}, 0.0
        for fold in parts(stored.folds if predict else (), "fold"):
            if (tests or full) and not budget.holds(longest):
                print(
                    f"The time is nearly over: the mean of folds {list(tests)} of {stored.folds}, as another fold "
                    f"takes {clock(longest)} and {clock(max(budget.left(), 0))} are left"
                )
                break
            self._known.clear()
            began = time.monotonic()
            tests[fold] = predict(fold)
            longest = max(longest, time.monotonic() - began)
            print(f"fold {fold}: {len(self.test):,} rows predicted in {clock(time.monotonic() - began)}")
        self._take_spare()
        return replace(stored, tests=tests, test_ids=self.test["id"].tolist())

    def _read(self, name: str) -> Run:
        """The stored run; its test tables may hold other rows than `test`."""
        found = RunRecord.open(self.work, name).folds
        ids = read_parquet(next(iter(found.values())) / "test.parquet")["id"].tolist() if found else []
        return read_run(self.work, name, self.task, self.folds, ids)

    def _find(self, name: str) -> Predict:
        """The function that predicts a fold of a run. Raises for a run that cannot predict."""
        run, record = self._read(name), RunRecord.open(self.work, name)
        recipe = record.recipe
        if record.weights:
            predict = self._blend(run, record)
        elif recipe and (recipe["backbone"] == "tfidf" or recipe.get("learner") == "frozen"):
            predict = self._fit_again(run, recipe)
        else:
            predict = self._load(run, record)

        def once(fold: int) -> np.ndarray:
            if name not in self._known:
                self._known[name] = predict(fold)
            return self._known[name]

        return once

    def _load(self, run: Run, record: RunRecord) -> Predict:
        models, recipe, same = record.saved_models, record.recipe, {}
        if lacking := [k for k in run.folds if k not in models]:
            raise ValueError(
                f"run={run.name!r} has no model of fold {lacking[0]} that could predict new rows: setfit keeps none, "
                "nor does a run from elsewhere, and a copy may lack it. Submit its file of predictions as it is "
                "(predict=False), or a blend without it"
            )
        if missing := [column for column in Recipe.read(recipe).columns if column not in self.test.columns]:
            raise ValueError(
                f"run={run.name!r} reads the feature column {missing[0]!r}, and the rows of test have "
                f"{', '.join(self.test.columns)}: read them with the columns of feature_columns"
            )
        features = Recipe.read(recipe).features
        vectors = features.get("test_vectors") or features.get("vectors")
        if vectors and not resolve(vectors).is_file():
            raise FileNotFoundError(
                f"run={run.name!r} reads a vector of each row of test from {vectors}, which does not exist: "
                "it cannot predict a hidden test without a vector for each of its rows"
            )

        def predict(fold: int) -> np.ndarray:
            key, rows = tuple(models[fold]), self.test.iloc[self.asked]
            if key not in same:
                same.clear()
                how = (recipe, self.work / "tokens", self.precision)
                models_of_fold = SavedModels(key, *how, spare=self._take_spare(run.name))
                same[key] = models_of_fold.predict(rows)
                self._spare = run.name, models_of_fold.spare
            return same[key]

        return predict

    def _take_spare(self, name: str = "") -> Classifier | None:
        """The last model of a run, whose frozen backbone is loaded once for its folds; that of another run is freed."""
        (owner, spare), self._spare = self._spare, ("", None)
        if owner == name:
            return spare
        del spare
        free_memory()
        return None

    def _predict_full(self, run: Run) -> np.ndarray:
        """What the model of all rows predicts: the saved one, or one that is fitted again."""
        find_full(run)
        recipe = RunRecord(run.folder).recipe
        if recipe["backbone"] == "tfidf" or recipe.get("learner") == "frozen":
            with temporary_folder() as scratch:
                return predict_full(self._choose_again(run, recipe), scratch / FULL).test.astype(np.float32)
        if not (models := RunRecord(run.folder).full_models):
            raise ValueError(
                f"run={run.name!r} has kept no model of all rows that could predict new ones: setfit keeps none, and a "
                'copy may lack it. Say full="", or predict=False'
            )
        return SavedModels(models, recipe, self.work / "tokens", self.precision).predict(self.test)

    def _fit_again(self, run: Run, recipe: dict[str, Any]) -> Predict:
        choice = self._choose_again(run, recipe)

        def predict(fold: int) -> np.ndarray:
            ours, held_out = training_rows(self.folds, fold), np.flatnonzero(self.folds["fold"] == fold)
            with temporary_folder() as place:
                found = choice.fit(ours, held_out, place, fold)
            return found.test[self.asked].astype(np.float32)

        return predict

    def _choose_again(self, run: Run, recipe: dict[str, Any]) -> Choice:
        options = dict(recipe.get("learner_options", {}))
        read = {
            name: options.pop(name) for name in ("max_length", "pooling", "truncation", "budget") if name in options
        }
        knobs = TrainingRun.read(recipe | {"work": str(self.work), "run": run.name, "learner_options": options})
        tables = (self.train, self.test, self.folds)
        return choose_learner(knobs, Recipe.read(recipe | read), self.task, *tables, run.folds)

    def _blend(self, run: Run, record: RunRecord) -> Predict:
        weights = record.weights
        if "meta" in weights["beside"]:
            raise ValueError(
                f"run={run.name!r} is a blend whose stacker reads row features (meta): it cannot predict new rows. "
                "Blend again with meta=[]"
            )
        reads = "documents" in weights["beside"]
        if reads and "group" not in self.test:
            raise ValueError(f"run={run.name!r} is a blend by the column {self.task.group!r}, which test does not have")
        check_unchanged(record, "run")
        own, theirs = (table["group"].to_numpy() if reads else None for table in (self.train, self.test))
        members = [_only(self._read(name), run.folds) for name in weights["members"]]
        predictors, plan = [self._find(name) for name in weights["members"]], BlendPlan(**weights["plan"])
        makers = refit_blend(self.task, members, plan, self.folds, self.labels, own)
        if plan.method == "cascade":
            return self._cascade(weights["members"], makers)
        theirs = theirs if theirs is None else theirs[self.asked]

        def predict(fold: int) -> np.ndarray:
            found = np.stack([member(fold) for member in predictors]).astype(np.float64)
            return makers[fold].predict(StackInput(found, plan.kind, plan.metric, documents=theirs)).astype(np.float32)

        return predict

    def _cascade(self, members: list[str], makers: dict[int, Ensembler]) -> Predict:
        """Each run is asked about the rows that it reads in a cascade, and what follows it, such as thresholds."""

        def predict(fold: int) -> np.ndarray:
            first, *rest = steps_of(makers[fold])

            def ask(k: int, rows: np.ndarray) -> np.ndarray:
                if len(rows) < len(self.asked):
                    print(f"fold {fold}: {members[k]} reads {len(rows):,} of {len(self.asked):,} rows")
                return replace(self, asked=self.asked[rows])._find(members[k])(fold)

            found = first.run(self.task.kind, len(self.asked), ask)
            for one in rest:
                found = one.predict(StackInput(found[None], self.task.kind, self.task.metric))
            return found.astype(np.float32)

        return predict


def _only(run: Run, folds: list[int]) -> Run:
    """The run with these folds alone."""
    inside = run.oof["fold"].isin(folds).to_numpy()
    tests = {k: run.tests[k] for k in folds}
    return replace(run, oof=run.oof[inside].reset_index(drop=True), rows=run.rows[inside], tests=tests)
