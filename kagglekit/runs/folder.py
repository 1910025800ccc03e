"""The folder of a run: opened with its parameters, filled fold by fold, scored."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kagglekit.competition.task import Task
from kagglekit.files import (
    Damaged,
    delete_folder,
    file_lock,
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
from kagglekit.progress import say
from kagglekit.runs.best_epoch import honest_run, write_evaluations
from kagglekit.runs.environment import commit, versions
from kagglekit.runs.identity import changes, find_sources, find_teachers, identify, more_folds
from kagglekit.runs.leaks import table_metadata
from kagglekit.runs.record import RunRecord, count_seeds, with_seeds
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


def open_run(
    work: str | Path,
    run: str,
    recipe: dict[str, Any],
    overwrite: bool = False,
    folds: bool = True,
    more: dict[str, Any] | None = None,
) -> Path:
    """The folder of a run made by `recipe`, with params.json in it: new, or resumed with the folds that it has already.

    more: what params.json says besides: `defaults` that the recipe leaves to this version, which a run keeps; `asked`,
    the parameters as they were given, where the recipe has them filled in, or not at all.

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
    identity, sources = identify(work, recipe, folds), [source.record for source in find_sources(work, recipe)]
    if folder in [one.folder for one in (*find_teachers(work, recipe), *sources)]:
        raise ValueError(f"run={run!r} would take the place of a run that it is made from: give it another name")
    with file_lock(folder):
        _write_params(folder, identity, overwrite, more or {})
    return folder


def _write_params(folder: Path, identity: dict[str, Any], overwrite: bool, more: dict[str, Any]) -> None:
    """Make params.json say `identity`, see `open_run`, and `more` where it has none of it."""
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
        write_json(file, {**identity, **more, "versions": versions(), "commit": commit(), "receipts": {}})
        return
    recipe = with_seeds(before["recipe"], identity["recipe"].get("seeds", 1))
    asked = {name: value for name, value in more.items() if name == "asked"}
    known = {**more, **before, **asked, "recipe": recipe, "inputs": more_folds(before["inputs"], now)}
    if known != before:
        write_json(file, known)


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
