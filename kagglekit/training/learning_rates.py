"""Optimizer: learning rate and weight decay of each parameter, the schedule over the steps, and a finder of rates."""

import math
from collections.abc import Callable
from itertools import chain, count

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler, SequentialLR
from transformers import get_constant_schedule_with_warmup, get_scheduler

from kagglekit.data.batches import Examples, training_batches
from kagglekit.device import autocast
from kagglekit.tricks.weights import changeable, restored

WEIGHTS_RATE = 1e-2  # of the weights of losses: at a backbone's rate they would stay near 1
HEAD, FEATURES = "head", "features"  # groups outside the backbone
FEATURES_RATE = 3e-3  # of the layer that reads features, which is new: at the rate of a backbone it hardly moves


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    head_learning_rate: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.01,
) -> list[dict]:
    """Parameter groups with layer-wise learning-rate decay (Howard and Ruder, 2018; Sun et al., arXiv 1905.05583).

    The top layer of `model.backbone` gets `learning_rate`, each layer below `layer_decay` times the rate of the one
    above (1: all the same), the embeddings one step less than the lowest layer, and everything outside the backbone
    `head_learning_rate` (None: `learning_rate`, but `model.features` FEATURES_RATE, where that is more). Biases and
    norms, which are vectors, have no weight decay. Layers are the longest ModuleList of the module tree. Every
    trainable parameter is in exactly one group, frozen ones in none.
    """
    layers = max((m for m in model.backbone.modules() if isinstance(m, nn.ModuleList)), key=len, default=[])
    depth_of = {id(p): depth for depth, layer in enumerate(layers, start=1) for p in layer.parameters()}
    in_backbone = {id(p) for p in model.backbone.parameters()}
    features = {id(p) for p in features.parameters()} if (features := getattr(model, "features", None)) else set()
    groups: dict[tuple, dict] = {}
    seen_layers = False
    for parameter in model.parameters():
        seen_layers |= id(parameter) in depth_of
        if not parameter.requires_grad:
            continue
        if id(parameter) not in in_backbone:
            name, rate = HEAD, learning_rate if head_learning_rate is None else head_learning_rate
            if id(parameter) in features and head_learning_rate is None:
                name, rate = FEATURES, max(learning_rate, FEATURES_RATE)
        else:  # what comes after the layers, such as a last norm, goes with the topmost
            depth = depth_of.get(id(parameter), len(layers) if seen_layers else 0)
            name = f"layer {depth}" if depth else "embeddings"
            rate = learning_rate * layer_decay ** (len(layers) - depth)
        decay = weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((name, decay), {"params": [], "lr": rate, "weight_decay": decay, "name": name})
        group["params"].append(parameter)
    return list(groups.values())


def loss_weights_group(model: nn.Module) -> list[dict]:
    """The weights of losses, if they are learned, with a learning rate of their own."""
    if model.log_variances is None:
        return []
    return [{"params": [model.log_variances], "lr": WEIGHTS_RATE, "weight_decay": 0.0, "name": "loss weights"}]


def suggest_learning_rate(backbone: nn.Module, tuning: str = "full") -> float:
    """A usual learning rate for a backbone: 2e-5 for BERT-base, in inverse proportion to the size of the layers.

    Between 1e-5 (large models) and 2e-4; MiniLM-L6-H384 gets 1.6e-4. tuning: adapters get 1e-3, those of a backbone
    above 0.3 billion parameters 2e-4, above a billion 1e-4, and a head alone 1e-3. A start, not an optimum.
    """
    table = backbone.get_input_embeddings().weight.numel()
    layers = sum(p.numel() for p in backbone.parameters()) - table
    if tuning != "full":
        return 1e-3 if tuning == "head" or layers < 3e8 else 2e-4 if layers < 1e9 else 1e-4
    return float(f"{min(2e-4, max(1e-5, 2e-5 * 86e6 / layers)):.1e}")


def adamw(groups: list[dict]) -> torch.optim.AdamW:
    """AdamW with bias correction, fused into one kernel (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(groups, fused=True)


def group_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate that each group of parameters began with, before any schedule; group of `parameter_groups`."""
    return {group["name"]: group.get("initial_lr", group["lr"]) for group in optimizer.param_groups}


def describe_rates(begun: dict[str, float], usual: dict[str, float]) -> str:
    """In words, that a training goes on at other rates than it would begin with now. Both: group -> rate."""
    name = max((name for name in begun.keys() & usual.keys() if begun[name] != usual[name]), key=begun.get)
    return (
        f"goes on at the learning rates that it began with, {begun[name]:.2g} of {name}; now it would begin at "
        f"{usual[name]:.2g}"
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, schedule: str, steps: int, warmup: int, cycles: int = 1, cycle_growth: int = 1
) -> LRScheduler:
    """Learning-rate schedule: the factor on each group's rate at every step, by a name of SCHEDULES.

    All but "constant" first rise from 0 in `warmup` steps (0: none). Then "constant_with_warmup" stays, "linear" falls
    to 0, "polynomial" as the square of the remaining share, "cosine" as half a cosine wave, and "cosine_with_restarts"
    as `cycles` such waves, each from the top (1 is "cosine"). "cosine_warm_restarts" is the same when `cycle_growth` is
    1; with 2 each wave is twice as long as the one before (SGDR; Loshchilov and Hutter, 2017, arXiv 1608.03983).
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
    """Learning rate of every group at every step, as training has it: one row a step, one column a name of `groups`.

    groups: as of `parameter_groups`. warmup: share of the steps. The rest as for `make_schedule`.
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


def find_learning_rate(
    model: torch.nn.Module,
    groups: list[dict],
    examples: Examples,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batch_size: int,
    precision: str = "fp32",
    lowest: float = 1e-6,
    highest: float = 1e-1,
    steps: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Learning-rate finder (Smith, 2017, arXiv 1506.01186): loss while the rate grows from `lowest` to `highest` by
    equal factors in `steps` steps, all undone afterwards.

    groups: as of `parameter_groups`; the fastest group of the backbone has the rate of the table, and the others keep
    their ratio to it, but features their own rate. The trial ends early when the smoothed loss is four times its
    minimum, or not a number. No tricks are applied. Weights, mode and random state are restored, and no gradients are
    left. Costs the time of `steps` steps and one copy of the weights.

    Returns one row a step: learning_rate, loss, and smoothed, its moving average.
    """
    device, training = next(model.parameters()).device, model.training
    inside = [group["lr"] for group in groups if group["name"] not in (HEAD, FEATURES)]
    top = max(inside or [group["lr"] for group in groups])
    rates, losses = np.geomspace(lowest, highest, steps), []
    batches = chain.from_iterable(training_batches(examples.tokens.lengths, batch_size, seed, n) for n in count())
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    with restored(changeable(model)), torch.random.fork_rng():
        try:
            model.train()
            optimizer = adamw([{**group} for group in groups])
            for rate, rows in zip(rates, batches, strict=False):
                for group, given in zip(optimizer.param_groups, groups, strict=True):
                    group["lr"] = given["lr"] if given["name"] == FEATURES else rate * given["lr"] / top
                batch = {name: tensor.to(device) for name, tensor in examples.__getitems__(rows.tolist()).items()}
                labels = batch.pop("labels")
                with autocast(device, precision):
                    value = loss(model(**batch)["logits"], labels)
                losses.append(value.item())
                smoothed = smooth(losses)
                if not (math.isfinite(losses[-1]) and smoothed[-1] < 4 * smoothed.min()):
                    break
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        finally:
            model.zero_grad()
            model.train(training)
    return pd.DataFrame({"learning_rate": rates[: len(losses)], "loss": losses, "smoothed": smooth(losses)})


def smooth(values: list[float], memory: float = 0.9) -> np.ndarray:
    """Exponential moving average of `values`, without a bias towards zero at the start."""
    return pd.Series(values, dtype=np.float64).ewm(alpha=1 - memory).mean().to_numpy()


def suggest_rate(table: pd.DataFrame) -> float:
    """A tenth of the rate with the lowest smoothed loss in a table of `find_learning_rate`, to two digits."""
    return float(f"{table['learning_rate'][table['smoothed'].idxmin()] / 10:.1e}")
