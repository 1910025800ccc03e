"""How an objective begins: its options, and the model that it goes on with."""

from typing import Any

import torch
import transformers
from transformers import AutoModel, PreTrainedModel

from kagglekit.model.backbones import load_config, quiet
from kagglekit.model.vocabulary import resize_embeddings
from kagglekit.pretraining.objective import Stage, check_options
from kagglekit.training.hardware import choose_attention, choose_device


def read_options(stage: Stage, **defaults) -> dict[str, Any]:
    """`stage.objective_options`, with `defaults` for those that are not given.

    Raises ValueError for one that the objective does not have.
    """
    check_options("objective_options", stage.objective, stage.objective_options, list(defaults))
    return defaults | stage.objective_options


def load_model(
    kind: type | None, path: str, tokenizer, max_length: int, dropout: float | None, layers: int = 0
) -> PreTrainedModel:
    """A model in float32 that has a row for each token of `tokenizer`; `model.base_model` is its encoder.

    kind: a class of transformers, None for the one that the folder or hub name was saved as: an encoder keeps the head
    that it came with, for a later stage. layers: only so many, the lowest; 0 is all of them.
    """
    config = load_config(path, dropout)
    if kind is None:
        kind = getattr(transformers, (config.architectures or [""])[0], AutoModel)
    if layers:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    with quiet():
        model = kind.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation=choose_attention(choose_device(), max_length),
        )
    resize_embeddings(model, tokenizer)
    return model


def freeze_pooler(backbone: torch.nn.Module) -> None:
    """Leave a pooler that nothing trains as it is: it is saved again, and several processes need not wait for it."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler.requires_grad_(False)
