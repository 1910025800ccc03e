"""Heads turn the text vector into logits; output layers turn logits into predictions, and labels into a loss's targets.

`HEADS`: one linear layer for all targets, or one of three multi-task heads. A head is built from (width, hidden,
sizes) and called with (vector, sequence, mask, drop). vector: (batch, width), the pooled text joined with the features.
sequence: (batch, tokens or chunks, hidden) with mask (batch, tokens or chunks), the states of the last layer or the
vectors of chunks. drop: the dropout before the last layer. sizes: logits of each target. Returns (batch, sum of sizes),
target after target.

`OUTPUT_LAYERS`, named by a loss (each is the inverse link of a generalised linear model):

    softmax      one distribution over the classes
    sigmoid      one probability per label
    identity     values; the model learns targets of mean 0 and standard deviation 1
    unit         values between the lowest and the highest of the training rows; the model learns the share of the way
    corn         ordered classes: P(label > k) is a product, each factor given that label > k - 1
                 (Shi, Cao and Raschka, 2021, arXiv 2111.08851)
    cumulative   ordered classes: P(label > k), each level by itself (Frank and Hall, 2001; Cheng et al., 2008,
                 arXiv 0704.1028). P(label > k) need not fall with k: the expected class is right without it
    expectation  one distribution over ordered classes, read as the expected class
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.model.pooling.over_tokens import zero_padding

Drop = Callable[[torch.Tensor], torch.Tensor]
UNLIKELY = 20.0  # by how much the logit of a class is lower in training that a row cannot have: its odds are e^-20


def undecided(linear: nn.Linear) -> nn.Linear:
    """Initialise a last layer so that logits are nearly equal at first, as transformers' own heads do."""
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


class Linear(nn.Linear):
    """One linear layer from the text vector to all targets."""

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__(width, sum(sizes))
        undecided(self)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        return super().forward(drop(vector))


class Separate(nn.Module):
    """A separate head for each target over one shared encoder (Caruana, 1997): a hidden layer, then a linear one."""

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__()
        self.dense = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.GELU()) for _ in sizes)
        self.out = nn.ModuleList(undecided(nn.Linear(hidden, size)) for size in sizes)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        return torch.cat([out(drop(dense(vector))) for dense, out in zip(self.dense, self.out, strict=True)], dim=-1)


class Queries(nn.Module):
    """Attention over the tokens with a learned query for each target, joined with the text vector (Zheng et al., 2018,
    arXiv 1804.08139; Vaswani et al., 2017, for the form).

    Weights are a softmax of query * state / sqrt(hidden); queries start at zero, which gives the mean. A text without
    tokens gives zeros.
    """

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(len(sizes), hidden))
        self.out = nn.ModuleList(undecided(nn.Linear(hidden + width, size)) for size in sizes)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        sequence = zero_padding(sequence, mask)
        scores = (self.query @ sequence.transpose(1, 2)).float() / sequence.shape[-1] ** 0.5  # (batch, targets, tokens)
        weights = scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min).softmax(dim=-1)
        answers = weights.to(sequence.dtype) @ sequence  # (batch, targets, hidden)
        read = (out(drop(torch.cat([answers[:, k], vector], dim=-1))) for k, out in enumerate(self.out))
        return torch.cat(list(read), dim=-1)


class Flat(nn.Module):
    """One label space for all targets: the text vector plus an embedding of the target, then one shared head.

    The logits of a target are its block of the shared linear layer.
    """

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        self.target = nn.Embedding(len(self.sizes), width)
        nn.init.normal_(self.target.weight, std=0.02)
        self.dense = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.out = undecided(nn.Linear(hidden, sum(self.sizes)))

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        marked = vector.unsqueeze(1) + self.target.weight  # (batch, targets, width)
        blocks = self.out(drop(self.dense(marked))).split(self.sizes, dim=-1)
        return torch.cat([block[:, k] for k, block in enumerate(blocks)], dim=-1)


class Options(nn.Linear):
    """One score an option, from its vector alone: sequence is then (batch, options, hidden), mask (batch, options); a
    softmax over the scores of a row chooses among the candidate answers that it has."""

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__(hidden, 1)
        undecided(self)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        scores = super().forward(drop(sequence)).squeeze(-1)  # (batch, options)
        return mask_classes(scores, mask, UNLIKELY if self.training else None)


def mask_classes(logits: torch.Tensor, allowed: torch.Tensor, less: float | None = None) -> torch.Tensor:
    """Logits (batch, outputs) without the classes that are not allowed (batch, classes): the lowest number, whose
    probability is 0; or `less` of a logit, which any loss can take. Those of auxiliary targets stay."""
    own, others = logits[:, : allowed.shape[1]], logits[:, allowed.shape[1] :]
    lowest = torch.finfo(logits.dtype).min if less is None else own - less
    return torch.cat([torch.where(allowed > 0, own, lowest), others], dim=1)


HEADS = {"linear": Linear, "separate": Separate, "queries": Queries, "flat": Flat}


@dataclass(frozen=True)
class OutputLayer:
    """encode(labels, columns) -> (targets, center, scale); decode(logits, center, scale) -> predictions, float32.

    labels: of the training rows, int64 (n,) class numbers or float32 (n, labels). columns: number of classes or labels.
    targets: for the loss. center, scale: float32 (outputs,), whose length is the number of outputs that the model
    needs; 0 and 1 except where they are fitted to the training rows.
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


OUTPUT_LAYERS = {
    "softmax": OutputLayer(_keep, lambda logits, center, scale: logits.float().softmax(dim=-1)),
    "sigmoid": OutputLayer(_keep, lambda logits, center, scale: logits.float().sigmoid()),
    "identity": OutputLayer(_standardise, lambda logits, center, scale: logits.float() * scale + center),
    "unit": OutputLayer(_stretch, lambda logits, center, scale: logits.float().sigmoid() * scale + center),
    "corn": OutputLayer(_levels, lambda logits, *_: _expected_level(F.logsigmoid(logits.float()).cumsum(dim=-1).exp())),
    "cumulative": OutputLayer(_levels, lambda logits, *_: _expected_level(logits.float().sigmoid())),
    "expectation": OutputLayer(_keep, lambda logits, center, scale: _expected_class(logits.float().softmax(dim=-1))),
}
