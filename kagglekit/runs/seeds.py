"""Several seeds of a fold: trained one after the other, kept apart, and blended as one run by the mean.

A fold of three seeds, `seeds=3` of 3_train; one of a single seed has no folder of a seed:

    fold0/oof.parquet, test.parquet             the mean of the seeds
    fold0/model, history.jsonl, ...             seed 0, as if it were the only one
    fold0/seed0/oof.parquet, test.parquet       what seed 0 predicts
    fold0/seed1/model, oof.parquet, ...         seed 1; then seed 2

Of how many seeds a fold's tables are the mean, their metadata says: while more are trained, the fold stays what it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.files import fold_folders, seed_folder
from kagglekit.files.parquet import read_metadata, read_parquet, write_parquet
from kagglekit.progress import parts
from kagglekit.runs.record import RunRecord, count_seeds
from kagglekit.runs.tables import Run
from kagglekit.scoring.metrics import score, score_if_defined
from kagglekit.time_budget import UNLIMITED, TimeBudget, stopping_in_time

TABLES = ("test.parquet", "oof.parquet")  # of a fold; the last one makes it finished


def seed_tables(record: RunRecord) -> dict[int, dict[int, pd.DataFrame]]:
    """The out-of-fold table (id, fold, columns) of each seed of each finished fold: fold -> seed number -> table.

    Of a fold of one seed it is that of the fold, as seed 0.
    """
    return {
        fold: {number: read_parquet(file) for number, file in enumerate(own_tables(place))}
        for fold, place in record.folds.items()
    }


def own_tables(fold: Path, name: str = TABLES[-1]) -> list[Path]:
    """The tables of the seeds whose mean the table of the fold is, in order: of one seed this table itself."""
    count = count_seeds(fold, name)
    return [fold / name] if count == 1 else [fold / f"seed{number}" / name for number in range(count)]


def finished_seeds(fold: Path, seeds: int, name: str = TABLES[-1]) -> list[int]:
    """The numbers of the seeds, of so many, that are trained: a fold of one seed has the first."""
    there = (fold / name).is_file()
    return [n for n in range(seeds) if (fold / f"seed{n}" / name).is_file() or (n == 0 and there)]


def table_folder(fold: Path, number: int, seeds: int) -> Path:
    """Where the tables of a seed go: of several into its own folder, of a single one into that of the fold."""
    return fold / f"seed{number}" if seeds > 1 else fold


def join_seeds(fold: Path, seeds: int, names: Sequence[str] = TABLES) -> bool:
    """Make the tables of a fold the mean of its seeds, once all are trained; whether they are it now.

    The table of a fold that had one seed is kept as that of seed 0.
    """
    if count_seeds(fold, names[-1]) >= seeds:
        return True
    if len(finished_seeds(fold, seeds, names[-1])) < seeds:
        return False
    for name in names:
        first = fold / "seed0" / name
        if not first.is_file():
            write_parquet(first, read_parquet(fold / name), read_metadata(fold / name) | {"seed": 0})
    for name in names:
        files = [fold / f"seed{number}" / name for number in range(seeds)]
        mean = mean_table([read_parquet(file) for file in files])
        about = {key: value for key, value in read_metadata(files[0]).items() if key != "seed"}
        write_parquet(fold / name, mean, about | ({"seeds": seeds} if seeds > 1 else {}))
    return True


def mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of tables of predictions of the same rows: their float32 columns; the others as in the first."""
    first = tables[0]
    if any(not table["id"].equals(first["id"]) or list(table) != list(first) for table in tables):
        raise ValueError("the seeds of a fold predict other rows or columns: delete its folder, and train it again")
    names = [name for name in first if name not in ("id", "fold")]
    return first.assign(**dict(zip(names, mean_predictions([t[names].to_numpy() for t in tables]).T, strict=True)))


def mean_predictions(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of predictions (rows, columns) by several seeds, float32; of one seed these themselves."""
    return np.mean(predictions, axis=0, dtype=np.float64).astype(np.float32)


def score_seeds(run: Run, task: Task, labels: np.ndarray) -> dict[str, Any]:
    """The scores of the seeds of a run, each by itself; nothing where every fold has one.

    labels: of all rows of train. scores: of each seed that all finished folds have, over all their rows; spread: the
    standard deviation of these; folds: fold -> the score of each of its seeds.
    """
    files = {fold: own_tables(run.folder / f"fold{fold}") for fold in run.folds} if run.folder else {}
    if max(map(len, files.values()), default=1) < 2:
        return {}
    truth, fold_of = labels[run.rows], run.oof["fold"].to_numpy()
    oofs = {
        fold: [read_parquet(file).iloc[:, 2:].to_numpy(np.float32) for file in each] for fold, each in files.items()
    }
    scored = partial(score_if_defined, task.metric)
    folds = {fold: [scored(truth[fold_of == fold], one) for one in each] for fold, each in oofs.items()}
    found, whole = [], run.oof_array.copy()
    for number in range(min(map(len, oofs.values()))):
        for fold, each in oofs.items():
            whole[fold_of == fold] = each[number]
        found.append(float(score(task.metric, truth, whole)))
    spread = {"spread": float(np.std(found, ddof=1))} if len(found) > 1 else {}
    return {"scores": found, **spread, "folds": folds}


def describe_seeds(metric: str, mean: float, seeds: Mapping[str, Any]) -> str:
    """What `score_seeds` found, in a sentence. mean: the score of the mean of their predictions."""
    each = seeds["scores"]
    if len(each) < 2:
        return "Not all folds have several seeds yet."
    return (
        f"{len(each)} seeds: each alone has {metric} {min(each):.4f} to {max(each):.4f}, {np.mean(each):.4f} on "
        f"average with a standard deviation of {seeds['spread']:.4f}; the mean of their predictions has {mean:.4f}."
    )


def trainings(
    run: Path,
    folds: Iterable[int],
    seeds: int = 1,
    budget: TimeBudget = UNLIMITED,
    sizes: Mapping[int, int] | None = None,
    later: float = 0.0,
) -> Iterator[tuple[int, int, Path]]:
    """The trainings that a run still lacks: fold, number of the seed, and the folder where it is trained.

    Neither those that are finished, which is printed, nor, once the time of `budget` is over, any other, which is kept
    as in `stopping_in_time`. Fold after fold, so that as many folds as possible have all their seeds.
    sizes: the training rows of each; later: trainings that follow, in folds: both for the time left, see `parts`.
    """
    folds = list(folds)
    done = [fold for fold in folds if _is_done(run, fold, seeds)]
    for fold in done:
        print(f"fold {fold} is finished")
    to_do = [fold for fold in folds if fold not in done]
    rows = {fold: sizes[fold] if sizes else 1.0 for fold in to_do}
    work = {k: rows[k] * (seeds - len(finished_seeds(run / f"fold{k}", seeds))) for k in to_do}
    after = later * seeds * sum(rows.values()) / max(sum(work.values()), 1)  # of the mean of what these still lack
    for fold in parts(to_do, "fold", done=len(done), sizes=work, later=after):
        place = run / f"fold{fold}"
        if _is_done(run, fold, seeds):  # another process has finished it meanwhile
            print(f"fold {fold} is finished")
            continue
        there = finished_seeds(place, seeds)
        lacking = [number for number in range(seeds) if number not in there]
        for number in there:
            print(f"fold {fold}, seed {number} is finished")
        for number in parts(lacking, "seed", done=len(there)) if seeds > 1 else lacking:
            if not budget.over():
                yield fold, number, seed_folder(place, number)
            else:
                with stopping_in_time(place):
                    budget.check(f"fold {fold}, seed {number}" if seeds > 1 else f"fold {fold}")
            if number not in finished_seeds(place, seeds):  # time is over: no other seed of the fold is begun
                break


def _is_done(run: Path, fold: int, seeds: int) -> bool:
    """Whether a fold has so many seeds; of one whose last seed is trained, the tables are written now."""
    return join_seeds(run / f"fold{fold}", seeds) and fold in fold_folders(run)
