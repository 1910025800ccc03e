"""What a race is made of: cells, a plan, how each arm stands, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from kagglekit.gains.gain import Gain

BASE = "base"  # the arm that the others are compared with
RACING, AHEAD, DROPPED, PAUSED, FAILED = "racing", "ahead", "dropped", "paused", "left out"


@dataclass(frozen=True, order=True)
class Cell:
    """One training: an arm, a fold, the number of a seed."""

    arm: str
    fold: int
    seed: int

    def __str__(self):
        return f"{self.arm}, fold {self.fold}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """choosing, confirming: folds; with none to confirm, those that choose do. seeds: of each, at most. budget: seconds
    of all cells. at_once: how many are trained side by side. margin: as of `measure_gain`."""

    choosing: Sequence[int]
    confirming: Sequence[int]
    seeds: int
    budget: float
    at_once: int = 1
    margin: float | None = None

    @property
    def schedule(self) -> list[tuple[int, int]]:
        """Fold and seed of each round: all folds first, since other rows tell more than another seed."""
        return [(fold, seed) for seed in range(self.seeds) for fold in self.choosing]

    @property
    def fresh_rows(self) -> bool:
        """Whether the last comparison is on rows that chose nothing."""
        return bool(self.confirming)


@dataclass
class Standing:
    """How an arm stands. low, high: of the interval that holds for all arms at all looks; why: it no longer races."""

    arm: str
    state: str = RACING
    gain: Gain | None = None
    low: float = -math.inf
    high: float = math.inf
    cells: int = 0
    why: str = ""

    @property
    def better_by(self) -> float:
        return -math.inf if self.gain is None else self.gain.better_by


@dataclass
class Outcome:
    """How a race ended. winner: "" where no recipe leads the base. promise: its gain on cells that did not choose it,
    None where no time was left for that, or nobody leads. notes: what else is worth a sentence."""

    standings: dict[str, Standing]
    winner: str = ""
    promise: Gain | None = None
    notes: list[str] = field(default_factory=list)


class TooShort(ValueError):
    """The budget is too small; needed: seconds that would do."""

    def __init__(self, needed: float, cell: float):
        super().__init__(f"{needed:.0f} seconds are needed, {cell:.1f} a cell")
        self.needed, self.cell = needed, cell
