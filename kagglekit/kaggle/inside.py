"""The first and the last thing that a kernel does: settle in, and leave only what is worth keeping."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from kagglekit import __version__
from kagglekit.device import choose_precision
from kagglekit.files import fold_folders, resolve, run_folder, write_json
from kagglekit.kaggle.fresh import MARK as DRY_RUN
from kagglekit.kaggle.gather import KERNEL_FILE, gather, settle_task, tell_train
from kagglekit.kaggle.leaving import tell_sizes, tidy, write_last_submission
from kagglekit.running.done import fill
from kagglekit.running.gpus import Gpus, working_gpus
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parallel import run_in_parallel
from kagglekit.running.parameters import read_parameters, with_defaults
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.merge import is_run
from kagglekit.runs.record import read_scores
from kagglekit.runs.tables import read_metadata
from kagglekit.time_budget import kernel_began, unfinished

IMAGE = ("/etc/git_commit", "/etc/build_date")  # what Kaggle's image tells of itself


def enter(work: str | Path, competition: str = "", gpu: bool = False, runs: Sequence[str] = ()) -> None:
    """Say what the kernel runs on, bring in what is attached, and check that it is what it was at home.

    work: the work folder, relative to the working directory, such as "runs/bbc". competition: its slug; empty: where
    task.json says that its files are. gpu: whether one must work; each is asked to compute something (10 s). runs:
    whose golden rows are scored again before anything else; empty: of all that have some, with all their models.
    Raises RuntimeError where no GPU works, or where a model says something else than at home; FileNotFoundError and
    ValueError as `gather` and `settle_task` do. Each says what to do.
    """
    for line in tell_machine(gpu):
        print(line)
    for line in gather():
        print(line)
    print(settle_task(work, competition))
    for line in check_golden(work, runs):
        print(line)


def tell_machine(gpu: bool) -> list[str]:
    """Image, versions, GPUs and precision, a line each. gpu: one must work; those that do not are hidden from here on.

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


def check_golden(work: str | Path, runs: Sequence[str] = ()) -> list[str]:
    """Score the golden rows of runs again, and say in a line each how near they come; see `check_parity`.

    runs: which; empty: all that have golden rows and all the models that they are of. A run without golden rows keeps
    no model, such as TF-IDF, which learns anew. Raises RuntimeError for a model that says something else than at home.
    """
    golden = {file.parent.name: file for file in sorted(resolve(work).glob("*/golden.parquet"))}
    lines = [f"golden rows of {run}: it keeps no model" for run in runs if run not in golden]
    for run in runs or golden:
        if run not in golden:
            continue
        models = read_metadata(golden[run]).get("models", {})
        if not runs and not all((resolve(work) / model).is_dir() for model in models.values()):
            lines.append(f"golden rows of {run}: its models are not attached, so there is nothing to compare")
            continue
        from kagglekit.kaggle.parity import check_parity  # what it imports takes seconds, and most kernels train

        table = check_parity(work, run)
        worst = table.loc[table["largest difference"].idxmax()]
        lines.append(
            f"golden rows of {run}: scored as at home, by {len(table)} of {len(table)} models (largest difference "
            f"{worst['largest difference']:.2g}, {worst['run']} fold {worst['fold']}; tolerance {worst['tolerance']:g})"
        )
    return lines


def run_step(notebook: str, parameters: dict[str, Any]) -> None:
    """Run a notebook as one of several steps of a kernel, its folds side by side where there are GPUs for it.

    After time has cut a step, those that read its run, or one that was not made for want of it, are passed over: the
    kernel comes to its end, and its output is kept. An error of a step is the kernel's.
    """
    source = find_notebook(notebook)
    values = with_defaults(read_parameters(source), parameters)
    reads = nbformat.read(source, as_version=4).metadata.get("kagglekit", {}).get("reads", [])
    cut = {run.name for run in resolve(values["work"]).glob("*") if unfinished(run)}
    read = [Path(path) for path in fill(reads, values) if "*" not in path]
    read = [path.name for path in read if path.parent == Path(values["work"]) and not path.suffix]
    if "{work}/{runs}" in reads and not (values["runs"] or values["files"]):  # then it reads all that there are
        read += sorted(cut)
    if lacking := [name for name in read if cut and (name in cut or not run_folder(values["work"], name).is_dir())]:
        print(f"{notebook} is passed over: time has cut {', '.join(sorted(cut))}, and it reads {', '.join(lacking)}")
        return
    run_in_parallel(notebook, parameters)


def leave(work: str | Path, *runs: str) -> None:
    """Leave a submission, what the kernel made, and kernel.json that tells of it; delete links and caches.

    submission.csv in the working directory is what 5_submit made; else the mean of the finished folds of the last of
    `runs` that has some; with none, the sample submission itself, and that is said loudly: a kernel without the file
    scores nothing, and an error here would lose the folds. Without `runs`, as for a kernel that only looks at the data,
    there is no submission.
    kernel.json: kagglekit, versions, commit, seconds since the kernel began, work, train (name and sha256), runs (name
    -> finished folds), and submission: what it is made of.
    """
    submission = write_last_submission(work, runs)
    train = tell_train(work)
    tidy(work)
    told = {
        "kagglekit": __version__,
        "versions": versions(),
        "commit": commit(),
        "seconds": round(time.time() - kernel_began(), 1),
        "work": str(work),
        "train": train,
        "runs": {place.name: list(fold_folders(place)) for place in sorted(resolve(work).glob("*")) if is_run(place)},
        "submission": submission,
    }
    write_json(resolve(KERNEL_FILE), told)
    scores = read_scores(work)
    if len(scores):
        print(scores.round(4).to_string())
    print(*tell_sizes(resolve(".")), sep="\n")
