"""The terminal of a notebook's run: one line that is written over, above it what stays, and at the end the result."""

import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from kagglekit.progress import Line, clock, compose

NOTHING: dict[str, Any] = {"phase": "", "at": "", "figures": [], "ends": None, "said": [], "result": []}
CHAINED = "KAGGLEKIT_CHAINED"  # in the environment where another step follows by itself: none is proposed

REPORTED = "KAGGLEKIT_REPORTED"  # names the file of a kernel's reports, where another process reads them too


def read_reports(file: Path) -> dict[str, Any]:
    """What a kernel last reported in a file; nothing while it is not written yet, or is being written."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return NOTHING | json.loads(file.read_text(encoding="utf-8"))
    return {}


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
        self.state = read_reports(self.file) or self.state
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


class FoldsLine:
    """The terminal of a run whose folds are trained elsewhere: a line that moves, of all folds that are trained now,
    and above it what stays; where the output is no terminal, a plain line every `every` seconds."""

    def __init__(self, title: str, folds: Iterable[int], every: float = 30):
        self.title, self.every, self.line = title, every, Line(sys.stdout)
        self.waiting, self.states, self.said = set(folds), {}, {}
        self.began: dict[int, float] = {}
        self.times: list[float] = []
        self.printed = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if sys.stdout.isatty():
            self.line.show(self.line.shown, above=[f"{self.title}  {text}"])
        else:
            print(f"{self.title}  {text}", flush=True)

    def watch(self, reports: Mapping[int, tuple[str, Any]]) -> None:
        """Show what the folds are at: fold -> (node, state of its notebook)."""
        for fold, (node, state) in sorted(reports.items()):
            if fold in self.waiting:
                self.waiting.remove(fold)
                self.began[fold] = time.monotonic()
                self.say(f"fold {fold}  begins on {node}")
            if fold not in self.began:
                continue
            self.states[fold] = state or {}
            lines = self.states[fold].get("said", [])
            for text in lines[self.said.get(fold, 0) :]:
                self.say(text if text.startswith(f"fold {fold}") else f"fold {fold}  {text}")
            self.said[fold] = max(self.said.get(fold, 0), len(lines))
        self.show()

    def lose(self, fold: int, why: str) -> None:
        """A fold begins again."""
        self.say(f"fold {fold}  is trained again on another node: {why}")
        self._leave(fold)
        self.waiting.add(fold)

    def end(self, fold: int, how: str) -> None:
        """A fold has come home."""
        seconds = time.monotonic() - self.began.get(fold, time.monotonic())
        self.times.append(seconds)
        self._leave(fold)
        self.waiting.discard(fold)
        self.say(f"fold {fold}  {how.format(clock(seconds))}")

    def _leave(self, fold: int) -> None:
        for known in (self.states, self.began, self.said):
            known.pop(fold, None)

    def left(self) -> float | None:
        """Seconds until all is done: the folds that wait follow those that are trained now, each as long as these."""
        now = time.time()
        left = {fold: max(state["ends"] - now, 0) for fold, state in self.states.items() if state.get("ends")}
        if not left or len(left) < len(self.states):
            return None
        each = [time.monotonic() - self.began[fold] + seconds for fold, seconds in left.items()] + self.times
        free = sorted(left.values())
        for _ in self.waiting:
            free = sorted([free[0] + sum(each) / len(each), *free[1:]])
        return free[-1]

    def words(self) -> dict[str, Any]:
        """The words of the line, see `compose`."""
        folds = [f"fold {fold} {_share(fold, state)}" for fold, state in sorted(self.states.items())]
        waiting = f"{len(self.waiting)} wait" if self.waiting else ""
        left = self.left()
        return {
            "phase": ", ".join(folds) or "waiting for the cluster",
            "at": waiting,
            "ends": None if left is None else time.time() + left,
        }

    def show(self) -> None:
        if sys.stdout.isatty():
            self.line.show(compose(self.words(), self.title, self.line.width()))
        elif time.monotonic() - self.printed >= self.every:
            self.printed = time.monotonic()
            print(compose(self.words(), self.title, 10**9), flush=True)

    def close(self) -> None:
        """Leave the terminal's line empty."""
        if sys.stdout.isatty():
            self.line.show("")


def _share(fold: int, state: Mapping[str, Any]) -> str:
    """How far a fold is, in words."""
    share, phase = state.get("share"), state.get("phase", "").removeprefix(f"fold {fold}").lstrip(", ")
    return f"{share:.0%}" if share is not None else phase or "starts"


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
