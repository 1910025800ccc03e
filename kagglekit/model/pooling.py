"""Many token vectors to one text vector. Each is called with (hidden, mask) and has the width of its result.

hidden: (batch, tokens, width), mask: (batch, tokens) with 1 for real tokens; padding may stand on either side.
"""

import torch
from torch import nn


class CLS(nn.Module):
    """The vector of the first real token (Devlin et al., 2019)."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first = mask.long().argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first]  # (batch, width)


class Mean(nn.Module):
    """The mean over real tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)  # (batch, width)


class Max(nn.Module):
    """The largest value of each feature over real tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lowest = torch.finfo(hidden.dtype).min
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, lowest).amax(dim=1)  # (batch, width)


class Attention(nn.Module):
    """A learned weighted mean: linear, norm, GELU, linear, softmax over real tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.score = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = self.score(hidden).squeeze(-1).float()  # (batch, tokens)
        weights = scores.masked_fill(mask == 0, torch.finfo(scores.dtype).min).softmax(dim=1)
        return (hidden * weights.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)  # (batch, width)


POOLINGS = {"cls": CLS, "mean": Mean, "max": Max, "attention": Attention}
