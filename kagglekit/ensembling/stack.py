"""Stacking: a small model that learns, from out-of-fold predictions, how to make one prediction of several."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from kagglekit.ensembling.crossfit import divide
from kagglekit.ensembling.ensembler import Ensembler, Level
from kagglekit.ensembling.level_features import from_evidence, make_features
from kagglekit.ensembling.second_models import Boosted, Linear
from kagglekit.metrics import is_higher_better, score
from kagglekit.ranges import check_range

MODELS = {
    "binary": ("logistic", "boosting"),
    "multiclass": ("logistic", "boosting"),
    "multilabel": ("logistic", "boosting"),
    "ordinal": ("ridge", "boosting"),
    "regression": ("ridge", "boosting"),
}  # the models of `Stack` that fit each kind of task
STRENGTHS = {"logistic": (1.0, 10.0, 100.0, 1000.0, 1e9), "ridge": (1.0, 10.0, 100.0, 1000.0, 1e9), "boosting": (10.0,)}
ROUNDS = (4, 8, 16, 32, 64, 128)  # of boosting


class Stack(Ensembler):
    """A second model reads what the first ones say, and what is known of a row, and learns the answer (Wolpert, 1992).

    It may trust a member for one class and not for another, take class A of one member as a hint of class B, and use
    the rest of the document and the text's length. It has many more weights than a pool, so it is held back.

    model: "logistic" for probabilities (multiclass: one model of all classes; multilabel: one per label), "ridge" for
    values (one per target), or "boosting" for any, few trees of six leaves: for what is not a sum.
    strengths: how much it is held back is chosen among these by the metric on the folds given, and then fitted on all
    rows. logistic and ridge are pulled TOWARDS THE MEMBERS' MEAN and not towards zero: the penalty, strength / 2 times
    the squared weights against the sum of the losses, is on what they change about the mean of the log-odds (of the
    values), so a stack that finds nothing is a plain mean. Near 0 nothing is held back; 1e9, the off position, is the
    mean. boosting: how much a leaf is pulled towards no change; the number of trees, 4 to 128, is chosen likewise.
    With values it starts from the mean; with probabilities from the share of each class, so it has no mean to fall back
    on. None: (1, 10, 100, 1000, 1e9), for boosting (10,).
    aggregates: read the other rows of the document too, where the level has documents; False: only the row itself.
    seed: of boosting alone, which looks at a sample of 200,000 rows where there are more.

    After `fit`: `scores_` (strength, and rounds of boosting) -> the metric on rows not fitted on, `chosen_` the best,
    ties to the strongest. One thread, one fit with all strengths on four folds: 35 members, 37,000 rows and 3 classes
    take 4 s (logistic) or 20 s (boosting); cross-fitted, that for every fold.
    Raises ValueError for a model that does not fit the kind, and documents or meta that are there in only one of the
    fitted and the predicted rows.
    """

    def __init__(
        self, model: str = "logistic", strengths: Sequence[float] | None = None, aggregates: bool = True, seed: int = 0
    ):
        self.model = model
        self.strengths = strengths
        self.aggregates = aggregates
        self.seed = seed

    def check(self, kind: str) -> None:
        """Raise ValueError unless the knobs are in range and fit the kind of task."""
        check_range("model", self.model, self.model in MODELS[kind], f"for kind={kind!r} {' or '.join(MODELS[kind])}")
        if self.strengths is not None:
            fits = len(self.strengths) > 0 and all(strength > 0 for strength in self.strengths)
            check_range("strengths", self.strengths, fits, "one or more numbers above 0")

    def fit(self, level: Level, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.check(level.kind)
        labels, strengths = np.asarray(labels), sorted(self.strengths or STRENGTHS[self.model], reverse=True)
        candidates = [(s, rounds) for s in strengths for rounds in ROUNDS] if self.model == "boosting" else strengths
        self.scores_, self.chosen_ = {}, candidates[0]
        if len(candidates) > 1:
            self.scores_ = self._score(level, labels, divide(level, folds), strengths)
            best = max if is_higher_better(level.metric) else min
            self.chosen_ = best(self.scores_, key=self.scores_.get)  # of equal ones the first, which is the strongest
        self.features_ = (level.documents is not None and self.aggregates, level.meta is not None)
        features, mean = make_features(level, self.aggregates)
        if self.model == "boosting":
            strength, rounds = self.chosen_
            self.model_ = Boosted.fit(features, mean, level.kind, labels, strength, rounds, self.seed)
        else:
            (self.model_,) = Linear.path(features, mean, level.kind, labels, [self.chosen_])
        return self

    def predict(self, level: Level) -> np.ndarray:
        has = (level.documents is not None and self.aggregates, level.meta is not None)
        for what, fitted, now in zip(("documents", "meta features"), self.features_, has, strict=True):
            if fitted != now:
                raise ValueError(
                    f"the stack was fitted with{'' if fitted else 'out'} {what}, and the rows to predict are "
                    f"with{'' if now else 'out'}: give both the same"
                )
        if not len(level):
            return np.zeros((0, level.members.shape[2]))
        return from_evidence(self.model_.predict(*make_features(level, self.aggregates)), level.kind)

    def _score(self, level: Level, labels: np.ndarray, folds: np.ndarray, strengths: list[float]) -> dict:
        """The metric of each candidate over all rows with a fold, each predicted without its fold."""
        found, rows = {}, folds >= 0
        if not rows.any():
            raise ValueError(f"none of the {len(folds)} rows has a fold: there are none to choose a strength on")
        for fold in np.unique(folds[rows]):
            fitted, held = level[folds != fold], level[folds == fold]
            new = make_features(held, self.aggregates)
            for candidate, evidence in self._candidates(fitted, labels[folds != fold], strengths, new):
                predictions = found.setdefault(candidate, np.zeros((len(level), level.members.shape[2])))
                predictions[folds == fold] = from_evidence(evidence, level.kind)
        return {key: score(level.metric, labels[rows], predictions[rows]) for key, predictions in found.items()}

    def _candidates(self, level: Level, labels: np.ndarray, strengths: list[float], new: tuple) -> Iterator[tuple]:
        """Each candidate, and what it gives new rows when fitted on these."""
        known = (*make_features(level, self.aggregates), level.kind, labels)
        if self.model == "boosting":
            for strength in strengths:
                boosted = Boosted.fit(*known, strength, max(ROUNDS), self.seed)
                for rounds, evidence in enumerate(boosted.staged(*new), 1):
                    if rounds in ROUNDS:
                        yield (strength, rounds), evidence
        else:
            for strength, linear in zip(strengths, Linear.path(*known, strengths), strict=True):
                yield strength, linear.predict(*new)
