"""Adapters (LoRA; Hu et al., 2021, arXiv 2106.09685): a linear layer of a frozen backbone learns B A, of rank r.

The library `peft` (0.21.2) was weighed, and left out. It wraps modules, which renames every weight, so that a backbone
of another place no longer fits; it draws one dropout for each linear layer, where query, key and value could share one,
and under autocast its layers cast frozen weights in every pass: its step takes 1.8 times as long on a CPU (see
`lora_layers`). It saves neither the number of labels nor, in many ways to call it, the head. And a kernel without
internet would need one more wheel. Here a layer keeps its place, its name and its weights; two parameters stand beside
them, `lora_a` (r, in) and `lora_b` (out, r), which every trick, optimizer group and average finds as any others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from kagglekit.decoders.lora_options import ADAPTED, ALL, LoraOptions, check_quantised, find_parts
from kagglekit.options import check_range

State = dict[str, torch.Tensor]
SERIALS = count(1)


class Adapted(nn.Module):
    """What a linear layer becomes: `Adapted.of(nn.Linear)` is a subclass, so that all that looks for linear layers
    finds it. lora_scale: alpha / r. lora_dropout: of its input, on the way to the adapter."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_scale: float
    lora_dropout: float

    @staticmethod
    @cache
    def of(kind: type) -> type:
        """The class of adapted layers of a class of linear layers."""
        return type(f"Adapted{kind.__name__}", (Adapted, kind), {"plain": kind})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.linear(F.dropout(x, self.lora_dropout, self.training), self.lora_a)  # (..., r)
        return self.frozen(x) + F.linear(inner * self.lora_scale, self.lora_b)

    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        """The layer without its adapter."""
        plain = type(self).plain
        if plain is nn.Linear and self.weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            return F.linear(x, self.weight.to(x.dtype), self.bias)  # kept in 16 bits, which hold its numbers
        return plain.forward(self, x)

    def delta(self) -> torch.Tensor:
        """What the adapter adds to the weight, in its shape, float32."""
        delta = self.lora_b.float() @ self.lora_a.float() * self.lora_scale
        return delta.t() if issubclass(type(self).plain, Conv1D) else delta


def find_linears(backbone: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a backbone by name; also those of a backbone in 4 bits, and of GPT-2."""
    return {name: one for name, one in backbone.named_modules() if isinstance(one, (nn.Linear, Conv1D))}


def choose_layers(backbone: nn.Module, options: LoraOptions) -> dict[str, nn.Module]:
    """The linear layers that get an adapter. Raises ValueError for a name of none."""
    linears = find_linears(backbone)
    if options.targets == ALL:
        return linears
    return {name: linears[name] for name in find_parts(list(linears), options.targets, "targets", "linear layers")}


def check_layers(backbone: nn.Module, options: LoraOptions) -> None:
    """Raise ValueError for names of no part of a backbone, or a rank above the size of a layer."""
    for name, linear in choose_layers(backbone, options).items():
        size = min(linear.weight.shape) if linear.weight.is_floating_point() else options.r
        check_range("lora: r", options.r, options.r <= size, f"at most {size}, the smaller side of {name}")
    if options.whole:
        find_parts([name for name, _ in backbone.named_modules() if name], options.whole, "whole", "parts")


def check_tuning(tuning: str, lora: dict, config: PreTrainedConfig) -> None:
    """Raise ValueError where the layers of a backbone of this configuration do not fit the options, which takes some
    seconds; and for qlora where this machine cannot train it."""
    if tuning == "qlora":
        check_quantised()
    if tuning in ADAPTED and lora:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        check_layers(model, LoraOptions(**lora))


def add_adapters(backbone: nn.Module, options: Mapping, without: Iterable[nn.Module] = ()) -> None:
    """Freeze a backbone and give linear layers adapters: `lora_a` is drawn from torch's global generator, `lora_b` is
    0, so that the outputs stay what they were.

    options: those of `LoraOptions`. without: parts of the backbone that get none.
    Raises ValueError as `choose_layers` does.
    """
    options = LoraOptions(**options)
    chosen = choose_layers(backbone, options)
    backbone.requires_grad_(False)
    left_out = {id(one) for part in without for one in part.modules()}
    for linear in chosen.values():
        if id(linear) not in left_out:
            _adapt(linear, options)
    parts = dict(backbone.named_modules())
    for name in find_parts(list(parts), options.whole, "whole", "parts") if options.whole else ():
        parts[name].requires_grad_(True)


def _adapt(linear: nn.Module, options: LoraOptions) -> None:
    gpt2 = isinstance(linear, Conv1D)
    into, out = (linear.nx, linear.nf) if gpt2 else (linear.in_features, linear.out_features)
    device = linear.weight.device
    linear.lora_a = nn.Parameter(torch.empty(options.r, into, device=device))
    linear.lora_b = nn.Parameter(torch.zeros(out, options.r, device=device))
    nn.init.kaiming_uniform_(linear.lora_a, a=5**0.5)
    linear.lora_scale, linear.lora_dropout = options.alpha / options.r, options.dropout
    linear.__class__ = Adapted.of(type(linear))


def adapters_of(model: nn.Module) -> dict[str, Adapted]:
    """The layers with adapters, by name; none for a model without."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Adapted)}


def stands_apart(model: nn.Module) -> bool:
    """Whether a model has a frozen backbone that is not saved with it, such as one under adapters."""
    return getattr(model, "base", None) is not None or bool(adapters_of(model))


def narrow_frozen(backbone: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of adapted layers in 16 bits where that changes no number: half the memory, and nothing
    to cast in a pass. dtype: of autocast; bfloat16, in which decoders are published, is tried too."""
    for linear in adapters_of(backbone).values():
        for kind in dict.fromkeys([dtype, torch.bfloat16]):
            weight = linear.weight
            if (
                weight.dtype == torch.float32
                and not weight.requires_grad
                and torch.equal(weight.to(kind).float(), weight)
            ):
                weight.data = weight.data.to(kind)


def merge_adapters(backbone: nn.Module) -> nn.Module:
    """Add the adapters to the weights, in float32, and make the layers plain again: outputs are equal to rounding."""
    for linear in adapters_of(backbone).values():
        merged = _merged(linear)
        linear.__class__ = type(linear).plain
        linear.weight = merged
        for name in ("lora_a", "lora_b"):
            del linear._parameters[name]
        del linear.lora_scale, linear.lora_dropout
    return backbone


@contextmanager
def merged(backbone: nn.Module) -> Iterator[None]:
    """While the block runs, adapters are part of the weights, which saves two products a layer; for predictions.

    Costs a copy of the weights. Those that are kept in 16 bits stay as they are, with their adapters beside them: the
    sum would be rounded, which moves logits.
    """
    layers = [one for one in adapters_of(backbone).values() if one.weight.dtype == torch.float32]
    kept = [(one, one.weight, type(one)) for one in layers]
    try:
        for one in layers:
            one.weight, one.__class__ = _merged(one), type(one).plain
        yield
    finally:
        for one, weight, kind in kept:
            one.weight, one.__class__ = weight, kind


@torch.inference_mode(False)
@torch.no_grad()
def _merged(linear: Adapted) -> nn.Parameter:
    if not linear.weight.is_floating_point():
        raise ValueError("adapters on a backbone of 4 bits are not merged: its weights cannot hold the sum")
    weight = nn.Parameter(linear.weight.float() + linear.delta(), requires_grad=False)
    weight.serial = next(SERIALS)  # a later one may have the same address: who keeps what it made of one looks at this
    return weight


def begin_adapters(backbone: nn.Module, state: State, scale: float) -> None:
    """Let adapters, and parts that are trained whole, begin as in `state`, of a backbone with the same layers adapted.

    scale: its alpha / r. Of a higher rank than ours, the nearest of our rank is taken. Raises ValueError for another
    choice of layers or parts.
    """
    ours, rest = adapters_of(backbone), dict(state)
    for name, layer in ours.items():
        pair = [rest.pop(f"{name}.lora_{one}", None) for one in "ab"]
        if pair[0] is None:
            raise ValueError(f"lora: the model to start from has no adapter at {name}: name the same targets")
        a, b = factor(*pair, len(layer.lora_a))
        layer.lora_a.data.copy_(a)
        layer.lora_b.data.copy_(b * (scale / layer.lora_scale))
    parts = {name: part for name, part in backbone.named_parameters() if part.requires_grad}
    for name, x in rest.items():
        if name not in parts:
            raise ValueError(
                f"lora: the model to start from has trained {name}, and here it stays as it is: set lora alike"
            )
        parts[name].data.copy_(x)


def only_adapters(state: State) -> State:
    """The factors of adapters in the state of a model."""
    return {name: x for name, x in state.items() if name.endswith((".lora_a", ".lora_b"))}


def set_adapters(backbone: nn.Module, state: State) -> None:
    """Give adapters the factors of `state`, of any rank, with their alpha / r."""
    for name, layer in adapters_of(backbone).items():
        layer.lora_a, layer.lora_b = (nn.Parameter(state[f"{name}.lora_{one}"]) for one in "ab")


def average_adapters(states: Sequence[State], weights: Sequence[float] | None = None, rank: int | None = None) -> State:
    """The mean of what adapters add, B A, again as factors; means of A and of B would be another model.

    states: of models whose adapters have the same alpha / r; other tensors in them are left out. rank: None for the sum
    of the ranks, with which the mean is exact; else of the nearest adapter of that rank (Eckart and Young, 1936).
    """
    counted = list(zip(states, weights or [1.0] * len(states), strict=True))
    states = [state for state, weight in counted if weight]
    shares = [weight / sum(weight for _, weight in counted) for _, weight in counted if weight]
    mean: State = {}
    for name in (key.removesuffix("lora_a") for key in states[0] if key.endswith(".lora_a")):
        a = torch.cat([state[f"{name}lora_a"] for state in states])  # (ranks, in)
        b = torch.cat([state[f"{name}lora_b"] * share for state, share in zip(states, shares, strict=True)], dim=1)
        a, b = (a, b) if rank is None else factor(a, b, rank)
        mean |= {f"{name}lora_a": a.contiguous(), f"{name}lora_b": b.contiguous()}
    return mean


def factor(a: torch.Tensor, b: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of rank `rank` whose product is nearest to b a; a smaller one is filled up, so that it stays equal.

    a: (k, in), b: (out, k) -> (rank, in), (out, rank). The singular value decomposition is of a k by k matrix.
    """
    if rank >= len(a):
        more = rank - len(a)
        fresh = torch.empty(more, a.shape[1], dtype=a.dtype, device=a.device)
        if more:
            nn.init.kaiming_uniform_(fresh, a=5**0.5)
        return torch.cat([a, fresh]), F.pad(b, (0, more))
    (left, upper), (right, lower) = torch.linalg.qr(b.double()), torch.linalg.qr(a.double().t())
    u, values, v = torch.linalg.svd(upper @ lower.t())
    roots = values[:rank].sqrt()
    return ((right @ v[:rank].t()) * roots).t().to(a.dtype), ((left @ u[:, :rank]) * roots).to(b.dtype)
