"""The ledger of a work folder: what each recipe brings over a base, how sure that is, and what it costs.

    kagglekit ledger work=runs/bbc base=base [runs=fgm,ema] [margin=0.002] [--html]

Runs whose settings differ in their seed alone count as one recipe with several seeds. How a gain is measured says
`kagglekit.gains.effect`; of many recipes, false claims are held down as in `kagglekit.gains.comparisons`. The cells of
a race are no runs, and are not read: their table is WORK/race/race.csv.
"""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kagglekit.ensembling.base_predictions import training_command
from kagglekit.files import resolve, shorten
from kagglekit.files.writing import replacing
from kagglekit.gains.comparisons import correct, share_noise
from kagglekit.gains.effect import measure_gain
from kagglekit.gains.gain import CANNOT, HELPS, HURTS, SAME, Gain
from kagglekit.gains.replicates import SEEDS, Comparable, Replicates, read_recipes
from kagglekit.options import check_range
from kagglekit.progress import clock
from kagglekit.reports.overview import write_score
from kagglekit.reports.page import Section, listing, paragraph, table, write_page
from kagglekit.reports.run_settings import find_differences, find_learner, write_settings
from kagglekit.reports.summary import WIDTH
from kagglekit.running.arguments import read_arguments
from kagglekit.running.command_line import Parser, program

ORDER = (HELPS, CANNOT, SAME, HURTS)
SHORT = {SAME: "no difference"}  # in a table
NAME = 22  # columns of a recipe's name at most
TAKES = ("work", "base", "runs", "margin")
LEGEND = (
    "cells: folds x seeds; time, memory: of one training, as times those of the base. How many seeds or rows would "
    "tell holds if the gain is what it looks like now."
)
FRESH = 500  # added to the seed of a run that is scored anew


@dataclass
class Entry:
    """A line of the ledger: a recipe, the settings by which it differs from the base, and its gain."""

    recipe: Replicates
    settings: str
    gain: Gain


@dataclass
class Ledger:
    """The lines of a ledger, the likeliest to help first; and what was read for it."""

    read: Comparable
    entries: list[Entry]

    @property
    def work(self) -> Path:
        return self.read.base.records[0].work

    def row(self, entry: Entry) -> dict[str, object]:
        """A line as the file has it."""
        gain, recipe, base = entry.gain, entry.recipe, self.read.base
        return {
            "recipe": recipe.name, "runs": " ".join(recipe.names), "settings": entry.settings,
            "verdict": gain.verdict, "gain": gain.better_by, "low": gain.low, "high": gain.high, "level": gain.level,
            "p": gain.p, "advice": gain.advice, "margin": gain.margin, "metric": gain.metric,
            "score of the base": gain.scores[0], "score": gain.scores[1], "folds": gain.folds, "seeds": gain.seeds,
            "rows": gain.rows, "seconds": recipe.seconds, "bytes": recipe.memory, "base": base.name,
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    usage = f"{program('ledger')} work=WORK [base=RUN] [runs=A,B] [margin=M]"
    parser = Parser(program("ledger"), usage=usage, description=__doc__.split("\n")[0])
    parser.takes = "name=value"
    words = "work folder; base=RUN: what runs are compared with; runs=A,B: those alone; margin=: what does not matter"
    parser.add_argument("parameters", nargs="*", metavar="name=value", help=words)
    parser.add_argument("--html", nargs="?", const="", metavar="FILE", help="write a page too: WORK/ledger.html")
    options = parser.parse_intermixed_args(arguments)
    try:
        given = read_arguments(options.parameters)
        for name in given:
            check_range("ledger", name, name in TAKES, f"asked with {', '.join(f'{one}=' for one in TAKES)}")
        if "work" not in given:
            raise ValueError(f"in which work folder? {usage}")
        margin = given.get("margin")
        fits = margin is None or re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?", margin)
        check_range("margin", margin, fits, "a number from 0, in units of the metric, such as 0.002")
        runs = [name.strip() for name in given.get("runs", "").split(",") if name.strip()]
        found = make_ledger(given["work"], given.get("base", ""), runs, None if margin is None else float(margin))
        print("\n".join(write_text(found)))
        print(f"written: {shorten(write_csv(found))}")
        if options.html is not None:
            print(f"written: {shorten(write_html(found, Path(options.html or found.work / 'ledger.html')))}")
        return 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def make_ledger(work: str | Path, base: str = "", runs: list[str] | None = None, margin: float | None = None) -> Ledger:
    """Measure the gain of every recipe of a work folder over a base. Raises as `read_recipes`."""
    read = read_recipes(resolve(work), base, runs or [])
    known = read.task.metric, read.labels, read.folds, read.base.cells

    def measure(**more) -> dict[str, Gain]:
        return {one.name: measure_gain(*known, one.cells, read.groups, margin, **more) for one in read.recipes}

    gains = measure()
    if noise := share_noise(gains.values()):
        gains = measure(noise=noise)
    gains = correct(gains)
    first = read.base.records[0].recipe
    entries = []
    for one in read.recipes:
        own = one.records[0].recipe
        differ = find_differences(own, first if find_learner(own) == find_learner(first) else {})
        settings = write_settings(_without_seed(differ))
        entries.append(Entry(one, settings or "other inputs, such as weights or files", gains[one.name]))
    entries.sort(key=lambda entry: (ORDER.index(entry.gain.verdict), -entry.gain.better_by))
    return Ledger(read, entries)


def _without_seed(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in SEEDS}


def _figures(found: Ledger) -> list[tuple[str, ...]]:
    """The cells of the table: recipe, gain, interval, folds x seeds, time and memory as times those of the base."""
    base, rows = found.read.base, []
    for entry in found.entries:
        gain, recipe = entry.gain, entry.recipe
        times = [
            f"{own / of:.{1 if own > of / 10 else 2}f}x" if own and of else "-"
            for own, of in ((recipe.seconds, base.seconds), (recipe.memory, base.memory))
        ]
        known = gain.half_width() < float("inf")
        span = f"{gain.low:+.4f} to {gain.high:+.4f}" if known else "none"
        word = SHORT.get(gain.verdict, gain.verdict)
        rows.append((recipe.name, f"{gain.better_by:+.4f}", span, f"{gain.folds} x {gain.seeds}", *times, word))
    return rows


def write_lead(found: Ledger) -> list[str]:
    """What is compared, in sentences."""
    base, task = found.read.base, found.read.task
    seeds = sorted({seed for each in base.cells.values() for seed in each})
    runs = f" ({', '.join(base.names)})" if len(base.names) > 1 else ""
    cost = f", {clock(base.seconds)} a training" if base.seconds else ""
    cost += f", {base.memory / 2**30:.1f} GiB" if base.memory else ""
    words = write_settings(_without_seed(find_differences(base.records[0].recipe, {}))) or "the defaults"
    lead = [
        f"{task.metric} of single trainings over {base.name}{runs}: {words}; {len(base.cells)} "
        f"fold{'s' * (len(base.cells) > 1)}, {len(seeds)} seed{'s' * (len(seeds) > 1)}{cost}."
    ]
    if found.entries:
        scores, margins = (
            [write_score(one) for one in sorted(values)]
            for values in zip(*((entry.gain.scores[0], entry.gain.margin) for entry in found.entries), strict=True)
        )
        score, margin = (" to ".join(dict.fromkeys([ends[0], ends[-1]])) for ends in (scores, margins))
        lead.append(f"Its score: {score}. Above 0: the recipe is better. No difference that matters: inside ±{margin}.")
    return lead


def write_notes(found: Ledger) -> list[str]:
    """What stands below the table: how it is to be read, and what to do next."""
    entries, notes = found.entries, []
    if any(not entry.gain.knows_seeds and not entry.gain.reason for entry in entries):
        more = "train the base and the recipes with seeds=3"
        notes.append(f"Intervals of single seeds leave out what another seed changes: {more}.")
    claimed = [entry.gain for entry in entries if entry.gain.verdict in (HELPS, HURTS)]
    if claimed and len(entries) > 1:
        level = claimed[0].level
        notes.append(
            f"At most a twentieth of what is said to help or hurt is so by chance: of {len(entries)} recipes, "
            f"{len(claimed)} are; intervals hold 95 %{f', of those {100 * level:.1f} %' if level > 0.95 else ''}."
        )
    best = next((entry for entry in entries if entry.gain.verdict == HELPS), None)
    if best and len(entries) > 1:
        notes.append(
            f"{best.recipe.name} is the best of {len(entries)}, and so looks better than it is. Score both again on "
            "seeds that did not choose it:"
        )
        fresh = [_again(one) for one in (found.read.base, best.recipe)]
        notes += [f"  {command}" for _, command in fresh]
        (base, _), (recipe, _) = fresh
        where = shlex.quote(f"work={shorten(found.work)}")
        notes.append(f"  {program('ledger')} {where} base={base} runs={recipe}")
    return notes


def _again(recipe: Replicates) -> tuple[str, str]:
    """A name for a run of a recipe with fresh seeds, and the command that trains it."""
    used = {seed for each in recipe.cells.values() for seed in each}
    seed = next(seed for seed in range(FRESH, 10**6, 10) if not used & {seed + 1000 * number for number in range(3)})
    words = shlex.split(training_command(recipe.records[0]))  # a value may have spaces, and words such as seed in it
    name = f"{recipe.name}-again"
    own = [word for word in words if not word.startswith(("seed=", "seeds=", "run="))]
    return name, shlex.join([*own, f"run={name}", f"seed={seed}", "seeds=3"])


def write_text(found: Ledger) -> list[str]:
    """The ledger in lines of at most 80 columns."""
    lines = textwrap.wrap(" ".join(write_lead(found)), WIDTH)
    heads = ("recipe", "gain", "interval", "cells", "time", "memory", "verdict")
    cells = [heads, *_figures(found)] if found.entries else []
    sizes = [max((len(line[k]) for line in cells), default=0) for k in range(len(heads))]
    sizes[0] = min(sizes[0], WIDTH - sum(sizes[1:]) - 2 * (len(sizes) - 1), NAME)
    for number, (name, *figures) in enumerate(cells):
        aligned = zip(
            figures, sizes[1:], (str.rjust, str.ljust, str.ljust, str.rjust, str.rjust, str.ljust), strict=True
        )
        line = "  ".join([name.ljust(sizes[0]), *(align(text, size) for text, size, align in aligned)])
        if len(name) > sizes[0]:
            lines, line = [*lines, name], "  ".join([" " * sizes[0], line[len(name) + 2 :]])
        lines += [""] * (number == 0) + [line.rstrip()]
        if number:
            entry = found.entries[number - 1]
            for words in (entry.settings, *_about(entry)):
                lines += textwrap.wrap(words, WIDTH - 2, initial_indent="  ", subsequent_indent="    ",
                                       break_on_hyphens=False)  # fmt: skip
    if found.entries:
        lines += ["", *textwrap.wrap(LEGEND, WIDTH)]
    else:
        lines += ["", "There is no other recipe to compare it with yet."]
    for name, why in found.read.left_out.items():
        lines += ["", "not compared"] * (name == next(iter(found.read.left_out)))
        lines += textwrap.wrap(f"{name}: {why}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    notes = write_notes(found)
    lines += [""] * bool(notes)
    for note in notes:  # a command stays one line, to be copied
        lines += [note] if note.startswith("  ") else textwrap.wrap(note, WIDTH)
    return lines


def _about(entry: Entry) -> list[str]:
    """What is said of a recipe below its line: other runs of it, what would tell, and notes."""
    more = [f"{entry.gain.verdict}: {entry.gain.advice}"] if entry.gain.verdict == CANNOT and entry.gain.advice else []
    runs = [f"seeds of {', '.join(entry.recipe.names)}"] if len(entry.recipe.names) > 1 else []
    return [*runs, *entry.recipe.notes, *more]


def write_csv(found: Ledger) -> Path:
    """The ledger as `ledger.csv` in its work folder, whole or not at all; returns its path."""
    path = found.work / "ledger.csv"
    frame = pd.DataFrame([found.row(entry) for entry in found.entries]).round(6)
    with replacing(path) as part:
        frame.replace([float("inf"), float("-inf")], None).to_csv(part, index=False)
    return path


def write_html(found: Ledger, path: Path) -> Path:
    """The ledger as a page; returns its path."""
    names = ("recipe", "gain", "interval", "folds x seeds", "time", "memory", "verdict")
    rows = [
        (*figures[:-1], entry.gain.verdict, entry.settings, "; ".join(_about(entry)))
        for figures, entry in zip(_figures(found), found.entries, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=[*names, "settings", "what would tell"]).set_index("recipe")
    left = [f"{name}: {why}" for name, why in found.read.left_out.items()]
    sections = [
        Section(
            "Recipes", [table(frame, "Gains over the base; time and memory as times those of the base")] if rows else []
        ),
        Section("Not compared", [listing(left)] * bool(left)),
        Section("How to read it", [paragraph(note.strip()) for note in write_notes(found)]),
    ]
    title = f"{found.work.name}: what helps"
    return write_page(path, title, [paragraph(" ".join(write_lead(found)))], sections, found.work, found.read.task.data)
