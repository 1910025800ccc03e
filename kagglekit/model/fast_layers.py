"""Encoder layers of BERT and its relatives on a CPU in bfloat16: forward and backward written out.

Autocast casts every weight in every pass and every activation at every product, and leaves an operation for each line
of the model. Here a layer is one function: weights are cast once after they changed, query, key and value are one
product, and oneDNN gets the weights in its own layout where a batch is large enough to pay for that. Sums, norms and
gradients of weights are in float32, products in bfloat16, as with autocast: results differ by rounding. Without AMX,
where products are two thirds of a step, training is 1.03 to 1.1 times as fast, and predictions are 1.2 times.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.activations import GELUActivation

from kagglekit.device import has_amx

LAYERS = ("Bert", "Camembert", "Data2VecText", "Electra", "Ernie", "Roberta", "XLMRoberta")
PACKED = 1024  # tokens of a batch from which the layout of oneDNN pays in a training step
PACKED_BACKWARD = 3072  # the same of the transposed weights, which take three times as long
PACKS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")  # private
WIDE = 768  # width from which training gains nothing: nearly all of a step is products
LOWEST = -3e38  # instead of minus infinity: a row of padding alone has no NaN
DRAWS = 2**15  # numbers that one of dropout can be
SCORES = 1_600_000  # attention scores that are computed at once: more do not fit the cache of a core


def _count_step(optimizer: torch.optim.Optimizer, *_) -> None:
    """Count a step in the versions of the parameters: a fused one changes them without doing so."""
    increment_version([p for group in optimizer.param_groups for p in group["params"]])


register_optimizer_step_post_hook(_count_step)


def quicken(backbone: nn.Module) -> None:
    """Let the layers of `backbone` that are known compute as here, wherever autocast to bfloat16 is on, on a CPU.

    Elsewhere, with other layers, and while a trick replaces the forward of a part of a layer, nothing changes.
    """
    for layer in backbone.modules():
        name = type(layer).__name__
        if name.endswith("Layer") and name.removesuffix("Layer") in LAYERS and _is_plain(layer):
            layer.forward = partial(_forward, layer, _Weights())


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is that of BERT, as an encoder, with an exact GELU."""
    gelu = isinstance(layer.intermediate.intermediate_act_fn, (GELUActivation, nn.GELU))
    exact = gelu and getattr(layer.intermediate.intermediate_act_fn, "act", F.gelu) is F.gelu
    return exact and not layer.is_decoder and not layer.chunk_size_feed_forward


def _forward(layer: nn.Module, weights: "_Weights", hidden: torch.Tensor, attention_mask=None, *args, **kwargs):
    """The forward of a layer: hidden (batch, tokens, width) float32 -> the same. attention_mask: None, or of
    transformers, (batch, 1, tokens, tokens), equal for all queries: True or 0 where a token is read."""
    attention, output, inner = layer.attention, layer.output, layer.intermediate.dense
    linears = (
        *(attention.self.query, attention.self.key, attention.self.value),
        *(attention.output.dense, inner, output.dense),
    )
    norms = attention.output.LayerNorm, output.LayerNorm
    parameters = [p for part in linears + norms for p in (part.weight, part.bias)]
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden, *parameters))
    ours = (
        hidden.device.type == "cpu"
        and hidden.dtype in (torch.float32, torch.bfloat16)  # the second: ELECTRA's narrow embeddings, projected
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not any("forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks for part in linears)
        and all(type(part) is nn.Linear for part in linears)  # not one with an adapter
        and linears[0].weight.dtype == torch.float32
        and not (training and hidden.shape[-1] >= WIDE)
        and not (training and has_amx() and attention.self.config._attn_implementation != "eager")  # chosen for length
    )
    if not ours:
        return type(layer).forward(layer, hidden, attention_mask, *args, **kwargs)
    bias = None
    if attention_mask is not None:
        bias = attention_mask[:, :, :1]  # (batch, 1, 1, tokens)
        if bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=hidden.dtype).masked_fill_(~bias, LOWEST)
        bias = bias.clamp_min(LOWEST) if bias.any() else None
    dropouts = (attention.self.dropout.p, attention.output.dropout.p, output.dropout.p) if layer.training else (0, 0, 0)
    options = attention.self.num_attention_heads, [norm.eps for norm in norms], dropouts, training
    weights.read(linears)
    return _Layer.apply(hidden, bias, weights, options, *parameters)


class _Weights:
    """Matrices of a layer in bfloat16: of query, key and value together, of the attention's output, of the two of the
    feed-forward part. Made again after the parameters changed, each when it is first used; never copied or saved."""

    def __init__(self):
        self.versions, self.linears, self.made = None, (), {}

    def __reduce__(self):
        return type(self), ()

    def read(self, linears: Sequence[nn.Linear]) -> None:
        versions = [
            (p.data_ptr(), p._version, getattr(p, "serial", 0))
            for linear in linears
            for p in (linear.weight, linear.bias)
        ]
        if versions != self.versions:
            self.versions, self.made = versions, {}
            self.linears = [linears[:3], *([linear] for linear in linears[3:])]

    def plain(self, number: int, name: str = "weight") -> torch.Tensor:
        if (number, name) not in self.made:
            self.made[number, name] = self._cast(number, name)
        return self.made[number, name]

    def forward(self, number: int, x: torch.Tensor, training: bool, gelu: str = "none") -> torch.Tensor:
        """x (tokens, in) bfloat16 -> x W' + b (tokens, out), or its GELU."""
        bias = self.plain(number, "bias")
        if not PACKS or (training and len(x) < PACKED):
            out = F.linear(x, self.plain(number), bias)
            return out if gelu == "none" else F.gelu(out)
        if training:  # used once, while the plain ones stay for the backward pass
            packed = _pack(self.plain(number))
        else:
            packed = self.made.get((number, "packed"))
            if packed is None:
                packed = self.made[number, "packed"] = _pack(self._cast(number, "weight"))
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, gelu, [], "none")

    def backward(self, number: int, gradient: torch.Tensor) -> torch.Tensor:
        """gradient (tokens, out) -> gradient W (tokens, in)."""
        weight = self.plain(number)
        if not PACKS or len(gradient) < PACKED_BACKWARD:
            return gradient @ weight
        return torch.ops.mkldnn._linear_pointwise(gradient, _pack(weight.t().contiguous()), None, "none", [], "none")

    def _cast(self, number: int, name: str) -> torch.Tensor:
        parts = [getattr(linear, name).detach().bfloat16() for linear in self.linears[number]]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, 2048)


class _Layer(torch.autograd.Function):
    """A layer of BERT: LN(x + FF(x)) of x = LN(h + attention(h))."""

    @staticmethod
    def forward(ctx, hidden, bias, weights, options, *parameters):
        heads, (first_eps, second_eps), (drop_scores, drop_attention, drop_output), training = options
        first, second = parameters[12:14], parameters[14:16]
        batch, tokens, width = hidden.shape
        h = hidden.reshape(-1, width).float()
        hb = h.bfloat16()
        qkv = weights.forward(0, hb, training).view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = qkv.view(3, batch * heads, tokens, -1).unbind()
        attended, probs, kept = _attend(q, k, v, bias, heads, drop_scores, training)
        merged = attended.view(batch, heads, tokens, -1).transpose(1, 2).reshape(-1, width)
        out, kept_first = _drop(weights.forward(1, merged, training), drop_attention)
        before = h + out.float()  # an addition of two kinds of numbers is slow
        x, mean, scale = torch.native_layer_norm(before, (width,), *first, first_eps)
        xb = x.bfloat16()
        if not training:
            inner = weights.forward(2, xb, training, "gelu")
        else:
            raw = weights.forward(2, xb, training)
            inner = F.gelu(raw)
        out, kept_second = _drop(weights.forward(3, inner, training), drop_output)
        last = x.add_(out.float())
        y, last_mean, last_scale = torch.native_layer_norm(last, (width,), *second, second_eps)
        if training:
            ctx.weights, ctx.made, ctx.options, ctx.dtype = weights, weights.made, options, hidden.dtype
            ctx.save_for_backward(
                *(hb, qkv, probs, merged, before, mean, scale, xb, raw, inner, last, last_mean, last_scale),
                *(kept, kept_first, kept_second, *first, *second),
            )
        return y.view_as(hidden)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        hb, qkv, probs, merged, before, mean, scale, xb, raw, inner, last, last_mean, last_scale, *rest = (
            ctx.saved_tensors
        )
        kept, kept_first, kept_second, *norms = rest
        heads, _, (drop_scores, drop_attention, drop_output), _ = ctx.options
        weights, needed = ctx.weights, ctx.needs_input_grad[4:]
        if ctx.made is not weights.made:
            raise RuntimeError("the weights of a layer changed between its forward and its backward pass")
        shape, width = gradient.shape, gradient.shape[-1]
        batch, tokens = shape[:2]
        grads = [None] * 16

        def linear(number, places, gradient, x):
            """Gradients of the weights and biases of a product, float32."""
            if any(needed[place] for place in places):
                parts = len(places) // 2
                grads[places[0] : places[-1] + 1 : 2] = (gradient.t() @ x).float().chunk(parts)
                grads[places[1] : places[-1] + 1 : 2] = gradient.sum(0).float().chunk(parts)

        def norm(place, gradient, x, mean, scale, weight, bias):
            one, grads[place], grads[place + 1] = torch.ops.aten.native_layer_norm_backward(
                gradient, x, [width], mean, scale, weight, bias, [True, needed[place], needed[place + 1]]
            )
            return one

        g = norm(14, gradient.reshape(-1, width), last, last_mean, last_scale, *norms[2:])
        gb = _undrop(g.bfloat16(), kept_second, drop_output)
        linear(3, (10, 11), gb, inner)
        gi = torch.ops.aten.gelu_backward(weights.backward(3, gb), raw)
        linear(2, (8, 9), gi, xb)
        g = norm(12, g.add_(weights.backward(2, gi).float()), before, mean, scale, *norms[:2])
        gb = _undrop(g.bfloat16(), kept_first, drop_attention)
        linear(1, (6, 7), gb, merged)
        ga = weights.backward(1, gb).view(batch, tokens, heads, -1).transpose(1, 2)
        q, k, v = qkv.view(3, batch * heads, tokens, -1).unbind()
        gqkv = _attend_backward(ga.reshape(batch * heads, tokens, -1), q, k, v, probs, kept, drop_scores)
        gqkv = gqkv.view(3, batch, heads, tokens, -1).permute(1, 3, 0, 2, 4).reshape(batch * tokens, -1)
        linear(0, tuple(range(6)), gqkv, hb)
        below = None
        if ctx.needs_input_grad[0]:
            below = g.add_(weights.backward(0, gqkv).float()).view(shape).to(ctx.dtype)
        return below, None, None, None, *(x if need else None for x, need in zip(grads, needed, strict=True))


def _slices(batch: int, heads: int, tokens: int):
    """Texts whose attention is computed at once, as slices of all heads."""
    step = max(1, SCORES // (heads * tokens * tokens))
    return [(slice(at, at + step), slice(at * heads, (at + step) * heads)) for at in range(0, batch, step)]


def _attend(q, k, v, bias, heads, dropout, keep):
    """Attention of heads (texts * heads, tokens, size) -> the same, the probabilities, and what dropout kept."""
    batch, tokens = len(q) // heads, q.shape[1]
    if has_amx() and not keep and not dropout:
        parts = (x.view(batch, heads, tokens, -1) for x in (q, k, v))
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(*parts, attn_mask=mask).reshape(q.shape), None, None
    out, kept = torch.empty_like(q), []
    probs = q.new_empty(len(q), tokens, tokens) if keep else None
    for texts, part in _slices(batch, heads, tokens):
        scores = q.new_empty(len(q[part]), tokens, tokens)
        torch.baddbmm(scores, q[part], k[part].transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5, out=scores)
        p = probs[part] if keep else torch.empty_like(scores)
        if bias is not None:
            p.copy_((scores.view(-1, heads, tokens, tokens) + bias[texts]).softmax(-1).view_as(scores))  # float32
        elif tokens % 32:
            p.copy_(scores.float().softmax(-1))  # it is slow on a rest of numbers in bfloat16
        else:
            torch.softmax(scores, -1, out=p)
        dropped, mask = _drop(p, dropout)
        torch.bmm(dropped, v[part], out=out[part])
        if dropout:
            kept.append(mask)
    return out, probs, torch.cat(kept) if kept else None


def _attend_backward(g, q, k, v, probs, kept, dropout):
    """Gradients of q, k and v, (3, texts * heads, tokens, size), from that of the output."""
    grads = q.new_empty(3, *q.shape)
    step = max(1, SCORES // probs[0].numel())
    for at in range(0, len(q), step):
        part = slice(at, at + step)
        p, mask = probs[part], None if kept is None else kept[part]
        torch.bmm(_undrop(p, mask, dropout).transpose(1, 2), g[part], out=grads[2, part])
        gp = _undrop(torch.bmm(g[part], v[part].transpose(1, 2)), mask, dropout)
        gs = torch._softmax_backward_data(gp, p, -1, p.dtype)
        size = q.shape[-1] ** -0.5
        torch.baddbmm(grads[0, part], gs, k[part], beta=0, alpha=size, out=grads[0, part])
        torch.baddbmm(grads[1, part], gs.transpose(1, 2), q[part], beta=0, alpha=size, out=grads[1, part])
    return grads


def _drop(x, probability):
    """Dropout of bfloat16: the values, and a mask of bits, all set where one was kept (None: everything).

    Torch's own takes five times as long to draw its random numbers: here one of 63 bits serves four values, so that
    probabilities are multiples of 1 / 32,768.
    """
    if not probability:
        return x, None
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_().view(torch.int16)[: x.numel()].view(x.shape)
    kept = drawn.bitwise_and_(DRAWS - 1).sub_(_dropped(probability)).bitwise_right_shift_(15).bitwise_not_()
    return _undrop(x, kept, probability), kept


def _undrop(x, kept, probability):
    """What dropout makes of values, or of gradients, once it is known which are kept."""
    if kept is None:
        return x
    return x.view(torch.int16).bitwise_and(kept).view(x.dtype).mul_(DRAWS / (DRAWS - _dropped(probability)))


def _dropped(probability):
    """How many of `DRAWS` numbers drop a value."""
    return min(round(probability * DRAWS), DRAWS - 1)
