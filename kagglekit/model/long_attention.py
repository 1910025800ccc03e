"""Attention by batch: which tokens of Longformer attend to all, when BigBird's is sparse, and decoders without a mask.

The first two are told with each batch, as their own heads of transformers do, because their encoders alone do something
else: Longformer without global attention has a window on either side of each token and nothing more, so that its first
token, which a classifier reads, has seen the first few hundred tokens.
"""

import inspect
from typing import Any

import torch
from torch import nn

from kagglekit.decoders.causal import is_causal
from kagglekit.device import random_state_kept


def attention_options(
    backbone: nn.Module, inputs: torch.Tensor, attention_mask: torch.Tensor, columns: torch.Tensor | None = None
) -> dict[str, Any]:
    """Options of a backbone's forward pass for one batch; none for most backbones.

    inputs: input_ids (batch, tokens), or embeddings with one more dimension. attention_mask, columns (the number of the
    text column of each token, None for one column): (batch, tokens).
    Longformer (Beltagy et al., 2020, arXiv 2004.05150): `global_attention_mask`, see `global_tokens`.
    BigBird (Zaheer et al., 2020, arXiv 2007.14062): none, but its attention is set here: sparse, or full for a batch
    too short for sparse blocks. transformers leaves it full for all later batches, so that predictions would depend on
    the order of texts, and one of 4,096 tokens would need the memory of full attention.
    A decoder has no mask, and keeps no keys and values: see `causal.move_left`, through which its batches go.
    """
    config = backbone.config
    if is_causal(config):
        vars(backbone).setdefault("warn_if_padding_and_no_attention_mask", lambda *_: None)  # of GPT-2, for nothing
        return {"attention_mask": None} | ({"use_cache": False} if hasattr(config, "use_cache") else {})
    if hasattr(backbone, "set_attention_type"):
        _set_sparse(backbone, attention_mask.shape[1])
    reads = "global_attention_mask" in inspect.signature(backbone.forward).parameters
    if not reads or config.is_encoder_decoder:  # LED's own head for classes has local attention
        return {}
    if columns is not None and not inputs.is_floating_point():
        columns = columns.masked_fill(inputs == config.sep_token_id, -1)  # a separator is no part of the question
    chosen = global_tokens(attention_mask, columns, max(config.attention_window))
    return {"global_attention_mask": chosen.to(attention_mask.dtype)}


def global_tokens(attention_mask: torch.Tensor, columns: torch.Tensor | None, most: int) -> torch.Tensor:
    """The tokens that attend to all others, (batch, tokens) of booleans, as in the heads of Longformer.

    Of one text its first token; of several columns all tokens of the first one, the question. A column of more than
    `most` tokens is none: attention of all its tokens to all would need the memory of full attention. Padding may be on
    either side.
    """
    first = (attention_mask.cumsum(dim=1) == 1) & (attention_mask != 0)
    if columns is None:
        return first
    question = (columns == 0) & (attention_mask != 0)
    asked = (columns > 0).any(dim=1, keepdim=True) & (question.sum(dim=1, keepdim=True) <= most)
    return first | (question & asked)


def _set_sparse(backbone: nn.Module, tokens: int) -> None:
    """Set BigBird's attention by the length of a batch. Modules that are made new draw numbers, which are put back."""
    config = backbone.config
    shortest = (5 + 2 * config.num_random_blocks) * config.block_size
    kind = "original_full" if tokens <= shortest else config.attention_type
    if backbone.attention_type != kind:
        with random_state_kept():
            backbone.set_attention_type(kind)
