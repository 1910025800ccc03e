"""Paths, locks, hashes, and files that are whole: written whole or not at all, read as written or named as damaged."""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

RESERVED = {"data", "kaggle", "notebooks", "tokens"}  # folders of a work folder that are not runs
PART = re.compile(r"(fold|part)[0-9]+")  # the folder of a fold, or of a part of 2_pretrain
CHECKSUM = "checksum"  # the key in JSON and parquet
HALF = re.compile(r"\..+\.([0-9a-f]{16}|[0-9]+)\.part")  # the name of what is half-written; numbers: by version 0.2
OF_CONTENT = (None, errno.EINVAL)  # OSErrors of pyarrow for damaged pages, of torch for files that were cut
UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # of file systems that cannot be told to write
DEVICES = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"  # no file of such a name can be on Windows
LONGEST = 100  # letters of a run's name: its copies, markers and temporary files have longer ones


def resolve(path: str | Path) -> Path:
    """An absolute path; relative ones count from the working directory, or from its parent where that is `notebooks/`.

    JupyterLab starts a kernel in the notebook's own folder, papermill in the caller's: `runs/bbc` is the same in both.
    """
    here = Path.cwd()
    if here.name == "notebooks" and (here.parent / "kagglekit").is_dir():
        here = here.parent
    return (here / Path(path).expanduser()).resolve()


def run_folder(work: str | Path, run: str) -> Path:
    """The folder of a run. Raises ValueError for a name that is not a plain folder name, or that is reserved."""
    check_run_name("run", run)
    return resolve(work) / run


def check_run_name(parameter: str, name: str, path: bool = False) -> None:
    """Raise ValueError for what cannot name a run, on any system, and say why. path: it may also be the path of a run
    in another work folder, which has a slash."""
    if path and "/" in name:
        name = name.rstrip("/").rpartition("/")[2]
    low, why = name.lower(), ""
    if len(name) > LONGEST:
        why = f"it has {len(name)} letters, and {LONGEST} is the most"
        name = f"{name[:20]}..."
    elif "/" in name or "\\" in name:
        why = "it has a slash, and a run is a folder in the work folder: name that one by work="
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith("."):
        why = "use letters from a to z, digits, '.', '_' and '-', the first one a letter or a digit, the last no '.'"
    elif low in RESERVED or re.fullmatch(r"fold\d+", low):
        why = f"fold0, fold1, ... and {', '.join(sorted(RESERVED))} are other folders of a work folder"
    elif re.fullmatch(DEVICES, low):
        why = "Windows keeps that name for a device"
    if why:
        raise ValueError(f"{parameter}={name!r} cannot name a run: {why}")


def fold_folders(run: Path) -> dict[int, Path]:
    """The finished folds of a run, number -> folder: those with both tables."""
    found = {int(p.name[4:]): p for p in run.glob("fold*") if p.name[4:].isdigit()}
    return {k: p for k, p in sorted(found.items()) if (p / "oof.parquet").is_file() and (p / "test.parquet").is_file()}


# Writing


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


# Reading


class Damaged(ValueError):
    """A file that is empty, cut or garbled, or that is not what was written."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(f"{path} {why}: {remedy(Path(path))}")


CHANGED = (
    "is cut, or was changed after it was written, by a fault of the disk or by hand (whoever means to change it has to "
    f"leave out its {CHECKSUM})"
)


def remedy(path: Path) -> str:
    """What makes a damaged file again, in words, by its name and place."""
    if path.name in ("task.json", "folds.parquet"):
        return "run 1_eda again, with the same parameters"
    if path.name == "submission.json":
        return "run 5_submit again"
    run = next((p for p in path.parents if (p / "params.json").is_file() or (p / "weights.json").is_file()), None)
    if run is None:
        return "fetch it again from where it came, or delete it and make it again"
    pretrained = any((run / name).exists() for name in ("pretraining.json", "models.json", "part0", "checkpoints"))
    blended = (run / "weights.json").is_file()
    again = f"run {'4_ensemble' if blended else '2_pretrain' if pretrained else '3_train'} again with run={run.name}"
    part = path.relative_to(run).parts[0]
    if blended or path.name == "score.json":
        return again
    return f"delete {run / part} and {again}" if PART.fullmatch(part) else f"{again} overwrite=True"


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever a reader of `path` raises for its content becomes Damaged, with the path and what makes it again, and
    FileNotFoundError says the same."""
    try:
        yield
    except Damaged:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: {remedy(Path(path))}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            raise
        if not Path(path).stat().st_size:
            raise Damaged(path, "is empty (0 bytes)") from error
        said = next(iter(str(error).splitlines()), "")[:200]
        raise Damaged(path, f"is damaged ({said or type(error).__name__})") from error


def read_json(path: str | Path, kind: Any = dict) -> Any:
    """The value in a JSON file, of this kind (Any: whichever), checked against the checksum that `write_json` wrote.

    Raises Damaged, a ValueError, for a file that is empty, cut, garbled or changed.
    """
    with reading(path):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    if kind is not Any and not isinstance(value, kind):
        raise Damaged(path, f"holds {value!r:.50} in place of a {kind.__name__}")
    if isinstance(value, dict) and (written := value.pop(CHECKSUM, None)) and written != _hash_json(value):
        raise Damaged(path, CHANGED)
    return value


def write_json(path: str | Path, value, *, plain: bool = False) -> None:
    """Write `value` as indented JSON, whole or not at all; a dict with a checksum, but `plain` for other programs."""
    if isinstance(value, dict) and not plain:
        value = {**value, CHECKSUM: _hash_json(json.loads(json.dumps(value)))}
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _hash_json(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# Hashes


def hash_files(files: Iterable[Path]) -> str:
    """One SHA-256 over the names and contents of `files`, in the given order (16 hexadecimal digits)."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def checksum_file(file: Path) -> str:
    """A quick checksum (CRC-32, 0.3 s a GB): of what may be damaged, not of what may be equal to another."""
    value = 0
    with open(file, "rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def checksum_files(folder: Path) -> dict[str, str]:
    """File of a folder, and below -> its checksum."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): checksum_file(file) for file in files}
