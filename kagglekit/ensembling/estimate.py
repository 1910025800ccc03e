"""The honest score of an ensemble: cross-fitted, with a confidence interval, and its gap to the in-sample score."""

from dataclasses import asdict, dataclass

import numpy as np

from kagglekit.ensembling.crossfit import cross_fit, divide, fit_once, predict_by_fold
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.scoring.bootstrap import bootstrap_scores, interval, spread
from kagglekit.scoring.metrics import is_higher_better, score


@dataclass(frozen=True)
class Estimate:
    """The scores of an ensemble: in_sample on the rows it was fitted on, and cross_fitted, the one to believe.

    gap: how much in_sample is too good, above 0 whichever direction is better. low to high: the confidence interval of
    cross_fitted at `level`, by bootstrap over `groups` groups of rows (as many as `rows` where there are none), with
    its standard_error. mean_score: of the plain mean of the `members` runs; better_by: how much better cross_fitted is,
    with its standard error better_error.
    """

    metric: str
    in_sample: float
    cross_fitted: float
    gap: float
    low: float
    high: float
    standard_error: float
    rows: int
    groups: int
    members: int
    mean_score: float
    better_by: float
    better_error: float
    level: float = 0.95

    @property
    def warnings(self) -> list[str]:
        """What speaks against the ensemble, or against the interval; empty where nothing does."""
        found = []
        if self.better_by <= self.better_error:
            plain = "plain mean" if self.members > 1 else "run as it is"
            word = "does better" if self.better_by < -self.better_error else "does as well"
            found.append(
                f"the {plain} {word}: {self.metric} {self.mean_score:.4f}, "
                f"difference {self.better_by:+.4f} ± {self.better_error:.4f}"
            )
        if self.gap > 2 * self.standard_error:
            found.append(
                f"the ensemble overfits its own rows: its in-sample score is {self.gap:.4f} better than the "
                "cross-fitted one, more than twice the standard error"
            )
        if self.low == self.high:
            found.append(
                "the score is the same on all bootstrap samples, so the interval has no width: errors in up to "
                f"{3 / self.groups:.1%} of the rows may not have shown among {self.groups} (the rule of three)"
            )
        if self.groups < 30:
            found.append(f"{self.groups} groups of rows are few: the interval is rough")
        return found

    def __str__(self) -> str:
        counted = f"{self.rows} rows" if self.groups == self.rows else f"{self.groups} groups, {self.rows} rows"
        lines = [
            f"{self.metric}, cross-fitted {self.cross_fitted:.4f}  ({100 * self.level:g} % interval {self.low:.4f} to "
            f"{self.high:.4f}; bootstrap over {counted})",
            f"{self.metric}, in-sample    {self.in_sample:.4f}",
            f"too good by {' ' * len(self.metric)}     {self.gap:.4f}",
        ]
        return "\n".join([*lines, *(f"Note: {line}" for line in self.warnings)])

    def as_dict(self) -> dict:
        """Plain data, for score.json."""
        return {**asdict(self), "warnings": self.warnings}


def make_estimate(
    ensembler: Ensembler,
    inputs: StackInput,
    labels: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray | None = None,
    fitted: dict[int, Ensembler] | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Score an ensembler on rows that it was not fitted on, with an interval, and on its own rows.

    labels, folds: of the rows of `inputs`; a single fold is split in five. groups: (n,), rows that are drawn together;
    None: `inputs.groups`. fitted: from `fit_by_fold`, to save its time (`Blend.fitted`). An ensembler that never looks
    at labels is fitted once, on all rows, as in `blend_runs`.

    The interval is for the mean, over the folds, of the scores of the fitted ensembles on very many other rows of the
    same sort, base models as they are: other training sets are not in it. For means of row losses it is asymptotically
    exact although the folds share rows (Bayle et al., 2020). Test is predicted by the same ensembles. Costs a fit on
    all rows, those of the folds, and the bootstrap.
    """
    labels, folds = np.asanyarray(labels), np.asarray(folds)
    groups = inputs.groups if groups is None else np.asarray(groups)
    known = np.flatnonzero(folds >= 0)  # the other rows are never predicted
    own = fit_once(ensembler, inputs, labels, folds).predict(inputs)
    honest = own  # right where no label was used
    if ensembler.uses_labels and fitted:
        honest = predict_by_fold(fitted, inputs, divide(inputs, folds))
    elif ensembler.uses_labels:
        honest = cross_fit(ensembler, inputs, labels, folds)
    truth, own, honest, plain = labels[known], own[known], honest[known], inputs.predictions[:, known].mean(axis=0)
    together = None if groups is None else groups[known]
    in_sample, cross_fitted, mean_score = (score(inputs.metric, truth, some) for some in (own, honest, plain))
    sign = 1 if is_higher_better(inputs.metric) else -1
    drawn = bootstrap_scores(inputs.metric, truth, [honest, plain], together, draws, seed)
    units = len(known) if together is None else len(np.unique(together))
    low, high = interval(drawn[:, 0], units, confidence)
    gap, better_by = float(sign * (in_sample - cross_fitted)) + 0.0, float(sign * (cross_fitted - mean_score)) + 0.0
    return Estimate(
        metric=inputs.metric, in_sample=float(in_sample), cross_fitted=float(cross_fitted), gap=gap, low=low, high=high,
        standard_error=spread(drawn[:, 0]), rows=len(known), groups=units, members=len(inputs.predictions),
        mean_score=float(mean_score), better_by=better_by, better_error=spread(drawn[:, 0] - drawn[:, 1]),
        level=confidence,
    )  # fmt: skip
