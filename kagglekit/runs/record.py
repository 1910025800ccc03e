"""The folder of a training run: what it was made with, and its folds one by one."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import (
    file_lock,
    fold_folders,
    hash_files,
    read_json,
    remove,
    replacing,
    resolve,
    run_folder,
    write_json,
)
from kagglekit.runs.best_epoch import score_cross_fitted, write_evaluations
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.lineage import members_of, split_start, teachers_of, tell_lineage
from kagglekit.runs.sources import Source, hash_sources, hash_weights, read_sources
from kagglekit.runs.tables import Run, list_runs, write_predictions
from kagglekit.scoring.bootstrap import standard_error
from kagglekit.scoring.metrics import score


@dataclass
class Fitted:
    """Predictions (rows, columns) of the fold's own rows and of the test rows, history, and receipts of its tricks.

    evaluations: step -> what the weights of that step predict for the fold's own rows, where one of them was chosen.
    """

    oof: np.ndarray
    test: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    receipts: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[int, np.ndarray] = field(default_factory=dict, repr=False)


def open_run(work: str | Path, run: str, recipe: dict[str, Any], overwrite: bool = False, folds: bool = True) -> Path:
    """The folder of a run made by `recipe`, with params.json in it: new, or with the folds that it has already.

    params.json holds the recipe, hashes of what the run was made from (the task, its folds unless `folds` is False, the
    weights of a backbone in a folder and of the runs to start from, to average or to mask by, the predictions and the
    weights of teachers, the files of vectors, texts and augmenters), package versions, and the library's git commit.
    Raises ValueError when the folder holds a run of another recipe or other inputs, unless `overwrite`: then a run that
    differs is deleted. A run that is the same is kept in any case, and so goes on where it was cut off; a run to start
    from that goes fold by fold may have got more folds since. Of processes that open a run at a time, one makes it, and
    the others find it.
    """
    folder = run_folder(work, run)
    now = hash_inputs(resolve(work), recipe, folds)
    identity = {"recipe": json.loads(json.dumps(recipe)), "inputs": now}
    made_from = [source.folder for source in _sources(resolve(work), recipe)]
    if folder in (*made_from, *_teachers(resolve(work), recipe)):
        raise ValueError(f"run={run!r} would take the place of a run that it is made from: give it another name")
    with file_lock(folder):
        _settle(folder, identity, overwrite)
    return folder


def _settle(folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Make sure that params.json says `identity`, see `open_run`."""
    file, now, changed = folder / "params.json", identity["inputs"], []
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    began = len(there) > 1 and file.name in there  # else nothing came of it
    if began:
        before = read_json(file)
        then = before["inputs"]
        changed = differences(before["recipe"], identity["recipe"])
        changed += [f"the {name} changed" for name in {**then, **now} if not _agree(then.get(name), now.get(name))]
    elif there - {file.name}:
        changed = ["it is no run of this notebook"]
    if changed and not overwrite:
        raise ValueError(
            f"{folder} was made with other settings: {'; '.join(changed)}. Name another run=, or say overwrite=True to "
            "delete it and begin anew"
        )
    if changed:
        shutil.rmtree(folder)
    if changed or not began:
        write_json(file, {**identity, "versions": versions(), "commit": commit(), "receipts": {}})
    elif now != then:  # runs that it is made from have other folds than they had
        more = {name: then[name] | hashes for name, hashes in now.items() if isinstance(hashes, dict)}
        write_json(file, {**before, "inputs": then | more})


def hash_inputs(work: Path, recipe: dict[str, Any], folds: bool) -> dict[str, str | dict[str, str]]:
    """What a run is made from, name -> hash, or name -> fold -> hash where each fold is made from one of its own.

    Where the competition's files lie does not count.
    """
    task = {name: value for name, value in read_json(work / "task.json").items() if name != "data"}
    found = {"task": hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:16]}
    if folds:
        found["folds"] = hash_files([work / "folds.parquet"])
    if resolve(recipe["backbone"]).is_dir():
        found["backbone"] = hash_weights([resolve(recipe["backbone"])])
    for name in ("vectors", "test_vectors", "word_vectors"):
        if recipe.get("beside", {}).get(name):
            found[name.replace("_", " ")] = hash_files([resolve(recipe["beside"][name])])
    for name in ("texts", "pairs"):
        if recipe.get(name):
            found[name] = hash_files(_files(recipe[name]))
    for name, options in recipe.get("augment", {}).items():
        places = [resolve(value) for value in options.values() if isinstance(value, str) and value]
        found |= {f"file {place.name} of {name}": hash_files([place]) for place in places if place.is_file()}
        found |= {f"model {place.name} of {name}": hash_weights([place]) for place in places if place.is_dir()}
    if recipe.get("pseudo", {}).get("unlabelled"):
        found["unlabelled files"] = hash_files(_files(recipe["pseudo"]["unlabelled"]))
    for teacher in _teachers(work, recipe):
        found[f"predictions of {teacher.name}"] = hash_predictions(teacher, not recipe.get("crosses"))
    by_fold = recipe.get("soup", "uniform") == "uniform"  # the other soups look at all folds
    return found | hash_sources(_sources(work, recipe), by_fold)


def _sources(work: Path, recipe: dict[str, Any]) -> list[Source]:
    members = read_sources(work, recipe.get("soup_of", []), "soup_of")
    scorers = read_sources(work, [name for name in [recipe.get("scorer")] if name], "scorer")
    return [*read_sources(work, split_start(recipe.get("start", ""))), *members, *scorers]


def _teachers(work: Path, recipe: dict[str, Any]) -> list[Path]:
    """The runs whose predictions a run learns from; those of a blend too, which it asks about new rows."""
    found = [run_folder(work, name) for name in teachers_of(recipe)]
    for folder in found:
        found += [member for member in members_of(folder) if member not in found]
    return found


def hash_predictions(run: Path, by_fold: bool = True) -> str | dict[str, str]:
    """Fold -> one hash of its tables and of the weights of its model, if it has one; `by_fold` False: one of all."""
    files = {
        fold: [place / "oof.parquet", place / "test.parquet", *sorted((place / "model").glob("*.safetensors"))]
        for fold, place in fold_folders(run).items()
    }
    if not by_fold:
        return hash_files(file for group in files.values() for file in group)
    return {str(fold): hash_files(group) for fold, group in files.items()}


def _files(names: str | Sequence[str]) -> Iterator[Path]:
    """The files that parameters name, those of a folder in the order of their paths."""
    for path in map(resolve, [names] if isinstance(names, str) else names):
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _agree(then: str | dict | None, now: str | dict | None) -> bool:
    """Whether two hashes are equal; of hashes by fold, those that both have."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(then[fold] == now[fold] for fold in then.keys() & now.keys())
    return then == now


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two recipes, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names]


def choose_folds(table: pd.DataFrame, folds: Sequence[int]) -> list[int]:
    """The folds to train, all of folds.parquet for an empty list. Raises ValueError for one that it lacks.

    Fold -1 is none to train: its rows are learned from in every fold, and never validated.
    """
    there = sorted(fold for fold in table["fold"].unique().tolist() if fold >= 0)
    for fold in folds:
        if fold not in there:
            raise ValueError(f"folds={folds}: fold {fold} is not in folds.parquet: it has {there[0]} to {there[-1]}")
    return list(folds) or there


def save_fold(folder: Path, fold: int, fitted: Fitted, ids: Sequence[str], test_ids: Sequence[str], task: Task) -> None:
    """Write a fold's history, receipts and tables; oof.parquet comes last and makes it finished.

    The tables say what they come from, see `tell_lineage`. What `make_start` wrote for it is deleted.
    """
    place = folder / f"fold{fold}"
    remove(place / "start")
    with replacing(place / "history.jsonl") as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in fitted.history))
    with file_lock(folder):  # another process may be training another fold
        params = read_json(folder / "params.json")
        params["receipts"][str(fold)] = fitted.receipts
        write_json(folder / "params.json", params)
    oof, test = tell_lineage(folder, fold), tell_lineage(folder, fold, test=True)
    write_evaluations(place, ids, fitted.evaluations, task.columns, oof)
    write_predictions(place / "test.parquet", test_ids, fitted.test, task.columns, lineage=test)
    write_predictions(place / "oof.parquet", ids, fitted.oof, task.columns, fold, oof)


def read_history(folder: Path) -> pd.DataFrame:
    """The histories of a run's finished folds in one table, with the column `fold`; empty for a run without steps."""
    rows = []
    for fold, place in fold_folders(folder).items():
        lines = (place / "history.jsonl").read_text().splitlines() if (place / "history.jsonl").is_file() else []
        rows += [{"fold": fold, **json.loads(line)} for line in lines]
    return pd.DataFrame(rows, columns=None if rows else ["fold", "step", "loss", "learning_rate", "score"])


def score_run(run: Run, task: Task, labels: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """The out-of-fold score of a run's finished folds, its standard error (bootstrap over rows), and each fold's.

    labels, groups: of all rows of train; rows of a group are drawn together, as `group` of `read_folds` says.
    Where each fold chose among evaluations, that score is too good: `cross_fitted` is there too, see `honest_run`.
    """
    truth, fold = labels[run.rows], run.oof["fold"].to_numpy()
    together = None if groups is None else groups[run.rows]
    each = {int(k): float(score(task.metric, truth[fold == k], run.oof_array[fold == k])) for k in run.folds}
    return {
        "run": run.name,
        "metric": task.metric,
        "score": float(score(task.metric, truth, run.oof_array)),
        "standard_error": float(standard_error(task.metric, truth, run.oof_array, groups=together)),
        "folds": each,
        **score_cross_fitted(run, task, labels),
    }


def read_scores(work: str | Path) -> pd.DataFrame:
    """The score.json of every run in a work folder, one row a run: metric, score, standard_error, folds; and if there
    is one in any, cross_fitted."""
    found = [read_json(path) for path in sorted(resolve(work).glob("*/score.json"))]
    names = ["run", "metric", "score", "standard_error", "folds"]
    names += ["cross_fitted"] if any("cross_fitted" in scores for scores in found) else []
    table = pd.DataFrame(found, columns=names)
    return table.assign(folds=[len(folds) for folds in table["folds"]]).set_index("run")


def read_repeats(work: str | Path, run: str) -> pd.DataFrame:
    """The scores of a run of one name in a work folder and in those of its other splits, work.2, work.3, ...: how much
    the score hangs on the folds. A row a split: score and standard_error."""
    first, found = resolve(work), {}
    ends = {place: place.name.removeprefix(f"{first.name}.") for place in first.parent.glob(f"{first.name}.[0-9]*")}
    others = {place: int(end) for place, end in ends.items() if end.isdecimal()}
    for place in [first, *sorted(others, key=others.get)]:
        if (place / run / "score.json").is_file():
            found[place.name] = read_json(place / run / "score.json")
    return pd.DataFrame(found.values(), columns=["score", "standard_error"], index=pd.Index(found, name="split"))


def trained_runs(work: str | Path) -> list[str]:
    """The names of the trained runs (no blends) of a work folder that have a finished fold."""
    return [name for name in list_runs(work) if (run_folder(work, name) / "params.json").is_file()]
