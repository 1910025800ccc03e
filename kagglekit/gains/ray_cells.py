"""Cells of a race on a Ray cluster: each a task of one thread; data go once to each node, and tables come home."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kagglekit.files import hash_files, read_json, remove, replacing, shorten, temporary_folder, write_json
from kagglekit.gains.arms import NOTEBOOK, defaults
from kagglekit.gains.cells import Job, train_cell
from kagglekit.gains.standings import Cell
from kagglekit.running.command_line import Where
from kagglekit.running.notebook import find_notebook
from kagglekit.running.on_ray.cluster import Cluster, Report, Share, TryElsewhere
from kagglekit.running.on_ray.connect import connect
from kagglekit.running.on_ray.node import pack, unpack
from kagglekit.running.on_ray.train_folds import describe_versions
from kagglekit.running.parallel import GPU_FAILED
from kagglekit.runs.environment import versions

HUB = "hub/"  # where models of the cache of the hub are, beside the homes


@dataclass(frozen=True)
class Packed:
    """Settings as they are on the nodes. home: the folder there that has what they read; work: the work folder in it.
    back: a path there -> as it was typed here."""

    home: str
    work: str
    settings: str = field(repr=False)
    back: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class Task:
    """A cell as it is sent. name: of its folder; folds: of the whole race."""

    cell: Cell
    packed: Packed
    name: str
    folds: tuple[int, ...]

    def __str__(self):
        return str(self.cell)


@dataclass(frozen=True)
class Trained:
    """What came of a cell: its table as a file, or why there is none; and the versions of its node."""

    why: str
    table: bytes = field(repr=False)
    versions: dict[str, str]


class RayCells:
    """Trains the cells of a race on a cluster. share: of each; say: is told what is worth knowing."""

    def __init__(self, cluster: Cluster, share: Share, say: Callable[[str], None] = print):
        self.cluster, self.share, self.say = cluster, share, say
        self.at_once = max(1, cluster.at_once(share))
        self.files: dict[str, dict[str, str]] = {}  # home -> place -> which file it is; "": of models of the hub
        self.parts: dict[str, list[Any]] = {}  # home -> archives in the object store
        self.packed: dict[str, Packed] = {}  # by settings
        self.told: set[str] = set()

    @classmethod
    @contextmanager
    def on(cls, where: Where) -> Iterator[RayCells]:
        """Connected to a cluster, with one core a cell unless more are asked for. Raises as `connect` does, and
        ValueError for more than any node has."""
        with connect(where.on) as cluster:
            yield cls(cluster, cluster.share(where.cores or 1, where.gpus))

    def __str__(self) -> str:
        nodes = len(self.cluster.nodes())
        return f"on {self.cluster.on}, {nodes} node{'s' * (nodes != 1)}: {self.share} a cell, {self.at_once} at once"

    def send(self, work: Path, settings: dict[str, Any]) -> None:
        """Put what an arm with these settings reads into the object store, before its cells are trained. Raises
        FileNotFoundError and ValueError for what is missing."""
        from kagglekit.kaggle.build import pack_step  # it loads the hub's library, which nodes load later

        plain = defaults()
        changed = {name: value for name, value in settings.items() if value != plain[name]}
        with temporary_folder() as scratch:
            parcel = pack_step(find_notebook(NOTEBOOK), changed | {"work": str(work)}, scratch / "none", scratch)
            hub = {place: file for place, file in parcel.files.items() if place.startswith(HUB)}
            files = {place: file for place, file in parcel.files.items() if place not in hub}
            homes = [name for name, there in self.files.items() if name and not _clash(there, files, scratch)]
            home = homes[0] if homes else f"home{len(self.files)}"
            self._put("", hub, scratch)
            self._put(home, files, scratch)
        moved = json.dumps(settings | {name: parcel.given[name] for name in changed})
        self.packed[json.dumps(settings)] = Packed(home, parcel.given["work"], moved, tuple(parcel.home.items()))

    def _put(self, home: str, files: Mapping[str, Path], scratch: Path) -> None:
        """Put what a home lacks into the object store."""
        import ray

        there, parts = self.files.setdefault(home, {}), self.parts.setdefault(home, [])
        if new := {place: file for place, file in files.items() if place not in there}:
            parts += map(ray.put, pack(new))
            there |= {place: _identify(file, scratch) for place, file in new.items()}

    def train(self, jobs: Sequence[Job], watch: Callable[[], None]) -> Iterator[tuple[Cell, str]]:
        """The cells as they are done, with their tables at home, each with why it could not be trained. One whose node
        dies is trained again. Raises CellFailed where that does not help; all tasks have ended then, and when it is
        closed."""
        sent = {Task(job.cell, self.packed[job.settings], job.folder.name, job.folds): job for job in jobs}
        if not sent:
            return
        results = self.cluster.map_cells(
            train_there, sent, self.share, self.parts, watch=lambda reports: watch(), lost=self._lose
        )
        with closing(results):
            for task, trained in results:
                job, why = sent[task], trained.why
                self._tell(*(f"CAUTION: {words}" for words in describe_versions(trained.versions)))
                if why:
                    why = why.replace(f"{task.packed.work}/", f"{shorten(job.work)}/")
                    for there, here in task.packed.back:
                        why = why.replace(there, here)
                else:
                    with replacing(job.file) as part:
                        part.write_bytes(trained.table)
                yield job.cell, why

    def _lose(self, task: Task, why: str) -> None:
        self.say(f"{task} is trained again on another node: {why}")

    def _tell(self, *lines: str) -> None:
        for line in lines:
            if line not in self.told:
                self.told.add(line)
                self.say(line)


def _identify(file: Path, scratch: Path) -> str:
    """What tells a file from others: its path, or the content of one that was rewritten."""
    return hash_files([file]) if file.is_relative_to(scratch) else str(file)


def _clash(there: Mapping[str, str], files: Mapping[str, Path], scratch: Path) -> bool:
    """Whether a home has others in the places of these files: two arms may read files of one name from two folders."""
    return any(there[place] != _identify(file, scratch) for place, file in files.items() if place in there)


# on a node

_folder, _unpacked = ExitStack(), Counter()


@lru_cache(1)
def _root() -> Path:
    """The folder of this process, which stays from one cell to the next."""
    atexit.register(_folder.close)
    return _folder.enter_context(temporary_folder())


def train_there(task: Task, parts: Mapping[str, Sequence[Any]], report: Report) -> Trained:
    """The task of a cell, on its node, in a process that keeps what it has unpacked and tokenised.

    Raises TryElsewhere for a GPU that fails.
    """
    root, packed = _root(), task.packed
    if parts[""]:  # before the library of the hub is loaded
        os.environ["HF_HUB_CACHE"] = str(root / HUB)
    _unpack(parts, "", root)
    home = _unpack(parts, packed.home, root)
    work = home / packed.work
    about = read_json(work / "task.json")
    if about["data"] != str(home / "data"):
        write_json(work / "task.json", {**about, "data": str(home / "data")})
    job = Job(task.cell, work, packed.settings, home / "cells" / task.name, task.folds)
    with chdir(home):  # from where paths of the settings count
        why = train_cell(job)
    if GPU_FAILED.search(why):
        raise TryElsewhere(why)
    if why:
        return Trained(why.replace(f"{home}/", ""), b"", versions())
    table = job.file.read_bytes()
    remove(job.file.parent)
    return Trained("", table, versions())


def _unpack(parts: Mapping[str, Sequence[Any]], name: str, root: Path) -> Path:
    """Write what has come since the last cell into the folder of that name."""
    import ray

    for part in parts[name][_unpacked[name] :]:
        unpack(ray.get(part), root / name)
        _unpacked[name] += 1
    return root / name
