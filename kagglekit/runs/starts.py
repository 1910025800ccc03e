"""Where the models of a run begin: with the model of a run of 2_pretrain, or fold by fold with those of trained runs.

A model of fold k may only stand on models that never saw the rows of fold k; else its out-of-fold score is too good.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from kagglekit.files import read_json, resolve
from kagglekit.model.backbones import find_backbone
from kagglekit.model.catalogue import SOURCES
from kagglekit.model.soup import fuse_backbones
from kagglekit.runs.lineage import named_by, of_same_data, split_start, with_ancestors
from kagglekit.runs.sources import Source, find_fold, find_models, has_one_model, read_sources


def find_starts(work: str | Path, start: str, backbone: str, folds: Iterable[int]) -> dict[int, dict[str, float]]:
    """Which models each fold begins from: fold -> folder of a model -> its weight in their average.

    start: a run of 2_pretrain ("mlm"); or one that goes fold by fold, such as a trained run ("base"), where fold k
    begins from the backbone of its fold k, which never saw the labels of fold k either; or the path of a run in another
    work folder ("runs/other/base"): one of the same data goes fold by fold too, one of other data with the average of
    all its folds; or several of these with "+" between, each run with the same weight: "base+runs/other/base". Empty,
    the backbone as it is, gives no starts.
    backbone: what all of them must have been made from. Nothing is loaded yet: errors come before anything is trained.
    Raises FileNotFoundError and ValueError as `read_sources` does, and for another backbone, a fold that is missing, or
    a backbone that has seen rows of this data with their labels.
    """
    _check_folder(work, backbone)
    sources = read_sources(work, split_start(start))
    for source in sources:
        _check_backbone(source, backbone)
    return {fold: _weigh(sources, fold) for fold in folds} if sources else {}


def _weigh(sources: Sequence[Source], fold: int) -> dict[str, float]:
    weights = {}
    for source in sources:
        models = [find_fold(source, fold)] if source.matched else list(source.models.values())
        models = models or [source.folder / "model"]
        for model in map(str, models):  # folds of a run of 2_pretrain may share one
            weights[model] = weights.get(model, 0.0) + 1 / len(models)
    return weights


def find_scorer(work: str | Path, scorer: str, backbone: str) -> Source:
    """The trained run whose model of fold k says which tokens matter, for a stage of pretraining for fold k.

    Raises as `read_sources` does, and ValueError for a run of other folds or of another backbone.
    """
    (source,) = read_sources(work, [scorer], "scorer")
    if not source.matched:
        raise ValueError(f"scorer={scorer!r} is no run of 3_train with the folds of {work}: name one")
    _check_backbone(source, backbone, "scorer")
    return source


def _check_folder(work: str | Path, backbone: str) -> None:
    """Raise ValueError for a backbone that is the model of one fold, and would stand in all of them, or no backbone."""
    if (resolve(backbone) / "classifier.json").is_file():
        raise ValueError(
            f"backbone={backbone!r} is a trained model, whose backbone has other names of weights: set start to the "
            "run that it is of, and backbone to what that run was made from"
        )
    for run in of_same_data(with_ancestors(named_by(work, {"backbone": backbone})), resolve(work)):
        if find_models(run) or not has_one_model(run):
            raise ValueError(
                f"backbone={backbone!r} was trained in {run}, a run of this data: it has seen labels of rows that it "
                f"would be validated on. Set start={run.name!r}, so that each fold begins from the model of its own "
                "fold, and as backbone what that run was made from"
            )


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
