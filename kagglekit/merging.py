"""Runs that were made elsewhere come into a work folder: folds trained in several places become one run.

Everything is looked at before anything is written. A fold that is there already stays; one that is there with other
predictions, and a run of the same name with other settings, folds or task, is an error.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kagglekit.alone import alone
from kagglekit.merge_rules import check_same, common_folds, common_task, is_finished, is_part, progress, tell_changes
from kagglekit.paths import fold_folders, read_json, remove, replacing, resolve, write_json
from kagglekit.tables import read_predictions, read_run
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
        with alone(plan.target):
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
