"""Runs side by side: settings that differ, scores, paired differences, folds, classes, and rows that they disagree on.

    kagglekit compare base fgm work=runs/bbc [--html]
    kagglekit compare runs/bbc/base runs/old/base

The first run is the one that the others are compared with. With --html it is a page, with curves over the steps.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kagglekit.files import shorten
from kagglekit.reports.overview import read_overview, write_score
from kagglekit.reports.page import Section, listing, paragraph, picture, table, text_rows, write_page
from kagglekit.reports.paired import Paired, pair, place_of
from kagglekit.reports.run_settings import as_given, default_settings, describe_settings, write_value
from kagglekit.reports.summary import WIDTH
from kagglekit.running.command_line import Parser, program
from kagglekit.runs.record import RunRecord
from kagglekit.show import curves, plots

SEVERAL, FIRST = 3, 30  # runs side by side in the text, and the width of its first column at most
PARTS = 12  # classes or labels in the text: those that differ most
NO_SEEDS = (
    "The intervals are for other rows of the same sort; what another seed would change is not in them: "
    "`kagglekit ledger` counts it."
)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    usage = f"{program('compare')} RUN RUN ... work=runs/NAME [--html [FILE]]"
    parser = Parser(program("compare"), usage=usage, description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help="names of runs, and work=FOLDER; or paths of runs")
    parser.add_argument("--html", nargs="?", const="", metavar="FILE", help="write a page: WORK/compare.RUN.RUN.html")
    options = parser.parse_args(arguments)
    works = [text.removeprefix("work=") for text in options.runs if text.startswith("work=")]
    names = [text for text in options.runs if not text.startswith("work=")]
    try:
        if len(works) > 1 or [name for name in names if "=" in name]:
            raise ValueError(f"names of runs and one work=: {usage}")
        found = pair(names, works[0] if works else None)
        records = [RunRecord(place / run) for place, run in (place_of(name, *(works or [None])) for name in names)]
        if options.html is None:
            print("\n".join(write_text(found, records)))
            return 0
        name = f"compare.{'.'.join(record.name for record in records)}"[:120]
        print(f"written: {shorten(write_html(found, records, Path(options.html or records[0].work / f'{name}.html')))}")
        return 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def tell_rows(found: Paired) -> str:
    """Which rows are compared, in one sentence."""
    folds = ", ".join(map(str, found.folds.index))
    units = f", drawn in {found.groups:,} groups" if found.groups < found.rows else ""
    text = f"{found.rows:,} rows of fold{'s' * (len(found.folds) > 1)} {folds}{units}"
    return f"{text}; left out, as not all runs have them: folds {'; '.join(found.left_out)}" if found.left_out else text


def compare_settings(records: Sequence[RunRecord], names: Sequence[str]) -> pd.DataFrame:
    """The settings that differ, a line each and a column per run; - where its learner does not read them."""
    known = [as_given(record.recipe) for record in records]
    table = {"made by": [describe_settings(one, []) if one.members else "training" for one in records]}
    for name in dict.fromkeys(key for recipe in known for key in recipe):
        values = [recipe.get(name, ...) for recipe in known]
        there = [value for value in values if value is not ...]
        default = default_settings(next(recipe for recipe in known if name in recipe)).get(name)
        if any(value != there[0] for value in there) or (len(there) < len(values) and there[0] != default):
            table[name] = ["-" if value is ... else write_value(value) or '""' for value in values]
    if not any(record.members for record in records):
        table.pop("made by")
    return pd.DataFrame.from_dict(table, orient="index", columns=list(names)).rename_axis("setting")


def tell_seeds(records: Sequence[RunRecord]) -> str:
    """How far seeds count, in words: of how many each run is the mean, where any has several."""
    counts = {record.name: max(record.seeds.values(), default=1) for record in records}
    if max(counts.values()) == 1:
        return NO_SEEDS
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    unequal = " A mean of more seeds is mostly better for that alone: train both with as many." * (
        len(set(counts.values())) > 1
    )
    return f"Seeds whose mean is compared: {each}.{unequal} {NO_SEEDS}"


def find_times(records: Sequence[RunRecord]) -> list[str]:
    """How long each run took, as the overview of its work folder says."""
    views = {work: read_overview(work) for work in {record.work for record in records}}
    rows = [views[record.work].row(record.name) for record in records]
    return [row.time if row else "-" for row in rows]


def write_text(found: Paired, records: Sequence[RunRecord]) -> list[str]:
    """The comparison in lines of at most 80 columns."""
    metric, scores = found.task.metric, found.scores
    lines = [*textwrap.wrap(f"{metric}: {tell_rows(found)}", WIDTH), ""]
    figures = {metric: [f"{write_score(row.score)} ± {write_score(row.standard_error)}" for row in scores.itertuples()]}
    figures["time"] = find_times(records)
    lines += _grid(pd.DataFrame.from_dict(figures, orient="index", columns=found.names), "run")
    for one in found.differences:
        lines += ["", *textwrap.wrap(str(one), WIDTH, subsequent_indent="  ")]
    lines += textwrap.wrap(tell_seeds(records), WIDTH)
    settings = compare_settings(records, found.names)
    lines += ["", *(_grid(settings, "setting") if len(settings) else ["no settings differ"])]
    lines += ["", *_grid(found.folds.map(write_score), "fold")]
    parts = found.parts
    if len(parts) > PARTS:
        lines += ["", f"the {PARTS} of {len(parts)} that differ most"]
        parts = parts.loc[(parts.max(axis=1) - parts.min(axis=1)).nlargest(PARTS).index]
    lines += [""] * (len(parts) == len(found.parts)) + _grid(parts.map(write_score), parts.columns.name)
    if len(found.disagreements):
        lines += ["", "rows on which they disagree most"]
    for row in found.disagreements.to_dict("records"):
        text, head = row.pop("text"), f"{row.pop('id')}  true {row.pop('true')}"
        said = "; ".join([head, *(f"{name} {value}" for name, value in row.items())])
        lines += [
            *textwrap.wrap(said, WIDTH, subsequent_indent="  "),
            *textwrap.wrap(text, WIDTH, max_lines=1, initial_indent="  ", placeholder=" ..."),
        ]
    return lines


def _grid(frame: pd.DataFrame, name: str) -> list[str]:
    """A table of texts, some columns at a time, long cells on several lines."""
    lines, first = [], min(max(14, *(len(str(label)) for label in frame.index)) + 2, FIRST)
    for start in range(0, frame.shape[1], SEVERAL):
        some = frame.iloc[:, start : start + SEVERAL]
        wide = (WIDTH - first) // some.shape[1] - 2
        for label, *cells in [(name, *some.columns), *some.itertuples()]:
            columns = [textwrap.wrap(str(cell), wide) or [""] for cell in cells]
            head = textwrap.wrap(str(label), first - 1) or [""]
            for k in range(max(map(len, [head, *columns]))):
                parts = [f"{(column[k] if k < len(column) else ''):<{wide + 2}}" for column in columns]
                lines.append(f"{(head[k] if k < len(head) else ''):<{first}}{''.join(parts)}".rstrip())
    return lines


def draw_curves(records: Sequence[RunRecord], metric: str) -> Figure | None:
    """Loss and score over the steps, a line per run: the mean over its folds; None where no run has steps."""
    tables = []
    for record in records:
        history = record.history
        shown = [name for name in ("loss", "score") if name in history and history[name].notna().any()]
        if len(history) and shown:
            tables.append(history.groupby("step")[shown].mean().reset_index().assign(run=record.name))
    return curves.learning_curves(pd.concat(tables), metric, by="run") if tables else None


def show_curves(records: Sequence[RunRecord], metric: str) -> list[str]:
    """The curves of `draw_curves` as a picture with words; nothing where there are none."""
    figure = draw_curves(records, metric)
    names = ", ".join(record.name for record in records)
    words = f"Training loss and validation {metric} over the steps, the mean over the folds: {names}"
    return (
        [picture(figure, words, "Mean over the folds of each run; runs without steps have no line.")] if figure else []
    )


def write_html(found: Paired, records: Sequence[RunRecord], path: Path) -> Path:
    """The comparison as a page; returns its path."""
    metric, several = found.task.metric, found.scores
    verdicts = [str(one) for one in found.differences]
    figures = several.rename(columns={"standard_error": "standard error"}).rename_axis("run")
    figures["time"] = find_times(records)
    worded = ", ".join(f"{name} {write_score(row.score)}" for name, row in several.iterrows())
    sections = [
        Section("Scores", [
            table(figures, f"Out-of-fold {metric} on the same rows"),
            picture(plots.run_scores(several, metric), f"Out-of-fold {metric}, best on top: {worded}"),
            paragraph(tell_seeds(records), "soft"),
        ]),
        Section("Settings", [table(compare_settings(records, found.names), "Settings that differ")]),
        Section("Curves", show_curves(records, metric)),
        Section("By fold", [table(found.folds, f"{metric} of each fold")]),
        Section("By class" if found.task.classes else "By column", [table(found.parts, found.parts.columns.name)]),
        Section("Disagreements", [
            paragraph("Rows whose losses differ most between the runs."), text_rows(found.disagreements),
        ]),
    ]  # fmt: skip
    if not len(compare_settings(records, found.names)):
        sections[1].parts = [paragraph("No settings differ.")]
    lead = [paragraph(tell_rows(found)), listing(verdicts)]
    return write_page(
        path,
        f"{', '.join(found.names[:-1])} and {found.names[-1]}, side by side",
        lead,
        sections,
        records[0].work,
        found.task.data,
    )
