"""Writing whole or not at all: temporary names, locks between processes, and the way to the disk."""

import errno
import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

HALF = re.compile(r"\..+\.([0-9a-f]{16}|[0-9]+)\.part")  # the name of what is half-written; numbers: by version 0.2
UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # of file systems that cannot be told to write


@contextmanager
def replacing(path: str | Path, marker: str = "") -> Iterator[Path]:
    """A path to write a file or a folder to; it replaces `path` when the block ends well, and is on the disk then.

    marker: a file that a folder must have to be replaced, unless it is empty; else ValueError, before the block. After
    an exception nothing has changed; after a kill or a power cut `path` is the old or the new one. The error for a full
    disk names the file that was being written.
    """
    path = Path(path)
    if marker and path.is_dir() and any(path.iterdir()):
        _check_ours(path, marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(path.parent, f".{path.name}.", ".part") as place:
            part = place / path.name
            yield part
            flush(part)
            if part.is_dir() and path.is_dir():
                os.replace(path, place / "before")  # a folder cannot be replaced in one call
            os.replace(part, path)
            _sync(path.parent)
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        if getattr(error, "errno", None) in full or os.strerror(errno.ENOSPC) in str(error):  # safetensors has no errno
            message = f"the disk is full: {path} was not written. Free some space and run again"
            raise OSError(errno.ENOSPC, message) from error
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder for temporary files, deleted in the end; where this process is killed, by the next one that asks."""
    with _claimed(Path(tempfile.gettempdir()), "kagglekit-", "") as place:
        yield place


def sweep(folder: Path) -> None:
    """Delete what killed processes left half-written in a folder and below; what living ones write stays."""
    for left in [path for path in folder.rglob(".*.part") if HALF.fullmatch(path.name)]:
        _remove_dead(left)


@contextmanager
def _claimed(folder: Path, start: str, end: str) -> Iterator[Path]:
    """A new folder with a name that never comes again, deleted in the end. A lock in it shows that its process lives:
    process numbers do come again, in a container that is started again at once. What dead ones left goes first."""
    for left in folder.glob(f"{glob.escape(start)}*{end}"):
        if HALF.fullmatch(left.name) or (left / "lock").is_file():  # else it is not of this kind
            _remove_dead(left)
    for _ in range(9):
        place = folder / f"{start}{secrets.token_hex(8)}{end}"
        place.mkdir()
        if lock := _lock_now(place):
            break  # else another process took the empty folder for that of a dead one
    else:
        raise OSError(f"{folder}: no file can be locked there")
    try:
        yield place
    finally:
        remove(place)
        lock.release()


def _lock_now(place: Path) -> FileLock | None:
    """The lock in a folder; None where another process holds it or has deleted the folder."""
    lock = FileLock(place / "lock")
    with suppress(Timeout, FileNotFoundError, NotADirectoryError, PermissionError):
        lock.acquire(timeout=0)
        if (place / "lock").exists():
            return lock
        lock.release()
    return None


def _remove_dead(left: Path) -> None:
    if not left.is_dir():  # by version 0.2
        remove(left)
    elif lock := _lock_now(left):
        remove(left)
        lock.release()


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def delete_folder(folder: Path, marker: str) -> None:
    """Delete a folder that holds the file `marker`, all at once. Raises ValueError for any other, and for a link."""
    _check_ours(folder, marker)
    with _claimed(folder.parent, f".{folder.name}.", ".part") as place:
        os.replace(folder, place / folder.name)


def _check_ours(folder: Path, marker: str) -> None:
    if folder.is_symlink() or not (folder / marker).is_file():
        why = "is a link" if folder.is_symlink() else f"has no {marker}: it holds something else"
        raise ValueError(f"{folder} {why}, and is not deleted. Delete it yourself, or give another name")


def flush(path: Path) -> None:
    """Have the system write a file, or a folder with all that is in it, to the disk."""
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if path.is_file():
        _sync(path)


def _sync(path: Path) -> None:
    if os.name == "nt" or path.is_symlink():  # Windows needs a file that is open for writing, and knows no folders
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
    finally:
        os.close(number)


def file_lock(folder: Path) -> FileLock:
    """A lock between processes: `with file_lock(folder):` waits until no other process is in such a block for the same
    folder, which need not exist. The lock file beside it, `.NAME.lock`, is released when a process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def check_space(folder: Path, needed: int) -> None:
    """Raise OSError when the disk of `folder` has fewer than `needed` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        has = f"{folder} has {free / 1e9:.2f} GB free and this needs about {needed / 1e9:.2f} GB"
        raise OSError(errno.ENOSPC, f"{has}: free some space, or put work= on another disk")
