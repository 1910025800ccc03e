"""Weights of the losses of several tasks by how fast each falls: dynamic weight average, epoch by epoch."""

from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate.utils import reduce

from kagglekit.training.targets import MultiTaskLoss, Part
from kagglekit.tricks.trick import Trick

TEMPERATURE = 2.0  # of `falling_weights`, that of the paper: the higher, the more alike the weights


def falling_weights(before: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Dynamic weight average (Liu, Johns and Davison, 2019, arXiv 1803.10704): weights that add up to the number of
    tasks, higher for a loss that fell less from one epoch to the next.

    before, last: (tasks,) mean losses of the last epoch but one, and of the last. A loss of 0 counts as unchanged.
    """
    speed = torch.where(before > 0, last / before, torch.ones_like(last))
    return len(speed) * (speed / TEMPERATURE).softmax(dim=0)


class FallingLosses(Trick):
    """Weighs the losses of `loss` anew at the end of each epoch, by `falling_weights`; in the first two all weigh 1.

    The means are over rows, of the first forward pass of a batch: not of those that an outer trick adds. Outermost
    among tricks. steps: of the optimizer, in an epoch.
    """

    def __init__(self, loss: MultiTaskLoss, steps: int):
        super().__init__()
        self.loss, self.steps, self.first, self.counts = loss, steps, False, False
        self.plain = list(loss.parts)
        loss.parts = [replace(part, loss=self._watched(part, k)) for k, part in enumerate(self.plain)]
        self.sums_ = torch.zeros(len(self.plain), 2)  # of this epoch: of the losses, and rows
        self.new = torch.zeros_like(self.sums_)  # of this step, in this process
        self.means_: list[torch.Tensor] = []  # of the epochs before
        self.weights_ = [torch.ones(len(self.plain))]  # of each epoch

    def _watched(self, part: Part, k: int) -> Callable:
        def loss(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
            value = part.loss(ours, theirs)
            if self.counts:
                self.new = self.new.to(value.device)
                self.new[k, 0] += value.detach() * len(ours)
                self.new[k, 1] += len(ours)
            return value

        return loss

    def training_step(self, step, model, inputs):
        self.first = True
        return step(inputs)

    def compute_loss(self, compute, model, inputs):
        self.counts, self.first = self.first, False
        try:
            return compute(inputs)
        finally:
            self.counts = False

    def on_step_end(self, args, state, control, **kwargs):
        self.steps_ += 1
        self.sums_ = self.sums_.to(args.device) + reduce(self.new.to(args.device), "sum")  # of all processes
        self.new = torch.zeros_like(self.new)
        if state.global_step % self.steps == 0 and state.global_step < state.max_steps:
            means = (self.sums_[:, 0] / self.sums_[:, 1].clamp_min(1)).cpu()  # as those of a checkpoint are
            self.means_ = [*self.means_, means]
            self.sums_ = torch.zeros_like(self.sums_)
            last = self.means_[-2:]
            weights = falling_weights(*last) if len(last) == 2 else torch.ones_like(self.weights_[-1])
            self.weights_ = [*self.weights_, weights]
            self._weigh()

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._weigh()

    def _weigh(self) -> None:
        weights = self.weights_[-1].tolist()
        self.loss.parts = [replace(part, weight=weight) for part, weight in zip(self.loss.parts, weights, strict=True)]
