"""When runs of two work folders are one and the same: settings, tasks, folds, and predictions compared."""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from kagglekit.origin import hash_folds, read_lineage
from kagglekit.paths import hash_files, read_json
from kagglekit.runs import differences
from kagglekit.tables import read_predictions
from kagglekit.task import Task

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
            saw = [read_lineage(place / name).get("saw") for place in (ours, theirs)]
            if not first.equals(second) or len({*saw}) > 1:
                raise ValueError(f"{ours / name} and {theirs / name} hold other predictions of the same fold: {again}")
    if (ours / "pretraining.json").is_file():
        weights = [sorted(place.glob("**/model/*.safetensors")) for place in (ours, theirs)]
        if hash_files(weights[0]) != hash_files(weights[1]):
            raise ValueError(f"{ours / 'model'} and {theirs / 'model'} hold other weights: {again}")
