"""The output of a module, changed for a moment: the primitive under NEFTune, mixup and FreeLB."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def output_changed(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While the block runs, `module` gives `function(output)`; of a tuple only the first element is changed.

    What is in place is removed when the block ends, also after an exception. Several of them on one module act in the
    order in which they were opened.
    """

    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return (function(output[0]), *output[1:])
        return function(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
