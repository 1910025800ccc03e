"""The test rows of today predicted by a finished run: a code competition's hidden test is another one than at home."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.device import choose_precision
from kagglekit.ensembling.base import StackInput
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import resolve
from kagglekit.learners.choose import choose_learner
from kagglekit.progress import clock
from kagglekit.runs.knobs import TrainingRun
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import Run, read_predictions, read_run, training_rows
from kagglekit.selftraining.teachers import check_unchanged, refit_blend
from kagglekit.time_budget import TimeBudget
from kagglekit.training.predict import SavedModel, free_memory
from kagglekit.training.recipe import Recipe

Predict = Callable[[int], np.ndarray]  # fold -> (rows of test, columns) float32


def predict_anew(
    work: str | Path,
    run: str,
    task: Task,
    folds: pd.DataFrame,
    train: pd.DataFrame,
    test: pd.DataFrame,
    labels: np.ndarray,
    budget: TimeBudget,
    precision: str | None = None,
) -> Run:
    """A run, whose finished folds have been asked about the rows that test has now, fold after fold.

    folds, train, labels: as from `read_folds`, `read_train` and `encode_labels`. test: as from `read_test`, with the
    columns of `feature_columns`; its rows may be others than those that the run predicted at home. precision: of
    fine-tuned models; None is the one of this machine.
    Fine-tuned runs are asked by their saved models. TF-IDF and frozen embeddings, which take seconds, learn again from
    the same rows with the same seed. A blend asks its members, however deep, and combines them as it did in that fold.
    With the test rows of home the predictions are those of home, up to rounding.
    When `budget` would not hold another fold, those that are done are what is left in `tests`, at least one; that is
    said. `oof` is that of all finished folds, and of home.
    Costs a pass over the test rows for each fold and each member; one model is in memory at a time.
    Raises FileNotFoundError and ValueError, before anything is predicted, for what keeps no model (setfit), a blend by
    more than predictions (meta), members that have changed since, and a column or vectors that are not there.
    """
    asked = _Asked(resolve(work), task, folds, train, test, labels, precision or choose_precision())
    stored = asked.read(run)
    predict, tests, longest = asked.find(run), {}, 0.0
    for fold in stored.folds:
        if tests and not budget.holds(longest):
            print(
                f"The time is nearly over: the mean of folds {list(tests)} of {stored.folds}, as another fold takes "
                f"{clock(longest)} and {clock(max(budget.left(), 0))} are left"
            )
            break
        asked.known.clear()
        begun = time.monotonic()
        tests[fold] = predict(fold)
        longest = max(longest, time.monotonic() - begun)
        print(f"fold {fold}: {len(test):,} rows predicted in {clock(time.monotonic() - begun)}")
    return replace(stored, tests=tests, test_ids=test["id"].tolist())


@dataclass(eq=False)
class _Asked:
    """What there is to predict. known: what runs have said of the fold at work, so that none is asked twice."""

    work: Path
    task: Task
    folds: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    labels: np.ndarray
    precision: str
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def read(self, name: str) -> Run:
        """The run as it is stored: all is checked but that its tables of test are of the present rows."""
        found = RunRecord.open(self.work, name).folds
        ids = read_predictions(next(iter(found.values())) / "test.parquet")["id"].tolist() if found else []
        return read_run(self.work, name, self.task, self.folds, ids)

    def find(self, name: str) -> Predict:
        """Who predicts for a run. Nothing is predicted yet, and what cannot be is refused."""
        run, record = self.read(name), RunRecord.open(self.work, name)
        recipe = record.recipe
        if record.weights:
            predict = self._blended(run, record)
        elif recipe and (recipe["backbone"] == "tfidf" or recipe.get("learner") == "frozen"):
            predict = self._learned_again(run, recipe)
        else:
            predict = self._saved(run, record)

        def once(fold: int) -> np.ndarray:
            if name not in self.known:
                self.known[name] = predict(fold)
            return self.known[name]

        return once

    def _saved(self, run: Run, record: RunRecord) -> Predict:
        models, recipe, same = record.saved_models, record.recipe, {}
        if lacking := [k for k in run.folds if k not in models]:
            raise ValueError(
                f"run={run.name!r} has no model of fold {lacking[0]} that could predict new rows: setfit keeps none, "
                "nor does a run from elsewhere, and a copy may lack it. Submit its file of predictions as it is "
                "(predict=False), or a blend without it"
            )
        if missing := [column for column in Recipe.read(recipe).columns if column not in self.test.columns]:
            raise ValueError(
                f"run={run.name!r} reads the column {missing[0]!r} beside the text, and the rows of test have "
                f"{', '.join(self.test.columns)}: read them with the columns of feature_columns"
            )

        features = Recipe.read(recipe).features
        vectors = features.get("test_vectors") or features.get("vectors")
        if vectors and not resolve(vectors).is_file():
            raise FileNotFoundError(
                f"run={run.name!r} reads a vector of each row of test from {vectors}, which is not there: it cannot "
                "predict a hidden test, whose vectors nobody has made"
            )

        def predict(fold: int) -> np.ndarray:
            if models[fold] not in same:
                same.clear()
                model = SavedModel(models[fold], recipe, self.work / "tokens", self.precision)
                same[models[fold]] = model.predict(self.test)
                del model
                free_memory()
            return same[models[fold]]

        return predict

    def _learned_again(self, run: Run, recipe: dict[str, Any]) -> Predict:
        options = dict(recipe.get("learner_options", {}))
        read = {name: options.pop(name) for name in ("max_length", "pooling", "truncation") if name in options}
        asked = TrainingRun.read(recipe | {"work": str(self.work), "learner_options": options})
        tables = (self.train, self.test, self.folds)
        choice = choose_learner(asked, Recipe.read(recipe | read), self.task, *tables, run.folds)

        def predict(fold: int) -> np.ndarray:
            ours, held_out = training_rows(self.folds, fold), np.flatnonzero(self.folds["fold"] == fold)
            with tempfile.TemporaryDirectory() as place:
                found = choice.fit(ours, held_out, Path(place), fold)
            return found.test.astype(np.float32)

        return predict

    def _blended(self, run: Run, record: RunRecord) -> Predict:
        weights = record.weights
        if "meta" in weights["beside"]:
            raise ValueError(
                f"run={run.name!r} is a blend that saw more of a row than predictions (meta): it cannot predict new "
                "rows. Blend again with meta=[]"
            )
        reads = "documents" in weights["beside"]
        if reads and "group" not in self.test:
            raise ValueError(f"run={run.name!r} is a blend by the column {self.task.group!r}, which test does not have")
        check_unchanged(record, "run")
        own, theirs = (table["group"].to_numpy() if reads else None for table in (self.train, self.test))
        members = [_only(self.read(name), run.folds) for name in weights["members"]]
        asked, plan = [self.find(name) for name in weights["members"]], BlendPlan(**weights["plan"])
        makers = refit_blend(self.task, members, plan, self.folds, self.labels, own)

        def predict(fold: int) -> np.ndarray:
            found = np.stack([member(fold) for member in asked]).astype(np.float64)
            return makers[fold].predict(StackInput(found, plan.kind, plan.metric, documents=theirs)).astype(np.float32)

        return predict


def _only(run: Run, folds: list[int]) -> Run:
    """The run as if it had these finished folds alone."""
    inside = run.oof["fold"].isin(folds).to_numpy()
    tests = {k: run.tests[k] for k in folds}
    return replace(run, oof=run.oof[inside].reset_index(drop=True), rows=run.rows[inside], tests=tests)
