"""A race under way: its arms, its cells, the state that a killed one goes on from, and what the terminal shows."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kagglekit.competition.task import encode_labels, load_task, read_train
from kagglekit.files import read_json, shorten, write_json
from kagglekit.gains.arms import Arm, combine, describe_nothing, free_name, make_arms, training_command
from kagglekit.gains.cells import FOLDER, CellStore, count_cells
from kagglekit.gains.elimination import Race
from kagglekit.gains.race_page import describe_verdict, make_table, wrap, write_lines, write_race
from kagglekit.gains.race_run import SHARE, RaceRun
from kagglekit.gains.shortlist import fit_recipes
from kagglekit.gains.standings import BASE, PAUSED, Cell, Outcome, Plan, TooShort
from kagglekit.progress import clock, conclude
from kagglekit.progress.line import Line, compose
from kagglekit.runs.tables import choose_folds, read_folds

MOST = 3  # recipes named for one reason


class Racing:
    """A race of recipes in a work folder, see `kagglekit.gains.race`; elsewhere: on a cluster, see `RayCells`. Raises
    ValueError where there is nothing to race."""

    def __init__(self, work: Path, asked: RaceRun, base: Arm, recipes: dict, elsewhere=None):
        self.work, self.asked, self.base, self.folder, self.elsewhere = work, asked, base, work / FOLDER, elsewhere
        self.task = load_task(work)
        train = read_train(self.task)
        self.labels, self.table = encode_labels(self.task, train), read_folds(work, train["id"])
        found, self.left_out = fit_recipes(work, self.task, base, recipes, shipped=not asked.recipes)
        arms, more = make_arms(work, base, found)
        self.left_out |= more
        if not arms:
            raise ValueError(describe_nothing(self.left_out))
        self.arms = {BASE: base} | {arm.name: arm for arm in arms}
        everything = choose_folds(self.table, [])
        count = max(1, math.floor(SHARE * len(everything)))
        choosing = choose_folds(self.table, asked.folds) if asked.folds else everything[:count]
        confirming = [fold for fold in everything if fold not in choosing]
        at_once = elsewhere.at_once if elsewhere else asked.at_once or count_cells(base.settings["backbone"])
        self.plan = Plan(tuple(choosing), tuple(confirming), asked.seeds, asked.seconds, at_once, asked.margin)
        self.where = self._describe_last()
        self.line, self.began, self.batch, self.race = Line(), time.monotonic(), (0, []), None
        self.command, self.gone = "", set()
        if elsewhere:
            elsewhere.say = self._say

    def _describe_last(self) -> str:
        """Where the last comparison is."""
        folds = self.plan.confirming or self.plan.choosing
        named = f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"
        return f"{named} and other seeds" if self.plan.confirming else f"other seeds of {named}, which chose it too"

    def run(self) -> Outcome:
        """Race to the end, show it, and say what came out."""
        everything = sorted({*self.plan.choosing, *self.plan.confirming})
        self._introduce()
        where = self.task, self.table, everything, self.plan.at_once
        with CellStore(self.work, *where, self._show, self.elsewhere) as self.cells:
            for arm in self.arms.values():
                self.cells.add(arm)
            state, before = self._begin()
            self.race = race = Race(
                [name for name in self.arms if name != BASE], self.plan, self.task.metric, self.labels,
                self.table["fold"].to_numpy(), self._train, self.cells.predict, self.cells.seconds,
                self.table["group"].to_numpy(), lambda cell: self._key(cell) in before, self._combine, self._tell,
            )  # fmt: skip
            try:
                outcome = race.run()
            except TooShort as short:
                raise ValueError(self._describe_short(short)) from None
            finally:
                self.line.show("") if sys.stderr.isatty() else None
        self._end(outcome)
        write_json(self.folder / "race.json", state | {"finished": True})
        return outcome

    # the state

    def _key(self, cell: Cell) -> str:
        return f"{self.cells.places[cell.arm].name}/fold{cell.fold}/seed{cell.seed}"

    def _begin(self) -> tuple[dict[str, Any], set[str]]:
        """The state of this race: of one that was stopped the same again, else a new one, for which the cells that are
        there cost nothing."""
        plan = self.plan
        asked = {"arms": {name: place.name for name, place in self.cells.places.items()}, "folds": list(plan.choosing)}
        asked |= {"seeds": plan.seeds, "budget": plan.budget, "margin": plan.margin, "at_once": plan.at_once}
        file = self.folder / "race.json"
        state = read_json(file) if file.is_file() else {}
        if state.get("asked") != asked or state["finished"]:
            there = sorted(self.folder.glob("*/fold*/seed*/oof.parquet"))
            before = [str(path.parent.relative_to(self.folder)) for path in there]
            state = {"asked": asked, "before": before, "finished": False}
            write_json(file, state)
        return state, set(state["before"])

    def _train(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Train cells, and tell which arms cannot be."""
        failed = self.cells.train(cells)
        for arm, why in failed.items():
            self.left_out[arm] = why
            self._say(f"left out: {arm}: {why}")
        return failed

    def _combine(self, first: str, second: str) -> str:
        """The name of an arm with both; "" where they do not go together, which is told."""
        try:
            arm = combine(self.work, self.base, self.arms[first], self.arms[second])
        except (ValueError, FileNotFoundError) as error:
            self.left_out[f"{first}+{second}"] = str(error).removeprefix("3_train: ")
            return ""
        self.arms[arm.name] = arm
        self.cells.add(arm)
        return arm.name

    # what is shown

    def _introduce(self) -> None:
        plan, count = self.plan, len(self.arms) - 1
        print("\n".join(wrap(f"{count} recipe{'s' * (count > 1)} against {self.base.words}, {self.task.metric}")))
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            listed = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
            print("\n".join(wrap(f"  left out: {listed}: {why}", "    ")))
        side = f"{plan.at_once} cells at once, " if plan.at_once > 1 and not self.elsewhere else ""
        several = len(plan.choosing) > 1
        text = f"  fold{'s' * several} {', '.join(map(str, plan.choosing))} choose{'s' * (not several)}, up to "
        text += f"{plan.seeds} seed{'s' * (plan.seeds > 1)}; {side}{clock(plan.budget)} at most"
        lines = [text, f"  {self.elsewhere}"] if self.elsewhere else [text]
        print("\n".join(line for one in lines for line in wrap(one, "    ")), flush=True)

    def _say(self, words: str) -> None:
        """Print what is worth knowing above the moving line."""
        if sys.stderr.isatty():
            self.line.show("")
        print("\n".join(wrap(f"  {words}", "    ")), flush=True)

    def _show(self, number: int | None, cells: Sequence[Cell] | None) -> None:
        """The moving line. number: cells of this batch that are trained; None: as before."""
        if cells is not None:
            if number == 0:
                self.batch_began = time.monotonic()
            self.batch = (number, cells)
        number, cells = self.batch
        if not sys.stderr.isatty() or not cells or self.race is None:
            return
        done = len(self.race.trained) + number
        state = {
            "phase": f"race, {cells[min(number, len(cells) - 1)]}",
            "figures": [],
            "ends": self._ends(number, cells),
        }
        self.line.show(compose(state | {"at": f"cell {done + 1}"}, width=self.line.width()))

    def _ends(self, number: int, cells: Sequence[Cell]) -> float | None:
        """When the race ends if nobody stops, at the latest when its time is over; in seconds since 1970."""
        if not self.race.trained:
            return None
        inside = self.race.estimate(cells[number:])
        if number:
            rate = (time.monotonic() - self.batch_began) / max(1e-9, self.race.estimate(cells[:number]))
            inside *= 0.5 + rate / 2
        later = self.race.later(len(cells))
        left = self.plan.budget - self.race.spent - self.race.estimate(cells[:number])
        return time.time() + max(0.0, min(inside + later, left))

    def _tell(self, words: str, outcome: Outcome) -> None:
        """After a look: those that race, and those that stopped at it."""
        stopped = {one.arm for one in outcome.standings.values() if one.why}
        new = [one.arm for one in outcome.standings.values() if one.gain and (not one.why or one.arm not in self.gone)]
        self.gone = stopped
        head = f"{words}, {clock(self.race.spent)} of {clock(self.plan.budget)}"
        if sys.stderr.isatty():
            self.line.show("")
        lines = write_lines(outcome, new) if outcome.promise is None else []
        print("\n".join(["", head, *lines]), flush=True)
        self._write(outcome)

    def _write(self, outcome: Outcome, ended: Sequence[str] = ()) -> Path:
        facts = {"metric": self.task.metric, "where": self.where, "plan": self.plan, "base": self.base.words}
        facts |= {"left_out": self.left_out, "command": self.command}
        seconds = {name: self.race.each(name) for name in outcome.standings if outcome.standings[name].gain}
        shown = make_table(outcome, self.arms, self.base, seconds)
        title = f"Race of recipes: {self.work.name}"
        return write_race(self.folder, title, outcome, facts, shown, ended)

    def _end(self, outcome: Outcome) -> None:
        paused = sum(one.state == PAUSED for one in outcome.standings.values())
        if outcome.winner:
            arm = self.arms[outcome.winner]
            self.command = training_command(self.work, free_name(self.work, arm.folder), arm.settings)
        said = describe_verdict(outcome, self.task.metric, self.where, paused)
        page = self._write(outcome, said)
        print("\n".join(["", *write_lines(outcome), "", *(line for text in said[:-1] for line in wrap(text))]))
        print(f"written: {shorten(page)}")
        conclude("\n".join(wrap(said[-1])), self.command)

    def _describe_short(self, short: TooShort) -> str:
        """That the budget is too small, and which would do."""
        minutes = math.ceil(short.needed / 60)
        enough = f"{minutes}m" if short.needed >= 60 else f"{math.ceil(short.needed)}"
        count = len(self.arms) - 1
        return (
            f"budget={self.asked.budget!r} is too short: a cell takes {clock(short.cell)} here, so {count} "
            f"recipe{'s need' if count > 1 else ' needs'} {enough} at least, and more to tell them apart. Give a "
            "larger budget=, or name fewer recipes="
        )
