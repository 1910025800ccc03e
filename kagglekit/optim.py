"""Learning rates and weight decay, parameter by parameter."""

import torch
from torch import nn


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    head_learning_rate: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.01,
) -> list[dict]:
    """Groups for an optimizer: lower layers learn more slowly (Howard and Ruder, 2018; Sun et al., arXiv 1905.05583).

    The topmost layer of `model.backbone` gets `learning_rate`, each layer below `layer_decay` times the rate of the one
    above it (1 is the same rate everywhere), the embeddings one step less than the lowest layer, and all that is not
    in the backbone `head_learning_rate` (None: `learning_rate`). Biases and norms, the vectors, have no weight decay.
    Which layer a parameter belongs to is read from the module tree: layers are the longest ModuleList. Every trainable
    parameter is in exactly one group; frozen ones are in none.
    """
    layers = max((m for m in model.backbone.modules() if isinstance(m, nn.ModuleList)), key=len, default=[])
    depth_of = {id(p): depth for depth, layer in enumerate(layers, start=1) for p in layer.parameters()}
    in_backbone = {id(p) for p in model.backbone.parameters()}
    groups: dict[tuple, dict] = {}
    seen_layers = False
    for parameter in model.parameters():
        seen_layers |= id(parameter) in depth_of
        if not parameter.requires_grad:
            continue
        if id(parameter) not in in_backbone:
            name, rate = "head", learning_rate if head_learning_rate is None else head_learning_rate
        else:  # what comes after the layers, such as a last norm, goes with the topmost
            depth = depth_of.get(id(parameter), len(layers) if seen_layers else 0)
            name = f"layer {depth}" if depth else "embeddings"
            rate = learning_rate * layer_decay ** (len(layers) - depth)
        decay = weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((name, decay), {"params": [], "lr": rate, "weight_decay": decay, "name": name})
        group["params"].append(parameter)
    return list(groups.values())


def suggest_learning_rate(backbone: nn.Module) -> float:
    """A usual rate for the size of a backbone: 2e-5 for BERT-base, in inverse proportion to the size of the layers.

    Between 1e-5 (large models) and 2e-4; MiniLM-L6-H384 gets 1.6e-4. A start, not an optimum.
    """
    table = backbone.get_input_embeddings().weight.numel()
    layers = sum(p.numel() for p in backbone.parameters()) - table
    return float(f"{min(2e-4, max(1e-5, 2e-5 * 86e6 / layers)):.1e}")


def adamw(groups: list[dict]) -> torch.optim.AdamW:
    """AdamW with bias correction, fused into one kernel (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(groups, fused=True)
