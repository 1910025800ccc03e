"""The line of a terminal that moves: its words, as many as fit the window, and how it is written over."""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

UNITS = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def clock(seconds: float) -> str:
    """72 -> `1:12`, 3672 -> `1:01:12`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def time_unit(longest: float) -> tuple[str, float]:
    """The unit in which times up to `longest` seconds are easily read, of which it has two or more, and its seconds:
    ("minutes", 60.0)."""
    return next((name, long) for name, long in UNITS.items() if longest >= 2 * long or long == 1)


def compose(words: Mapping[str, Any], title: str = "", width: int = 79) -> str:
    """The words of a line as one text of at most `width` columns.

    What matters most is kept: phase, time left, title, how far it is, then figures, the last one first.
    """
    ends = words.get("ends")
    left = "" if ends is None else f"{clock(max(ends - time.time(), 0))} left"
    if columns(words["phase"]) > width:
        return cut(words["phase"], width)
    pieces = [title, words["phase"], words.get("at", ""), *words.get("figures", []), left]
    kept: set[int] = set()
    for k in (1, len(pieces) - 1, 0, 2, *range(len(pieces) - 2, 2, -1)):
        if columns("  ".join(pieces[j] for j in sorted({*kept, k}) if pieces[j])) <= width:
            kept.add(k)
    return "  ".join(pieces[k] for k in sorted(kept) if pieces[k])


def columns(text: str) -> int:
    """How many columns a text takes in a terminal: Chinese characters take two."""
    return sum((not combining(one)) * (1 + (east_asian_width(one) in "WF")) for one in text)


def cut(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    while columns(text) > width:
        text = text[:-1]
    return text


class Line:
    """A line at the end of a terminal that is written over, below what is printed."""

    def __init__(self, stream: TextIO | None = None):
        self.stream, self.shown = stream, ""

    def width(self) -> int:
        """The columns that a text may take: one less than there are, as a full line would begin another one."""
        with suppress(OSError, ValueError):
            return (os.get_terminal_size((self.stream or sys.stderr).fileno()).columns or 80) - 1
        return 79

    def show(self, text: str, above: Iterable[str] = ()) -> None:
        """Put `text` in its place; first, whole lines that stay `above` it."""
        stream, above = self.stream or sys.stderr, list(above)
        if text == self.shown and not above:
            return
        stream.write("".join(f"\r{line}\x1b[K\n" for line in above) + f"\r{text}\x1b[K")
        stream.flush()
        self.shown = text
