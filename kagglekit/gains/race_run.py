"""The parameters of a race: read from the command line, checked, and described."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kagglekit.options import Knobs, documented, knob, knobs_of
from kagglekit.running.arguments import check_each
from kagglekit.running.command_line import LISTS, fill, program
from kagglekit.running.parameters import Parameter

INDENT = " " * 6
UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
SHARE = 0.4  # of the folds choose, the others confirm


@documented
@dataclass(frozen=True)
class RaceRun(Knobs):
    """The parameters of a race."""

    owner = "race"

    work: str = knob("runs/bbc", "work folder")
    budget: str = knob("2h", "time for all of it: 2h, 45m, 1h30m, or seconds")
    base: str = knob("base", "run whose settings recipes change; if there is none, the defaults of 3_train")
    recipes: list[str] | dict[str, Any] = knob(
        [], 'names, files of JSON, or {"mine": {"epochs": 5}}; empty: the shipped list and what is at hand'
    )
    folds: list[int] = knob([], "folds that choose; the others confirm; empty: two of five", least=0)
    seeds: int = knob(5, "of each fold, at most, while choosing, and again in the end", least=1, most=20)
    margin: float | None = knob(None, "smallest gain that matters; None: half a standard error of the score", least=0)
    at_once: int = knob(0, "cells trained side by side, of one thread each; 0: as many as fit", least=0)

    @property
    def seconds(self) -> float:
        """The budget."""
        return read_time(self.budget)


def read_time(text: str) -> float:
    """ "1h30m" -> 5400.0. Raises ValueError."""
    found = re.findall(r"(\d+(?:\.\d+)?)\s*(h|min|m|s|)", text.strip().lower())
    whole = "".join(f"{number}{unit}" for number, unit in found)
    seconds = sum(float(number) * UNITS[unit] for number, unit in found)
    if whole != re.sub(r"\s", "", text.strip().lower()) or not seconds > 0:
        raise ValueError(f"budget={text!r} is no time: write 2h, 45m, 1h30m, or seconds, above 0")
    return seconds


def write_help(about: str) -> str:
    """Help within 80 columns. about: what stands above the parameters."""
    lines = [f"{program('race')} name=value ... [-- settings of the base]", ""]
    for part in about.strip().split("\n\n"):
        lines += [part if part.startswith("    ") else fill(part), ""]
    lines += [fill(f"{LISTS} Each parameter with its default:"), ""]
    for one in knobs_of(RaceRun).values():
        words = f"{one.words} ({one.rule})" if one.rule else one.words
        default = json.dumps(one.default).replace("null", "none")
        lines += [f"  {one.name}={default}", *textwrap.wrap(words, 79, initial_indent=INDENT, subsequent_indent=INDENT)]
    return "\n".join([*lines, "", fill(f"After --: settings of 3_train that the base has, see {program('run')} 3_train "
                                       "--help.")])  # fmt: skip


def read_asked(texts: Mapping[str, str]) -> RaceRun:
    """Texts of the command line as checked parameters."""
    known = {one.name: Parameter(one.name, one.default, one.type, one.words, one) for one in knobs_of(RaceRun).values()}
    values = {name: known[name].parse(text) if name in known else text for name, text in texts.items()}
    if isinstance(values.get("recipes"), str):
        values["recipes"] = [values["recipes"]]
    check_each("race", known, values)
    asked = RaceRun(**values)
    read_time(asked.budget)
    return asked
