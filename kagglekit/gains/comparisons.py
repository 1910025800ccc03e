"""Many gains over one base: which may be claimed (false discovery rate), noise that they share, and means over sets.

Of twenty recipes that do nothing one is likely to look good. `correct` lets at most a twentieth of the claims be false
on average: Benjamini and Hochberg (1995), which holds for comparisons with a common base, as these depend positively on
each other (Benjamini and Yekutieli, 2001; their own bound for any dependence would ask for four times as much of 24
recipes). The interval of what is claimed is widened likewise (false coverage rate, Benjamini and Yekutieli, 2005): at
level 1 - R x rate / m where R of m are claimed, it never holds 0. Intervals of what is not claimed stay at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import optimize, special, stats

from kagglekit.gains.gain import Gain, Noise

FALSE = 0.05  # of the claims, on average


def correct(gains: Mapping[str, Gain], rate: float = FALSE) -> dict[str, Gain]:
    """The same gains as claims of one family. Those of which nothing can be told are no part of it."""
    told = [name for name, gain in gains.items() if not gain.reason and gain.knows_seeds]
    if not told:
        return dict(gains)
    claimed = stats.false_discovery_control([gains[name].p for name in told]) <= rate
    level = 1 - rate * max(1, int(claimed.sum())) / len(told)
    found = dict(gains)
    for name, one in zip(told, claimed, strict=True):
        found[name] = replace(gains[name], claimed=bool(one), level=level if one else 1 - rate)
    return found


def share_noise(gains: Iterable[Gain]) -> Noise | None:
    """The training noise that is usual among recipes over one base, as prior of each; None of fewer than three.

    Variances of recipes differ: the degrees of freedom of the prior say how little (Smyth, 2004, whose estimates by the
    moments of log variances these are). As all contain the same seeds of the base, they are never more than four times
    those of one recipe.
    """
    own = [gain.noise for gain in gains if gain.noise and gain.noise.variance > 0]
    if len(own) < 3:
        return None
    half = np.array([noise.df for noise in own]) / 2
    logs = np.log([noise.variance for noise in own]) - special.digamma(half) + np.log(half)
    most = 2 * half.sum() / (1 + (len(own) - 1) / 4)
    differ = float(np.var(logs, ddof=1) - special.polygamma(1, half).mean())
    df = most
    if differ > special.polygamma(1, most / 2):
        df = 2 * 10 ** optimize.brentq(lambda x: special.polygamma(1, 10**x) - differ, -4, math.log10(most))
    return Noise(float(np.exp(logs.mean() + special.digamma(df / 2) - math.log(df / 2))), float(df))


def mean_gain(gains: Sequence[Gain]) -> Gain:
    """The mean of the gains of a recipe on several data sets, each of which counts alike.

    Its interval is for other rows and seeds of the same sets, not for other sets. Of a set of which nothing can be
    told, nothing can be told of the mean.
    """
    count = len(gains)

    def total(name: str) -> float:
        return sum(getattr(gain, name) for gain in gains) / count**2

    def df(variance: str, name: str) -> float:
        """Of a sum of variances: Satterthwaite (1946)."""
        parts = [(getattr(gain, variance) / count**2, getattr(gain, name)) for gain in gains]
        below = sum(part**2 / df for part, df in parts if part and df)
        return total(variance) ** 2 / below if below else 0.0

    return Gain(
        " and ".join(dict.fromkeys(gain.metric for gain in gains)),
        float(np.mean([gain.better_by for gain in gains])),
        tuple(np.mean([gain.scores for gain in gains], axis=0).tolist()),
        sum(gain.folds for gain in gains),
        min(gain.seeds for gain in gains),
        sum(gain.rows for gain in gains),
        sum(gain.units for gain in gains),
        float(np.mean([gain.margin for gain in gains])),
        total("by_rows"),
        total("common"),
        df("by_rows", "rows_df"),
        total("by_seeds"),
        df("by_seeds", "seeds_df") if all(gain.knows_seeds or not gain.by_rows for gain in gains) else 0.0,
        reason=next((gain.reason for gain in gains if gain.reason), ""),
    )
