"""The first and the last cell of a kernel: bring in what is attached; leave a submission and what is worth keeping."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kagglekit import __version__
from kagglekit.competition.mounts import mount_root
from kagglekit.competition.submission import check_submission, make_submission, write_submission
from kagglekit.competition.task import load_task, read_sample, read_test, read_train
from kagglekit.device import choose_precision
from kagglekit.files import fold_folders, read_json, remove, replacing, resolve, run_folder, write_json
from kagglekit.files.parquet import read_metadata
from kagglekit.kaggle.bundle import GOLDEN_FILE, differs, read_bundle, show_size
from kagglekit.kaggle.fresh_environment import MARK as DRY_RUN
from kagglekit.kaggle.gather import KERNEL_FILE, describe_train, find_bundles, gather, is_copied, settle_task
from kagglekit.running import nbformat
from kagglekit.running.arguments import with_defaults
from kagglekit.running.done import find_reads
from kagglekit.running.gpus import Gpus, working_gpus
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parallel import run_in_parallel
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.merge import is_run
from kagglekit.runs.record import read_scores
from kagglekit.runs.tables import read_folds, read_run
from kagglekit.time_budget import kernel_began, unfinished

IMAGE = ("/etc/git_commit", "/etc/build_date")  # files in which Kaggle's image names itself
RECORDS = ("params.json", "weights.json", "models.json", "score.json")  # records of a run
CACHES = ("tokens", "__pycache__", ".ipynb_checkpoints")
DISK = 20e9  # bytes that Kaggle keeps of a kernel's working directory


def enter(
    work: str | Path, competition: str = "", gpu: bool = False, runs: Sequence[str] = (), precision: str = ""
) -> None:
    """Show what the kernel runs on, bring in what is attached, and check that models score as at home.

    work: the work folder, relative to the working directory, such as "runs/bbc". competition: its slug; "": its files
    are where task.json says. gpu: whether one must work; each is asked to compute something (10 s). runs: whose golden
    rows are scored before anything else; by default of all runs that have some, with all their models. precision: in
    which they are, that of 5_submit: what does not fit the memory otherwise is never loaded so. "": see
    `check_golden_rows`.
    Raises RuntimeError where no GPU works, or where a model scores otherwise than at home; FileNotFoundError and
    ValueError as `gather` and `settle_task` do.
    """
    for line in describe_machine(gpu):
        print(line)
    for line in gather():
        print(line)
    print(settle_task(work, competition))
    for line in check_golden(work, runs, precision):
        print(line)


def describe_machine(gpu: bool) -> list[str]:
    """Image, versions, GPUs and precision, a line each. gpu: one must work; broken ones are hidden from here on.

    Raises RuntimeError where a GPU must work and none does.
    """
    image = [file.read_text().strip() for file in map(Path, IMAGE) if file.is_file()]
    lines = [f"image      {' of '.join(image)}"] if image else []
    lines.append(f"versions   {', '.join(f'{name} {version}' for name, version in versions().items())}")
    if not gpu:
        return [*lines, f"machine    {os.cpu_count()} CPU cores, precision {choose_precision()}"]
    gpus = working_gpus()
    if not gpus and DRY_RUN in os.environ:
        return [*lines, f"machine    NO GPU works here ({gpus}): a dry run goes on with the CPU, a kernel would stop"]
    if not gpus:
        raise RuntimeError(
            f'this kernel needs a GPU, and none works: {gpus}. Set "enable_gpu": true and "machine_shape": '
            '"NvidiaTeslaT4" in kernel-metadata.json and push it again, or choose the accelerator "GPU T4 x2" in the '
            "editor; a P100 has no code in today's torch"
        )
    if gpus.broken:
        hide_broken(gpus)
    precision = "bf16" if min(gpu.capability for gpu in gpus) >= (8, 0) else "fp16"
    return [*lines, *(f"machine    {line}" for line in str(gpus).splitlines()), f"precision  {precision}"]


def hide_broken(gpus: Gpus) -> None:
    """Let this process, and those that it starts, see only the GPUs that work; before torch has used one."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [seen.split(",")[index] if seen else str(index) for index in gpus.indices]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)


def check_golden(work: str | Path, runs: Sequence[str] = (), precision: str = "") -> list[str]:
    """Score the golden rows of runs again, and return a line each about the difference; see `check_golden_rows`.

    runs: by default all that have golden rows and all their models. A run without golden rows keeps no model, such as
    TF-IDF, which learns again. Raises RuntimeError for a model that scores otherwise than at home.
    """
    golden = {file.parent.name: file for file in sorted(resolve(work).glob(f"*/{GOLDEN_FILE}"))}
    lines = [f"golden rows of {run}: it keeps no model" for run in runs if run not in golden]
    for run in [run for run in runs or golden if run in golden]:
        models = read_metadata(golden[run]).get("models", {})
        if not runs and not all((resolve(work) / model).is_dir() for model in models.values()):
            lines.append(f"golden rows of {run}: its models are not attached, so there is nothing to compare")
            continue
        from kagglekit.kaggle.golden_rows import check_golden_rows  # its imports take seconds, and most kernels train

        table = check_golden_rows(work, run, precision or None)
        images, table = table[table["fold"] == "images"], table[table["fold"] != "images"]
        worst = table.loc[table["largest difference"].idxmax()]
        lines.append(
            f"golden rows of {run}: scored as at home, by {len(table)} of {len(table)} models (largest difference "
            f"{worst['largest difference']:.2g}, {worst['run']} fold {worst['fold']}; tolerance {worst['tolerance']:g})"
        )
        lines += [
            f"golden images of {one.run}: {one.rows} read as at home (largest difference {one[4]:.2g}; tolerance "
            f"{one.tolerance:g})"
            for one in images.itertuples()
        ]
    return lines


def run_step(notebook: str, parameters: dict[str, Any]) -> None:
    """Run a notebook as one of several steps of a kernel, its folds in parallel where there are GPUs for it.

    After time has cut a step, the steps that read its run, or a run that is missing for want of it, are skipped: the
    kernel reaches its end, and its output is kept. An error of a step is an error of the kernel.
    """
    source = find_notebook(notebook)
    known, content = read_parameters(source), nbformat.read(source, as_version=4)
    values = with_defaults(known, parameters)
    cut = {run.name for run in resolve(values["work"]).glob("*") if unfinished(run)}
    read = [Path(path) for path in find_reads(content, values, known) if "*" not in path]
    read = [path.name for path in read if path.parent == Path(values["work"]) and not path.suffix]
    if values.get("runs") == [] and not values["files"]:  # then it reads all that there are
        read += sorted(cut)
    if lacking := [name for name in read if cut and (name in cut or not run_folder(values["work"], name).is_dir())]:
        print(f"{notebook} is skipped: time has cut {', '.join(sorted(cut))}, and it reads {', '.join(lacking)}")
        return
    run_in_parallel(notebook, parameters)


def leave(work: str | Path, *runs: str) -> None:
    """Leave a submission, what the kernel made, and kernel.json that describes it; delete links and caches.

    submission.csv in the working directory is that of 5_submit; else the mean of the finished folds of the last of
    `runs` that has some; else the sample submission itself, with a warning: a kernel without the file scores nothing,
    and an error here would lose the folds. Without `runs`, as for a kernel that only looks at the data, there is none.
    kernel.json: kagglekit, versions, commit, seconds since the kernel began, work, train (name and sha256), runs (name
    -> finished folds), and submission: what it was made of.
    """
    submission = write_last_submission(work, runs)
    train = describe_train(work)
    tidy(work)
    record = {
        "kagglekit": __version__,
        "versions": versions(),
        "commit": commit(),
        "seconds": round(time.time() - kernel_began(), 1),
        "work": str(work),
        "train": train,
        "runs": {place.name: list(fold_folders(place)) for place in sorted(resolve(work).glob("*")) if is_run(place)},
        "submission": submission,
    }
    write_json(resolve(KERNEL_FILE), record, plain=True)
    scores = read_scores(work)
    if len(scores):
        print(scores.round(4).to_string())
    sizes = {file: file.stat().st_size for file in _files(resolve("."))}
    total = sum(sizes.values())
    print(f"output     {show_size(total)} in {len(sizes)} files; Kaggle keeps {DISK / 1e9:g} GB")
    for file in sorted(sizes, key=sizes.get, reverse=True)[:5]:
        print(f"           {show_size(sizes[file]):>13}  {file.relative_to(resolve('.'))}")
    if total > DISK:
        print("WARNING: that is more than Kaggle keeps")


def write_last_submission(work: str | Path, runs: Sequence[str] = ()) -> dict[str, Any]:
    """Write submission.csv in the working directory, see `leave`, print what it was made of, and return that.

    runs: in the order in which they were made; the last one counts that has a finished fold which fits.
    {"from": "5_submit" or "folds" or "sample" or "nothing", "run": its name, "folds": [...], "why": in words}.
    """
    target, made = resolve("submission.csv"), resolve(work) / "submission.csv"
    if made.is_file() and not made.is_symlink():
        file = resolve(work) / "submission.json"
        run = (read_json(file) if file.is_file() else {}).get("run")
        if made != target:
            with replacing(target) as part:
                shutil.copyfile(made, part)
        print(f"submission.csv is that of 5_submit, run {run}")
        return {"from": "5_submit", "run": run}
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
        write_submission(frame, target, **task.csv)
        print(f"submission.csv is the mean of the finished folds {result.folds} of {run}")
        return {"from": "folds", "run": run, "folds": result.folds}
    write_submission(sample, target, **task.csv)
    why = "; ".join(why)
    print(f"WARNING: submission.csv is the SAMPLE SUBMISSION itself and will score as that. No fold to use: {why}")
    return {"from": "sample", "run": runs[-1], "why": why}


def tidy(work: str | Path) -> None:
    """Delete what the output of a kernel need not hold: links to inputs, copies of them, caches, locks, half-written
    files, and the initial weights of unfinished folds, which are made again.

    A run with something new keeps its records, as files in place of links, and its work folder keeps the folds. Nothing
    outside of the working directory is touched.
    """
    here, work, bundles = resolve("."), resolve(work), find_bundles()
    caches = [path for name in CACHES for path in work.rglob(name) if path.is_dir()]
    for path in [*caches, *work.glob("*/fold*/**/start"), *work.rglob(".*.part"), *work.rglob(".*.lock")]:
        remove(path)
    new = [place for place in work.glob("*") if place.is_dir() and any(_files(place))]
    for file in [work / "folds.parquet", *(place / name for place in new for name in RECORDS)]:
        if file.is_symlink() and file.is_file():
            with replacing(file) as part:
                shutil.copyfile(file, part)
    records = [record for bundle in bundles for record in read_bundle(bundle)["files"]]
    paths = {record["path"] for record in records}
    for record in records:
        copy = here / record["path"]
        if is_copied(record["path"], paths) and not copy.is_symlink() and not differs(copy, record):
            _delete(copy, here)
    inputs = [place.resolve() for place in (mount_root(), *bundles)]
    for path in sorted(here.rglob("*")):
        if path.is_symlink() and any(path.resolve().is_relative_to(place) for place in inputs):
            _delete(path, here)


def _files(folder: Path) -> list[Path]:
    """The files below a folder that are no links."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _delete(path: Path, here: Path) -> None:
    """Delete a file, and the folders above it that are empty then."""
    path.unlink()
    for folder in path.parents:
        if folder == here or any(folder.iterdir()):
            return
        folder.rmdir()
