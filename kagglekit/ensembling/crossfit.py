"""Cross-fitting: every row is predicted by an ensemble that was fitted, and chosen, without the rows of its fold."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.options import check_range
from kagglekit.scoring.bootstrap import bootstrap_scores, spread
from kagglekit.scoring.metrics import is_higher_better, score

PARTS = 5  # of the rows of a single fold


def cross_fit(ensembler: Ensembler, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The predictions (n, columns) float64 of each fold by an ensembler fitted on the other folds.

    labels: as from `encode_labels`. folds: int (n,); rows of a single fold are split in five, and rows of folds below 0
    get NaN. The ensembler's own choices are made on the other folds too, so cross-fitting nests to any depth, at the
    cost of a fit per fold and depth (stacked generalisation, Wolpert, 1992).
    """
    labels, folds = np.asanyarray(labels), divide(inputs, folds)

    def make() -> np.ndarray:
        return predict_by_fold(fit_by_fold(ensembler, inputs, labels, folds), inputs, folds)

    return inputs.once(f"cross-fitted {ensembler}", slice(None), (labels, folds), make)


def fit_once(
    ensembler: Ensembler, inputs: StackInput, labels: np.ndarray, folds: np.ndarray, rows: np.ndarray | None = None
) -> Ensembler:
    """A copy of the ensembler fitted on these of the rows, None: on all; the same one each time (`StackInput.once`)."""
    rows, labels, folds = slice(None) if rows is None else rows, np.asanyarray(labels), np.asarray(folds)

    def make() -> Ensembler:
        return ensembler.fresh().fit(inputs[rows], labels[rows], folds[rows])

    return inputs.once(repr(ensembler), rows, (labels, folds), make) if ensembler.uses_labels else make()


def fit_by_fold(
    ensembler: Ensembler, inputs: StackInput, labels: np.ndarray, folds: np.ndarray
) -> dict[int, Ensembler]:
    """Fold -> a copy of the ensembler fitted on all other folds; folds as from `divide`.

    A fold below 0 is never predicted, and used to fit all.
    """
    labels, folds, found = np.asanyarray(labels), np.asarray(folds), {}
    for fold in np.unique(folds[folds >= 0]).tolist():
        others = np.flatnonzero(folds != fold)
        if not len(others):
            raise ValueError(f"all {len(folds)} rows are of fold {fold}: there are no others to fit on. See `divide`")
        found[fold] = fit_once(ensembler, inputs, labels, folds, others)
    return found


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
        raise ValueError(f"the {len(folds)} rows of fold {folds[0]} are all of one group: they cannot be divided")
    parts = np.empty(len(folds), dtype=np.int64)
    split = GroupKFold(count, shuffle=True, random_state=0).split(parts, groups=groups)
    for part, (_, rows) in enumerate(split):
        parts[rows] = part
    return parts


class Pipeline(Ensembler):
    """A combination, then corrections of its output: Pipeline(LinearPool(), Temperature(), ClassThresholds()).

    Each correction is fitted on cross-fitted predictions of what comes before it: fitted on predictions of the
    combination's own rows, it would take the combination for better than it is. Costs a fit of each part for every
    fold, and one more.
    """

    def __init__(self, combination: Ensembler, *corrections: Ensembler):
        self.combination = combination
        self.corrections = corrections

    @property
    def uses_labels(self) -> bool:
        """Whether any part does."""
        return any(part.uses_labels for part in (self.combination, *self.corrections))

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        labels, folds = np.asanyarray(labels), np.asarray(folds)
        self.fitted_, now = [], inputs
        parts = [self.combination, *self.corrections]
        for number, part in enumerate(parts, 1):
            self.fitted_.append(fit_once(part, now, labels, folds))
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


@dataclass(repr=False, eq=False)
class EnsembleChoice(Ensembler):
    """The simplest of several ensemblers that is not clearly worse than the best.

    candidates: name -> ensembler, from simple to complex. Each is cross-fitted; the first whose score is within
    `errors` standard errors of the best is fitted on all rows (the one standard error rule, Breiman et al., 1984). The
    standard error is of their difference, by bootstrap over the same rows, or groups, for both. errors=0: the best; the
    larger, the more likely the first. Costs a fit for each candidate and fold.

    table_: a row per candidate with its cross-fitted `score`, the `difference` to the best one (above 0: worse), its
    `standard_error`, and whether it was `chosen`. chosen_: the name. The score of the chosen one is a little too good:
    for an honest one cross-fit the choice.
    """

    candidates: dict[str, Ensembler]
    errors: float = 1.0
    draws: int = 200
    seed: int = 0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_range("candidates", list(self.candidates), bool(self.candidates), "a name and an ensembler, or more")
        check_range("errors", self.errors, self.errors >= 0, "0 or more")
        labels, metric = np.asanyarray(labels), inputs.metric
        found = [cross_fit(candidate, inputs, labels, folds) for candidate in self.candidates.values()]
        known = ~np.isnan(found[0]).any(axis=1)
        truth, found = labels[known], [predictions[known] for predictions in found]
        groups = None if inputs.groups is None else inputs.groups[known]
        scores = np.array([score(metric, truth, predictions) for predictions in found])
        better = scores if is_higher_better(metric) else -scores
        best, drawn = better.argmax(), bootstrap_scores(metric, truth, found, groups, self.draws, self.seed)
        errors = np.array([spread(drawn[:, best] - drawn[:, k]) for k in range(len(found))])
        first = int(np.argmax(better[best] - better <= self.errors * errors))
        self.table_ = pd.DataFrame(
            {"score": scores, "difference": better[best] - better, "standard_error": errors},
            index=pd.Index(self.candidates, name="ensemble"),
        )
        self.table_["chosen"] = np.arange(len(found)) == first
        self.chosen_ = self.table_.index[first]
        self.fitted_ = fit_once(self.candidates[self.chosen_], inputs, labels, folds)
        self.weights_ = self.fitted_.weights_
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return self.fitted_.predict(inputs)


def steps_of(fitted: Ensembler) -> list[Ensembler]:
    """What a fitted ensembler does, one step after the other: the combination that was chosen, and its corrections."""
    if isinstance(fitted, EnsembleChoice):
        return steps_of(fitted.fitted_)
    return fitted.fitted_ if isinstance(fitted, Pipeline) else [fitted]
