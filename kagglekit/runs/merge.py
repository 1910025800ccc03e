"""Merge runs that were made elsewhere into a work folder: folds trained in several places become one run.

Everything is checked before anything is written. A fold that is there already stays. One with other predictions, and a
run of the same name with other settings, folds or task, is an error.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import PART, file_lock, fold_folders, hash_files, read_json, remove, replacing, resolve, write_json
from kagglekit.files.parquet import read_metadata, read_parquet
from kagglekit.options import current_names
from kagglekit.runs.identity import changes, differences, more_folds
from kagglekit.runs.record import RunRecord, count_seeds, with_seeds
from kagglekit.runs.seeds import TABLES, own_tables
from kagglekit.runs.tables import hash_folds, read_run
from kagglekit.time_budget import UNFINISHED

RECORDS = ("params.json", "score.json", "models.json")  # of the whole run, whichever folds are there
MOVED = "inputs"  # the folder in a kernel for files from outside of work folders


@dataclass(frozen=True)
class MergePlan:
    """What comes of one run: `names` of files and folders in its folder, those of folds and parts last."""

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
    """Merge the runs of one work folder into another: run -> the finished folds that came, without runs that are there.

    Receipts are put together, and checkpoints of unfinished folds come where they are further on; a fold of more seeds
    takes the place of one of fewer. The score.json of a run that gets more folds is deleted: it is of fewer. A work
    folder without task.json or folds.parquet gets them too.
    copy: False moves the files. test_ids: of test in its order; None: as in the first table.
    Raises as `plan_merge` does, before anything is written.
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


def plan_merge(source: str | Path, work: str | Path, test_ids: Sequence[str] | None = None) -> list[MergePlan]:
    """What `merge_runs` would bring. Nothing is written.

    Raises FileNotFoundError for a folder without runs, ValueError that names file and run: for another task, other
    folds or another test file, for a run of other settings or inputs, and for a fold with other predictions.
    """
    source, work = resolve(source), resolve(work)
    runs = [place for place in sorted(source.iterdir()) if is_run(place)] if source.is_dir() else []
    if not runs:
        raise FileNotFoundError(f"{source} has no runs: no folder in it has a params.json or a weights.json")
    task, folds = _common_task(source, work), _common_folds(source, work)
    if test_ids is None:
        tables = [file for root in (work, source) for file in sorted(root.glob("*/fold*/test.parquet"))]
        test_ids = read_parquet(tables[0])["id"].tolist() if tables else []
    plans = []
    for run in runs:
        if fold_folders(run):
            if folds is None:
                raise ValueError(f"{run} has folds, and neither {source} nor {work} has a folds.parquet")
            read_run(source, run.name, task, folds, test_ids)
        plan = _plan_blend(run, work) if (run / "weights.json").is_file() else _plan_run(run, work)
        plans += [plan] if plan.names else []
    return plans


def _plan_run(run: Path, work: Path) -> MergePlan:
    """What comes of a trained run, or of one of 2_pretrain."""
    home = work / run.name
    there = {path.name for path in home.iterdir()} if home.is_dir() else set()
    new = there <= {"params.json"}
    if there and "params.json" not in there:
        raise ValueError(f"{home} is no trained run, as {run} is: give one of them another name")
    if not new:
        ours, theirs = read_json(home / "params.json"), read_json(run / "params.json")
        known, came = (current_names(params["recipe"]) for params in (ours, theirs))
        recipe = {name: _at_home(known.get(name), value) for name, value in came.items()}
        rates = [{f"the rate of {name}": rate for name, rate in RunRecord(one).rates.items()} for one in (home, run)]
        changed = changes(ours, {**theirs, "recipe": recipe}) + (differences(*rates)[:1] if all(rates) else [])
        both = [params.get("defaults", {}) for params in (ours, theirs)]
        changed += differences(*({name: one[name] for name in both[0].keys() & both[1].keys()} for one in both))
        if changed:
            raise ValueError(
                f"{home} was made with other settings than {run}: {'; '.join(changed)}. Give one of them another name"
            )
    names = sorted(path.name for path in run.iterdir() if not path.name.startswith(".") and path.name not in RECORDS)
    parts, others = [n for n in names if PART.fullmatch(n)], [n for n in names if not PART.fullmatch(n)]
    for name in ("", *parts):  # "": a model of 2_pretrain belongs to no fold
        _check_same(home / name, run / name)
    coming = [name for name in parts if _progress(run / name) > _progress(home / name)]
    if _progress(run) <= _progress(home):
        others = [name for name in others if (new or coming) and not (home / name).exists()]
    return MergePlan(run, home, [*(["params.json"] if new else []), *others, *coming])


def _plan_blend(run: Path, work: Path) -> MergePlan:
    """A blend comes whole or is there: its weights belong to exactly these folds of its members."""
    home = work / run.name
    if not home.exists():
        return MergePlan(run, home, sorted(path.name for path in run.iterdir()))
    if not (home / "weights.json").is_file() or fold_folders(home).keys() != fold_folders(run).keys():
        raise ValueError(f"{home} is not the blend that {run} is: give one of them another name, or blend here again")
    for place in fold_folders(run).values():
        _check_same(home / place.name, place)
    return MergePlan(run, home)


def _check_same(ours: Path, theirs: Path) -> None:
    """Raise ValueError where two finished folds, or two models of 2_pretrain, came out differently."""
    again = "two trainings of one recipe that came out differently. Keep one of them, or give one run another name"
    if not (_is_finished(ours) and _is_finished(theirs)):
        return
    for name in TABLES:  # of the seeds that both have
        for pair in zip(*(own_tables(place, name) for place in (ours, theirs)), strict=False):
            first, second = map(read_parquet, pair)
            saw = {read_metadata(file).get("saw") for file in pair}
            if not first.equals(second) or len(saw) > 1:
                raise ValueError(f"{pair[0]} and {pair[1]} hold other predictions of the same fold: {again}")
    if (ours / "pretraining.json").is_file():
        weights = [sorted(place.glob("**/model/*.safetensors")) for place in (ours, theirs)]
        if hash_files(weights[0]) != hash_files(weights[1]):
            raise ValueError(f"{ours / 'model'} and {theirs / 'model'} hold other weights: {again}")


def _is_finished(place: Path) -> bool:
    """Whether a fold, or a training of 2_pretrain, has come to its end."""
    tables = all((place / name).is_file() for name in ("oof.parquet", "test.parquet"))
    return tables or (place / "pretraining.json").is_file()


def _progress(place: Path) -> tuple[int, int, int]:
    """How far a fold, a part or a run without these is: finished (1, or the number of its seeds; else 0), number of
    models, steps of the last complete checkpoint."""
    files = [path for path in place.rglob("*") if not PART.fullmatch(path.relative_to(place).parts[0])]
    models = [path for path in files if path.suffix == ".safetensors" and "checkpoints" not in path.parts]
    steps = [path.parent.name.removeprefix("checkpoint-") for path in files if path.name == "complete"]
    return (
        max(int(_is_finished(place)), count_seeds(place)),
        len(models),
        max((int(step) for step in steps if step.isdecimal()), default=0),
    )


def _merge_records(plan: MergePlan) -> None:
    """Write the records of the whole run. They come first: a fold without its receipts would not belong to the run."""
    source, target = plan.source, plan.target
    params, models, before = read_json(source / "params.json"), {}, fold_folders(target)
    kept = [k for k, place in before.items() if count_seeds(place) > count_seeds(source / place.name)]
    if "params.json" not in plan.names:
        ours = read_json(target / "params.json")
        receipts = {str(fold): params["receipts"].get(str(fold), {}) for fold in plan.folds}
        inputs = more_folds(ours["inputs"], params["inputs"])
        recipe = with_seeds(ours["recipe"], max(one["recipe"].get("seeds", 1) for one in (ours, params)))
        params = {**ours, "recipe": recipe, "inputs": inputs, "receipts": ours["receipts"] | receipts}
    write_json(target / "params.json", params)
    for root in (source, target):
        models |= read_json(root / "models.json") if (root / "models.json").is_file() else {}
    if models:
        write_json(target / "models.json", dict(sorted(models.items(), key=lambda item: int(item[0]))))
    if plan.folds and kept:
        remove(target / "score.json")
    elif (plan.folds or not before) and (source / "score.json").is_file():
        _bring(source / "score.json", target / "score.json")
    if "pretraining.json" in plan.names:  # the remains of an interrupted training
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


def _common_task(source: Path, work: Path) -> Task:
    """The task of two work folders, of which one may lack task.json. Raises ValueError where they differ, but for the
    place of the competition's files."""
    found = {root: read_json(root / "task.json") for root in (work, source) if (root / "task.json").is_file()}
    if not found:
        raise ValueError(f"neither {source} nor {work} has a task.json: it is not known what the runs predict")
    if len(found) == 2:
        ours, theirs = ({name: value for name, value in each.items() if name != "data"} for each in found.values())
        if changed := differences(ours, theirs):
            raise ValueError(
                f"the runs in {source} were made for another task than {work / 'task.json'} has: "
                f"{'; '.join(changed)}. Bring them into a work folder of their own"
            )
    return Task(**next(iter(found.values())))


def _common_folds(source: Path, work: Path) -> pd.DataFrame | None:
    """The folds of two work folders, None where neither has some. Raises ValueError where they differ."""
    files = [root / "folds.parquet" for root in (work, source) if (root / "folds.parquet").is_file()]
    tables = [read_parquet(file) for file in files]
    if len({hash_folds(table) for table in tables}) > 1:
        raise ValueError(
            f"the runs in {source} were made with other folds than {files[0]} has: they cannot be blended. Train them "
            "on the same folds, or bring them into a work folder of their own"
        )
    return tables[0] if tables else None


def _at_home(ours: Any, theirs: Any) -> Any:
    """A setting of a kernel as it is written here: `inputs/NAME` stands for a file of that name in another folder. The
    hashes of the inputs show whether it is the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {name: _at_home(ours.get(name), value) for name, value in theirs.items()}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [_at_home(*pair) for pair in zip(ours, theirs, strict=True)]
    if isinstance(ours, str) and isinstance(theirs, str) and theirs == str(PurePosixPath(MOVED, Path(ours).name)):
        return ours
    return theirs
