"""PGD: several small steps to the embeddings that hurt most, within a ball (Madry et al., 2018, arXiv 1706.06083)."""

import math
from contextlib import nullcontext

import torch

from kagglekit.options import check_range
from kagglekit.tricks.fgm import ascent, embedding_matrix
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import gradients_aside, restored


def project(move: torch.Tensor, epsilon: float, dim: tuple[int, ...] | None = None) -> torch.Tensor:
    """The nearest move of a length of at most `epsilon`; `dim` as in `ascent`."""
    norm = torch.linalg.vector_norm(move, dim=dim, keepdim=True)
    return move * (epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)


def climb(
    move: torch.Tensor, gradient: torch.Tensor, alpha: float, epsilon: float, dim: tuple[int, ...] | None = None
) -> torch.Tensor:
    """The next move: a step of length `alpha` from `move` along `gradient`, back into the ball of radius `epsilon`."""
    return project(move + ascent(gradient, alpha, dim), epsilon, dim)


class PGD(Trick):
    """Projected gradient descent: `steps` FGM moves of length `alpha`, never further than `epsilon` from the start.

    Each move follows the gradient at the point before it alone. The gradients that count are the clean one and the one
    at the last point: they add up.
    steps: 1 is FGM with `alpha`; each one more costs a pass, so 3 makes a step four times as long as plain training.
    alpha, epsilon: in units of the embedding matrix; one of them 0 is the plain gradient counted twice; with epsilon at
    `steps * alpha` or above nothing is projected, above 2 the text dissolves. Needs two copies of the embedding matrix
    and one of the gradients. With gradient accumulation the first move follows the gradients gathered so far. Frozen
    embeddings have no gradient: that is an error.
    """

    norm_: torch.Tensor | float = 0.0  # sum over the steps; it stays on the device: no waiting

    def __init__(self, steps: int = 3, epsilon: float = 1.0, alpha: float = 0.3, start: float = 0.0):
        self.steps = steps
        self.epsilon = epsilon
        self.alpha = alpha
        self.start = start

    def check(self):
        super().check()
        check_range("PGD: steps", self.steps, self.steps >= 1, "1 or more")
        check_range("PGD: epsilon", self.epsilon, 0 <= self.epsilon < math.inf, "a length, 0 or more")
        check_range("PGD: alpha", self.alpha, 0 <= self.alpha < math.inf, "a length, 0 or more")

    def training_step(self, step, model, inputs):
        loss = step(inputs)
        embeddings = embedding_matrix(model, "PGD")
        gradient, move = embeddings.grad, torch.zeros_like(embeddings)
        with restored([embeddings]) as [origin]:
            for number in range(1, self.steps + 1):
                move = climb(move, gradient, self.alpha, self.epsilon)
                torch.add(origin, move, out=embeddings.data)
                with gradients_aside(model.parameters()) if number < self.steps else nullcontext():
                    step(inputs)
                    gradient = embeddings.grad
        self.steps_ += 1
        self.norm_ = self.norm_ + torch.linalg.vector_norm(move)
        return loss

    def receipt(self, model):
        return {**super().receipt(model), "mean perturbation norm": float(self.norm_) / max(self.steps_, 1)}
