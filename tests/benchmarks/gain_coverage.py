"""Is the interval of a gain honest? Simulated trainings whose true gain is known: coverage, and how often null helps.

`python -m tests.benchmarks.gain_coverage [--times 1000]`. Rows, seeds and their interaction are crossed random effects:
a row is hard for all models, or for all of one side; a seed is good or bad on all rows; and each seed has rows of its
own. The true gain is the mean over 400 other seeds of each side on 20,000 other rows each.
"""

import argparse
import math
from dataclasses import dataclass, replace

import numpy as np

from kagglekit.gains.comparisons import correct, share_noise
from kagglekit.gains.effect import measure_gain
from kagglekit.gains.gain import HELPS, HURTS, Gain
from kagglekit.scoring.metrics import find_metric, score


@dataclass(frozen=True)
class World:
    """Standard deviations of what makes trainings differ, in units of the signal. hard: rows, alike for all; taste:
    rows, of one side; luck: seeds, as a part of the signal; whim: rows of one seed. gain: of the recipe's signal."""

    metric: str = "accuracy"
    rows: int = 400
    folds: int = 2
    seeds: int = 2
    hard: float = 0.8
    taste: float = 0.3
    luck: float = 0.06
    whim: float = 0.4
    gain: float = 0.0
    paired: float = 0.0  # how much of luck and whim both sides share where their seeds are equal

    def draw(self, rng: np.random.Generator, rows: int, seeds: int, gains=None) -> tuple[np.ndarray, np.ndarray]:
        """Labels (rows,) and predictions of the base and of recipes, (1 + gains, seeds, rows, columns)."""
        gains = np.array([0.0, *((self.gain,) if gains is None else gains)])
        values = find_metric(self.metric).kinds == ("regression",)
        truth = rng.normal(size=rows) if values else rng.integers(2, size=rows)
        signal = truth if values else 2.0 * truth - 1
        shared = math.sqrt(self.paired)

        def both(*size: int) -> np.ndarray:
            return shared * rng.normal(size=(1, *size)) + math.sqrt(1 - self.paired) * rng.normal(
                size=(len(gains), *size)
            )

        strength = 1 + gains[:, None] + self.luck * both(seeds)
        noise = self.hard * rng.normal(size=rows) + self.taste * rng.normal(size=(len(gains), 1, rows))
        found = strength[..., None] * signal + noise + self.whim * both(seeds, rows)
        if values:
            return truth[:, None], found[..., None]
        chance = 1 / (1 + np.exp(-1.5 * found))
        return truth, np.stack([1 - chance, chance], axis=-1)

    def truth(self, seeds: int = 400, rows: int = 20_000) -> float:
        """The gain of the recipe in the long run; above 0 is better."""
        rng, sign = np.random.default_rng(99), 1 if find_metric(self.metric).higher_is_better else -1
        each = []
        for _ in range(seeds):
            labels, (base, recipe) = self.draw(rng, rows, 1)
            each.append(score(self.metric, labels, recipe[0]) - score(self.metric, labels, base[0]))
        return sign * float(np.mean(each))

    def measure(self, rng: np.random.Generator, draws: int = 300, gains=None) -> list[Gain]:
        """The gains of recipes as they are measured: every fold and seed is a training of its own."""
        size = self.rows // self.folds
        parts = [self.draw(rng, size, self.seeds, gains) for _ in range(self.folds)]
        labels, folds = np.concatenate([truth for truth, _ in parts]), np.repeat(np.arange(self.folds), size)
        base, *others = (
            {k: dict(enumerate(each[i])) for k, (_, each) in enumerate(parts)} for i in range(len(parts[0][1]))
        )
        found = [measure_gain(self.metric, labels, folds, base, one, draws=draws) for one in others]
        if noise := share_noise(found):
            found = [measure_gain(self.metric, labels, folds, base, one, noise=noise, draws=draws) for one in others]
        return found


WORLDS = {
    "1 fold, 2 seeds": World(folds=1),
    "2 folds, 2 seeds": World(),
    "2 folds, 2 seeds, no luck": World(luck=0.0),
    "2 folds, 2 seeds, luck alone": World(luck=0.25, taste=0.02, whim=0.05),
    "2 folds, 2 seeds, own rows": World(luck=0.02, taste=0.05, whim=0.8),
    "2 folds, 2 seeds, begun alike": World(paired=0.8),
    "2 folds, 5 seeds": World(seeds=5),
    "5 folds, 1 seed": World(folds=5, seeds=1),
    "5 folds, 1 seed, luck alone": World(folds=5, seeds=1, luck=0.25, taste=0.02, whim=0.05),
    "5 folds, 2 seeds": World(folds=5),
    "5 folds, 3 seeds": World(folds=5, seeds=3),
    "5 folds, 5 seeds, 2,000 rows": World(folds=5, seeds=5, rows=2000),
    "1 fold, 20 seeds": World(folds=1, seeds=20),
    "2 folds, 3 seeds, 100 rows": World(seeds=3, rows=100),
} | {f"2 folds, 3 seeds, {metric}": World(metric, seeds=3)
     for metric in ("f1_macro", "mcc", "roc_auc", "log_loss", "rmse", "pearson", "spearman")}  # fmt: skip


FAMILIES = (
    ("20 null recipes, 2 folds, 2 seeds", World(), 0),
    ("20 null recipes, 5 folds, 1 seed", World(folds=5, seeds=1), 0),
    ("20 null recipes, 2 folds, 5 seeds", World(seeds=5), 0),
    ("5 of 20 are good, 2 folds, 2 seeds", World(gain=0.25), 5),
    ("5 of 20 are good, 2 folds, 5 seeds", World(gain=0.25, seeds=5), 5),
)


def cover(world: World, times: int, seed: int = 0, truth: float | None = None) -> dict[str, float]:
    """Shares of `times` experiments: the interval holds the true gain, the recipe is said to help, to hurt."""
    rng, truth = np.random.default_rng(seed), world.truth() if truth is None else truth
    found = [world.measure(rng)[0] for _ in range(times)]
    return {
        "covered": float(np.mean([one.low <= truth <= one.high for one in found])),
        "helps": float(np.mean([one.verdict == HELPS for one in found])),
        "hurts": float(np.mean([one.verdict == HURTS for one in found])),
        "half width": float(np.median([one.half_width() for one in found])),
        "sd": float(np.std([one.better_by for one in found])),
    }


def compare_many(world: World, times: int, recipes: int, good: int = 0, seed: int = 0) -> dict[str, float]:
    """Families of recipes over one base, the first `good` of which bring the gain of the world, the others nothing:
    how often any null recipe is said to help; of all that are, the share of null ones; of good ones, the share that is
    found; and how often intervals hold the true gain, of all and of those that are said to help."""
    rng, truth = np.random.default_rng(seed), world.truth() if good else 0.0
    gains, families = np.where(np.arange(recipes) < good, world.gain, 0.0), []
    for _ in range(times):
        found = world.measure(rng, gains=gains)
        families.append(list(correct(dict(enumerate(found))).values()))
    helps = np.array([[one.verdict == HELPS for one in family] for family in families])
    truths = np.where(gains > 0, truth, 0.0)
    held = np.array([[one.low <= true <= one.high for one, true in zip(family, truths, strict=True)]
                     for family in families])  # fmt: skip
    said = helps.sum(axis=1)
    return {
        "any null helps": float(helps[:, good:].any(axis=1).mean()),
        "false of said": float((helps[:, good:].sum(axis=1) / np.maximum(said, 1)).mean()),
        "found": float(helps[:, :good].mean()) if good else float("nan"),
        "covered": float(held.mean()),
        "covered of said": float(held[helps].mean()) if helps.any() else float("nan"),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--only", default="", help="worlds with this in their name")
    options = parser.parse_args()
    print("| trainings | gain | covered | helps | hurts | half of the interval | true sd x 1.96 |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for name, world in WORLDS.items():
        for gain in (0.0, 0.15) if options.only in name else ():
            one = replace(world, gain=gain)
            truth = one.truth() if gain else 0.0
            found = cover(one, options.times if one.metric != "spearman" else options.times // 5, truth=truth)
            print(f"| {name} | {truth:.4f} | {found['covered']:.1%} | {found['helps']:.1%} | {found['hurts']:.1%} "
                  f"| {found['half width']:.4f} | {1.96 * found['sd']:.4f} |", flush=True)  # fmt: skip
    print(
        "\n| recipes over one base | any null one helps | false ones of those | good ones found | covered | of those |"
    )
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for words, world, good in FAMILIES:
        found = compare_many(world, max(20, options.times // 5), 20, good)
        print(f"| {words} | {' | '.join(f'{value:.1%}' for value in found.values())} |".replace("nan%", ""), flush=True)


if __name__ == "__main__":
    main()
