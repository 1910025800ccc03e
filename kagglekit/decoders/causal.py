"""Causal attention: which backbones have it, batches padded on the left, and a prefix that all rows share, read once.

A token of a decoder reads those before it and no other. So padding behind a text changes nothing, and no mask is needed
where every text begins in the first column: the attention of torch then runs without one, at its fastest, and a text is
read the same alone, in a batch, and whatever its padding is.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SHORTEST = 8  # tokens of a shared prefix that are worth a cache


def is_causal(config: "PreTrainedConfig") -> bool:
    """Whether a configuration is of a decoder: a language model that reads from left to right, and no more.

    transformers knows its family as a causal language model and not as a masked one. Decoders that were made encoders,
    such as EmbeddingGemma, say so; XLNet reads in both directions when it is fine-tuned.
    """
    one_way = getattr(config, "is_causal", True) and not getattr(config, "use_bidirectional_attention", False)
    return one_way and not getattr(config, "is_encoder_decoder", False) and _is_language_model(config.model_type)


@cache
def _is_language_model(family: str) -> bool:
    from transformers.models.auto import modeling_auto

    causal, masked = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return family in causal and family not in masked and family != "xlnet"


def move_left(mask: torch.Tensor, *tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A mask (..., tokens) and what has a value for each token, (..., tokens) or (..., tokens, width), with the padding
    of each text behind its tokens, in their order. Nothing moves where every text begins in the first column; a GPU is
    not asked, and moves always."""
    if mask.device.type == "cpu" and bool((mask[..., 0] != 0).all()):
        return [mask, *tensors]
    order = (mask == 0).to(torch.uint8).argsort(dim=-1, stable=True)

    def moved(x: torch.Tensor | None) -> torch.Tensor | None:
        if x is None or x.dim() == order.dim():
            return None if x is None else x.gather(-1, order)
        return x.gather(-2, order.unsqueeze(-1).expand(x.shape))

    return [moved(x) for x in (mask, *tensors)]


def shared_prefix(rows: Iterable[np.ndarray], kept: int = 1) -> np.ndarray:
    """The tokens with which all rows (token ids each) begin, `kept` fewer than the shortest has, or less."""
    rows = iter(rows)
    prefix = next(rows, np.zeros(0))
    size = len(prefix) - kept
    for row in rows:
        size = min(size, len(row) - kept)
        if size <= 0:
            break
        same = row[:size] == prefix[:size]
        size = size if same.all() else int(same.argmin())
    return np.asarray(prefix[: max(size, 0)], dtype=np.int64)


@dataclass
class Prefix:
    """A prefix that all texts share, encoded once: its ids (tokens,), and the cache of its keys and values."""

    ids: torch.Tensor
    read: Any

    @classmethod
    def encode(cls, backbone: nn.Module, ids: np.ndarray) -> "Prefix | None":
        """Encode a prefix; None for one that is short, and for a backbone that keeps no keys and values (Mamba)."""
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        if len(ids) < SHORTEST:
            return None
        ids = torch.as_tensor(ids, device=next(backbone.parameters()).device)
        read = DynamicCache(config=backbone.config)
        if not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in read.layers):
            return None
        with torch.no_grad():
            backbone(input_ids=ids[None], past_key_values=read, use_cache=True)
        return cls(ids, read)

    def options(self, rows: int) -> dict[str, Any]:
        """Options of the backbone's forward pass for a batch of so many rows, given without the prefix."""
        read = copy.deepcopy(self.read)
        read.batch_repeat_interleave(rows)
        return {"past_key_values": read, "use_cache": True}
