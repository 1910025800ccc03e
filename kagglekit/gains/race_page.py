"""What a race shows: lines in the terminal, a picture of differences with intervals, a table, and a page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kagglekit.gains.arms import Arm
from kagglekit.gains.gain import CANNOT, HELPS, SAME
from kagglekit.gains.standings import AHEAD, PAUSED, RACING, Outcome, Plan, Standing
from kagglekit.reports.page import Section, code, paragraph, picture, table, write_page
from kagglekit.reports.run_settings import write_settings
from kagglekit.show.style import BLUE, GREEN, ORANGE, PALE, make_axes, name_rows, styled

WIDTH, SOFT = 79, "#999999"
WIDEST = 30  # standard errors, from which on half an interval is not shown: hardly anything differs yet
TOGETHER = (
    "The intervals of all recipes hold together, at every look, in 95 % of races; that of the last comparison alone."
)


def sort_standings(outcome: Outcome) -> list[Standing]:
    """Those that were measured, the winner first, then those that race, then the others, each by their gain."""
    known = [one for one in outcome.standings.values() if one.gain is not None]
    return sorted(known, key=lambda one: (one.arm != outcome.winner, one.state not in (RACING, AHEAD), -one.better_by))


def write_gain(one: Standing) -> tuple[str, str]:
    """The gain, and its interval; none where it says nothing yet, in the units of any metric."""
    known = one.gain is not None and one.high - one.low < 2 * WIDEST * one.gain.error
    span = f"{one.low:+.4f} to {one.high:+.4f}" if known else "not known yet"
    return f"{one.better_by:+.4f}", span


def write_lines(outcome: Outcome, arms: Sequence[str] | None = None) -> list[str]:
    """The standings, a line a recipe, of at most 79 columns. arms: only these."""
    rows = [one for one in sort_standings(outcome) if arms is None or one.arm in arms]
    wide = min(24, max([6, *(len(one.arm) for one in rows)]))
    lines = [f"  {'recipe':<{wide}}  {'gain':>7}  {'interval':<18}  cells  state"] if rows else []
    for one in rows:
        gain, span = write_gain(one)
        name = one.arm if len(one.arm) <= wide else f"{one.arm[: wide - 1]}…"
        state = "winner" if one.arm == outcome.winner else one.state
        state += f": {one.why}" if one.why and one.state != PAUSED else ""
        lines.append(f"  {name:<{wide}}  {gain:>7}  {span:<18}  {one.cells:>5}  {state}"[:WIDTH].rstrip())
    return lines


@styled
def draw(outcome: Outcome, metric: str, where: str) -> Figure | None:
    """Differences to the base with their intervals, the best on top; who has stopped in grey; the winner's last
    comparison, on cells that did not choose it, in green. where: on what that was."""
    shown = sort_standings(outcome)
    if not shown:
        return None
    promise = outcome.promise
    names = ([f"{outcome.winner}, again"] if promise else []) + [one.arm for one in shown]
    ax = make_axes(7.5, 1.3 + 0.3 * len(names), grid="x")
    halves = sorted(min((one.high - one.low) / 2, 10 * abs(one.better_by) + 0.01) for one in shown)
    reach = 1.2 * max(max(abs(one.better_by) for one in shown) + halves[len(halves) // 3], 1e-6)
    if promise:
        half = min(promise.half_width(), 10 * reach)
        ax.errorbar([promise.better_by], [0], xerr=[half], fmt="D", color=GREEN, markersize=6, linewidth=2.2)
    for row, one in enumerate(shown, len(names) - len(shown)):
        colour = ORANGE if one.arm == outcome.winner else BLUE if one.state in (RACING, AHEAD) else PALE
        half = min((one.high - one.low) / 2, 10 * reach)
        ax.errorbar([one.better_by], [row], xerr=[half], fmt="o", color=colour, markersize=5, linewidth=1.6)
        if colour == PALE:
            ax.plot([one.better_by], [row], "o", color=SOFT, markersize=5)
    ax.axvline(0, color="#333333", linewidth=1)
    name_rows(ax, names)
    ax.set_xlim(-reach, reach)
    ax.set_xlabel(f"gain in {metric} over the base" + (f"; green: on {where}" if promise else ""))
    return ax.figure


def make_table(outcome: Outcome, arms: Mapping[str, Arm], base: Arm, seconds: Mapping[str, float]) -> pd.DataFrame:
    """A line a recipe: what it changes, its gain and interval, how it stands, and what it costs."""
    rows = []
    for one in sort_standings(outcome):
        arm = arms[one.arm]
        changed = {name: value for name, value in arm.settings.items() if value != base.settings[name]}
        rows.append({
            "recipe": one.arm, "gain": round(one.better_by, 5), "low": round(one.low, 5), "high": round(one.high, 5),
            "state": "winner" if one.arm == outcome.winner else one.state, "why": one.why, "cells": one.cells,
            "seconds a cell": round(seconds.get(one.arm, math.nan), 1), "settings": write_settings(changed),
        })  # fmt: skip
    return pd.DataFrame(rows)


def describe_verdict(outcome: Outcome, metric: str, where: str, paused: int) -> list[str]:
    """What came out, in sentences."""
    winner, promise = outcome.winner, outcome.promise
    if not winner:
        said = ["No recipe is ahead of the base: stay with it."]
    elif promise is None:
        said = [f"{winner} is ahead, and was not scored again: its gain is that of the luckiest of many, so too high."]
    else:
        was, now = promise.scores
        span = f"({promise.low:+.4f} to {promise.high:+.4f})" if math.isfinite(promise.half_width()) else ""
        said = [f"{winner}, on {where}: {metric} {was:.4f} to {now:.4f}, {promise.better_by:+.4f} {span}."]
        said.append({
            HELPS: f"{winner} helps: the interval lies above 0.",
            SAME: f"It makes no difference that matters ({promise.margin:.4f} would): the base does as well.",
            CANNOT: f"Whether it helps cannot be told{f': {promise.advice}' if promise.advice else ''}.",
        }.get(promise.verdict, f"{winner} looked best by luck, and hurts: stay with the base."))  # fmt: skip
    if paused:
        said.append(f"For {paused} recipes there was too little time: a larger budget= goes on with them.")
    return said + [f"{note[0].upper()}{note[1:]}." for note in outcome.notes]


def write_race(
    folder: Path, title: str, outcome: Outcome, facts: Mapping[str, Any], shown: pd.DataFrame, ended: Sequence[str] = ()
) -> Path:
    """Write race.csv, race.png and report.html into the folder of races; returns the path of the page.

    facts: metric, where (the last comparison was), plan, base (in words), left_out, command. ended: the verdict.
    """
    plan: Plan = facts["plan"]
    figure = draw(outcome, facts["metric"], facts["where"])
    shown.to_csv(folder / "race.csv", index=False)
    if figure is not None:
        figure.savefig(folder / "race.png")
    lead = [paragraph(line, "lead") for line in ended or ["The race is under way."]]
    if facts["command"] and ended:
        lead += [paragraph("To train it:"), code(facts["command"], words=True)]
    best = "; ".join(f"{one.arm} {' '.join(write_gain(one))}" for one in sort_standings(outcome)[:5])
    left_out = pd.Series(facts["left_out"], name="why", dtype=object).rename_axis("recipe").to_frame()
    how = [
        f"Base: {facts['base']}. Folds {_list(plan.choosing)} chose, with up to {plan.seeds} seeds; the winner and the "
        f"base were then scored on {facts['where']}.",
        "All recipes have the same folds and seeds, and each is compared with the base on the same rows. Who is surely "
        "behind the base, or behind the leader, stops. Where time is short the better half goes on, and the others are "
        "paused.",
        TOGETHER,
    ]
    sections = [
        Section("Differences", [picture(figure, f"Gains over the base with intervals: {best}", TOGETHER)]),
        Section("Recipes", [table(shown.set_index("recipe"), "The recipes, the winner first")] if len(shown) else []),
        Section("Left out", [table(left_out, "Recipes that were not tried")] if len(left_out) else []),
        Section("How it was decided", [paragraph(text) for text in how]),
    ]
    return write_page(folder / "report.html", title, lead, sections, folder.parent)


def _list(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))


def wrap(text: str, indent: str = "  ") -> list[str]:
    """A sentence in lines of 79 columns."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
