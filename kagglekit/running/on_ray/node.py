"""A fold on its node: unpack what came, go on from the last state in the storage, train, and pack what goes home."""

import io
import math
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagglekit.files import read_json, temporary_folder, write_json
from kagglekit.running.fold_plan import FoldPlan
from kagglekit.running.on_ray.cluster import PATIENCE, CellFailed, Report, TryElsewhere
from kagglekit.running.on_ray.storage import Keeper, Storage, state_files
from kagglekit.running.parallel import GPU_FAILED, OUT_OF_MEMORY
from kagglekit.running.terminal import REPORTED, read_reports
from kagglekit.running.warm_kernels import import_path
from kagglekit.runs.record import count_seeds
from kagglekit.time_budget import STARTED

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
