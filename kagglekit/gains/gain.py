"""A gain: its variance from rows and from training, its interval, the verdict in words, and what would tell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy import optimize, special

HELPS, HURTS, SAME, CANNOT = "helps", "hurts", "makes no difference that matters", "cannot tell"
MOST = 100  # seeds that are proposed


@dataclass(frozen=True)
class Noise:
    """Training noise: the variance, between seeds, of the difference that one cell measures on the rows of its fold;
    and the degrees of freedom with which it is known."""

    variance: float
    df: float


@dataclass(frozen=True)
class Gain:
    """What a recipe brings over a base. better_by is above 0 where it is better, whichever direction the metric has.

    scores: of base and recipe, the means over seeds. folds, seeds: compared; the fewest seeds of a fold. rows; units:
    rows, or groups of them. by_rows: variance of the gain from the rows that were drawn, of which `common` is alike for
    all seeds; rows_df. by_seeds: its variance from training, on these rows; seeds_df: 0 where it is not known.
    noise: as of these cells alone, None with one seed. cell_weight: how much of the noise of a cell the gain has.
    reason: why nothing can be told; empty otherwise. level: of the interval. claimed: whether a gain or a loss may be
    claimed, see `comparisons.correct`.
    """

    metric: str
    better_by: float
    scores: tuple[float, float]
    folds: int
    seeds: int
    rows: int
    units: int
    margin: float
    by_rows: float
    common: float
    rows_df: float
    by_seeds: float
    seeds_df: float
    noise: Noise | None = None
    cell_weight: float = 1.0
    reason: str = ""
    level: float = 0.95
    claimed: bool = True

    @property
    def error(self) -> float:
        """The standard error of the gain: the square root of its variance."""
        return math.sqrt(max(self.by_rows, self.common + self.by_seeds))

    def half_width(self, level: float | None = None) -> float:
        """Half of the interval at a level; infinite where nothing can be told."""
        tail = (1 + (self.level if level is None else level)) / 2
        if not self.by_rows > 0 or self.rows_df < 1:
            return math.inf
        rows = special.stdtrit(self.rows_df, tail) * math.sqrt(self.by_rows)
        if not self.seeds_df or not self.by_seeds:
            return float(rows)
        total = self.common + self.by_seeds
        df = total**2 / (self.by_seeds**2 / self.seeds_df + self.common**2 / self.rows_df)
        both = special.stdtrit(df, tail) * math.sqrt(total)
        if self.seeds_df < 2:  # a single difference says too little for Satterthwaite's df: Howe (1974), wider
            each = special.stdtrit([self.rows_df, self.seeds_df], tail) ** 2
            both = math.sqrt(each @ [self.common, self.by_seeds])
        return float(max(rows, both))

    def with_noise(self, usual: Noise | None) -> Gain:
        """The same gain, whose training noise is estimated together with that which is usual."""
        if usual is None or self.noise is None:
            return self
        known = combine(self.noise, usual)
        return replace(self, by_seeds=known.variance * self.cell_weight, seeds_df=known.df)

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.better_by - self.half_width()

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.better_by + self.half_width()

    @property
    def p(self) -> float:
        """The p-value of no gain, of two sides: 1 less the level at which the interval ends at 0."""
        if not self.knows_seeds or self.better_by == 0 or math.isinf(self.half_width()):
            return 1.0
        apart = abs(self.better_by)
        if self.half_width(1 - 1e-12) < apart:
            return 1e-12
        return float(10 ** optimize.brentq(lambda power: self.half_width(1 - 10**power) - apart, -12, -1e-12))

    @property
    def knows_seeds(self) -> bool:
        """Whether training noise is in the interval."""
        return self.seeds_df > 0

    @property
    def verdict(self) -> str:
        """One of four: helps, hurts, makes no difference that matters, cannot tell."""
        if self.better_by == 0 and self.by_rows == 0 and self.by_seeds == 0 and not self.reason:
            return SAME
        if self.reason or not self.knows_seeds:
            return CANNOT
        if -self.margin <= self.low and self.high <= self.margin:
            return SAME
        if self.claimed and (self.low > 0 or self.high < 0):
            return HELPS if self.low > 0 else HURTS
        return CANNOT

    @property
    def needed(self) -> float:
        """Half of the interval with which one could tell, if the gain stays what it is: 0 would lie outside, or it
        inside the margin."""
        return max(abs(self.better_by), self.margin - abs(self.better_by))

    def with_seeds(self, seeds: int) -> Gain:
        """What the interval would be with so many seeds in each fold, by the components of variance."""
        if not self.noise or seeds < 2:
            return self
        inside, times = self.by_rows - self.common, self.seeds / seeds
        own = self.folds * (self.seeds - 1)
        df = self.folds * (seeds - 1) + max(0.0, self.seeds_df - own)
        rows = self.common + inside * times
        return replace(self, seeds=seeds, by_rows=rows, by_seeds=self.by_seeds * times, seeds_df=df)

    def with_rows(self, times: float) -> Gain:
        """What it would be with so many times the rows."""
        inside = self.by_rows - self.common
        lasting = max(0.0, self.by_seeds - inside)  # what a seed does on whatever rows
        seeds = lasting + (self.by_seeds - lasting) / times
        rows, common = self.by_rows / times, self.common / times
        return replace(self, by_rows=rows, common=common, by_seeds=seeds, rows_df=self.rows_df * times)

    @property
    def more_seeds(self) -> int | None:
        """How many seeds a fold, in all, would tell; None where even 100 would not."""
        if self.reason or not self.noise:
            return None
        counts = range(self.seeds + 1, MOST + 1)
        return next((n for n in counts if self.with_seeds(n).half_width() < self.needed), None)

    @property
    def more_rows(self) -> int | None:
        """How many rows, in all, would tell with the seeds there are; None where a thousand times as many would not."""
        if self.reason or not self.knows_seeds or not self.with_rows(1000).half_width() < self.needed:
            return None
        if self.half_width() <= self.needed:
            return self.rows
        times = optimize.brentq(lambda power: self.with_rows(10**power).half_width() - self.needed, 0, 3)
        return math.ceil(self.rows * 10**times)

    @property
    def advice(self) -> str:
        """Why one cannot tell, or how well the verdict is known, and what would tell; empty where it is told."""
        if self.verdict != CANNOT:
            return ""
        if self.reason:
            return self.reason
        if not self.knows_seeds:
            return "one seed: what another would change is not known; a second one tells"
        if not self.claimed and (self.low > 0 or self.high < 0):
            return "alone it would be told, but of so many comparisons some are by chance; more seeds tell"
        if self.noise is None:
            return "one seed a fold; a second one tells more"
        if self.more_seeds:
            return f"{self.more_seeds} seeds would tell"
        if self.more_rows:
            rows = f"about {_round(self.more_rows):,} would, now {self.rows:,}"
            return f"more seeds cannot tell, rows are the limit: {rows}"
        return "neither 100 seeds nor more rows would tell: it takes both"

    def __str__(self):
        span = f" ({self.low:+.4f} to {self.high:+.4f})" if math.isfinite(self.half_width()) else ""
        return f"{self.better_by:+.4f}{span}: {self.verdict}{f'; {self.advice}' if self.advice else ''}"


def combine(own: Noise, prior: Noise) -> Noise:
    """The noise of a recipe with that which is usual (Smyth, 2004): each counts by its degrees of freedom."""
    df = own.df + prior.df
    return Noise((own.variance * own.df + prior.variance * prior.df) / df, df)


def _round(count: int) -> int:
    """To two digits, as what is predicted is not known better."""
    size = 10 ** max(0, len(str(count)) - 2)
    return -(-count // size) * size
