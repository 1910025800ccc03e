"""The models that a stack learns: weights on top of the members' mean, and boosted trees."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp, softmax, xlogy
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from kagglekit.ensembling.level_features import SMALLEST

BOOSTING = {"learning_rate": 0.1, "max_leaf_nodes": 6, "early_stopping": False}


@dataclass(frozen=True, eq=False)
class Linear:
    """The mean plus weighted features; these have mean 0 and standard deviation 1 where it was fitted, and NaN is 0."""

    center: np.ndarray  # (features,)
    scale: np.ndarray  # (features,)
    weights: np.ndarray  # (features + 1, columns); the last is of a constant, held back like any

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
        weights, found = np.zeros((inputs.shape[1], mean.shape[1])), []
        for strength in strengths:
            if kind in ("ordinal", "regression"):
                errors = labels.reshape(mean.shape) - mean
                spread = errors.std(axis=0) + (errors.std(axis=0) == 0)  # so that a strength knows no units
                ridge = Ridge(alpha=strength, fit_intercept=False).fit(inputs, errors / spread)
                weights = np.atleast_2d(ridge.coef_).T * spread
            else:
                weights = fit_with_offset(inputs, mean, _targets(labels, kind, mean.shape[1]), strength, weights, kind)
            found.append(cls(center, scale, weights))
        return found

    def predict(self, features: np.ndarray, mean: np.ndarray) -> np.ndarray:
        return mean + _standardise(features, self.center, self.scale) @ self.weights


def _standardise(features: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.column_stack([np.nan_to_num((features - center) / scale, nan=0.0), np.ones(len(features))])


def _targets(labels: np.ndarray, kind: str, columns: int) -> np.ndarray:
    """What the probabilities of the evidence should be: (n, columns)."""
    return (np.eye(columns)[labels] if kind == "multiclass" else labels.reshape(-1, columns)).astype(np.float64)


def fit_with_offset(
    features: np.ndarray, offset: np.ndarray, targets: np.ndarray, strength: float, start: np.ndarray, kind: str
) -> np.ndarray:
    """The weights (f, columns) with the least log loss of offset + features @ weights, plus strength / 2 their squares.

    features (n, f), offset and targets (n, columns). multiclass: softmax over the columns; else each column by itself.
    scikit-learn's logistic regression has no offset, hence L-BFGS on the loss and its gradient.
    """
    squash = (lambda z: softmax(z, axis=1)) if kind == "multiclass" else expit
    rows = len(features)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        probs = squash(offset + features @ weights)
        cost = -xlogy(targets, probs.clip(1e-300)).sum()
        if kind != "multiclass":
            cost -= xlogy(1 - targets, (1 - probs).clip(1e-300)).sum()
        gradient = features.T @ (probs - targets) + strength * weights
        return (cost + strength / 2 * (weights**2).sum()) / rows, gradient.ravel() / rows

    options = {"maxiter": 300, "gtol": 1e-5, "ftol": 1e-9}
    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)


@dataclass(frozen=True, eq=False)
class Boosted:
    """Boosted trees: one model of all classes, one per label, or one per target for what the members' mean leaves."""

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
        if kind in ("ordinal", "regression"):
            errors = labels.reshape(mean.shape) - mean
            return cls(
                kind, [HistGradientBoostingRegressor(**knobs).fit(features, column) for column in errors.T], rounds
            )
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
        elif self.kind in ("ordinal", "regression"):
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
        """Scores of the classes that were fitted on as evidence for all: the others are as good as impossible."""
        model = self.models[0]
        classes = model.classes_ if isinstance(model, HistGradientBoostingClassifier) else [model]
        if len(classes) == 2:
            raw = np.concatenate([-raw, raw], axis=1) / 2
        evidence = np.repeat(logsumexp(raw, axis=1, keepdims=True) + np.log(SMALLEST), columns, axis=1)
        evidence[:, classes] = raw
        return evidence
