"""Weights that are changed for a moment and come back bit for bit: the primitive under FGM, PGD, AWP, EMA and SWA."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def restored(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Give `parameters` their values of before back when the block ends, also after an exception.

    Restores by copy, never by subtracting what was added. Costs one copy of the parameters in memory.
    """
    parameters = list(parameters)
    saved = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, saved)


def distance(parameters: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Euclidean distance of two lists of tensors, relative to the norm of the second (a scalar tensor)."""
    others = list(others)
    norms = [torch.linalg.vector_norm(p.detach() - o) for p, o in zip(parameters, others, strict=True)]
    return torch.stack(norms).norm() / torch.stack([torch.linalg.vector_norm(o) for o in others]).norm()
