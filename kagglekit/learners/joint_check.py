"""Checks of a run of several work folders: the folders, their folds, and what cannot be of several tasks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kagglekit.declared import read_tricks
from kagglekit.files import fold_folders, read_json, resolve, run_folder, shorten
from kagglekit.losses.catalogue import check_loss
from kagglekit.options import did_you_mean
from kagglekit.scoring import CLASSES


def check_joint(asked: Mapping[str, Any]) -> None:
    """Raise ValueError or FileNotFoundError for what a joint run cannot be made of, before any model is built.

    asked: all parameters of `3_train`. Only task.json, folds.parquet and the names of finished folds are read.
    """
    work, tasks = asked["work"], asked["tasks"]
    places = [resolve(one) for one in tasks]
    if twice := [tasks[places.index(place)] for place, count in Counter(places).items() if count > 1]:
        raise ValueError(f"tasks: {twice[0]} is named twice: name each work folder once")
    if len(places) < 2:
        raise ValueError(f"tasks={list(tasks)} is one work folder: name two or more, or leave tasks out")
    if resolve(work) not in places:
        raise ValueError(f"tasks: work={work!r} is not among {', '.join(tasks)}: name it there too")
    for name, place in zip(tasks, places, strict=True):
        if not (place / "task.json").is_file():
            there = [path.parent.name for path in place.parent.glob("*/task.json")]
            meant = did_you_mean(place.name, there).replace("did you mean ", f"did you mean {shorten(place.parent)}/")
            raise FileNotFoundError(f"tasks: {name} has no task.json{meant or f': run 1_eda work={name} first'}")
    _check_knobs(asked)
    _check_folds(work, asked["run"], tasks)


def _check_knobs(asked: Mapping[str, Any]) -> None:
    for name in asked["tricks"]:
        traits = read_tricks()[name].traits
        if traits["chooses"] or traits["mixes_texts"] or traits["reads_labels"]:
            raise ValueError(
                f"tricks: {name} reads the labels or scores of one task, and tasks has several: leave it out"
            )
    losses, tasks = asked["joint"].get("losses", {}), asked["tasks"]
    if losses == "falling" and asked["epochs"] <= 2:
        raise ValueError(
            f"joint: losses: falling compares two epochs, and has no effect before the third: set epochs above "
            f"{asked['epochs']:g}"
        )
    for name in losses if isinstance(losses, dict) else ():
        if resolve(name) not in map(resolve, tasks):
            raise ValueError(f"joint: losses: {name} is none of tasks{did_you_mean(name, tasks)}")
    if asked["head"] == "flat":
        if asked["tuning"] != "full":
            raise ValueError(f"head='flat' adds to the word embeddings, and tuning={asked['tuning']!r} trains none")
        for name, task in read_tasks(tasks).items():
            kind = task["kind"]
            if kind not in CLASSES or check_loss(asked["loss"], kind) != "softmax":
                raise ValueError(
                    f"head='flat' is one softmax over the classes of all tasks, and {name} is {kind}, with no class a "
                    "row: set head to separate or queries"
                )


def _check_folds(work: str, run: str, tasks: Sequence[str]) -> None:
    """Fold k of every task is held out together: all have the same folds, finished in all folders or in none."""
    from kagglekit.runs.tables import choose_folds, read_parquet  # they take half a second

    ours, have = choose_folds(read_parquet(resolve(work) / "folds.parquet"), []), fold_folders(run_folder(work, run))
    for name in tasks:
        if (theirs := choose_folds(read_parquet(resolve(name) / "folds.parquet"), [])) != ours:
            raise ValueError(
                f"tasks: {name} has {len(theirs)} folds and {work} has {len(ours)}: fold k of every task is held out "
                "together, so run 1_eda with the same n_folds for each"
            )
        if lost := have.keys() - fold_folders(run_folder(name, run)).keys():
            raise ValueError(
                f"tasks: {name}/{run} lacks fold {min(lost)}, and {work}/{run} has it: put it back, or delete "
                f"fold{min(lost)} there too, and both are trained again"
            )


def read_tasks(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Work folder -> task.json."""
    return {name: read_json(resolve(name) / "task.json") for name in tasks}
