"""Attention of DeBERTa-v2 and v3 (He et al., 2021, arXiv 2006.03654, 2111.09543), the same numbers in half the time.

transformers scores every token against all relative positions, 512 of them in a text of 30 tokens too, repeats the keys
of positions for every text, and picks the scores that it needs one by one. Here the keys are made once a layer, for
the distances that occur, in the order of distances, so that the scores of a token lie side by side: row i is read from
place -i on, and nothing is picked. Weights keep their names and their places: models are saved and loaded as before.
"""

import inspect
import math
import warnings
from functools import lru_cache, reduce
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

CHUNK = 1 << 21  # bytes of the scores that are computed at once on a CPU: they should stay in its cache


def fast_deberta(model: nn.Module) -> nn.Module:
    """Give DeBERTa-v2 and v3 within a model the attention of this module; any other model is left alone.

    Outputs and gradients equal those of transformers to rounding, but for padding tokens, which nothing reads. With
    `output_attentions` transformers' own attention is called. Costs nothing, and may be repeated.
    A warning says where the code of transformers is not the one that this was written for: its attention stays then.
    """
    ours = {deberta.DisentangledSelfAttention: FastAttention, deberta.DebertaV2Encoder: FastEncoder}
    found = [module for module in model.modules() if isinstance(module, tuple(ours))]
    for module in found:
        if type(module) not in (*ours, *ours.values()):
            return _warned(model, f"{type(module).__name__} is another class than those of transformers")
    for theirs, fast in ours.items() if found else ():
        for name in {"forward", "get_rel_pos", "get_attention_mask"} & set(vars(fast)):
            if not hasattr(theirs, name) or _arguments(getattr(theirs, name)) != _arguments(getattr(fast, name)):
                return _warned(model, f"{theirs.__name__}.{name} of this version of transformers has other arguments")
    for module in found:
        module.__class__ = ours.get(type(module), type(module))
    return model


def _arguments(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def _warned(model: nn.Module, reason: str) -> nn.Module:
    warnings.warn(f"DeBERTa is trained with the slower attention of transformers: {reason}", stacklevel=3)
    return model


class Distances(NamedTuple):
    """Which relative position each distance i - j of a query i and a key j has, in a batch of a length.

    first, last: the range of positions that occur. falling, rising: for the distances from length - 1 down to
    1 - length, and up again, positions counted from `first`, (width,); the width is filled up with 0.
    """

    first: int
    last: int
    falling: torch.Tensor
    rising: torch.Tensor


@lru_cache(maxsize=2048)
def distances(length: int, buckets: int, most: int, span: int, device: torch.device) -> Distances:
    """Positions in a batch of `length` tokens, of a backbone with `buckets`, `most` distances, `span` places a way."""
    with torch.inference_mode(False):  # they are kept, and saved for backward passes later
        apart = torch.arange(1 - length, length)
        if buckets > 0 and most > 0:
            apart = deberta.make_log_bucket_position(apart, buckets, most).long()
        places = (apart + span).clamp(0, 2 * span - 1)
        first, last = int(places.min()), int(places.max())
        filled = -(2 * length - 1) % 16
        rising, falling = (nn.functional.pad(x - first, (0, filled)) for x in (places, places.flip(0)))
        return Distances(first, last, falling.to(device, non_blocking=True), rising.to(device, non_blocking=True))


class FastEncoder(deberta.DebertaV2Encoder):
    """The encoder, which hands its layers the mask of keys and the distances, not a matrix a text of each."""

    def get_attention_mask(self, attention_mask):
        """(batch, 1, 1, keys) of a mask (batch, keys)."""
        of_keys = attention_mask.dim() == 2
        return attention_mask[:, None, None] if of_keys else super().get_attention_mask(attention_mask)

    def get_rel_pos(self, hidden_states, query_states=None, relative_pos=None):
        """The `Distances` of a batch."""
        if not self.relative_attention or query_states is not None or relative_pos is not None:
            return super().get_rel_pos(hidden_states, query_states, relative_pos)
        attention = self.layer[0].attention.self
        return distances(
            hidden_states.shape[1],
            self.position_buckets,
            self.max_relative_positions,
            attention.pos_ebd_size,
            hidden_states.device,
        )


class FastAttention(deberta.DisentangledSelfAttention):
    """Attention from the content to content and to positions, and from positions to content."""

    def forward(
        self,
        hidden_states,
        attention_mask,
        output_attentions=False,
        query_states=None,
        relative_pos=None,
        rel_embeddings=None,
    ):
        """hidden_states (batch, tokens, width) -> (context (batch, tokens, width), None)."""
        ours = isinstance(relative_pos, Distances) or not self.relative_attention
        whole = attention_mask.dim() == 4 and attention_mask.shape[1:3] != (1, 1)
        if output_attentions or query_states is not None or whole or not ours:
            if not whole:
                attention_mask = attention_mask * attention_mask.transpose(-1, -2)
            relative_pos = None if isinstance(relative_pos, Distances) else relative_pos  # made there again
            return super().forward(
                hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
            )
        heads = self.num_attention_heads
        kinds = [kind for kind in ("c2p", "p2c") if kind in self.pos_att_type]
        scale = 1 / math.sqrt(self.attention_head_size * (1 + len(kinds)))
        parts = [layer(hidden_states) for layer in (self.query_proj, self.key_proj, self.value_proj)]
        tokens = torch.stack([x.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3) for x in parts])
        positions = [None, None]  # keys that queries meet, and queries that keys meet
        if self.relative_attention:
            embedded = self.pos_dropout(rel_embeddings[relative_pos.first : relative_pos.last + 1])
            if "c2p" in kinds:
                layer = self.key_proj if self.share_att_key else self.pos_key_proj
                positions[0] = self._per_distance(layer(embedded) * scale, relative_pos.falling)
            if "p2c" in kinds:
                layer = self.query_proj if self.share_att_key else self.pos_query_proj
                positions[1] = self._per_distance(layer(embedded) * scale, relative_pos.rising)
        mask = attention_mask[:, 0, 0] != 0  # (batch, keys)
        dropout = self.dropout.p if self.training else 0.0
        attend = _attend_on_cpu if tokens.device.type == "cpu" else _attend
        context = attend(tokens, positions, mask, scale, dropout)
        return context.permute(1, 2, 0, 3).flatten(2), None  # (heads, batch, n, width) -> (batch, n, hidden size)

    def _per_distance(self, projected: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1).index_select(1, order)


def _pairs(scores: torch.Tensor, side: int) -> torch.Tensor:
    """A view of scores of distances, (..., n, width), as those of pairs, (..., queries, keys).

    side: 0, row i is a query and its scores begin with the distance i - j = n - 1; 1, row j is a key and its scores
    begin with the distance 1 - n. Either way element (i, j) is n - 1 places on, and one less in every row.
    """
    *outer, n, width = scores.shape
    strides = (*scores.stride()[:-2], width - 1, 1)
    pairs = scores.as_strided((*outer, n, n), strides, scores.storage_offset() + n - 1)
    return pairs.mT if side else pairs


def _attend(tokens, positions, mask, scale, dropout):
    """Context (heads, batch, n, width) by torch's attention, for a GPU.

    tokens: query, key and value, (3, heads, batch, n, width). positions: keys that queries meet, and queries that keys
    meet, (heads, distances, width) or None. mask: keys that are no padding, (batch, n).
    """
    sides = [side for side in (0, 1) if positions[side] is not None]
    lowest = torch.finfo(tokens.dtype).min  # not infinite: a text without tokens would have no number
    scores = [
        torch.bmm(tokens[side].flatten(1, 2), positions[side].mT).unflatten(1, tokens.shape[2:4]) for side in sides
    ]
    bias = _Bias.apply(sides, *scores) if sides else tokens.new_zeros(1, *mask.shape[:1], 1, *mask.shape[1:])
    bias = bias.masked_fill(~mask[:, None], lowest).expand(*tokens.shape[1:4], -1)
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):  # the others have no gradient of a bias
        return scaled_dot_product_attention(*tokens, bias, dropout, scale=scale)


class _Bias(torch.autograd.Function):
    """The sum of the scores of sides, as scores of pairs."""

    @staticmethod
    def forward(ctx, sides, *scores):
        ctx.sides, ctx.shape = sides, scores[0].shape
        return reduce(torch.add, map(_pairs, scores, sides)).contiguous()

    @staticmethod
    def backward(ctx, gradient):
        results = [gradient.new_zeros(ctx.shape) for _ in ctx.sides]
        for side, result in zip(ctx.sides, results, strict=True):
            _pairs(result, side).copy_(gradient)
        return None, *results


def _attend_on_cpu(tokens, positions, mask, scale, dropout):
    """The same for a CPU: a head in a few texts at a time, whose scores stay in the cache."""
    return _Chunked.apply(tokens, *positions, None if mask.all() else ~mask, scale, dropout)


class _Chunked(torch.autograd.Function):
    """Attention in chunks, as for `_attend`. Of all scores only the probabilities are kept for the backward pass.

    hidden: keys that are padding, (batch, n) or None.
    """

    @staticmethod
    def forward(ctx, tokens, keys, queries, hidden, scale, dropout):
        ctx.scale, ctx.dropout, kept = scale, dropout, any(ctx.needs_input_grad)
        query, key, value = tokens.unbind()
        heads, batch, n, _ = query.shape
        context = torch.empty_like(query)
        probs = query.new_empty(heads if kept else 1, batch, n, n)
        dropped = torch.empty(probs.shape, dtype=torch.bool) if dropout else None
        chunks, sides = _plan(tokens, keys, queries)
        for head, rows in chunks:
            at = head if kept else 0
            score, terms = probs[at, rows], []
            for side, positions, room in sides:
                room = room[: len(score)]
                torch.mm(tokens[side, head, rows].flatten(0, 1), positions[head].t(), out=room.flatten(0, 1))
                terms.append(_pairs(room, side))
            if terms:
                torch.add(*terms, out=score) if len(terms) > 1 else score.copy_(*terms)
            score.baddbmm_(query[head, rows], key[head, rows].mT, beta=min(len(terms), 1), alpha=scale)
            if hidden is not None:
                score.masked_fill_(hidden[rows, None], torch.finfo(score.dtype).min)
            torch._softmax(score, -1, False, out=score)
            if dropout:
                score, dropped[at, rows] = torch.native_dropout(score, dropout, True)
            torch.bmm(score, value[head, rows], out=context[head, rows])
        ctx.save_for_backward(tokens, keys, queries, *((probs, dropped) if kept else (None, None)))
        return context

    @staticmethod
    def backward(ctx, gradient):
        tokens, keys, queries, probs, dropped = ctx.saved_tensors
        query, key, value = tokens.unbind()
        gradient, result = gradient.contiguous(), torch.empty_like(tokens)
        chunks, sides = _plan(tokens, keys, queries)
        sums = {side: torch.zeros_like(positions, dtype=torch.float32) for side, positions, _ in sides}
        for head, rows in chunks:
            used = prob = probs[head, rows]
            score = torch.bmm(gradient[head, rows], value[head, rows].mT)
            if dropped is not None:
                left = dropped[head, rows].to(prob.dtype).mul_(1 / (1 - ctx.dropout))
                used, score = prob * left, score.mul_(left)
            torch.bmm(used.mT, gradient[head, rows], out=result[2, head, rows])
            torch._softmax_backward_data(score, prob, -1, score.dtype, grad_input=score)
            result[0, head, rows].baddbmm_(score, key[head, rows], beta=0, alpha=ctx.scale)
            result[1, head, rows].baddbmm_(score.mT, query[head, rows], beta=0, alpha=ctx.scale)
            for side, positions, room in sides:
                _pairs(room[: len(score)], side).copy_(score)
                room = room[: len(score)].flatten(0, 1)  # 0 where no pair is
                result[side, head, rows].flatten(0, 1).addmm_(room, positions[head])
                sums[side][head] += room.t() @ tokens[side, head, rows].flatten(0, 1)
        to_keys, to_queries = (sums[side].to(tokens.dtype) if side in sums else None for side in (0, 1))
        return result, to_keys, to_queries, None, None, None


def _plan(tokens, keys, queries):
    """Chunks, (head, slice of texts); and for keys and queries of positions that there are: the side that meets them,
    they, and room for the scores of a chunk, which starts at 0."""
    _, heads, batch, n, _ = tokens.shape
    given = [(side, positions) for side, positions in enumerate((keys, queries)) if positions is not None]
    width = max(n, *(positions.shape[1] for _, positions in given), 0)
    most = min(batch, max(1, CHUNK // (n * width * tokens.element_size())))
    chunks = [(head, slice(at, min(at + most, batch))) for head in range(heads) for at in range(0, batch, most)]
    return chunks, [(side, positions, tokens.new_zeros(most, n, positions.shape[1])) for side, positions in given]
