"""Leaks between runs: which labels reached a run by way of the runs that it was made from.

A model of fold k may only be made from models that never saw the labels of fold k. The records of runs are read here
(`RunRecord`); what happened outside of them nobody can check.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kagglekit.declared import read_tricks
from kagglekit.files import resolve
from kagglekit.files.parquet import read_parquet
from kagglekit.runs.record import RunRecord, named_runs, with_ancestors
from kagglekit.runs.tables import EVERYTHING, goes_forward, hash_folds


def refuse_leak(run: RunRecord, what: str, name: str) -> None:
    """Raise ValueError when a run's model of fold k knows labels of fold k, as far as the records show.

    what: the parameter that names the run.
    """
    for leaked in find_leaks(run):
        way = "" if leaked == run.name else f" is made from {leaked!r}, which"
        raise ValueError(
            f"{what}={name!r}{way} leaks: it learned from out-of-fold predictions, so its model of a fold knows the "
            'labels of that fold. Name a run without distill={"by": "oof"}'
        )


def table_metadata(run: RunRecord, fold: int, test: bool = False) -> dict[str, Any]:
    """The metadata of a table of a run's fold, see `read_metadata`; test: of the table of test. It comes from
    params.json or weights.json, which are written first."""
    file, found = run.work / "folds.parquet", {"run": run.name, "fold": fold}
    if file.is_file():
        folds = run.reads.get(file)
        folds = run.reads[file] = read_parquet(file) if folds is None else folds
        saw = f"folds before {fold}" if goes_forward(folds) else f"all folds but {fold}"
        found |= {"folds": hash_folds(folds), "saw": EVERYTHING if test and _saw_everything(run) else saw}
    found |= {"fingerprint": run.fingerprint} if run.fingerprint else {}
    ancestors = [_label(parent, run.work) for parent in with_ancestors([run])[1:]]
    return found | {"from": ancestors, "crossed": find_leaks(run), "chosen": find_chosen(run)}


def _label(run: RunRecord, work: Path) -> str:
    return run.name if run.work == work else f"{run.work.name}/{run.name}"


def _saw_everything(run: RunRecord) -> bool:
    """Whether its test predictions depend on a model of all folds, or on a blend that was fitted on the fold itself."""
    own = run.recipe.get("soup") == "folds" or run.weights.get("crosses", False)
    return own or any(_saw_everything(member) for member in run.members)


def find_leaks(run: RunRecord) -> list[str]:
    """Which of a run and its ancestors learned from out-of-fold predictions, and so know the labels of the fold."""
    family = with_ancestors([run], run.work)
    return [_label(one, run.work) for one in family if one.recipe.get("crosses")] + _recorded(family, "crossed")


def find_chosen(run: RunRecord, itself: bool = True) -> list[str]:
    """Which of a run and its ancestors have weights that were chosen by scores on the fold. Without `itself` the run
    does not count; nor does a member of a blend whose epochs were chosen by other folds."""
    family = with_ancestors([run], run.work)
    counted = {run} if itself else set()
    for one in family:
        honest = one.weights.get("cross_fitted", [])
        for role, parents in one.parents.items():
            counted |= {parent for parent in parents if role != "members" or parent.name not in honest}
    chosen = [_label(one, run.work) for one in family if one in counted and _chooses(one.recipe)]
    return chosen + _recorded(family, "chosen")


def _recorded(family: Sequence[RunRecord], what: str) -> list[str]:
    """What the tables of runs record of ancestors that do not exist any more."""
    there = {_label(run, family[0].work) for run in family}
    tables = [metadata for run in family for metadata in run.metadata]
    return list(
        dict.fromkeys(name for table in tables for name in table.get(what, []) if name in {*table["from"]} - there)
    )


def selection_warning(work: str | Path, recipe: dict[str, Any]) -> str:
    """A warning where the score of a run of this recipe is too good because weights were chosen by scores on the very
    rows that they are validated on, in the run or an ancestor; else an empty text.

    It is no error: a choice among a few similar models knows the fold, but not its labels row by row.
    """
    words = (
        "were chosen by their scores on the fold that they predict: the out-of-fold score is too good, the more so the "
        "more evaluations there were and the fewer rows. An honest one is without keep_best and CheckpointSoup"
    )
    if _chooses(recipe):
        more = "; with keep_best alone, the score that is called cross_fitted" if recipe.get("keep_best") else ""
        return f"The weights of the models {words}{more}"
    parents = [run for runs in named_runs(work, recipe).values() for run in runs]
    family = with_ancestors(parents, resolve(work))
    names = ", ".join(repr(run.name) for run in family if _chooses(run.recipe))
    return f"The run is made from {names}, whose weights {words}" if names else ""


def score_warning(run: RunRecord, cross_fitted: bool = False) -> str:
    """Why the score of a finished run or blend is too good, as far as the records show; else an empty text.

    cross_fitted: the score is that of `honest_run`, so the run's own choice of an epoch does not count.
    """
    leaks, chosen = find_leaks(run), find_chosen(run, itself=not cross_fitted)
    why = [f"{', '.join(leaks)} learned from out-of-fold predictions of models that saw the fold"] if leaks else []
    why += [f"weights of {', '.join(chosen)} were chosen by scores on the fold"] if chosen else []
    return f"The score of {run.name!r} is too good: {'; '.join(why)}" if why else ""


def _chooses(recipe: dict[str, Any]) -> bool:
    if recipe.get("keep_best") or not recipe.get("tricks"):
        return bool(recipe.get("keep_best"))
    known = read_tricks()
    return any(name in known and known[name].traits["chooses"] for name in recipe["tricks"])
