"""What is changed in a backbone before it is trained. Depth is read from the module tree, never from names."""

from torch import nn


def find_layers(backbone: nn.Module) -> nn.ModuleList:
    """The layers of a backbone, lowest first: its longest ModuleList. Raises ValueError when it has none."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(backbone).__name__} has no list of layers")
    return max(lists, key=len)
