"""Surgery on a backbone: fresh top layers, frozen layers, dropout, and a temporary change of a module's output.

Depth is read from the module tree, never from names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from kagglekit.options import check_range

if TYPE_CHECKING:  # as it takes a second, which a notebook that only tokenises need not wait
    from transformers import PreTrainedConfig, PreTrainedModel


def find_layers(backbone: nn.Module) -> nn.ModuleList:
    """The layers of a backbone, lowest first: its longest ModuleList. Raises ValueError when it has none."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(backbone).__name__} has no list of layers")
    return max(lists, key=len)


def split_by_depth(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Every parameter of a backbone once: those of the embeddings, then those of each layer, lowest first.

    What comes before the layers counts as embeddings. What comes after them, such as a last norm, and what all layers
    share, such as DeBERTa's relative positions, goes with the topmost.
    """
    layers = find_layers(backbone)
    depth_of = {id(p): depth for depth, layer in enumerate(layers, start=1) for p in layer.parameters()}
    parts, outside = [[] for _ in range(len(layers) + 1)], 0
    for parameter in backbone.parameters():
        if id(parameter) in depth_of:
            outside = len(layers)
        parts[depth_of.get(id(parameter), outside)].append(parameter)
    return parts


def reinit_layers(backbone: PreTrainedModel, n: int) -> None:
    """Re-initialise the topmost `n` layers, as before any pretraining (Zhang et al., 2021, arXiv 2006.05987).

    The top layers are specialised to the pretraining task; on little data re-initialising the last 1 to 3 is more
    stable. 0 changes nothing, all layers keep only the pretrained embeddings. Weights are drawn from torch's global
    generator by the initialisation of the backbone's own class. Costs nothing.
    Raises ValueError when there are not so many layers.
    """
    layers = _count(backbone, "reinit_layers", n)
    for layer in layers[len(layers) - n :]:
        for tensor in (*layer.parameters(), *layer.buffers()):
            vars(tensor).pop("_is_hf_initialized", None)  # or transformers takes it for loaded and skips it
        with torch.no_grad():
            layer.apply(backbone._init_weights)


def freeze(backbone: nn.Module, embeddings: bool = False, layers: int = 0) -> None:
    """Freeze the embeddings, the lowest `layers` layers, or both: they are not trained.

    Freezing from the bottom up saves the backward pass through what is frozen, and its optimizer memory; a trained part
    below a frozen one still needs the backward pass. False and 0 are plain training; all layers leave the head. To be
    called before the optimizer is made.
    Raises ValueError when there are not so many layers.
    """
    _count(backbone, "freeze_layers", layers)
    table, *parts = split_by_depth(backbone)
    for part in [*([table] if embeddings else []), *parts[:layers]]:
        for parameter in part:
            parameter.requires_grad_(False)


def split_dropout(config: PreTrainedConfig, hidden: float | None, attention: float | None) -> None:
    """Set the dropouts of a configuration: `attention` is that of attention weights, `hidden` all others.

    0 turns one off, None leaves it as it is. The name of a field says which one it is. LayerDrop, which skips whole
    layers, is left alone. To be called before the model is built. Raises ValueError for a dropout of hidden states
    where the backbone has none, as most decoders.
    """
    found = set()
    for name, value in config.to_dict().items():
        if "drop" not in name or "layerdrop" in name or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        of_attention = "attention" in name or "attn" in name
        share = attention if of_attention else hidden
        found.add(of_attention)
        if share is not None:
            setattr(config, name, float(share))
    if hidden and False not in found:
        raise ValueError(
            f"dropout={hidden} is of hidden states, and this backbone ({config.model_type}) has none of them: set "
            f"attention_dropout={hidden} or head_dropout={hidden} in its place"
        )


def _count(backbone: nn.Module, name: str, n: int) -> nn.ModuleList:
    layers = find_layers(backbone)
    check_range(name, n, 0 <= n <= len(layers), f"from 0 to {len(layers)}, the layers of this backbone")
    return layers


@contextmanager
def output_changed(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While the block runs, `module` returns `function(output)`; of a tuple only the first element is changed.

    The hook is removed when the block ends, also after an exception. Several hooks on one module act in the order in
    which they were opened.
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
