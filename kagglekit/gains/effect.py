"""The gain of a recipe over a base from trainings on the same rows: interval, and helps, hurts, no matter, cannot tell.

A cell is one training: a fold and a seed. Both sides predict the same rows, and the gain is the mean over seeds of the
difference of their scores: what one training with the recipe brings over one without it, on the folds as they are, with
other seeds and other rows of the same sort. Two things make it uncertain, and both are counted:

rows: the bootstrap (Efron, 1979) draws rows, or groups of rows, for all seeds of both sides together, and scores every
seed on the same draws, so that any metric will do. The covariance between the differences of different seeds is what
rows alone do to them.
training: each cell is a training of its own. The variance between seeds of a fold, pooled over folds, has
F x (S - 1) degrees of freedom. It holds what a seed does on all rows, and what it does on these rows.

Their sum is the variance of the gain, without counting the interaction of rows and seeds twice. This is the model of
studies in which several readers judge the same cases by two methods: Obuchowski and Rockette (1995), with seeds for
readers and rows for cases; the t quantile has the degrees of freedom of Hillis (2007), after Satterthwaite (1946). Here
the interval is never narrower than that of rows alone, which keeps it honest with two or three seeds, and rows on which
both sides decide alike add no degree of freedom, so that four rows of a thousand do not become a proof.

Seeds that both sides have are paired: what begins alike, such as an average of weights, differs by less than two
trainings do. Sides without two common seeds are taken as independent. With a single seed training and rows cannot be
told apart: folds are trainings too, so that the spread of the differences over folds (F - 1 degrees of freedom) counts
both; or `noise`, the training noise of other recipes over the same base, stands in; with neither, seeds are not in the
interval, and nothing is said to help. Bouthillier et al. (2021) show what is lost where only one of the two is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from kagglekit.gains.gain import Gain, Noise, combine
from kagglekit.scoring.bootstrap import bootstrap_scores
from kagglekit.scoring.metrics import Scorer, find_metric, is_higher_better, make_scorer, prepare, score

DRAWS = 500  # bootstrap samples: the standard error of rows is known within 3 %
TINY = 1e-9  # of a score: less is rounding

Cells = Mapping[int, Mapping[int, np.ndarray]]  # fold -> seed -> predictions of the fold's rows (rows, columns)


def measure_gain(
    metric: str,
    labels: np.ndarray,
    folds: np.ndarray,
    base: Cells,
    recipe: Cells,
    groups: np.ndarray | None = None,
    margin: float | None = None,
    noise: Noise | None = None,
    draws: int = DRAWS,
) -> Gain:
    """The gain of a recipe over a base on the folds that both have.

    labels: as in `scoring.score`, of all rows (n,). folds: (n,), the fold of each row. base, recipe: fold -> seed ->
    predictions of that fold's rows in their order (rows, columns). groups: (n,), rows that are drawn together. margin:
    a smaller difference does not matter; None: half of the standard error of the base's score: the luck of as many
    other rows mostly changes more. noise: of other recipes, see `comparisons.share_noise`; it counts
    with these cells' own, as in Smyth (2004). Raises ValueError for no fold in common, predictions that do not fit,
    and a metric that is not defined on these rows. It costs `draws` scores of all cells: 0.1 s for accuracy of 600 rows
    and 5 seeds.
    """
    shared = sorted(set(base) & set(recipe))
    if not shared:
        raise ValueError(f"no fold in common: the base has {sorted(base)}, the recipe {sorted(recipe)}")
    inside = np.isin(folds, shared)
    labels, fold = np.asanyarray(labels)[inside], np.asarray(folds)[inside]
    groups = None if groups is None else np.asarray(groups)[inside]
    both = {k: sorted(set(base[k]) & set(recipe[k])) for k in shared}
    single = all(len(side[k]) == 1 for side in (base, recipe) for k in shared)
    paired = min(map(len, both.values())) > 0 and max(map(len, both.values())) > 1
    sides = [_Side(metric, labels, fold, {k: _some(side[k], both[k] if paired else None) for k in shared})
             for side in (base, recipe)]  # fmt: skip
    layers = [layer for side in sides for layer in side.layers]
    drawn = bootstrap_scores(metric, labels, layers, groups, draws)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    sign = 1.0 if is_higher_better(metric) else -1.0
    scores = tuple(float(np.mean(side.score(side.layers))) for side in sides)
    better_by = sign * (scores[1] - scores[0])
    better_by = 0.0 if abs(better_by) < TINY * max(map(abs, scores)) else better_by
    units = len(labels) if groups is None else len(np.unique(groups))
    rows_df = _rows_that_differ(metric, labels, sides, groups) - 1
    found = Gain(
        metric, better_by, scores, len(shared), min(min(map(len, side.cells.values())) for side in sides), len(labels),
        units, margin or 0.0, 0.0, 0.0, rows_df, 0.0, 0.0,
    )  # fmt: skip
    if len(drawn) < max(2, draws / 2):
        return replace(found, reason=f"{metric} is not defined on most samples of these {len(labels)} rows")
    first, other = np.split(drawn, [len(sides[0].layers)], axis=1)
    if margin is None:
        found = replace(found, margin=0.5 * float(np.std(first, axis=0, ddof=1).mean()))
    paired = paired or single
    if all(np.array_equal(a, b) for a, b in zip(*(side.layers for side in sides), strict=False)) and paired:
        return found  # the same predictions
    terms = [other - first] if paired else [first, other]
    by_rows = float(np.var(other.mean(axis=1) - first.mean(axis=1), ddof=1))
    if rows_df < 1:
        return replace(found, reason="one row alone, or none, tells the two apart")
    least = (TINY * max(1e-3, *map(abs, scores))) ** 2
    if by_rows < least:
        return replace(found, reason="no sample of rows changes the difference: nothing says how uncertain it is")
    found = replace(found, by_rows=by_rows, common=max(0.0, by_rows - sum(map(_interaction, terms))))
    return _add_training(found, metric, sides, paired, single, noise)


def _some(cells: Mapping[int, np.ndarray], seeds: Sequence[int] | None) -> list[np.ndarray]:
    return [np.asarray(cells[seed]) for seed in (sorted(cells) if seeds is None else seeds)]


class _Side:
    """Base or recipe: cells, fold -> predictions of each seed, and layers: predictions of all rows, one cell a fold; a
    fold with fewer seeds than others comes with one of them again."""

    def __init__(self, metric: str, labels: np.ndarray, fold: np.ndarray, cells: dict[int, list[np.ndarray]]):
        self.metric, self.labels, self.cells = metric, labels, cells
        self.rows = {k: np.flatnonzero(fold == k) for k in cells}
        self.layers = [self.put_together(number) for number in range(max(map(len, cells.values())))]

    def put_together(self, number: int) -> np.ndarray:
        chosen = {k: each[number % len(each)] for k, each in self.cells.items()}
        made = np.empty((len(self.labels), next(iter(chosen.values())).size // len(next(iter(self.rows.values())))))
        for k, one in chosen.items():
            if len(one) != len(self.rows[k]):
                raise ValueError(f"fold {k} has {len(self.rows[k])} rows, and {len(one)} predictions")
            made[self.rows[k]] = one.reshape(len(one), -1)
        return made

    @cached_property
    def scorer(self) -> Scorer:
        return make_scorer(self.metric, self.labels, self.layers[0].shape[1])

    def score(self, layers: Sequence[np.ndarray]) -> list[float]:
        """The scores of predictions of all rows; one that is not defined is an error, as of `metrics.score`."""
        values = self.scorer.sign * self.scorer.gains(self.scorer.view(np.stack(layers)))
        return [
            float(value) if np.isfinite(value) else score(self.metric, self.labels, layer)
            for value, layer in zip(values, layers, strict=True)
        ]

    def swapped(self, k: int) -> list[float]:
        """The score of all rows with each cell of a fold in turn, where the other folds have their first."""
        made = np.repeat(self.layers[0][None], len(self.cells[k]), axis=0)
        made[:, self.rows[k]] = [cell.reshape(len(cell), -1) for cell in self.cells[k]]
        return self.score(made)


def _add_training(
    found: Gain, metric: str, sides: list[_Side], paired: bool, single: bool, prior: Noise | None
) -> Gain:
    """The gain with its variance from training."""
    sizes = {k: len(rows) for k, rows in sides[0].rows.items()}
    share = {k: size / sum(sizes.values()) for k, size in sizes.items()}
    if single:
        weight = sum(part**2 for part in share.values())
        if prior:  # the interaction, which one seed does not tell from rows, counts twice: wider
            return replace(found, by_seeds=prior.variance * weight, seeds_df=prior.df, cell_weight=weight)
        if len(share) > 1 and (apart := _spread_of_folds(metric, sides)) is not None:
            return replace(found, common=0.0, by_seeds=apart / len(share), seeds_df=len(share) - 1.0)
        return found
    terms = []  # of the difference, or of each side: variance of a cell, its df, weight of a cell in the gain
    for some in [sides] if paired else [[side] for side in sides]:
        squares, df, weight = 0.0, 0, 0.0
        for k, part in share.items():
            values = np.subtract(*(side.swapped(k) for side in some)) if paired else np.array(some[0].swapped(k))
            squares += float(((values - values.mean()) ** 2).sum()) / part**2
            df += len(values) - 1
            times = np.bincount(np.arange(len(some[0].layers)) % len(values)) / len(some[0].layers)
            weight += part**2 * float((times**2).sum())
        terms.append((squares, df, weight))
    if not paired and min(df for _, df, _ in terms) == 0:  # one side has a single seed: its noise is the other's
        squares, df, weight = map(sum, zip(*terms, strict=True))
        terms = [(2 * squares, df, weight / 2)]
    each = [squares / df * weight for squares, df, weight in terms]
    df = sum(each) ** 2 / sum(one**2 / df for one, (_, df, _) in zip(each, terms, strict=True)) if any(each) else 1.0
    weight = sum(weight for *_, weight in terms) / len(terms)
    own = Noise(sum(each) / weight, df)
    known = own if prior is None else combine(own, prior)
    return replace(found, by_seeds=known.variance * weight, seeds_df=known.df, noise=own, cell_weight=weight)


def _spread_of_folds(metric: str, sides: list[_Side]) -> float | None:
    """The variance between folds of the difference; None where the metric is not defined on a fold."""
    try:
        each = [
            np.subtract(*(score(metric, side.labels[rows], side.layers[0][rows]) for side in sides))
            for rows in sides[0].rows.values()
        ]
    except ValueError:
        return None
    return float(np.var(each, ddof=1))


def _interaction(drawn: np.ndarray) -> float:
    """The variance of the mean over seeds from rows that matter to one seed alone. drawn: (draws, seeds)."""
    seeds = drawn.shape[1]
    if seeds == 1:
        return 0.0
    return float(np.var(drawn - drawn.mean(axis=1, keepdims=True), axis=0, ddof=1).sum() / (seeds * (seeds - 1)))


def _rows_that_differ(metric: str, labels: np.ndarray, sides: list[_Side], groups: np.ndarray | None) -> float:
    """How many rows, or groups, tell the two sides apart, as their effective number (Kish, 1965): those on which the
    decisions differ, or the predictions, where the metric sees these."""
    measure = find_metric(metric)
    given = [[prepare(measure, labels, layer)[1].reshape(len(labels), -1) for layer in side.layers] for side in sides]
    pairs = [(a, b) for i, a in enumerate(given[0]) for j, b in enumerate(given[1]) if i == j or len(given[0]) < 2]
    share = np.mean([(a != b).any(axis=1) for a, b in pairs], axis=0)
    if groups is not None:
        share = np.bincount(np.unique(groups, return_inverse=True)[1].ravel(), share)
    return float(share.sum() ** 2 / max((share**2).sum(), 1e-12))
