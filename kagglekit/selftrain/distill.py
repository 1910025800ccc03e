"""Knowledge distillation: a student learns what a teacher predicts, beside the labels (Hinton, Vinyals and Dean, 2015,
arXiv 1503.02531).

A teacher's prediction of a row says more than its label: which other classes the text is like, and how sure one can be.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from kagglekit.model.classifier import Classifier
from kagglekit.model.surgery import find_layers
from kagglekit.ranges import check_range
from kagglekit.selftrain.distances import (
    DISTRIBUTIONS,
    LOSSES,
    distribution_distance,
    hidden_distance,
    value_distance,
)
from kagglekit.training.seeds import random_state_kept
from kagglekit.training.trick import Trick


def row_weights(labels: torch.Tensor, outputs: int) -> torch.Tensor:
    """How much each row counts, (batch,): the last column of labels that have one more than there are `outputs`, where
    `make_targets` puts it; else 1."""
    weighted = labels.dim() == 2 and labels.shape[1] == outputs + 1
    return labels[:, -1] if weighted else torch.ones(len(labels), device=labels.device)


@contextmanager
def layer_states(backbone: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """While the block runs, gather what each layer of a backbone gives: (batch, tokens, width), lowest first."""
    states: list[torch.Tensor] = []

    def gather(module, inputs, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(gather) for layer in find_layers(backbone)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


class Distillation(Trick):
    """`(1 - weight)` times the loss plus `weight` times the distance from the teacher's predictions in the batch.

    The batch brings them as `teacher` (batch, columns of a predictions table); they are taken out before the model
    reads it, so this trick is the innermost. weight: 0 is plain training, 0.5 to 0.9 are usual, 1 ignores the labels.
    loss: cross_entropy, kl, cosine or mse for classes and labels, mse for values, "" is kl or mse. temperature: of kl;
    1 is none, 2 to 4 are usual, large ones compare logits (Hinton et al.). Costs next to nothing.
    hidden: weight of the squared difference of all token states from those of the model in the folder `teacher`, which
    reads the batch along, without its dropout: of the same width and vocabulary. 0 is none; large ones make a copy of
    the teacher, whatever the labels say. It costs a forward pass of the teacher, and its weights in memory.
    Rows with weights count by them.
    Raises ValueError for a loss that does not fit the task.
    """

    distance_: torch.Tensor | float = 0.0  # sums over the steps; they stay on the device: no waiting
    apart_: torch.Tensor | float = 0.0
    live: Classifier | None = None  # the teacher, while training goes on

    def __init__(
        self, weight: float = 0.5, loss: str = "", temperature: float = 1.0, hidden: float = 0.0, teacher: str = ""
    ):
        self.weight = weight
        self.loss = loss
        self.temperature = temperature
        self.hidden = hidden
        self.teacher = teacher

    def check(self):
        super().check()
        check_range("Distillation: weight", self.weight, 0 <= self.weight <= 1, "from 0 to 1")
        check_range("Distillation: loss", self.loss, self.loss in ("", *LOSSES), f"empty, or of {', '.join(LOSSES)}")
        check_range("Distillation: temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")
        check_range("Distillation: hidden", self.hidden, 0 <= self.hidden < math.inf, "0 or more")
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
        if self.hidden:
            with layer_states(model.backbone) as states:
                loss, outputs = compute(inputs)
        else:
            loss, outputs = compute(inputs)
        weights = row_weights(inputs["labels"], outputs["logits"].shape[-1])
        distance = (weights * self._distances(model, outputs["logits"], teacher)).mean()
        self.steps_ += 1
        self.distance_ = self.distance_ + distance.detach()
        loss = (1 - self.weight) * loss + self.weight * distance
        if self.hidden:
            apart = hidden_distance(states, self._states(inputs), inputs["attention_mask"], weights)
            self.apart_ = self.apart_ + apart.detach()
            loss = loss + self.hidden * apart
        return loss, outputs

    def _distances(self, model: Classifier, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Of each row (batch,); logits of other targets stand behind those of the task."""
        logits = logits[:, : len(model.center)]
        if model.link in DISTRIBUTIONS:
            return distribution_distance(logits, teacher, model.link, self.loss or "kl", self.temperature)
        return value_distance(logits, teacher, model.link, model.center, model.scale)

    def _states(self, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Of the teacher, in the batch that the student has read."""
        with torch.no_grad(), layer_states(self.live.backbone) as states:
            self.live.backbone(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return states

    def receipt(self, model):
        steps = max(self.steps_, 1)
        figures = {"mean distance from the teacher": float(self.distance_) / steps}
        if self.hidden:
            figures["mean distance of states"] = float(self.apart_) / steps
        return {**super().receipt(model), **figures}
