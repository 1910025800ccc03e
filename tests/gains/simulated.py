"""Simulated races: cells without training, through the very same decisions. Shared with tests/benchmarks/race.py."""

import numpy as np
from scipy.stats import norm

from kagglekit.gains.elimination import Race
from kagglekit.gains.standings import Plan

SCORE = 0.7  # of the base
ROW, SEED, LUCK = 1.0, 0.3, 0.02  # spread of rows, of trainings on a row, and of a training on all rows


class SimulatedRace:
    """A race in which each row has a margin, which recipes and seeds move: it is right where that is above 0.

    With these spreads two seeds decide one row in nine differently, and the accuracy of a seed moves by 0.006, as those
    of MiniLM on tweets do. gains: arm -> its gain in accuracy on all rows that there could be. interaction: spread of
    what an arm does to a row, always the same way: the harder case, as rows then choose a winner too. n_folds: of five,
    as in a race, the first two choose.
    """

    def __init__(self, seed, gains, interaction=0.0, rows=600, n_folds=5, choosing=2, seeds=5, budget=1e9, draws=200):
        rng = np.random.default_rng(seed)
        self.seed, self.gains, self.folds = seed, gains, np.arange(rows) % n_folds
        self.labels = rng.integers(0, 3, rows)
        mean = norm.ppf(SCORE) * np.hypot(ROW, SEED)
        self.margins, self.made = rng.normal(mean, ROW, rows), {}
        wide = np.sqrt(ROW**2 + SEED**2 + interaction**2)
        self.moves = {arm: rng.normal(norm.ppf(SCORE + gain) * wide - mean, interaction, rows)
                      for arm, gain in gains.items()}  # fmt: skip
        plan = Plan(tuple(range(choosing)), tuple(range(choosing, n_folds)), seeds, budget)
        self.trained = []
        self.race = Race(
            list(gains), plan, "accuracy", self.labels, self.folds, self.train, self.predict, lambda cell: 1.0,
            combine=lambda first, second: f"{first}+{second}", draws=draws,
        )  # fmt: skip

    def train(self, cells):
        self.trained += cells
        return {}

    def predict(self, cell):
        if cell not in self.made:
            number = ["base", *self.gains].index(cell.arm) if "+" not in cell.arm else 1000 + len(cell.arm)
            rng, here = np.random.default_rng([self.seed, number, cell.fold, cell.seed]), self.folds == cell.fold
            margin = self.margins[here] + rng.normal(0, SEED, here.sum()) + rng.normal(0, LUCK)
            margin = margin + sum(self.moves[part][here] for part in cell.arm.split("+") if part in self.moves)
            said = np.where(margin > 0, self.labels[here], (self.labels[here] + 1) % 3)
            self.made[cell] = np.eye(3, dtype=np.float32)[said]
        return self.made[cell]

    def run(self):
        return self.race.run()

    def truth(self, arm):
        """The gain of an arm, or of two together, on all rows that there could be."""
        return sum(self.gains[part] for part in arm.split("+"))


def nulls(count):
    """Recipes that do nothing."""
    return {f"null{number}": 0.0 for number in range(count)}
