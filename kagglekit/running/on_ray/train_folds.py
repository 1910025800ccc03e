"""Train the folds of a run on a Ray cluster: each in a task, by the notebook itself; the run comes home whole."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kagglekit.files import delete_folder, hash_files, read_json, shorten, temporary_folder, write_json
from kagglekit.running.command_line import Where
from kagglekit.running.fold_plan import FoldPlan, one_clock
from kagglekit.running.notebook import run_notebook
from kagglekit.running.on_ray.cluster import CellFailed, Cluster, Share
from kagglekit.running.on_ray.connect import connect
from kagglekit.running.on_ray.node import Job, Trained, pack, train_fold, unpack
from kagglekit.running.on_ray.storage import Storage, state_files
from kagglekit.running.terminal import FoldsLine
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.identity import changes
from kagglekit.runs.merge import merge_runs
from kagglekit.time_budget import kernel_began

ASIDE = ("folds", "hours", "overwrite", "checkpoint_every", "report_to")  # they change nothing of what is learned
OWN = ".checkpoints"  # in the work folder: the storage of a cluster of this machine alone


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
        write_json(file, {**parcel.at_home(params), "commit": commit()})
        if plan.values.get("overwrite") and ours.is_file() and changes(read_json(ours), read_json(file)):
            delete_folder(plan.run, "params.json")
        merge_runs(work, home, copy=False)
    return [f"CAUTION: {words}" for words in describe_versions(params["versions"])]


def describe_versions(there: Mapping[str, str]) -> list[str]:
    """What a node has that is not as here, by its versions of packages."""
    here = versions()
    other = [f"{name} {number} (here {here.get(name)})" for name, number in there.items() if here.get(name) != number]
    return [f"a node has {', '.join(other)}: results may differ in their last digits"] if other else []
