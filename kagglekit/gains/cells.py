"""Cells of a race: trained in processes that stay warm, kept as tables that a later race finds again.

    WORK/race/fgm.3f2a91c0/params.json                    recipe and hashes of the inputs, as of a run
    WORK/race/fgm.3f2a91c0/fold1/seed2/oof.parquet        what the cell predicts, and the seconds that it took

The name of a folder has a hash of what is in params.json: other settings, another task, other folds are another folder.
The table is that of `kagglekit run 3_train` with this seed and one thread, bit for bit. No model is kept, test is not
predicted: a cell is no run, and no blend takes it up.

On a CPU each cell has one thread, and as many are trained at once as there are cores and memory: two with one thread
each are faster than one with two, and how many there are changes no table. (The number of threads would: sums are
rounded in another order.) On a GPU it is one at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Thread

import numpy as np

from kagglekit.competition.task import Task, load_task, read_test, read_train
from kagglekit.files import Damaged, remove, sweep, write_json
from kagglekit.files.parquet import read_metadata, read_parquet
from kagglekit.gains.arms import Arm
from kagglekit.gains.standings import BASE, Cell
from kagglekit.options import knobs_of
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.identity import identify
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import PLAIN, TrainingRun
from kagglekit.runs.tables import first_difference, hash_folds, read_folds, training_rows, write_predictions
from kagglekit.training.recipe import Recipe

FOLDER = "race"  # in a work folder
LEARNERS = 8  # kept with their tokens in each process
LEAST, TIMES = 1e9, 8  # bytes that a cell needs: so many, and so many times those of the weights


@dataclass(frozen=True)
class Job:
    """A cell to train: with these settings, into this folder."""

    cell: Cell
    work: Path
    settings: str  # JSON
    folder: Path
    folds: tuple[int, ...]  # of the whole race

    @property
    def file(self) -> Path:
        return self.folder / f"fold{self.cell.fold}" / f"seed{self.cell.seed}" / "oof.parquet"


class CellStore:
    """The cells of a work folder's races, and who trains those that are lacking.

    task, folds: of the work folder; race_folds: those that the race may train. at_once: cells that are trained side by
    side; with 1 they are trained in this process. shown: called as cells are trained, with (done, cells, how many).
    elsewhere: trains them on a cluster, see `RayCells`. Use it in a `with`: it ends the processes.
    """

    def __init__(
        self, work: Path, task: Task, folds, race_folds: Sequence[int], at_once: int, shown=None, elsewhere=None
    ):
        self.work, self.task, self.folds, self.race_folds = work, task, folds, tuple(race_folds)
        self.at_once, self.shown, self.elsewhere = at_once, shown or (lambda *given: None), elsewhere
        self.arms: dict[str, Arm] = {}
        self.places: dict[str, Path] = {}
        self.known: dict[Cell, tuple[np.ndarray, float]] = {}
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self):
        sweep(self.work / FOLDER)
        return self

    def __exit__(self, *_):
        if self.pool:
            for process in list(getattr(self.pool, "_processes", {}).values()):  # also in the middle of a cell
                process.terminate()
            self.pool.shutdown(wait=True, cancel_futures=True)

    def add(self, arm: Arm) -> None:
        """Give an arm its folder, with params.json: one of its own where that of its settings is of other defaults."""
        from kagglekit.runs.defaults import changed_defaults  # torch takes seconds, and what is wrong is told before

        identity, now = identify(self.work, arm.settings), self._defaults(arm.settings)
        place = self._place(arm, identity)
        if changed_defaults(RunRecord(place).params.get("defaults", {}), now):
            place = self._place(arm, identity | {"defaults": now})
        if not (place / "params.json").is_file():
            more = {"defaults": now, "versions": versions(), "commit": commit(), "receipts": {}}
            write_json(place / "params.json", identity | more)
        self.arms[arm.name], self.places[arm.name] = arm, place
        if self.elsewhere:
            self.elsewhere.send(self.work, arm.settings)

    def _place(self, arm: Arm, identity: dict) -> Path:
        number = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        there = sorted(path for path in (self.work / FOLDER).glob(f"*.{number}") if path.is_dir())
        return there[0] if there else self.work / FOLDER / f"{arm.folder}.{number}"

    def _defaults(self, settings: dict) -> dict:
        """What settings leave to this version, see `find_defaults`."""
        from kagglekit.model.backbones import find_backbone, load_config
        from kagglekit.runs.defaults import find_defaults

        if settings["backbone"] in PLAIN or settings["learner"] != "finetune":
            return {}
        return find_defaults(Recipe.read(settings), self.task.kind, load_config(find_backbone(settings["backbone"])))

    def job(self, cell: Cell) -> Job:
        arm = self.arms[cell.arm]
        return Job(cell, self.work, json.dumps(arm.settings), self.places[arm.name], self.race_folds)

    def has(self, cell: Cell) -> bool:
        """Whether a cell is trained."""
        return cell in self.known or self.job(cell).file.is_file()

    def read(self, cell: Cell) -> tuple[np.ndarray, float]:
        """What a cell predicts, float32 (rows of its fold, columns), and the seconds it took. Raises Damaged."""
        if cell not in self.known:
            file = self.job(cell).file
            table, ids = read_parquet(file), self.folds.loc[self.folds["fold"] == cell.fold, "id"].tolist()
            if first_difference(table["id"].tolist(), ids):
                raise Damaged(file, "is of other rows")
            self.known[cell] = table.iloc[:, 2:].to_numpy(np.float32), float(read_metadata(file)["seconds"])
        return self.known[cell]

    def predict(self, cell: Cell) -> np.ndarray:
        return self.read(cell)[0]

    def seconds(self, cell: Cell) -> float:
        return self.read(cell)[1]

    def train(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Train the cells that are not there; arms that cannot be trained -> why. Raises what the base fails with."""
        failed: dict[str, str] = {}
        lacking = [cell for cell in cells if not self.has(cell)]
        self.shown(0, lacking)
        with contextlib.closing(self._train([self.job(cell) for cell in lacking])) as trained:
            for number, (cell, why) in enumerate(trained, 1):
                if why and cell.arm == BASE:
                    raise ValueError(f"the base cannot be trained: {why}")
                if why:
                    failed[cell.arm] = why
                self.shown(number, lacking)
        return failed

    def _train(self, jobs: Sequence[Job]) -> Iterator[tuple[Cell, str]]:
        """The cells as they are done, each with why it could not be."""
        if self.elsewhere:
            yield from self.elsewhere.train(jobs, lambda: self.shown(None, None))
            return
        if self.at_once == 1 or not jobs:
            for job in jobs:
                yield job.cell, train_cell(job)
            return
        self.pool = self.pool or make_pool(self.at_once)
        waiting = {self.pool.submit(train_cell, job): job for job in jobs}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for one in sorted(done, key=lambda one: waiting[one].cell):
                    yield waiting.pop(one).cell, one.result()
                if not done:
                    self.shown(None, None)
        except BrokenProcessPool:
            raise RuntimeError(
                "a process that trained a cell was killed, most likely as the memory was full: what is trained stays; "
                "the same command with at_once=1 goes on there"
            ) from None


def make_pool(count: int) -> ProcessPoolExecutor:
    """Processes that load the library once, and then train one cell after the other."""
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    if "forkserver" in ways:
        context.set_forkserver_preload([__name__, "kagglekit.learners.choose"])
    return ProcessPoolExecutor(count, context, initializer=begin_worker)


def begin_worker() -> None:
    """End with the process that began this one, however that ends; leave Ctrl-C to it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def end() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


def train_cell(job: Job) -> str:
    """Train a cell and write its table; returns why it cannot be trained, "" when it is."""
    cell, place = job.cell, job.file.parent
    with quiet(), one_thread():
        try:
            choice, table, ids = learner(job.work, job.settings, job.folds)
            held_out, began = np.flatnonzero(table["fold"] == cell.fold), time.perf_counter()
            fitted = choice.fit(training_rows(table, cell.fold), held_out, place, cell.fold, cell.seed)
        except (ValueError, RuntimeError, MemoryError, ModuleNotFoundError, FloatingPointError) as error:
            remove(place)
            return " ".join(str(error).split()) or type(error).__name__
        about = {"run": job.folder.name, "fold": cell.fold, "seed": cell.seed, "folds": hash_folds(table)}
        about |= {"fingerprint": load(job.work).fingerprint, "seconds": time.perf_counter() - began}
        write_predictions(job.file, [ids[k] for k in held_out], fitted.oof, load(job.work).columns, cell.fold, about)
        for other in place.iterdir():
            if other != job.file:
                remove(other)
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a training prints is not shown: the race has its own lines."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread on a CPU, so that the tables do not depend on the machine's cores."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@lru_cache(2)
def load(work: Path) -> Task:
    """The task of a work folder, read once in a process, however many recipes there are."""
    return load_task(work)


@lru_cache(4)
def tables(work: Path, train_columns: tuple[str, ...], columns: tuple[str, ...]):
    """Train, test and folds of a work folder, with these columns besides those of the task; read once likewise."""
    task = load(work)
    train, test = read_train(task, list(train_columns)), read_test(task, list(columns))
    return train, test, read_folds(work, train["id"])


@lru_cache(LEARNERS)
def learner(work: Path, settings: str, folds: tuple[int, ...]):
    """Who learns with these settings, the table of folds, and the ids of train."""
    from kagglekit.learners.choose import choose_learner

    values = json.loads(settings)
    run = TrainingRun(**{name: values[name] for name in knobs_of(TrainingRun) if name in values}, work=str(work))
    recipe = Recipe(**{name: values[name] for name in knobs_of(Recipe) if name in values})
    train, test, table = tables(work, tuple(recipe.train_columns), tuple(recipe.columns))
    choice = choose_learner(run, recipe, load(work), train, test, table, list(folds))
    if choice.tuner is choice.learner and choice.tuner is not None:
        choice.tuner.keep = False
    return choice, table, train["id"].tolist()


def count_cells(backbone: str) -> int:
    """How many cells are trained at once: one for each core, as far as the memory holds them; on a GPU one."""
    import psutil
    import torch

    from kagglekit.model.backbones import find_backbone

    if torch.cuda.is_available():
        return 1
    place = Path(find_backbone(backbone)) if backbone not in PLAIN else Path()
    weights = sum(file.stat().st_size for file in place.glob("*.safetensors")) if place.is_dir() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / (LEAST + TIMES * weights))))
