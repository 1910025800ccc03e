"""Time budget: training stops before a kernel's hours are over, with a checkpoint from which it goes on later."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kagglekit.files import fold_folders, read_json, remove, write_json
from kagglekit.options import check_range
from kagglekit.progress import Interrupted

STARTED = "KAGGLEKIT_STARTED"  # environment variable: when the kernel began, in seconds since 1970
UNFINISHED = "unfinished.json"  # in the folder of a fold or a stage of pretraining that ran out of time


class OutOfTime(RuntimeError):
    """The hours are over. Training in progress is kept in a checkpoint; nothing else is begun."""


@dataclass(frozen=True)
class TimeBudget:
    """The time that a kernel may take, such as `TimeBudget(11.5)` of Kaggle's 12 hours.

    hours: since the kernel began, see `kernel_began`; 0: no limit. reserve: minutes of them for predictions, scores and
    files after training; None: a twentieth of the hours, at most 10 minutes; 0: train to the last second.
    Raises ValueError for hours below 0, and for a reserve of all of them.
    """

    hours: float = 0.0
    reserve: float | None = None

    def __post_init__(self):
        check_range("hours", self.hours, 0 <= self.hours < math.inf, "0 for no limit, or above")
        if self.reserve is not None:
            fits = self.reserve >= 0 and (not self.hours or self.reserve < 60 * self.hours)
            check_range("reserve", self.reserve, fits, "0 or more minutes, and less than the hours")
        if self.hours:
            kernel_began()  # raises for a wrong variable

    @property
    def reserved(self) -> float:
        """Minutes for what comes after training."""
        return min(10.0, 3.0 * self.hours) if self.reserve is None else self.reserve

    def left(self) -> float:
        """Seconds until the reserve begins, below 0 afterwards; infinite without a limit."""
        return kernel_began() + 3600 * self.hours - 60 * self.reserved - time.time() if self.hours else math.inf

    def over(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0

    def holds(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return seconds <= self.left()

    def check(self, what: str) -> None:
        """Raise OutOfTime when no time is left for `what`, such as "fold 2"."""
        if self.over():
            raise self.refusal(what)

    def refusal(self, what: str) -> OutOfTime:
        """The error for `what` that is not begun."""
        return OutOfTime(f"of {self.hours:g} hours no time is left for {what}: the same command goes on there")


UNLIMITED = TimeBudget()


def kernel_began() -> float:
    """When this kernel began, in seconds since 1970: KAGGLEKIT_STARTED if it is set, else the start of this process.

    A notebook that starts processes passes the variable on, so that all count from the same time.
    Raises ValueError for a variable that is no time, or one in the future.
    """
    text = os.environ.get(STARTED, "")
    if not text:
        import psutil  # which accelerate and ipykernel need too

        return psutil.Process().create_time()
    try:
        began = float(text)
    except ValueError:
        began = math.nan
    if not 0 < began < time.time() + 60:
        raise ValueError(f"{STARTED}={text!r} is no time that has been: set it to seconds since 1970, or unset it")
    return began


@contextmanager
def stopping_in_time(place: Path) -> Iterator[None]:
    """When time runs out inside the block, print that, write it to `place/unfinished.json`, and go on after the block.

    place: the folder of the fold or stage. The file marks the run as not done, see `unfinished`; it is removed when the
    block comes to its end. An interrupt says what is kept.
    """
    try:
        yield
    except OutOfTime as stop:
        print(stop)
        write_json(place / UNFINISHED, {"why": str(stop)})
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {_kept(place)}. Run this cell again: it goes on from there") from None
    else:
        remove(place / UNFINISHED)


def _kept(place: Path) -> str:
    """What a fold or stage that was interrupted has left, in words."""
    whole = [int(file.parent.name.split("-")[1]) for file in place.rglob("checkpoint-*/complete")]
    here = f"{place.name} has a checkpoint of step {max(whole)}" if whole else f"{place.name} has no checkpoint yet"
    done = ", ".join(map(str, fold_folders(place.parent)))
    return f"finished folds stay ({done}), {here}" if done else here


def unfinished(run: Path) -> dict[str, str]:
    """Folds or stages of a run that ran out of time: name ("": the run itself) -> message; empty: it is complete."""
    files = [run / UNFINISHED, *sorted(run.glob(f"*/{UNFINISHED}"))]
    return {file.parent.name if file.parent != run else "": read_json(file)["why"] for file in files if file.is_file()}
