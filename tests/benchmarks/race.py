"""Is a race honest, and is it fast? Simulated races through the real decisions; and cells against runs, side by side.

`python -m tests.benchmarks.race honest --races 40` simulates races of twenty recipes that do nothing, and of one among
them that helps by two standard errors of one run. `python -m tests.benchmarks.race speed --recipes 6` trains two
folds with two seeds of so many shipped recipes on 600 tweets as cells of a race and by `kagglekit run`, and compares
the tables. `real --place FOLDER` races the predictions that `trick_gain measure FOLDER` has made.
"""

import argparse
import contextlib
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

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


def speed(recipes: int, seeds: int, place: Path) -> None:
    """Time recipes by `kagglekit run`, each with two folds, with one thread and with all, and as cells, recipe after
    recipe in turn; and compare the tables with those of one thread."""
    from kagglekit.competition.task import load_task, read_train
    from kagglekit.gains.arms import choose_recipes, make_arms, read_base, training_command
    from kagglekit.gains.cells import CellStore
    from kagglekit.gains.shortlist import fit_recipes
    from kagglekit.gains.standings import Cell
    from kagglekit.runs.record import RunRecord
    from kagglekit.runs.seeds import seed_tables
    from kagglekit.runs.tables import read_folds

    os.environ["HF_HUB_OFFLINE"] = "1"
    work = place / "runs" / "tweets"
    _call("kagglekit.samples", "tweets", str(place / "data"), "--rows", str(ROWS))
    _call("kagglekit.run", "1_eda", f"data={place / 'data'}", f"work={work}")
    task, base = load_task(work), read_base(work, "base", {})
    found, _ = fit_recipes(work, task, base, choose_recipes([]), shipped=True)
    arms = [base, *(arm for arm in make_arms(work, base, found)[0] if arm.settings["backbone"] != "tfidf")][:recipes]
    cores, folds, times = len(os.sched_getaffinity(0)), read_folds(work, read_train(task)["id"]), []
    with CellStore(work, task, folds, [0, 1], cores) as store:
        for number, arm in enumerate(arms):
            words = shlex.split(training_command(work, f"run{number}", arm.settings))
            command = [*words[4:], "folds=0,1", f"seeds={seeds}"]
            cells = [Cell(arm.name, fold, seed) for fold in (0, 1) for seed in range(seeds)]
            one = _time(lambda line=command: _call("kagglekit.run", "3_train", *line, threads="1"))
            all_threads = [f"run=more{number}" if word.startswith("run=") else word for word in command]
            more = _time(lambda line=all_threads: _call("kagglekit.run", "3_train", *line))
            store.add(arm)
            here = _time(lambda batch=cells: print(store.train(batch) or "", end=""))
            tables = seed_tables(RunRecord(work / f"run{number}"))
            same = all(tables[c.fold][c.seed].equals(pd.read_parquet(store.job(c).file)) for c in cells)
            each = sum(store.seconds(cell) for cell in cells) / len(cells)
            times.append((one, more, here))
            print(f"{arm.name}, {len(cells)} cells of {each:.1f} s: run {_write(one)} with one thread, {_write(more)} "
                  f"with {cores}; as cells {_write(here)}; equal tables: {same}", flush=True)  # fmt: skip
    one, more, here = np.sum(times, axis=0)
    ratios = f"{one[0] / here[0]:.2f} and {more[0] / here[0]:.2f} times"
    print(f"all: {_write(one)}, {_write(more)}, {_write(here)}: {ratios}; load {os.getloadavg()[0]:.1f}")


def _write(times) -> str:
    return "{:.1f} s ({:.1f} s CPU)".format(*times)


def _time(action) -> tuple[float, float]:
    """Seconds of the clock, and of CPU in all processes below this one."""
    began, before = time.perf_counter(), _cpu()
    action()
    return time.perf_counter() - began, _cpu() - before


def _cpu() -> float:
    ended, living = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = one.cpu_times()
            living += spent.user + spent.system + spent.children_user + spent.children_system
    return ended.ru_utime + ended.ru_stime + living + time.process_time()


def _call(module: str, *words: str, threads: str = "") -> None:
    """Run a module; threads: of its numerics, empty: all."""
    asked = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in asked}
    environment |= dict.fromkeys(asked, threads) if threads else {}
    subprocess.run([sys.executable, "-m", module, *words], check=True, stdout=subprocess.DEVNULL, env=environment)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["honest", "real", "speed"])
    parser.add_argument("--races", type=int, default=40)
    parser.add_argument("--recipes", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2, help="for speed, of each fold")
    parser.add_argument("--sample", default="tweets", help="for real, of the predictions in --place")
    parser.add_argument("--place", type=Path, help="a folder for data and runs; empty: a temporary one")
    options = parser.parse_args()
    if options.what == "honest":
        return honest(options.races)
    if options.what == "real":
        return real(options.place, options.sample, options.races)
    with tempfile.TemporaryDirectory() as place:
        speed(options.recipes, options.seeds, (options.place or Path(place)).resolve())


if __name__ == "__main__":
    main()
