"""Text vectors to logits: one linear layer for all targets, or multi-task heads of three forms.

Each is built from (width, hidden, sizes) and called with (vector, sequence, mask, drop). vector: (batch, width), the
pooled text and what is joined to it; sequence: (batch, tokens or chunks, hidden) with mask (batch, tokens or chunks),
states of the last layer or vectors of chunks; drop: the dropout before the last layer. sizes: logits of each target.
Returns (batch, sum of sizes), target after target.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from kagglekit.model.pooling.tokens import zero_padding

Drop = Callable[[torch.Tensor], torch.Tensor]


def undecided(linear: nn.Linear) -> nn.Linear:
    """A last layer that starts with nearly equal logits, as transformers' own heads do."""
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
    """A head of its own for each target over one shared encoder (Caruana, 1997): a hidden layer, then a linear one."""

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__()
        self.dense = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.GELU()) for _ in sizes)
        self.out = nn.ModuleList(undecided(nn.Linear(hidden, size)) for size in sizes)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        return torch.cat([out(drop(dense(vector))) for dense, out in zip(self.dense, self.out, strict=True)], dim=-1)


class Queries(nn.Module):
    """Each target asks the shared states with a query of its own, and reads the answer beside the text vector (Liu,
    Johns and Davison, 2019, arXiv 1803.10704, for images; Vaswani et al., 2017, for the form).

    The attention over tokens is a softmax of query * state / sqrt(hidden); queries start at zero, which is the mean.
    A text of zero tokens has zeros as its answer.
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
    """All targets in one label space: the text vector plus an embedding of the target, then one shared head.

    Logits of a target are its own block of the shared linear layer, as when each example came with its target's number.
    """

    def __init__(self, width: int, hidden: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        self.target = nn.Embedding(len(self.sizes), width)
        nn.init.normal_(self.target.weight, std=0.02)
        self.dense = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.out = undecided(nn.Linear(hidden, sum(self.sizes)))

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        dressed = vector.unsqueeze(1) + self.target.weight  # (batch, targets, width)
        blocks = self.out(drop(self.dense(dressed))).split(self.sizes, dim=-1)
        return torch.cat([block[:, k] for k, block in enumerate(blocks)], dim=-1)


HEADS = {"linear": Linear, "separate": Separate, "queries": Queries, "flat": Flat}
