"""Learning rates and weight decay, parameter by parameter and step by step."""

import math

import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler, SequentialLR
from transformers import get_constant_schedule_with_warmup, get_scheduler

SCHEDULES = (
    "linear",
    "cosine",
    "constant_with_warmup",
    "constant",
    "polynomial",
    "cosine_with_restarts",
    "cosine_warm_restarts",
)


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


def make_schedule(
    optimizer: torch.optim.Optimizer, schedule: str, steps: int, warmup: int, cycles: int = 1, cycle_growth: int = 1
) -> LRScheduler:
    """What each group's rate is multiplied with, step by step: a name of SCHEDULES over `steps` steps.

    All but "constant" first rise from 0 in `warmup` steps (0: they begin at the top). Then "constant_with_warmup"
    stays, "linear" falls to 0 on a line, "polynomial" as the square of what is left, "cosine" as half a cosine wave,
    and "cosine_with_restarts" as `cycles` such waves, each from the top again (1 is "cosine"). "cosine_warm_restarts"
    is the same with `cycle_growth` 1; with 2 each wave is twice as long as the one before it (SGDR; Loshchilov and
    Hutter, 2017, arXiv 1608.03983).
    """
    warmup = min(warmup, steps - 1)  # the last step is at the full rate where there is no more than the rise
    if schedule == "cosine_warm_restarts":
        first = math.ceil((steps - warmup) / sum(cycle_growth**cycle for cycle in range(cycles)))
        waves = CosineAnnealingWarmRestarts(optimizer, max(first, 1), cycle_growth)
        rise = get_constant_schedule_with_warmup(optimizer, warmup)
        return SequentialLR(optimizer, [rise, waves], milestones=[warmup]) if warmup else waves
    options = {"polynomial": {"power": 2.0}, "cosine_with_restarts": {"num_cycles": cycles}}
    return get_scheduler(schedule, optimizer, warmup, steps, options.get(schedule))


def learning_rates(
    groups: list[dict], schedule: str, warmup: float, cycles: int, steps: int, cycle_growth: int = 1
) -> pd.DataFrame:
    """The rate of every group at every step, as training has it: a row a step, a column a name of `groups`.

    groups: of `parameter_groups`. warmup: share of the steps. The rest as in `make_schedule`.
    """
    names = [group["name"] for group in groups]
    optimizer = adamw([{"params": [torch.zeros(1, requires_grad=True)], "lr": group["lr"]} for group in groups])
    scheduler = make_schedule(optimizer, schedule, steps, math.ceil(steps * warmup), cycles, cycle_growth)
    rows = []
    for _ in range(steps):
        rows.append(dict(zip(names, (group["lr"] for group in optimizer.param_groups), strict=True)))
        optimizer.step()  # without gradients it does nothing
        scheduler.step()
    return pd.DataFrame(rows, index=pd.RangeIndex(1, steps + 1, name="step"))
