"""Bring earlier work into a kernel: files of bundles, runs of earlier kernels, and the task with its data."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from kagglekit.competition.mounts import find_competition, find_marked, show_inputs
from kagglekit.competition.tables import existing_files
from kagglekit.files import hash_files, read_json, replacing, resolve, write_json
from kagglekit.kaggle.bundle import BUNDLE_FILE, measure, read_bundle, unpack
from kagglekit.runs.merge import is_run, merge_runs

KERNEL_FILE = "kernel.json"  # written last by a kernel, see `in_kernel.leave`


def gather(root: Path | None = None) -> list[str]:
    """Bring all that is attached into the working directory, and return a line about each source.

    Files of bundles become links, except where `is_copied`. Runs of earlier kernels are copied with their finished
    folds and checkpoints, so that training goes on from there; files that exist stay. 1 s for each GB of a bundle, and
    the time to copy.
    root: of the inputs, see `mount_root`. Raises ValueError for bundles that contradict each other or are damaged, and
    for runs of other settings, folds or tasks, see `merge_runs`.
    """
    here, lines = resolve("."), []
    bundles, outputs = find_bundles(root), find_outputs(root)
    _check_bundles(bundles)
    for bundle in bundles:
        links, paths = unpack(bundle, here), {record["path"] for record in read_bundle(bundle)["files"]}
        for link in links:
            if is_copied(str(link.relative_to(here)), paths):
                with replacing(link) as part:
                    shutil.copyfile(link, part)
        lines.append(f"{bundle}: {len(links)} files")
    for source, place in outputs:
        target = here / place
        for name in ("task.json", "folds.parquet"):
            if (source / name).is_file() and not (target / name).exists():
                with replacing(target / name) as part:
                    shutil.copyfile(source / name, part)
        runs = any(is_run(folder) for folder in source.iterdir())
        came = merge_runs(source, target) if runs else {}
        merged = ", ".join(f"{run} {folds}" if folds else run for run, folds in came.items())
        lines.append(f"{source}: {f'runs {merged} go on in {place}' if merged else f'nothing new for {place}'}")
    return lines or [f"neither a bundle nor the output of a kernel is attached; {show_inputs(root)}"]


def is_copied(path: str, bundle: Collection[str]) -> bool:
    """Whether a file of a bundle must be a copy, by its place in the kernel: all outside of runs except weights, since
    a parameter may name it, and `resolve` would follow a link to a file of another name.

    bundle: the places of all its files, which show what the folders of runs are.
    """
    if path.endswith((".safetensors", "pytorch_model.bin")):
        return False
    top, *inside = path.split("/")
    if top != "runs":
        return True
    run = "/".join([top, *inside[:2]])
    known = inside[1:] in (["task.json"], ["folds.parquet"])
    return not known and not any(f"{run}/{name}" in bundle for name in ("params.json", "weights.json"))


def find_bundles(root: Path | None = None) -> list[Path]:
    """The folders of the bundles among the inputs; a bundle.json of another tool does not count."""
    return [file.parent for file in find_marked(BUNDLE_FILE, root) if "kagglekit" in _read_object(file)]


def _check_bundles(bundles: list[Path]) -> None:
    """Raise ValueError when two bundles have different files for one place."""
    known: dict[str, tuple[str, Path]] = {}
    for bundle in bundles:
        for record in read_bundle(bundle)["files"]:
            content, first = known.setdefault(record["path"], (record["sha256"], bundle))
            if content != record["sha256"]:
                raise ValueError(
                    f"{first} and {bundle} hold different files for {record['path']}: attach one of these data sets, "
                    "or build them again from one work folder"
                )


def find_outputs(root: Path | None = None) -> list[tuple[Path, str]]:
    """The work folders in outputs of earlier kernels, and where they go: ("/.../someone/kernel/runs/bbc", "runs/bbc").

    kernel.json names the folder that a kernel worked in; without it, runs/NAME with a task.json is one.
    """
    found: dict[Path, str] = {}
    for file in find_marked(KERNEL_FILE, root):
        record = _read_object(file)
        work = PurePosixPath(str(record.get("work", "")))
        if "kagglekit" in record and work.name and ".." not in work.parts and (file.parent / work).is_dir():
            found[file.parent / work] = str(work)
    for file in find_marked("task.json", root):
        if file.parent.parent.name == "runs" and "fingerprint" in _read_object(file):
            found.setdefault(file.parent, f"runs/{file.parent.name}")
    return list(found.items())


def _read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; {} for a file that holds none."""
    with suppress(ValueError):
        record = read_json(file)
        return record if isinstance(record, dict) else {}
    return {}


def settle_task(work: str | Path, competition: str = "", root: Path | None = None) -> str:
    """Write the folder where the competition's files are here into work/task.json; returns a line about it.

    Also into task.json of neighbouring work folders with the same data. competition: its slug; "": the files are where
    task.json says, else in any of the inputs. Train must hold the same bytes as at home. Where only test or the sample
    submission differ, as in the rerun of a code competition, the fingerprint is updated. Without a task.json nothing is
    done: 1_eda may be about to write one.
    Raises FileNotFoundError with a list of what is attached when the files are missing, ValueError for another train.
    """
    file = resolve(work) / "task.json"
    if not file.is_file():
        return f"{work} has no task yet: 1_eda writes it"
    task = read_json(file)
    names = list(task["files"].values())
    place = resolve(task["data"])
    if competition or not all((place / name).exists() for name in names):
        place = find_competition(competition, names, root)
    fingerprint = hash_files(existing_files(place, names))
    same = fingerprint == task["fingerprint"]
    if not same:
        _check_train(place / task["files"]["train"], set(_recorded_trains(root)))
    others = [path for path in file.parent.parent.glob("*/task.json") if path != file]
    for path in [file, *(path for path in others if _read_object(path).get("fingerprint") == task["fingerprint"])]:
        write_json(path, {**read_json(path), "data": str(place), "fingerprint": fingerprint})
    if same:
        return f"the competition's files are in {place}, the same as at home"
    return (
        f"the competition's files are in {place}: train is the same as at home, and test or the sample submission are "
        "others, as in the rerun of a code competition. Predictions made before do not fit: 5_submit needs predict=True"
    )


def describe_train(work: str | Path) -> dict[str, str]:
    """Name and SHA-256 of the train file of a work folder, for the next machine to compare; {} without one."""
    task = _read_object(file) if (file := resolve(work) / "task.json").is_file() else {}
    train = Path(task.get("data", ""), task.get("files", {}).get("train", ""))
    return {"name": train.name, "sha256": measure(train)["sha256"]} if task and train.is_file() else {}


def _recorded_trains(root: Path | None) -> Iterator[str]:
    """The hashes of train that bundles and earlier kernels recorded."""
    files = [bundle / BUNDLE_FILE for bundle in find_bundles(root)]
    files += [file for file in find_marked(KERNEL_FILE, root) if "kagglekit" in _read_object(file)]
    for record in map(_read_object, files):
        if isinstance(record.get("train"), dict) and record["train"].get("sha256"):
            yield record["train"]["sha256"]


def _check_train(file: Path, known: set[str]) -> None:
    """Raise ValueError unless a train file is the one that was recorded."""
    if not known:
        raise ValueError(
            f"the files beside {file} are not those that task.json was made from, and nothing attached says which "
            "train that was: attach the bundle that was built with the kernel"
        )
    if measure(file)["sha256"] not in known:
        raise ValueError(
            f"{file} is not the train file that the folds and models were made from: the competition's data have "
            "changed, or another competition is attached. Fetch its files again, run 1_eda on them in a new work "
            "folder, and build the kernel from that"
        )
