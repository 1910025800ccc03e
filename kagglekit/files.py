"""Paths, files that appear whole or not at all, hashes, and a lock between processes."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

RESERVED = {"data", "kaggle", "notebooks", "tokens"}  # folders of a work folder that are not runs


def resolve(path: str | Path) -> Path:
    """An absolute path; relative ones count from the working directory, or from its parent where that is `notebooks/`.

    JupyterLab starts a kernel in the notebook's own folder, papermill in the caller's: `runs/bbc` is the same in both.
    """
    here = Path.cwd()
    if here.name == "notebooks" and (here.parent / "kagglekit").is_dir():
        here = here.parent
    return (here / Path(path).expanduser()).resolve()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it replaces `path` when the block ends well.

    After an exception nothing has changed. The error for a full disk names the file that was being written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # by processes that were killed
        if not is_alive(int(left.name.split(".")[-2])):
            remove(left)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)  # a folder cannot be replaced in one call
        os.replace(part, path)
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        if getattr(error, "errno", None) in full or os.strerror(errno.ENOSPC) in str(error):  # safetensors has no errno
            message = f"the disk is full: {path} was not written. Free some space and run again"
            raise OSError(errno.ENOSPC, message) from error
        raise
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def file_lock(folder: Path) -> FileLock:
    """A lock between processes: `with file_lock(folder):` waits until no other process is in such a block for the same
    folder, which need not exist. The lock file beside it, `.NAME.lock`, is released when a process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def write_json(path: str | Path, value) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: str | Path):
    """The value in a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def run_folder(work: str | Path, run: str) -> Path:
    """The folder of a run. Raises ValueError for a name that is not a plain folder name, or that is reserved."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run) or run in RESERVED or re.fullmatch(r"fold\d+", run):
        raise ValueError(
            f"run={run!r} cannot name a run: use letters, digits, '.', '_' and '-', "
            f"and none of {', '.join(sorted(RESERVED))}"
        )
    return resolve(work) / run


def fold_folders(run: Path) -> dict[int, Path]:
    """The finished folds of a run, number -> folder: those with both tables."""
    found = {int(p.name[4:]): p for p in run.glob("fold*") if p.name[4:].isdigit()}
    return {k: p for k, p in sorted(found.items()) if (p / "oof.parquet").is_file() and (p / "test.parquet").is_file()}


def hash_files(files: Iterable[Path]) -> str:
    """One SHA-256 over the names and contents of `files`, in the given order (16 hexadecimal digits)."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def check_space(folder: Path, needed: int) -> None:
    """Raise OSError when the disk of `folder` has fewer than `needed` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        has = f"{folder} has {free / 1e9:.2f} GB free and this needs about {needed / 1e9:.2f} GB"
        raise OSError(errno.ENOSPC, f"{has}: free some space, or put work= on another disk")
