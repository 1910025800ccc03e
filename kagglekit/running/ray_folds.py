"""Train the folds of a run on a Ray cluster: each in a task, by the notebook itself; the run comes home whole."""

import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagglekit.files import delete_folder, hash_files, read_json, shorten, temporary_folder, write_json
from kagglekit.running.command_line import Where
from kagglekit.running.notebook import run_notebook
from kagglekit.running.parallel import GPU_FAILED, OUT_OF_MEMORY, FoldPlan, one_clock
from kagglekit.running.ray_cluster import PATIENCE, CellFailed, Cluster, Report, Share, TryElsewhere
from kagglekit.running.ray_connect import connect
from kagglekit.running.ray_storage import Keeper, Storage, state_files
from kagglekit.running.terminal import REPORTED, FoldsLine, read_reports
from kagglekit.running.warm_kernels import import_path
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.folder import changes
from kagglekit.runs.merge import merge_runs
from kagglekit.runs.record import count_seeds
from kagglekit.time_budget import STARTED, kernel_began

ASIDE = ("folds", "hours", "overwrite", "checkpoint_every", "report_to")  # they change nothing of what is learned
OWN = ".checkpoints"  # in the work folder: the storage of a cluster of this machine alone
LARGEST = 1 << 28  # bytes of a parcel in the object store; a file is never divided


@dataclass(frozen=True)
class Job:
    """What the tasks of a run share. parts: archives of the parcel, in the object store. arguments: of the notebook.
    work, run: the work folder in that of a task, and the run in it. states: fold -> what was there of it before.
    storage: its address and the run's folder there. began: when this command began. seeds: of each fold."""

    parts: list[Any]
    arguments: list[str]
    work: str
    run: str
    states: dict[int, Any]
    storage: tuple[str, str] | None
    began: float
    seeds: int
    cores: int


@dataclass(frozen=True)
class Trained:
    """What came of a fold. files: an archive of its run and its executed notebook. failed, code: why the notebook did
    not come to its end, and the exit code. resumed: whether it went on from the storage. cautions: of checkpoints."""

    files: bytes = field(repr=False)
    finished: bool
    resumed: bool
    cautions: list[str]
    failed: str = ""
    code: int = 0


def run_on_ray(
    notebook: str,
    parameters: dict[str, Any],
    where: Where,
    pack_step: Callable,
    folder: Path | None = None,
    *,
    force: bool = False,
    limit: float | None = None,
) -> Path:
    """Run a notebook like `run_notebook`, after training its folds with `train_on_ray`.

    The run of the whole notebook comes last, here: it finds the folds finished, and makes scores and figures.
    """
    began = time.monotonic()
    with one_clock():
        train_on_ray(notebook, parameters, where, pack_step, folder, limit=limit)
        left = None if limit is None else max(limit - (time.monotonic() - began), 0.001)
        return run_notebook(notebook, parameters, folder=folder, force=force, limit=left)


def train_on_ray(
    notebook: str,
    parameters: dict[str, Any],
    where: Where,
    pack_step: Callable,
    folder: Path | None = None,
    *,
    limit: float | None = None,
) -> list[int]:
    """Train the unfinished folds of a run on a cluster; returns those that it finished.

    pack_step: makes the `Parcel` of what the notebook reads, see `kaggle/build.py`; each node gets it once. The
    notebook trains one fold in a process of its own, with a copy of its own such as 3_train.base.fold0.ipynb. A fold
    comes home when it is finished, by `merge_runs`. One whose node has died is trained again on another, from the last
    checkpoint in the storage, with the result that it would have had on like hardware and the same number of threads.
    Any other error ends all tasks, as CellFailed with the message of the notebook. So does an interrupt.
    """
    end = None if limit is None else time.monotonic() + limit
    plan = FoldPlan.make(notebook, parameters, folder)
    if not plan.to_do:
        return []
    with plan.locked(), temporary_folder() as scratch:
        parcel = pack_step(plan.source, plan.given, plan.run, scratch)
        storage = _open_storage(where.storage, plan, parcel) if where.storage else None
        with connect(where.on) as cluster:
            share = cluster.share(where.cores, where.gpus)
            if cluster.ours and not storage:
                storage = _open_storage(str(plan.run.parent / OWN), plan, parcel)
            return _train(plan, parcel, cluster, share, storage, end)


def _open_storage(uri: str, plan: FoldPlan, parcel: Any) -> Storage:
    """The folder of a run in the storage: of other settings or inputs it is another one."""
    seen = {name: value for name, value in parcel.given.items() if name not in ASIDE}
    aside = ("notebooks/", f"{parcel.given['work']}/tokens/", f"{parcel.given['work']}/{plan.run.name}/")
    files = {at: hash_files([file]) for at, file in sorted(parcel.files.items()) if not at.startswith(aside)}
    text = json.dumps([plan.source.stem, seen, files], sort_keys=True)
    storage = Storage(uri, f"{plan.run.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    storage.claim({"run": plan.run.name, "parameters": parcel.given})
    return storage


def _ship(plan: FoldPlan, parcel: Any, share: Share, storage: Storage | None) -> Job:
    """Put what the tasks share into the object store, and what is there of unfinished folds."""
    import ray

    states = {}
    for fold in plan.to_do:
        place = plan.run / f"fold{fold}"
        if files := {f"fold{fold}/{file}": place / file for file in state_files(place)}:
            states[fold] = ray.put([*pack(files)])
    return Job(
        [ray.put(part) for part in pack(parcel.files)], plan.arguments(parcel.given, "notebooks"), parcel.given["work"],
        plan.run.name, states, (storage.uri, storage.name) if storage else None, kernel_began(),
        plan.values.get("seeds", 1), share.cores,
    )  # fmt: skip


def _train(
    plan: FoldPlan, parcel: Any, cluster: Cluster, share: Share, storage: Storage | None, end: float | None
) -> list[int]:
    """Train the folds of a plan, and bring each home when it is finished; returns these."""
    job, board, done = _ship(plan, parcel, share, storage), FoldsLine(plan.title, plan.to_do), []
    nodes, kept = len(cluster.nodes()), f"checkpoints in {storage.uri}" if storage else "no storage= for checkpoints"
    how = f"{share} for a fold, {cluster.at_once(share)} at a time, {kept}"
    board.say(f"on {cluster.on}, {nodes} node{'s' * (nodes != 1)}: {how}")
    told: set[str] = set()
    results = cluster.map_cells(train_fold, plan.to_do, share, job, watch=board.watch, lost=board.lose, end=end)
    try:
        for fold, trained in results:
            cautions = [f"fold {fold}  CAUTION: {text}" for text in trained.cautions]
            for line in (*cautions, *bring_home(trained, plan, parcel, job)):
                if line not in told:
                    told.add(line)
                    board.say(line)
            if trained.failed:
                failed = trained.failed.replace(f"{job.work}/", f"{shorten(plan.run.parent)}/")
                for there, here in parcel.home.items():
                    failed = failed.replace(there, here)
                raise CellFailed(f"fold {fold}: {failed}", trained.code)
            how = "done in {}" if trained.finished else "time is over after {}: it is not finished"
            board.end(fold, how + ", from a checkpoint in the storage" * trained.resumed)
            if trained.finished:
                done.append(fold)
                if storage:
                    storage.drop(f"fold{fold}")
    finally:
        results.close()
        board.close()
    if storage and len(done) == len(plan.to_do):
        storage.drop()
        with suppress(OSError):  # others are in it, or it is none of ours
            (plan.run.parent / OWN).rmdir()
    return sorted(done)


def bring_home(trained: Trained, plan: FoldPlan, parcel: Any, job: Job) -> list[str]:
    """Merge the run of a task into that of the work folder, where with `overwrite` one of other settings makes room;
    returns what is worth knowing: versions that differ."""
    with temporary_folder() as place:
        unpack(trained.files, place)
        work, home = place / job.work, plan.run.parent
        for copy in sorted((work / "notebooks").glob("*.ipynb")):
            shutil.move(copy, home / "notebooks" / copy.name)
        file, ours = work / job.run / "params.json", plan.run / "params.json"
        if not file.is_file():
            return []
        params = read_json(file)
        write_json(file, {**params, "recipe": parcel.at_home(params["recipe"]), "commit": commit()})
        if plan.values.get("overwrite") and ours.is_file() and changes(read_json(ours), read_json(file)):
            delete_folder(plan.run, "params.json")
        merge_runs(work, home, copy=False)
    return [f"CAUTION: {words}" for words in describe_versions(params["versions"])]


def describe_versions(there: Mapping[str, str]) -> list[str]:
    """What a node has that is not as here, by its versions of packages."""
    here = versions()
    other = [f"{name} {number} (here {here.get(name)})" for name, number in there.items() if here.get(name) != number]
    return [f"a node has {', '.join(other)}: results may differ in their last digits"] if other else []


def train_fold(fold: int, job: Job, report: Report) -> Trained:
    """The task of a fold, on its node: unpack, go on from the last state in the storage, train, pack.

    Raises CellFailed for a storage that is not shared, TryElsewhere for a fault of the machine.
    """
    import ray

    storage = Storage(*job.storage) if job.storage else None
    if storage and not storage.is_shared():
        raise CellFailed(f"storage={storage.uri!r} is not shared: this node does not see what was written there", 2)
    with temporary_folder() as home:
        for part in job.parts:
            unpack(ray.get(part), home)
        work, name = home / job.work, f"fold{fold}"
        run = work / job.run
        write_json(work / "task.json", {**read_json(work / "task.json"), "data": str(home / "data")})
        for part in ray.get(job.states[fold]) if fold in job.states else ():
            unpack(part, run)
        state, cautions = storage.load(name, run) if storage else ("", [])
        failed, code = "", 0
        if not state or count_seeds(run / name) < job.seeds:  # else it was finished, and its node died after it
            with Keeper(storage, name, run) as keeper:
                failed, code = _run_part(fold, job, home, report)
            cautions += [f"a checkpoint could not be kept: {keeper.problem}"] * bool(keeper.problem)
        kept = [work / "task.json", work / "folds.parquet", *(work / "notebooks").glob("*.ipynb")]
        kept += [run / file for file in state_files(run)]
        files = b"".join(pack({file.relative_to(home).as_posix(): file for file in kept}, math.inf))
        return Trained(files, count_seeds(run / name) >= job.seeds, bool(state), cautions, failed, code)


def _run_part(fold: int, job: Job, home: Path, report: Report) -> tuple[str, int]:
    """Run the notebook for one fold in a process of its own, and report what it is at; why it failed, and the exit
    code. Raises TryElsewhere for a GPU that fails, and where the memory is full."""
    state, cores = home / "progress.json", str(job.cores)
    environment = {
        **os.environ,
        **import_path(),
        REPORTED: str(state),
        STARTED: repr(job.began),
        "OMP_NUM_THREADS": cores,
    }
    if (home / "hub").is_dir():
        environment["HF_HUB_CACHE"] = str(home / "hub")
    line, shown = [sys.executable, "-m", "kagglekit.run", *job.arguments, *FoldPlan.part(fold)], None
    with open(home / "errors", "w") as errors:
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        process = subprocess.Popen(line, cwd=home, env=environment, start_new_session=True, **pipes)
        try:
            while process.poll() is None:
                if (now := read_reports(state)) and now != shown:
                    report(now)
                    shown = now
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
    message = "\n".join((home / "errors").read_text(errors="replace").strip().splitlines()[-25:])
    if process.returncode and (GPU_FAILED.search(message) or OUT_OF_MEMORY.search(message)):
        raise TryElsewhere(message)
    message, code = message.replace(f"{home}/", ""), process.returncode if process.returncode >= 0 else 1
    return (message or f"the process ended with code {process.returncode}") if code else "", code


def pack(files: Mapping[str, Path], largest: float = LARGEST) -> Iterator[bytes]:
    """Files, place -> file, as tar archives of about `largest` bytes."""
    groups: list[list[str]] = [[]]
    size = 0
    for place, file in files.items():
        size += file.stat().st_size
        if size > largest and groups[-1]:
            groups.append([])
            size = file.stat().st_size
        groups[-1].append(place)
    for group in groups:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for place in group:
                archive.add(files[place].resolve(), place)
        yield stream.getvalue()


def unpack(archive: bytes, place: Path) -> None:
    """Write the files of an archive of `pack` below a folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(place, filter="data")
