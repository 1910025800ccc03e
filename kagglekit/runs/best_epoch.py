"""Cross-fitted best epoch: the honest score of a run with keep_best, where other folds choose the epoch of each fold.

With keep_best, fold k has the weights of its best evaluation: best on the very rows that are then scored. Here fold k
takes the evaluation with the best mean score over the other folds (nested choice: Cawley and Talbot, 2010, Journal of
Machine Learning Research 11). It costs no training: the predictions of every evaluation are kept.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import remove, seed_folder
from kagglekit.files.parquet import read_parquet, write_parquet
from kagglekit.runs.record import count_seeds
from kagglekit.runs.seeds import mean_predictions
from kagglekit.runs.tables import Run, column_names, first_difference
from kagglekit.scoring.metrics import is_higher_better, score

FILE = "evaluations.parquet"


def honest_run(run: Run, task: Task, labels: np.ndarray) -> Run:
    """The run as a blend may trust it: its out-of-fold predictions are of the epochs that other folds choose.

    Fold k gets what it predicted at the evaluation with the best mean score over the other folds, of several seeds the
    mean of what all predicted then. The test predictions
    stay those of the saved models, whose epochs each fold chose by itself. Of folds that go forward in time, later ones
    have a say in earlier ones. A run with one fold, or without `evaluations.parquet` in each, stays as it is.
    labels: of all rows of train. `score_warning(record, run.cross_fitted)` says why a score may still be too good.
    """
    folders = {k: run.folder / f"fold{k}" for k in run.folds} if run.folder else {}
    places = {k: [seed_folder(fold, n) for n in range(count_seeds(fold))] for k, fold in folders.items()}
    if len(places) < 2 or not all((place / FILE).is_file() for each in places.values() for place in each):
        return run
    table, truth, fold_of = run.oof.copy(), np.asanyarray(labels)[run.rows], run.oof["fold"].to_numpy()
    inside = {k: fold_of == k for k in places}
    found, scores, oof = {}, {}, run.oof_array.copy()
    for k, each in places.items():
        found[k] = [read_evaluations(place, table["id"][inside[k]].tolist()) for place in each]
        all_scores = [[score(task.metric, truth[inside[k]], probs) for probs in one] for one in found[k]]
        scores[k] = np.mean(_as_long(all_scores), axis=0)
    for k, place in choose_evaluations(scores, is_higher_better(task.metric)).items():
        oof[inside[k]] = mean_predictions([one[min(place, len(one) - 1)] for one in found[k]])
    table.iloc[:, 2:] = oof
    return replace(run, oof=table, cross_fitted=True)


def choose_evaluations(scores: dict[int, Sequence[float]], higher: bool) -> dict[int, int]:
    """Fold -> the place (from 0) of the evaluation with the best mean score over the other folds; of equal ones the
    earlier.

    scores: fold -> one score for each evaluation. Evaluations are matched by their number; where patience ended a fold
    early, its last score counts on. Of a fold's own scores only their number counts, which may end its choice earlier.
    NaN is no score; where no evaluation has one, the last is chosen.
    """
    padded, found = dict(zip(scores, _as_long(scores.values()), strict=True)), {}
    longest = len(next(iter(padded.values())))
    for k in scores:
        others = np.array([each for fold, each in padded.items() if fold != k], dtype=np.float64)
        others = others[~np.isnan(others).all(axis=1)]  # a fold without any score has no say
        means = others.mean(axis=0) if len(others) else np.full(longest, np.nan)
        best = longest - 1 if np.isnan(means).all() else int((np.nanargmax if higher else np.nanargmin)(means))
        found[k] = min(best, len(scores[k]) - 1)
    return found


def _as_long(scores: Collection[Sequence[float]]) -> list[list[float]]:
    """Lists of scores, each as long as the longest: where patience ended early, the last one counts on."""
    longest = max(map(len, scores))
    return [[*each, *[each[-1]] * (longest - len(each))] for each in scores]


def write_evaluations(
    place: Path,
    ids: Sequence[str],
    evaluations: dict[int, np.ndarray],
    columns: Sequence[str],
    metadata: dict[str, Any],
) -> None:
    """Write the predictions of each evaluation of a fold to `place/evaluations.parquet`, whole or not at all.

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
    write_parquet(place / FILE, frame, metadata)


def read_evaluations(place: Path, ids: Sequence[str]) -> np.ndarray:
    """The predictions of each evaluation of a fold: (evaluations, rows, columns) float32, rows in the order of `ids`.

    Raises ValueError when the table holds other rows.
    """
    table, count = read_parquet(place / FILE), len(ids)
    number = -(-len(table) // count)
    if where := first_difference(table["id"].tolist(), [*ids] * number):
        raise ValueError(f"{place / FILE} holds other rows than oof.parquet beside it: {where}. Train the fold again")
    return table.iloc[:, 3:].to_numpy(dtype=np.float32).reshape(number, count, -1)
