"""Learning-rate finder: the rate grows during a short trial until training diverges (Smith, 2017, arXiv 1506.01186)."""

import math
from collections.abc import Callable
from itertools import chain, count

import numpy as np
import pandas as pd
import torch

from kagglekit.data.batches import Examples, training_batches
from kagglekit.device import autocast
from kagglekit.training.learning_rates import adamw
from kagglekit.tricks.weights import changeable, restored


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
    """Loss while the rate grows from `lowest` to `highest` by equal factors in `steps` steps, all undone afterwards.

    groups: as of `parameter_groups`; the fastest group of the backbone has the rate of the table, and the others keep
    their ratio to it. The trial ends early when the smoothed loss is four times its minimum, or not a number. No tricks
    are applied. Weights, mode and random state are restored, and no gradients are left. Costs the time of `steps`
    steps and one copy of the weights.

    Returns one row a step: learning_rate, loss, and smoothed, its moving average.
    """
    device, training = next(model.parameters()).device, model.training
    top = max([g["lr"] for g in groups if g["name"] != "head"] or [g["lr"] for g in groups])
    rates, losses = np.geomspace(lowest, highest, steps), []
    batches = chain.from_iterable(training_batches(examples.tokens.lengths, batch_size, seed, n) for n in count())
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    with restored(changeable(model)), torch.random.fork_rng():
        try:
            model.train()
            optimizer = adamw([{**group} for group in groups])
            for rate, rows in zip(rates, batches, strict=False):
                for group, given in zip(optimizer.param_groups, groups, strict=True):
                    group["lr"] = rate * given["lr"] / top
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
