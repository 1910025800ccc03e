"""Stacking: a small second-level model that learns from out-of-fold predictions how to combine them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Self

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from kagglekit.ensembling.crossfit import divide
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.stack_features import SMALLEST, from_evidence, make_features
from kagglekit.options import check_range
from kagglekit.scoring.metrics import is_higher_better, score

VALUES = ("ordinal", "regression")
MODELS = dict.fromkeys(("binary", "multiclass", "multilabel"), ("logistic", "boosting"))
MODELS |= dict.fromkeys(VALUES, ("ridge", "boosting"))  # the models of `Stack` that fit each kind of task
STRENGTHS = {"logistic": (1.0, 10.0, 100.0, 1000.0, 1e9), "ridge": (1.0, 10.0, 100.0, 1000.0, 1e9), "boosting": (10.0,)}
ROUNDS = (4, 8, 16, 32, 64, 128)  # of boosting
BOOSTING = {"learning_rate": 0.1, "max_leaf_nodes": 6, "early_stopping": False}


@dataclass(repr=False, eq=False)
class Stack(Ensembler):
    """A second-level model of base predictions, of the rest of the document and of features of the row (Wolpert, 1992).

    It may trust a run for one class and not for another, or take class A of one run as a hint of class B. It has many
    more weights than a pool, so it is regularised.

    model: "logistic" for probabilities (multiclass: one model of all classes; multilabel: one per label), "ridge" for
    values (one per target), or "boosting" for any: few trees of six leaves, for effects that do not add up.
    strengths: of the regularisation; the best by the metric on the folds given is fitted on all rows. logistic and
    ridge are pulled TOWARDS THE MEAN OF THE RUNS and not to zero: strength / 2 times the squared weights, against the
    sum of the losses, is on the change to the mean of the log-odds (of the values), so a stack that finds nothing is a
    plain mean. Near 0 no regularisation; 1e9 is the mean. boosting: how much a leaf is pulled towards no change; the
    number of trees, 4 to 128, is chosen likewise. It starts from the mean of values, but of probabilities from the
    class shares, so there is no mean to fall back on. None: (1, 10, 100, 1000, 1e9), for boosting (10,).
    aggregates: read the other rows of the document, where there are documents. seed: of boosting, which looks at a
    sample of 200,000 rows where there are more.

    After `fit`: `scores_` (strength, and rounds of boosting) -> the metric on rows not fitted on, `chosen_` the best,
    ties to the strongest. One fit with all strengths on four folds, 35 runs, 37,000 rows and 3 classes takes 4 s
    (logistic) or 20 s (boosting) on a thread; cross-fitted, that for every fold. Raises ValueError for a model that
    does not fit the kind, and for documents or meta in only one of the fitted and the predicted rows.
    """

    model: str = "logistic"
    strengths: Sequence[float] | None = None
    aggregates: bool = True
    seed: int = 0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        kind, models = inputs.kind, MODELS[inputs.kind]
        check_range("model", self.model, self.model in models, f"for kind={kind!r} {' or '.join(models)}")
        if self.strengths is not None:
            fits = len(self.strengths) > 0 and all(strength > 0 for strength in self.strengths)
            check_range("strengths", self.strengths, fits, "one or more numbers above 0")
        labels, strengths = np.asanyarray(labels), sorted(self.strengths or STRENGTHS[self.model], reverse=True)
        candidates = [(s, rounds) for s in strengths for rounds in ROUNDS] if self.model == "boosting" else strengths
        self.scores_, self.chosen_ = {}, candidates[0]
        if len(candidates) > 1:
            self.scores_ = self._score(inputs, labels, divide(inputs, folds), strengths)
            best = max if is_higher_better(inputs.metric) else min
            self.chosen_ = best(self.scores_, key=self.scores_.get)  # of equal ones the first, which is the strongest
        self.reads_ = self._reads(inputs)
        if self.model == "boosting":
            known = (*make_features(inputs, self.aggregates), kind, labels)
            self.model_ = Boosted.fit(*known, *self.chosen_, self.seed)
        else:
            self.model_ = self._path(inputs, labels, slice(None), strengths)[strengths.index(self.chosen_)]
        return self

    def _path(
        self, inputs: StackInput, labels: np.ndarray, rows: np.ndarray | slice, strengths: list
    ) -> "list[Linear]":
        """A linear model for each strength, fitted on these of the rows."""

        def make() -> list[Linear]:
            return Linear.path(*make_features(inputs[rows], self.aggregates), inputs.kind, labels[rows], strengths)

        return inputs.once(f"path of {self}", rows, (labels,), make)

    def predict(self, inputs: StackInput) -> np.ndarray:
        for what, fitted, now in zip(("documents", "meta features"), self.reads_, self._reads(inputs), strict=True):
            if fitted != now:
                raise ValueError(
                    f"the stack was fitted with{'' if fitted else 'out'} {what}, and the rows to predict are "
                    f"with{'' if now else 'out'}: give both the same"
                )
        if not len(inputs):
            return np.zeros((0, inputs.predictions.shape[2]))
        return from_evidence(self.model_.predict(*make_features(inputs, self.aggregates)), inputs.kind)

    def _reads(self, inputs: StackInput) -> tuple[bool, bool]:
        return inputs.documents is not None and self.aggregates, inputs.meta is not None

    def _score(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray, strengths: list[float]) -> dict:
        """The metric of each candidate over all rows with a fold, each predicted without its fold."""
        found, rows = {}, folds >= 0
        if not rows.any():
            raise ValueError(f"none of the {len(folds)} rows has a fold: there are none to choose a strength on")
        for fold in np.unique(folds[rows]):
            new = make_features(inputs[folds == fold], self.aggregates)
            for candidate, evidence in self._candidates(inputs, labels, folds != fold, strengths, new):
                predictions = found.setdefault(candidate, np.zeros(inputs.predictions.shape[1:]))
                predictions[folds == fold] = from_evidence(evidence, inputs.kind)
        return {key: score(inputs.metric, labels[rows], predictions[rows]) for key, predictions in found.items()}

    def _candidates(
        self, inputs: StackInput, labels: np.ndarray, rows: np.ndarray, strengths: list[float], new: tuple
    ) -> Iterator[tuple]:
        """Each candidate, and the evidence that it gives new rows when fitted on these ones."""
        if self.model == "boosting":
            known = (*make_features(inputs[rows], self.aggregates), inputs.kind, labels[rows])
            for strength in strengths:
                boosted = Boosted.fit(*known, strength, max(ROUNDS), self.seed)
                for rounds, evidence in enumerate(boosted.staged(*new), 1):
                    if rounds in ROUNDS:
                        yield (strength, rounds), evidence
        else:
            for strength, linear in zip(strengths, self._path(inputs, labels, rows, strengths), strict=True):
                yield strength, linear.predict(*new)


@dataclass(frozen=True, eq=False)
class Linear:
    """The mean plus weighted features, standardised on the fitted rows; a missing one (NaN) is 0."""

    center: np.ndarray  # (features,)
    scale: np.ndarray  # (features,)
    weights: np.ndarray  # (features + 1, columns); the last is of a constant, regularised like any

    @classmethod
    def path(
        cls, features: np.ndarray, mean: np.ndarray, kind: str, labels: np.ndarray, strengths: Sequence[float]
    ) -> "list[Linear]":
        """One for each strength; each starts from the one before, so they should go from strong to weak."""
        present = ~np.isnan(features)
        counts = np.maximum(present.sum(axis=0), 1)
        center = np.where(present, features, 0).sum(axis=0) / counts
        scale = np.sqrt((np.where(present, features - center, 0) ** 2).sum(axis=0) / counts)
        scale[scale < 1e-9 * (1 + np.abs(center))] = 1
        inputs = _standardise(features, center, scale)
        if kind in VALUES:
            errors = labels.reshape(mean.shape) - mean
            spread = errors.std(axis=0) + (errors.std(axis=0) == 0)  # so that a strength knows no units
            found = [weights * spread for weights in fit_ridge(inputs, errors / spread, strengths)]
        else:
            columns = mean.shape[1]
            targets = np.eye(columns)[labels] if kind == "multiclass" else labels.reshape(-1, columns)
            found = fit_with_offset(inputs, mean, targets.astype(np.float64), strengths, kind)
        return [cls(center, scale, weights) for weights in found]

    def predict(self, features: np.ndarray, mean: np.ndarray) -> np.ndarray:
        return mean + _standardise(features, self.center, self.scale) @ self.weights


def _standardise(features: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.column_stack([np.nan_to_num((features - center) / scale, nan=0.0), np.ones(len(features))])


def fit_ridge(features: np.ndarray, targets: np.ndarray, strengths: Sequence[float]) -> list[np.ndarray]:
    """The weights (f, columns) of ridge regression without intercept, for each strength, from one decomposition."""
    sizes, axes = eigh(features.T @ features)
    along = axes.T @ (features.T @ targets)
    return [axes @ (along / (sizes.clip(0)[:, None] + strength)) for strength in strengths]


def fit_with_offset(
    features: np.ndarray, offset: np.ndarray, targets: np.ndarray, strengths: Sequence[float], kind: str
) -> list[np.ndarray]:
    """The weights (f, columns) with the least log loss of offset + features @ weights, plus strength / 2 their squares.

    features (n, f), offset and targets (n, columns). multiclass: softmax over the columns; else each column by itself.
    scikit-learn's logistic regression has no offset, hence L-BFGS on the loss and its gradient. It runs along the
    principal axes of features and columns, each scaled by how much the loss is curved there (a Kronecker product in
    place of the second derivatives: Martens and Grosse, 2015): runs that say much the same then take about ten steps a
    strength, and hundreds without. Directions in which features do not differ, as between copies, have weight 0.
    """
    rows, probs = len(features), _squash(offset.T, kind)[0]
    each = probs * (1 - probs)  # how much the loss of a row is curved, by column
    by_column = (
        np.diag(probs.sum(axis=1)) - probs @ probs.T if kind == "multiclass" else np.diag(each.sum(axis=1))
    ) / rows
    share = each.sum(axis=0) / each.sum() * rows
    sizes, axes = _principal_axes((features.T * share) @ features)
    widths, turn = _principal_axes(by_column)
    turned, weights, found = (features @ axes).T, np.zeros((len(sizes), len(widths))), []
    for strength in strengths:
        scale = 1 / np.sqrt(np.outer(sizes, widths) + strength)

        def loss(flat: np.ndarray, scale: np.ndarray = scale, strength: float = strength) -> tuple[float, np.ndarray]:
            weights = scale * flat.reshape(scale.shape)
            probs, cost = _squash(offset.T + turn @ (weights.T @ turned), kind, targets.T)
            gradient = scale * ((turned @ (probs - targets.T).T) @ turn + strength * weights)
            return (cost + strength / 2 * (weights**2).sum()) / rows, gradient.ravel() / rows

        options = {"maxiter": 300, "gtol": 1e-7, "ftol": 1e-9}
        flat = minimize(loss, (weights / scale).ravel(), jac=True, method="L-BFGS-B", options=options).x
        weights = scale * flat.reshape(scale.shape)
        found.append(axes @ weights @ turn.T)
    return found


def _principal_axes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues (k,) above rounding, and their eigenvectors (size, k)."""
    sizes, axes = eigh(matrix)
    kept = sizes > 1e-10 * sizes[-1]
    return sizes[kept], axes[:, kept]


def _squash(evidence: np.ndarray, kind: str, targets: np.ndarray | float = 0.0) -> tuple[np.ndarray, float]:
    """Probabilities (columns, n) of evidence (columns, n), and the summed log loss of targets likewise."""
    if kind != "multiclass":
        return expit(evidence), float((np.logaddexp(0, evidence) - targets * evidence).sum())
    evidence = evidence - evidence.max(axis=0)
    powers = np.exp(evidence)
    total = powers.sum(axis=0)
    return powers / total, float(np.log(total).sum() - (targets * evidence).sum())


@dataclass(frozen=True, eq=False)
class Boosted:
    """Boosted trees: one model of all classes, one per label, or one per target for the error of the mean."""

    kind: str
    models: list  # of scikit-learn; the share of 1 (multiclass: the class) where there was nothing else to learn
    rounds: int

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        mean: np.ndarray,
        kind: str,
        labels: np.ndarray,
        strength: float,
        rounds: int,
        seed: int,
    ) -> "Boosted":
        knobs = BOOSTING | {"l2_regularization": strength, "max_iter": rounds, "random_state": seed}
        if kind in VALUES:
            errors = labels.reshape(mean.shape) - mean
            models = [HistGradientBoostingRegressor(**knobs).fit(features, column) for column in errors.T]
            return cls(kind, models, rounds)
        models = []
        for targets in [labels] if kind == "multiclass" else labels.reshape(mean.shape).T.astype(np.int64):
            if len(np.unique(targets)) > 1:
                models.append(HistGradientBoostingClassifier(**knobs).fit(features, targets))
            else:
                models.append(targets[0] if kind == "multiclass" else (targets.sum() + 0.5) / (len(targets) + 1))
        return cls(kind, models, rounds)

    def predict(self, features: np.ndarray, mean: np.ndarray) -> np.ndarray:
        *_, last = self.staged(features, mean)
        return last

    def staged(self, features: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
        """The evidence (n, columns) after each tree."""
        if self.kind == "multiclass":
            yield from (self._of_classes(raw, mean.shape[1]) for raw in self._raw(self.models[0], features))
        elif self.kind in VALUES:
            for errors in zip(*(model.staged_predict(features) for model in self.models), strict=True):
                yield mean + np.column_stack(errors)
        else:
            for raws in zip(*(self._raw(model, features) for model in self.models), strict=True):
                yield np.concatenate(raws, axis=1)

    def _raw(self, model: HistGradientBoostingClassifier | float, features: np.ndarray) -> Iterator[np.ndarray]:
        """Log-odds (n, 1), or a score for each class that the model knows (n, classes)."""
        if not isinstance(model, HistGradientBoostingClassifier):
            constant = 0.0 if self.kind == "multiclass" else logit(model)
            return repeat(np.full((len(features), 1), constant), self.rounds)
        return (raw.reshape(len(features), -1) for raw in model.staged_decision_function(features))

    def _of_classes(self, raw: np.ndarray, columns: int) -> np.ndarray:
        """Scores of the classes that were fitted on as evidence for all: the others are next to impossible."""
        model = self.models[0]
        classes = model.classes_ if isinstance(model, HistGradientBoostingClassifier) else [model]
        if len(classes) == 2:
            raw = np.concatenate([-raw, raw], axis=1) / 2
        evidence = np.repeat(logsumexp(raw, axis=1, keepdims=True) + np.log(SMALLEST), columns, axis=1)
        evidence[:, classes] = raw
        return evidence
