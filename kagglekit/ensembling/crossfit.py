"""Cross-fitting: every row is predicted by what was fitted, and chosen, without the rows of its fold."""

from typing import Self

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from kagglekit.ensembling.base import Ensembler, StackInput
from kagglekit.options import check_range
from kagglekit.scoring.bootstrap import bootstrap_scores, spread
from kagglekit.scoring.metrics import is_higher_better, score

PARTS = 5  # of the rows of a single fold


def fit_by_fold(
    ensembler: Ensembler, inputs: StackInput, labels: np.ndarray, folds: np.ndarray
) -> dict[int, Ensembler]:
    """Fold -> an ensembler like this one, fitted on the rows of all other folds; folds as from `divide`.

    A fold below 0 is never predicted, and learned from by all.
    """
    labels, folds, found = np.asarray(labels), np.asarray(folds), {}
    for fold in np.unique(folds[folds >= 0]).tolist():
        others = np.flatnonzero(folds != fold)
        if not len(others):
            raise ValueError(f"all {len(folds)} rows are of fold {fold}: there are no others to fit on. See `divide`")
        found[fold] = ensembler.fresh().fit(inputs[others], labels[others], folds[others])
    return found


def cross_fit(ensembler: Ensembler, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The predictions (n, columns) float64 of each fold by an ensembler fitted on the other folds.

    labels: as from `encode_labels`. folds: int (n,); rows of a single fold are divided into five, and rows of folds
    below 0 get NaN. Whatever the ensembler chooses by itself it chooses on the other folds too, so cross-fitting nests
    to any depth, at the cost of one fit per fold and depth (stacked generalisation, Wolpert, 1992).
    """
    folds = divide(inputs, folds)
    return predict_by_fold(fit_by_fold(ensembler, inputs, labels, folds), inputs, folds)


def predict_by_fold(fitted: dict[int, Ensembler], inputs: StackInput, folds: np.ndarray) -> np.ndarray:
    """Each fold's rows by the ensembler fitted for that fold: (n, columns) float64, NaN for folds that have none."""
    if not fitted:
        raise ValueError(f"none of the {len(folds)} rows has a fold: there is nothing to predict")
    parts = {fold: np.flatnonzero(folds == fold) for fold in fitted}
    made = {fold: fitted[fold].predict(inputs[rows]) for fold, rows in parts.items()}
    found = np.full((len(folds), next(iter(made.values())).shape[1]), np.nan)
    for fold, rows in parts.items():
        found[rows] = made[fold]
    return found


def divide(inputs: StackInput, folds: np.ndarray) -> np.ndarray:
    """These folds (n,), or where all rows are of one: five parts of equally many groups, the same each time.

    With fewer than five groups there are as many parts as groups. Raises ValueError for a single group.
    """
    folds = np.asarray(folds)
    if len(np.unique(folds)) != 1 or folds[0] < 0:
        return folds
    groups = np.arange(len(folds)) if inputs.groups is None else inputs.groups
    count = min(PARTS, len(np.unique(groups)))
    if count < 2:
        raise ValueError(f"the {len(folds)} rows of fold {folds[0]} all belong together: they cannot be divided")
    parts = np.empty(len(folds), dtype=np.int64)
    split = GroupKFold(count, shuffle=True, random_state=0).split(parts, groups=groups)
    for part, (_, rows) in enumerate(split):
        parts[rows] = part
    return parts


class Pipeline(Ensembler):
    """A combination, then corrections of its output: Pipeline(LinearPool(), Temperature(), ClassThresholds()).

    Each correction is fitted on predictions that what comes before it made for rows it was not fitted on: fitted on
    what a combination says of its own rows, it would take the combination for better than it is. Without corrections
    it is the combination alone. Costs a fit of each part for every fold, and one more.
    """

    def __init__(self, combination: Ensembler, *corrections: Ensembler):
        self.combination = combination
        self.corrections = corrections

    @property
    def uses_labels(self) -> bool:
        """Whether any part does."""
        return any(part.uses_labels for part in (self.combination, *self.corrections))

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        labels, folds = np.asarray(labels), np.asarray(folds)
        self.fitted_, now = [], inputs
        parts = [self.combination, *self.corrections]
        for number, part in enumerate(parts, 1):
            self.fitted_.append(part.fresh().fit(now, labels, folds))
            if number == len(parts):
                break
            found = cross_fit(part, now, labels, folds)
            known = np.flatnonzero(~np.isnan(found).any(axis=1))  # rows of folds below 0 are never predicted
            now, labels, folds = now.with_predictions(found)[known], labels[known], folds[known]
        self.weights_ = self.fitted_[0].weights_
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        for part in self.fitted_:
            found = part.predict(inputs)
            inputs = inputs.with_predictions(found)
        return found

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(map(repr, [self.combination, *self.corrections]))})"


class EnsembleChoice(Ensembler):
    """One of several ensemblers: the simplest that is not clearly worse than the best.

    candidates: name -> ensembler, from simple to complex. Each is cross-fitted on the folds that `fit` is given; the
    first whose score is not worse than the best one's by more than `errors` standard errors of their difference
    (bootstrap over the same rows, or `inputs.groups`, for both) is taken and fitted on all rows. errors=0: the best,
    whatever it costs; the larger, the more likely the first. Many candidates find their best by luck: the difference
    knows nothing of how many were tried, and so the first ones are given the benefit of the doubt (the one standard
    error rule, Breiman et al., 1984). Costs, for every candidate, a fit for each fold.

    table_: a row per candidate with its cross-fitted `score`, the `difference` to the best one (above 0: worse), its
    `standard_error`, and whether it was `chosen`. chosen_: the name. The score of the chosen one is a little too good:
    for an honest one cross-fit the choice.
    """

    def __init__(self, candidates: dict[str, Ensembler], errors: float = 1.0, draws: int = 200, seed: int = 0):
        self.candidates = candidates
        self.errors = errors
        self.draws = draws
        self.seed = seed

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_range("candidates", list(self.candidates), bool(self.candidates), "a name and an ensembler, or more")
        check_range("errors", self.errors, self.errors >= 0, "0 or more")
        labels = np.asarray(labels)
        found = [cross_fit(candidate, inputs, labels, folds) for candidate in self.candidates.values()]
        self.chosen_ = self._choose(inputs, labels, found)
        self.fitted_ = self.candidates[self.chosen_].fresh().fit(inputs, labels, folds)
        self.weights_ = self.fitted_.weights_
        return self

    def _choose(self, inputs: StackInput, labels: np.ndarray, found: list[np.ndarray]) -> str:
        known = ~np.isnan(found[0]).any(axis=1)
        labels, found = labels[known], [predictions[known] for predictions in found]
        groups = None if inputs.groups is None else inputs.groups[known]
        scores = np.array([score(inputs.metric, labels, predictions) for predictions in found])
        better = scores if is_higher_better(inputs.metric) else -scores
        best, drawn = better.argmax(), bootstrap_scores(inputs.metric, labels, found, groups, self.draws, self.seed)
        errors = np.array([spread(drawn[:, best] - drawn[:, k]) for k in range(len(found))])
        first = int(np.argmax(better[best] - better <= self.errors * errors))
        self.table_ = pd.DataFrame(
            {"score": scores, "difference": better[best] - better, "standard_error": errors},
            index=pd.Index(self.candidates, name="ensemble"),
        )
        self.table_["chosen"] = np.arange(len(found)) == first
        return self.table_.index[first]

    def predict(self, inputs: StackInput) -> np.ndarray:
        return self.fitted_.predict(inputs)
