"""The command line: help within 80 columns, mistakes in one line that ends with a hint, parameters of a notebook."""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from kagglekit.options import did_you_mean, knobs_of
from kagglekit.running.parameters import REST, Parameter, read_notebook, read_parameters

WIDTH, INDENT = 79, 26  # columns of help; where the words of a parameter begin
LISTS = (
    "Lists are written with commas: folds=0,1 and runs=tfidf,base; names with commas as JSON: text='[\"a,b\"]'. "
    "Dicts are JSON in single quotes: loss='{\"focal\": {}}'."
)


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
