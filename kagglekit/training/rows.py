"""What the model of one fold learns from: its rows of train, changed copies of them, and rows from elsewhere.

Rows to learn from beside those of train: pseudo labels, and whatever else a fold is taught.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kagglekit.augment.augmenter import AugmentedExamples
from kagglekit.augment.catalogue import augment_texts
from kagglekit.competition.task import Task
from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES
from kagglekit.training.inputs import FeatureScaler, Inputs, read_inputs
from kagglekit.training.targets import Targets, make_targets

if TYPE_CHECKING:
    from kagglekit.training.finetune import FineTuner


@dataclass
class Lesson:
    """Rows to learn from: `own` rows of train, then their changed copies, then the extra ones.

    teacher: (rows, columns) float32, what another model says of each row, or None.
    """

    tuner: FineTuner
    inputs: Inputs
    targets: Targets
    own: int
    teacher: np.ndarray | None

    @classmethod
    def gather(
        cls,
        tuner: FineTuner,
        rows: np.ndarray,
        extra: ExtraRows | None = None,
        teacher: np.ndarray | None = None,
        seed: int = 0,
    ) -> Lesson:
        """From `rows` (row numbers of train), and what `FineTuner.fit` says of the others.

        A changed copy has all that its row has but the text. Raises ValueError without any row, and for an extra row
        that is a copy of one that is not learned.
        """
        if extra is not None and not len(extra):
            extra = None
        if extra is not None:
            extra.check_sources(rows)
        if not len(rows) and extra is None:
            raise ValueError("there is no row to learn from: neither of train nor an extra one")
        copies = [_copy(tuner, rows, seed * 1000 + k) for k in range(_copies(tuner) if len(rows) else 0)]
        parts = [tuner.rows[rows]] if len(rows) else []
        parts += [*copies, *([_read(tuner, extra)] if extra is not None else [])]
        inputs = parts[0]
        for part in parts[1:]:
            inputs = inputs + part
        told = np.tile(rows, 1 + len(copies))
        if teacher is not None:
            teacher = _stack(teacher[told], None if extra is None else extra.soft(tuner.task))
        own = len(rows) or len(inputs)
        return cls(tuner, inputs, fold_targets(tuner, told, extra), own, teacher)

    def examples(self, beside: FeatureScaler, seed: int) -> Examples:
        """All rows as batches want them."""
        made = beside.examples(self.inputs, labels=self.targets.labels)
        if self.teacher is not None:
            made.arrays["teacher"] = self.teacher
        tuner = self.tuner
        if not tuner.recipe.augment or tuner.recipe.augment_copies:
            return made
        return AugmentedExamples(made, self.inputs.columns["text"], self._retell, tuner.recipe.augment_share, seed)

    def _retell(self, texts: list[str], seed: int) -> Tokens:
        return _tokenize(self.tuner, self.tuner.augmenter(texts, seed)).tokens


def _copies(tuner: FineTuner) -> int:
    return tuner.recipe.augment_copies if tuner.recipe.augment else 0


def _copy(tuner: FineTuner, rows: np.ndarray, seed: int) -> Inputs:
    """Rows of train with their texts changed."""
    table = tuner.rows.columns.iloc[rows]
    texts = augment_texts(table["text"].tolist(), tuner.augmenter, seed, tuner.cache)
    vectors = None if tuner.rows.vectors is None else tuner.rows.vectors[rows]
    return Inputs(_tokenize(tuner, texts).tokens, tuner.rows.pad_id, table.assign(text=texts), vectors)


def _tokenize(tuner: FineTuner, texts: list[str]) -> Inputs:
    return read_inputs(pd.DataFrame({"text": texts}), tuner.tokenizer, tuner.recipe)


def _read(tuner: FineTuner, extra: ExtraRows) -> Inputs:
    return read_inputs(extra.table, tuner.tokenizer, tuner.recipe, None, tuner.files[1])


def _stack(ours: np.ndarray, theirs: np.ndarray | None) -> np.ndarray:
    return (ours if theirs is None else np.concatenate([ours, theirs])).astype(np.float32)


def fold_targets(tuner: FineTuner, rows: np.ndarray, extra: ExtraRows | None = None) -> Targets:
    """Of rows of train and of extra ones; no other row's label is looked at."""
    task, labels, weights = tuner.task, tuner.labels[rows], None
    soft = None if tuner.soft is None else tuner.soft[rows]
    auxiliary = [replace(target, labels=target.labels[rows]) for target in tuner.auxiliary]
    if extra is not None:
        if task.kind in CLASSES:
            own = np.eye(len(task.classes), dtype=np.float32)[labels] if soft is None else soft
            soft = _stack(own, extra.soft(task))
            labels = np.concatenate([labels, extra.soft(task).argmax(axis=1)])
        else:
            labels = np.concatenate([labels, extra.labels.astype(labels.dtype).reshape(-1, *labels.shape[1:])])
        none = np.full(len(extra), np.nan, dtype=np.float32)
        auxiliary = [replace(target, labels=np.concatenate([target.labels, none])) for target in auxiliary]
        if (extra.weights != 1).any():
            weights = np.concatenate([np.ones(len(rows), dtype=np.float32), extra.weights.astype(np.float32)])
    columns = len(task.classes or task.labels)
    return make_targets(
        labels, task.kind, columns, tuner.recipe.loss, auxiliary, soft, tuner.recipe.learned_weights, weights
    )


@dataclass(frozen=True, eq=False)
class ExtraRows:
    """Rows with labels that may be soft, and how much each counts.

    table: id, text, and the columns beside the text that the recipe names. labels: (rows,) int64 class numbers, or
    (rows, columns) float32, probabilities of classes or labels, or values. weights: (rows,) float32, what the loss of a
    row is multiplied with, where a row of train has 1; 0 leaves it out. source: (rows,) int64, which row of train each
    is a changed copy of, by its number, -1 for none; it is learned only where that row is. None: they are no copies.
    Raises ValueError where these do not go together.
    """

    table: pd.DataFrame
    labels: np.ndarray
    weights: np.ndarray
    source: np.ndarray | None = None

    def __post_init__(self):
        for name in ("labels", "weights", *(["source"] if self.source is not None else [])):
            rows = len(getattr(self, name))
            check_range(f"extra rows: {name}", rows, rows == len(self.table), f"one for each of {len(self.table)} rows")
            finite = bool(np.isfinite(getattr(self, name)).all())
            check_range(f"extra rows: {name}", "NaN or infinity", finite, "finite numbers")
        lowest = float(np.min(self.weights, initial=0.0))
        check_range("extra rows: weights", lowest, lowest >= 0, "0 or more")

    def __len__(self) -> int:
        return len(self.table)

    def check_sources(self, rows: np.ndarray) -> None:
        """Raise ValueError when there is a copy of a row that is not among `rows` (numbers of train), those that are
        learned: with its text, and its label, a row that the model is to be scored on would have been seen."""
        if self.source is None:
            return
        away = (self.source >= 0) & ~np.isin(self.source, rows)
        if away.any():
            first = int(np.argmax(away))
            raise ValueError(
                f"extra rows: {away.sum()} of {len(self)} are changed copies of rows of train that this model does not "
                f"learn from, the first is id {self.table['id'].iloc[first]!r}, a copy of row {self.source[first]}: "
                "leave out the copies of held-out rows, fold by fold"
            )

    def soft(self, task: Task) -> np.ndarray:
        """The labels as (rows, columns of a predictions table) float32; class numbers become probabilities of 1."""
        if self.labels.ndim == 1 and task.kind in CLASSES:
            return np.eye(len(task.classes), dtype=np.float32)[self.labels]
        return self.labels.reshape(len(self), -1).astype(np.float32)
