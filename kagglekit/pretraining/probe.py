"""The probe: a linear model on a backbone's frozen vectors, cross-validated, and early stopping of pretraining by it.

A probe scores the backbone at chosen steps, and the best step goes on, not the last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_model, save_model
from sklearn.model_selection import KFold
from transformers import TrainerCallback

from kagglekit.competition.task import Task
from kagglekit.data.tokens import Tokens
from kagglekit.device import choose_precision, random_state_kept
from kagglekit.files import read_json, reading, remove, replacing, write_json
from kagglekit.model.shallow import embed, fit_shallow
from kagglekit.options import check_range
from kagglekit.scoring.metrics import is_better, is_higher_better, score

STRENGTH = 10.0  # of the linear model, always the same: scores of different steps must be comparable


@dataclass
class ProbeScore:
    """The task's metric: over all folds, and for each fold without any of its rows, fold -> score."""

    overall: float
    by_fold: dict[int, float]


@dataclass
class Probe:
    """Scores a backbone by logistic regression on its vectors (ridge regression for values; each label by itself).

    tokens: of the rows of train, by the tokenizer of the stage. labels, row_folds: from `encode_labels` and
    folds.parquet. every: steps between two probes. rows: at most so many are read, drawn once by `seed`, the same at
    all steps. pooling: one of `embed.PLAIN`. Source: Conneau and Kiela (2018, arXiv 1803.05449).
    """

    tokens: Tokens = field(repr=False)
    labels: np.ndarray = field(repr=False)
    row_folds: np.ndarray = field(repr=False)
    task: Task = field(repr=False)
    every: int = 500
    rows: int = 2000
    pooling: str = "mean"
    seed: int = 0

    def __post_init__(self):
        check_range("probe_every", self.every, self.every > 0, "above 0")
        check_range("rows", self.rows, self.rows > 1, "above 1")
        drawn = np.sort(np.random.default_rng(self.seed).permutation(len(self.labels))[: self.rows])
        self.drawn_ = drawn
        if len(self.folds) < 2:
            raise ValueError("a probe needs rows of at least two folds")

    @property
    def folds(self) -> list[int]:
        """The folds that the rows are in."""
        return np.unique(self.row_folds[self.drawn_]).tolist()

    @property
    def higher_is_better(self) -> bool:
        return is_higher_better(self.task.metric)

    def evaluate(self, backbone: torch.nn.Module) -> ProbeScore:
        """Score a backbone of transformers as it is now; mode, weights and random state stay.

        overall: the mean over folds j of the score on fold j, learned from the others. by_fold[k]: the same without any
        row of fold k, so that it may choose the model that fold k starts from; of two folds the other is split in
        three. A fold on which the metric is not defined (ROC AUC of one class) is left out of a mean, NaN if none is
        left. Costs a forward pass of the rows, and with 5 folds 15 linear models: half a second for 2,000 rows.
        Raises ValueError when the metric is defined on no fold.
        """
        pad_id = getattr(backbone.config, "pad_token_id", None) or 0
        vectors = embed(backbone, self.tokens[self.drawn_], pad_id, choose_precision(), self.pooling)
        return cross_validate(self.task, vectors, self.labels[self.drawn_], self.row_folds[self.drawn_])


def cross_validate(task: Task, vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> ProbeScore:
    """The scores of `Probe.evaluate` from vectors (rows, width), labels and folds (rows,)."""

    def learn(rows: np.ndarray, *others: np.ndarray) -> list[list[float]]:
        """The score on each of `others`, in a list of its own, which is empty where there is none."""
        unseen = [vectors[other] for other in others]
        found = fit_shallow(task.kind, len(task.columns), vectors[rows], labels[rows], unseen, strength=STRENGTH)
        return [_score(task.metric, labels[other], probs) for other, probs in zip(others, found, strict=True)]

    numbers, alone = np.unique(folds).tolist(), []
    without: dict[int, list[float]] = {k: [] for k in numbers}
    for j in numbers:
        alone += learn(folds != j, folds == j)[0]
        for k in numbers[: numbers.index(j)] if len(numbers) > 2 else ():  # one model without both serves both
            of_j, of_k = learn(~np.isin(folds, [j, k]), folds == j, folds == k)
            without[k] += of_j
            without[j] += of_k
    if len(numbers) == 2:
        for k in numbers:
            rows = np.flatnonzero(folds != k)
            for a, b in KFold(min(3, len(rows)), shuffle=True, random_state=0).split(rows):
                without[k] += learn(rows[a], rows[b])[0]
    if not alone:
        raise ValueError(
            f"the probe's {len(labels)} rows are too few: {task.metric} is not defined on any of their folds"
        )
    return ProbeScore(_mean(alone), {k: _mean(scores) for k, scores in without.items()})


def _score(metric: str, labels: np.ndarray, predictions: np.ndarray) -> list[float]:
    try:
        return [score(metric, labels, predictions)]
    except ValueError:  # the metric is not defined on so few rows
        return []


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if scores else float("nan")


OVERALL = "overall"


class KeepCandidates(TrainerCallback):
    """Score with `probe` before the first step, every `probe.every` steps and at the end, and keep the best weights.

    model: is trained; `model.backbone` is scored. folds: those that go on from this training. The best step of a fold
    has the best score without the fold's rows (`ProbeScore.by_fold`), so that no label of a fold chose the model that
    it starts from; overall uses all labels. Of equal ones the earlier is taken. Scores and weights are files in
    `folder`: they survive a kill, and a run that goes on from a checkpoint scores only the steps after it. Keeps at
    most a copy of the weights for each fold and one more, and those since the last checkpoint. Weights, mode and random
    state of the training stay as they were.
    """

    def __init__(self, probe: Probe, model: torch.nn.Module, folder: Path, folds: Sequence[int]):
        self.probe = probe
        self.model = model
        self.folder = folder
        self.names = [OVERALL, *map(str, folds)]
        self.scores: list[dict[str, float]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        file = self.folder / "scores.json"
        known = read_json(file, list) if file.is_file() else []
        self.scores = [row for row in known if row["step"] <= state.global_step]
        if not self.scores:
            self._ask(args, 0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.probe.every == 0 or state.global_step == state.max_steps:
            self._ask(args, state.global_step)

    def on_save(self, args, state, control, **kwargs):
        """Remove weights that are not the best; before a checkpoint, a resumed run might have needed them."""
        kept = {self.file(self.best(name)) for name in self.names}
        if args.should_save:
            for file in set(self.folder.glob("*.safetensors")) - kept:
                remove(file)

    def _ask(self, args, step: int) -> None:
        with random_state_kept():
            found = self.probe.evaluate(self.model.backbone)
        row = {"step": step, **dict.fromkeys(self.names, found.overall)}  # also for a fold without rows in the probe
        row |= {str(fold): value for fold, value in found.by_fold.items()}
        (row,) = broadcast_object_list([row])  # all processes go by the same scores
        self.scores = [*self.scores, row]
        if args.should_save:
            if any(self.best(name) == step for name in self.names):
                with replacing(self.file(step)) as part:
                    save_model(self.model, str(part))
            write_json(self.folder / "scores.json", self.scores)

    def best(self, name: str) -> int:
        """The best step of a fold, or overall."""
        step, value = self.scores[0]["step"], math.nan
        for row in self.scores:
            if is_better(row[name], value, self.probe.higher_is_better):
                step, value = row["step"], row[name]
        return step

    def file(self, step: int) -> Path:
        """The file of a step's weights."""
        return self.folder / f"step{step}.safetensors"

    def put_back(self, step: int) -> None:
        """Give the model the weights that it had at `step`."""
        with reading(self.file(step)):
            load_model(self.model, str(self.file(step)))
