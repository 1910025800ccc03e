"""Checkpoints of folds in storage that several machines share: any file system of pyarrow, whole or not at all."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from pyarrow import fs

from kagglekit.files import Damaged, checksum_files, read_json, resolve, shorten, temporary_folder, write_json

OWNER = "run.json"  # says whose folder it is; written before anything starts, so that tasks see what they share
KEPT = 2  # states of a fold: where the newest is damaged, training goes on from the one before
COMPLETE = "complete"  # file in a checkpoint that was written to its end, see `training/callbacks.py`


class Storage:
    """A folder of a run in storage: for each fold its last states, each a folder of files and a list that is written
    last, with their checksums.

    uri: "s3://bucket/folder", "gs://...", "hdfs://...", or a local folder that all machines mount. Raises ValueError
    for one that pyarrow cannot open.
    """

    def __init__(self, uri: str, name: str):
        self.uri, self.name = uri if "://" in uri else str(resolve(uri)), name
        try:
            self.system, root = fs.FileSystem.from_uri(self.uri)
        except (ValueError, OSError, NotImplementedError) as error:
            raise ValueError(f"storage={uri!r} cannot be opened: {_first_line(error)}") from None
        self.root = f"{root.rstrip('/')}/{name}"

    def claim(self, about: dict) -> None:
        """Write whose folder it is. Raises ValueError where nothing can be written."""
        try:
            self.system.create_dir(self.root, recursive=True)
            with self.system.open_output_stream(f"{self.root}/{OWNER}") as stream:
                stream.write(json.dumps(about, ensure_ascii=False).encode())
        except OSError as error:
            raise ValueError(f"storage={self.uri!r} cannot be written: {_first_line(error)}") from None

    def is_shared(self) -> bool:
        """Whether this machine sees what `claim` wrote on another."""
        return self.system.get_file_info(f"{self.root}/{OWNER}").type == fs.FileType.File

    def save(self, part: str, source: Path) -> None:
        """Keep the files of a folder as the newest state of a part, such as fold0; all but the last states go."""
        before = self._states(part)
        number = int(before[-1].split("-")[0]) + 1 if before else 1
        state = f"{self.root}/{part}/{number:06}-{secrets.token_hex(4)}"
        fs.copy_files(str(source), state, destination_filesystem=self.system)
        with temporary_folder() as place:
            write_json(place / "list.json", {"files": checksum_files(source)})
            fs.copy_files(str(place / "list.json"), f"{state}.json", destination_filesystem=self.system)
        for old in before[: max(len(before) + 1 - KEPT, 0)]:
            self.system.delete_file(f"{self.root}/{part}/{old}.json")  # first: what has no list does not count
            self.system.delete_dir(f"{self.root}/{part}/{old}")

    def load(self, part: str, target: Path) -> tuple[str, list[str]]:
        """Write the newest whole state of a part into a folder: its name ("": there is none), and those damaged."""
        damaged = []
        for state in reversed(self._states(part)):
            place = f"{self.root}/{part}/{state}"
            with temporary_folder() as scratch:
                try:
                    fs.copy_files(f"{place}.json", str(scratch / "list.json"), source_filesystem=self.system)
                    listed = read_json(scratch / "list.json")["files"]
                    fs.copy_files(place, str(scratch / "state"), source_filesystem=self.system)
                    found = checksum_files(scratch / "state")
                    wrong = sorted(name for name in {*listed, *found} if listed.get(name) != found.get(name))
                except (Damaged, KeyError, OSError) as error:
                    wrong = [f"its list: {_first_line(error)}"]
                if not wrong:
                    shutil.copytree(scratch / "state", target, dirs_exist_ok=True)
                    return state, damaged
                damaged.append(f"{self.uri}: {self.name}/{part}/{state} is damaged ({wrong[0]})")
        return "", damaged

    def drop(self, part: str = "") -> None:
        """Delete what is kept of a part, "" of the run."""
        with suppress(FileNotFoundError):
            self.system.delete_dir(f"{self.root}/{part}".rstrip("/"))

    def _states(self, part: str) -> list[str]:
        """The states that were written to their end, the newest last."""
        place = fs.FileSelector(f"{self.root}/{part}", allow_not_found=True)
        return sorted(one.base_name[:-5] for one in self.system.get_file_info(place) if one.extension == "json")


class Keeper:
    """Keeps the state of a run's folder in storage while it is trained: after each checkpoint and each table.

    With `storage` None it keeps nothing. `problem` is why something could not be kept: training goes on.
    """

    def __init__(self, storage: Storage | None, part: str, folder: Path):
        self.storage, self.part, self.folder = storage, part, folder
        self.problem, self.kept = "", set()
        self.ended, self.thread = Event(), Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Keeper":
        if self.storage:
            self.kept = self._milestones()
            self.thread.start()
        return self

    def __exit__(self, error, *_):
        self.ended.set()
        if self.storage and error is None:  # the last state, of a finished fold among others
            self.thread.join()
            self.keep()

    def keep(self) -> None:
        """Keep the present state, where there is more than was kept."""
        reached = self._milestones()
        if reached <= self.kept:
            return
        try:
            with temporary_folder() as place:
                if copy_state(self.folder, place / "state"):
                    self.storage.save(self.part, place / "state")
                    self.kept = reached
        except OSError as error:
            self.problem = _first_line(error)

    def _watch(self) -> None:
        while not self.ended.wait(1.0):
            self.keep()

    def _milestones(self) -> set[tuple[str, int]]:
        """What is worth keeping a state for: checkpoints that are complete, and tables, with their times."""
        files = _stats(self.folder)
        return {(name, of[0]) for name, of in files.items() if name.endswith((f"/{COMPLETE}", ".parquet"))}


def copy_state(folder: Path, target: Path) -> bool:
    """Copy what belongs to the state of a run at one moment: neither hidden files nor checkpoints that are being
    written; whether nothing has changed in the meantime."""
    before = _stats(folder)
    try:
        for name in before:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    except FileNotFoundError:  # a checkpoint that made room for the next one
        return False
    return before == _stats(folder)


def state_files(folder: Path) -> list[str]:
    """The files that belong to the state of a run or a fold, relative to its folder."""
    return [file.relative_to(folder).as_posix() for file in _files(folder)]


def _stats(folder: Path) -> dict[str, tuple[int, int, int]]:
    """File of a run -> time, size and number, of those that belong to its state."""
    found = {}
    for file in _files(folder):
        with suppress(FileNotFoundError):
            about = file.stat()
            found[file.relative_to(folder).as_posix()] = about.st_mtime_ns, about.st_size, about.st_ino
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        half = path.name.startswith("checkpoint-") and not (path / COMPLETE).is_file()
        if path.name.startswith(".") or half:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return text.replace(str(Path.cwd()) + "/", "") if shorten(Path.cwd()) == Path(".") else text
