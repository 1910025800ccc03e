"""Base predictions: the runs of a work folder, or imported files, with the labels and features of their rows."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task, encode_labels, load_task, read_test, read_train
from kagglekit.ensembling.imported.read import read_imported
from kagglekit.ensembling.stack_features import MEASURES, read_meta
from kagglekit.files import shorten
from kagglekit.options import check_range, knobs_of
from kagglekit.runs.best_epoch import honest_run
from kagglekit.runs.leaks import score_warning
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import EVERY, PLAIN, READS, TrainingRun
from kagglekit.runs.tables import Run, goes_forward, read_folds, read_run, trained_runs
from kagglekit.training.recipe import Recipe

FORWARD = (
    "The folds are a time-series split, and the models of a fold were trained on earlier rows alone; what is fitted "
    "here (weights, thresholds) is fitted on all other folds, later ones too"
)


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """Features of rows beside the predictions, of train and of test; None: there are none.

    groups, documents, meta: as in `StackInput`, for all rows of train. An ensembler that reads documents or meta needs
    them of test too.
    """

    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    meta: np.ndarray | None = None
    test_documents: np.ndarray | None = None
    test_meta: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class EnsembleData:
    """The task, its runs, and features of their rows.

    runs: with the predictions that a second level may use, see `honest_run`. labels: of all rows of train. train: as
    from `read_train`; for imported files the ids alone. cautions: what speaks against a run's score. findings: what was
    found in imported files, and why; None for runs.
    """

    task: Task
    runs: list[Run]
    labels: np.ndarray
    train: pd.DataFrame
    features: RowFeatures
    cautions: list[str]
    findings: pd.DataFrame | None = None


def read_run_predictions(work: str | Path, runs: Sequence[str] = (), meta: Sequence[str] = ()) -> EnsembleData:
    """Runs of a work folder: those named, or all trained ones without those that lack folds which others have; how to
    train these is one of the cautions.

    meta: features for stackers, see `read_meta`. Where train and test have the task's group column, it is the document
    of a row. Raises FileNotFoundError and ValueError for runs or columns that are not there or do not fit.
    """
    task, columns = load_task(work), [name for name in meta if name not in MEASURES]
    train, test = read_train(task, columns), read_test(task, columns)
    labels, folds = encode_labels(task, train), read_folds(work, train["id"])
    reads: dict = {}  # what the records of all runs share
    partial = {} if runs else _find_partial([RunRecord.open(work, name, reads) for name in trained_runs(work)])
    names = runs or [name for name in trained_runs(work) if name not in partial]
    read = [read_run(work, name, task, folds, test["id"]) for name in names]
    used = [honest_run(run, task, labels) for run in read]
    known = read_meta(meta, train, test) if meta else (None, None)
    documents = (train["group"].to_numpy(), test["group"].to_numpy()) if "group" in test else (None, None)
    features = RowFeatures(folds["group"].to_numpy(), documents[0], known[0], documents[1], known[1])
    cautions = list(partial.values())
    cautions += [score_warning(RunRecord(run.folder, reads), run.cross_fitted) for run in used]
    cautions += [FORWARD] * goes_forward(folds)
    return EnsembleData(task, used, labels, train, features, [caution for caution in cautions if caution])


def _find_partial(records: Sequence[RunRecord]) -> dict[str, str]:
    """The runs with other folds than the runs with most folds -> why they are left out, and what trains the rest."""
    folds = [tuple(record.folds) for record in records]
    most = max(folds, key=lambda each: (len(each), folds.count(each)), default=())
    others = [(record, own) for record, own in zip(records, folds, strict=True) if own != most]
    return {
        record.name: f"{record.name} is left out: it has the folds {list(own)} of {list(most)}. All of them:\n"
        f"    {training_command(record)}"
        for record, own in others
    }


def training_command(record: RunRecord, **more: Any) -> str:
    """The command that trains the folds that a run of 3_train lacks, with its settings, and more that say how."""
    recipe, known = record.asked | more, knobs_of(TrainingRun, Recipe)
    options = dict(recipe.get("learner_options", {}))
    if recipe.get("soup_of"):  # whose record has the backbone of its members
        recipe = recipe | {"backbone": "soup"}
    own = recipe["backbone"] if recipe["backbone"] in PLAIN else recipe.get("learner", "finetune")
    read = EVERY | READS[own] if own in READS else set(known)
    recipe = recipe | {name: options.pop(name) for name in [*options] if name in read}  # other learners keep them there
    recipe |= {"work": shorten(record.work), "run": record.name, "learner_options": options}
    given = {
        name: recipe[name] for name in known if name in read & recipe.keys() and recipe[name] != known[name].default
    }
    given = {name: value if isinstance(value, str | Path) else json.dumps(value) for name, value in given.items()}
    words = [shlex.quote(f"{name}={value}") for name, value in (given | {"run": record.name}).items()]
    return " ".join(["python -m kagglekit.run 3_train", *words])


def read_file_predictions(
    folder: str | Path,
    kind: str | None = None,
    metric: str | None = None,
    runs: Sequence[str] = (),
    seed: int = 0,
    id: str | None = None,
    labels: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> EnsembleData:
    """The models of a folder of prediction files, see `read_imported`: those named, or all."""
    found = read_imported(folder, kind, metric, seed, id=id, labels=labels, classes=classes)
    there = {run.name: run for run in found.runs}
    for name in runs:
        check_range("runs", name, name in there, f"one of the models in {folder}: {', '.join(there)}")
    cautions = ["Whether the models of these files saw the labels of the rows that they predict cannot be checked here"]
    train, features = found.folds[["id"]], RowFeatures(found.folds["group"].to_numpy())
    used = [there[name] for name in runs] or found.runs
    return EnsembleData(found.task, used, found.labels, train, features, cautions, found.found)
