"""Decoder layers with adapters on a CPU in bfloat16: forward and backward written out, frozen weights cast once.

Autocast casts a frozen weight in every pass, and `peft` draws dropout for each of seven linear layers, though query,
key and value read the same numbers. Here query, key and value are one product, and so are the two halves of the
feed-forward part; each has one product with the thin matrices of its adapters, and one dropout. Keys are not repeated
for the queries that share them. No gradient of a frozen weight is made, and none at all below the lowest adapter.
Sums, norms and rotations are in float32, products in bfloat16, as with autocast: results differ by rounding.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.decoders.lora_products import Product

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")

SHORT = 256  # tokens up to which attention with all scores at once is faster than torch's


def quicken_decoder(backbone: nn.Module) -> None:
    """Let the layers of `backbone` that are known, and whose linear layers are frozen, compute as here, wherever
    autocast to bfloat16 is on, on a CPU. Elsewhere, and while a trick replaces a part of a layer, nothing changes."""
    for layer in backbone.modules():
        if type(layer).__name__ in LAYERS and layer.mlp.config.hidden_act == "silu":
            attention, mlp = layer.self_attn, layer.mlp
            products = (
                Product(attention, "q_proj", "k_proj", "v_proj"),
                Product(attention, "o_proj"),
                Product(mlp, "gate_proj", "up_proj"),
                Product(mlp, "down_proj"),
            )
            layer.forward = partial(_forward, layer, products)


def _forward(layer, products, hidden_states, attention_mask=None, *args, position_embeddings=None, **kwargs):
    """The forward of a layer: hidden_states (batch, tokens, width) float32 -> the same.

    attention_mask: of transformers, None or (batch, 1, tokens, tokens), added to scores, or True where a key is read.
    position_embeddings: cosines and sines (1 or batch, tokens, size).
    """
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention, mlp, layer.input_layernorm, layer.post_attention_layernorm)
    ours = (
        hidden_states.device.type == "cpu"
        and hidden_states.dtype == torch.float32
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and kwargs.get("past_key_values") is None
        and not (layer.training and attention.attention_dropout)
        and all(product.fits() for product in products)
        and not any("forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks for part in parts)
    )
    if not ours:
        given = dict(attention_mask=attention_mask, position_embeddings=position_embeddings, **kwargs)
        return type(layer).forward(layer, hidden_states, *args, **given)
    qkv, out, up, down = products
    batch, tokens, width = hidden_states.shape
    hidden = hidden_states.reshape(-1, width)
    x = _norm(hidden, layer.input_layernorm)
    q, k, v = (
        qkv(x)
        .view(batch, tokens, -1, attention.head_dim)
        .split([linear.out_features // attention.head_dim for linear in qkv.linears], dim=2)
    )  # (batch, tokens, heads, size)
    if hasattr(attention, "q_norm"):
        q, k = _norm(q, attention.q_norm), _norm(k, attention.k_norm)
    cos, sin = (x.float().unsqueeze(2) for x in position_embeddings)
    q, k = _Rotated.apply(q, cos, sin), _Rotated.apply(k, cos, sin)
    attended = _attend(q, k, v, attention_mask, attention)  # (batch * tokens, heads * size)
    hidden = hidden + out(attended).float()
    x = _norm(hidden, layer.post_attention_layernorm)
    return (hidden + down(_Gated.apply(up(x))).float()).view(batch, tokens, width)


def _norm(x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    return _Norm.apply(x, norm.weight, norm.variance_epsilon)


class _Norm(torch.autograd.Function):
    """RMSNorm over the last dimension, float32 or bfloat16 -> bfloat16 (Zhang and Sennrich, 2019)."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, weight)
        return (wide * scale).mul_(weight).bfloat16()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, scale, weight = ctx.saved_tensors
        normed = x.float() * scale
        gradient = gradient.float()
        to_weight = (gradient * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        gradient = gradient * weight
        along = (gradient * normed).mean(-1, keepdim=True)
        return gradient.sub_(normed.mul_(along)).mul_(scale).to(x.dtype), to_weight, None


class _Rotated(torch.autograd.Function):
    """Rotary positions (Su et al., 2021, arXiv 2104.09864): x (batch, tokens, heads, size), the same type out."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        cos, sin = ctx.saved_tensors
        return _rotate(gradient, cos, -sin), None, None


def _rotate(x, cos, sin):
    half = x.shape[-1] // 2
    first, second = x[..., :half].float(), x[..., half:].float()
    out = torch.empty(x.shape, dtype=x.dtype)
    out[..., :half] = first * cos[..., :half] - second * sin[..., :half]
    out[..., half:] = second * cos[..., half:] + first * sin[..., half:]
    return out


class _Gated(torch.autograd.Function):
    """SwiGLU (Shazeer, 2020, arXiv 2002.05202): (tokens, 2 width), gates first -> silu(gates) * values."""

    @staticmethod
    def forward(ctx, both):
        ctx.save_for_backward(both)
        gate, value = both.chunk(2, dim=-1)
        return F.silu(gate).mul_(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (both,) = ctx.saved_tensors
        gate, value = both.chunk(2, dim=-1)
        out = torch.empty_like(both)
        to_gate, to_value = out.chunk(2, dim=-1)
        torch.mul(gradient, F.silu(gate), out=to_value)
        torch.ops.aten.silu_backward.grad_input(gradient * value, gate, grad_input=to_gate)
        return out


def _attend(q, k, v, mask, attention) -> torch.Tensor:
    """Attention of queries (batch, tokens, heads, size) to keys and values of fewer heads -> (batch * tokens, in)."""
    if q.shape[1] > SHORT:  # scores of all pairs would take memory
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
        found = F.scaled_dot_product_attention(
            q, k, v, mask, scale=attention.scaling, is_causal=mask is None and q.shape[2] > 1, enable_gqa=True
        )
        return found.transpose(1, 2).flatten(2).flatten(0, 1)
    if mask is None:  # each token reads those before it
        mask = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    return _Attention.apply(q, k, v, mask, attention.scaling)


class _Attention(torch.autograd.Function):
    """Attention with all scores at once: queries that share a key lie one below the other."""

    @staticmethod
    def forward(ctx, q, k, v, mask, scale):
        batch, tokens, kept = k.shape[:3]
        q, k, v = _by_key(q, kept), _by_key(k, kept), _by_key(v, kept)
        scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale)  # (batch * keys' heads, group * tokens, tokens)
        if mask is not None:
            wide = scores.view(batch, -1, tokens, tokens)
            wide.masked_fill_(~mask, torch.finfo(wide.dtype).min) if mask.dtype == torch.bool else wide.add_(mask)
        probs = scores.softmax(-1).to(q.dtype)
        ctx.scale, ctx.shape = scale, (batch, tokens, kept)
        ctx.save_for_backward(q, k, v, probs)
        return _by_token(torch.bmm(probs, v), ctx.shape).flatten(0, 1).flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        q, k, v, probs = ctx.saved_tensors
        batch, tokens, kept = ctx.shape
        gradient = _by_key(gradient.view(batch, tokens, -1, v.shape[-1]), kept)
        to_v = torch.bmm(probs.transpose(1, 2), gradient)
        scores = torch._softmax_backward_data(torch.bmm(gradient, v.transpose(1, 2)), probs, -1, probs.dtype)
        scores.mul_(ctx.scale)
        to_q, to_k = torch.bmm(scores, k), torch.bmm(scores.transpose(1, 2), q)
        return *(_by_token(x, ctx.shape) for x in (to_q, to_k, to_v)), None, None


def _by_key(x: torch.Tensor, kept: int) -> torch.Tensor:
    """(batch, tokens, heads, size) -> (batch * kept, heads / kept * tokens, size)."""
    batch, tokens, _, size = x.shape
    return x.view(batch, tokens, kept, -1, size).permute(0, 2, 3, 1, 4).reshape(batch * kept, -1, size)


def _by_token(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The way back."""
    batch, tokens, kept = shape
    return x.view(batch, kept, -1, tokens, x.shape[-1]).permute(0, 3, 1, 2, 4).flatten(2, 3)
