"""What the shipped recipes bring on small sets: scores against plain training with the same seeds, on the same rows.

`python -m tests.benchmarks.trick_gain measure FOLDER` trains MiniLM with the defaults of 3_train, and with each recipe
of a race, on a few hundred rows of each sample, once per seed, and predicts other rows of train. What is in FOLDER
already is not trained again: it can be stopped and goes on, and several processes can share the work.

`python -m tests.benchmarks.trick_gain table FOLDER [--write]` prints the gains with intervals and verdicts, measured
as by the ledger, and writes them into the tables of tests/benchmarks/README.md and kagglekit/tricks/README.md.
"""

import argparse
import os
import shutil
import textwrap
import time
from pathlib import Path

import numpy as np

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.gains.comparisons import correct, mean_gain, share_noise
from kagglekit.gains.effect import Cells, measure_gain
from kagglekit.gains.gain import HELPS, HURTS, SAME, Gain
from kagglekit.gains.recipes import SHIPPED, apply
from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.benchmarks.page import write_table

BASE = {"max_length": 64, "learning_rate": 1.6e-4, "epochs": 3.0}  # what `suggest_learning_rate` gives for MiniLM
SAMPLES = {"tweets": (300, 600), "drugs": (200, 400), "bbc": (200, 400), "reviews-zh": (200, 400)}  # learned, others
MARKS = "<!-- gains -->\n", "<!-- end of gains -->"
ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tests/benchmarks/README.md", ROOT / "kagglekit/tricks/README.md"


def measure(folder: Path, samples: list[str], seeds: int) -> None:
    """Train what is not in `folder` yet: SAMPLE/RECIPE.SEED.npz with predictions of the other rows, and seconds."""
    for seed in range(seeds):
        for sample in samples:
            learned, others = SAMPLES[sample]
            task, _ = infer(write_sample(sample, folder / "data" / sample, rows=learned + others))
            train, test = read_train(task), read_test(task)[:8]
            inside, outside = np.arange(learned), np.arange(learned, len(train))
            base = {**BASE, "max_length": 48 if sample == "tweets" else 64}
            for name in ("base", *SHIPPED):
                file = folder / sample / f"{name}.{seed}.npz"
                lock = file.with_suffix(".lock")
                file.parent.mkdir(parents=True, exist_ok=True)
                if file.exists():
                    continue
                try:
                    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
                except FileExistsError:  # another process trains it
                    continue
                knobs = base if name == "base" else apply(SHIPPED[name], base)
                place, began = folder / "train" / sample / f"{name}.{seed}", (time.monotonic(), time.process_time())
                try:
                    tuner = FineTuner(task, train, test, find_backbone("minilm"), Recipe(**knobs))
                    fitted = tuner.fit(inside, outside, place, seed)
                except ValueError as error:  # the lock stays: no other process tries it
                    print(f"{sample} {name} does not fit: {error}", flush=True)
                    continue
                seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
                part = file.with_suffix(".part.npz")
                np.savez(part, oof=fitted.oof, truth=tuner.labels[outside], seconds=seconds, cpu=cpu)
                os.replace(part, file)
                shutil.rmtree(place)
                lock.unlink()
                print(f"{sample} seed {seed} {name}: {seconds:.0f} s", flush=True)


def read_cells(folder: Path, sample: str, name: str) -> tuple[Cells, np.ndarray, list[float]]:
    """What a recipe predicts on a sample, as `measure_gain` takes it; the labels; and CPU seconds of each training."""
    files = sorted((folder / sample).glob(f"{name}.[0-9]*.npz"))
    files = [file for file in files if not file.name.endswith(".part.npz")]
    found = {int(file.name.split(".")[-2]): np.load(file) for file in files}
    labels = next(iter(found.values()))["truth"] if found else np.zeros(0)
    return {0: {seed: one["oof"] for seed, one in found.items()}}, labels, [float(one["cpu"]) for one in found.values()]


def measure_gains(folder: Path, samples: list[str]) -> tuple[dict[str, dict[str, Gain]], dict[str, float]]:
    """Recipe -> sample -> gain in the metric of the sample, corrected for all recipes of the sample; the mean over the
    samples as "mean", corrected for all recipes; and recipe -> CPU time of a training as times that of the base."""
    gains, raw, times = {name: {} for name in SHIPPED}, {name: {} for name in SHIPPED}, {name: [] for name in SHIPPED}
    for sample in samples:
        metric = infer(folder / "data" / sample)[0].metric
        base, labels, cost = read_cells(folder, sample, "base")
        recipes = {name: read_cells(folder, sample, name) for name in SHIPPED}
        recipes = {name: one for name, one in recipes.items() if one[0][0]}
        known = metric, labels, np.zeros(len(labels), dtype=int), base
        measured = {name: measure_gain(*known, cells) for name, (cells, *_) in recipes.items()}
        if noise := share_noise(measured.values()):
            measured = {name: measure_gain(*known, cells, noise=noise) for name, (cells, *_) in recipes.items()}
        for name, gain in correct(measured).items():
            gains[name][sample], raw[name][sample] = gain, measured[name]
            times[name].append(np.mean(recipes[name][2]) / np.mean(cost))
    whole = {name: mean_gain(list(each.values())) for name, each in raw.items() if len(each) == len(samples)}
    for name, gain in correct(whole).items():
        gains[name]["mean"] = gain
    return {name: each for name, each in gains.items() if each}, {n: float(np.mean(t)) for n, t in times.items() if t}


def write_cell(gain: Gain | None) -> str:
    """A gain with half of its interval and, where it can be told, the verdict in bold."""
    if gain is None:
        return "-"
    word = {HELPS: " **helps**", HURTS: " **hurts**", SAME: " no difference"}.get(gain.verdict, "")
    span = f" ± {gain.half_width():.3f}" if np.isfinite(gain.half_width()) else ""
    return f"{gain.better_by:+.3f}{span}{word}"


def make_table(folder: Path, samples: list[str]) -> tuple[str, dict[str, dict[str, Gain]]]:
    """The table of gains as markdown, the recipes with the highest means first; and the gains."""
    gains, times = measure_gains(folder, samples)
    metrics = {s: next((each[s].metric for each in gains.values() if s in each), "") for s in samples}
    heads = ["recipe", "what it is", *(f"{s}, {metric}" for s, metric in metrics.items()), "mean", "time"]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(samples) + 2)}"]
    for name in sorted(gains, key=lambda n: -gains[n]["mean"].better_by if "mean" in gains[n] else np.inf):
        cells = [write_cell(gains[name].get(column)) for column in (*samples, "mean")]
        lines.append(f"| {name} | {SHIPPED[name].words} | {' | '.join(cells)} | {times[name]:.1f} |")
    counts = {s: sorted({each[s].seeds for each in gains.values() if s in each}) for s in samples}
    seeds = ", ".join(f"{s} {' to '.join(map(str, dict.fromkeys((some[0], some[-1]))))}" for s, some in counts.items())
    rows = ", ".join(f"{s} {SAMPLES[s][0]} and {SAMPLES[s][1]}" for s in samples)
    words = (
        f"Rows learned and rows predicted: {rows}. Seeds: {seeds}. ±: half of the 95 % interval over rows and seeds, "
        "wider where a claim is corrected for all recipes of the column. No word: cannot tell. mean: of the samples' "
        "own metrics; its interval is for other rows and seeds of these samples, not for other samples. time: CPU "
        "seconds of a training, as times those of the base."
    )
    return "\n".join([*lines, "", textwrap.fill(words, 140)]), gains


def fill_column(page: Path, gains: dict[str, dict[str, Gain]]) -> None:
    """Write the means into the column "measured gain" of a page's tables, for the tricks that a recipe tries alone; and
    below them what they are."""
    seeds = sorted({gain.seeds for each in gains.values() for gain in each.values()})
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    words = (
        f"The gains above are means over {len(SAMPLES)} small samples, {count} seeds each, with half of a 95 % "
        "interval over rows and seeds, in points of each sample's metric; each sample, and recipes that are no trick, "
        "are in [the table](../../tests/benchmarks/README.md#what-tricks-bring). What a trick brings depends on the "
        "data: on yours, `python -m kagglekit ledger work=runs/NAME` says it."
    )
    write_table(textwrap.fill(words, 140), page, MARKS)
    told = {}
    for name, each in gains.items():
        tricks = SHIPPED[name].settings.get("tricks", {})
        if len(tricks) == 1 and "mean" in each:
            ((trick, options),) = tricks.items()
            words = "" if each["mean"].verdict in (HELPS, HURTS, SAME) else ": cannot tell"
            late = ", from half the steps" if options.get("start") else ""
            told[trick] = f"{write_cell(each['mean']).replace('**', '')}{words}{late}"
    lines, place = page.read_text().split("\n"), None
    for number, line in enumerate(lines):
        cells = line.split(" | ")
        if not line.startswith("| ") or "measured gain" in cells:
            place = cells.index("measured gain") if "measured gain" in cells else None
        elif place and cells[0][2:] in told:
            cells[place] = told[cells[0][2:]]
            lines[number] = " | ".join(cells)
    page.write_text("\n".join(lines))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["measure", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="the table into the READMEs too")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES), choices=SAMPLES)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    if options.what == "measure":
        measure(options.folder, options.samples, options.seeds)
        return
    text, gains = make_table(options.folder, options.samples)
    print(text)
    if options.write:
        write_table(text, PAGES[0], MARKS)
        fill_column(PAGES[1], gains)


if __name__ == "__main__":
    main()
