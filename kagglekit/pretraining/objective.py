"""What a stage of pretraining is, and what an objective makes of it for the loop.

How an objective begins: its options, and the model that it goes on with.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, PreTrainedModel

from kagglekit.data.batches import Examples
from kagglekit.device import choose_attention, choose_device
from kagglekit.model.backbones import load_config, quiet
from kagglekit.model.vocabulary import resize_embeddings
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick

SCORED = ("selective", "entropy")  # maskings that ask a model of the task


@dataclass(frozen=True)
class Stage:
    """The knobs of one stage of pretraining.

    Raises ValueError for a value out of range.
    """

    objective: str = "mlm"  # a name of OBJECTIVES
    objective_options: dict[str, Any] = field(default_factory=dict)
    masking: str = "dynamic"  # a name of MASKINGS, for objectives that hide tokens
    masking_options: dict[str, Any] = field(default_factory=dict)
    mask_probability: float = 0.15  # share of tokens that are chosen
    epochs: float = 1.0  # passes over the text
    steps: int = 0  # in place of epochs, where it is above 0
    max_length: int = 128  # tokens of a piece
    pack: bool = True  # short texts and the ends of long ones share pieces; never with a masking of SCORED
    batch_size: int = 32  # pieces, on average
    learning_rate: float | None = 5e-5  # None: by the size of the backbone
    dropout: float | None = 0.0  # None: as the backbone was trained
    held_out: float = 0.05  # share of the texts that is measured on
    new_tokens: tuple[str, ...] = ()  # words that become tokens of their own
    seed: int = 0

    def __post_init__(self):
        check_range("mask_probability", self.mask_probability, 0 < self.mask_probability < 1, "above 0 and below 1")
        check_range("epochs", self.epochs, 0 < self.epochs < math.inf, "above 0")
        check_range("steps", self.steps, self.steps >= 0, "0 or more")
        check_range("batch_size", self.batch_size, self.batch_size > 0, "above 0")
        rate = self.learning_rate
        check_range("learning_rate", rate, rate is None or 0 < rate < 1, "above 0 and below 1")
        check_range("dropout", self.dropout, self.dropout is None or 0 <= self.dropout < 1, "from 0 to below 1")
        check_range("held_out", self.held_out, 0 < self.held_out < 1, "above 0 and below 1")

    @property
    def packs(self) -> bool:
        """Whether texts share pieces. A model of the task knows texts one by one, and is asked so what matters."""
        return self.pack and self.masking not in SCORED


def check_options(parameter: str, owner: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError for one of the names in `parameter` that its `owner` does not have."""
    for name in given:
        if name not in known:
            raise ValueError(f"{parameter}: {owner} has no option {name!r}; it has {', '.join(known) or 'none'}")


@dataclass
class Prepared:
    """An objective, ready for the loop.

    model: what is trained; `model.backbone` is the encoder, `model(**batch)` gives {"logits": ...}. examples: what it
    is trained on, with labels. loss: f(logits, labels) -> scalar, a batch mean. tricks: of the objective, the first is
    the outermost. measure: figures on held-out text, the same ones at every call for the same weights; leaves mode and
    random state as they were. save: writes the model to a folder as transformers reads it (the driver adds the
    tokenizer): with its head where transformers has a class for it, so that a later stage goes on with it.
    """

    model: nn.Module
    examples: Examples
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    tricks: list[Trick]
    measure: Callable[[], dict[str, float]]
    save: Callable[[Path], None]


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
