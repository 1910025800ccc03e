"""Poolings over the layers of a backbone: lower layers hold more of words and syntax, upper ones more of the task.

`states` are the embeddings' output, which is never read, and the output of every layer. All but WeightedLayers read the
CLS of a layer, its first real token. A backbone with fewer layers than a pooling reads gives all that it has. They cost
memory in prediction: the states of all layers are kept.
"""

import torch
from torch import nn

from kagglekit.model.pooling.over_tokens import Pooling, apply_pooler, first_token, mean_tokens


class WeightedLayers(Pooling):
    """The mean over real tokens of a learned weighted mean over all layers (ELMo: Peters et al., 2018).

    Weights are a softmax of one learned number per layer, zero at first: it starts as the plain mean of all layers. A
    mean over tokens is linear, so it is taken first, layer by layer, which costs a small part of the memory.
    """

    all_layers = True

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width)
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        chosen = (state[:, : mask.shape[1]] for state in states[-len(self.weights) :])  # BigBird pads on: [:, :tokens]
        means = [mean_tokens(state, mask) for state in chosen]
        weights = self.weights.float().softmax(dim=0)
        return (torch.stack(means, dim=-1) * weights).sum(dim=-1).to(states[-1].dtype)  # (batch, width)


class LayersCLS(Pooling):
    """The parent of poolings that read the CLS of the `top` uppermost layers (None: all), from low to high."""

    all_layers = reads_first = True
    top: int | None = None

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width)
        self.layers = min(layers, self.top or layers)

    def sequence(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        """(batch, layers, width), the last layer last."""
        chosen = [first_token(state, mask) for state in states[-self.layers :]]
        return torch.stack(chosen, dim=1).to(states[-1].dtype)


class AllCLS(LayersCLS):
    """The CLS of all layers concatenated (Sun et al., 2019); `layers` times the width."""

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width, layers)
        self.width = width * self.layers

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return self.sequence(states, mask).flatten(1)  # (batch, layers * width)


class Last4Concat(AllCLS):
    """The CLS of the last four layers concatenated (Devlin et al., 2019; Sun et al., 2019); four times the width."""

    top = 4


class Last4Max(LayersCLS):
    """The largest value of each feature over the CLS of the last four layers (Sun et al., 2019)."""

    top = 4

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        return self.sequence(states, mask).amax(dim=1)  # (batch, width)


class Last4Pooler(LayersCLS):
    """The CLS of the last four layers and the backbone's own pooler's output concatenated (practice); five times the
    width."""

    own_pooler = True
    top = 4

    def __init__(self, width: int, layers: int, pooler: nn.Module):
        super().__init__(width, layers)
        self.pooler, self.width = pooler, width * (self.layers + 1)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        sequence = self.sequence(states, mask)
        pooled = apply_pooler(self.pooler, sequence[:, -1]).to(sequence.dtype)
        return torch.cat([sequence.flatten(1), pooled], dim=-1)  # (batch, (layers + 1) * width)


class AllCLSCNN(LayersCLS):
    """The CLS of all layers through a convolution over three neighbouring layers, ReLU, and the maximum over layers
    (Kim, 2014, over layers in place of words)."""

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width, layers)
        self.cnn = nn.Conv1d(width, width, kernel_size=3, padding=1)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        found = self.cnn(self.sequence(states, mask).transpose(1, 2)).relu()  # (batch, width, layers)
        return found.amax(dim=-1).to(states[-1].dtype)


class AllCLSLSTM(LayersCLS):
    """The CLS of all layers, from low to high, through an LSTM in both directions: its two last states concatenated
    (Hochreiter and Schmidhuber, 1997). Each has half the width."""

    kind: type[nn.RNNBase] = nn.LSTM

    def __init__(self, width: int, layers: int = 1, pooler: nn.Module | None = None):
        super().__init__(width, layers)
        self.rnn = self.kind(width, width // 2, batch_first=True, bidirectional=True)
        self.width = width // 2 * 2

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
        sequence = self.sequence(states, mask)
        with torch.autocast(sequence.device.type, enabled=False):  # cheap, and some machines lack half-precision LSTMs
            last = self.rnn(sequence.to(self.rnn.weight_ih_l0.dtype))[1]
        last = last[0] if isinstance(last, tuple) else last  # an LSTM also returns its cell
        return torch.cat([last[0], last[1]], dim=-1).to(states[-1].dtype)  # (batch, 2 * (width // 2))


class AllCLSGRU(AllCLSLSTM):
    """As AllCLSLSTM, with a GRU (Cho et al., 2014)."""

    kind = nn.GRU
