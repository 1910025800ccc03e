"""Linear layers of one input as one product in bfloat16, with the thin matrices of their adapters and one dropout."""

import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.decoders.lora import Adapted


class Product:
    """Linear layers of the same input as one product (tokens, in) bfloat16 -> (tokens, the sum of out), with their
    adapters. Frozen weights are kept in bfloat16, those of several layers in one block that each has its rows of; where
    bfloat16 cannot hold the numbers of a file, as a copy beside them."""

    def __init__(self, part: nn.Module, *names: str):
        self.part, self.names, self.seen, self.made = part, names, None, (None, None)

    @property
    def linears(self) -> list[nn.Linear]:
        return [getattr(self.part, name) for name in self.names]

    def fits(self) -> bool:
        """Whether the layers are linear ones, whose weights are frozen, and which nothing has changed."""
        plain = all(type(linear) in (nn.Linear, Adapted.of(nn.Linear)) for linear in self.linears)
        return plain and not any(
            "forward" in vars(one) or one._forward_hooks or one._forward_pre_hooks or one.weight.requires_grad
            or (one.bias is not None and one.bias.requires_grad)
            for one in self.linears
        )  # fmt: skip

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        linears, (weight, bias) = self.linears, self.frozen()
        places, factors, at = [], [], 0
        for linear in linears:
            if isinstance(linear, Adapted):
                places.append((at, at + linear.out_features, linear.lora_scale))
                factors += [linear.lora_a, linear.lora_b]
            at += linear.out_features
        if not places:
            return F.linear(x, weight, bias)
        adapted = [linear for linear in linears if isinstance(linear, Adapted)]
        dropout = adapted[0].lora_dropout if adapted[0].training else 0.0
        return _Adapters.apply(x, weight, bias, places, dropout, *factors)

    def frozen(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights of all layers (sum of out, in) and their biases in bfloat16."""
        if self._state() != self.seen:
            self.made = self._make()
            self.seen = self._state()
        return self.made

    def _state(self) -> list[tuple]:
        weights = [linear.weight for linear in self.linears]
        return [(x.data_ptr(), x._version, x.dtype, getattr(x, "serial", 0)) for x in weights]

    @torch.inference_mode(False)  # they are kept
    def _make(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        weight = torch.cat([linear.weight.detach().bfloat16() for linear in self.linears])
        biases = [linear.bias for linear in self.linears]
        bias = None if biases[0] is None else torch.cat([one.detach().bfloat16() for one in biases])
        for linear, rows in zip(self.linears, weight.split([x.out_features for x in self.linears]), strict=True):
            if isinstance(linear, Adapted) and torch.equal(rows.float(), linear.weight.float()):
                linear.weight.data = rows  # the same numbers in half the memory
        return weight, bias


class _Adapters(torch.autograd.Function):
    """x W' + bias, and for each adapter dropout(x) A' B' times its scale, in the columns of its layer."""

    @staticmethod
    def forward(ctx, x, weight, bias, places, dropout, *factors):
        out = F.linear(x, weight, bias)
        below = torch.cat([a.bfloat16() for a in factors[::2]])  # (ranks, in)
        dropped, kept = draw_dropout(x, dropout)
        inner = dropped @ below.t()  # (tokens, ranks)
        above, at = [], 0
        for (first, last, scale), b in zip(places, factors[1::2], strict=True):
            above.append((b * scale).bfloat16())  # (out, rank)
            rank = b.shape[1]
            out[:, first:last].addmm_(inner[:, at : at + rank], above[-1].t())
            at += rank
        ctx.places, ctx.dropout = places, dropout
        ctx.save_for_backward(weight, below, dropped, kept, inner, *above)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        weight, below, dropped, kept, inner, *above = ctx.saved_tensors
        to_inner, grads, at = torch.empty_like(inner), [], 0
        for (first, last, scale), b in zip(ctx.places, above, strict=True):
            mine, columns = gradient[:, first:last], slice(at, at + b.shape[1])
            to_inner[:, columns] = mine @ b
            grads.append((mine.t() @ inner[:, columns]).float().mul_(scale))
            at += b.shape[1]
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ weight
            if kept is None:
                to_x.addmm_(to_inner, below)
            else:
                to_x.add_(undo_dropout(to_inner @ below, kept, ctx.dropout))
        to_below = (to_inner.t() @ dropped).float().split([b.shape[1] for b in above])
        pairs = [one for pair in zip(to_below, grads, strict=True) for one in pair]
        return to_x, None, None, None, None, *pairs


def draw_dropout(x: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Dropout: the values that are kept, scaled, and where; drawn as bytes, a sixth of the time of torch's own.

    The share is rounded to a multiple of 1/256, and not to 0.
    """
    if not share:
        return x, None
    below, n = _threshold(share), x.numel()
    drawn = torch.empty(-(-n // 8), dtype=torch.int64, device=x.device).random_(-(2**63), 2**63 - 1)
    kept = drawn.view(torch.uint8)[:n].view(x.shape) >= below
    return undo_dropout(x, kept, share), kept


def undo_dropout(x: torch.Tensor, kept: torch.Tensor, share: float) -> torch.Tensor:
    """The values that were kept, scaled: of inputs and of gradients alike."""
    return torch.where(kept, x, 0).mul_(256 / (256 - _threshold(share)))


def _threshold(share: float) -> int:
    return min(255, max(1, round(256 * share)))
