"""Decoders in prediction, in little memory: half precision on GPUs, layers split over several, weights of 8 bits.

Of 8 bits: each row of a matrix is whole numbers from -127 to 127 and one scale, the row's largest absolute value over
127, rounded to nearest (the weight-only case of Dettmers et al., 2022, arXiv 2208.07339); a product turns the matrix
back into the numbers of its input first. Embeddings, norms and the head stay as they are. How far logits drift is
measured on golden rows, see `kagglekit.kaggle.golden_rows`. Nothing here has a gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.decoders.memory import choose_gpus

LEAST = 64  # inputs of a matrix: smaller ones are not worth 8 bits
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def place(
    model: nn.Module, find_layers: Callable[[nn.Module], nn.ModuleList], device: torch.device, precision: str
) -> nn.Module:
    """Put a classifier (`backbone`, and the rest around it) on a device, to predict.

    On a CUDA GPU the floating weights of a decoder become those of the precision, and its layers are split over all
    GPUs where the first has too little free memory. find_layers: of a backbone, such as `surgery.find_layers`.
    Raises MemoryError with the figures where all have too little.
    """
    if device.type != "cuda" or not model.causal:
        return model.to(device)
    model.backbone.to(DTYPES[precision])
    needed = sum(x.numel() * x.element_size() for x in model.backbone.state_dict().values()) / 1e9
    free = [torch.cuda.mem_get_info(index)[0] / 1e9 for index in range(torch.cuda.device_count())]
    gpus = [torch.device("cuda", index) for index in choose_gpus(needed, free, device.index or 0)]
    model.to(gpus[0]) if len(gpus) == 1 else spread(model, find_layers(model.backbone), gpus)
    return model


def spread(model: nn.Module, layers: nn.ModuleList, devices: Sequence[torch.device]) -> None:
    """Split the layers of `model.backbone` over devices, evenly and in order. What is before them, and all outside the
    backbone, is on the first device, where its output comes back to; what follows the layers is on the last one.

    Each part moves what it is given to its own device, once where neighbours share it. For prediction: one device works
    at a time.
    """
    first, last = devices[0], devices[-1]
    model.to(first)
    for number, layer in enumerate(layers):
        _follow(layer, devices[number * len(devices) // len(layers)])
    inside, behind = {id(part) for part in layers.modules()}, False
    for part in model.backbone.children():
        behind |= id(part) == id(layers)
        if behind and id(part) not in inside and not isinstance(part, nn.Embedding) and list(part.parameters()):
            _follow(part, last)
    model.backbone.register_forward_hook(lambda module, args, output: _moved(output, first))


def _follow(part: nn.Module, device: torch.device) -> None:
    """Put a module on a device, to which its inputs follow."""
    part.to(device)
    part.register_forward_pre_hook(
        lambda module, args, kwargs: (_moved(args, device), {name: _moved(x, device) for name, x in kwargs.items()}),
        with_kwargs=True,
    )


def _moved(x: Any, device: torch.device) -> Any:
    """Tensors, and those in tuples and outputs of transformers, on a device; anything else as it is."""
    if torch.is_tensor(x):
        return x.to(device)
    if type(x) in (tuple, list):
        return type(x)(_moved(one, device) for one in x)
    if hasattr(x, "last_hidden_state"):
        for name, value in x.items():
            if name in ("last_hidden_state", "hidden_states"):
                x[name] = _moved(value, device)
    return x


class Int8Linear(nn.Module):
    """A linear layer of (out, in) whole numbers with a scale for each output; bias, where there is one, as it was."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127  # (out, 1)
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.squeeze(1))
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        out = F.linear(x.to(dtype), self.weight.to(dtype)) * self.scale.to(dtype)
        return out if self.bias is None else out + self.bias.to(dtype)


@torch.no_grad()
def quantise(backbone: nn.Module) -> int:
    """Give the linear layers of a backbone 8-bit weights, one by one, and return the bytes that this saves.

    Layers of at least 64 inputs. Adapters have to be merged before.
    """
    saved = 0
    for parent in list(backbone.modules()):
        for name, linear in list(parent.named_children()):
            if type(linear) is nn.Linear and linear.in_features >= LEAST:
                saved += linear.weight.numel() * (linear.weight.element_size() - 1) - 4 * linear.out_features
                setattr(parent, name, Int8Linear(linear))
    return saved
