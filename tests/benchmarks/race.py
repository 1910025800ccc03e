"""Is a race honest, and is it fast? Simulated races through the real decisions; and cells against runs, side by side.

`python -m tests.benchmarks.race honest --races 40` simulates races of twenty recipes that do nothing, and of one among
them that helps by two standard errors of one run. `python -m tests.benchmarks.race speed --recipes 6` trains the same
fold and seed of so many shipped recipes on 600 tweets as cells of a race and by `kagglekit run`, one thread each, and
compares the tables. `real --place FOLDER` races the predictions that `trick_gain measure FOLDER` has made.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.files import fold_folders
from kagglekit.gains.effect import measure_gain
from kagglekit.gains.elimination import Race
from kagglekit.gains.standings import BASE, Plan
from tests.gains.simulated import SCORE, SimulatedRace, nulls

ROWS, ARMS = 600, 20
FIELDS = ("said to help", "true gain in the interval", "half of the interval", "helps and is found")


def simulate(races: int, good: float, interaction: float, budget: float, first: int = 0) -> dict[str, float]:
    """Shares over so many races of ARMS recipes, of which one brings `good` where that is above 0."""
    helps, covered, halves, found = [], [], [], []
    for seed in range(first, first + races):
        gains = nulls(ARMS) if not good else nulls(ARMS - 1) | {"good": good}
        simulated = SimulatedRace(seed, gains, interaction, ROWS, budget=budget)
        outcome = simulated.run()
        promise = outcome.promise
        helps.append(bool(promise) and promise.verdict == "helps")
        found.append(helps[-1] and "good" in outcome.winner)
        if promise:
            covered.append(promise.low <= simulated.truth(outcome.winner) <= promise.high)
            halves.append(promise.half_width())
    return dict(zip(FIELDS, map(np.mean, (helps, covered, halves, found)), strict=True))


def honest(races: int) -> None:
    """Print a line a setting."""
    error = 2 * np.sqrt(SCORE * (1 - SCORE) / ROWS)
    cases = {
        "20 that do nothing": (0.0, 0.0, 1e9),
        "20 that change rows, and nothing on average": (0.0, 0.3, 1e9),
        f"one brings {error:.3f}": (error, 0.0, 1e9),
        "the same, rows are changed": (error, 0.3, 1e9),
        "the same, time for half of the cells": (error, 0.3, 100.0),
    }
    for name, case in cases.items():
        began, found = time.perf_counter(), simulate(races, *case)
        shown = ", ".join(f"{what} {value:.3f}" for what, value in found.items())
        print(f"{name} ({races} races, {time.perf_counter() - began:.0f} s): {shown}", flush=True)


def real(folder: Path, sample: str, splits: int) -> None:
    """Races of the predictions that `trick_gain measure` has made, on rows drawn at random; the rest is the test.

    Half of the seeds choose, the others confirm. The promise lies in the interval of the gain on the test rows, or not.
    """
    made = [(name, np.load(name)) for name in sorted((folder / sample).glob("*.npz")) if ".part" not in name.name]
    cells = {tuple(name.name.split(".")[:2]): one["oof"] for name, one in made}
    truth, count = made[0][1]["truth"], min(Counter(arm for arm, _ in cells).values()) // 2
    arms = [arm for arm in dict.fromkeys(arm for arm, _ in cells) if arm != BASE]
    inside, said = [], Counter()
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(truth))
        test, learned = np.split(order, [len(truth) // 3])
        folds = np.arange(len(learned)) % 5
        plan = Plan((0, 1), (2, 3, 4), count, 1e9)
        outcome = Race(
            arms, plan, "accuracy", truth[learned], folds, lambda batch: {},
            lambda cell, at=learned, fold=folds: cells[cell.arm, str(cell.seed)][at[fold == cell.fold]],
            lambda cell: 1.0, draws=200,
        ).run()  # fmt: skip
        if outcome.promise is None:
            said["nobody ahead"] += 1
            continue
        sides = [
            {0: {seed: cells[arm, str(seed)][test] for seed in range(2 * count)}} for arm in (BASE, outcome.winner)
        ]
        gain = measure_gain("accuracy", truth[test], np.zeros(len(test), int), *sides)
        inside.append(gain.low <= outcome.promise.better_by <= gain.high)
        said[outcome.promise.verdict] += 1
    print(f"{sample}, {len(arms)} recipes, {splits} splits: {dict(said)}; the promise in the interval of the test in "
          f"{sum(inside)} of {len(inside)}")  # fmt: skip


def speed(recipes: int, place: Path) -> None:
    """Time the same cells in a race and by `kagglekit run`, in turn, and compare their tables."""
    from kagglekit.competition.task import load_task
    from kagglekit.gains.arms import choose_recipes, make_arms, read_base, training_command
    from kagglekit.gains.cells import Job, train_cell
    from kagglekit.gains.shortlist import fit_recipes
    from kagglekit.gains.standings import Cell

    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    work = place / "runs" / "tweets"
    _call("kagglekit.samples", "tweets", str(place / "data"), "--rows", str(ROWS))
    _call("kagglekit.run", "1_eda", f"data={place / 'data'}", f"work={work}")
    base = read_base(work, "base", {})
    found, _ = fit_recipes(work, load_task(work), base, choose_recipes([]), shipped=True)
    arms = [base, *(arm for arm in make_arms(work, base, found)[0] if arm.settings["backbone"] != "tfidf")][:recipes]
    ratios = []
    for number, arm in enumerate(arms):
        began = time.perf_counter()
        words = training_command(work, f"run{number}", arm.settings).split()  # no value has a space
        command = [word.strip("'") for word in words[4:]]
        _call("kagglekit.run", "3_train", *command, "folds=0")
        run = time.perf_counter() - began
        job = Job(Cell(arm.name, 0, 0), work, json.dumps(arm.settings), place / f"cell{number}", (0,))
        began = time.perf_counter()
        if why := train_cell(job):
            raise ValueError(why)
        cell = time.perf_counter() - began
        there = fold_folders(work / f"run{number}")[0] / "oof.parquet"
        same = pd.read_parquet(there).equals(pd.read_parquet(job.file))
        ratios.append(run / cell)
        print(
            f"{arm.name}: run {run:.1f} s, cell {cell:.1f} s, {ratios[-1]:.2f} times, equal tables: {same}", flush=True
        )
    print(
        f"median {np.median(ratios):.2f} times, {min(ratios):.2f} to {max(ratios):.2f}, before a race trains one a core"
    )


def _call(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", module, *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["honest", "real", "speed"])
    parser.add_argument("--races", type=int, default=40)
    parser.add_argument("--recipes", type=int, default=6)
    parser.add_argument("--sample", default="tweets", help="for real, of the predictions in --place")
    parser.add_argument("--place", type=Path, help="a folder for data and runs; empty: a temporary one")
    options = parser.parse_args()
    if options.what == "honest":
        return honest(options.races)
    if options.what == "real":
        return real(options.place, options.sample, options.races)
    with tempfile.TemporaryDirectory() as place:
        speed(options.recipes, (options.place or Path(place)).resolve())


if __name__ == "__main__":
    main()
