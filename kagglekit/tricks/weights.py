"""Weights and gradients that are changed for a moment: the primitives under FGM, PGD, AWP, FreeLB, EMA and SWA.

What averages of weights have in common: they stand beside the weights, and are what is evaluated and saved.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from kagglekit.tricks.trick import Trick


@contextmanager
def restored(parameters: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Give `parameters` their values of before back when the block ends, also after an exception.

    Restores by copy, never by subtracting what was added. Costs one copy of the parameters in memory: that is what the
    block is given, to read.
    """
    parameters = list(parameters)
    saved = [parameter.detach().clone() for parameter in parameters]
    try:
        yield saved
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, saved)


@contextmanager
def gradients_aside(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Begin the block without gradients, and put those of before back when it ends, also after an exception.

    What the block gathers is dropped. Nothing is copied; for as long as the block runs there are two sets of gradients.
    """
    parameters = list(parameters)
    saved = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in zip(parameters, saved, strict=True):
            parameter.grad = gradient


@contextmanager
def gradients_averaged(parameters: Iterable[torch.Tensor], passes: int) -> Iterator[None]:
    """Let the `passes` backward passes of the block add the mean of their gradients, not the sum.

    Gradients of before keep their weight, up to rounding: they are multiplied first, and all are divided at the end.
    They are not set aside, so that DDP still sums them over its processes in the passes of the block.
    """
    parameters = list(parameters)
    if earlier := [parameter.grad for parameter in parameters if parameter.grad is not None]:
        torch._foreach_mul_(earlier, passes)
    try:
        yield
    finally:
        if gathered := [parameter.grad for parameter in parameters if parameter.grad is not None]:
            torch._foreach_div_(gathered, passes)


def distance(parameters: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Euclidean distance of two lists of tensors, relative to the norm of the second (a scalar tensor)."""
    others = list(others)
    norms = [torch.linalg.vector_norm(p.detach() - o) for p, o in zip(parameters, others, strict=True)]
    return torch.stack(norms).norm() / torch.stack([torch.linalg.vector_norm(o) for o in others]).norm()


class WeightAverage(Trick):
    """A trick with an average of the trained weights in `average_`, empty until it begins.

    Training never sees the average. Of several in one recipe the last one is evaluated and saved: each puts its own in
    place of what the one before it had put there. Costs one more copy of the weights, also in each checkpoint.
    """

    average_: list[torch.Tensor]

    @contextmanager
    def evaluating(self, model):
        weights = trainable(model)
        with restored(weights):
            if self.average_:
                torch._foreach_copy_(weights, self.average_)
            yield

    def receipt(self, model):
        moved = float(distance(self.average_, trainable(model))) if self.average_ else 0.0
        return {**super().receipt(model), "distance of average to last weights": moved}

    def state_dict(self):
        average = {f"average_.{i}": tensor for i, tensor in enumerate(self.average_)}
        return {"steps_": torch.tensor(self.steps_), **average}

    def load_state_dict(self, state):
        self.steps_ = int(state["steps_"])
        self.average_ = [state[f"average_.{i}"] for i in range(len(state) - 1)]


def trainable(model: torch.nn.Module) -> list[torch.Tensor]:
    """The weights that are trained, without their gradients."""
    return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
