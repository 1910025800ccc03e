"""Run a command under limits of time and disk, and leave none of its processes behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from kagglekit.kaggle.fresh import MARK

EVERY = 0.5  # seconds between two looks, at least; a look may take a tenth of the time


@dataclass(frozen=True)
class Watched:
    """How a command ended: exit code, seconds, the most memory in bytes of all its processes (a page that two share
    counts twice), and "time" or "disk" when that limit ended it."""

    code: int
    seconds: float
    memory: int
    over: str


def watch(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    seconds: float,
    disk: float,
    tell: Callable[[float], None] = lambda seconds: None,
) -> Watched:
    """Run `words` in `folder`, both outputs into the file `log`, until it ends or a limit is over.

    seconds: of wall time. disk: bytes that files in `folder` may take. tell: called at each look, with the seconds that
    have gone. All its processes are killed at the end, also
    those that left its group: they are known by the variable MARK in `environment`, which has to be theirs alone.
    """
    memory, over, began = 0, "", time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            words, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            pause = 0.1
            while not over:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(pause, max(0.01, began + seconds - time.monotonic())))
                    break
                looked = time.monotonic()
                memory = max(memory, _memory(process.pid))
                tell(looked - began)
                over = "disk" if size_of(folder) > disk else "time" if looked - began > seconds else ""
                pause = max(EVERY, 10 * (time.monotonic() - looked))
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            end_family(environment[MARK])
            process.wait()
    return Watched(process.returncode, time.monotonic() - began, memory, over)


def size_of(folder: Path) -> int:
    """The bytes of a file, or of all files below a folder; links count nothing."""
    if not folder.is_dir():
        return folder.lstat().st_size if folder.is_file() and not folder.is_symlink() else 0
    total = 0
    for below, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted in the meantime
                status = os.lstat(os.path.join(below, name))
                total += status.st_size if not os.path.islink(os.path.join(below, name)) else 0
    return total


def family(mark: str) -> Iterator[psutil.Process]:
    """The processes of this user in whose environment the variable MARK is `mark`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                yield process


def end_family(mark: str) -> None:
    """Kill the processes of a mark, and those that these start meanwhile."""
    for _ in range(50):
        found = list(family(mark))
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=0.1)


def _memory(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
