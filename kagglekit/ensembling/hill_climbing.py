"""Hill climbing: the members that help most are added one by one, for any metric, also one without gradients."""

from typing import Self

import numpy as np

from kagglekit.ensembling.combinations import weighted_mean
from kagglekit.ensembling.ensembler import Ensembler, Level
from kagglekit.ensembling.fast_scores import Scorer, make_scorer
from kagglekit.ranges import check_range

SMALLEST = 5  # members of a bag: half of three would be a choice by lot


class HillClimbing(Ensembler):
    """Adds, again and again, the member that makes the mean of those chosen so far best, by the metric itself.

    A member may be chosen several times; its weight is its share of the choices (Caruana et al., Ensemble selection
    from libraries of models, 2004). Choosing among many members finds some that are good by luck; against that the
    climb begins with the best members, and is repeated over random parts of the members, whose weights are averaged
    (Caruana, Munson and Niculescu-Mizil, Getting the most out of ensemble selection, 2006). Unlike there, every member
    is in equally many parts, or in one more: by pure chance a good one may be in none of five.

    steps: choices in a climb after those it begins with; 0: the mean of these. bags: climbs; 1: one. bag_share: the
    part of the members that a climb may choose from, at least five of them or all; 1: all of them, and one climb.
    start: the best members to begin with, or fewer of them where that is better; 1: the best one; with steps=0,
    bag_share=1: the best mean of the first few. patience: steps without a better score after which a climb ends; it
    goes back to its best score. tolerance: by how much of the metric a score must be higher to count as better;
    0: by anything, infinite: a climb stays where it begins. seed: of the bags.

    With one bag of all members never worse on the fitted rows than the best member. The order of members does not
    matter: among equal choices the member that is better by itself is taken. Takes 1 to 15 seconds for 35 members of
    37,000 rows and three classes; a metric "package:function" is called for every member at each step.
    """

    def __init__(
        self,
        steps: int = 100,
        bags: int = 5,
        bag_share: float = 0.5,
        start: int = 3,
        patience: int = 10,
        tolerance: float = 0.0,
        seed: int = 0,
    ):
        self.steps = steps
        self.bags = bags
        self.bag_share = bag_share
        self.start = start
        self.patience = patience
        self.tolerance = tolerance
        self.seed = seed

    def check(self) -> None:
        """Raise ValueError for knobs out of range."""
        for name, least in {"steps": 0, "bags": 1, "start": 1, "patience": 1, "tolerance": 0, "seed": 0}.items():
            check_range(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        check_range("bag_share", self.bag_share, 0 < self.bag_share <= 1, "above 0 and at most 1")

    def fit(self, level: Level, labels: np.ndarray, folds: np.ndarray) -> Self:
        self.check()
        scorer = make_scorer(level.metric, labels, level.members.shape[2])
        views = scorer.view(level.members)
        alone = scorer.gains(views)
        order = np.lexsort((np.einsum("mkn,mkn->m", views, views), -alone))  # the best first; ties by what they hold
        count, rng, self.weights_ = len(order), np.random.default_rng(self.seed), np.zeros(len(order))
        size = max(min(SMALLEST, count), round(self.bag_share * count))
        bags = draw_bags(count, size, self.bags if size < count else 1, rng)
        for bag in bags:
            chosen = order[bag]
            counts = self._climb(scorer, views[chosen])
            self.weights_[chosen] += counts / counts.sum() / len(bags)
        return self

    def _climb(self, scorer: Scorer, views: np.ndarray) -> np.ndarray:
        """How often each of the members, the best first, is chosen."""
        first = np.cumsum(views[: self.start], axis=0)
        sizes = np.arange(1, len(first) + 1)
        gains = scorer.gains(first / sizes[:, None, None])
        size = int(gains.argmax()) + 1
        total, gain = first[size - 1], gains[size - 1]
        chosen, kept = list(range(size)), size
        for _ in range(self.steps):
            gains = scorer.gains(views, total, len(chosen) + 1)
            member = int(gains.argmax())
            chosen.append(member)
            total = total + views[member]
            if gains[member] > gain + self.tolerance:
                gain, kept = gains[member], len(chosen)
            elif len(chosen) - kept >= self.patience:
                break
        return np.bincount(chosen[:kept], minlength=len(views))

    def predict(self, level: Level) -> np.ndarray:
        return weighted_mean(level.members, self.weights_)


def draw_bags(count: int, size: int, bags: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Random bags of `size` of `count` members, in order, in which every member comes equally often, or once more."""
    found, seen = [], np.zeros(count, dtype=np.int64)
    for _ in range(bags):
        rarest = np.lexsort((rng.random(count), seen))[:size]
        seen[rarest] += 1
        found.append(np.sort(rarest))
    return found
