"""Candidate answers of a row in one pass: a decoder reads what they share once, and each of them behind it

The first solution of Kaggle's MAP (2025) and LLM Science (2023) score each option by itself, with the question before
it. Here the options of a row stand one after the other behind their common beginning; a mask keeps each from the
others, and positions go on from the beginning, so that every state, and every gradient, is that of the options read one
by one.
"""

import inspect
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kagglekit.decoders.causal import is_causal

WORTH = 0.8  # packed to unpacked tokens, up to which options are packed


@dataclass
class Packing:
    """Where the tokens of (rows, options, tokens) stand in packed rows.

    source: of each packed token, option * tokens + token (rows, packed), 0 for padding. owner: its option, -1 of the
    common beginning, -2 of padding. position: of each, as in the option by itself. place: of each token of an option in
    its packed row (rows, options, tokens), 0 for padding. All int64.
    """

    source: torch.Tensor
    owner: torch.Tensor
    position: torch.Tensor
    place: torch.Tensor

    def attend(self, dtype: torch.dtype, window: int | None = None) -> torch.Tensor:
        """The mask that is added to attention scores, (rows, 1, packed, packed): each token sees the beginning and the
        tokens of its own option before it, of the last `window` positions where there is one."""
        owner, size = self.owner, self.owner.shape[1]
        earlier = torch.ones(size, size, dtype=torch.bool, device=owner.device).tril()
        seen = earlier & ((owner[:, None] == -1) | (owner[:, None] == owner[:, :, None]))  # (rows, packed, packed)
        if window is not None:
            seen &= self.position[:, :, None] - self.position[:, None] < window
        return torch.zeros(seen.shape, dtype=dtype, device=owner.device).masked_fill(~seen, torch.finfo(dtype).min)[
            :, None
        ]


def pack_options(ids: torch.Tensor, mask: torch.Tensor) -> Packing:
    """Pack the options of each row behind their common beginning; ids, mask: (rows, options, tokens), padded behind.
    Each option keeps a token of its own; one without tokens is none."""
    given, lengths = ids.cpu().numpy(), (mask != 0).sum(dim=2).cpu().numpy()  # (rows, options)
    rows, _, width = given.shape
    there = lengths > 0
    first = there.argmax(axis=1)
    alike = (given == given[np.arange(rows), first][:, None]) | ~there[:, :, None]
    same = alike.all(axis=1).cumprod(axis=1).sum(axis=1)
    shared = np.minimum(same, np.where(there, lengths, width).min(axis=1) - 1) * there.any(axis=1)
    size = max(1, int((shared + (lengths - shared[:, None]).clip(min=0).sum(axis=1)).max()))
    source, owner, position = (np.full((rows, size), fill) for fill in (0, -2, 0))
    place = np.zeros(given.shape, dtype=np.int64)
    for row, (begin, length) in enumerate(zip(shared, lengths, strict=True)):
        position[row, :begin] = np.arange(begin)
        source[row, :begin] = first[row] * width + np.arange(begin)
        owner[row, :begin], at = -1, begin
        for option, end in enumerate(length):
            if not end:
                continue
            inside, own = slice(at, at + end - begin), np.arange(begin, end)
            source[row, inside], owner[row, inside], position[row, inside] = option * width + own, option, own
            place[row, option, :end] = [*range(begin), *range(at, at + end - begin)]
            at += end - begin
    return Packing(*(torch.from_numpy(x.astype(np.int64)).to(ids.device) for x in (source, owner, position, place)))


def encode_options(backbone: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """The states of each option, (rows, options, tokens, width), as of the options one by one; what is behind an option
    is arbitrary. None where there is little to share, or the backbone takes no mask and positions of this sort:
    encoders, states of another kind (Mamba), positions by the mask (BLOOM), and other kernels of attention."""
    config = backbone.config
    placed = "position_ids" in inspect.signature(backbone.forward).parameters and not getattr(config, "alibi", False)
    attention = getattr(config, "_attn_implementation", "")
    if not is_causal(config) or not placed or attention not in ("sdpa", "eager"):
        return None
    packing = pack_options(ids, mask)
    if packing.owner.numel() > WORTH * ids.numel():
        return None
    packed = ids.flatten(1).gather(1, packing.source)
    dtype, window = backbone.get_input_embeddings().weight.dtype, getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" in kinds:
        attend = {"full_attention": packing.attend(dtype), "sliding_attention": packing.attend(dtype, window)}
    elif kinds <= {"full_attention"}:
        attend = packing.attend(dtype, None if kinds else window)
    else:
        return None
    options = {"use_cache": False} if hasattr(config, "use_cache") else {}
    states = backbone(input_ids=packed, attention_mask=attend, position_ids=packing.position, **options)
    states = states.last_hidden_state  # (rows, packed, width)
    at = packing.place.flatten(1).unsqueeze(-1).expand(-1, -1, states.shape[-1])
    return states.gather(1, at).unflatten(1, ids.shape[1:])
