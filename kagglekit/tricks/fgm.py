"""FGM: train on word embeddings moved the way that hurts most (Miyato, Dai and Goodfellow, 2017, arXiv 1605.07725)."""

import math

import torch

from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import restored


def ascent(gradient: torch.Tensor, epsilon: float, dim: tuple[int, ...] | None = None) -> torch.Tensor:
    """The step of length `epsilon` along `gradient`, in its shape; zero where the gradient is zero or not finite.

    dim: the dimensions that one length is taken over, None for all of them.
    """
    norm = torch.linalg.vector_norm(gradient, dim=dim, keepdim=True)
    factor = torch.where(torch.isfinite(norm) & (norm > 0), epsilon / norm, 0)
    return (gradient * factor).nan_to_num_(0, 0, 0)  # 0 times what is not finite


class FGM(Trick):
    """Fast gradient method: a second pass on embeddings moved by `epsilon` along the gradient; both gradients add up.

    epsilon: length of the move, in units of the embedding matrix; 0 is the plain gradient counted twice, above 2 the
    text dissolves. Doubles the step and needs one copy of the embedding matrix. With gradient accumulation the
    direction is that of the gradients gathered so far. Frozen embeddings have no gradient: that is an error.
    """

    norm_: torch.Tensor | float = 0.0  # sum over the steps; it stays on the device: no waiting

    def __init__(self, epsilon: float = 1.0, start: float = 0.0):
        self.epsilon = epsilon
        self.start = start

    def check(self):
        super().check()
        check_range("FGM: epsilon", self.epsilon, 0 <= self.epsilon < math.inf, "a length, 0 or more")

    def training_step(self, step, model, inputs):
        loss = step(inputs)
        embeddings = embedding_matrix(model, "FGM")
        with restored([embeddings]):
            move = ascent(embeddings.grad, self.epsilon)
            embeddings.data.add_(move)
            step(inputs)
        self.steps_ += 1
        self.norm_ = self.norm_ + torch.linalg.vector_norm(move)
        return loss

    def receipt(self, model):
        return {**super().receipt(model), "mean perturbation norm": float(self.norm_) / max(self.steps_, 1)}


def embedding_matrix(model: torch.nn.Module, trick: str) -> torch.Tensor:
    """The word embeddings, after a backward pass. Raises ValueError that names the trick when they are frozen."""
    matrix = model.get_input_embeddings().weight
    if matrix.grad is None:
        raise ValueError(f"{trick} moves the word embeddings, and these are frozen: unfreeze them or leave {trick} out")
    return matrix
