"""Paired comparison of runs on the rows that all of them predict: differences with intervals, by fold and by class.

The interval is the bootstrap's (Efron, 1979) over rows, or groups of rows: all runs are scored on the same samples, so
that what makes rows hard for every run cancels out. It is for other rows of the same sort; other seeds are not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.submission import decide
from kagglekit.competition.task import Task, encode_labels, load_task, read_test, read_train
from kagglekit.competition.text_columns import show_columns
from kagglekit.ensembling.base_predictions import EnsembleData, RowFeatures, read_file_predictions
from kagglekit.files import read_json, resolve
from kagglekit.options import did_you_mean
from kagglekit.runs.best_epoch import honest_run
from kagglekit.runs.tables import Run, list_runs, read_folds, read_run
from kagglekit.scoring.bootstrap import bootstrap_scores, interval, spread, standard_error
from kagglekit.scoring.metrics import is_higher_better, score, score_if_defined
from kagglekit.show.classes import report
from kagglekit.show.texts import row_losses

DRAWS = 1000


def read_data(work: str | Path, runs: Sequence[str] = ()) -> EnsembleData:
    """Runs of a work folder with the labels of their rows, also of a blend of files that were made elsewhere; without
    runs the labels and texts alone.

    Of runs with keep_best the predictions are those of `honest_run`. Raises FileNotFoundError and ValueError for what
    is not there, damaged, or does not fit, and where the labels are not known.
    """
    work = resolve(work)
    if not (work / "task.json").is_file():
        return _read_of_files(work, runs)
    task = load_task(work)
    train = read_train(task)
    labels, folds = encode_labels(task, train), read_folds(work, train["id"])
    test_ids = read_test(task)["id"] if runs else []
    read = [honest_run(read_run(work, name, task, folds, test_ids), task, labels) for name in runs]
    return EnsembleData(task, read, labels, train, RowFeatures(folds["group"].to_numpy()), [])


def _read_of_files(work: Path, runs: Sequence[str]) -> EnsembleData:
    """The same of a blend of imported files, which its marker names."""
    markers = [read_json(path) for path in sorted((work / "notebooks").glob("4_ensemble.*.done.json"))]
    made = [marker["parameters"] for marker in markers if marker.get("parameters", {}).get("files")]
    if not made:
        raise FileNotFoundError(f"{work} has no task.json, so the labels are not known here: run 1_eda first")
    names = ("kind", "metric", "seed", "id", "labels", "classes")
    data = read_file_predictions(made[-1]["files"], **{name: made[-1][name] for name in names if name in made[-1]})
    first = data.runs[0]
    folds = first.oof[["id", "fold"]]
    return replace(data, runs=[read_run(work, name, data.task, folds, first.test_ids) for name in runs])


@dataclass(frozen=True)
class Difference:
    """How much better a run is than the first one: better_by, above 0 whichever direction of the metric is better, with
    its standard error and 95 % interval. wins, losses: rows that the run alone, or the first one alone, has right; of
    values and several labels those on which it has the lower loss; `alone` says which, in words."""

    run: str
    first: str
    better_by: float
    error: float
    low: float
    high: float
    wins: int
    losses: int
    alone: str

    def __str__(self):
        low, high = (round(end, 4) + 0.0 for end in (self.low, self.high))  # no -0.0000
        span = f"95 % interval {low:+.4f} to {high:+.4f}; above 0: {self.run} is better"
        alone = f"{self.alone} on {self.wins:,} rows, {self.first} on {self.losses:,}"
        return f"{self.run} against {self.first}: {self.better_by:+.4f} ({span}): {self.verdict}; {alone}"

    @property
    def verdict(self) -> str:
        """Which is better, in words; none of them where the interval holds 0."""
        if self.error == 0 and self.better_by == 0:
            return "the same score on all samples"
        if self.low <= 0 <= self.high:
            return "cannot tell which is better"
        return f"{self.run if self.better_by > 0 else self.first} is better"


@dataclass(frozen=True, eq=False)
class Paired:
    """Runs on the same rows. names: the first is that which others are compared with; with its work folder where two
    have the same. left_out: which folds of which run the others lack. scores: a line per run (score, standard_error).
    folds: fold -> score of each run. parts: class, label or target -> F1 or RMSE of each run. disagreements: rows
    that the runs predict most differently."""

    task: Task
    names: list[str]
    rows: int
    groups: int
    left_out: list[str]
    scores: pd.DataFrame
    differences: list[Difference]
    folds: pd.DataFrame
    parts: pd.DataFrame
    disagreements: pd.DataFrame


def place_of(name: str, work: str | Path | None) -> tuple[Path, str]:
    """The work folder and the name of a run: of `work`, or of the path that a name with a slash is. Raises
    FileNotFoundError, with a near name, for a run that is not there or has no finished fold."""
    if work is None and "/" not in name:
        raise ValueError(f"in which work folder is {name!r}? Say work=runs/NAME, or the path runs/NAME/{name}")
    folder = resolve(name) if "/" in name else resolve(work) / name
    there = list_runs(folder.parent)
    if folder.name not in there:
        why = "has no finished fold" if folder.is_dir() else "does not exist"
        meant = did_you_mean(folder.name, there) or f": {folder.parent.name} has {', '.join(there) or 'no runs'}"
        raise FileNotFoundError(f"the run {name!r} {why}{meant}")
    return folder.parent, folder.name


def pair(names: Sequence[str], work: str | Path | None = None, examples: int = 5) -> Paired:
    """Compare runs, the first with each of the others, on the folds that all have.

    names: runs of `work`, or paths of runs. Raises ValueError for fewer than two, for one that comes twice, and for
    runs of other data, other folds, or no fold in common.
    """
    places = [place_of(name, work) for name in names]
    if len(set(places)) < max(2, len(places)):
        raise ValueError(f"{', '.join(names) or 'nothing'}: name two runs or more, each once")
    names = [run if len({run for _, run in places}) == len(places) else f"{work.name}/{run}" for work, run in places]
    works = {work: read_data(work, [run for place, run in places if place == work]) for work, _ in places}
    read = {(work, run.name): run for work, data in works.items() for run in data.runs}
    first, runs = works[places[0][0]], [read[place] for place in places]
    for name, (work, _), run in zip(names, places, runs, strict=True):
        both = runs[0].oof[["id", "fold"]].merge(run.oof[["id", "fold"]], on="id")
        if works[work].task.fingerprint != first.task.fingerprint or run.columns != runs[0].columns:
            raise ValueError(f"{names[0]} and {name} are runs of other data, which cannot be compared")
        if (both["fold_x"] != both["fold_y"]).any():
            raise ValueError(f"{names[0]} and {name} have different folds: their rows were not held out alike")
    shared = sorted(set.intersection(*(set(run.folds) for run in runs)))
    if not shared:
        has = "; ".join(f"{name} has {run.folds}" for name, run in zip(names, runs, strict=True))
        raise ValueError(f"the runs have no finished fold in common: {has}")
    extra = {name: sorted(set(run.folds) - set(shared)) for name, run in zip(names, runs, strict=True)}
    left_out = [f"{', '.join(map(str, folds))} of {name}" for name, folds in extra.items() if folds]
    return _compare(first, names, [_restrict(run, shared) for run in runs], left_out, examples)


def _restrict(run: Run, folds: Sequence[int]) -> Run:
    """The run with the rows of some of its folds."""
    keep = run.oof["fold"].isin(folds).to_numpy()
    tests = {fold: run.tests[fold] for fold in folds}
    return replace(run, oof=run.oof[keep].reset_index(drop=True), rows=run.rows[keep], tests=tests)


def _compare(data: EnsembleData, names: list[str], runs: list[Run], left_out: list[str], examples: int) -> Paired:
    task, rows, fold = data.task, runs[0].rows, runs[0].oof["fold"].to_numpy()
    truth, predictions = data.labels[rows], [run.oof_array for run in runs]
    features = data.features or RowFeatures()
    groups = None if features.groups is None else features.groups[rows]
    drawn = bootstrap_scores(task.metric, truth, predictions, groups, DRAWS)
    units = len(rows) if groups is None else len(np.unique(groups))
    scores = [score(task.metric, truth, some) for some in predictions]
    sign = 1 if is_higher_better(task.metric) else -1
    losses = np.stack([row_losses(task, np.asarray(truth), some) for some in predictions])  # (runs, rows)
    differences = []
    for k in range(1, len(runs)):
        better = sign * (drawn[:, k] - drawn[:, 0])
        wins, lost = _count_wins(task, truth, predictions[0], predictions[k], losses[[0, k]])
        low, high = interval(better, units)
        by = float(sign * (scores[k] - scores[0])) + 0.0
        alone = f"{names[k]} alone is right" if task.classes else f"{names[k]} is nearer"
        differences.append(Difference(names[k], names[0], by, spread(better), low, high, wins, lost, alone))
    by_fold = {
        int(one): [score_if_defined(task.metric, truth[fold == one], some[fold == one]) for some in predictions]
        for one in np.unique(fold)
    }
    errors = [standard_error(task.metric, truth, some, groups=groups) for some in predictions]  # as `score_run` has it
    table = pd.DataFrame({"score": scores, "standard_error": errors}, index=names)
    return Paired(
        task, names, len(rows), units, left_out, table, differences,
        pd.DataFrame.from_dict(by_fold, orient="index", columns=names, dtype=float).rename_axis("fold"),
        _score_parts(task, np.asarray(truth), predictions, names),
        _disagreements(data, names, runs, losses, examples),
    )  # fmt: skip


def _count_wins(task: Task, truth, first: np.ndarray, other: np.ndarray, losses: np.ndarray) -> tuple[int, int]:
    if task.classes:
        right = [decide(task, some) == np.asarray(truth) for some in (first, other)]
        return int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return int((losses[1] < losses[0]).sum()), int((losses[0] < losses[1]).sum())


def _score_parts(task: Task, truth: np.ndarray, predictions: list[np.ndarray], names: list[str]) -> pd.DataFrame:
    """The F1 of each class or label, or the RMSE of each target, a column per run; the figure names the columns."""
    figure = "RMSE" if task.kind == "regression" else "F1"
    table = pd.concat([report(task, truth, some)[figure] for some in predictions], axis=1)
    return table.loc[task.classes or task.labels].set_axis(names, axis=1).rename_axis(index="", columns=figure)


def _disagreements(
    data: EnsembleData, names: list[str], runs: list[Run], losses: np.ndarray, examples: int
) -> pd.DataFrame:
    """The rows whose losses differ most between runs: id, label, the prediction of each run, and the text."""
    task, rows = data.task, runs[0].rows
    apart = np.ptp(losses, axis=0)
    places = [place for place in np.argsort(-apart, kind="stable")[:examples] if apart[place] > 0]
    train = data.train.iloc[rows[places]]
    shown = {
        "id": train["id"].tolist(),
        "true": [write_label(task, row) for row in np.asarray(data.labels)[rows[places]]],
    }
    for name, run in zip(names, runs, strict=True):
        shown[name] = [write_prediction(task, row) for row in run.oof_array[places]]
    texts = train["text"] if "text" in train else [""] * len(places)
    return pd.DataFrame(shown | {"text": [show_columns(text) for text in texts]})


def write_label(task: Task, label: np.ndarray) -> str:
    """The label of a row in words: its class, its labels, or its values."""
    if task.classes:
        return task.classes[int(label)]
    values = np.atleast_1d(label)
    if task.kind == "multilabel":
        return ", ".join(name for name, value in zip(task.labels, values, strict=True) if value == 1) or "none"
    return ", ".join(f"{value:.4g}" for value in values)


def write_prediction(task: Task, row: np.ndarray) -> str:
    """A prediction (columns,) in words, with its probability where it has one."""
    if task.classes:
        scale = f" of 0 to {len(task.classes) - 1}" if task.kind == "ordinal" else ""
        return f"{task.classes[decide(task, row[None])[0]]} ({row.max():.2f}{scale})"
    if task.kind == "multilabel":
        named = [f"{name} ({value:.2f})" for name, value in zip(task.labels, row, strict=True) if value >= 0.5]
        return ", ".join(named) or f"none (up to {row.max():.2f})"
    return ", ".join(f"{value:.4g}" for value in row)
