"""AWP: train on weights moved the way that hurts most (Wu, Xia and Wang, 2020, arXiv 2004.05884)."""

import math

import torch
from torch.nn.utils import get_total_norm

from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import restored


def relative_ascent(
    weights: list[torch.Tensor], gradients: list[torch.Tensor], strength: float, epsilon: float
) -> list[torch.Tensor]:
    """For each weight `strength * |weight| * gradient / |gradient|`, no element larger than `epsilon` times its own.

    Zero where a gradient is zero or not finite.
    """
    lengths, norms = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(gradients))
    factors = torch.where(torch.isfinite(norms) & (norms > 0), strength * lengths / norms, 0)  # (weights,)
    moves = torch._foreach_mul(gradients, list(factors.unbind()))
    for move in moves:
        move.nan_to_num_(0, 0, 0)  # 0 times what is not finite
    limits = torch._foreach_abs(weights)
    torch._foreach_mul_(limits, epsilon)
    torch._foreach_minimum_(moves, limits)
    torch._foreach_neg_(limits)
    torch._foreach_maximum_(moves, limits)
    return moves


class AWP(Trick):
    """Adversarial weight perturbation: a second pass on moved weights; both gradients add up.

    Every trained matrix is moved along its gradient, embeddings and head included; biases and norms stay. The paper
    keeps the gradient of the second pass alone; adding both up is what competitions do, and gentler.
    strength: length of a move relative to the norm of its matrix, 0.1 to 1 is usual. epsilon: no element is moved by
    more than this share of itself, 0.001 to 0.02 is usual; with the usual strengths most elements are moved that far.
    One of them 0 is the plain gradient counted twice. Doubles the step and needs two copies of the weights. Best
    started late, when the model has learned something. With gradient accumulation the direction is that of the
    gradients gathered so far. Where all matrices are frozen, that is an error.
    """

    norm_: torch.Tensor | float = 0.0  # sum over the steps; it stays on the device: no waiting

    def __init__(self, strength: float = 0.5, epsilon: float = 0.01, start: float = 0.5):
        self.strength = strength
        self.epsilon = epsilon
        self.start = start

    def check(self):
        super().check()
        check_range("AWP: strength", self.strength, 0 <= self.strength < math.inf, "a share of the norm, 0 or more")
        check_range("AWP: epsilon", self.epsilon, 0 <= self.epsilon < 1, "a share of a weight, from 0 to below 1")

    def training_step(self, step, model, inputs):
        loss = step(inputs)
        trained = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad and p.grad is not None]
        if not trained:
            raise ValueError("AWP moves weight matrices, and all are frozen: unfreeze some or leave AWP out")
        matrices = [parameter.detach() for parameter in trained]
        moves = relative_ascent(matrices, [parameter.grad for parameter in trained], self.strength, self.epsilon)
        with restored(matrices):
            self.norm_ = self.norm_ + get_total_norm(moves) / get_total_norm(matrices)
            torch._foreach_add_(matrices, moves)
            del moves  # as large as the model, and not needed in the pass
            step(inputs)
        self.steps_ += 1
        return loss

    def receipt(self, model):
        return {**super().receipt(model), "mean relative perturbation": float(self.norm_) / max(self.steps_, 1)}
