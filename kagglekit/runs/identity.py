"""The identity of a run: its recipe, and the hashes of what it is made from; and how those of two runs differ."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kagglekit.competition.tables import existing_files
from kagglekit.competition.task import is_work, load_task
from kagglekit.decoders.packed_weights import PACKED
from kagglekit.files import ONLY_HASH, hash_files, read_json, resolve
from kagglekit.options import current_names, find_named, knobs_of, names_file
from kagglekit.runs.initial_weights import SourceRun, read_sources
from kagglekit.runs.record import RunRecord, named_runs, split_start, with_seeds
from kagglekit.runs.run_knobs import PretrainingRun, TrainingRun


def identify(work: Path, recipe: dict[str, Any], folds: bool = True) -> dict[str, Any]:
    """What a run is made of, as params.json has it: its recipe, and the hashes of its inputs."""
    return {"recipe": json.loads(json.dumps(recipe)), "inputs": _hash_inputs(work, recipe, folds)}


def _hash_inputs(work: Path, recipe: dict[str, Any], folds: bool) -> dict[str, str | dict[str, str]]:
    """The inputs of a run, name -> hash, or name -> fold -> hash where each fold has its own. The place of the
    competition's files does not count."""
    task = {name: value for name, value in read_json(work / "task.json").items() if name != "data"}
    found = {"task": hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:16]}
    if folds:
        found["folds"] = hash_files([work / "folds.parquet"])
    if recipe["backbone"] not in PACKED and resolve(recipe["backbone"]).is_dir():  # of these the name says all
        found["backbone"] = hash_files(_weights(resolve(recipe["backbone"])))
    for name in ("vectors", "test_vectors", "word_vectors"):
        if file := recipe.get("features", {}).get(name):
            found[name.replace("_", " ")] = hash_files([resolve(file)])
    if (encoder := recipe.get("features", {}).get("images_by")) and resolve(encoder).is_dir():
        found["image encoder"] = hash_files(_weights(resolve(encoder)))
    found |= {
        name: hash_files(_files(recipe[name])) for name in ("texts", "pairs", "extra", "fixes") if recipe.get(name)
    }
    for name, options in recipe.get("augment", {}).items():
        places = [resolve(value) for value in options.values() if isinstance(value, str) and value]
        found |= {f"file {place.name} of {name}": hash_files([place]) for place in places if place.is_file()}
        found |= {f"model {place.name} of {name}": hash_files(_weights(place)) for place in places if place.is_dir()}
    if names_file(teacher := recipe.get("distill", {}).get("teacher", "")):
        found["teacher"] = hash_files(_files(teacher))
    if unlabelled := recipe.get("pseudo", {}).get("unlabelled"):
        found["unlabelled files"] = hash_files(_files(unlabelled))
    for teacher in find_teachers(work, recipe):
        files = {
            fold: [
                *(place / name for name in ("oof.parquet", "test.parquet")),
                *(file for model in teacher.seed_models(fold) for file in sorted(model.glob("*.safetensors"))),
            ]
            for fold, place in teacher.folds.items()
        }
        found[f"predictions of {teacher.name}"] = _hash(files, by_fold=not recipe.get("crosses"))
    by_fold = recipe.get("soup", "uniform") == "uniform"  # the other soups look at all folds
    for source in find_sources(work, recipe):
        models = source.models or {"": [source.record.folder / "model"]}
        files = {fold: [file for model in each for file in _weights(model)] for fold, each in models.items()}
        found[f"weights of {source.name}"] = _hash(files, by_fold and source.by_fold)
    return found


def find_sources(work: Path, recipe: dict[str, Any]) -> list[SourceRun]:
    """The runs whose models a run begins from, averages, or chooses masks by."""
    names = {"start": split_start(recipe.get("start", "")), "soup_of": recipe.get("soup_of", [])}
    names["scorer"] = [name for name in [recipe.get("scorer")] if name]
    tasks = recipe.get("tasks", [])
    return [source for what, given in names.items() for source in read_sources(work, given, what, tasks)]


def find_teachers(work: Path, recipe: dict[str, Any]) -> list[RunRecord]:
    """The runs whose predictions a run learns from, and of a blend its members, which it asks about new rows."""
    named = named_runs(work, recipe)
    found = list(dict.fromkeys([*named["pseudo"], *named["distill"]]))
    for teacher in found:
        found += [member for member in teacher.members if member not in found]
    return found


def _hash(files: dict[Any, list[Path]], by_fold: bool) -> str | dict[str, str]:
    """A hash for each fold, or one of the files of all."""
    if by_fold:
        return {str(fold): hash_files(group) for fold, group in files.items()}
    return hash_files(chain(*files.values()))


def _weights(model: Path) -> list[Path]:
    """The files with the weights of a model."""
    patterns = ("*.safetensors", f"*.safetensors{ONLY_HASH}", "pytorch_model*.bin")
    return [file for pattern in patterns for file in sorted(model.glob(pattern))]


def _files(names: str | Sequence[str]) -> Iterator[Path]:
    """The files that parameters name, those of a folder in the order of their paths; of a work folder those of its
    competition."""
    for path in map(resolve, [names] if isinstance(names, str) else names):
        if is_work(path):
            task = load_task(path)
            yield from existing_files(task.data, task.files.values())
            continue
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How two params.json differ in recipe and inputs, in words; hashes by fold count where both have the fold. The
    number of seeds does not count: those that both have are the same. A knob that an earlier version did not have is
    at its default there."""
    ours, theirs = (with_seeds(current_names(one["recipe"]), 1) for one in (before, now))
    pretrained = "objective" in theirs
    place = "pretraining.stage_knobs:Stage" if pretrained else "training.recipe:Recipe"  # of rooms above
    known = knobs_of(PretrainingRun if pretrained else TrainingRun, find_named(f"kagglekit.{place}"))
    added = {name: known[name].default for name in theirs.keys() & known.keys() if name not in ours}
    changed = differences(added | ours, theirs)
    then, there = before["inputs"], now["inputs"]
    for name in {**then, **there}:
        hashes = [then.get(name), there.get(name)]
        if all(isinstance(each, dict) for each in hashes):
            hashes = [{fold: each[fold] for fold in hashes[0].keys() & hashes[1].keys()} for each in hashes]
        changed += [f"the {name} changed"] if hashes[0] != hashes[1] else []
    return changed


def more_folds(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The inputs `ours`, with the hashes of folds that `theirs` has in addition."""
    return {name: value | theirs[name] if isinstance(value, dict) else value for name, value in ours.items()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between two recipes, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names]
