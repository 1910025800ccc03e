"""The end of a kernel: a submission from what is there, and an output with nothing in it that others have already."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kagglekit.competition.mounts import mount_root
from kagglekit.competition.submission import check_submission, make_submission, write_submission
from kagglekit.competition.task import load_task, read_sample, read_test, read_train
from kagglekit.files import read_json, remove, replacing, resolve
from kagglekit.kaggle.bundle import differs, read_bundle
from kagglekit.kaggle.gather import find_bundles, is_copied
from kagglekit.runs.tables import read_folds, read_run

RECORDS = ("params.json", "weights.json", "models.json", "score.json")  # what tells of a run
CACHES = ("tokens", "__pycache__", ".ipynb_checkpoints")
DISK = 20e9  # bytes that Kaggle keeps of a kernel's working directory


def write_last_submission(work: str | Path, runs: Sequence[str] = ()) -> dict[str, Any]:
    """Write submission.csv in the working directory, see `leave`, say of what, and return that.

    runs: in the order in which they were made; the last one counts that has a finished fold which fits.
    {"from": "5_submit" or "folds" or "sample" or "nothing", "run": its name, "folds": [...], "why": in words}.
    """
    target, made = resolve("submission.csv"), resolve(work) / "submission.csv"
    if made.is_file() and not made.is_symlink():
        told = read_json(resolve(work) / "submission.json") if (resolve(work) / "submission.json").is_file() else {}
        if made != target:
            with replacing(target) as part:
                shutil.copyfile(made, part)
        print(f"submission.csv is that of 5_submit, run {told.get('run')}")
        return {"from": "5_submit", "run": told.get("run")}
    if not runs:
        print("no submission: this kernel was not asked for one")
        return {"from": "nothing", "run": ""}
    try:
        task = load_task(work)
        sample = read_sample(task)
    except (FileNotFoundError, ValueError) as error:
        print(f"WARNING: there is NO submission.csv: {error}")
        return {"from": "nothing", "run": runs[-1], "why": str(error)}
    why = []
    for run in reversed(runs):
        try:
            test = read_test(task)
            result = read_run(work, run, task, read_folds(work, read_train(task)["id"]), test["id"])
            frame = make_submission(task, sample, test["id"], result.test_mean)
            check_submission(frame, sample, task)
        except (FileNotFoundError, ValueError) as error:
            why.append(str(error))
            continue
        write_submission(frame, target)
        print(f"submission.csv is the mean of the finished folds {result.folds} of {run}")
        return {"from": "folds", "run": run, "folds": result.folds}
    write_submission(sample, target)
    why = "; ".join(why)
    print(f"WARNING: submission.csv is the SAMPLE SUBMISSION itself and will score as that. No fold to use: {why}")
    return {"from": "sample", "run": runs[-1], "why": why}


def tidy(work: str | Path) -> None:
    """Delete what the output of a kernel need not hold: links to inputs, copies of them, caches, half-written files.

    Locks go too, and what an unfinished fold began from, which is made anew when it goes on. A run with something new
    keeps the records that tell of it, as files in place of links; so does its work folder the folds. Nothing outside of
    the working directory is touched.
    """
    here, work, bundles = resolve("."), resolve(work), find_bundles()
    caches = [path for name in CACHES for path in work.rglob(name) if path.is_dir()]
    for path in [*caches, *work.glob("*/fold*/start"), *work.rglob(".*.part"), *work.rglob(".*.lock")]:
        remove(path)
    for folder in [place for place in work.glob("*") if place.is_dir() and any(_files(place))]:
        for name in RECORDS:
            _make_real(folder / name)
    _make_real(work / "folds.parquet")
    records = [record for bundle in bundles for record in read_bundle(bundle)["files"]]
    paths = {record["path"] for record in records}
    for record in records:
        copy = here / record["path"]
        if is_copied(record["path"], paths) and not copy.is_symlink() and not differs(copy, record):
            copy.unlink()
            _prune(copy, here)
    for link in list(_links(here, [mount_root(), *bundles])):
        link.unlink()
        _prune(link, here)


def _make_real(file: Path) -> None:
    if file.is_symlink() and file.is_file():
        with replacing(file) as part:
            shutil.copyfile(file, part)


def _links(folder: Path, inputs: list[Path]) -> Iterator[Path]:
    """The links below a folder that lead into one of `inputs`."""
    roots = [place.resolve() for place in inputs]
    for below, folders, files in os.walk(folder):
        for path in (Path(below, name) for name in (*folders, *files)):
            if path.is_symlink() and any(path.resolve().is_relative_to(root) for root in roots):
                yield path


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are no links."""
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _prune(gone: Path, here: Path) -> None:
    """Delete the folders above something deleted that are empty now."""
    for folder in gone.parents:
        if folder == here or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def tell_sizes(folder: Path) -> list[str]:
    """How much an output holds, and the largest files in it, in lines."""
    sizes = {file: file.stat().st_size for file in _files(folder)}
    total = sum(sizes.values())
    lines = [f"output     {total / 1e6:,.1f} MB in {len(sizes)} files; Kaggle keeps {DISK / 1e9:g} GB"]
    for file in sorted(sizes, key=sizes.get, reverse=True)[:5]:
        lines.append(f"           {sizes[file] / 1e6:10,.1f} MB  {file.relative_to(folder)}")
    return [*lines, "WARNING: that is more than Kaggle keeps"] if total > DISK else lines
