"""FGM: adversarial training on the word embeddings (Miyato, Dai and Goodfellow, 2017, arXiv 1605.07725)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kagglekit.model.row_gradients import rows_in_use
from kagglekit.tricks.trick import Adversarial, knob, trick
from kagglekit.tricks.weights import restored


def ascent(gradient: torch.Tensor, epsilon: float, dim: tuple[int, ...] | None = None) -> torch.Tensor:
    """`epsilon * gradient / |gradient|`, in the shape of `gradient`; zero where that is zero or not finite.

    dim: the dimensions over which one norm is taken; None takes all of them.
    """
    norm = torch.linalg.vector_norm(gradient, dim=dim, keepdim=True)
    factor = torch.where(torch.isfinite(norm) & (norm > 0), epsilon / norm, 0)
    return (gradient * factor).nan_to_num_(0, 0, 0)  # 0 times a number that is not finite


@trick
class FGM(Adversarial):
    """Fast gradient method: a second pass on embeddings moved by `epsilon` along the gradient; both gradients add up.

    Lengths are in units of the embedding matrix. Doubles the step; a GPU needs a copy of the embedding matrix. With
    gradient accumulation the direction is that of the gradients gathered so far. Frozen embeddings are moved too, and
    stay as they are: what is trained above them learns to bear it.
    """

    mean = "norm_", "mean perturbation norm"
    norm_ = 0.0  # a sum over the steps, on the device: reading it would wait

    epsilon: float = knob(1.0, "length of the move; 0: the plain gradient twice; above 2: the text is lost", least=0)

    def training_step(self, step, model, inputs):
        with embedding_gradients(model) as embeddings:
            loss = step(inputs)
            rows = rows_in_use(model, embeddings)
            move = ascent(rows.take(embeddings.grad), self.epsilon)
            with restored([embeddings], [rows]):
                rows.add(embeddings.data, move)
                step(inputs)
        self.steps_ += 1
        self.norm_ = self.norm_ + torch.linalg.vector_norm(move)
        return loss


@contextmanager
def embedding_gradients(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The word embeddings, which have a gradient while the block runs; frozen ones have none before and after it."""
    matrix = model.get_input_embeddings().weight
    if matrix.requires_grad:
        yield matrix
        return
    rows = getattr(model, "row_gradients", None)
    try:
        matrix.requires_grad_(True)
        yield matrix
    finally:
        matrix.requires_grad_(False)
        matrix.grad = None
        if rows is not None:
            rows.clear()
