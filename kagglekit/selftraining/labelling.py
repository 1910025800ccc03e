"""Labels for rows without labels, of test or of other files: the pool, the rule that chooses rows, its receipt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.read import read_table
from kagglekit.competition.task import Task, join_texts, row_ids
from kagglekit.data.clean import clean_texts
from kagglekit.data.duplicates import normalise
from kagglekit.data.features import check_features
from kagglekit.files import read_json, replacing, resolve, write_json
from kagglekit.files.arrays import read_arrays, write_arrays
from kagglekit.files.parquet import write_parquet
from kagglekit.runs.folder import Fitted
from kagglekit.scoring.metrics import score
from kagglekit.selftraining.pseudo_labels import (
    Prediction,
    PseudoLabels,
    agreement,
    choose_rows,
    confidence,
    estimate,
    find_groups,
    group_names,
    make_labels,
)
from kagglekit.selftraining.selftraining_knobs import SelfTrainingOptions
from kagglekit.selftraining.teachers import Teacher
from kagglekit.selftraining.ust import confidence_weights, draw_predictions, draw_rows, summarise
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows

TEST = "test"  # the source of rows of test


def make_pool(
    task: Task, train: pd.DataFrame, test: pd.DataFrame | None, files: Sequence[str], recipe: Recipe
) -> pd.DataFrame:
    """The rows to label: id, text, the feature columns of the recipe, and source; those of test first (test=None leaves
    them out), then those of the files.

    A row of a file is left out when its text, as the model reads it, but for case and white space, is empty, in the
    pool already, or in train: a copy of a row to be validated on would be a row that was seen. Raises
    FileNotFoundError, and ValueError that names file and column, and when no row is left.
    """
    parts = [] if test is None else [test.assign(source=TEST)]
    parts += [read_unlabelled(task, file, recipe) for file in files]
    pool = pd.concat(parts, ignore_index=True)
    texts, ours = pd.Series(_plain(pool, recipe)), np.arange(len(pool)) < (0 if test is None else len(test))
    new = ~texts.isin(_plain(train, recipe)) & ~texts.duplicated() & (texts != "")
    pool = pool[ours | new].reset_index(drop=True)
    if not len(pool):
        raise ValueError(f"pseudo: no text in {', '.join(files)} is new: all are empty, or in train")
    return pool


def read_unlabelled(task: Task, file: str | Path, recipe: Recipe) -> pd.DataFrame:
    """The rows of a file with the task's text columns: id (row1, row2, ... where it has none), text, the feature
    columns of the recipe, and source, the name of the file."""
    path = resolve(file)
    table = read_table(path, task.encoding)
    for name in task.text:
        if name not in table.columns:
            raise ValueError(f"{path} has no column {name!r}, the text: it has {', '.join(table.columns)}")
    for name in recipe.columns:
        if name not in table.columns:
            raise ValueError(f"{path} has no column {name!r}, which the model reads beside the text")
    texts = join_texts(table, task)
    columns = {"id": row_ids(table, task.id), "text": texts, **{name: table[name] for name in recipe.columns}}
    read = pd.DataFrame(columns)
    where = replace(task, files={"train": path.name, "test": path.name})
    check_features(where, read, read, *(recipe.features.get(kind, ()) for kind in ("numbers", "categories")))
    return read.assign(source=path.name)


def _plain(table: pd.DataFrame, recipe: Recipe) -> list[str]:
    """The texts, cleaned, so that copies are equal."""
    return [normalise(text) for text in clean_texts(table["text"], recipe.clean)]


DONE = "done"  # a folder in that of a round, written once its model is trained and asked
ADDED = "added.parquet"  # in it: the rows that were added
FIELDS = [one.name for one in fields(Prediction)]


@dataclass(frozen=True, eq=False)
class RoundOutput:
    """The predictions of one model for the pool and for the held-out rows of its fold, both asked in the same way.

    fitted: as from `FineTuner.fit`; None for a teacher from another run.
    """

    pool: Prediction
    held_out: Prediction
    fitted: Fitted | None = None

    def save(self, folder: Path, added: pd.DataFrame | None = None) -> None:
        """Write it to a folder, whole or not at all, with the table of the added rows; of several processes the
        first one writes, and the others wait."""
        state = PartialState()
        if state.is_main_process:
            arrays = {"oof": self.fitted.oof, "test": self.fitted.test}
            for name in ("pool", "held_out"):
                arrays |= {f"{name} {one}": getattr(getattr(self, name), one) for one in FIELDS}
            words = {"history": self.fitted.history, "receipts": self.fitted.receipts}
            with replacing(folder) as part:
                part.mkdir(parents=True)
                write_arrays(part / "arrays.npz", {name: x for name, x in arrays.items() if x is not None})
                write_json(part / "words.json", words)
                if added is not None:
                    write_parquet(part / ADDED, added)
        state.wait_for_everyone()

    @classmethod
    def load(cls, folder: Path) -> "RoundOutput":
        """What `save` wrote."""
        arrays, words = read_arrays(folder / "arrays.npz"), read_json(folder / "words.json")
        asked = [Prediction(**{one: arrays.get(f"{name} {one}") for one in FIELDS}) for name in ("pool", "held_out")]
        fitted = Fitted(arrays["oof"], arrays["test"], words["history"], words["receipts"])
        return cls(*asked, fitted)


@dataclass
class Labelling:
    """The rule by which rows of the pool get labels. train, labels: of all rows. pool: as from `make_pool`."""

    knobs: SelfTrainingOptions
    task: Task
    train: pd.DataFrame
    labels: np.ndarray
    pool: pd.DataFrame

    def ask_teacher(self, teacher: Teacher, fold: int, held_out: np.ndarray, seed: int) -> RoundOutput:
        """The predictions of a teacher's fold for the pool and for `held_out`, rows of train that it never saw."""
        if self.knobs.labels == "ust":
            return self._draw(teacher.saved(fold), held_out, seed)
        pool = self._pool(teacher.test(fold), lambda files: teacher.predict(fold, files))
        return RoundOutput(pool, Prediction(teacher.oof[held_out]))

    def ask_model(self, fitted: Fitted, model: SavedModel, held_out: np.ndarray, seed: int) -> RoundOutput:
        """The same of a model that was just trained; `fitted` has its predictions of test and of the held-out rows."""
        if self.knobs.labels == "ust":
            return self._draw(model, held_out, seed, fitted)
        return RoundOutput(self._pool(fitted.test, model.predict), Prediction(fitted.oof), fitted)

    def _pool(self, test: np.ndarray, predict: Callable[[pd.DataFrame], np.ndarray]) -> Prediction:
        """Predictions of the pool: those of test are there, those of files are asked for."""
        files = self.pool[self.pool["source"] != TEST]
        found = [*([test] if self.knobs.test else []), *([predict(files)] if len(files) else [])]
        return Prediction(np.concatenate(found))

    def _draw(self, model: SavedModel, held_out: np.ndarray, seed: int, fitted: Fitted | None = None) -> RoundOutput:
        """By passes with dropout; only `size` rows of the pool are asked."""
        knobs, size, rows = self.knobs, len(self.pool), np.arange(len(self.pool))
        if 0 < knobs.size < size:
            rows = np.sort(np.random.default_rng([seed, size]).choice(size, knobs.size, replace=False))

        def ask(table: pd.DataFrame, of_train: bool = False) -> Prediction:
            examples = model.examples(table, of_train)
            draws = draw_predictions(model.classifier, examples, model.precision, knobs.passes, seed, knobs.dropout)
            return summarise(draws, self.task.kind)

        asked, whole = ask(self.pool.iloc[rows]), {}
        for name in FIELDS:
            values = getattr(asked, name)
            whole[name] = np.full((size, *values.shape[1:]), np.nan, dtype=np.float32)
            whole[name][rows] = values
        return RoundOutput(Prediction(**whole), ask(self.train.iloc[held_out], of_train=True), fitted)

    def choose(self, guess: Prediction, seed: int, share: float = 1.0) -> PseudoLabels:
        """The rows to be added. share: only this part of `top`."""
        knobs, kind = self.knobs, self.task.kind
        top = max(1, round(knobs.top * share)) if knobs.top else 0
        if knobs.labels == "ust":
            rows = draw_rows(guess, kind, top, knobs.sample, seed)
            weights = knobs.weight * confidence_weights(guess.variance[rows])
        else:
            rows = choose_rows(guess.mean, kind, knobs.least(kind), top)
            sure = confidence(guess.mean[rows], kind)
            weights = sure if knobs.weight == "confidence" else np.full(len(rows), knobs.weight)
        found = guess.mean[rows]
        labels = make_labels(found, kind, len(self.task.classes), knobs.labels == "soft")
        return PseudoLabels(rows, labels, weights.astype(np.float32), confidence(found, kind))

    def extra(self, chosen: PseudoLabels) -> ExtraRows | None:
        """The chosen rows as training rows; None where there is none, or where all weights are 0."""
        if not chosen.weights.any():
            return None
        return ExtraRows(self.pool.iloc[chosen.rows].drop(columns="source"), chosen.labels, chosen.weights)

    def show(self, chosen: PseudoLabels, name: str, maker: str) -> pd.DataFrame:
        """The added rows: id, source, text, label (or a column for each), confidence, weight, the fold that they are
        for (of its `name`, such as fold0) and the model that labelled them, `maker`."""
        table = self.pool.iloc[chosen.rows][["id", "source", "text"]].reset_index(drop=True)
        if chosen.labels.ndim == 1:
            table["label"] = [self.task.classes[number] for number in chosen.labels]
        else:
            table[[f"label {name}" for name in self.task.columns]] = chosen.labels
        table = table.assign(confidence=chosen.confidence, weight=chosen.weights)
        return table.assign(fold=int(name.removeprefix("fold")), maker=maker)

    def receipt(
        self, before: RoundOutput, after: RoundOutput, chosen: PseudoLabels, held_out: np.ndarray, seed: int
    ) -> dict[str, Any]:
        """Figures of a round. The same rule on held-out rows, whose labels are known, estimates the precision."""
        kind, classes, truth = self.task.kind, len(self.task.classes), self.labels[held_out]
        asked = int((~np.isnan(before.pool.mean).any(axis=1)).sum())
        known = self.choose(before.held_out, seed, len(held_out) / asked).rows
        groups = find_groups(before.pool.mean[chosen.rows], kind).sum(axis=0).tolist()
        return {
            "pool": asked,
            "added": len(chosen.rows),
            "mean confidence": _mean(chosen.confidence),
            "mean weight": _mean(chosen.weights),
            **estimate(before.held_out.mean[known], truth[known], kind, classes),
            "agreement": agreement(before.pool.mean, after.pool.mean, kind, classes),
            "score before": float(score(self.task.metric, truth, before.held_out.mean)),
            "score": float(score(self.task.metric, truth, after.fitted.oof)),
            "classes": dict(zip(group_names(kind, self.task.columns), groups, strict=True)),
        }


def name_maker(teacher: Teacher | None, name: str, number: int) -> str:
    """The model that labels for round `number` of the fold `name`: that fold of another run, or an earlier one here."""
    if teacher and number == 1:
        return f"{teacher.run.name}/{name}"
    return f"{name}/round{number - 1}" if number > 1 else f"{name}/teacher"


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
