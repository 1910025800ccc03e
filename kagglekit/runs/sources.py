"""Runs with models that another run is made from: found, and refused where they have seen what they must not."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kagglekit.files import fold_folders, hash_files, read_json, resolve
from kagglekit.runs.lineage import find_run, of_same_data, refuse_crossed, with_ancestors


@dataclass(frozen=True)
class Source:
    """A run with models.

    name: as it was given. models: of its finished folds, number -> folder; none for a run of 2_pretrain which has read
    text without labels, and chosen nothing by them. matched: its folds are those of the work folder, so that its fold k
    goes with fold k.
    """

    name: str
    folder: Path
    models: dict[int, Path]
    matched: bool


def read_sources(work: str | Path, names: Sequence[str], what: str = "start") -> list[Source]:
    """The runs that `names` tell of: each the name of a run in `work`, or the path of one in another work folder.

    what: the parameter that an error names. Trained runs of the same data (the fingerprint in task.json) must have the
    same folds. Runs of other data may have any, but must not have begun from a run of this data, as far as params.json
    tells; whether other files hold some of the same rows is for you to know.
    Raises FileNotFoundError for a run that is not there, ValueError for one without models, named twice, or refused.
    """
    sources = [_read_source(resolve(work), name, what) for name in names]
    for folder, times in Counter(source.folder for source in sources).items():
        if times > 1:
            raise ValueError(f"{what}: {folder} is named twice")
    return sources


def _read_source(work: Path, name: str, what: str) -> Source:
    folder = find_run(work, name)
    if not folder.is_dir():
        notebook = "2_pretrain" if what == "start" else "3_train"
        raise FileNotFoundError(
            f"{what}={name!r}: {folder} does not exist: run {notebook} with run={folder.name!r} first"
        )
    models = find_models(folder)
    if not models and not has_one_model(folder):
        raise ValueError(
            f"{what}={name!r}: {folder} has no model: name a run of 2_pretrain that is done, or one of 3_train "
            "with a backbone and a finished fold"
        )
    matched = bool(models) and _data_of(folder.parent) == _data_of(work)
    if matched and not _same_folds(folder, work):
        raise ValueError(
            f"{what}={name!r} was trained on the same data with other folds: its models have seen rows that they would "
            f"be validated on. Name a run with the folds of {work}"
        )
    if what != "start" and (folder / "models.json").is_file():
        raise ValueError(f"{what}={name!r} is a run of 2_pretrain: name one of 3_train")
    if matched:
        refuse_crossed(folder, what, name)
    for before in [] if matched else of_same_data(with_ancestors([folder]), work):
        if find_models(before):
            raise ValueError(
                f"{what}={name!r} began from {before}, a run of this data: by way of it, its models have seen rows "
                "that they would be validated on. Name a run that did not"
            )
    return Source(name, folder, models, matched)


def find_models(run: Path) -> dict[int, Path]:
    """The models of a run's finished folds, number -> folder.

    A run of 2_pretrain that goes fold by fold says in models.json where they are; folds may share one.
    """
    places = {fold: place / "model" for fold, place in fold_folders(run).items()}
    if (run / "models.json").is_file():
        places = {int(fold): run / place for fold, place in read_json(run / "models.json").items()}
    return {fold: place for fold, place in sorted(places.items()) if place.is_dir()}


def has_one_model(run: Path) -> bool:
    """Whether it is a run of 2_pretrain with one model for all folds; one that hangs on folds has others beside it."""
    if fold_folders(run) or not (run / "model").is_dir() or not (run / "params.json").is_file():
        return False
    return "folds" not in read_json(run / "params.json")["inputs"]


def _data_of(work: Path) -> str | None:
    if not (work / "task.json").is_file():
        raise FileNotFoundError(f"{work} has no task.json: a run is found in the work folder in which it was trained")
    return read_json(work / "task.json").get("fingerprint")


def _same_folds(run: Path, work: Path) -> bool:
    theirs = run.parent / "folds.parquet"
    if read_json(run / "params.json")["inputs"]["folds"] != hash_files([theirs]):
        return False  # they were changed after the run was trained
    return run.parent == work or pd.read_parquet(theirs).equals(pd.read_parquet(work / "folds.parquet"))


def find_fold(source: Source, fold: int, what: str = "start") -> Path:
    """The model of a fold. Raises ValueError when the run has not finished it."""
    if fold not in source.models:
        there = ", ".join(map(str, source.models))
        raise ValueError(f"{what}={source.name!r} has no model of fold {fold}, only of {there}: train that fold first")
    return source.models[fold]


def hash_sources(sources: Iterable[Source], by_fold: bool = True) -> dict[str, str | dict[str, str]]:
    """The weights of runs, name -> hash; where folds go with folds and `by_fold`, name -> fold -> hash."""
    found = {}
    for source in sources:
        models = source.models or {"": source.folder / "model"}
        hashes = {str(fold): hash_weights([model]) for fold, model in models.items()}
        apart = by_fold and source.matched
        found[f"weights of {source.name}"] = hashes if apart else hash_weights(models.values())
    return found


def hash_weights(models: Iterable[Path]) -> str:
    """One hash of the weights in the folders of models."""
    patterns = ("*.safetensors", "pytorch_model*.bin")
    return hash_files(file for model in models for pattern in patterns for file in sorted(model.glob(pattern)))
