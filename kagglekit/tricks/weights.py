"""Weights and gradients that change for a moment, and the averages of weights: what several tricks share."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from kagglekit.decoders.lora import stands_apart
from kagglekit.model.row_gradients import Rows, rows_in_use, rows_written
from kagglekit.tricks.trick import Trick


@contextmanager
def restored(parameters: Iterable[torch.Tensor], rows: Sequence[Rows] = ()) -> Iterator[list[torch.Tensor]]:
    """Restore the values of `parameters` when the block ends, also after an exception.

    Restores by copy, never by subtracting what was added. The block is given that copy, to read: it costs the memory of
    the parameters once more. rows: of each parameter those that the block changes; none: all.
    """
    parameters = [parameter.detach() for parameter in parameters]
    rows = list(rows) or [Rows()] * len(parameters)
    taken = [some.take(parameter) for some, parameter in zip(rows, parameters, strict=True)]
    saved = [part.clone() if part is one else part for part, one in zip(taken, parameters, strict=True)]
    try:
        yield saved
    finally:
        for some, parameter, part in zip(rows, parameters, saved, strict=True):
            some.put(parameter, part)


@contextmanager
def gradients_aside(model: torch.nn.Module, wanted: torch.Tensor | None = None) -> Iterator[None]:
    """Begin the block without gradients, and restore the earlier ones when it ends, also after an exception.

    Gradients of the block are dropped. Nothing is copied; while the block runs there are two sets of gradients. wanted:
    the one parameter whose gradient the block reads, so that the others need none, which saves a third of a pass; not
    in several processes, since DDP waits for all of them.
    """
    parameters = list(model.parameters())
    saved = [(parameter.grad, parameter.requires_grad) for parameter in parameters]
    one = wanted is not None and not torch.distributed.is_initialized()
    in_table = wanted is not None and rows_in_use(model, wanted).numbers is not None
    try:
        for parameter in parameters:
            parameter.grad = None
            parameter.requires_grad_(parameter is wanted if one else parameter.requires_grad)
        with model.row_gradients.aside() if in_table else nullcontext():
            yield
    finally:
        for parameter, (gradient, needed) in zip(parameters, saved, strict=True):
            parameter.grad = gradient
            parameter.requires_grad_(needed)


@contextmanager
def gradients_averaged(model: torch.nn.Module, passes: int) -> Iterator[None]:
    """Let the `passes` backward passes of the block add the mean of their gradients, not the sum.

    Earlier gradients keep their weight, up to rounding: they are multiplied first, and all are divided at the end. They
    are not set aside, so that DDP still sums them over its processes in the passes of the block.
    """
    with rows_written(model) as earlier:
        if earlier:
            torch._foreach_mul_(earlier, passes)
    try:
        yield
    finally:
        with rows_written(model) as gathered:
            if gathered:
                torch._foreach_div_(gathered, passes)


def distance(parameters: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Euclidean distance of two lists of tensors, relative to the norm of the second (a scalar tensor)."""
    others = list(others)
    norms = [torch.linalg.vector_norm(p.detach() - o) for p, o in zip(parameters, others, strict=True)]
    return torch.stack(norms).norm() / torch.stack([torch.linalg.vector_norm(o) for o in others]).norm()


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are trained, by name, without their gradients."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def changeable(model: torch.nn.Module) -> list[torch.Tensor]:
    """The weights that training may change, without their gradients: also those that are thawed later, but not a frozen
    backbone that stands apart."""
    apart = stands_apart(model)
    return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad or not apart]


class WeightAverage(Trick):
    """A trick with an average of the trained weights in `average_`, which is evaluated and saved.

    Training never sees the average. Of several averages in one recipe the last one is evaluated and saved. Costs one
    more copy of the weights, also in each checkpoint; the step is as fast as before.
    """

    average_ = ()  # a list of tensors, once it has begun

    @contextmanager
    def evaluating(self, model):
        weights = list(trained(model).values())
        with restored(weights):
            if self.average_:
                torch._foreach_copy_(weights, self.average_)
            yield

    def receipt(self, model):
        moved = float(distance(self.average_, trained(model).values())) if self.average_ else 0.0
        return {**super().receipt(model), "distance of average to last weights": moved}
