"""The model of a finished fold, read from its folder and asked about new rows."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.data.batches import Examples
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.training.hardware import choose_device, choose_precision
from kagglekit.training.inputs import Beside, read_inputs
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe


@dataclass
class SavedModel:
    """Reads new rows as the rows were read that the model was trained on.

    folder: a model that `FineTuner.fit` wrote, such as runs/bbc/base/fold0/model: weights, tokenizer, and how what
    stands beside the text is scaled. recipe: of its run, as params.json has it; names that are no knobs do not count.
    cache: a folder for tokens. The model is loaded when it is first asked, to the device that there is, and stays there
    as long as this object.
    Raises FileNotFoundError for a folder without a model.
    """

    folder: Path
    recipe: dict[str, Any] = field(repr=False)
    cache: Path | None = field(default=None, repr=False)
    precision: str = field(default_factory=choose_precision, repr=False)

    def __post_init__(self):
        self.folder = Path(self.folder)
        if not (self.folder / "classifier.json").is_file():
            raise FileNotFoundError(f"{self.folder} has no model: train its fold again")
        self.knobs = Recipe.read(self.recipe)
        self.tokenizer, self.beside = load_tokenizer(str(self.folder)), Beside.load(self.folder)

    @cached_property
    def classifier(self) -> Classifier:
        """The model itself, ready to predict."""
        return Classifier.load(self.folder).to(choose_device()).eval()

    def examples(self, table: pd.DataFrame, of_train: bool = False) -> Examples:
        """The rows of a table as batches want them.

        table: id, text, and the columns beside the text that the recipe names, all str. of_train: they are rows of
        train; vectors of documents are then read from the file of train, else from that of test, where these are two.
        Raises ValueError for a column that is not there.
        """
        for name in self.knobs.columns:
            if name not in table.columns:
                raise ValueError(
                    f"the model of {self.folder} reads the column {name!r}, which the rows do not have: set beside of "
                    "this run to that of the run it is from"
                )
        beside = self.knobs.beside
        vectors = (not of_train and beside.get("test_vectors")) or beside.get("vectors") or None
        return self.beside.examples(read_inputs(table, self.tokenizer, self.knobs, self.cache, vectors))

    def predict(self, table: pd.DataFrame, of_train: bool = False) -> np.ndarray:
        """The predictions of the rows of a table, see `examples`: (rows, columns) float32."""
        return predict(self.classifier, self.examples(table, of_train), self.precision)
