"""Predictions of a model: in batches sorted by length, and of new rows by the saved model of a fold."""

import gc
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kagglekit.competition.task import load_task
from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.decoders.halving import halved
from kagglekit.decoders.lora import merge_adapters, merged, narrow_frozen
from kagglekit.decoders.prediction_memory import place, quantise
from kagglekit.device import PRECISIONS, autocast, choose_device, choose_precision, fast_attention, not_a_number
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.surgery import find_layers
from kagglekit.progress import Progress
from kagglekit.runs.record import RunRecord
from kagglekit.runs.seeds import mean_predictions
from kagglekit.training.extra_files import tag_texts
from kagglekit.training.model_inputs import FeatureScaler, Inputs, read_inputs
from kagglekit.training.recipe import Recipe


@torch.inference_mode()
def predict(model: torch.nn.Module, examples: Examples, precision: str, tokens: int | None = None) -> np.ndarray:
    """Predictions, (rows, outputs) float32, in the order of the examples. The model keeps its mode (train or eval).

    Of examples in two orders it is the mean of both, and takes twice as long.
    tokens: padded tokens of a batch; None: 2,048 on a CPU, where more only costs cache, and 16,384 elsewhere. A batch
    that does not fit the memory is predicted in halves. Raises FloatingPointError for predictions that are no numbers.
    """
    device = next(model.parameters()).device
    tokens = tokens or (2048 if device.type == "cpu" else 16384)
    training, results, order = model.training, [], prediction_batches(examples.tokens.lengths, tokens)
    model.eval()

    def run(rows: np.ndarray) -> list[torch.Tensor]:
        batch = {name: x.to(device, non_blocking=True) for name, x in examples.__getitems__(rows).items()}
        batch.pop("labels", None)
        return [model.predictions(model(**batch)["logits"])]

    once = getattr(model, "prefix_read_once", nullcontext)
    progress = Progress("predicting", len(order), "batch", line=False)
    try:
        with (
            progress,
            merged(model.backbone),
            fast_attention(model.backbone, device),
            autocast(device, precision),
            once(examples.tokens),
        ):
            for number, rows in enumerate(order, 1):
                results += halved(run, rows)
                progress.update(number)
    finally:
        model.train(training)
    predictions = torch.cat(results).cpu().numpy()[np.argsort(np.concatenate(order))]
    if bad := len(predictions) - np.isfinite(predictions).all(axis=1).sum():
        raise not_a_number(f"the predictions of {bad} of {len(predictions)} texts are no numbers", precision)
    if examples.other is None:
        return predictions
    return (predictions + predict(model, examples.other, precision, tokens)[:, examples.exchange]) / 2


@dataclass
class SavedModel:
    """The model of a finished fold, which reads new rows as it read those that it was trained on.

    folder: of a model that `FineTuner.fit` wrote, such as runs/bbc/base/fold0/model. recipe: of its run, as in
    params.json; names that are no knobs are ignored. cache: folder for tokens. precision: "": that of the run, on this
    machine; "int8": with weights of 8 bits, see `decoders.prediction_memory`. The model is loaded at first use, to the
    device of this machine, and stays there as long as this object lives. spare: a model that is no longer
    used, whose backbone is taken over where this one stands on the same, see `Classifier.refill`.
    Raises FileNotFoundError for a folder without a model.
    """

    folder: Path
    recipe: dict[str, Any] = field(repr=False)
    cache: Path | None = field(default=None, repr=False)
    precision: str = field(default="", repr=False)
    spare: Classifier | None = field(default=None, repr=False)

    def __post_init__(self):
        self.folder = Path(self.folder)
        if not (self.folder / "classifier.json").is_file():
            raise FileNotFoundError(f"{self.folder} has no model: train its fold again")
        self.knobs = Recipe.read(self.recipe)
        wanted = self.knobs.precision.replace("fp16", "auto")  # what it was trained in on a GPU, which may not be here
        self.int8 = self.precision == "int8"
        given = "" if self.int8 else self.precision
        self.precision = given or choose_precision(wanted=wanted)
        self.tokenizer, self.features = load_tokenizer(str(self.folder)), FeatureScaler.load(self.folder)

    @cached_property
    def classifier(self) -> Classifier:
        """The model, ready to predict."""
        if self.spare is not None and not self.int8 and self.spare.refill(self.folder):
            return self.spare
        self.spare = None  # before another one is loaded
        model = Classifier.load(self.folder)
        if self.int8:
            quantise(merge_adapters(model.backbone))
        elif self.precision in PRECISIONS:
            narrow_frozen(model.backbone, PRECISIONS[self.precision])  # not merged then: a sum would be rounded
        return place(model, find_layers, choose_device(), self.precision).eval()

    def examples(self, table: pd.DataFrame, of_train: bool = False) -> Examples:
        """Examples of the rows of a table.

        table: id, text, and the feature columns of the recipe, all str. of_train: rows of train, whose document vectors
        are in the file of train; else in that of test, where there are two. Raises ValueError for a missing column.
        """
        for name in self.knobs.columns:
            if name not in table.columns:
                raise ValueError(
                    f"the model of {self.folder} reads the column {name!r}, which the rows do not have: set features "
                    "of this run to those of the run that the model is from"
                )
        return self.features.examples(self.inputs(table, of_train))

    def inputs(self, table: pd.DataFrame, of_train: bool = False) -> Inputs:
        """The rows of a table, see `examples`, before they are scaled."""
        features, own = self.knobs.features, tag_texts(table) if self.recipe.get("extra_source") else table
        vectors = (not of_train and features.get("test_vectors")) or features.get("vectors") or None
        images = load_task(RunRecord.around(self.folder).work).data if features.get("images") else None
        return read_inputs(own, self.tokenizer, self.knobs, self.cache, vectors, images)

    def predict(self, table: pd.DataFrame, of_train: bool = False) -> np.ndarray:
        """Predictions of the rows of a table, see `examples`: (rows, columns) float32."""
        return predict(self.classifier, self.examples(table, of_train), self.precision)


@dataclass
class SavedModels:
    """The models of the seeds of a finished fold, whose mean it predicts; see `SavedModel`.

    Each is loaded when it is first asked, and stays loaded where `keep` says so.
    """

    folders: Sequence[Path]
    recipe: dict[str, Any] = field(repr=False)
    cache: Path | None = field(default=None, repr=False)
    precision: str = field(default="", repr=False)
    keep: bool = False
    spare: Classifier | None = field(default=None, repr=False)  # of the last model that stood on a frozen backbone

    def __post_init__(self):
        self.models_ = [SavedModel(folder, self.recipe, self.cache, self.precision) for folder in self.folders]

    def predict(self, table: pd.DataFrame, of_train: bool = False) -> np.ndarray:
        """The mean of their predictions of the rows of a table, see `SavedModel.examples`: (rows, columns) float32."""
        found = []
        for model in self.models_:
            if not self.keep:
                model.spare, self.spare = self.spare, None
            found.append(model.predict(table, of_train))
            if not self.keep:
                used = model.__dict__.pop("classifier")
                self.spare, model.spare = used if used.base and not model.int8 else None, None
                del used
                free_memory()
        return mean_predictions(found)


def feature_columns(work: str | Path, run: str) -> list[str]:
    """Columns of test that the models of a run, or of the members of a blend, read as features."""
    recipes = [record.recipe for record in RunRecord.open(work, run).leaves()]
    return list(dict.fromkeys(name for recipe in recipes for name in Recipe.read(recipe).columns))


def free_memory() -> None:
    """Free the memory of models that are no longer used, so that the next one has room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
