"""The vectors of all chunks of long texts, encoded slice by slice in the memory of one slice."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from kagglekit.data.batches import prediction_batches


def encode_chunks(
    encode: Callable[..., torch.Tensor],
    inputs: torch.Tensor,
    attention_mask: torch.Tensor,
    budget: int,
    *more: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode all chunks of all texts, in slices of at most `budget` padded tokens; empty chunks are left out.

    encode: (inputs, attention_mask, *more) of n chunks -> vectors (n, width). inputs: `input_ids` (texts, chunks,
    tokens), or embeddings with one more dimension. attention_mask, more: (texts, chunks, tokens), chunks padded on the
    right.
    budget: below one chunk it is one chunk a slice. One slice costs nothing more. Where gradients are needed, all
    slices but one are encoded again in the backward pass (torch.utils.checkpoint, with the same dropout), which takes
    up to a third more time; gradients are those of one large batch. Hooks and changed weights of `encode` must stay
    until the backward pass is over.

    Returns the vectors (texts, chunks, width), 0 for empty chunks, and the mask (texts, chunks) of the others. Waits
    for the GPU once a call, to learn which chunks are empty.
    """
    shape = attention_mask.shape[:2]
    inputs, attention_mask, *more = (x.flatten(0, 1) for x in (inputs, attention_mask, *more))
    places = torch.arange(1, attention_mask.shape[1] + 1, device=inputs.device)
    ends = ((attention_mask != 0) * places).amax(dim=1)  # (texts * chunks,) just after the last real token
    lengths = ends.cpu().numpy()
    vectors, order = [], []
    slices = _slices(lengths, budget)
    for number, chunks in enumerate(slices, start=1):
        rows = torch.from_numpy(chunks).to(inputs.device)
        part = [x.index_select(0, rows)[:, : lengths[chunks].max()] for x in (inputs, attention_mask, *more)]
        if torch.is_grad_enabled() and number < len(slices):  # the last one is the first to go backward
            vectors.append(checkpoint(encode, *part, use_reentrant=False))
        else:
            vectors.append(encode(*part))
        order.append(rows)
    if not slices:  # only empty chunks: one token is encoded to find the width
        with torch.no_grad():
            one = encode(inputs[:1, :1], torch.ones_like(attention_mask[:1, :1]), *(x[:1, :1] for x in more))
        return one.new_zeros(*shape, one.shape[1]), attention_mask.new_zeros(shape)
    vectors, order = torch.cat(vectors), torch.cat(order)  # (chunks that are not empty, width)
    placed = vectors.new_zeros(len(lengths), vectors.shape[1]).index_copy(0, order, vectors)
    return placed.unflatten(0, shape), (ends > 0).to(attention_mask.dtype).unflatten(0, shape)


def _slices(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Chunks of similar lengths together, the longest last; within a slice in the order of the batch."""
    chunks = np.flatnonzero(lengths)
    return [np.sort(chunks[part]) for part in prediction_batches(lengths[chunks], budget)[::-1]]
