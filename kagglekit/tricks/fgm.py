"""FGM: train on word embeddings moved the way that hurts most (Miyato, Dai and Goodfellow, 2017, arXiv 1605.07725)."""

import torch

from kagglekit.training.trick import Trick
from kagglekit.training.weights import restored


def ascent(gradient: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The step of length `epsilon` along `gradient`, in its shape; zero where the gradient is zero or not finite."""
    norm = torch.linalg.vector_norm(gradient)
    usable = torch.isfinite(norm) & (norm > 0)
    return torch.where(
        usable, epsilon * gradient / norm.clamp_min(torch.finfo(norm.dtype).tiny), torch.zeros_like(gradient)
    )


class FGM(Trick):
    """Fast gradient method: a second pass on embeddings moved by `epsilon` along the gradient; both gradients add up.

    epsilon: length of the move, in units of the embedding matrix; 0 is the plain gradient counted twice, above 2 the
    text dissolves. Doubles the step and needs one copy of the embedding matrix. With gradient accumulation the
    direction is that of the gradients gathered so far. Frozen embeddings have no gradient: that is an error.
    """

    def __init__(self, epsilon: float = 1.0, start: float = 0.0):
        self.epsilon = epsilon
        self.start = start

    def training_step(self, step, model, inputs):
        loss = step(inputs)
        embeddings = model.get_input_embeddings().weight
        if embeddings.grad is None:
            raise ValueError("FGM moves the word embeddings, and these are frozen: unfreeze them or leave FGM out")
        with restored([embeddings]):
            move = ascent(embeddings.grad, self.epsilon)
            embeddings.data.add_(move)
            step(inputs)
        self.steps_ += 1
        self.norm_ = getattr(self, "norm_", 0) + torch.linalg.vector_norm(move)  # stays on the device: no waiting
        return loss

    def receipt(self, model):
        return {
            **super().receipt(model),
            "mean perturbation norm": float(getattr(self, "norm_", 0)) / max(self.steps_, 1),
        }
