"""The command line: help within 80 columns, mistakes in one line that ends with a hint, parameters of a notebook."""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kagglekit.options import check_range, did_you_mean, knobs_of
from kagglekit.running.parameters import REST, Parameter, read_notebook, read_parameters

WIDTH, INDENT = 79, 26  # columns of help; where the words of a parameter begin
LISTS = (
    "Lists are written with commas: folds=0,1 and runs=tfidf,base; names with commas as JSON: text='[\"a,b\"]'. "
    "Dicts are JSON in single quotes: loss='{\"focal\": {}}'."
)

ON_RAY = (
    "on=ray://HOST:10001 (or on=ray: of this machine) trains each fold on a Ray cluster, with gpus=0.5, cores=2, and "
    "storage=s3://... for checkpoints."
)
PORT = 10001  # of the client server of a Ray cluster, unless it is said
RANGES = {  # of what a task asks for: kind, least, most, and in words
    "cores": (int, 1, 1 << 20, "a whole number, 1 or more"),
    "gpus": (float, 0, 1, "0 to 1: a model trains on one GPU, or on a share of one such as 0.5"),
}


def program(command: str = "") -> str:
    """How this program was called, with a command of it: "kagglekit run", or "python -m kagglekit run"."""
    called = "kagglekit" if Path(sys.argv[0]).stem == "kagglekit" else "python -m kagglekit"
    return f"{called} {command}".strip()


class Parser(argparse.ArgumentParser):
    """argparse, with help of 80 columns, and an error of one line: what was meant, or where the help is.

    takes: how parameters are written where there are some, such as "name=value".
    """

    takes = ""

    def __init__(self, prog: str, **options):
        form = partial(argparse.HelpFormatter, width=WIDTH, max_help_position=INDENT)
        super().__init__(prog, formatter_class=form, allow_abbrev=False, **options)

    def error(self, message: str):
        known = [name for action in self._actions for name in action.option_strings]
        odd = re.search(r"(?<!\S)-[\w-]+", message)
        meant = did_you_mean(odd[0], known) if odd and odd[0] not in known else ""
        if odd and self.takes and not meant and "unrecognized" in message:
            meant = f": parameters are written {self.takes}, without dashes"
        self.exit(2, f"{self.prog}: {message}{meant or f' (see {self.prog} --help)'}\n")


def find_command(name: str, commands: Iterable[str], prog: str) -> str:
    """The command of that name. Raises ValueError with the one that may have been meant, or with all."""
    if name in commands:
        return name
    meant = did_you_mean(name, commands) or f"; there are {', '.join(commands)}"
    raise ValueError(f"{prog} has no command {name!r}{meant}")


@dataclass(frozen=True)
class Where:
    """Where folds are trained, as the command line says it. on: ray, or ray://HOST:PORT. cores, gpus: of each task;
    None: see `Cluster.share`. storage: where checkpoints are kept, see `Storage`; empty: nowhere."""

    on: str = ""
    cores: int | None = None
    gpus: float | None = None
    storage: str = ""

    @classmethod
    def take(cls, texts: list[str]) -> tuple["Where", list[str]]:
        """What ["run=base", "on=ray", "gpus=0.5"] says about the place, and the other texts."""
        own = {name: text for name, _, text in (one.partition("=") for one in texts) if name in cls.__annotations__}
        rest = [one for one in texts if one.partition("=")[0] not in cls.__annotations__]
        if len(own) + len(rest) < len(texts):
            raise ValueError("on=, cores=, gpus= and storage= are said once")
        if own and not own.get("on"):
            raise ValueError(f"{next(iter(own))}= goes with a Ray cluster: say on=ray, or on=ray://HOST:10001")
        found: dict[str, Any] = dict(own)
        for name in own.keys() & RANGES.keys():
            kind, least, most, rule = RANGES[name]
            with suppress(ValueError):
                found[name] = kind(own[name])
            check_range(name, found[name], isinstance(found[name], kind) and least <= found[name] <= most, rule)
        if own:
            parse_address(own["on"])
        return cls(**found), rest


def parse_address(on: str) -> tuple[str, int] | None:
    """ "ray" -> None: the cluster of this machine; "ray://head:10001" -> where its client server listens.

    Raises ValueError for what is neither.
    """
    if on == "ray":
        return None
    place = urlsplit(on)
    with suppress(ValueError):
        if place.scheme == "ray" and place.hostname and not (place.path or place.query):
            return place.hostname, place.port or PORT
    raise ValueError(f"on={on!r} names no cluster: on=ray is that of this machine, on=ray://HOST:{PORT} another")


def fill(text: str) -> str:
    """A text in lines of 79 characters."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False, break_long_words=False)


def write_help(notebook: Path) -> str:
    """What a notebook does, and its parameters below the headings of its cell, each with default, words and range.

    A knob that the cell does not show stands below the heading of the shown one before it in its dataclass.
    """
    cells = [cell for cell in read_notebook(notebook)["cells"] if cell["cell_type"] == "markdown"]
    title, _, words = "".join(cells[0]["source"]).lstrip("# ").partition("\n") if cells else ("", "", "")
    known = read_parameters(notebook)
    if not all(one.shown for one in known.values()):
        del known[REST]  # what it takes stands here
    groups: dict[str, list[Parameter]] = {one.knob.shown: [] for one in known.values() if one.knob and one.shown}
    for kind in dict.fromkeys(one.kind for one in known.values()):
        heading = ""
        for name in knobs_of(kind) if kind else [name for name, one in known.items() if not one.kind]:
            heading = (known[name].knob.shown if kind else "") or heading
            groups.setdefault(heading, []).append(known[name])
    lines = [
        f"{program('run')} {notebook.stem} name=value ...",
        "",
        fill(f"{title}. {words}"),
        "",
        fill(f"{LISTS} Each parameter with its default:"),
    ]
    for heading, below in groups.items():
        lines += ["", heading or "parameters", *map(_entry, sorted(below, key=lambda one: not one.shown))]
    return "\n".join(lines)


def _entry(one: Parameter) -> str:
    """`  name=default   its words (what fits)`, wrapped."""
    words, rule = (one.knob.words, one.knob.rule) if one.knob else (one.comment, "")
    name = f"  {one.name}={json.dumps(one.default).replace('null', 'none')}"
    text = f"{words} ({rule})" if rule else words
    indent = " " * INDENT
    filled = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{name:<{INDENT}}{filled.lstrip()}" if len(name) < INDENT - 1 else f"{name}\n{filled}"
