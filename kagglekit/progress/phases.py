"""Phases of a notebook and the parts they stand in: reported to the runner, in a bar of JupyterLab, or on a terminal.

The line is a bar in JupyterLab; under `kagglekit.run` its terminal shows it, see `running/terminal.py`.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from kagglekit.progress.line import Line, clock, compose
from kagglekit.progress.time_left import Course, Part, Steps

VARIABLE = "KAGGLEKIT_PROGRESS"  # names the file through which a kernel reports to its runner
EVERY = 0.5  # seconds between two reports; other calls cost almost nothing
KAGGLE, LOGGED = "KAGGLE_KERNEL_RUN_TYPE", 300  # set by Kaggle; seconds between two lines of its log


class _Board:
    """What a kernel has to show, and where."""

    def __init__(self):
        self.parts: list[Part] = []
        self.phases: list[Progress] = []  # the first one counts; one within it says more
        self.courses: dict[str, Course] = {}  # what the parts are -> the course of the last one
        self.figures: dict[str, Any] = {}  # what stays true: the last score
        self.said: list[str] = []
        self.result: list[str] = []
        self.logged = time.monotonic()  # when a line was last printed into the log of a Kaggle kernel
        self.bar: Any = None  # of JupyterLab
        self.cell = 0  # that the parts, phases and bar are of

    def enter(self) -> None:
        """Forget another cell: what it was at when it was interrupted, and how long it took."""
        shell = _shell()
        if shell and shell.execution_count != self.cell:
            self.cell, self.bar = shell.execution_count, None
            for known in (self.parts, self.phases, self.courses, self.figures):
                known.clear()

    def phase(self) -> str:
        """What is being done: the parts, and the phases in them."""
        outer = [part.words for part in self.parts if part.words]
        inner = [one.phase for one in self.phases if one.phase]
        known = [one for one in inner if all(any(part in words for words in outer) for part in one.split(", "))]
        return ", ".join([*outer, *(one for one in inner if one not in known)])

    def words(self) -> dict[str, Any]:
        """The words of the line: phase, at, figures, and `ends`, when all is done, in seconds since 1970."""
        phase = self.phase()
        figures: dict[str, Any] = {}
        for one in self.phases:
            figures |= {name: value() if callable(value) else value for name, value in one.figures.items()}
        figures = {**figures, **{name: value for name, value in self.figures.items() if name not in figures}}
        shown = [f"{name} {v if isinstance(v, (str, int)) else format(v, '.3g')}" for name, v in figures.items()]
        last = self.phases[-1] if self.phases else None
        at = f"{last.unit} {last.steps.done:,}/{last.total:,}" if last else ""
        left = self.phases[0].steps.left() if self.phases else 0.0 if self.parts and self.parts[-1].phases else None
        for part in reversed(self.parts):
            left = part.left(left)
        ends = None if left is None or not phase else time.time() + left
        share = self.phases[0].steps.done / max(self.phases[0].total, 1) if self.phases else None
        return {"phase": phase, "at": at, "figures": shown, "ends": ends, "share": share}

    def show(self) -> None:
        """Report to the runner, in JupyterLab, or on a terminal."""
        words = self.words()
        if file := os.environ.get(VARIABLE):
            state = {**words, "said": self.said, "result": self.result}
            with suppress(OSError):  # a full disk must not end a training for a line in the terminal
                Path(file).write_text(json.dumps(state) + "\n", encoding="utf-8")
        elif _shell() and os.environ.get(KAGGLE) == "Batch":
            if words["phase"] and time.monotonic() - self.logged >= LOGGED:  # into the log: nobody sees a bar
                self.logged = time.monotonic()
                print(compose(words, width=200))
        elif _shell():
            self._show_bar(words)
        elif sys.stderr is not None and sys.stderr.isatty():
            _line.show(compose(words, width=_line.width()) if words["phase"] else "")

    def _show_bar(self, words: dict[str, Any]) -> None:
        from IPython.display import HTML, display

        share, text = words["share"], escape(compose(words, width=200)) if words["phase"] else ""
        bar = "" if share is None else f'<progress value="{share:.4f}" max="1"></progress> '
        html = HTML(f'<div style="white-space: pre-wrap">{bar}{text}</div>' if text else "")
        if self.bar is None:
            self.bar = display(html, display_id=True)
        else:
            self.bar.update(html)


def pack(message: Any) -> bytes:
    """A message of a kernel as JSON. Jupyter's own way refuses a lone surrogate, as in an emoji that was cut in two:
    of an error only its kind would arrive, or nothing."""
    from jupyter_client.jsonutil import json_default
    from jupyter_client.session import json_packer

    try:
        return json_packer(message)
    except UnicodeEncodeError:
        text = json.dumps(message, default=json_default, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _shell() -> Any:
    """IPython's shell, in the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if hasattr(shell, "kernel") else None


_board = _Board()


class Interrupted(KeyboardInterrupt):
    """An interrupt in words: a notebook shows them in place of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def parts(
    items: Iterable,
    what: str,
    *,
    done: int = 0,
    sizes: Mapping[Any, float] | None = None,
    later: float = 0.0,
    once: bool = False,
) -> Iterator:
    """Go through the parts of a long work, such as folds, so that the time left is that of all of them.

    what: the name of one, before its own: "fold" -> "fold 3 (4 of 5)"; of a range "round 1 of 2". done: how many were
    done before. sizes: item -> work in it, such as its rows; without, all are equal. later: parts of the mean size that
    come after these. once: it is work that the first of the parts around it does for all of them.
    The first part is estimated by its own steps, each other one by the part before.
    """
    items, counted = list(items), isinstance(items, range)
    _board.enter()
    size = {number: (sizes[item] if sizes else 1.0) for number, item in enumerate(items)}
    known = [number for number, part in enumerate(_board.parts) if part.what == what]
    del _board.parts[known[0] if known else len(_board.parts) :]  # of a loop that was left by an error
    for number, item in enumerate(items):
        place = f"{number + 1 + done} of {len(items) + done}"
        words = f"{what} {item} ({place})" if len(items) + done > 1 else f"{what} {item}"
        rest = sum(size[k] for k in size if k > number) + later * sum(size.values()) / len(size)
        part = Part(
            what, f"{what} {place}" if counted else words.strip(), size[number], rest, once, _board.courses.get(what)
        )
        for outer in _board.parts if once else ():
            outer.pause(part.began)
        _board.parts.append(part)
        _board.phases.clear()
        _board.show()
        try:
            yield item
        finally:
            if part in _board.parts:
                del _board.parts[_board.parts.index(part) :]
            for outer in _board.parts if once else ():
                outer.pause(None)
        part.course.add(part.phases + 1.0, part.elapsed())
        _board.courses[what] = part.course
    _board.show()


class Progress:
    """The progress of one phase, such as a fold's training.

        with Progress("fold 2", total=225) as progress:
            for step, batch in enumerate(batches, 1):
                ...
                progress.update(step, loss=lambda: loss.item())

    Figures are numbers, texts, or functions without arguments, which are called only when a report is due (twice a
    second), so that no step waits for the device. A resumed phase begins at `start`, which the rate leaves out.
    rest: the work that is left after so many steps, in steps: more than the steps themselves where other work follows
    them (evaluations, predictions). line: whether its end is worth a line of the notebook. once: as of `parts`.
    A phase within another one adds its words to it, and nothing to the estimate.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        unit: str = "step",
        start: int = 0,
        rest: Callable[[int], float] | None = None,
        line: bool = True,
        once: bool = False,
    ):
        _board.enter()
        self.phase, self.total, self.unit, self.start, self.line = phase, total, unit, start, line
        self.steps, self.figures = Steps(start, rest or (lambda done: total - done)), {}
        self.began, self.due = time.monotonic(), 0.0
        self.once = once and not _board.phases
        for part in _board.parts if self.once else ():
            part.pause(self.began)
        _board.phases.append(self)
        self.update(start)

    def update(self, done: int, **figures) -> None:
        """Report that `done` of `total` units are done."""
        now = time.monotonic()
        self.steps.mark(done, now)
        if figures:
            self.figures = figures
        if now >= self.due:
            self.due = now + EVERY
            self._mark(done / max(self.total, 1))
            _board.show()

    def close(self) -> None:
        """End the phase; one left by an exception has no closing line."""
        steps, seconds, words = self.steps.done - self.start, time.monotonic() - self.began, _board.phase()
        self._mark(1.0)
        self._leave(ended=True)
        _board.show()
        if self.line:
            print(f"{words}: {steps:,} {self.unit}{'s' * (steps != 1)} in {clock(seconds)}")

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error is None:
            self.close()
            return
        words = _board.phase()
        self._leave()
        _board.show()
        if error is KeyboardInterrupt:
            raise Interrupted(f"interrupted while it was at {words}: run this cell again") from None

    def _mark(self, share: float) -> None:
        for part in _board.parts if _board.phases[:1] == [self] else ():
            part.mark(share)

    def _leave(self, ended: bool = False) -> None:
        if self in _board.phases:
            first = _board.phases[0] is self
            del _board.phases[_board.phases.index(self) :]
            for part in _board.parts if first else ():
                part.phases += ended and not self.once
                if self.once:
                    part.pause(None)


def track(items: Sequence, phase: str, unit: str = "batch") -> Iterator:
    """Go through items, such as batches, as a phase without a closing line."""
    with Progress(phase, len(items), unit, line=False) as progress:
        for number, item in enumerate(items, 1):
            yield item
            progress.update(number)


def say(text: str, **figures) -> None:
    """Print a line that the terminal of the runner shows too. Figures, such as a score, stay on the line that moves."""
    _board.figures |= figures
    _line.show("")
    print(text)
    if VARIABLE in os.environ:
        _board.said.append(text)
        _board.show()


def command(notebook: str, **parameters) -> str:
    """What to type to run a notebook."""
    words = [notebook, *(f"{name}={value}" for name, value in parameters.items())]
    return f"python -m kagglekit.run {shlex.join(words)}"


def conclude(text: str, step: str = "", **parameters) -> None:
    """Print the last line of a notebook, its result, and what to type next: a command, or a notebook with parameters.
    The runner's terminal ends with both. Paths below the working directory are shortened; in a command that of the work
    folder alone, as runs know other files by the names that were given."""
    if parameters:
        step = command(step, **parameters)
    here = f"{Path.cwd()}/"
    lines = [text.replace(here, ""), *([f"next: {step.replace(f'work={here}', 'work=')}"] if step else [])]
    print("\n".join(lines))
    if VARIABLE in os.environ:
        _board.result = lines
        _board.show()


_line = Line()
