"""What a run grew from: the runs that it names, those that these name in turn, and what they know of labels.

A model of fold k may only stand on models that never saw the labels of fold k. What params.json and weights.json tell
is read here; what happened outside of them is for you to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kagglekit.files import fold_folders, read_json, resolve, run_folder
from kagglekit.runs.table_metadata import EVERYTHING, goes_forward, hash_folds, read_lineage, seen_by

if TYPE_CHECKING:
    from kagglekit.runs.tables import Run


def split_start(start: str) -> list[str]:
    """The runs that a `start` names: "base+other" are two, an empty text none."""
    return [name.strip() for name in start.split("+")] if start.strip() else []


def find_run(work: str | Path, name: str) -> Path:
    """The folder of a run: `name` in `work`, or where it has a slash, the path of a run in any work folder."""
    return resolve(name) if "/" in name else run_folder(work, name)


def run_of(folder: str | Path) -> Path | None:
    """The run that a folder, such as that of a model, lies in: the nearest one above it with params.json; or None."""
    return next((place for place in resolve(folder).parents if (place / "params.json").is_file()), None)


def recipe_of(run: Path) -> dict[str, Any]:
    """What params.json says that a run was made by; nothing where there is none, as for a blend."""
    return read_json(run / "params.json")["recipe"] if (run / "params.json").is_file() else {}


def members_of(run: Path) -> list[Path]:
    """The runs that a blend is made of; none for any other run."""
    return [run.parent / name for name in _weights_of(run).get("members", [])]


def _weights_of(run: Path) -> dict[str, Any]:
    """What weights.json says that a blend is; nothing for any other run."""
    return read_json(run / "weights.json") if (run / "weights.json").is_file() else {}


def teachers_of(recipe: dict[str, Any]) -> list[str]:
    """The runs whose predictions a recipe learns from, each once."""
    names = [recipe.get(knob, {}).get("teacher", "") for knob in ("pseudo", "distill")]
    return [name for name in dict.fromkeys(names) if name]


def named_by(work: str | Path, recipe: dict[str, Any]) -> list[Path]:
    """The runs that a recipe names: to start from, to average, to mask by, to learn from; and the one whose model is
    its backbone."""
    names = [*split_start(recipe.get("start", "")), *recipe.get("soup_of", []), recipe.get("scorer", "")]
    places = [find_run(work, name) for name in [*names, *teachers_of(recipe)] if name]
    return [*places, *_run_of_backbone(recipe.get("backbone", ""))]


def _run_of_backbone(backbone: str) -> list[Path]:
    """None for a folder that is no model of a run in a work folder."""
    run = run_of(backbone) if backbone and resolve(backbone).is_dir() else None
    return [run] if run and (run.parent / "task.json").is_file() else []


def with_ancestors(runs: Iterable[Path]) -> list[Path]:
    """Runs, and behind them those that they grew from, directly or by way of others; of those that are still there."""
    found = [run for run in dict.fromkeys(runs) if run.is_dir()]
    for run in found:
        before = [*named_by(run.parent, recipe_of(run)), *members_of(run)]
        found += [place for place in dict.fromkeys(before) if place not in found and place.is_dir()]
    return found


def of_same_data(runs: Iterable[Path], work: Path) -> list[Path]:
    """The runs in work folders of the same data as `work`, by the fingerprints in task.json. Folds of other data hold
    other rows: what their models know does not count."""
    return [run for run in runs if run.parent == work or _fingerprint(run.parent) == _fingerprint(work)]


def _fingerprint(work: Path) -> str | None:
    return read_json(work / "task.json").get("fingerprint") if (work / "task.json").is_file() else None


def refuse_crossed(run: Path, what: str, name: str) -> None:
    """Raise ValueError when a run's model of fold k has heard of the labels of fold k, as far as the records tell.

    what: the parameter that names the run.
    """
    for crossed in _crossed(run):
        way = "" if crossed == run.name else f" stands on {crossed!r}, which"
        raise ValueError(
            f"{what}={name!r}{way} crossed folds: it learned from out-of-fold predictions, and so its model of a "
            'fold knows of the labels of that fold. Name a run without distill={"by": "oof"}'
        )


def check_members(runs: Sequence[Run]) -> None:
    """Raise ValueError when a blend of these runs, fitted or not, would have a score that leaked: by a run that crossed
    folds, or by runs whose rows are in different folds."""
    for run in runs:
        if run.folder is not None:
            refuse_crossed(run.folder, "runs", run.name)
        both = runs[0].oof[["id", "fold"]].merge(run.oof[["id", "fold"]], on="id")
        for row, ours, theirs in both[both["fold_x"] != both["fold_y"]].itertuples(index=False):
            raise ValueError(
                f"the runs {runs[0].name!r} and {run.name!r} have different folds: id {row!r} is in fold {ours} of the "
                f"one and {theirs} of the other. Train one of them again, on the folds of the other"
            )


def tell_lineage(run: Path, fold: int, test: bool = False) -> dict[str, Any]:
    """What the tables of a run's fold say of themselves, see `read_lineage`; test: the table of test. It is read from
    the records of the run, params.json or weights.json, which are there first."""
    work, told = run.parent, {"run": run.name, "fold": fold}
    if (work / "folds.parquet").is_file():
        folds = pd.read_parquet(work / "folds.parquet")
        saw = EVERYTHING if test and _averages(run) else seen_by(fold, goes_forward(folds))
        told |= {"folds": hash_folds(folds), "saw": saw}
    told |= {"fingerprint": fingerprint} if (fingerprint := _fingerprint(work)) else {}
    grown = [_label(place, work) for place in with_ancestors([run])[1:]]
    return told | {"from": grown, "crossed": _crossed(run), "chosen": _chosen(run)}


def _label(run: Path, work: Path) -> str:
    return run.name if run.parent == work else f"{run.parent.name}/{run.name}"


def _averages(run: Path) -> bool:
    """Whether a model that saw all folds, or a blend fitted on the fold itself, has had a say in the table of test."""
    alone = recipe_of(run).get("soup") == "folds" or _weights_of(run).get("crosses", False)
    return alone or any(_averages(member) for member in members_of(run))


def _crossed(run: Path) -> list[str]:
    """Which of a run and of those that it grew from crossed folds."""
    before = of_same_data(with_ancestors([run]), run.parent)
    crossed = [_label(place, run.parent) for place in before if recipe_of(place).get("crosses")]
    return crossed + _told_of_lost(before, "crossed")


def _chosen(run: Path, itself: bool = True) -> list[str]:
    """Which of them have weights that were chosen by scores on the fold. A member that a blend took as other folds
    choose does not count, and without `itself` the run does not."""
    before = of_same_data(with_ancestors([run]), run.parent)
    counted = {run} if itself else set()
    for place in before:
        honest = _weights_of(place).get("cross_fitted", [])
        counted |= {member for member in members_of(place) if member.name not in honest}
        counted |= set(named_by(place.parent, recipe_of(place)))
    chosen = [_label(place, run.parent) for place in before if place in counted and _chooses(recipe_of(place))]
    return chosen + _told_of_lost(before, "chosen")


def _told_of_lost(runs: Sequence[Path], what: str) -> list[str]:
    """What the tables of runs say of runs that they grew from and that are not there any more."""
    there = {_label(run, runs[0].parent) for run in runs}
    tables = [read_lineage(fold / "oof.parquet") for run in runs for fold in fold_folders(run).values()]
    return list(
        dict.fromkeys(name for told in tables for name in told.get(what, []) if name in {*told["from"]} - there)
    )


def tell_chosen(work: str | Path, recipe: dict[str, Any]) -> str:
    """A caution where the score of a run of this recipe is too good because weights were chosen by scores on the very
    rows that they are validated on, here or in a run that it grows from; else an empty text.

    Such a run is no error: few choices among much alike are known of the fold, not its labels row by row.
    """
    words = (
        "were chosen by their scores on the fold that they predict: the out-of-fold score is too good, the more so the "
        "more evaluations there were and the fewer rows. An honest one is without keep_best and CheckpointSoup"
    )
    if _chooses(recipe):
        beside = "; with keep_best alone, the score that is called cross_fitted" if recipe.get("keep_best") else ""
        return f"The weights of the models {words}{beside}"
    before = of_same_data(with_ancestors(named_by(work, recipe)), resolve(work))
    names = ", ".join(repr(run.name) for run in before if _chooses(recipe_of(run)))
    return f"It grew from {names}, whose weights {words}" if names else ""


def tell_caution(run: Path, cross_fitted: bool = False) -> str:
    """Why the score of a finished run, a blend too, is too good, as far as the records tell; else an empty text.

    cross_fitted: the score is that of `honest_run`, so that its own choice of an epoch does not count.
    """
    crossed, chosen = _crossed(run), _chosen(run, itself=not cross_fitted)
    told = [f"{', '.join(crossed)} learned from out-of-fold predictions of models that saw the fold"] if crossed else []
    told += [f"weights of {', '.join(chosen)} were chosen by scores on the fold"] if chosen else []
    return f"The score of {run.name!r} is too good: {'; '.join(told)}" if told else ""


def _chooses(recipe: dict[str, Any]) -> bool:
    return bool(recipe.get("keep_best")) or "CheckpointSoup" in recipe.get("tricks", {})
