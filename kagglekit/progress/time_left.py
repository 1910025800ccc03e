"""The time left: of steps, and of parts that are alike, such as folds, by the course of the part before."""

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

PRIOR = 0.2  # share of a part after which its own speed counts as much as that of the part before
ENOUGH = 3  # steps, and seconds, that are known before the time left is estimated from them


class Steps:
    """The steps of a phase, of which so many are done. rest: the work that is left after so many, in steps."""

    def __init__(self, done: int, rest: Callable[[int], float]):
        self.done, self.rest = done, rest
        self.first: tuple[int, float] | None = None  # the first step that has ended, and when: it is a slow one
        self.last = 0.0  # when `done` has changed last

    def mark(self, done: int, now: float) -> None:
        """Note that so many are done."""
        if done != self.done:
            self.done, self.last = done, now
            self.first = self.first or (done, now)

    def left(self) -> float | None:
        """Seconds until all are done; None before enough is known."""
        if self.first is None or self.done - self.first[0] < ENOUGH or self.last - self.first[1] < ENOUGH:
            return None
        rate = (self.last - self.first[1]) / (self.rest(self.first[0]) - self.rest(self.done))
        return max(rate * self.rest(self.done) - (time.monotonic() - self.last), 0.0)


@dataclass
class Course:
    """How a part of the work went: at which seconds after its begin it was how far."""

    size: float
    places: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, place: float, seconds: float) -> bool:
        """Note the first time at a place; whether it is new."""
        if self.places and place <= self.places[-1]:
            return False
        self.places.append(place)
        self.seconds.append(seconds)
        if len(self.places) > 2000:
            del self.places[1:-1:2], self.seconds[1:-1:2]
        return True

    def at(self, place: float) -> float:
        """The seconds at a place, interpolated."""
        k = bisect_right(self.places, place)
        if k in (0, len(self.places)):
            return self.seconds[min(k, len(self.places) - 1)]
        (a, b), (s, t) = self.places[k - 1 : k + 1], self.seconds[k - 1 : k + 1]
        return s + (t - s) * (place - a) / (b - a)


class Part:
    """A part of the work that is under way, such as a fold; `rest` is the size of those that follow it."""

    def __init__(self, what: str, words: str, size: float, rest: float, once: bool, before: Course | None):
        self.what, self.words, self.rest, self.once, self.began = what, words, rest, once, time.monotonic()
        self.course, self.phases, self.pace = Course(size), 0, 1.0
        self.course.add(0.0, 0.0)
        self.before = before
        self.paused: float | None = None  # since then something is done once, for all parts

    def elapsed(self) -> float:
        """Seconds since it began, without what is done once."""
        return (self.paused or time.monotonic()) - self.began

    def pause(self, now: float | None) -> None:
        """Something is done once, for all parts, or (None) has ended."""
        if now is None and self.paused:
            self.began += time.monotonic() - self.paused
        self.paused = now

    def mark(self, share: float) -> None:
        """Note how far the part is: so many phases have ended, and a `share` of the present one is done."""
        place, elapsed = self.phases + share, self.elapsed()
        if not self.paused and self.course.add(place, elapsed) and self.before:
            scale = self.course.size / self.before.size
            prior = PRIOR * self.before.seconds[-1] * scale
            self.pace = (elapsed + prior) / (self.before.at(place) * scale + prior)

    def left(self, inside: float | None) -> float | None:
        """Seconds until this part and those that follow it are done; inside: until its present phase is.

        By the course of the part before, at the pace of this one, which the parts that follow share by half, as it may
        be slow for a while only; of the first part by its own phases.
        """
        elapsed, once = self.elapsed(), self.paused is not None
        if self.before:
            each = self.before.seconds[-1] / self.before.size
            own = max(each * self.course.size * self.pace - elapsed, 0.0) + each * self.rest * (1 + self.pace) / 2
            return own + (inside or 0.0) * once
        if inside is None:
            return None
        return inside + (elapsed + inside * (not once)) * self.rest / self.course.size
