"""Knowledge distillation: a student learns the predictions of a teacher, beside the labels (Hinton, Vinyals and Dean,
2015, arXiv 1503.02531).

A teacher's prediction of a row says more than its label: which other classes the text is like, and how sure one can be.
Distances between student and teacher are of single rows, so that a row can count more or less.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch.nn import functional as F

from kagglekit.device import random_state_kept
from kagglekit.model.classifier import Classifier
from kagglekit.model.heads import OUTPUT_LAYERS
from kagglekit.model.surgery import find_layers
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick, knob, trick


@trick
class Distillation(Trick):
    """`(1 - weight)` times the loss plus `weight` times the distance from the teacher's predictions in the batch.

    The batch has them as `teacher` (batch, columns of a predictions table); they are taken out before the model reads
    it, so this trick is the innermost. Rows with weights count by them. Costs next to nothing; `hidden` costs a forward
    pass of the teacher in the folder `teacher`, without its dropout, and its weights in memory. Such a teacher has the
    student's width and vocabulary. Raises ValueError for a loss that does not fit the task.
    """

    mean = ("distance_", "mean distance from the teacher")
    distance_ = apart_ = 0.0  # sums over the steps; they stay on the device, so that nothing waits for it
    live = None  # the teacher's Classifier during training

    weight: float = knob(0.5, "0: plain training; 0.5 to 0.9 are usual; 1 ignores the labels", least=0, most=1)
    loss: str = knob("", "cross_entropy, kl, cosine or mse for classes and labels, mse for values; empty: kl or mse")
    temperature: float = knob(1.0, "of kl: 1 is none, 2 to 4 are usual, large ones compare logits", above=0)
    hidden: float = knob(0.0, "weight of the squared difference of token states; 0: none; large: a copy", least=0)
    teacher: str = knob("", "folder of the model whose token states are compared")

    def check(self):
        super().check()
        check_range("Distillation: loss", self.loss, self.loss in ("", *LOSSES), f"empty, or of {', '.join(LOSSES)}")
        if self.temperature != 1 and self.loss not in ("", "kl"):
            raise ValueError(f"Distillation: temperature={self.temperature} is of loss='kl', not of {self.loss!r}")
        if self.hidden and not self.teacher:
            raise ValueError(f"Distillation: hidden={self.hidden} needs the folder of a model: name it as teacher")

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if self.loss not in ("", "mse") and model.link not in DISTRIBUTIONS:
            raise ValueError(
                f"Distillation: loss={self.loss!r} is of probabilities, and this task has values: set 'mse'"
            )
        if self.hidden:
            with random_state_kept():  # building a model draws weights
                self.live = Classifier.load(Path(self.teacher)).eval().requires_grad_(False).to(model.center.device)

    def on_train_end(self, args, state, control, **kwargs):
        self.live = None

    def compute_loss(self, compute, model, inputs):
        inputs = dict(inputs)
        teacher = inputs.pop("teacher")
        with layer_states(model.backbone) if self.hidden else nullcontext() as states:
            loss, outputs = compute(inputs)
        weights = row_weights(inputs["labels"], outputs["logits"].shape[-1])
        distance = (weights * self._distances(model, outputs["logits"], teacher)).mean()
        self.steps_ += 1
        self.distance_ = self.distance_ + distance.detach()
        loss = (1 - self.weight) * loss + self.weight * distance
        if self.hidden:
            apart = hidden_distance(states, self._teacher_states(inputs), inputs["attention_mask"], weights)
            self.apart_ = self.apart_ + apart.detach()
            loss = loss + self.hidden * apart
        return loss, outputs

    def _distances(self, model: Classifier, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Of each row (batch,); logits of auxiliary targets stand behind those of the task."""
        logits = logits[:, : len(model.center)]
        if model.link in DISTRIBUTIONS:
            return distribution_distance(logits, teacher, model.link, self.loss or "kl", self.temperature)
        return value_distance(logits, teacher, model.link, model.center, model.scale)

    def _teacher_states(self, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad(), layer_states(self.live.backbone) as states:
            self.live._states(*(inputs.get(name) for name in ("input_ids", "attention_mask", "token_type_ids")))
        return states

    def receipt(self, model):
        states = {"mean distance of states": float(self.apart_) / max(self.steps_, 1)} if self.hidden else {}
        return {**super().receipt(model), **states}


@contextmanager
def layer_states(backbone: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """While the block runs, collect the output of each layer of a backbone: (batch, tokens, width), lowest first."""
    states: list[torch.Tensor] = []

    def collect(module, inputs, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(collect) for layer in find_layers(backbone)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def row_weights(labels: torch.Tensor, outputs: int) -> torch.Tensor:
    """The weight of each row (batch,): the last column of labels with one more column than `outputs`, where
    `make_targets` puts it; else 1."""
    weighted = labels.dim() == 2 and labels.shape[1] == outputs + 1
    return labels[:, -1] if weighted else torch.ones(len(labels), device=labels.device)


DISTRIBUTIONS = ("softmax", "sigmoid")  # output layers whose predictions are probabilities


def soft_cross_entropy(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the student's log-probabilities `logs` against the teacher's `probs`: (..., outcomes) -> (...).

    It has the gradients of `kl`.
    """
    return -(probs * logs).sum(dim=-1)


def kl(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """KL(teacher, student): 0 where they agree. Shapes as in `soft_cross_entropy`."""
    return F.kl_div(logs, probs, reduction="none").sum(dim=-1)


def cosine(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """1 minus the cosine of the two vectors of probabilities: 0 where they agree, 1 where they share no outcome."""
    return 1 - F.cosine_similarity(logs.exp(), probs, dim=-1)


def mse(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """The squared difference of the probabilities, a mean over the outcomes."""
    return (logs.exp() - probs).square().mean(dim=-1)


LOSSES = {"cross_entropy": soft_cross_entropy, "kl": kl, "cosine": cosine, "mse": mse}


def soften(probs: torch.Tensor, link: str, temperature: float = 1.0) -> torch.Tensor:
    """Predictions of a teacher as distributions at a temperature: (batch, columns) -> (batch, labels, outcomes).

    softmax: one label, whose outcomes are the columns; sigmoid: each column is a label that holds or not. A softmax at
    temperature T is p^(1/T), scaled to sum to 1: no logits are needed.
    """
    probs = probs.float().clamp(0, 1)
    probs = probs.unsqueeze(1) if link == "softmax" else torch.stack([probs, 1 - probs], dim=-1)
    probs = probs ** (1 / temperature)
    return probs / probs.sum(dim=-1, keepdim=True)


def student_logs(logits: torch.Tensor, link: str, temperature: float = 1.0) -> torch.Tensor:
    """The logarithms of a student's distributions, in the shape that `soften` gives; logits: (batch, columns)."""
    logits = logits.float() / temperature
    if link == "softmax":
        return logits.log_softmax(dim=-1).unsqueeze(1)
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=-1)


def distribution_distance(
    logits: torch.Tensor, teacher: torch.Tensor, link: str, loss: str = "kl", temperature: float = 1.0
) -> torch.Tensor:
    """The distance of a student from its teacher, in classes or labels: (batch,), a mean over the labels.

    logits, teacher (probabilities): (batch, columns). link: softmax or sigmoid. loss: a name of LOSSES. temperature:
    above 1 softens both, so that small probabilities count; times its square, gradients keep about their size.
    """
    logs, probs = student_logs(logits, link, temperature), soften(teacher, link, temperature)
    return temperature**2 * LOSSES[loss](logs, probs).mean(dim=1)


def value_distance(
    logits: torch.Tensor, teacher: torch.Tensor, link: str, center: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The squared difference of the predicted values, or expected classes: (batch,), a mean over the targets.

    logits: (batch, outputs), teacher: (batch, columns). center, scale: of the model, see `OutputLayer`; values count in
    units of the scale.
    """
    unit = scale if link in ("identity", "unit") else 1.0  # levels and distributions have none
    return ((OUTPUT_LAYERS[link].decode(logits, center, scale) - teacher) / unit).square().mean(dim=-1)


def hidden_distance(
    states: list[torch.Tensor], others: list[torch.Tensor], mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The squared difference of the token states of two models, a mean over real tokens, width and student's layers.

    states, others: of student and teacher, one (batch, tokens, width) a layer. A student with fewer layers learns from
    layers at equal distances, the last from the last (TinyBERT; Jiao et al., 2020, arXiv 1909.10351). weights: of the
    rows (batch,).
    """
    places = [math.ceil((layer + 1) * len(others) / len(states)) - 1 for layer in range(len(states))]
    counts = mask.unsqueeze(-1) * weights.view(-1, 1, 1)  # (batch, tokens, 1)
    differences = [(ours.float() - others[k].float()).square() for ours, k in zip(states, places, strict=True)]
    total = sum((counts * difference).sum() for difference in differences)
    return total / (mask.sum() * states[0].shape[-1] * len(states))
