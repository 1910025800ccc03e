"""Several tasks with rows of their own in one model: a head each over a shared backbone, batches, and their loss."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import set_seed

from kagglekit.data.batches import EpochSampler, Examples, training_batches
from kagglekit.device import keep_memory, share_cores
from kagglekit.files import check_space, replacing
from kagglekit.learners.joint_losses import FallingLosses
from kagglekit.losses.catalogue import make_loss
from kagglekit.model.classifier import Classifier
from kagglekit.model.feature_layers import DocumentVectors
from kagglekit.runs.folder import Fitted
from kagglekit.scoring.metrics import score
from kagglekit.training.callbacks import remove_checkpoints
from kagglekit.training.finetune import VALID_LOSS, FineTuner
from kagglekit.training.predict import predict
from kagglekit.training.targets import MultiTaskLoss, Part, Targets
from kagglekit.training.trainer import history
from kagglekit.training.training_rows import TrainingRows
from kagglekit.tricks import make_tricks
from kagglekit.tricks.weights import trained

DRAWS = ("size", "sqrt", "annealed", "even")


def shares(rows: Sequence[int], draw: str, epoch: int = 0, epochs: int = 1) -> np.ndarray:
    """The share of each task among the rows of an epoch: rows ** alpha, scaled to a sum of 1.

    alpha is 1 for "size", 0.5 for "sqrt", 0 for "even", and falls from 1 to 0.2 for "annealed" (Stickland and Murray,
    2019, arXiv 1902.02671: 1 - 0.8 (e - 1) / (E - 1)).
    """
    alpha = {"size": 1.0, "sqrt": 0.5, "even": 0.0}.get(draw, 1 - 0.8 * min(1.0, epoch / max(epochs - 1, 1)))
    mass = np.array(rows, dtype=float) ** alpha
    return mass / mass.sum()


def allot(total: int, parts: np.ndarray) -> np.ndarray:
    """`total` things dealt out by shares that add up to 1: whole numbers with this sum, none of them 0."""
    if total < len(parts):
        raise ValueError(
            f"{len(parts)} tasks need as many batches an epoch, and there are {total}: set a smaller batch_size"
        )
    rest = np.maximum(parts * total - 1, 0)  # each has one; what is left goes by what the shares give beyond that
    ends = np.floor(np.cumsum([0.0, *rest]) * (total - len(parts)) / max(rest.sum(), 1e-9) + 0.5)
    return 1 + np.diff(ends).astype(int)


class JointSampler(EpochSampler):
    """Batches of several tasks, whose rows stand one after the other: as many an epoch as rows of one task would give.

    rows: of each task. draw: of DRAWS; a task that gets more than its rows in an epoch repeats them whole before any
    comes once more, of one that gets fewer they are drawn. mixed: a batch has rows of several tasks, else of one.
    """

    def __init__(self, *args, rows: Sequence[int], draw: str = "size", mixed: bool = True, epochs: int = 1, **more):
        super().__init__(*args, **more)
        self.rows, self.draw, self.mixed, self.epochs = rows, draw, mixed, epochs

    def batches(self, epoch):
        random, parts = np.random.default_rng([self.seed, epoch, 1]), shares(self.rows, self.draw, epoch, self.epochs)
        counts = np.array(self.rows) if self.draw == "size" else allot(len(self.lengths), parts)
        starts = np.cumsum([0, *self.rows])
        drawn = [
            start + np.concatenate([*[np.arange(n)] * (count // n), random.permutation(n)[: count % n]])
            for start, n, count in zip(starts, self.rows, counts, strict=False)
        ]
        how = self.batch_size, self.seed, epoch
        if self.mixed:
            rows = np.concatenate(drawn)
            return [rows[batch] for batch in training_batches(self.lengths[rows], *how)]
        found = []
        for rows, batches in zip(drawn, allot(len(self), counts / counts.sum()), strict=True):
            found += [rows[batch] for batch in training_batches(self.lengths[rows], *how, batches=batches)]
        return [found[i] for i in random.permutation(len(found))]


def shared_rows(
    copies: Sequence[np.ndarray], learned: Sequence[np.ndarray], held_out: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The rows of each task that are learned, without texts that another task holds out in the same fold.

    copies: of each task (rows,), numbers of `near_duplicate_groups` over the texts of all. learned, held_out: its row
    numbers.
    """
    away, found = [groups[rows] for groups, rows in zip(copies, held_out, strict=True)], []
    for number, (groups, rows) in enumerate(zip(copies, learned, strict=True)):
        others = np.concatenate([each for other, each in enumerate(away) if other != number])
        found.append(rows[~np.isin(groups[rows], others)])
    return found


class Heads(nn.ModuleList):
    """A head for each task over one text vector: their logits one after the other."""

    def forward(self, *inputs) -> torch.Tensor:
        return torch.cat([head(*inputs) for head in self], dim=-1)


@dataclass
class JointTask:
    """One task of a joint model: what makes it an ordinary `Classifier`. number: among the tasks."""

    number: int
    head: nn.Module
    link: str
    options: dict[str, Any]
    center: np.ndarray
    scale: np.ndarray


def join(
    models: Sequence[Classifier], targets: Sequence[Targets], flat: bool = False
) -> tuple[Classifier, list[JointTask]]:
    """One model of the backbone and pooling of the first, with the heads of all; and what each task needs alone.

    flat: an embedding of the task, which starts at zero, is added to those of the words: the model reads which task a
    row is of as `embedded` (batch, tasks), one-hot.
    """
    whole = models[0]
    tasks = [
        JointTask(number, model.head, model.link, model.options, of.center, of.scale)
        for number, (model, of) in enumerate(zip(models, targets, strict=True))
    ]
    whole.head = Heads(task.head for task in tasks)
    whole.blocks = [(task.link, of.outputs) for task, of in zip(tasks, targets, strict=True)]
    if flat:
        whole.embedded_vectors = DocumentVectors(len(tasks), whole.get_input_embeddings().weight.shape[1])
    return whole, tasks


@contextmanager
def as_task(model: Classifier, task: JointTask) -> Iterator[Classifier]:
    """While the block runs, the model is that of one task: it predicts, and is saved, as an ordinary classifier. The
    embedding of the task is then in those of the words, and weights of losses are none of it."""
    own = vars(task) | {"log_variances": None, "embedded_vectors": None}
    before = {name: getattr(model, name) for name in own if name != "number"}
    embeddings, added = model.get_input_embeddings(), model.embedded_vectors
    words = embeddings.weight.data
    try:
        for name in before:
            array = isinstance(own[name], np.ndarray)
            setattr(model, name, before[name].new_tensor(own[name]) if array else own[name])
        if added is not None:
            vector = added.projection.weight.data[:, task.number] / getattr(embeddings, "embed_scale", 1.0)
            embeddings.weight.data = words + vector  # a table of its own
        yield model
    finally:
        embeddings.weight.data = words
        for name, value in before.items():
            setattr(model, name, value)


def join_rows(
    rows: Sequence[TrainingRows],
    sampler: Callable[..., EpochSampler],
    weights: Sequence[float] = (),
    flat: dict[str, Any] | None = None,
) -> tuple[Examples, MultiTaskLoss]:
    """The rows of all tasks one after the other, their labels NaN elsewhere; and the loss of a batch.

    weights: of the loss of each task; none: all 1. flat: the loss of a recipe, over the classes of all tasks.
    """
    targets, tokens = [one.targets for one in rows], reduce(add, (one.examples.tokens for one in rows))
    weights, of_all, features = weights or [1.0] * len(rows), None, {}
    if flat is not None:
        places = np.cumsum([0, *(one.outputs for one in targets)])
        numbers = [place + one.labels for place, one in zip(places, targets, strict=False)]
        of_all, _ = make_loss(flat, "multiclass", np.concatenate(numbers), int(places[-1]))
        of_task = np.repeat(np.arange(len(rows)), [len(one.labels) for one in targets])
        features["embedded"] = np.eye(len(rows), dtype=np.float32)[of_task]
    labels = np.full((len(tokens), sum(one.outputs for one in targets)), np.nan, dtype=np.float32)
    row, place, parts = 0, 0, []
    for one, weight in zip(targets, weights, strict=True):
        own = slice(place, place + one.outputs)
        known = one.labels if one.labels.ndim > 1 else np.eye(one.outputs, dtype=np.float32)[one.labels]
        labels[row : row + len(known), own] = known
        parts.append(Part(of_all or one.loss, own, weight, partial=True, flat=flat is not None))
        row, place = row + len(known), own.stop
    examples = Examples(tokens, rows[0].inputs.pad_id, labels, features)
    examples.sampler = sampler
    return examples, MultiTaskLoss(parts, by_rows=True)


@dataclass
class JointTuner(FineTuner):
    """Fine-tunes one model of several tasks a fold. others: the fine-tuners of the other tasks, of the same recipe.
    losses: weights of their losses, of this task first; none: all 1; or "learned" or "falling"."""

    others: Sequence[FineTuner] = ()
    draw: str = "size"
    mixed: bool = True
    losses: str | Sequence[float] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.recipe.head == "flat":  # a linear head each, side by side, is one of all classes
            for one in (self, *self.others):
                one.options["head"] = "linear"

    def go_on(self, begun):
        for one in self.others:
            one.go_on(begun)
        super().go_on(begun)

    def _learned(self, train_rows: np.ndarray) -> int:
        """Of all tasks, about: a fold learns the same share of each."""
        return round(len(train_rows) / len(self.train) * sum(len(one.train) for one in (self, *self.others)))

    def fit_all(
        self,
        learned: Sequence[np.ndarray],
        held_out: Sequence[np.ndarray],
        folders: Sequence[Path],
        seed: int,
        start: str | None = None,
    ) -> list[Fitted]:
        """Train on the rows `learned` of each task, and predict `held_out` and test of each. The model of each task
        goes to its folder as an ordinary one; checkpoints stand in the first. Several processes: see `Trainer`."""
        keep_memory()
        share_cores()
        set_seed(seed)
        tuners = [self, *self.others]
        rows = [one._gather(own, seed) for one, own in zip(tuners, learned, strict=True)]
        flat = self.recipe.head == "flat"
        model, tasks = join(
            [one._build(own.targets, own.features, start) for one, own in zip(tuners, rows, strict=True)],
            [own.targets for own in rows],
            flat,
        )
        check_space(folders[0], (6 + 2 * len(tasks)) * 4 * sum(x.numel() for x in trained(model).values()))
        counts = [len(own.examples) for own in rows]
        how = dict(rows=counts, draw=self.draw, mixed=self.mixed, epochs=math.ceil(self.recipe.epochs))
        weights, tricks = () if isinstance(self.losses, str) else self.losses, make_tricks(self.recipe.tricks)
        examples, loss = join_rows(rows, partial(JointSampler, **how), weights, self.recipe.loss if flat else None)
        if self.losses == "learned":
            model.log_variances = loss.log_variances = nn.Parameter(torch.zeros(len(tasks)))
        if self.losses == "falling":
            tricks = [falling := FallingLosses(loss, self._steps(len(examples))), *tricks]
        pairs = list(zip(tuners, rows, held_out, strict=True))
        valid = [own.features.examples(one.rows, out) for one, own, out in pairs]
        tests = [own.features.examples(one.test_rows) for one, own, _ in pairs]
        latest: dict[str, Any] = {}

        def evaluation(model):
            latest["step"], latest["own"], figures = trainer.state.global_step, [], {}
            for number, (one, _, out) in enumerate(pairs):
                with as_task(model, tasks[number]):
                    latest["own"].append(predict(model, valid[number], self.precision))
                names = {"score": one.task.metric, "loss": VALID_LOSS.get(one.task.kind, "log_loss")}
                ends = {name: score(metric, one.labels[out], latest["own"][-1]) for name, metric in names.items()}
                figures |= {f"{name}{_end(number)}": value for name, value in ends.items()}
            return figures

        groups, texts = self._groups(model, folders[0]), (valid[0], tests[0])
        trainer = self._trainer(model, groups, examples, loss, folders[0], seed, tricks, evaluation, texts, True)
        receipts = trainer.fit()
        receipts = {"learning rates": trainer.rates_, "precision": ", then ".join(trainer.precisions_)} | receipts
        found = []
        with trainer.evaluating():
            if self.losses == "learned":
                receipts["loss weights"] = (-model.log_variances.detach()).exp().tolist()
            if self.losses == "falling":
                receipts["loss weights"] = torch.stack(falling.weights_, dim=1).tolist()  # (tasks, epochs)
            if latest.get("step") != trainer.state.global_step:
                evaluation(model)
            for number, (_, own, _) in enumerate(pairs):
                with as_task(model, tasks[number]):
                    if trainer.args.should_save:  # the first of several processes
                        with replacing(folders[number] / "model") as part:
                            model.save(part, self.tokenizer)
                            own.features.save(part)
                    began = time.monotonic()
                    predictions = predict(model, tests[number], self.precision)
                logged = history(trainer.state.log_history, _end(number))
                took = time.monotonic() - began
                found.append(Fitted(latest["own"][number], predictions, logged, receipts, {}, took))
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            remove_checkpoints(folders[0] / "checkpoints")
        return found


def _end(number: int) -> str:
    """The end of the names of a task's figures; the first has none."""
    return f"_{number}" if number else ""
