"""The bootstrap: standard errors and confidence intervals of scores from resampled rows (Efron, 1979)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from scipy import sparse, stats

from kagglekit.options import check_range
from kagglekit.scoring.counts import count_sums
from kagglekit.scoring.grouped import mean_of_groups, members_of, rows_by_group
from kagglekit.scoring.metrics import Metric, find_metric, prepare, score, value_of

CELLS = 4_000_000  # counts of drawn rows at once: 32 MB


def bootstrap_scores(
    metric: str,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    groups: np.ndarray | None = None,
    n: int = 500,
    seed: int = 0,
) -> np.ndarray:
    """The scores of several predictions on the same n bootstrap samples: (n, predictions) float64.

    A sample has as many rows as there are, drawn with replacement; with `groups` (rows,) as many groups, each drawn
    whole, so that copies of a row do not count as new rows. labels, predictions: as in `metrics.score`; decisions are
    made once, on all rows. NaN: the metric is not defined on the sample (ROC AUC without one of the classes). Metrics
    with a fast form take half a second for 500 samples of 37,000 rows with 3 classes, ROC AUC two; Spearman and
    functions of your own are called for every sample.
    """
    check_range("n", n, n >= 2, "at least 2")
    labels, measure = np.asanyarray(labels), find_metric(metric)
    predictions = [np.asarray(some).reshape(len(labels), -1) for some in predictions]
    for some in predictions:
        score(metric, labels, some)  # raises what does not fit
    unit = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    if len(unit) != len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(unit)} groups")
    prepared = [prepare(measure, labels, some) for some in predictions]
    if measure.over:
        over = [partial(measure.over, *some, members=members_of(labels, metric)) for some in prepared]
        scorers = [lambda counts, one=one: one(weights=counts[:, unit]) for one in over]
    elif measure.by:
        parts = rows_by_group(labels, metric)
        scorers = [_scorer_by_group(measure, *some, unit, parts) for some in prepared]
    else:
        scorers = [_scorer(measure, *some, unit) for some in prepared]
    scores = []
    for counts in _draws(unit.max() + 1, n, seed, max(1, CELLS // len(unit))):
        scores.append(np.column_stack([scorer(counts) for scorer in scorers]))
    return np.concatenate(scores)


def _draws(units: int, n: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """How often each unit is in each of n samples, (size, units) float64 at a time, or fewer at the end."""
    rng = np.random.default_rng(seed)
    for start in range(0, n, size):
        some = min(size, n - start)
        drawn = rng.integers(units, size=(some, units)) + units * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * units).reshape(some, units).astype(np.float64)


def _scorer(measure: Metric, truth: np.ndarray, given: np.ndarray, unit: np.ndarray) -> Callable:
    """A function from how often each unit is drawn (samples, units) to the scores (samples,)."""
    if measure.from_counts:
        terms, value = count_sums(measure.from_counts, truth, given)
    elif measure.sums:
        terms, value = measure.sums(truth, given.astype(np.float64))
    elif measure.weighted:
        return lambda counts: measure.weighted(truth, given, counts[:, unit])
    else:
        return lambda counts: np.array([_score_rows(measure, truth, given, row[unit]) for row in counts])
    if unit.max() + 1 < len(unit):
        terms = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit))))) @ terms  # (units, s)
    return lambda counts: value((terms.T @ counts.T).T)


def _scorer_by_group(measure: Metric, truth: np.ndarray, given: np.ndarray, unit: np.ndarray, parts: list) -> Callable:
    """The same for the mean over groups, of which `parts` has the row numbers; groups without a drawn row are left
    out."""
    scorers = []
    for rows in parts:
        units, inside = np.unique(unit[rows], return_inverse=True)
        scorers.append((units, _scorer(measure, truth[rows], given[rows], inside)))

    def scores(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [
                np.where(counts[:, units].any(axis=1), scorer(counts[:, units]), np.nan) for units, scorer in scorers
            ]
        return mean_of_groups(each)

    return scores


def _score_rows(measure: Metric, truth: np.ndarray, given: np.ndarray, counts: np.ndarray) -> float:
    rows = np.repeat(np.arange(len(truth)), counts.astype(np.int64))
    value = value_of(measure, truth[rows], given[rows], strict=False) if len(rows) else np.nan
    return value if np.isfinite(value) else np.nan


def interval(scores: np.ndarray, units: int, level: float = 0.95) -> tuple[float, float]:
    """The confidence interval of a score at `level`, between 0 and 1, from bootstrapped scores (n,); NaN is left out.

    The expanded percentile interval (Hesterberg, 2015): wider for few `units` (rows, or groups where these were drawn),
    as a t interval is wider than a normal one; 4 % for 50, next to nothing for 1,000.
    """
    check_range("level", level, 0 < level < 1, "between 0 and 1")
    check_range("units", units, units >= 2, "at least 2: of a single row or group nothing can be said")
    tail = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf((1 - level) / 2, units - 1))
    low, high = np.quantile(_defined(scores), [tail, 1 - tail], method="weibull")  # few draws make it no narrower
    return float(low), float(high)


def spread(scores: np.ndarray) -> float:
    """The standard deviation of bootstrapped scores, or differences of scores, (n,): a standard error."""
    return float(np.std(_defined(scores), ddof=1))


def standard_error(
    metric: str, labels: np.ndarray, predictions: np.ndarray, n: int = 200, seed: int = 0, groups=None
) -> float:
    """The standard error of a score: its standard deviation over n bootstrap samples.

    Shapes as in `bootstrap_scores`. Samples on which the metric is not defined are left out. Raises ValueError where it
    is defined on none.
    """
    try:
        return spread(bootstrap_scores(metric, labels, [predictions], groups, n, seed)[:, 0])
    except ValueError as error:
        raise ValueError(f"the metric {metric} has no standard error on these {len(labels)} rows: {error}") from error


def _defined(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores[~np.isnan(scores)]
    if len(scores) < 2:
        raise ValueError("the metric is defined on fewer than two of the samples that were drawn")
    return scores
