"""Poolings with a new network over the tokens of the last layer: LSTM, GRU and a small transformer, then the mean.

They have many fresh weights, and may want a learning rate of their own: `head_learning_rate`. By `chunk_pooling` they
read the vectors of the chunks of a long text (Pappagari et al., 2019, arXiv 1910.10781). A text without tokens counts
as one token vector of zeros.
"""

import torch
from torch import nn

from kagglekit.model.pooling.over_tokens import Pooling, count_tokens, is_empty, mean_tokens, zero_padding

HEAD_WIDTH = 64  # of the heads of attention, as in BERT


def real_tokens(states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The token vectors of the last layer (batch, tokens, width) with zeros at padding, and which are real (batch,
    tokens) bool: of a text without any the first one is."""
    real = mask != 0
    real = torch.cat([real[:, :1] | is_empty(mask), real[:, 1:]], dim=1)
    return zero_padding(states[-1], mask), real


class LSTM(Pooling):
    """The mean over real tokens of an LSTM's states in both directions, each of half the width (Hochreiter and
    Schmidhuber, 1997; over a text as Conneau et al., 2017, arXiv 1705.02364).

    Each direction has a network of its own, which reads the real tokens alone, wherever padding stands. It computes in
    the dtype of its weights, float32 in training: some machines lack half-precision LSTMs.
    """

    kind: type[nn.RNNBase] = nn.LSTM

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width // 2 * 2)
        self.onward, self.back = (self.kind(width, width // 2, batch_first=True) for _ in range(2))

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        hidden, real = real_tokens(states, mask)
        first = (~real).long().argsort(dim=1, stable=True)  # (batch, tokens) real tokens in order, and then padding
        place = torch.arange(real.shape[1], device=real.device)
        count = count_tokens(real)  # (batch, 1)
        last = first.gather(1, torch.where(place < count, count - 1 - place, place))  # real tokens from the last one
        found = []
        with torch.autocast(hidden.device.type, enabled=False):
            for network, order in ((self.onward, first), (self.back, last)):
                tokens = hidden.gather(1, order.unsqueeze(-1).expand_as(hidden)).to(network.weight_ih_l0.dtype)
                found.append(mean_tokens(network(tokens)[0], place < count))  # (batch, width // 2)
        return torch.cat(found, dim=-1).to(states[-1].dtype)  # (batch, 2 * (width // 2))


class GRU(LSTM):
    """As LSTM, with a GRU (Cho et al., 2014), which has a quarter fewer weights."""

    kind = nn.GRU


class Transformer(Pooling):
    """The mean over real tokens after one more transformer layer of the same width, with norms in front (Vaswani et
    al., 2017; Xiong et al., 2020, arXiv 2002.04745).

    What it adds is zero at first: it starts as the mean of the backbone's own states. Positions are in these already.
    """

    depth = 1

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width)
        heads = next(n for n in range(max(1, width // HEAD_WIDTH), 0, -1) if width % n == 0)
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, **options) for _ in range(self.depth)
        )
        for layer in self.layers:
            for last in (layer.self_attn.out_proj, layer.linear2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        hidden, real = real_tokens(states, mask)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~real)
        return mean_tokens(hidden, real).to(states[-1].dtype)  # (batch, width)


class Transformer2(Transformer):
    """As Transformer, with two layers."""

    depth = 2
