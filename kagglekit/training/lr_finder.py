"""A learning rate from a short trial in which the rate grows until training breaks (Smith, 2017, arXiv 1506.01186)."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch

from kagglekit.data.batches import Examples, training_batches
from kagglekit.device import autocast
from kagglekit.training.optim import adamw
from kagglekit.tricks.weights import restored


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
    """Train for `steps` steps while the rate grows from `lowest` to `highest` by equal factors, and undo it all.

    groups: of `parameter_groups`; the rate is that of the backbone's fastest group, and all others keep their ratio to
    it. The trial ends early when the smoothed loss is four times its minimum, or not a number. Without tricks: their
    losses cannot be compared. Afterwards weights, mode and random state are what they were, and no gradients are left.
    Costs the time of `steps` steps, and one copy of the weights.

    Returns a row a step: learning_rate, loss, and smoothed, its moving average.
    """
    device, training = next(model.parameters()).device, model.training
    top = max([g["lr"] for g in groups if g["name"] != "head"] or [g["lr"] for g in groups])
    rates, rows = np.geomspace(lowest, highest, steps), []
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    with restored(model.parameters()), torch.random.fork_rng():
        try:
            model.train()
            optimizer = adamw([{**group} for group in groups])
            for rate, batch in zip(rates, _batches(examples, batch_size, seed), strict=False):
                for group, given in zip(optimizer.param_groups, groups, strict=True):
                    group["lr"] = rate * given["lr"] / top
                batch = {name: tensor.to(device) for name, tensor in batch.items()}
                labels = batch.pop("labels")
                with autocast(device, precision):
                    value = loss(model(**batch)["logits"], labels)
                rows.append(value.item())
                if not _still_learns(rows):
                    break
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        finally:
            model.zero_grad()
            model.train(training)
    return pd.DataFrame({"learning_rate": rates[: len(rows)], "loss": rows, "smoothed": smooth(rows)})


def smooth(values: list[float], memory: float = 0.9) -> np.ndarray:
    """The exponential moving average of `values`, without a bias to zero at its start."""
    return pd.Series(values, dtype=np.float64).ewm(alpha=1 - memory).mean().to_numpy()


def suggest_rate(table: pd.DataFrame) -> float:
    """A tenth of the rate at which the smoothed loss of `find_learning_rate` is lowest, to two digits."""
    return float(f"{table['learning_rate'][table['smoothed'].idxmin()] / 10:.1e}")


def _batches(examples: Examples, batch_size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    epoch = 0
    while True:
        for rows in training_batches(examples.tokens.lengths, batch_size, seed, epoch):
            yield examples.__getitems__(rows.tolist())
        epoch += 1


def _still_learns(losses: list[float]) -> bool:
    smoothed = smooth(losses)
    return math.isfinite(losses[-1]) and smoothed[-1] < 4 * smoothed.min()
