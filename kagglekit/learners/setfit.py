"""SetFit: a sentence encoder trained on pairs of texts, and a classifier on its vectors; for a few labels a class."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PrinterCallback

from kagglekit.competition.task import Task, encode_labels
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.layout import find_layout
from kagglekit.device import autocast, choose_device, choose_precision
from kagglekit.files import remove, replacing
from kagglekit.model.backbones import check_max_length, quiet
from kagglekit.model.shallow import SHALLOW, fit_shallow
from kagglekit.model.tokenizer_rules import restore_rules
from kagglekit.model.weight_averages import fuse_backbones
from kagglekit.options import check_range
from kagglekit.runs.folder import Fitted
from kagglekit.training.callbacks import ShowProgress


@dataclass
class SetFit:
    """SetFit, with the library setfit, which is an extra (Tunstall et al., 2022, arXiv 2209.11055).

    Pairs of training texts of the same class are pulled together, others apart (cosine similarity 1 and 0); with
    several labels a pair is positive when it shares one. Then a classifier learns from the vectors.
    backbone: best a sentence encoder. num_iterations: positive pairs, and as many negative ones, for each text; 20 in
    the paper, 0 trains no encoder and is `Frozen`. epochs: over the pairs. steps: in place of epochs, where above 0.
    learning_rate: of the encoder. pair_rows: the most texts that make pairs, drawn by the seed, because all their pairs
    are counted in memory. classifier: see `fit_shallow`. max_length: tokens that are read, from the head.
    Costs 80 forward and backward passes a text in an epoch with num_iterations=20, in float32: for hundreds of rows.
    Raises ImportError without the library, ValueError for regression and for knobs out of range.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    backbone: str
    num_iterations: int = 20
    epochs: float = 1.0
    steps: int = 0
    batch_size: int = 16
    learning_rate: float = 2e-5
    pair_rows: int = 2000
    classifier: str = "logistic"
    max_length: int = 128

    def __post_init__(self):
        check_range("classifier", self.classifier, self.classifier in SHALLOW, f"one of {', '.join(SHALLOW)}")
        for name in ("num_iterations", "steps"):
            check_range(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        check_range("epochs", self.epochs, 0 < self.epochs < math.inf, "above 0")
        check_range("batch_size", self.batch_size, self.batch_size > 0, "above 0")
        check_range("learning_rate", self.learning_rate, 0 < self.learning_rate < 1, "above 0 and below 1")
        check_range("pair_rows", self.pair_rows, self.pair_rows > 1, "above 1")
        if self.task.kind == "regression":
            raise ValueError(
                "setfit makes pairs of texts by their classes, and a regression task has values: use learner='frozen'"
            )
        check_max_length(self.backbone, self.max_length)
        import_setfit()
        self.labels = encode_labels(self.task, self.train)

    @property
    def settings(self) -> dict[str, Any]:
        return {knob.name: getattr(self, knob.name) for knob in fields(self)[4:]}

    def fit(
        self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, start: str | None = None
    ) -> Fitted:
        """Train and predict. A fold that was interrupted starts over.

        The encoder is saved as `folder/model`, as sentence-transformers and transformers read it, so that another run
        can start from it; the classifier is not kept.
        """
        device = choose_device()
        with _silent():
            path = start or self.backbone
            if (Path(path) / "classifier.json").is_file():
                fuse_backbones([Path(path)], folder / "encoder")  # of one model: as transformers reads it
                path = str(folder / "encoder")
            body = load_sentence_encoder(path, device)
            body.max_seq_length = self.max_length
            texts = _write_separators([*self.train["text"], *self.test["text"]], body.tokenizer)
            receipts = self._train(body, texts, train_rows, folder / "checkpoints", seed)
            with autocast(device, choose_precision(device)):
                vectors = body.encode(texts, show_progress_bar=False, normalize_embeddings=True)  # (rows, width)
            with replacing(folder / "model") as part:
                body.save_pretrained(str(part), create_model_card=False)
        for place in ("encoder", "checkpoints"):
            remove(folder / place)
        vectors = vectors.astype(np.float32)
        unseen = [vectors[valid_rows], vectors[len(self.train) :]]
        x, y = vectors[train_rows], self.labels[train_rows]
        found = fit_shallow(self.task.kind, len(self.task.columns), x, y, unseen, self.classifier, seed)
        return Fitted(*found, receipts={"precision": choose_precision(device), "setfit": receipts})

    def _train(self, body, texts: list[str], rows: np.ndarray, folder: Path, seed: int) -> dict[str, float]:
        """Train the encoder on pairs of `rows`; returns the numbers of pairs and steps, and the loss."""
        setfit = import_setfit()
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[: self.pair_rows])
        labels = self.labels[rows].astype(int)
        if not self.num_iterations or len(np.unique(labels, axis=0)) < 2:
            return {"pairs": 0, "steps": 0}
        n = self.num_iterations
        pairs = 2 * n * len(rows)
        steps = self.steps or math.ceil(pairs * self.epochs / self.batch_size)  # the library makes no more than these
        several = "one-vs-rest" if self.task.kind == "multilabel" else None
        options = {"batch_size": self.batch_size, "num_iterations": n, "max_steps": steps, "seed": seed}
        rates = {"body_learning_rate": self.learning_rate}
        silence = {"report_to": "none", "save_strategy": "no", "show_progress_bar": False}
        args = setfit.TrainingArguments(output_dir=str(folder), **options, **rates, **silence)
        trainer = setfit.Trainer(setfit.SetFitModel(body, multi_target_strategy=several), args)
        trainer.st_trainer.remove_callback(PrinterCallback)
        trainer.st_trainer.add_callback(ShowProgress("pairs"))
        trainer.train_embeddings([texts[row] for row in rows], labels.tolist(), args=args)
        log = trainer.st_trainer.state.log_history
        return {"pairs": pairs, "steps": steps, "loss": next(e["train_loss"] for e in log if "train_loss" in e)}


def load_sentence_encoder(path: str, device: torch.device):
    """A `SentenceTransformer` in float32, with the tokens that the other learners have; path: a folder or hub name.

    Its own way to load keeps the precision of the file, so that a bfloat16 checkpoint would hardly learn: most steps
    round to nothing.
    """
    from sentence_transformers import SentenceTransformer

    body = SentenceTransformer(path, device=str(device), model_kwargs={"dtype": torch.float32})
    restore_rules(body.tokenizer, body.tokenizer.name_or_path)
    return body


def _write_separators(texts: Sequence[str], tokenizer) -> list[str]:
    """Texts of several columns with the tokenizer's separator written out, as the library takes texts alone."""
    if not any(SEPARATOR in text for text in texts):
        return list(texts)
    ids = find_layout(tokenizer).between.tolist()
    between = "".join(tokenizer.convert_ids_to_tokens(ids)) if set(ids) <= set(tokenizer.all_special_ids) else "\n"
    return [text.replace(SEPARATOR, f" {between} ") for text in texts]


def import_setfit():
    """The library setfit. Raises ImportError that says how to install it."""
    try:
        import setfit
    except ImportError as error:
        raise ImportError(
            f"learner='setfit' needs the library setfit, which is an extra ({error}): pip install setfit"
        ) from error
    return setfit


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the warnings and logs of the libraries."""
    loggers = [logging.getLogger(name) for name in ("setfit", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
