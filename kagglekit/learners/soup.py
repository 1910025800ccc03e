"""Soups as a learner: the models of other runs, averaged fold by fold in place of training (Wortsman et al., 2022).

The averages themselves are in kagglekit/model/weight_averages.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kagglekit.competition.task import Task, encode_labels, read_test, read_train
from kagglekit.data.features import join_candidates
from kagglekit.device import choose_device, choose_precision
from kagglekit.files import read_json, replacing, resolve
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.catalogue import SOURCES
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_models, check_equal, greedy_soup
from kagglekit.options import check_range, knobs_of
from kagglekit.runs.folder import Fitted
from kagglekit.runs.initial_weights import SourceRun, read_sources
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.tables import read_folds
from kagglekit.scoring.metrics import is_higher_better, score
from kagglekit.training.model_inputs import FeatureScaler, Inputs, read_inputs, vector_files
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe

INPUTS = ("clean", "max_length", "truncation", "chunks", "chunk_stride", "features")  # knobs of what a model reads
INPUTS += ("answers", "candidates", "chat", "system", "head")
INPUTS += ("budget", "swap", "pattern", "pooling", "verbalizer")  # a pattern goes with one of the last two


@dataclass
class Soup:
    """The average of the weights of several runs: fold k averages their models of fold k.

    No model has seen the rows that it predicts out of fold. It takes one pass where a blend takes one for each run.
    Of a run of several seeds each model counts, and all of them are a member or none is.
    runs: trained on the folds of `work`, with the same backbone, inputs and head.
    how: "uniform" takes all of them.
    "greedy" takes the best, and each other one with which the average is no worse. The members for fold k are chosen
    by the mean score of the soups of the other folds on their own held-out rows; no score on rows of fold k counts. It
    needs a second fold, and costs up to two predictions of the fold for each run and fold.
    "folds" takes all, and predicts the test rows with one model, the average over all folds that the runs share, which
    is saved as `model` in the run's folder. It has seen every row of train, so the out-of-fold score is that of the
    uniform soups of single folds, which stay the models of the folds.
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
            average_scalers(self._models())
        self.recipe = replace(_inputs_of(self.sources[0].record.recipe), precision=_precision_of(self.sources))
        self.precision, self.scores_ = choose_precision(wanted=self.recipe.precision.replace("fp16", "auto")), {}
        self.everywhere_: np.ndarray | None = None  # predictions of test by the average over all folds
        train, test = (read(self.task, self.recipe.columns) for read in (read_train, read_test))
        self.labels = encode_labels(self.task, train)
        self.fold_of = read_folds(self.work, train["id"])["fold"].to_numpy()
        self.tokenizer = load_tokenizer(str(self.sources[0].models[self.folds[0]][0]))
        files = vector_files(self.recipe.features, train["id"], test["id"])
        self.rows, self.test_rows = (
            read_inputs(table, self.tokenizer, self.recipe, resolve(self.work) / "tokens", file, self.task.data)
            for table, file in zip((train, test), files, strict=True)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The runs that are averaged, what their models read, and in which precision."""
        read = {knob: getattr(self.recipe, knob) for knob in (*INPUTS, "precision")}
        backbone = self.sources[0].record.recipe["backbone"]
        return {"backbone": backbone, "soup_of": list(self.runs), "soup": self.how, **read}

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int) -> Fitted:
        """Average the models of the fold that `folder` is named after, save the average as `folder/model`, and predict.

        `train_rows` and `seed` are not used. Raises ValueError for a run that has not finished the fold.
        """
        fold = int(folder.name.removeprefix("fold"))
        models = [source.models_of(fold, "soup_of") for source in self.sources]
        members = self._choose(fold) if self.how == "greedy" else range(len(self.runs))
        averaged = [model for number in members for model in models[number]]
        model, scaler = _average(averaged)
        self._save(model, scaler, folder / "model")
        oof = self._predict(model, scaler, self.rows, valid_rows)
        everywhere = self.how == "folds"
        test = self._predict_everywhere(folder.parent) if everywhere else self._predict(model, scaler, self.test_rows)
        receipt = {"how": self.how, "members": [self.runs[number] for number in members], "number": len(members)}
        receipt["models averaged for test"] = len(self._models()) if everywhere else len(averaged)
        return Fitted(oof, test, receipts={"precision": self.precision, "soup": receipt})

    def _choose(self, fold: int) -> list[int]:
        """The numbers of the members for a fold, by the scores of the other folds."""
        others = [other for other in self.folds if other != fold]

        def evaluate(state: dict[str, torch.Tensor]) -> float:
            members = tuple(state["shares"].nonzero().flatten().tolist())
            return float(np.mean([self._score(members, other) for other in others]))

        alone = [{"shares": share} for share in torch.eye(len(self.runs))]  # averages of these say who is in a soup
        return sorted(greedy_soup(alone, evaluate, is_higher_better(self.task.metric))[1])

    def _score(self, members: tuple[int, ...], fold: int) -> float:
        """The score of the soup of a fold on its own rows; kept, as the choice for each other fold needs it again."""
        if (members, fold) not in self.scores_:
            model, scaler = _average([model for number in members for model in self.sources[number].models[fold]])
            rows = np.flatnonzero(self.fold_of == fold)
            predictions = self._predict(model, scaler, self.rows, rows)
            self.scores_[members, fold] = score(self.task.metric, self.labels[rows], predictions)
        return self.scores_[members, fold]

    def _predict_everywhere(self, run: Path) -> np.ndarray:
        """The test rows, predicted by the average over all folds, which is saved as `run/model`."""
        if self.everywhere_ is None:
            model, scaler = _average(self._models())
            self._save(model, scaler, run / "model")
            self.everywhere_ = self._predict(model, scaler, self.test_rows)
        return self.everywhere_

    def _models(self) -> list[Path]:
        return [model for source in self.sources for fold in self.folds for model in source.models[fold]]

    def _predict(
        self, model: Classifier, scaler: FeatureScaler, inputs: Inputs, rows: np.ndarray | None = None
    ) -> np.ndarray:
        return predict(model.to(choose_device()), scaler.examples(inputs, rows), self.precision)

    def _save(self, model: Classifier, scaler: FeatureScaler, place: Path) -> None:
        with replacing(place) as part:
            model.save(part, self.tokenizer)
            scaler.save(part)


def read_members(work: str | Path, runs: Sequence[str]) -> list[SourceRun]:
    """The runs to be averaged.

    Raises as `read_sources` does, and ValueError for runs that were not trained on the folds of `work`, or that differ
    in backbone, inputs or options of their models, except for dropouts.
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
        recipe, options = source.record.recipe, read_json(source.models[fold][0] / "classifier.json")
        read = _inputs_of(recipe)
        options["number of features"] = options.pop("features", None)  # the knob `features` has the columns themselves
        facts.append(
            {"backbone": SOURCES.get(recipe["backbone"], recipe["backbone"])}
            | {knob: getattr(read, knob) for knob in INPUTS}
            | {name: value for name, value in options.items() if "drop" not in name}
        )
    check_equal(facts, runs)
    return sources


def _inputs_of(recipe: dict[str, Any]) -> Recipe:
    """The knobs of what the models of a run read; the others have their defaults."""
    return Recipe.read({knob: recipe[knob] for knob in INPUTS if knob in recipe})


def _precision_of(sources: Sequence[SourceRun]) -> str:
    """The precision of the runs; fp32 where one of them asks for it, auto where they differ otherwise."""
    wanted = {source.record.recipe.get("precision", "auto") for source in sources}
    return "fp32" if "fp32" in wanted else wanted.pop() if len(wanted) == 1 else "auto"


def _shared_folds(sources: Sequence[SourceRun]) -> list[int]:
    shared = sorted(set.intersection(*(set(source.models) for source in sources)))
    if not shared:
        raise ValueError(f"soup_of: {', '.join(source.name for source in sources)} share no finished fold")
    return shared


def _average(folders: Sequence[Path]) -> tuple[Classifier, FeatureScaler]:
    """The soup of models, and the scaler of its features."""
    scaler = average_scalers(folders)
    return average_models(folders), scaler


def average_scalers(folders: Sequence[Path]) -> FeatureScaler:
    """The mean of the feature scalers of the models in `folders`.

    Models of one fold have the same one; those of several folds were fitted on different rows. Raises ValueError when
    these rows had other categories, or gaps in other columns: then the inputs of the models have other meanings.
    """
    scalers = [FeatureScaler.load(folder) for folder in folders]
    codes = [scaler.features and (scaler.features.known, scaler.features.gaps) for scaler in scalers]
    for folder, theirs in zip(folders, codes, strict=True):
        if theirs != codes[0]:
            raise ValueError(
                f"{folders[0]} and {folder} cannot be averaged: in their features, the rows they were trained on "
                "have other categories, or gaps in other columns"
            )
    features = scalers[0].features and _mean_scaling([scaler.features for scaler in scalers])
    vectors = _mean_scaling(scalers) if scalers[0].center else scalers[0]
    return replace(vectors, features=features, candidates=join_candidates([one.candidates for one in scalers]))


def _mean_scaling(parts: Sequence) -> Any:
    """The first of `parts`, with the mean center and the mean scale of all."""
    mean = {name: np.mean([getattr(part, name) for part in parts], axis=0).tolist() for name in ("center", "scale")}
    return replace(parts[0], **mean)
