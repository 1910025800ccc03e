"""PGD: FGM in several small steps within a ball (Madry et al., 2018, arXiv 1706.06083)."""

from contextlib import nullcontext
from functools import partial

import torch

from kagglekit.model.row_gradients import Rows, rows_in_use
from kagglekit.tricks.fgm import ascent, embedding_gradients
from kagglekit.tricks.trick import Adversarial, knob, trick
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


@trick
class PGD(Adversarial):
    """Projected gradient descent: `steps` moves of length `alpha`, never further than `epsilon` from the start.

    Each move follows the gradient at the point before it. Two gradients add up: that of the clean pass and that at the
    last point. Lengths are in units of the embedding matrix. The passes between them compute gradients of the
    embeddings alone, unless another trick has its steps inside of this one; a GPU needs three copies of the embedding
    matrix. With gradient accumulation the first move follows the gradients gathered so far. Frozen embeddings are
    moved too, as for FGM.
    """

    mean = "norm_", "mean perturbation norm"
    norm_ = 0.0  # a sum over the steps, on the device: reading it would wait

    steps: int = knob(3, "moves, each of which costs a pass: 3 makes a step 3.3 times as long; 1: FGM", least=1)
    epsilon: float = knob(1.0, "radius of the ball; 0: the plain gradient twice; above 2: the text is lost", least=0)
    alpha: float = knob(0.3, "length of a move; at epsilon / steps or below nothing is projected; 0: as above", least=0)

    def training_step(self, step, model, inputs):
        with embedding_gradients(model) as embeddings:
            loss = step(inputs)
            alone = not isinstance(step, partial)  # a trick inside may read other words, and other gradients
            rows = rows_in_use(model, embeddings) if alone else Rows()
            gradient = rows.take(embeddings.grad)
            move = torch.zeros_like(gradient)
            with restored([embeddings], [rows]) as [origin]:
                for number in range(1, self.steps + 1):
                    move = climb(move, gradient, self.alpha, self.epsilon)
                    rows.put(embeddings.data, origin + move)
                    aside = gradients_aside(model, embeddings if alone else None)
                    with aside if number < self.steps else nullcontext():
                        step(inputs)
                        gradient = rows.take(embeddings.grad)
        self.steps_ += 1
        self.norm_ = self.norm_ + torch.linalg.vector_norm(move)
        return loss
