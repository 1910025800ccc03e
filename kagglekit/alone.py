"""One process at a time: a lock for the moments in which two processes that train folds of one run would meet."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if os.name == "posix":
    import fcntl


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block about the same folder, which need not exist.

    The lock is an empty file beside the folder, `.NAME.lock`; the system gives it back when a process dies. A block of
    milliseconds is what it is for: there is no limit to the waiting. On Windows it locks nothing.
    """
    if os.name != "posix":
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
