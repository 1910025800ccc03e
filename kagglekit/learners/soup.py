"""A run whose models are not trained but averaged: soups of the models of other runs, fold by fold.

Model soups: Wortsman et al. (2022, arXiv 2203.05482). What an average can be made of: kagglekit/model/soup.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kagglekit.competition.task import Task, encode_labels, read_test, read_train
from kagglekit.device import choose_device, choose_precision
from kagglekit.files import read_json, replacing, resolve
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.catalogue import SOURCES
from kagglekit.model.classifier import Classifier
from kagglekit.model.soup import average_models, check_alike, greedy_soup
from kagglekit.options import check_range, knobs_of
from kagglekit.runs.folder import Fitted
from kagglekit.runs.knobs import TrainingRun
from kagglekit.runs.starts import SourceRun, read_sources
from kagglekit.runs.tables import read_folds
from kagglekit.scoring.metrics import is_higher_better, score
from kagglekit.training.inputs import FeatureScaler, Inputs, read_inputs, vector_files
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe

INPUTS = ("clean", "max_length", "truncation", "chunks", "chunk_stride", "features")  # knobs of what a model reads
INPUTS += ("pattern", "pooling", "verbalizer")  # the last two because a pattern goes with one of them


@dataclass
class Soup:
    """Averages the weights of the models of trained runs: those of fold k are the run's model of fold k.

    So no model has seen the rows that it predicts out of fold. It takes one pass where a blend takes one for each run.
    runs: with the folds of `work`, made from one backbone, alike in what they read and in their head.
    how: "uniform" takes all of them.
    "greedy" takes the best, and of the others each one with which the average is no worse. The members for fold k are
    chosen by the mean score of the soups of the other folds, each on its own held-out rows, so that no score on the
    rows of fold k counts. It needs a second fold, and costs up to two predictions of the fold for each run and fold.
    "folds" takes all, and predicts the test rows with one model, the average over all folds that the runs share, which
    also goes to the run's folder as `model`. It has seen every row of train, so that the out-of-fold score is that of
    the soups of single folds, which stay the models of the folds.
    Raises FileNotFoundError and ValueError, before anything is read, for runs that cannot be averaged.
    """

    task: Task = field(repr=False)
    work: str | Path = field(repr=False)
    runs: Sequence[str]
    how: str = "uniform"

    def __post_init__(self):
        knobs_of(TrainingRun)["soup"].check(self.how)
        self.sources = read_members(self.work, self.runs)
        self.folds = _shared_folds(self.sources)
        if self.how == "greedy" and len(self.folds) < 2:
            raise ValueError(
                f"soup='greedy' chooses the members of a fold by the other folds, and {', '.join(self.runs)} share "
                f"fold {self.folds[0]} alone: train a second one, or set soup='uniform'"
            )
        if self.how == "folds":
            average_besides(self._models())
        self.recipe = _inputs_of(self.sources[0].record.recipe)
        self.precision, self.scores_ = choose_precision(), {}
        self.everywhere_: np.ndarray | None = None  # how the average over all folds predicts the test rows
        train, test = (read(self.task, self.recipe.columns) for read in (read_train, read_test))
        self.labels = encode_labels(self.task, train)
        self.fold_of = read_folds(self.work, train["id"])["fold"].to_numpy()
        self.tokenizer = load_tokenizer(str(self.sources[0].models[self.folds[0]]))
        files = vector_files(self.recipe.features, train["id"], test["id"])
        self.rows, self.test_rows = (
            read_inputs(table, self.tokenizer, self.recipe, resolve(self.work) / "tokens", file)
            for table, file in zip((train, test), files, strict=True)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What params.json says of the run: what it is an average of, and what its models read."""
        read = {knob: getattr(self.recipe, knob) for knob in INPUTS}
        backbone = self.sources[0].record.recipe["backbone"]
        return {"backbone": backbone, "soup_of": list(self.runs), "soup": self.how, **read}

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int) -> Fitted:
        """Average the models of the fold that `folder` is named after, and predict `valid_rows` and the test rows.

        The average goes to `folder/model`. Nothing is trained or drawn: `train_rows` and `seed` do not count.
        Raises ValueError for a run that has not finished the fold.
        """
        fold = int(folder.name.removeprefix("fold"))
        models = [source.model(fold, "soup_of") for source in self.sources]
        members = self._choose(fold) if self.how == "greedy" else range(len(self.runs))
        model, beside = _average([models[number] for number in members])
        self._save(model, beside, folder / "model")
        oof = self._predict(model, beside, self.rows, valid_rows)
        everywhere = self.how == "folds"
        test = self._predict_everywhere(folder.parent) if everywhere else self._predict(model, beside, self.test_rows)
        receipt = {"how": self.how, "members": [self.runs[number] for number in members], "number": len(members)}
        receipt["models averaged for test"] = len(self._models()) if everywhere else len(members)
        return Fitted(oof, test, receipts={"soup": receipt})

    def _choose(self, fold: int) -> list[int]:
        """The numbers of the members for a fold, from what the other folds say."""
        others = [other for other in self.folds if other != fold]

        def evaluate(state: dict[str, torch.Tensor]) -> float:
            members = tuple(state["shares"].nonzero().flatten().tolist())
            return float(np.mean([self._score(members, other) for other in others]))

        alone = [{"shares": share} for share in torch.eye(len(self.runs))]  # their averages say who is in a soup
        return sorted(greedy_soup(alone, evaluate, is_higher_better(self.task.metric))[1])

    def _score(self, members: tuple[int, ...], fold: int) -> float:
        """Of the soup of a fold, on the rows of that fold; the choice for each other fold asks for it again."""
        if (members, fold) not in self.scores_:
            model, beside = _average([self.sources[number].models[fold] for number in members])
            rows = np.flatnonzero(self.fold_of == fold)
            predictions = self._predict(model, beside, self.rows, rows)
            self.scores_[members, fold] = score(self.task.metric, self.labels[rows], predictions)
        return self.scores_[members, fold]

    def _predict_everywhere(self, run: Path) -> np.ndarray:
        """The test rows by the average over all folds, which goes to `run/model`."""
        if self.everywhere_ is None:
            model, beside = _average(self._models())
            self._save(model, beside, run / "model")
            self.everywhere_ = self._predict(model, beside, self.test_rows)
        return self.everywhere_

    def _models(self) -> list[Path]:
        return [source.models[fold] for source in self.sources for fold in self.folds]

    def _predict(
        self, model: Classifier, beside: FeatureScaler, inputs: Inputs, rows: np.ndarray | None = None
    ) -> np.ndarray:
        return predict(model.to(choose_device()), beside.examples(inputs, rows), self.precision)

    def _save(self, model: Classifier, beside: FeatureScaler, place: Path) -> None:
        with replacing(place) as part:
            model.save(part, self.tokenizer)
            beside.save(part)


def read_members(work: str | Path, runs: Sequence[str]) -> list[SourceRun]:
    """The runs to be averaged.

    Raises as `read_sources` does, and ValueError for runs that were not trained on the folds of `work`, or that differ
    in backbone, in what they read, or in the options of their models, dropouts aside.
    """
    check_range("soup_of", list(runs), len(runs) > 0, "the names of one or more trained runs")
    sources = read_sources(work, runs, "soup_of")
    for source in sources:
        if not source.by_fold:
            what = "was trained on other data" if source.models else "is a run of 2_pretrain"
            raise ValueError(
                f"soup_of={source.name!r} {what}: only runs with the folds of {resolve(work)} are averaged"
            )
    facts, fold = [], _shared_folds(sources)[0]
    for source in sources:
        recipe, options = source.record.recipe, read_json(source.models[fold] / "classifier.json")
        read = _inputs_of(recipe)
        options["number of features"] = options.pop("features", None)  # its knob has the columns themselves
        facts.append(
            {"backbone": SOURCES.get(recipe["backbone"], recipe["backbone"])}
            | {knob: getattr(read, knob) for knob in INPUTS}
            | {name: value for name, value in options.items() if "drop" not in name}
        )
    check_alike(facts, runs)
    return sources


def _inputs_of(recipe: dict[str, Any]) -> Recipe:
    """What the models of a run read; its other knobs do not count."""
    return Recipe.read({knob: recipe[knob] for knob in INPUTS if knob in recipe})


def _shared_folds(sources: Sequence[SourceRun]) -> list[int]:
    shared = sorted(set.intersection(*(set(source.models) for source in sources)))
    if not shared:
        raise ValueError(f"soup_of: {', '.join(source.name for source in sources)} share no finished fold")
    return shared


def _average(folders: Sequence[Path]) -> tuple[Classifier, FeatureScaler]:
    """The soup of models, and how it reads what stands beside the text."""
    beside = average_besides(folders)
    return average_models(folders), beside


def average_besides(folders: Sequence[Path]) -> FeatureScaler:
    """The mean of how the models in `folders` scale what stands beside the text.

    Models of one fold agree in it; those of several learned it from other rows. Raises ValueError when these rows had
    other categories, or gaps in other columns: then numbers in the models mean other things.
    """
    besides = [FeatureScaler.load(folder) for folder in folders]
    codes = [beside.features and (beside.features.known, beside.features.gaps) for beside in besides]
    for folder, theirs in zip(folders, codes, strict=True):
        if theirs != codes[0]:
            raise ValueError(
                f"{folders[0]} and {folder} cannot be averaged: beside the text, the rows they were trained on have "
                "other categories, or gaps in other columns"
            )
    features = besides[0].features and _mean_scaling([beside.features for beside in besides])
    vectors = _mean_scaling(besides) if besides[0].center else besides[0]
    return replace(vectors, features=features)


def _mean_scaling(parts: Sequence) -> Any:
    """The first of `parts`, with the mean of the center and of the scale of all."""
    mean = {name: np.mean([getattr(part, name) for part in parts], axis=0).tolist() for name in ("center", "scale")}
    return replace(parts[0], **mean)
