"""What training minimises for each kind of task. Losses are batch means."""

import torch
from torch.nn import functional as F

from kagglekit.metrics import CLASSES


def default_loss(kind: str):
    """The loss of a kind of task: f(logits (batch, outputs), labels) -> scalar.

    Cross entropy for binary and multiclass (labels (batch,) class numbers), binary cross entropy for multilabel, and
    squared error for regression and ordinal (labels (batch, outputs) or, for ordinal, (batch,) class numbers).
    """
    if kind in CLASSES:
        return F.cross_entropy
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits
    return squared_error


def squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error; labels (batch,) count as one target."""
    return F.mse_loss(logits, labels.reshape(logits.shape).to(logits.dtype))
