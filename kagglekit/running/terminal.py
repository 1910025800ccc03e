"""The terminal of a notebook's run: one line that is written over, above it what stays, and at the end the result."""

import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from kagglekit.progress import Line, clock, compose

NOTHING: dict[str, Any] = {"phase": "", "at": "", "figures": [], "ends": None, "said": [], "result": []}
CHAINED = "KAGGLEKIT_CHAINED"  # in the environment where another step follows by itself: none is proposed


class TerminalLine:
    """The runner's side: what the kernel last reported in `file`, as one line that is written over on a terminal.

    Where the output is no terminal, a plain line every `every` seconds. What the kernel has to `say` keeps its line on
    both, as does what is printed in this process within `printing_above`. sections: source of a cell -> the section of
    the notebook that it is in, which the line names where the kernel reports nothing.
    """

    def __init__(
        self,
        title: str,
        file: Path,
        sections: Mapping[str, str] | None = None,
        stream: TextIO | None = None,
        every: float = 30,
    ):
        self.title, self.file, self.stream, self.every = title, file, stream or sys.stdout, every
        self.began = self.printed = time.monotonic()
        self.sections, self.section = sections or {}, ""
        self.state, self.said = dict(NOTHING), 0
        self.phase, self.changed = "", self.began
        self.line, self.lock = Line(self.stream), Lock()

    def enter(self, source: str) -> None:
        """A cell begins."""
        self.section = self.sections.get(source, self.section)

    def refresh(self) -> None:
        """Read the file, and show it when a line is due."""
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not written yet, or being written: next time
            self.state = NOTHING | json.loads(self.file.read_text(encoding="utf-8"))
        with self.lock:
            said = [f"{self.title}  {text}" for text in self.state["said"][self.said :]]
            self.said += len(said)
            if self.stream.isatty():
                self.line.show(self.compose(), above=said)
                return
            if not said and time.monotonic() - self.printed >= self.every:
                said = [self.compose(width=10**9)]
            if said:
                self.printed = time.monotonic()
                self.stream.writelines(f"{text}\n" for text in said)
                self.stream.flush()

    def compose(self, width: int | None = None) -> str:
        """The line as it is now."""
        width, now = width or self.line.width(), time.monotonic()
        words = self.state if self.state["phase"] else {"phase": self.section or "starting"}
        if words["phase"] != self.phase:
            self.phase, self.changed = words["phase"], now
        if not words.get("at") and words.get("ends") is None:  # a sign of life
            words = words | {"at": clock(now - (self.changed if self.state["phase"] else self.began))}
        return compose(words, self.title, width)

    def close(self) -> None:
        """Show the last state and leave the terminal's line empty."""
        self.refresh()
        if self.stream.isatty():
            self.line.show("")

    @contextmanager
    def printing_above(self) -> Iterator[None]:
        """What this process prints in the block, such as warnings, stands above the line, and stays."""
        with ExitStack() as stack:
            if self.stream.isatty():
                above = Above(self)
                stack.callback(above.close)
                stack.enter_context(redirect_stdout(above))
                stack.enter_context(redirect_stderr(above))
            yield


class Above(io.TextIOBase):
    """A stream whose whole lines stand above a `TerminalLine`."""

    def __init__(self, terminal: TerminalLine):
        self.terminal, self.begun = terminal, ""

    def write(self, text: str) -> int:
        *whole, self.begun = (self.begun + text).split("\n")
        if whole:
            with self.terminal.lock:
                self.terminal.line.show(self.terminal.line.shown, above=whole)
        return len(text)

    def isatty(self) -> bool:
        return True

    def close(self) -> None:
        """End a line that was begun."""
        if self.begun:
            self.write("\n")


def sections(content) -> dict[str, str]:
    """Source of a code cell -> the heading that it stands below, and which of how many: "Duplicates (8 of 17)"."""
    heads = [
        next((line[3:] for line in cell.source.splitlines() if line.startswith("## ")), "") for cell in content.cells
    ]
    named, found, number = [head for head in heads if head], {}, 0
    for cell, head in zip(content.cells, heads, strict=True):
        number += bool(head)
        if cell.cell_type == "code" and number:
            found[cell.source] = f"{named[number - 1]} ({number} of {len(named)})"
    return found


def describe(title: str, result: list[str], how: str, copy: Path) -> str:
    """The last lines of a run: its result, how it came about and where the executed notebook is, what to do next."""
    first, *following = result or [title]
    following = [] if os.environ.get(CHAINED) else following
    return "\n".join([first, f"  {how}: {copy}", *(f"  {line}" for line in following)])
