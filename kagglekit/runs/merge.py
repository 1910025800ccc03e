"""Runs that were made elsewhere come into a work folder: folds trained in several places become one run.

Everything is looked at before anything is written. A fold that is there already stays; one that is there with other
predictions, and a run of the same name with other settings, folds or task, is an error.

When runs of two work folders are one and the same: settings, tasks, folds, and predictions compared.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import file_lock, fold_folders, hash_files, read_json, remove, replacing, resolve, write_json
from kagglekit.runs.folder import differences
from kagglekit.runs.tables import hash_folds, read_metadata, read_predictions, read_run
from kagglekit.time_budget import UNFINISHED

APART = ("params.json", "score.json", "models.json")  # what tells of the whole run, whichever folds are there


@dataclass(frozen=True)
class Plan:
    """What is to come of one run: `names` of its folder, files and folders; those of folds and parts come last."""

    source: Path
    target: Path
    names: list[str] = field(default_factory=list)

    @property
    def folds(self) -> list[int]:
        """The finished folds that come."""
        return [fold for fold, place in fold_folders(self.source).items() if place.name in self.names]


def merge_runs(
    source: str | Path, work: str | Path, copy: bool = True, test_ids: Sequence[str] | None = None
) -> dict[str, list[int]]:
    """Bring the runs of one work folder into another: run -> the finished folds that came; runs of which all is there
    already are left out.

    New runs come whole, further folds are added, receipts are put together, and checkpoints of unfinished folds come
    where they are further on than those that are there. The score.json of a run that gets more folds is deleted: it
    tells of fewer. A work folder without task.json or folds.parquet gets those of `source`.
    copy: False moves the files, which takes no time on one disk. test_ids: of test in its order; None: as the first
    table says. Raises FileNotFoundError and ValueError as `plan_merge` does, before anything is written.
    """
    source, work = resolve(source), resolve(work)
    plans = plan_merge(source, work, test_ids)
    came = {plan.source.name: plan.folds for plan in plans}
    for name in ("task.json", "folds.parquet"):
        if (source / name).is_file() and not (work / name).is_file():
            _bring(source / name, work / name)
    for plan in plans:
        if (plan.source / "weights.json").is_file():
            _bring(plan.source, plan.target, copy)
            continue
        with file_lock(plan.target):
            _merge_records(plan)
        for name in plan.names:
            _bring(plan.source / name, plan.target / name, copy)
    return came


def find_works(root: str | Path) -> list[Path]:
    """The work folders in a tree, those with runs in them, in the order of their paths."""
    records = [*resolve(root).rglob("params.json"), *resolve(root).rglob("weights.json")]
    return sorted({path.parent.parent for path in records if is_run(path.parent)})


def is_run(place: Path) -> bool:
    """Whether a folder is that of a run or a blend."""
    return not place.name.startswith(".") and any((place / name).is_file() for name in ("params.json", "weights.json"))


def plan_merge(source: str | Path, work: str | Path, test_ids: Sequence[str] | None = None) -> list[Plan]:
    """What `merge_runs` would bring. Nothing is written.

    Raises FileNotFoundError for a folder without runs, ValueError that names file and run: for another task, other
    folds or another test file, for a run of other settings or inputs, and for a fold with other predictions.
    """
    source, work = resolve(source), resolve(work)
    runs = [place for place in sorted(source.iterdir()) if is_run(place)] if source.is_dir() else []
    if not runs:
        raise FileNotFoundError(f"{source} has no runs: no folder in it has a params.json or a weights.json")
    task, folds = common_task(source, work), common_folds(source, work)
    if test_ids is None:
        tables = [file for root in (work, source) for file in sorted(root.glob("*/fold*/test.parquet"))]
        test_ids = read_predictions(tables[0])["id"].tolist() if tables else []
    plans = []
    for run in runs:
        if fold_folders(run):
            if folds is None:
                raise ValueError(f"{run} has folds, and neither {source} nor {work} has a folds.parquet")
            read_run(source, run.name, task, folds, test_ids)
        plan = _plan_blend(run, work) if (run / "weights.json").is_file() else _plan_run(run, work)
        plans += [plan] if plan.names else []
    return plans


def _plan_run(run: Path, work: Path) -> Plan:
    """What is to come of a trained run, or of one of 2_pretrain."""
    home = work / run.name
    there = {path.name for path in home.iterdir()} if home.is_dir() else set()
    if there and "params.json" not in there:
        raise ValueError(f"{home} is no trained run, as {run} is: give one of them another name")
    if there - {"params.json"} and (changed := tell_changes(home, run)):
        raise ValueError(
            f"{home} was made with other settings than {run}: {'; '.join(changed)}. Give one of them another name"
        )
    names = sorted(path.name for path in run.iterdir() if not path.name.startswith(".") and path.name not in APART)
    parts, others = [name for name in names if is_part(run / name)], [n for n in names if not is_part(run / n)]
    if is_finished(run) and is_finished(home):  # a model of 2_pretrain belongs to no fold
        check_same(home, run)
    further = progress(run) > progress(home)
    if not further:
        others = [name for name in others if not (home / name).exists()]
    for name in [name for name in parts if is_finished(run / name) and is_finished(home / name)]:
        check_same(home / name, run / name)
    coming = [name for name in parts if progress(run / name) > progress(home / name)]
    new = ["params.json"] if there <= {"params.json"} else []  # of a run that nothing came of
    return Plan(run, home, [*new, *(others if further or coming or new else []), *coming])


def _plan_blend(run: Path, work: Path) -> Plan:
    """A blend comes whole or is there: its weights belong to exactly these folds of its members."""
    home = work / run.name
    if not home.exists():
        return Plan(run, home, sorted(path.name for path in run.iterdir()))
    ours, theirs = fold_folders(home), fold_folders(run)
    if not (home / "weights.json").is_file() or ours.keys() != theirs.keys():
        raise ValueError(f"{home} is not the blend that {run} is: give one of them another name, or blend anew here")
    for fold in theirs:
        check_same(ours[fold], theirs[fold])
    return Plan(run, home)


def _merge_records(plan: Plan) -> None:
    """What tells of the whole run comes first: a fold without its receipts would be none of the run."""
    source, target = plan.source, plan.target
    params, models, before = read_json(source / "params.json"), {}, fold_folders(target).keys()
    if "params.json" not in plan.names:
        ours = read_json(target / "params.json")
        came = {str(fold): params["receipts"].get(str(fold), {}) for fold in plan.folds}
        hashes = {name: value for name, value in ours["inputs"].items() if isinstance(value, dict)}  # fold by fold
        more = {name: value | params["inputs"][name] for name, value in hashes.items()}
        params = {**ours, "inputs": ours["inputs"] | more, "receipts": ours["receipts"] | came}
    write_json(target / "params.json", params)
    for root in (source, target):
        models |= read_json(root / "models.json") if (root / "models.json").is_file() else {}
    if models:
        write_json(target / "models.json", dict(sorted(models.items(), key=lambda item: int(item[0]))))
    if plan.folds and before - fold_folders(source).keys():
        remove(target / "score.json")
    elif (plan.folds or not before) and (source / "score.json").is_file():
        _bring(source / "score.json", target / "score.json")
    if "pretraining.json" in plan.names:  # what a training that was cut off has left
        for name in ("checkpoints", "candidates", "start", UNFINISHED):
            remove(target / name)


def _bring(source: Path, target: Path, copy: bool = True) -> None:
    """Copy or move a file or a folder, whole or not at all; in place of what is there. Links become what they lead to,
    modes are not taken along: what Kaggle mounts is read-only."""
    with replacing(target) as part:
        if not copy and not source.is_symlink():
            shutil.move(source, part)
        elif source.is_file():
            shutil.copyfile(source, part)
        else:
            for folder, _, files in os.walk(source, followlinks=True):
                place = part / Path(folder).relative_to(source)
                place.mkdir(parents=True)
                for name in files:
                    shutil.copyfile(Path(folder, name), place / name)


MOVED = "inputs"  # the folder of a kernel's working directory for files that lie elsewhere at home


def common_task(source: Path, work: Path) -> Task:
    """The task of two work folders, of which one may lack task.json. Raises ValueError where they differ, but for the
    place of the competition's files."""
    found = {root: read_json(root / "task.json") for root in (work, source) if (root / "task.json").is_file()}
    if not found:
        raise ValueError(f"neither {source} nor {work} has a task.json: it is not known what the runs predict")
    if len(found) == 2:
        ours, theirs = ({name: value for name, value in each.items() if name != "data"} for each in found.values())
        if changed := differences(ours, theirs):
            raise ValueError(
                f"the runs in {source} were made for another task than {work / 'task.json'} tells: "
                f"{'; '.join(changed)}. Bring them into a work folder of their own"
            )
    return Task(**next(iter(found.values())))


def common_folds(source: Path, work: Path) -> pd.DataFrame | None:
    """The folds of two work folders, None where neither has some. Raises ValueError where they differ."""
    files = [root / "folds.parquet" for root in (work, source) if (root / "folds.parquet").is_file()]
    tables = [pd.read_parquet(file) for file in files]
    if len({hash_folds(table) for table in tables}) > 1:
        raise ValueError(
            f"the runs in {source} were made with other folds than {files[0]} has: they cannot be blended. Train them "
            "on the same folds, or bring them into a work folder of their own"
        )
    return tables[0] if tables else None


def tell_changes(ours: Path, theirs: Path) -> list[str]:
    """How two runs of one name differ by their params.json, in words; hashes by fold count where both have them."""
    before, now = read_json(ours / "params.json"), read_json(theirs / "params.json")
    recipe = {name: _at_home(before["recipe"].get(name), value) for name, value in now["recipe"].items()}
    changed = differences(before["recipe"], recipe)
    for name in sorted({*before["inputs"], *now["inputs"]}):
        then, there = before["inputs"].get(name), now["inputs"].get(name)
        if isinstance(then, dict) and isinstance(there, dict):
            then, there = ({fold: each[fold] for fold in then.keys() & there.keys()} for each in (then, there))
        changed += [f"the {name} changed"] if then != there else []
    return changed


def _at_home(ours: Any, theirs: Any) -> Any:
    """A setting of a kernel as it is written here: `inputs/NAME` is the file of that name that lies elsewhere here, of
    which the hashes of the inputs tell whether it is the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {name: _at_home(ours.get(name), value) for name, value in theirs.items()}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [_at_home(*pair) for pair in zip(ours, theirs, strict=True)]
    if isinstance(ours, str) and isinstance(theirs, str) and theirs == str(PurePosixPath(MOVED, Path(ours).name)):
        return ours
    return theirs


def is_part(place: Path) -> bool:
    """Whether a folder of a run is that of a fold, or of a part of 2_pretrain."""
    kind = "part" if place.name.startswith("part") else "fold"
    return place.name.removeprefix(kind).isdecimal() and place.name.startswith(kind)


def is_finished(place: Path) -> bool:
    """Whether a fold, or a training of 2_pretrain, has come to its end."""
    tables = all((place / name).is_file() for name in ("oof.parquet", "test.parquet"))
    return tables or (place / "pretraining.json").is_file()


def progress(place: Path) -> tuple[int, int, int]:
    """How far a fold or a part is: finished (1 or 0), models that are done, steps of the last complete checkpoint.

    Of the folder of a run: what is in it beside folds and parts.
    """
    files = [path for path in place.rglob("*") if path.name == "complete" or path.suffix == ".safetensors"]
    files = [path for path in files if not is_part(place / path.relative_to(place).parts[0])]
    done = [path for path in files if path.suffix == ".safetensors" and "checkpoints" not in path.parts]
    steps = [path.parent.name.removeprefix("checkpoint-") for path in files if path.name == "complete"]
    return int(is_finished(place)), len(done), max((int(step) for step in steps if step.isdecimal()), default=0)


def check_same(ours: Path, theirs: Path) -> None:
    """Raise ValueError where two finished folds, or two models of 2_pretrain, came out differently."""
    again = "two trainings of one recipe that came out differently. Keep one of them, or give one run another name"
    for name in ("oof.parquet", "test.parquet"):
        if (ours / name).is_file() and (theirs / name).is_file():
            first, second = (read_predictions(place / name) for place in (ours, theirs))
            saw = [read_metadata(place / name).get("saw") for place in (ours, theirs)]
            if not first.equals(second) or len({*saw}) > 1:
                raise ValueError(f"{ours / name} and {theirs / name} hold other predictions of the same fold: {again}")
    if (ours / "pretraining.json").is_file():
        weights = [sorted(place.glob("**/model/*.safetensors")) for place in (ours, theirs)]
        if hash_files(weights[0]) != hash_files(weights[1]):
            raise ValueError(f"{ours / 'model'} and {theirs / 'model'} hold other weights: {again}")
