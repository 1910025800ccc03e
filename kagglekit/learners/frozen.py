"""Frozen embeddings: the vectors of a backbone that is not trained, and a scikit-learn classifier on them; minutes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModel

from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.tokens import Tokens, tokenize
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.device import choose_device, choose_precision
from kagglekit.files.arrays import cached_arrays
from kagglekit.model.backbones import check_max_length, load_backbone, load_config, load_tokenizer, without_pooler
from kagglekit.model.deberta_attention import fast_deberta
from kagglekit.model.pooling import choose_pooling
from kagglekit.model.shallow import PLAIN, SHALLOW, embed, fit_shallow
from kagglekit.options import check_range
from kagglekit.runs.defaults import changed_defaults
from kagglekit.runs.folder import Fitted
from kagglekit.training.build_model import load_encoder


@dataclass
class Frozen:
    """Frozen embeddings with a classifier on top (Devlin et al., 2019); they blend well with fine-tuned models.

    backbone: sentence encoders such as minilm, and models that were pretrained further, have better vectors than bare
    masked-language models. classifier: "logistic" (for values a ridge regression), "svm" or "boosting", see
    `fit_shallow`. pooling: one of `shallow.PLAIN`. max_length: tokens that are read. truncation: what is kept of longer
    texts. budget: tokens of each text column; truncation, too, may be by column, as in a recipe. cache: a folder for
    tokens and vectors.
    Costs one forward pass of all texts for each model that folds start from, and the classifier.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    backbone: str
    classifier: str = "logistic"
    pooling: str = "mean"
    max_length: int = 256
    truncation: str | dict[str, str] = "head"
    budget: dict[str, int] = field(default_factory=dict)
    cache: Path | None = field(default=None, repr=False)

    def __post_init__(self):
        self.cuts = list(self.truncation.values()) if isinstance(self.truncation, dict) else [self.truncation]
        given = (("classifier", self.classifier, SHALLOW), ("pooling", self.pooling, PLAIN))
        for name, value, known in (*given, *(("truncation", cut, tuple(TRUNCATIONS)) for cut in self.cuts)):
            check_range(name, value, value in known, f"one of {', '.join(known)}")
        check_max_length(self.backbone, self.max_length)
        self.labels = encode_labels(self.task, self.train)
        self._known: tuple[str | None, np.ndarray] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("classifier", "pooling", "max_length", "truncation", "budget")}

    @property
    def defaults(self) -> dict[str, Any]:
        """What `settings` leave to this version, see `kagglekit.runs.defaults`."""
        return {"pooling": choose_pooling("auto", load_config(self.backbone))} if self.pooling == "auto" else {}

    def go_on(self, begun: Mapping[str, Any]) -> None:
        """Take over the defaults with which a run began, where they are others now."""
        self.pooling = changed_defaults(begun, self.defaults).get("pooling", self.pooling)

    def fit(
        self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, start: str | None = None
    ) -> Fitted:
        """Fit the classifier and predict. Of `start` the encoder and the tokenizer are used; no model is kept."""
        vectors = self.vectors(start)
        unseen = [vectors[valid_rows], vectors[len(self.train) :]]
        x, y = vectors[train_rows], self.labels[train_rows]
        found = fit_shallow(self.task.kind, len(self.task.columns), x, y, unseen, self.classifier, seed)
        about = {"width": vectors.shape[1], "rows": len(train_rows)}
        return Fitted(*found, receipts={"precision": choose_precision(), "frozen": about})

    def vectors(self, start: str | None = None) -> np.ndarray:
        """Vectors of the train rows, then of the test rows: (rows, width) float32, computed once for each model."""
        if self._known is None or self._known[0] != start:
            backbone, tokenizer = self._load(start)
            texts = [*self.train["text"], *self.test["text"]]
            budget = list(self.budget.values())
            tokens = tokenize(texts, tokenizer, self.max_length, self.cache, self.cuts, budget=budget)
            self._known = start, self._embed(backbone, tokens, tokenizer.pad_token_id)
        return self._known[1]

    def _load(self, start: str | None):
        if start is not None and (Path(start) / "classifier.json").is_file():
            backbone = fast_deberta(without_pooler(AutoModel.from_config(load_config(start))))
            load_encoder(backbone, Path(start))
        else:
            backbone = load_backbone(start or self.backbone)
        own = start is not None and (Path(start) / "tokenizer_config.json").is_file()
        return backbone, load_tokenizer(start if own else self.backbone)

    def _embed(self, backbone: torch.nn.Module, tokens: Tokens, pad_id: int) -> np.ndarray:
        device = choose_device()
        precision = choose_precision(device)

        def make() -> dict[str, np.ndarray]:
            return {"vectors": embed(backbone.to(device), tokens, pad_id, precision, self.pooling)}

        if not self.cache:
            return make()["vectors"]
        file = self.cache / f"vectors-{self._hash(backbone, tokens, precision)}.npz"
        return cached_arrays(file, make)["vectors"]

    def _hash(self, backbone: torch.nn.Module, tokens: Tokens, precision: str) -> str:
        """A hash of all that the vectors depend on: weights, architecture, tokens, pooling and precision."""
        config = {k: v for k, v in backbone.config.to_dict().items() if not k.startswith("_") and "version" not in k}
        digest = hashlib.sha256(repr((self.pooling, precision, sorted(config.items(), key=lambda kv: kv[0]))).encode())
        columns = () if tokens.columns is None else (tokens.columns,)
        for array in (tokens.flat, tokens.lengths, *columns, *backbone.state_dict().values()):
            array = array if isinstance(array, np.ndarray) else array.numpy()
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]
