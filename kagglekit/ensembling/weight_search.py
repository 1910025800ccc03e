"""Weights by the metric itself: hill climbing, Nelder-Mead and optuna.

For metrics that have no gradient, and for weights that differ between classes or targets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.pools import normalise, weighted_mean
from kagglekit.options import check_range
from kagglekit.scoring.metrics import Scorer, make_scorer

SEARCHES = ("nelder-mead", "optuna")
REACH = 4.0  # logits of weights lie between -4 and 4: a weight is at most 3,000 times another
SMALLEST = 5  # runs of a bag: half of three would be chance


@dataclass(repr=False, eq=False)
class HillClimbing(Ensembler):
    """Adds, again and again, the run that raises the metric of the mean of those chosen so far most.

    A run may be chosen several times; its weight is its share of the choices (Caruana et al., Ensemble selection from
    libraries of models, 2004). Against runs that are good by luck, the climb begins with the best runs, and the weights
    are averaged over climbs on random bags of runs (Caruana, Munson and Niculescu-Mizil, Getting the most out of
    ensemble selection, 2006). Unlike there, all runs are in equally many bags, or in one more.

    steps: choices in a climb after those it begins with; 0: the mean of these. bags: climbs; 1: one. bag_share: the
    share of the runs in a bag, at least five of them or all; 1: all, and one climb. start: at most this many of the
    best runs to begin with; 1: the best one. patience: steps without a better score after which a climb ends and goes
    back to its best score. tolerance: by how much a score must be higher to count as better; inf: no steps. seed: of
    the bags.

    With one bag of all runs never worse on the fitted rows than the best run. The order of runs does not matter: among
    equal choices the run that is better alone is taken. 1 to 15 seconds for 35 runs of 37,000 rows and three classes; a
    metric without a fast form is called for every run at each step.
    """

    steps: int = 100
    bags: int = 5
    bag_share: float = 0.5
    start: int = 3
    patience: int = 10
    tolerance: float = 0.0
    seed: int = 0

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        for name, least in {"steps": 0, "bags": 1, "start": 1, "patience": 1, "tolerance": 0, "seed": 0}.items():
            check_range(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        check_range("bag_share", self.bag_share, 0 < self.bag_share <= 1, "above 0 and at most 1")
        scorer = make_scorer(inputs.metric, labels, inputs.predictions.shape[2])
        views = scorer.view(inputs.predictions)
        order = np.lexsort((np.einsum("mkn,mkn->m", views, views), -scorer.gains(views)))  # best first; ties by content
        count, rng, self.weights_ = len(order), np.random.default_rng(self.seed), np.zeros(len(order))
        size = max(min(SMALLEST, count), round(self.bag_share * count))
        bags = draw_bags(count, size, self.bags if size < count else 1, rng)
        for bag in bags:
            chosen = order[bag]
            counts = self._climb(scorer, views[chosen])
            self.weights_[chosen] += counts / counts.sum() / len(bags)
        return self

    def _climb(self, scorer: Scorer, views: np.ndarray) -> np.ndarray:
        """How often each of the runs, the best first, is chosen."""
        first = np.cumsum(views[: self.start], axis=0)
        gains = scorer.gains(first / np.arange(1, len(first) + 1)[:, None, None])
        size = int(gains.argmax()) + 1
        total, gain = first[size - 1], gains[size - 1]
        chosen, kept = list(range(size)), size
        for _ in range(self.steps):
            gains = scorer.gains(views, total, len(chosen) + 1)
            best = int(gains.argmax())
            chosen.append(best)
            total = total + views[best]
            if gains[best] > gain + self.tolerance:
                gain, kept = gains[best], len(chosen)
            elif len(chosen) - kept >= self.patience:
                break
        return np.bincount(chosen[:kept], minlength=len(views))

    def predict(self, inputs: StackInput) -> np.ndarray:
        return weighted_mean(inputs.predictions, self.weights_)


def draw_bags(count: int, size: int, bags: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Random bags of `size` of `count` runs, in order, in which every run comes equally often, or once more."""
    found, seen = [], np.zeros(count, dtype=np.int64)
    for _ in range(bags):
        rarest = np.lexsort((rng.random(count), seen))[:size]
        seen[rarest] += 1
        found.append(np.sort(rarest))
    return found


@dataclass(repr=False, eq=False)
class Search(Ensembler):
    """Tries weights and keeps those with the best score, by the metric itself.

    Weights are the softmax of free numbers, so they are above 0 and sum to 1. The first trial is the equal mean, so the
    result is never worse than that on the fitted rows.

    method: "nelder-mead", a simplex that walks uphill (Nelder and Mead, 1965; adaptive, Gao and Han, 2012), or
    "optuna", which guesses from earlier trials where good weights are (tree of Parzen estimators, Bergstra et al.,
    2011) and costs milliseconds per trial. trials: scores computed in all, 1: the equal mean; Nelder-Mead needs tens
    per weight. restarts: searches that share the trials, each from the best weights so far with steps half as large;
    more help where one gets stuck. per_column: weights for each class, label or target, (runs, columns), for runs that
    are good at different ones; rows of classes are scaled to sum to 1. Half of the trials then look for shared weights,
    and the other half begins with these; needs more rows and trials. seed: of optuna.

    2 seconds for 1000 trials of 35 runs of 37,000 rows and three classes, with `per_column` 9.
    """

    method: str = "nelder-mead"
    trials: int = 1000
    restarts: int = 1
    seed: int = 0
    per_column: bool = False

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_range("method", self.method, self.method in SEARCHES, f"one of {', '.join(SEARCHES)}")
        check_range("trials", self.trials, self.trials >= 1, "1 or more")
        check_range("restarts", self.restarts, 1 <= self.restarts <= self.trials, "1 or more, and at most trials")
        check_range("seed", self.seed, self.seed >= 0, "0 or more")
        count, columns = inputs.predictions.shape[::2]
        self.weights_ = np.full(count, 1 / count)
        if count > 1:
            scorer = make_scorer(inputs.metric, labels, columns)
            views, half = scorer.view(inputs.predictions), self.trials // 2

            def shared(weights: np.ndarray) -> float:
                return float(scorer.gains(np.tensordot(weights, views, axes=1)[None])[0])

            def by_column(weights: np.ndarray) -> float:
                return scorer.gain(combine(inputs.predictions, weights, inputs.kind))

            self.weights_ = self._search(shared, self.weights_, self.trials - half * self.per_column)
        if self.per_column:
            self.weights_ = np.repeat(self.weights_[:, None], columns, axis=1)
            if count > 1 and columns > 1:
                self.weights_ = self._search(by_column, self.weights_, half)
        return self

    def _search(self, gain: Callable, weights: np.ndarray, trials: int) -> np.ndarray:
        """The weights that gain most, of these and those tried."""
        best, shape = gain(weights), weights.shape

        def loss(free: np.ndarray) -> float:
            nonlocal best, weights
            tried = softmax(np.reshape(free, shape), axis=0)
            gained = gain(tried)
            if gained > best:
                best, weights = gained, tried
            return -gained

        for number, part in enumerate(np.array_split(np.arange(trials), self.restarts)):
            start = np.log(weights)
            start = (start - start.mean(axis=0)).ravel().clip(-REACH, REACH)
            if not len(part):
                break
            if self.method == "optuna":
                optuna_search(loss, start, len(part), self.seed + number)
            else:
                nelder_mead(loss, start, len(part), 0.5**number)
        return weights

    def predict(self, inputs: StackInput) -> np.ndarray:
        return combine(inputs.predictions, self.weights_, inputs.kind)


def combine(predictions: np.ndarray, weights: np.ndarray, kind: str) -> np.ndarray:
    """Predictions (runs, n, columns) times weights, (runs,) or (runs, columns); float64 (n, columns)."""
    pooled = weighted_mean(predictions, weights)
    return normalise(pooled, predictions, kind) if weights.ndim == 2 else pooled


def nelder_mead(loss: Callable, start: np.ndarray, trials: int, step: float) -> None:
    """Call `loss` up to `trials` times, at `start` and then where a simplex leads, with steps of this size at first."""
    simplex = start + step * np.concatenate([np.zeros((1, len(start))), np.eye(len(start))])
    options = {"maxfev": trials, "maxiter": trials, "initial_simplex": simplex, "adaptive": len(start) > 2}
    minimize(loss, start, method="Nelder-Mead", options={**options, "xatol": 1e-3, "fatol": 1e-9})


def optuna_search(loss: Callable, start: np.ndarray, trials: int, seed: int) -> None:
    """Call `loss` `trials` times, at `start` and then where optuna expects most; prints nothing."""
    try:
        import optuna
    except ImportError as error:
        raise ModuleNotFoundError(
            f"method='optuna' needs the library optuna, which is an extra ({error}): pip install optuna, or choose "
            "method='nelder-mead'"
        ) from error
    names, before = [f"{number:04}" for number in range(len(start))], optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial(dict(zip(names, start.clip(-REACH, REACH).tolist(), strict=True)))
        study.optimize(
            lambda trial: loss(np.array([trial.suggest_float(name, -REACH, REACH) for name in names])), n_trials=trials
        )
    finally:
        optuna.logging.set_verbosity(before)
