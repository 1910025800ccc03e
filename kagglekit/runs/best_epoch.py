"""The score of a run whose weights were chosen among evaluations, when other folds than the one that is scored choose.

With keep_best, fold k has the weights of its best evaluation: best on the very rows that are then scored. Here the
evaluation of fold k is that with the best mean score over the other folds (nested choice: Cawley and Talbot, 2010,
Journal of Machine Learning Research 11). What it costs is a look at a table: every evaluation's predictions are kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import remove
from kagglekit.runs.table_metadata import write_table
from kagglekit.runs.tables import Run, column_names, first_difference
from kagglekit.scoring.metrics import is_better, is_higher_better, score

FILE = "evaluations.parquet"


def write_evaluations(
    place: Path, ids: Sequence[str], evaluations: dict[int, np.ndarray], columns: Sequence[str], lineage: dict[str, Any]
) -> None:
    """Write what each evaluation of a fold predicted to `place/evaluations.parquet`, whole or not at all.

    evaluations: step -> (rows, columns); none: no such file stays there. The table has id, evaluation (1, 2, ...),
    step, and a column per class or target; the rows of one evaluation after those of the other.
    """
    if not evaluations:
        remove(place / FILE)
        return
    names = [f"{name} (class)" if name in ("evaluation", "step") else name for name in column_names(columns)]
    frame = pd.DataFrame(np.concatenate(list(evaluations.values())).astype(np.float32), columns=names)
    frame.insert(0, "id", [str(value) for value in ids] * len(evaluations))
    frame.insert(1, "evaluation", np.repeat(np.arange(1, len(evaluations) + 1), len(ids)))
    frame.insert(2, "step", np.repeat(np.array(list(evaluations), dtype=np.int64), len(ids)))
    write_table(place / FILE, frame, lineage)


def read_evaluations(place: Path, ids: Sequence[str]) -> np.ndarray:
    """What each evaluation of a fold predicted: (evaluations, rows, columns) float32, the rows in the order of `ids`.

    Raises ValueError when the table holds other rows.
    """
    table, count = pd.read_parquet(place / FILE), len(ids)
    number = -(-len(table) // count)
    if where := first_difference(table["id"].tolist(), [*ids] * number):
        raise ValueError(f"{place / FILE} holds other rows than oof.parquet beside it: {where}. Train the fold again")
    return table.iloc[:, 3:].to_numpy(dtype=np.float32).reshape(number, count, -1)


def has_evaluations(run: Run) -> bool:
    """Whether the choice of a run's weights can be made again: every finished fold, of two or more, has its table."""
    return (
        run.folder is not None
        and len(run.folds) > 1
        and all((run.folder / f"fold{k}" / FILE).is_file() for k in run.folds)
    )


def choose_evaluations(scores: dict[int, Sequence[float]], higher: bool) -> dict[int, int]:
    """Fold -> the place (from 0) of the evaluation with the best mean score over the other folds; of equal ones the
    earlier.

    scores: fold -> one score for each evaluation. Evaluations are matched by their number; where training of a fold
    ended early, by patience, its last one counts on. Nothing of a fold's own scores is looked at but their number,
    which may cut off its choice. NaN is no score; where no evaluation has one, the last is chosen.
    """
    longest = max(map(len, scores.values()))
    padded = {k: [*each, *[each[-1]] * (longest - len(each))] for k, each in scores.items()}
    found = {}
    for k in scores:
        others = np.array([each for fold, each in padded.items() if fold != k], dtype=np.float64)
        others = others[~np.isnan(others).all(axis=1)]  # a fold without any score has no say
        means, best = others.mean(axis=0) if len(others) else np.full(longest, np.nan), longest - 1
        first = np.nan
        for place, mean in enumerate(means.tolist()):
            if is_better(mean, first, higher):
                best, first = place, mean
        found[k] = min(best, len(scores[k]) - 1)
    return found


def cross_fitted_oof(folder: Path, task: Task, labels: np.ndarray, run: Run) -> Run:
    """The run with the out-of-fold predictions that fold k has at the evaluation which the other folds find best.

    folder: of the run, with `evaluations.parquet` in each fold. labels: of all rows of train. The test predictions stay
    those of the saved models, whose epochs each fold chose by itself. Of folds that go forward in time, later ones have
    a say in earlier ones.
    Raises ValueError for fewer than two finished folds, FileNotFoundError for one without its table.
    """
    if len(run.folds) < 2:
        raise ValueError(
            f"run={run.name!r} has one finished fold, and an evaluation is chosen by others: train another"
        )
    if lacking := [k for k in run.folds if not (folder / f"fold{k}" / FILE).is_file()]:
        raise FileNotFoundError(
            f"run={run.name!r} has no evaluations of fold {lacking[0]}: they are kept with keep_best. Train it again"
        )
    table, truth, inside = run.oof.copy(), np.asarray(labels)[run.rows], {}
    found, scores = {}, {}
    for k in run.folds:
        inside[k] = (table["fold"] == k).to_numpy()
        found[k] = read_evaluations(folder / f"fold{k}", table["id"][inside[k]].tolist())
        scores[k] = [score(task.metric, truth[inside[k]], predictions) for predictions in found[k]]
    chosen, oof = choose_evaluations(scores, is_higher_better(task.metric)), run.oof_array.copy()
    for k, place in chosen.items():
        oof[inside[k]] = found[k][place]
    table.iloc[:, 2:] = oof
    return replace(run, oof=table, cross_fitted=True)


def honest_run(run: Run, task: Task, labels: np.ndarray) -> Run:
    """The run as a second level may believe it: with `cross_fitted_oof` where its folds chose among evaluations that
    are kept, else as it is. `tell_caution(run.folder, run.cross_fitted)` says what is still too good about it."""
    return cross_fitted_oof(run.folder, task, labels, run) if has_evaluations(run) else run


def score_cross_fitted(run: Run, task: Task, labels: np.ndarray) -> dict[str, float]:
    """`cross_fitted`: the score of a run as `honest_run` gives it; nothing where that is the run itself."""
    if run.cross_fitted or not has_evaluations(run):
        return {}
    honest = honest_run(run, task, labels)
    return {"cross_fitted": float(score(task.metric, np.asarray(labels)[run.rows], honest.oof_array))}
