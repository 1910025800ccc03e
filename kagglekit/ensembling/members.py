"""The runs that an ensemble is made of: checked to belong together, and put side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kagglekit.ensembling.ensembler import Level
from kagglekit.lineage import check_members
from kagglekit.tables import Run


@dataclass(frozen=True, eq=False)
class Beside:
    """What is known of rows beside the predictions: of those of train, and of those of test; None: nothing.

    groups, documents, meta: as in `Level`, for all rows of train. A blend by an ensembler that reads documents or meta
    needs them of test too.
    """

    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    meta: np.ndarray | None = None
    test_documents: np.ndarray | None = None
    test_meta: np.ndarray | None = None


def make_level(runs: Sequence[Run], kind: str, metric: str = "", beside: Beside | None = None) -> Level:
    """The out-of-fold rows of runs, checked to belong together, as the input of a second-level model."""
    check_runs(runs)
    beside, rows = beside or Beside(), runs[0].rows
    more = {name: getattr(beside, name) for name in ("groups", "documents", "meta")}
    more = {name: None if values is None else np.asarray(values)[rows] for name, values in more.items()}
    return Level(np.stack([run.oof_array for run in runs]).astype(np.float64), kind, metric, **more)


def check_runs(runs: Sequence[Run]) -> None:
    """Raise ValueError unless the runs can be blended: some, different, with the same finished folds and columns, and
    none that would be a leak, see `check_members`."""
    names = [run.name for run in runs]
    if not runs or len(set(names)) < len(names):
        raise ValueError(f"runs={names}: give at least one run, and each only once")
    everything = {k for run in runs for k in run.folds}
    lacking = [f"{r.name!r} lacks {sorted(everything - set(r.folds))}" for r in runs if everything - set(r.folds)]
    if lacking:
        raise ValueError(
            f"the runs have different finished folds: {'; '.join(lacking)}. Train these folds, or leave the run out"
        )
    if any(run.columns != runs[0].columns for run in runs) or any(
        not run.oof["id"].equals(runs[0].oof["id"]) for run in runs
    ):
        raise ValueError(f"the runs {', '.join(names)} do not belong to the same task and folds")
    check_members(runs)
