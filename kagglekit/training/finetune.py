"""Fine-tuning a backbone on the folds of a task."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import set_seed

from kagglekit.data.tokens import tokenize
from kagglekit.losses import default_loss
from kagglekit.metrics import score
from kagglekit.model.backbones import check_max_length, load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.pooling import POOLINGS
from kagglekit.optim import adamw, parameter_groups, suggest_learning_rate
from kagglekit.paths import check_space
from kagglekit.ranges import check_range
from kagglekit.task import Task, encode_labels
from kagglekit.training.arguments import SCHEDULES, training_arguments
from kagglekit.training.batches import Examples
from kagglekit.training.callbacks import SaveEvery, ShowProgress
from kagglekit.training.fitted import Fitted
from kagglekit.training.hardware import choose_attention, choose_device, choose_precision, keep_memory
from kagglekit.training.predict import predict
from kagglekit.training.trainer import Trainer, history, remove_checkpoints
from kagglekit.tricks import make_tricks


@dataclass
class FineTuner:
    """Fine-tunes one model a fold. Texts are tokenised once.

    backbone: what `find_backbone` gives. max_length: tokens of a text that are read. dropout: of hidden states and
    attention, None as the backbone was trained. learning_rate: of the topmost layer, None by the size of the backbone;
    head_learning_rate: None is the same. layer_decay: 1 is one rate for all layers. batch_size: texts on average, see
    `training_batches`. tricks: name -> options. save_seconds: between checkpoints.
    Raises ValueError for a value out of range, before anything is loaded.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    backbone: str
    cache: Path | None = field(default=None, repr=False)
    max_length: int = 256
    pooling: str = "mean"
    dropout: float | None = 0.0
    head_dropout: float = 0.0
    epochs: float = 3
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float | None = None
    head_learning_rate: float | None = None
    layer_decay: float = 0.95
    weight_decay: float = 0.01
    schedule: str = "linear"
    warmup: float = 0.1
    tricks: dict[str, dict[str, Any]] = field(default_factory=dict)
    save_seconds: float = 60.0

    def __post_init__(self):
        self._check_ranges()
        make_tricks(self.tricks)
        if "RDrop" in self.tricks and self.dropout == 0 and self.head_dropout == 0:
            raise ValueError("tricks: RDrop compares two passes through dropout, and dropout=0: set dropout=0.1")
        self.precision = choose_precision()
        self.tokenizer = load_tokenizer(self.backbone)
        check_max_length(self.backbone, self.max_length)
        pad = self.tokenizer.pad_token_id
        self.labels = encode_labels(self.task, self.train)
        tokens = tokenize(self.train["text"], self.tokenizer, self.max_length, self.cache)
        self.rows = Examples(tokens, pad)
        self.test_rows = Examples(tokenize(self.test["text"], self.tokenizer, self.max_length, self.cache), pad)

    def _check_ranges(self):
        positive = {name: getattr(self, name) for name in ("epochs", "batch_size", "accumulation")}
        rates = {name: getattr(self, name) for name in ("learning_rate", "head_learning_rate")}
        shares = {name: getattr(self, name) for name in ("dropout", "head_dropout", "warmup")}
        rules = [
            *((name, value, value > 0, "above 0") for name, value in positive.items()),
            *((name, value, value is None or 0 < value < 1, "above 0 and below 1") for name, value in rates.items()),
            *((name, value, value is None or 0 <= value < 1, "from 0 to below 1") for name, value in shares.items()),
            ("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0, and at most 1"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more"),
            ("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("pooling", self.pooling, self.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        ]
        for rule in rules:
            check_range(*rule)

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int) -> Fitted:
        """Train on `train_rows` (row numbers of train) and predict `valid_rows` and the test rows.

        The model goes to `folder/model`. Checkpoints go to `folder/checkpoints` and are removed at the end; where there
        are some of a run that was cut off, training goes on from the last.
        """
        keep_memory()
        set_seed(seed)
        model = Classifier(
            load_backbone(self.backbone, self.dropout, choose_attention(choose_device(), self.max_length)),
            self.task.kind,
            len(self.task.columns),
            self.pooling,
            self.head_dropout,
        )
        size = 4 * sum(p.numel() for p in model.parameters())
        check_space(folder, 8 * size)  # two checkpoints with Adam's state, and the model twice
        labels = self._standardise(model, train_rows)
        examples = Examples(self.rows.tokens[train_rows], self.rows.pad_id, labels)
        valid = Examples(self.rows.tokens[valid_rows], self.rows.pad_id)
        groups = self._groups(model)
        rates = {group["name"]: group["lr"] for group in groups}
        latest = {}

        def evaluation(model):
            latest["step"], latest["predictions"] = trainer.state.global_step, predict(model, valid, self.precision)
            return {"score": score(self.task.metric, self.labels[valid_rows], latest["predictions"])}

        trainer = Trainer(
            model,
            self._arguments(folder / "checkpoints", len(train_rows), seed),
            examples,
            default_loss(self.task.kind),
            adamw(groups),
            make_tricks(self.tricks),
            evaluation,
            [SaveEvery(self.save_seconds), ShowProgress(folder.name.replace("fold", "fold "))],
        )
        receipts = {"learning rates": rates, **trainer.fit()}
        with trainer.evaluating():
            if latest.get("step") != trainer.state.global_step:
                evaluation(model)
            model.save(folder / "model", self.tokenizer)
            test = predict(model, self.test_rows, self.precision)
        remove_checkpoints(folder / "checkpoints")
        return Fitted(latest["predictions"], test, history(trainer.state.log_history), receipts)

    def _arguments(self, folder: Path, rows: int, seed: int):
        steps_per_epoch = math.ceil(math.ceil(rows / self.batch_size) / self.accumulation)
        return training_arguments(
            folder,
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            precision=self.precision,
            seed=seed,
            schedule=self.schedule,
            warmup=self.warmup,
            log_every=max(1, round(steps_per_epoch * self.epochs / 40)),
            evaluate_every=steps_per_epoch,
        )

    def _groups(self, model: Classifier) -> list[dict]:
        rate = self.learning_rate or suggest_learning_rate(model.backbone)
        return parameter_groups(model, rate, self.head_learning_rate, self.layer_decay, self.weight_decay)

    def _standardise(self, model: Classifier, rows: np.ndarray) -> np.ndarray:
        """Labels of `rows` for the loss; targets with mean 0 and standard deviation 1, which the model remembers."""
        labels = self.labels[rows]
        if self.task.kind not in ("regression", "ordinal"):
            return labels
        labels = labels.reshape(len(rows), -1).astype(np.float32)
        center, scale = labels.mean(axis=0), np.maximum(labels.std(axis=0), 1e-6)
        model.center.copy_(model.center.new_tensor(center))
        model.scale.copy_(model.scale.new_tensor(scale))
        return (labels - center) / scale
