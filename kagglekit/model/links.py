"""How logits are read: a link turns labels into what a loss is given, and logits into predictions.

`LINKS` has them by name. It is the inverse link of a generalised linear model:

    softmax      one distribution over the classes
    sigmoid      one probability per label
    identity     values; the model learns targets of mean 0 and standard deviation 1
    unit         values between the lowest and the highest of the training rows; the model learns where in between
    corn         levels of ordered classes: P(label > k) is a product, each factor given that label > k - 1
                 (Shi, Cao and Raschka, 2021, arXiv 2111.08851)
    cumulative   levels of ordered classes: P(label > k), each level by itself (Frank and Hall, 2001; Cheng et al.,
                 2008, arXiv 0704.1028). The logits are free: nothing makes P(label > k) fall with k, and the expected
                 class needs no order
    expectation  one distribution over ordered classes, read as the expected class
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Link:
    """encode(labels, columns) -> (targets, center, scale); decode(logits, center, scale) -> predictions, float32.

    labels: of the training rows, int64 (n,) class numbers or float32 (n, labels). columns: how many classes, or labels.
    targets: what a loss is given. center, scale: float32 (outputs,), and their length is the number of outputs that the
    model needs; 0 and 1 unless the link learns from the training rows where the values lie.
    logits: (rows, outputs). predictions: (rows, columns), or (rows, 1) for ordered classes.
    """

    encode: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
    decode: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _keep(labels, columns):
    return labels, np.zeros(columns, np.float32), np.ones(columns, np.float32)


def _standardise(labels, columns):
    values = _values(labels)
    center, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    return (values - center) / scale, center, scale


def _stretch(labels, columns):
    values = _values(labels)
    center, scale = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-6)
    return (values - center) / scale, center, scale


def _levels(labels, columns):
    levels = labels[:, None] > np.arange(columns - 1)  # (n, classes - 1)
    return levels.astype(np.float32), np.zeros(columns - 1, np.float32), np.ones(columns - 1, np.float32)


def _values(labels):
    """Class numbers (n,) are one column of values."""
    return labels.reshape(len(labels), -1).astype(np.float32)


def _expected_class(probs: torch.Tensor) -> torch.Tensor:
    classes = torch.arange(probs.shape[-1], dtype=probs.dtype, device=probs.device)
    return (probs * classes).sum(dim=-1, keepdim=True)  # (rows, 1)


def _expected_level(above: torch.Tensor) -> torch.Tensor:
    """The sum of P(label > k) over k is the expected class number."""
    return above.sum(dim=-1, keepdim=True)  # (rows, 1)


LINKS = {
    "softmax": Link(_keep, lambda logits, center, scale: logits.float().softmax(dim=-1)),
    "sigmoid": Link(_keep, lambda logits, center, scale: logits.float().sigmoid()),
    "identity": Link(_standardise, lambda logits, center, scale: logits.float() * scale + center),
    "unit": Link(_stretch, lambda logits, center, scale: logits.float().sigmoid() * scale + center),
    "corn": Link(_levels, lambda logits, *_: _expected_level(F.logsigmoid(logits.float()).cumsum(dim=-1).exp())),
    "cumulative": Link(_levels, lambda logits, *_: _expected_level(logits.float().sigmoid())),
    "expectation": Link(_keep, lambda logits, center, scale: _expected_class(logits.float().softmax(dim=-1))),
}
