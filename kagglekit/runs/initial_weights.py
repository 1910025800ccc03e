"""Initial weights of a run, and other source runs whose models it is made from: to average, or to choose masks by.

A model of fold k may only be made from models that never saw the rows of fold k: else its out-of-fold score leaks.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kagglekit.decoders.lora_base import read_base
from kagglekit.files import ONLY_HASH, hash_content, hash_files, resolve
from kagglekit.files.parquet import read_parquet
from kagglekit.model.catalogue import SOURCES
from kagglekit.runs.leaks import refuse_leak
from kagglekit.runs.record import RunRecord, named_runs, split_start, with_ancestors


@dataclass(frozen=True)
class SourceRun:
    """A run with models, which `read_sources` has checked.

    name: as it was given. by_fold: it was trained on the folds of the work folder, or of another whose task the run
    learns, so fold k uses its model of fold k.
    """

    name: str
    record: RunRecord
    by_fold: bool

    @property
    def models(self) -> dict[int, list[Path]]:
        """Fold -> folders of its models, see `RunRecord.models`; empty for a run of 2_pretrain without labels."""
        return self.record.models

    def models_of(self, fold: int, what: str = "start") -> list[Path]:
        """The models of a fold, one a seed. Raises ValueError when the run has not finished it."""
        if fold not in self.models:
            there = ", ".join(map(str, self.models))
            raise ValueError(
                f"{what}={self.name!r} has no model of fold {fold}, only of {there}: train that fold first"
            )
        return self.models[fold]

    def check_name(self, backbone: str, what: str = "start") -> None:
        """Raise ValueError for a run of another backbone."""
        theirs = self.record.recipe["backbone"]
        if SOURCES.get(theirs, theirs) != SOURCES.get(backbone, backbone):
            raise ValueError(
                f"{what}={self.name!r} was made from the backbone {theirs!r}, not {backbone!r}: name another run"
            )

    def check_backbone(self, backbone: str, what: str = "start") -> None:
        """Raise ValueError for a run of another backbone, FileNotFoundError for a model without weights."""
        self.check_name(backbone, what)
        model = self.record.folder / "model"
        if not self.models and not any(model.glob(f"*{ONLY_HASH}")):
            from kagglekit.model.backbones import find_backbone  # here: torch takes seconds, and blends need none of it

            find_backbone(str(model))


def read_sources(
    work: str | Path, names: Sequence[str], what: str = "start", tasks: Sequence[str] = ()
) -> list[SourceRun]:
    """The source runs of these names: each a run in `work`, or the path of a run in another work folder.

    what: the parameter that names them. tasks: work folders whose tasks are learned together, fold by fold; those of
    `work` alone when empty. Trained runs of the same data (the fingerprint in task.json) as one of them must have the
    same folds. Runs of other data may have any, but must not be made from a run of this data, as far as params.json
    shows; whether their files hold some of the same rows is for you to know.
    Raises FileNotFoundError for a run that is not there, ValueError for one without models, named twice, or refused.
    """
    reads: dict = {}
    works = list(dict.fromkeys([resolve(work), *map(resolve, tasks)]))
    sources = [_read_source(works, RunRecord.open(work, name, reads), name, what) for name in names]
    for folder, times in Counter(source.record.folder for source in sources).items():
        if times > 1:
            raise ValueError(f"{what}: {folder} is named twice")
    return sources


def _read_source(works: Sequence[Path], run: RunRecord, name: str, what: str) -> SourceRun:
    if not run.folder.is_dir():
        notebook = "2_pretrain" if what == "start" else "3_train"
        raise FileNotFoundError(
            f"{what}={name!r}: {run.folder} does not exist: run {notebook} with run={run.name!r} first"
        )
    if not run.params or not (run.models or run.has_one_model):
        raise ValueError(
            f"{what}={name!r}: {run.folder} has no model: name a run of 2_pretrain that is done, or one of 3_train "
            "with a backbone and a finished fold"
        )
    lost = [place for place in (run.work, *works) if run.models and not (place / "task.json").is_file()]
    if lost:
        raise FileNotFoundError(f"{lost[0]} has no task.json: a run is found in the work folder where it was trained")
    of = [work for work in works if run.models and run.is_of_data(work)]
    if other := next((work for work in of if not _same_folds(run, work)), None):
        raise ValueError(
            f"{what}={name!r} was trained on the same data with other folds: its models have seen rows that they would "
            f"be validated on. Name a run with the folds of {other}"
        )
    if what != "start" and (run.folder / "models.json").is_file():
        raise ValueError(f"{what}={name!r} is a run of 2_pretrain: name one of 3_train")
    if of:
        refuse_leak(run, what, name)
    for work in (work for work in works if work not in of):
        for ancestor in _seen(run, work) if of else with_ancestors([run], work):
            if ancestor.models:
                raise ValueError(
                    f"{what}={name!r} is made from {ancestor.folder}, a run of this data: its models have seen rows "
                    "that they would be validated on. Name a run that did not"
                )
    return SourceRun(name, run, bool(of))


def _seen(run: RunRecord, work: Path) -> Iterator[RunRecord]:
    """The runs of a work folder's data that have shown all its rows to the model of each fold of `run`, of other data.

    One of a joint run's other tasks has not: fold k of all of them was held out together.
    """
    chain = [run]
    for one in chain:
        places = [one.work, *map(resolve, one.recipe.get("tasks", []))]
        for parent in dict.fromkeys(parent for parents in one.parents.values() for parent in parents):
            if not any(parent.is_of_data(place) for place in places):
                yield from with_ancestors([parent], work)
            elif parent not in chain and parent.folder.is_dir():
                chain.append(parent)
    yield from (one for one in chain if one.is_of_data(work) and not _same_folds(one, work))


def _same_folds(run: RunRecord, work: Path) -> bool:
    theirs = run.work / "folds.parquet"
    if run.params["inputs"]["folds"] != hash_files([theirs]):
        return False  # they were changed after the run was trained
    return run.work == work or read_parquet(theirs).equals(read_parquet(work / "folds.parquet"))


def find_starts(
    work: str | Path, start: str, backbone: str, folds: Iterable[int], tasks: Sequence[str] = ()
) -> dict[int, dict[str, float]]:
    """The initial weights of each fold: fold -> folder of a model -> its share in their average.

    start: a run of 2_pretrain ("mlm"); a trained run ("base"), where fold k starts from the backbone of its fold k (of
    several seeds their average), which never saw the labels of fold k either; the path of a run in another work folder
    ("runs/other/base"), fold by fold if it is of the same data, or of one of `tasks`, the work folders of a joint run,
    else with the average of all its folds; or several of these, each with the same share ("base+runs/other/base").
    Empty: no initial weights, the backbone as it is. backbone: that of all these runs. No weights are loaded yet:
    errors come before anything is trained.
    Raises as `read_sources` does, and ValueError for another backbone, runs whose weights cannot be averaged, a missing
    fold, or a backbone that has seen labels of this data.
    """
    _refuse_trained_backbone(work, backbone)
    sources = read_sources(work, split_start(start), tasks=tasks)
    for source in sources:
        source.check_backbone(backbone)
    if len(sources) > 1:
        from kagglekit.model.weight_averages import check_fusable  # here: torch takes seconds

        check_fusable([next(iter(_shares([source], min(source.models, default=0)))) for source in sources])
    return {fold: _shares(sources, fold) for fold in folds} if sources else {}


def _shares(sources: Sequence[SourceRun], fold: int) -> dict[str, float]:
    shares = {}
    for source in sources:
        models = source.models_of(fold) if source.by_fold else [one for each in source.models.values() for one in each]
        models = models or [source.record.folder / "model"]
        for model in map(str, models):  # folds of a run of 2_pretrain may share one
            shares[model] = shares.get(model, 0.0) + 1 / len(models)
    return shares


def find_scorer(work: str | Path, scorer: str, backbone: str) -> SourceRun:
    """The trained run whose model of fold k says which tokens matter, for a stage of pretraining for fold k.

    Raises as `read_sources` does, and ValueError for a run of other folds or of another backbone.
    """
    (source,) = read_sources(work, [scorer], "scorer")
    if not source.by_fold:
        raise ValueError(f"scorer={scorer!r} is no run of 3_train with the folds of {work}: name one")
    source.check_backbone(backbone, "scorer")
    return source


def _refuse_trained_backbone(work: str | Path, backbone: str) -> None:
    """Raise ValueError for a backbone that is a trained model, or that labels of this data have reached."""
    if (resolve(backbone) / "classifier.json").is_file():
        raise ValueError(
            f"backbone={backbone!r} is a trained model, whose backbone has other names of weights: set start to the "
            "run that it is of, and backbone to what that run was made from"
        )
    for run in with_ancestors(named_runs(work, {"backbone": backbone})["backbone"], resolve(work)):
        if run.models or not run.has_one_model:
            raise ValueError(
                f"backbone={backbone!r} was trained in {run.folder}, a run of this data: it has seen labels of rows "
                f"that it would be validated on. Set start={run.name!r}, so that each fold starts from the model of "
                "its own fold, and backbone to what that run was made from"
            )


def refuse_trained_encoder(work: str | Path, encoder: str, what: str) -> None:
    """Raise ValueError for an image encoder of a run of this data that has a model for each fold, or is made from one:
    the model of one fold has seen rows of the others. what: the knob that names it."""
    for run in with_ancestors(named_runs(work, {"features": {"images_by": encoder}})["images"], resolve(work)):
        if run.models:
            raise ValueError(
                f"{what}={encoder!r} is made from {run.folder}, a run of this data with a model for each fold: it has "
                "seen rows that it would be validated on. Name another, or pretrain it without probe_every and without "
                "a start that goes fold by fold"
            )


def make_start(models: dict[str, float], place: Path) -> str:
    """The folder with a fold's initial weights: the one in `models`, or the average of their backbones, which goes to
    `place/start`.

    models: of one fold, as from `find_starts`. place: the folder of the fold. An average has no pooler: a pooling that
    uses one starts it from random weights. The same models give the same average, bit for bit, so an interrupted fold
    resumes from it; `save_fold` deletes it. Raises ValueError where backbones or vocabularies differ.
    """
    if len(models) == 1:
        return next(iter(models))
    if (made := _place_of_average(models)).is_dir():  # in a kernel, which has no more of them
        return str(made)
    from kagglekit.model.weight_averages import fuse_backbones  # here, as above

    fuse_backbones([Path(model) for model in models], place / "start", list(models.values()))
    return str(place / "start")


def _place_of_average(models: dict[str, float]) -> Path:
    """Where the average of models is that was made on another machine: beside the first, by what it is made of."""
    runs = [RunRecord.around(model) for model in models]  # a work folder may have another name there
    of = [(str(Path(m).relative_to(run.work)) if run else m, models[m]) for m, run in zip(models, runs, strict=True)]
    return Path(next(iter(models))).parent / f"average-{hashlib.sha256(repr(of).encode()).hexdigest()[:8]}"


def pack_starts(
    work: str | Path, start: str, backbone: str, folds: Iterable[int], scratch: Path
) -> dict[Path, Path] | None:
    """What another machine needs in place of the models that `start` names, where a fold begins with an average: path
    beside the models -> file here. Averages are made in `scratch`; of the models there is all but their weights, and
    the hash of these, so that the run is the same there and here. None where no fold begins with an average, or models
    stand on a frozen backbone."""
    starts = [one for one in find_starts(work, start, backbone, folds).values() if len(one) > 1]
    sources = [
        model
        for source in read_sources(work, split_start(start))
        for model in [one for each in source.models.values() for one in each] or [source.record.folder / "model"]
    ]
    if not starts or any(map(read_base, sources)):
        return None
    found: dict[Path, Path] = {}
    for number, models in enumerate(starts):
        if (place := _place_of_average(models)) / "config.json" not in found:
            made = Path(make_start(models, scratch / str(number)))
            found |= {place / file.name: file for file in made.iterdir()}
    for model in sources:
        for file in model.iterdir():
            if file.suffix == ".safetensors":
                stand_in = scratch / f"{len(found)}{ONLY_HASH}"
                stand_in.write_text(hash_content(file), encoding="utf-8")
                found[model / f"{file.name}{ONLY_HASH}"] = stand_in
            elif file.is_file():
                found[model / file.name] = file
    return found


def make_backbone(models: dict[str, float], place: Path) -> str:
    """What `make_start` gives, as transformers reads it: of a trained model the backbone alone, in `place/start`."""
    start = make_start(models, place)
    if not Path(start, "classifier.json").is_file():
        return start
    from kagglekit.model.weight_averages import fuse_backbones  # here, as above

    fuse_backbones([Path(start)], place / "start")
    return str(place / "start")


def find_vocabulary(starts: dict[int, dict[str, float]], backbone: str) -> str:
    """The folder of the tokenizer: that of the initial weights, which may have new tokens, else the backbone's."""
    return next((model for models in starts.values() for model in models), backbone)
