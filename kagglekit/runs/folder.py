"""The folder of a run: opened with its parameters, filled fold by fold, scored."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kagglekit.competition.tables import existing_files
from kagglekit.competition.task import Task, is_work, load_task
from kagglekit.decoders.packed_weights import PACKED
from kagglekit.files import (
    Damaged,
    delete_folder,
    file_lock,
    hash_files,
    name_training,
    read_json,
    remove,
    replacing,
    resolve,
    run_folder,
    seed_folder,
    write_json,
)
from kagglekit.files.parquet import read_parquet
from kagglekit.options import current_names, find_named, knobs_of, names_file
from kagglekit.progress import say
from kagglekit.runs.best_epoch import honest_run, write_evaluations
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.initial_weights import SourceRun, read_sources
from kagglekit.runs.leaks import table_metadata
from kagglekit.runs.record import RunRecord, count_seeds, named_runs, split_start, with_seeds
from kagglekit.runs.run_knobs import PretrainingRun, TrainingRun
from kagglekit.runs.seeds import join_seeds, score_seeds, table_folder
from kagglekit.runs.tables import Run, write_predictions
from kagglekit.scoring.bootstrap import standard_error
from kagglekit.scoring.metrics import score, score_if_defined


@dataclass
class Fitted:
    """Predictions (rows, columns) of the fold's own rows and of the test rows, history, and receipts of its tricks.

    evaluations: step -> what the weights of that step predict for the fold's own rows, where one of them was chosen.
    predicting: seconds to predict the test rows by the model that is saved; None: there is no such model.
    """

    oof: np.ndarray
    test: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    receipts: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    predicting: float | None = None


def open_run(work: str | Path, run: str, recipe: dict[str, Any], overwrite: bool = False, folds: bool = True) -> Path:
    """The folder of a run made by `recipe`, with params.json in it: new, or resumed with the folds that it has already.

    params.json holds the recipe, hashes of the inputs (task, folds unless `folds` is False, weights of the backbone and
    of source runs, predictions and weights of teachers, files of vectors, image encoder, texts, extra rows, fixes and
    augmenters), package versions, and the library's git commit. Processes may open a run at the same time.
    Raises ValueError when the folder holds a run of another recipe or other inputs, unless `overwrite`: then it is
    deleted, and a run that is the same is kept. Source runs that go fold by fold may have more folds since, and a run
    more `seeds` than it had; fewer only while no fold is the mean of more. A folder without params.json is never
    deleted, nor what a link leads to.
    """
    folder, work = run_folder(work, run), resolve(work)
    if folder.is_file():
        raise ValueError(f"run={run!r}: {folder} is a file: give the run another name")
    identity, sources = identify(work, recipe, folds), _sources(work, recipe)
    if folder in [one.folder for one in (*_teachers(work, recipe), *(source.record for source in sources))]:
        raise ValueError(f"run={run!r} would take the place of a run that it is made from: give it another name")
    with file_lock(folder):
        _write_params(folder, identity, overwrite)
    return folder


def identify(work: Path, recipe: dict[str, Any], folds: bool = True) -> dict[str, Any]:
    """What a run is made of, as params.json has it: its recipe, and the hashes of its inputs."""
    inputs = _hash_inputs(work, recipe, folds, _sources(work, recipe), _teachers(work, recipe))
    return {"recipe": json.loads(json.dumps(recipe)), "inputs": inputs}


def _write_params(folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Make params.json say `identity`, see `open_run`."""
    file, now, changed = folder / "params.json", identity["inputs"], []
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    begun, ours = len(there) > 1, not there
    try:
        before = read_json(file) if there else {}
        ours = ours or {"recipe", "inputs"} <= before.keys()
        if begun and ours:
            changed = changes(before, identity) + RunRecord(folder).lost_seeds(identity["recipe"].get("seeds", 1))
    except FileNotFoundError:
        pass
    except Damaged as error:
        ours = True
        if begun and not overwrite:
            raise
        changed = [str(error)] if begun else []
    if not ours:
        raise ValueError(f"{folder} is no run of this notebook, and stays as it is: name another run=")
    if changed and not overwrite:
        raise ValueError(
            f"{folder} was made with other settings: {'; '.join(changed)}. Name another run=, or say overwrite=True to "
            "delete it and begin again"
        )
    if changed:
        delete_folder(folder, file.name)
    if changed or not begun:
        write_json(file, {**identity, "versions": versions(), "commit": commit(), "receipts": {}})
    elif now != before["inputs"] or identity["recipe"].get("seeds") != before["recipe"].get("seeds"):
        recipe = with_seeds(before["recipe"], identity["recipe"].get("seeds", 1))
        write_json(file, {**before, "recipe": recipe, "inputs": more_folds(before["inputs"], now)})


def _hash_inputs(
    work: Path, recipe: dict[str, Any], folds: bool, sources: Sequence[SourceRun], teachers: Sequence[RunRecord]
) -> dict[str, str | dict[str, str]]:
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
    for teacher in teachers:
        files = {
            fold: [
                *(place / name for name in ("oof.parquet", "test.parquet")),
                *(file for model in teacher.seed_models(fold) for file in sorted(model.glob("*.safetensors"))),
            ]
            for fold, place in teacher.folds.items()
        }
        found[f"predictions of {teacher.name}"] = _hash(files, by_fold=not recipe.get("crosses"))
    by_fold = recipe.get("soup", "uniform") == "uniform"  # the other soups look at all folds
    for source in sources:
        models = source.models or {"": [source.record.folder / "model"]}
        files = {fold: [file for model in each for file in _weights(model)] for fold, each in models.items()}
        found[f"weights of {source.name}"] = _hash(files, by_fold and source.by_fold)
    return found


def _sources(work: Path, recipe: dict[str, Any]) -> list[SourceRun]:
    names = {"start": split_start(recipe.get("start", "")), "soup_of": recipe.get("soup_of", [])}
    names["scorer"] = [name for name in [recipe.get("scorer")] if name]
    tasks = recipe.get("tasks", [])
    return [source for what, given in names.items() for source in read_sources(work, given, what, tasks)]


def _teachers(work: Path, recipe: dict[str, Any]) -> list[RunRecord]:
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
    return [file for pattern in ("*.safetensors", "pytorch_model*.bin") for file in sorted(model.glob(pattern))]


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


def save_fold(
    folder: Path,
    fold: int,
    fitted: Fitted,
    ids: Sequence[str],
    test_ids: Sequence[str],
    task: Task,
    number: int = 0,
    seeds: int = 1,
) -> None:
    """Write a fold's history, receipts and tables; oof.parquet comes last and makes it finished.

    number, seeds: of the seed, and of how many there are: the last one that is saved makes the fold their mean.
    The tables record what they come from, see `table_metadata`. What `make_start` wrote for it is deleted.
    """
    main = folder / f"fold{fold}"
    place, tables = seed_folder(main, number), table_folder(main, number, seeds)
    remove(place / "start")
    with replacing(place / "history.jsonl") as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in fitted.history))
    with file_lock(folder):  # another process may be training another fold
        params = read_json(folder / "params.json")
        if number:
            params["receipts"].setdefault(str(fold), {})[f"seed {number}"] = fitted.receipts
        else:
            params["receipts"][str(fold)] = fitted.receipts
        write_json(folder / "params.json", params)
    record = RunRecord(folder)
    oof, test = (table_metadata(record, fold, test) | ({"seed": number} if seeds > 1 else {}) for test in (False, True))
    write_evaluations(place, ids, fitted.evaluations, task.columns, oof)
    write_predictions(tables / "test.parquet", test_ids, fitted.test, task.columns, metadata=test)
    write_predictions(tables / "oof.parquet", ids, fitted.oof, task.columns, fold, oof)
    join_seeds(main, seeds)


def tell_fold(
    folder: Path, fold: int, fitted: Fitted, labels: np.ndarray, task: Task, number: int = 0, seeds: int = 1
) -> None:
    """Say the score of a fold that was saved, on its own rows, whose `labels` are given; of several seeds that of this
    one, and behind the last that of their mean."""
    words, place = name_training(seed_folder(folder / f"fold{fold}", number)), folder / f"fold{fold}"
    each = [(words if number or seeds == 1 else f"{words}, seed 0", fitted.oof)]
    if seeds > 1 and count_seeds(place) >= seeds:
        mean = read_parquet(place / "oof.parquet").iloc[:, 2:].to_numpy(dtype=np.float32)
        each.append((f"fold {fold}, mean of {seeds} seeds", mean))
    for words, oof in each:
        if (value := score_if_defined(task.metric, labels, oof)) is None:
            say(f"{words} is finished: {task.metric} is not defined on its {len(labels)} rows")
        else:
            say(f"{words}: {task.metric} {value:.4f}", score=value)


def describe_score(scores: dict[str, Any], known: Iterable[int]) -> str:
    """What `score_run` found, in a line: "accuracy 0.7140 ± 0.0210, folds 0-4". known: all folds that there are."""
    folds, known = sorted(scores["folds"]), sorted(known)
    named = f"{folds[0]}-{folds[-1]}" if folds == known and len(folds) > 1 else ", ".join(map(str, folds))
    partly = f" of {known[0]}-{known[-1]}" if folds != known else ""
    honest = (
        f" ({scores['cross_fitted']:.4f} with each epoch chosen by the other folds)" if "cross_fitted" in scores else ""
    )
    value = f"{scores['metric']} {scores['score']:.4f} ± {scores['standard_error']:.4f}"
    return f"{value}{honest}, fold{'s' * (len(folds) > 1)} {named}{partly}{name_seeds(scores)}"


def name_seeds(scores: dict[str, Any]) -> str:
    """Of how many seeds a score is, and what they score alone: ", 3 seeds (0.7010 to 0.7110 alone)"; of one nothing."""
    each = scores.get("seeds", {}).get("scores", [])
    return f", {len(each)} seeds ({min(each):.4f} to {max(each):.4f} alone)" if len(each) > 1 else ""


def score_run(run: Run, task: Task, labels: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """The out-of-fold score of a run's finished folds, its standard error (bootstrap over rows), and each fold's: None
    where the metric is not defined on its rows.

    labels, groups: of all rows of train; rows of a group are drawn together, as `group` of `read_folds` says.
    Where each fold chose among evaluations, that score is too good: `cross_fitted` is the score of `honest_run`.
    `seeds`: see `score_seeds`.
    """
    truth, fold, scored = labels[run.rows], run.oof["fold"].to_numpy(), partial(score_if_defined, task.metric)
    together = None if groups is None else groups[run.rows]
    found = {
        "run": run.name,
        "metric": task.metric,
        "score": float(score(task.metric, truth, run.oof_array)),
        "standard_error": float(standard_error(task.metric, truth, run.oof_array, groups=together)),
        "folds": {int(k): scored(truth[fold == k], run.oof_array[fold == k]) for k in run.folds},
    }
    found |= {"seeds": apart} if (apart := score_seeds(run, task, labels)) else {}
    honest = run if run.cross_fitted else honest_run(run, task, labels)
    return found if honest is run else found | {"cross_fitted": float(score(task.metric, truth, honest.oof_array))}
