"""Poolings over the tokens of the last layer, and `Pooling`, the parent of all."""

from collections.abc import Sequence

import torch
from torch import nn


class Pooling(nn.Module):
    """Token vectors to one text vector: called with (states, mask), returns (batch, `width`).

    Every pooling is built from (width, layers, pooler). width: of a token vector. layers: of the backbone, used where
    `all_layers`. pooler: of the backbone, needed where `own_pooler`. So `Mean(384)` needs no backbone.
    states: tensors (batch, tokens, width), the last layer last; only `all_layers` reads more than the last.
    mask: (batch, tokens) with 1 for real tokens; padding may be on either side and hold anything, even NaN.
    The result has the dtype of the last layer; sums are in float32. A text without tokens counts as token vectors of
    zeros: the result is zero, or the output of learned biases (pooler, CNN, LSTM, GRU).
    """

    all_layers = False  # whether it reads more than the last layer
    own_pooler = False  # whether it takes the backbone's own pooler
    reads_first = False  # whether it reads the first token, and no other

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__()
        self.width = width


def zero_padding(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Token vectors (batch, tokens, width) with zeros at padding: no NaN comes from there, forward or backward."""
    return hidden.masked_fill((mask == 0).unsqueeze(-1), 0)


def count_tokens(mask: torch.Tensor) -> torch.Tensor:
    """The number of real tokens of each text, (batch, 1), at least 1."""
    return (mask != 0).sum(dim=1, keepdim=True).clamp_min(1)


def is_empty(mask: torch.Tensor) -> torch.Tensor:
    """Which texts have no real token, (batch, 1)."""
    return (mask == 0).all(dim=1, keepdim=True)


def token_at(hidden: torch.Tensor, position: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The token vectors (batch, width) at `position` (batch,), zeros for texts of zero tokens."""
    return hidden[torch.arange(len(hidden), device=hidden.device), position].masked_fill(is_empty(mask), 0)


def first_token(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vector of the first real token, (batch, width)."""
    return token_at(hidden, (mask != 0).long().argmax(dim=1), mask)


def mean_tokens(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over real tokens, (batch, width), in float32."""
    total = zero_padding(hidden, mask).sum(dim=1, dtype=torch.float32)
    return total / count_tokens(mask)


class CLS(Pooling):
    """The vector of the first real token (Devlin et al., 2019)."""

    reads_first = True

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return first_token(states[-1], mask)


class LastToken(Pooling):
    """The vector of the last real token: in a decoder (GPT) the only one that has seen the whole text."""

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        last = mask.shape[1] - 1 - (mask != 0).long().flip(1).argmax(dim=1)
        return token_at(states[-1], last, mask)


class Mask(Pooling):
    """The vectors at the masks of a pattern concatenated (Schick and Schütze, 2021, arXiv 2001.07676): as many times
    the width as there are masks.

    places: of the masks among the real tokens of every text, 0 for the first, -1 for the last, as in `Pattern.masks`.
    A text that is too short for a place uses its last token, or its first one for a place from the end.
    """

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None, places: Sequence[int] = (0,)):
        super().__init__(width * len(places))
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        number = (mask != 0).long().cumsum(dim=1)  # (batch, tokens) of each real token, from 1
        last = number[:, -1:]
        wanted = torch.where(self.places < 0, last + self.places, self.places)  # (batch, masks)
        wanted = torch.minimum(wanted, last - 1).clamp_min(0)
        before = (number.unsqueeze(1) <= wanted.unsqueeze(2)).sum(dim=2)  # (batch, masks) tokens before it
        at = before.clamp_max(mask.shape[1] - 1)  # for a text of zero tokens
        return torch.cat([token_at(states[-1], place, mask) for place in at.unbind(dim=1)], dim=-1)


class OwnPooler(Pooling):
    """The backbone's own pooler over CLS: a linear layer and tanh, pretrained in BERT, new in RoBERTa."""

    own_pooler = reads_first = True

    def __init__(self, width: int, layers: int, pooler: nn.Module):
        super().__init__(width)
        self.pooler = pooler

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return apply_pooler(self.pooler, first_token(states[-1], mask)).to(states[-1].dtype)


def apply_pooler(pooler: nn.Module, first: torch.Tensor) -> torch.Tensor:
    """Apply a pooler of transformers, which reads token 0 of (batch, tokens, width), to CLS vectors (batch, width)."""
    pooled = pooler(first.unsqueeze(1))
    if pooled.dim() == 3:  # ALBERT and BigBird: the pooler is a linear layer, and its tanh is in the model
        pooled = pooled[:, 0].tanh()
    return pooled  # (batch, width)


class Mean(Pooling):
    """The mean over real tokens (Reimers and Gurevych, 2019)."""

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return mean_tokens(states[-1], mask).to(states[-1].dtype)


class Max(Pooling):
    """The largest value of each feature over real tokens (Reimers and Gurevych, 2019)."""

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        lowest = torch.finfo(states[-1].dtype).min
        largest = states[-1].masked_fill((mask == 0).unsqueeze(-1), lowest).amax(dim=1)
        return largest.masked_fill(is_empty(mask), 0)  # (batch, width)


class MeanMax(Pooling):
    """Mean and maximum concatenated (Howard and Ruder, 2018); twice the width."""

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(2 * width)
        self.mean, self.max = Mean(width), Max(width)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.mean(states, mask), self.max(states, mask)], dim=-1)  # (batch, 2 * width)


class Attention(Pooling):
    """A learned weighted mean: linear, norm, GELU, linear, softmax over real tokens (after Yang et al., 2016)."""

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width)
        self.score = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        hidden = zero_padding(states[-1], mask)
        scores = self.score(hidden).squeeze(-1).float()  # (batch, tokens)
        weights = scores.masked_fill(mask == 0, torch.finfo(scores.dtype).min).softmax(dim=1)
        return (hidden * weights.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)  # (batch, width)


class GeM(Pooling):
    """The generalised mean, mean(x ** p) ** (1 / p), of each feature over real tokens, with a learned p that starts at
    3 (Radenović et al., 2018, for images): p = 1 is the mean, a large p the maximum.

    It is defined for positive numbers: values below 1e-6 count as 1e-6, as in winners' code, so the negative half of a
    feature is lost and gets no gradient. p is at least 0.1. Computed from logarithms, so that no power overflows.
    """

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width)
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        p, empty = self.p.float().clamp_min(0.1), is_empty(mask)
        powers = p * zero_padding(states[-1], mask).float().clamp_min(1e-6).log()
        left_out = (mask == 0) & ~empty  # a row of nothing but -inf would have NaN as its gradient
        total = powers.masked_fill(left_out.unsqueeze(-1), -torch.inf).logsumexp(dim=1)
        pooled = ((total - count_tokens(mask).log()) / p).exp()  # (batch, width)
        return pooled.masked_fill(empty, 0).to(states[-1].dtype)
