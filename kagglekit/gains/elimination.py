"""The race itself: recipes against a base on the same cells; who stops, who goes on, who wins, and what is promised.

A cell is one training: an arm, a fold, a seed. Nothing here trains: `train` does, so that a simulation goes through the
same decisions. What decides are the cells alone, with the seconds that each took: killed and begun again, it is the
same race.

What is taken, and from where:
- Pairs, as in F-race (Birattari et al., 2002), whose blocks are our cells: all arms have the same folds and seeds, and
  each is compared with the base, and with the leader, on these. Optuna's WilcoxonPruner pairs instances too, but of a
  few folds the test of Wilcoxon can never be sure, and neither it nor irace counts how often it looks. Its other
  pruners, Hyperband (Li et al., 2018) and scikit-learn's halving search rank by scores, whose noise is larger than what
  most tricks bring. The interval is that of `effect`, with the noise of rows and of training.
- Alpha spending (Lan and DeMets, 1983), since looking often finds something: the planned looks share ALPHA, by the
  square of the share of the cells that are trained, and of each look's share every recipe gets one part (Bonferroni).
  All intervals of a race hold together, at all looks, with 95 %. Always-valid bounds such as empirical Bernstein need
  no plan, but are wider than any gain here: for scores between 0 and 1, after ten cells, more than 0.5.
- Sequential halving (Karnin et al., 2013) where the time does not reach for everybody: the rest of it is divided into
  equal phases, and after each the better half goes on. Who is left behind by that is paused, not dropped: more time
  goes on with it.
- A winner is the luckiest of many, so its gain on the cells that chose it is too high. It is trained again with other
  seeds on folds that chose nothing, and that difference is the promise, an ordinary 95 % interval. Where no folds are
  left for that, the interval is one that holds for all arms together (level 1 - ALPHA / arms).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from kagglekit.gains.comparisons import share_noise
from kagglekit.gains.effect import measure_gain
from kagglekit.gains.gain import SAME, Gain, Noise
from kagglekit.gains.standings import (
    AHEAD,
    BASE,
    DROPPED,
    FAILED,
    PAUSED,
    RACING,
    Cell,
    Outcome,
    Plan,
    Standing,
    TooShort,
)

ALPHA = 0.05  # of all statements before the last one together
NEW = 1.3  # how long an arm takes that was not trained yet, to the base
BEST = 3  # arms that are combined pairwise
RESERVED = 0.25, 0.15  # of the time: at most for the last comparison, and for combinations


@dataclass
class Race:
    """A race of `arms` against BASE.

    metric, labels, folds, groups: as of `measure_gain`. train: trains cells, those that are there already are not
    trained again, and returns why arms could not be trained (arm -> words). predict: what a cell predicts. seconds:
    that it took; free: whether it was there before this race. combine: two arms -> the name of an arm with both, or "".
    tell: called after each look, with a few words.
    """

    arms: Sequence[str]
    plan: Plan
    metric: str
    labels: np.ndarray
    folds: np.ndarray
    train: Callable[[Sequence[Cell]], Mapping[str, str]]
    predict: Callable[[Cell], np.ndarray]
    seconds: Callable[[Cell], float]
    groups: np.ndarray | None = None
    free: Callable[[Cell], bool] = lambda cell: False
    combine: Callable[[str, str], str] = lambda first, second: ""
    tell: Callable[[str, Outcome], None] = lambda words, outcome: None
    draws: int = 500

    def __post_init__(self):
        self.outcome = Outcome({arm: Standing(arm) for arm in self.arms})
        self.trained: dict[Cell, None] = {}  # in order
        self.noise: Noise | None = None  # of training, as is usual among these arms
        self.parts: dict[str, list[str]] = {}  # of a combination
        self.rounds = self.looked = 0  # that all who race have, and that they had at the last look
        self.began = len(self.arms)

    @property
    def racing(self) -> list[str]:
        """The arms that still race, in the order in which they were named."""
        return [arm for arm, one in self.outcome.standings.items() if one.state in (RACING, AHEAD)]

    @property
    def ranked(self) -> list[str]:
        """The same, the best first."""
        return sorted(self.racing, key=lambda arm: -self.outcome.standings[arm].better_by)

    @property
    def spent(self) -> float:
        """Seconds that the cells of this race took."""
        return sum(self.seconds(cell) for cell in self.trained if not self.free(cell)) / self.plan.at_once

    def each(self, arm: str) -> float:
        """Seconds that a cell of an arm takes: as its others did; a new one longer than the base, or than its parts."""
        known = [self.seconds(cell) for cell in self.trained if cell.arm == arm]
        return float(np.mean(known)) if known else NEW * max(map(self.each, self.parts.get(arm, [BASE])), default=0.0)

    def estimate(self, cells: Sequence[Cell]) -> float:
        """Seconds that cells will take, those that are there already none."""
        return sum(self.each(cell.arm) for cell in cells if not self.free(cell)) / self.plan.at_once

    def run(self) -> Outcome:
        """Race to the end. Raises TooShort once the base has shown how long a cell takes."""
        self._train([Cell(BASE, *self.plan.schedule[0])])
        least = self._least()
        if least > self.plan.budget:
            raise TooShort(least, self.seconds(Cell(BASE, *self.plan.schedule[0])))
        while self.racing and self.rounds < len(self.plan.schedule):
            count, halve = self._next()
            if not count:
                break
            now = self.plan.schedule[: self.rounds + count]
            self._train([Cell(arm, *one) for one in now[self.rounds :] for arm in (BASE, *self.racing)])
            self.rounds = len(now)
            if halve or self.rounds > 1 or self.rounds == len(self.plan.schedule):
                self._look()
                if halve:
                    self._pause(math.ceil(len(self.racing) / 2), "no time for all: the better half went on")
                self.tell(f"round {self.rounds} of {len(self.plan.schedule)}", self.outcome)
            if len(self.racing) == 1 and self.rounds > 1:
                break
        self._choose()
        if self.outcome.winner:
            self._confirm()
        return self.outcome

    # what is trained next

    def _last(self, arms: Sequence[str], seeds: int) -> list[Cell]:
        """The cells of the last comparison: with other seeds, on folds that chose nothing where there are some."""
        folds, first = self.plan.confirming or self.plan.choosing, self.plan.seeds
        return [Cell(arm, k, first + number) for number in range(seeds) for k in folds for arm in arms]

    def _least(self) -> float:
        """Seconds that a race needs at least: each arm once, two twice, and two seeds of the last comparison."""
        schedule = self.plan.schedule
        cells = [Cell(arm, *schedule[0]) for arm in (BASE, *self.racing)]
        cells += [Cell(arm, *schedule[min(1, len(schedule) - 1)]) for arm in (BASE, *self.arms[:2])]
        cells += self._last([BASE, self.arms[0]], min(2, self.plan.seeds))
        return self.spent + self.estimate(list(dict.fromkeys(cells)))

    def _reserved(self) -> tuple[float, float]:
        """Seconds that are kept for the last comparison, and for combinations."""
        costly = max(self.racing, key=self.each)
        last = self.estimate(self._last([BASE, costly], self.plan.seeds))
        fewest = self.estimate(self._last([BASE, costly], min(2, self.plan.seeds)))
        pairs = math.comb(min(BEST, len(self.racing)), 2)
        more = pairs * NEW * self.each(costly) * max(2, self.rounds) / self.plan.at_once
        return max(fewest, min(last, RESERVED[0] * self.plan.budget)), min(more, RESERVED[1] * self.plan.budget)

    def _left(self) -> float:
        """Seconds that are left for rounds."""
        return self.plan.budget - self.spent - sum(self._reserved())

    def _next(self) -> tuple[int, bool]:
        """How many rounds come before the next look, and whether half of the arms stop there: 0 where time is over."""
        todo = len(self.plan.schedule) - self.rounds
        if not self.rounds:
            return 1, False
        left, wave = self._left(), len(self.plan.choosing)
        if sum(map(self._cost, range(self.rounds, self.rounds + todo))) <= left:
            return min(todo, wave - self.rounds % wave), False  # each fold once more
        if self.looked < self.rounds:
            self._look()
        while len(self.racing) > 2 and self._cost(self.rounds) * math.log2(len(self.racing)) > left:
            self._pause(len(self.racing) - 1, "no time for all: the better ones went on")
        arms, cost = len(self.racing), self._cost(self.rounds)
        if cost > left:
            return 0, False
        return min(todo, max(1, int(left / max(1, math.ceil(math.log2(arms))) / max(cost, 1e-9)))), arms > 2

    def _cost(self, number: int) -> float:
        """Seconds of a round for all that still race."""
        return self.estimate([Cell(arm, *self.plan.schedule[number]) for arm in (BASE, *self.racing)])

    def later(self, now: int) -> float:
        """Seconds of what comes after the next `now` cells, if nobody stops any more."""
        rounds = range(self.rounds + max(1, now // max(1, len(self.racing) + 1)), len(self.plan.schedule))
        return sum(map(self._cost, rounds)) + sum(self._reserved()) if self.racing and now > 1 else 0.0

    def _train(self, cells: Sequence[Cell]) -> None:
        failed = self.train(cells)
        for arm, why in failed.items():
            self.outcome.standings[arm].state, self.outcome.standings[arm].why = FAILED, why
        self.trained |= {cell: None for cell in cells if cell.arm not in failed}

    # what is known

    def cells(self, arm: str, folds: Sequence[tuple[int, int]]) -> dict[int, dict[int, np.ndarray]]:
        """Predictions as `measure_gain` takes them, of these folds and seeds."""
        found: dict[int, dict[int, np.ndarray]] = {}
        for fold, seed in folds:
            found.setdefault(fold, {})[seed] = self.predict(Cell(arm, fold, seed))
        return found

    def measure(self, first: str, other: str, where: Sequence[tuple[int, int]], **options) -> Gain:
        """The gain of one arm over another."""
        known = self.metric, self.labels, self.folds, self.cells(first, where), self.cells(other, where)
        return measure_gain(*known, self.groups, self.plan.margin, draws=self.draws, **options)

    def _level(self) -> float:
        """Of the intervals at this look: what it may spend, one part for each arm that began."""
        share = [(rounds / len(self.plan.schedule)) ** 2 for rounds in (self.looked, self.rounds)]
        return 1 - ALPHA * (share[1] - share[0]) / max(1, self.began)

    def _look(self) -> None:
        """Measure all that race; who cannot win any more stops."""
        where, level = self.plan.schedule[: self.rounds], self._level()
        self.looked = self.rounds
        found = {arm: self.measure(BASE, arm, where) for arm in self.racing}
        self.noise = share_noise(found.values()) or self.noise
        for arm in self.racing:
            one = self.outcome.standings[arm]
            one.gain, one.cells = found[arm].with_noise(self.noise), self.rounds
            half = one.gain.half_width(level)
            one.low, one.high = one.better_by - half, one.better_by + half
            one.state = AHEAD if one.low > 0 and one.gain.knows_seeds else RACING
        leader = self.ranked[0] if self.racing else ""
        for arm in self.ranked:
            one = self.outcome.standings[arm]
            if one.gain.verdict == SAME and one.gain.by_rows == 0 and self.rounds > 1:
                one.state, one.why = DROPPED, "it predicts the same as the base"
            if not one.gain.knows_seeds:
                continue
            if one.high < 0:
                one.state, one.why = DROPPED, "it hurts"
            elif self.outcome.standings[leader].better_by > max(0.0, one.better_by + 2 * one.gain.error):
                behind = self.measure(arm, leader, where)
                if behind.knows_seeds and behind.better_by > behind.half_width(level):
                    one.state, one.why = DROPPED, f"{leader} is better"

    def _pause(self, keep: int, why: str) -> None:
        for arm in self.ranked[keep:]:
            self.outcome.standings[arm].state, self.outcome.standings[arm].why = PAUSED, why

    # the end

    def _choose(self) -> None:
        """The winner: the best arm; or two of the best together, where that is better by a standard error."""
        outcome, where = self.outcome, self.plan.schedule[: self.rounds]
        best = [arm for arm in self.ranked if outcome.standings[arm].better_by > 0][:BEST]
        if not best:
            return
        outcome.winner = best[0]
        left = self.plan.budget - self.spent - self._reserved()[0]
        for first, second in combinations(best, 2):
            name = self.combine(first, second)
            if not name:
                continue
            cells = [Cell(name, *one) for one in where]
            self.parts[name] = [first, second]
            cost = self.estimate(cells)
            if cost > left:
                outcome.notes.append(f"no time was left to try {first} and {second} together")
                continue
            outcome.standings[name] = one = Standing(name)
            self._train(cells)
            left -= cost
            if one.state == FAILED:
                continue
            one.gain, one.cells = self.measure(BASE, name, where, noise=self.noise), self.rounds
            half = one.gain.half_width(1 - ALPHA / (self.began + math.comb(BEST, 2)))
            one.low, one.high = one.better_by - half, one.better_by + half
            more = self.measure(outcome.winner, name, where)
            if more.better_by > more.error > 0:
                outcome.winner = name
            self.tell(f"{first} and {second} together", outcome)

    def _confirm(self) -> None:
        """Score winner and base again, on cells that chose nothing, as many seeds as there is time for."""
        arms = [BASE, self.outcome.winner]
        cost = self.estimate(self._last(arms, 1))
        left = self.plan.budget - self.spent
        seeds = min(self.plan.seeds, int(left / cost)) if cost else self.plan.seeds
        if not seeds:
            self.outcome.notes.append("no time was left to score the winner again: nothing is promised")
            return
        cells = self._last(arms, seeds)
        self._train(cells)
        if self.outcome.standings[arms[1]].state == FAILED:
            return
        where = [(cell.fold, cell.seed) for cell in cells if cell.arm == BASE]
        gain = self.measure(*arms, where, noise=self.noise)
        if not self.plan.fresh_rows:
            gain = replace(gain, level=1 - ALPHA / len(self.outcome.standings))
        self.outcome.promise = gain
        self.tell("the last comparison", self.outcome)
