"""AWP: adversarial training on the weight matrices (Wu, Xia and Wang, 2020, arXiv 2004.05884)."""

import torch
from torch.nn.utils import get_total_norm

from kagglekit.model.row_gradients import rows_in_use
from kagglekit.tricks.trick import Adversarial, knob, share, trick
from kagglekit.tricks.weights import restored


def relative_ascent(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    strength: float,
    epsilon: float,
    lengths: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """For each weight `strength * |weight| * gradient / |gradient|`, no element larger than `epsilon` times its own.

    Zero where a gradient is zero or not finite. lengths: |weight| of each (weights,), where only rows of it are given.
    """
    lengths = torch.stack(torch._foreach_norm(weights)) if lengths is None else lengths
    norms = torch.stack(torch._foreach_norm(gradients))
    factors = torch.where(torch.isfinite(norms) & (norms > 0), strength * lengths / norms, 0)  # (weights,)
    moves = torch._foreach_mul(gradients, list(factors.unbind()))
    for move in moves:
        move.nan_to_num_(0, 0, 0)  # 0 times a number that is not finite
    limits = torch._foreach_abs(weights)
    torch._foreach_mul_(limits, epsilon)
    torch._foreach_minimum_(moves, limits)
    torch._foreach_neg_(limits)
    torch._foreach_maximum_(moves, limits)
    return moves


@trick
class AWP(Adversarial):
    """Adversarial weight perturbation: a second pass on moved weights; both gradients add up.

    Every trained matrix moves along its gradient, embeddings and head included; biases and norms stay. The paper keeps
    the gradient of the second pass alone; competitions add both up, which is gentler. With the usual strengths most
    elements move by the full `epsilon`; if either is 0, it is the plain gradient counted twice. Doubles the step, and
    needs two copies of the weights. Best started late, when the model has learned something. With gradient accumulation
    the direction is that of the gradients gathered so far. A model whose matrices are all frozen is an error.
    """

    mean = "norm_", "mean relative perturbation"
    norm_ = 0.0  # a sum over the steps, on the device: reading it would wait

    strength: float = knob(
        0.5, "length of a move relative to its matrix; 0: the plain gradient twice; usually 0.1 to 1", least=0
    )
    epsilon: float = knob(
        0.01, "most that an element moves, as a share of itself; usually 0.001 to 0.02", least=0, below=1
    )
    start: float = share(0.5)

    def training_step(self, step, model, inputs):
        loss = step(inputs)
        trained = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad and p.grad is not None]
        if not trained:
            raise ValueError("AWP moves weight matrices, and all are frozen: unfreeze some or leave AWP out")
        matrices = [parameter.detach() for parameter in trained]
        lengths = torch.stack(torch._foreach_norm(matrices))
        rows = [rows_in_use(model, parameter) for parameter in trained]
        gradients = [some.take(parameter.grad) for some, parameter in zip(rows, trained, strict=True)]
        with restored(matrices, rows) as saved:
            moves = relative_ascent(saved, gradients, self.strength, self.epsilon, lengths)
            self.norm_ = self.norm_ + get_total_norm(moves) / torch.linalg.vector_norm(lengths)
            for some, matrix, move in zip(rows, matrices, moves, strict=True):
                some.add(matrix, move)
            del moves, gradients  # not needed in the pass
            step(inputs)
        self.steps_ += 1
        return loss
