"""Training rows of a fold: rows of train, augmented copies of them, and extra rows, such as pseudo-labelled ones."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.augment.augmenter import AugmentedExamples, Augmenter
from kagglekit.augment.catalogue import augment_texts
from kagglekit.data.batches import EitherOrder, Examples
from kagglekit.data.features import Candidates, move_into
from kagglekit.data.tokens import Tokens
from kagglekit.options import check_range
from kagglekit.training.model_inputs import FeatureScaler, Inputs, read_inputs
from kagglekit.training.recipe import Recipe
from kagglekit.training.targets import Labels, Targets, make_targets


@dataclass
class TrainingRows:
    """Rows that a model is trained on: `own` rows of train, then their augmented copies, then extra rows.

    features: how columns and document vectors are scaled, from the rows of train; from the extra rows if there are no
    others. examples: all rows, for batches.
    """

    inputs: Inputs
    own: int
    targets: Targets
    features: FeatureScaler
    examples: Examples


def gather_rows(
    rows: np.ndarray,
    inputs: Inputs,
    labels: Labels,
    recipe: Recipe,
    tokenizer,
    *,
    augmenter: Augmenter | None = None,
    cache: Path | None = None,
    extra: "ExtraRows | None" = None,
    extra_vectors: str | None = None,
    images: str | None = None,
    teacher: np.ndarray | None = None,
    seed: int = 0,
) -> TrainingRows:
    """Training rows from `rows` (row numbers of train) and extra ones; no other row's label is looked at.

    inputs, labels: of all rows of train. augmenter: of the recipe; its copies are kept in the folder `cache`. A copy
    has all that its row has but the text. extra_vectors: a file with the document vectors of the extra rows. images:
    the folder of their images, see `read_inputs`. teacher:
    (rows of train, columns) predictions of another model, which each batch then carries under this name; for extra
    rows their labels. Raises ValueError without any row, and for an extra row that is a copy of one that is left out.
    """
    extra = extra if extra is not None and len(extra) else None
    if extra is not None:
        extra.check_sources(rows)
    elif not len(rows):
        raise ValueError("there is no row to learn from: neither of train nor an extra one")

    def tokens_of(texts: list[str]) -> Tokens:
        return read_inputs(pd.DataFrame({"text": texts}), tokenizer, replace(recipe, swap=[])).tokens

    parts = [inputs[rows]] if len(rows) else []
    for number in range(recipe.augment_copies if augmenter and parts else 0):
        texts = augment_texts(parts[0].columns["text"].tolist(), augmenter, seed * 1000 + number, cache)
        read = read_inputs(parts[0].columns.assign(text=texts), tokenizer, recipe)
        parts.append(replace(read, vectors=parts[0].vectors))
    repeated = np.tile(rows, max(1, len(parts)))
    labels, teacher = labels[repeated], None if teacher is None else teacher[repeated]
    if extra is not None:
        parts.append(read_inputs(extra.table, tokenizer, recipe, cache=cache, vectors=extra_vectors, images=images))
        teacher = None if teacher is None else np.concatenate([teacher, labels.soften(extra.labels)])
        labels = labels.extended(extra.labels, extra.weights)
    everything = reduce(add, parts)
    if everything.swapped is not None:
        everything, labels, teacher = _both_orders(everything, labels, teacher)
    own, allowed = len(rows) or len(everything), None
    features = FeatureScaler.fit(everything, np.arange(own), recipe.features)
    if recipe.candidates:
        known = labels.values if labels.soft is None else labels.soft
        features.candidates = Candidates.fit(everything.columns[:own], recipe.candidates, known[:own], labels.columns)
    if recipe.candidates_loss:
        allowed = features.candidates.allowed(everything.columns)
        if labels.soft is not None:
            soft, allowed = move_into(labels.soft, allowed)
            labels = replace(labels, soft=soft)
        teacher = None if teacher is None else move_into(teacher, allowed)[0]
    targets = make_targets(labels, recipe.loss, recipe.learned_weights)
    examples = features.examples(everything, labels=targets.labels)
    if allowed is not None:
        examples.arrays["candidates"] = allowed
    if teacher is not None:
        examples.arrays["teacher"] = teacher.astype(np.float32)
    if augmenter and not recipe.augment_copies:
        change = lambda texts, seed: tokens_of(augmenter(texts, seed))  # noqa: E731
        examples = AugmentedExamples(examples, everything.columns["text"], change, recipe.augment_share, seed)
    if recipe.swap:
        examples = EitherOrder(examples, seed)
    return TrainingRows(everything, own, targets, features, examples)


def _both_orders(
    inputs: Inputs, labels: Labels, teacher: np.ndarray | None
) -> tuple[Inputs, Labels, np.ndarray | None]:
    """All rows, and then all of them with two text columns exchanged, and with them labels that name a side."""
    exchange, turned = inputs.swap["exchange"], inputs.turned()
    labels = labels.in_both_orders(exchange, inputs.swap["one_order"])
    teacher = None if teacher is None else np.concatenate([teacher, teacher[:, exchange]])
    return replace(inputs, swapped=None, swap=None) + turned, labels, teacher


@dataclass(frozen=True, eq=False)
class ExtraRows:
    """Rows to learn from in addition to those of train, such as pseudo-labelled ones.

    table: id, text, and the feature columns of the recipe. labels: (rows,) int64 class numbers, or (rows, columns)
    float32: probabilities, labels or values. weights: (rows,) float32, of the loss of each row, where a row of train
    has 1; 0 leaves it out. source: (rows,) int64, the row of train that each is a changed copy of, -1 for none; it is
    used only where that row is. None: there are no copies. Raises ValueError where these do not fit together.
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
        """Raise ValueError for a copy of a row outside `rows` (numbers of train): it may be one that is scored."""
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
