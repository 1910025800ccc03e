"""The score of an ensemble as one may believe it: without the luck of what was chosen on the rows it is scored on."""

from dataclasses import asdict, dataclass

import numpy as np

from kagglekit.ensembling.base import Ensembler, StackInput
from kagglekit.ensembling.crossfit import divide, fit_by_fold, predict_by_fold
from kagglekit.scoring.bootstrap import bootstrap_scores, interval, spread
from kagglekit.scoring.metrics import is_higher_better, score


@dataclass(frozen=True)
class Estimate:
    """Three numbers: the score on the rows that an ensemble was fitted on, the cross-fitted one, and their gap.

    in_sample: fitted and chosen on the very rows that are scored. cross_fitted: each fold by what was fitted and chosen
    without it: the one to believe. gap: by how much in_sample is too good, above 0 whichever direction is better. low
    to high: the confidence interval of cross_fitted, by bootstrap over `groups` groups of rows (as many as `rows` where
    no rows belong together); standard_error likewise. mean_score: of the plain mean of the members; better_by: by how
    much cross_fitted is better than it, better_error: the standard error of that.
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
        told = []
        if self.better_by <= self.better_error:
            plain = "plain mean" if self.members > 1 else "run as it is"
            word = "does better" if self.better_by < -self.better_error else "does as well"
            told.append(
                f"the {plain} {word}: {self.metric} {self.mean_score:.4f}, "
                f"difference {self.better_by:+.4f} ± {self.better_error:.4f}"
            )
        if self.gap > 2 * self.standard_error:
            told.append(
                f"the ensemble fits its own rows: it looks {self.gap:.4f} better on them than on others, more than "
                "twice the standard error"
            )
        if self.low == self.high:
            told.append(
                f"the score is the same on whatever rows are drawn, and so the interval has no width: errors in up to "
                f"{3 / self.groups:.1%} of the rows may not have shown among {self.groups} (the rule of three)"
            )
        if self.groups < 30:
            told.append(f"{self.groups} groups of rows are few: the interval is rough")
        return told

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
    """Score an ensembler on rows that had no say in it, with an interval, and on its own rows beside that.

    labels, folds: of the rows of `inputs`; of a single fold five parts are made. groups: (n,), rows that are drawn
    together; None: `inputs.groups`. fitted: what `fit_by_fold` made of the same, to save its time (`Blend.fitted`).
    What never looks at labels is fitted once, on all rows, as `blend_runs` does it.

    The interval is for the mean, over the folds, of the scores that the fitted ensembles would have on very many other
    rows of the same sort, members as they are: it knows nothing of other training sets. For means of row losses that is
    asymptotically exact although the folds share rows (Bayle et al., 2020). Test is predicted by the same ensembles.
    Costs a fit on all rows beside those of the folds, and the bootstrap.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    groups = inputs.groups if groups is None else np.asarray(groups)
    known = np.flatnonzero(folds >= 0)  # the other rows are never predicted
    own = ensembler.fresh().fit(inputs, labels, folds).predict(inputs)
    honest = own  # right where no label had a say
    if ensembler.uses_labels:
        parts = divide(inputs, folds)
        honest = predict_by_fold(fitted or fit_by_fold(ensembler, inputs, labels, parts), inputs, parts)
    truth, own, honest, plain = labels[known], own[known], honest[known], inputs.predictions[:, known].mean(axis=0)
    together = None if groups is None else groups[known]
    in_sample, cross_fitted, mean_score = (score(inputs.metric, truth, some) for some in (own, honest, plain))
    sign = 1 if is_higher_better(inputs.metric) else -1
    drawn = bootstrap_scores(inputs.metric, truth, [honest, plain], together, draws, seed)
    units = len(known) if together is None else len(np.unique(together))
    low, high = interval(drawn[:, 0], units, confidence)
    return Estimate(
        metric=inputs.metric,
        in_sample=float(in_sample),
        cross_fitted=float(cross_fitted),
        gap=float(sign * (in_sample - cross_fitted)) + 0.0,  # no -0.0
        low=low,
        high=high,
        standard_error=spread(drawn[:, 0]),
        rows=len(known),
        groups=units,
        members=len(inputs.predictions),
        mean_score=float(mean_score),
        better_by=float(sign * (cross_fitted - mean_score)) + 0.0,
        better_error=spread(drawn[:, 0] - drawn[:, 1]),
        level=confidence,
    )
