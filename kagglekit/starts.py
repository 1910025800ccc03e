"""Runs whose models another run begins from, or averages: found, and refused where they have seen what they must not.

A model of fold k may only stand on models that never saw the rows of fold k; else its out-of-fold score is too good.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kagglekit.model.backbones import find_backbone
from kagglekit.model.catalogue import SOURCES
from kagglekit.model.soup import fuse_backbones
from kagglekit.paths import fold_folders, hash_files, read_json, resolve, run_folder


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


def split_start(start: str) -> list[str]:
    """The runs that a `start` names: "base+other" are two, an empty text none."""
    return [name.strip() for name in start.split("+")] if start.strip() else []


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
    if not models and not _has_one_model(folder):
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
    for run in [folder, *_ancestors(folder)] if matched else []:
        if _recipe_of(run).get("crosses"):
            raise ValueError(
                f"{what}={name!r}: {run} learned from out-of-fold predictions of other folds, and so its model of a "
                'fold knows of the labels of that fold. Name a run without distill={"by": "oof"}'
            )
    for before in [] if matched else _ancestors(folder):
        if find_models(before) and _data_of(before.parent) == _data_of(work):
            raise ValueError(
                f"{what}={name!r} began from {before}, a run of this data: by way of it, its models have seen rows "
                "that they would be validated on. Name a run that did not"
            )
    return Source(name, folder, models, matched)


def find_run(work: str | Path, name: str) -> Path:
    """The folder of a run: `name` in `work`, or where it has a slash, the path of a run in any work folder."""
    return resolve(name) if "/" in name else run_folder(work, name)


def find_models(run: Path) -> dict[int, Path]:
    """The models of a run's finished folds, number -> folder.

    A run of 2_pretrain that goes fold by fold says in models.json where they are; folds may share one.
    """
    places = {fold: place / "model" for fold, place in fold_folders(run).items()}
    if (run / "models.json").is_file():
        places = {int(fold): run / place for fold, place in read_json(run / "models.json").items()}
    return {fold: place for fold, place in sorted(places.items()) if place.is_dir()}


def _has_one_model(run: Path) -> bool:
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


def _ancestors(run: Path) -> list[Path]:
    """The runs that a run grew from, directly or by way of others, of those that are still there."""
    found = [run]
    for folder in found:
        recipe = _recipe_of(folder)
        names = [*split_start(recipe.get("start", "")), *recipe.get("soup_of", []), recipe.get("scorer", "")]
        names += [recipe.get(name, {}).get("teacher", "") for name in ("pseudo", "distill")]
        if (folder / "weights.json").is_file():
            names += read_json(folder / "weights.json")["members"]  # of a blend, as a teacher may be
        places = [find_run(folder.parent, name) for name in names if name]
        found += [place for place in places if place not in found and place.is_dir()]
    return found[1:]


def _recipe_of(run: Path) -> dict:
    """What params.json says of a run; nothing where there is none, as for a blend."""
    return read_json(run / "params.json")["recipe"] if (run / "params.json").is_file() else {}


def find_starts(work: str | Path, start: str, backbone: str, folds: Iterable[int]) -> dict[int, dict[str, float]]:
    """Which models each fold begins from: fold -> folder of a model -> its weight in their average.

    start: a run of 2_pretrain ("mlm"); or one that goes fold by fold, such as a trained run ("base"), where fold k
    begins from the backbone of its fold k, which never saw the labels of fold k either; or the path of a run in another
    work folder ("runs/other/base"): one of the same data goes fold by fold too, one of other data with the average of
    all its folds; or several of these with "+" between, each run with the same weight: "base+runs/other/base". Empty,
    the backbone as it is, gives no starts.
    backbone: what all of them must have been made from. Nothing is loaded yet: errors come before anything is trained.
    Raises FileNotFoundError and ValueError as `read_sources` does, and for another backbone or a fold that is missing.
    """
    sources = read_sources(work, split_start(start))
    for source in sources:
        _check_backbone(source, backbone)
    return {fold: _weigh(sources, fold) for fold in folds} if sources else {}


def _weigh(sources: Sequence[Source], fold: int) -> dict[str, float]:
    weights = {}
    for source in sources:
        models = [find_fold(source, fold)] if source.matched else list(source.models.values())
        models = models or [source.folder / "model"]
        weights |= {str(model): 1 / len(models) for model in models}
    return weights


def find_fold(source: Source, fold: int, what: str = "start") -> Path:
    """The model of a fold. Raises ValueError when the run has not finished it."""
    if fold not in source.models:
        there = ", ".join(map(str, source.models))
        raise ValueError(f"{what}={source.name!r} has no model of fold {fold}, only of {there}: train that fold first")
    return source.models[fold]


def find_scorer(work: str | Path, scorer: str, backbone: str) -> Source:
    """The trained run whose model of fold k says which tokens matter, for a stage of pretraining for fold k.

    Raises as `read_sources` does, and ValueError for a run of other folds or of another backbone.
    """
    (source,) = read_sources(work, [scorer], "scorer")
    if not source.matched:
        raise ValueError(f"scorer={scorer!r} is no run of 3_train with the folds of {work}: name one")
    _check_backbone(source, backbone, "scorer")
    return source


def _check_backbone(source: Source, backbone: str, what: str = "start") -> None:
    if not source.models:
        find_backbone(backbone, source.folder)
        return
    made_from = read_json(source.folder / "params.json")["recipe"]["backbone"]
    if SOURCES.get(made_from, made_from) != SOURCES.get(backbone, backbone):
        raise ValueError(
            f"{what}={source.name!r} was made from the backbone {made_from!r}, not {backbone!r}: name another run"
        )


def make_start(models: dict[str, float], place: Path) -> str:
    """The folder that a fold begins from: the one in `models`, or the average of their backbones, in `place/start`.

    models: of one fold, as `find_starts` gives them. place: the folder of the fold. An average has no pooler, as models
    of 2_pretrain have none: a pooling that uses it begins anew. The same models give the same average, bit for bit, so
    that a fold that was cut off goes on from it; `save_fold` deletes it.
    Raises ValueError for models whose backbones or vocabularies differ, see `fuse_backbones`.
    """
    if len(models) == 1:
        return next(iter(models))
    fuse_backbones([Path(model) for model in models], place / "start", list(models.values()))
    return str(place / "start")


def make_backbone(models: dict[str, float], place: Path) -> str:
    """What `make_start` gives, as transformers reads it: of a trained model the backbone alone, in `place/start`."""
    start = Path(make_start(models, place))
    if (start / "classifier.json").is_file():
        fuse_backbones([start], place / "start")
        return str(place / "start")
    return str(start)


def find_vocabulary(starts: dict[int, dict[str, float]], backbone: str) -> str:
    """Whose tokenizer to read with: that of the models to begin from, which may have got new tokens, or the backbone's.

    starts: as `find_starts` gives them. backbone: as `find_backbone` gives it.
    """
    return next((model for models in starts.values() for model in models), backbone)


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
