"""What an objective of pretraining is given, and what it prepares for the training loop."""

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
from kagglekit.files.arrays import loading
from kagglekit.model.backbones import load_config, quiet
from kagglekit.model.deberta_attention import fast_deberta
from kagglekit.model.vocabulary import resize_embeddings
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.tricks.trick import Trick


def check_options(parameter: str, owner: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError for a name in `parameter` that is no option of `owner`."""
    for name in given:
        if name not in known:
            raise ValueError(f"{parameter}: {owner} has no option {name!r}; it has {', '.join(known) or 'none'}")


@dataclass(frozen=True)
class Setup:
    """What an objective is prepared from.

    options: of the objective, those that are not given at their defaults. backbone: a folder or a hub name. tokenizer:
    with the new tokens. texts: to train on. held_out: texts to measure with. masking: a `Masking`, None for objectives
    that hide no tokens. labels: `LabelledTexts`, for objectives that learn from labels, or `ImagePairs`, for those that
    learn from images.
    """

    stage: Stage
    options: dict[str, Any]
    backbone: str
    tokenizer: Any
    texts: list[str]
    held_out: list[str]
    masking: Any = None
    labels: Any = None

    def load(self, kind: type | None, path: str = "", layers: int = 0, dropout: float | None = None) -> PreTrainedModel:
        """A model in float32 with a row for each token of the tokenizer; `model.base_model` is its encoder.

        kind: a class of transformers. None is the class that the weights were saved with: a head stays for a later
        stage. path: in place of the backbone. layers: only the lowest so many; 0 is all. dropout: None is that of the
        stage. A pooler is frozen: nothing trains it, and several processes would wait for its gradients.
        """
        config = load_config(path or self.backbone, self.stage.dropout if dropout is None else dropout)
        if kind is None:
            kind = getattr(transformers, (config.architectures or [""])[0], AutoModel)
        if layers:
            config.num_hidden_layers = layers
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[:layers]
        attention = choose_attention(choose_device(), self.stage.max_length)
        with quiet(), loading(path or self.backbone, weights=True):
            model = kind.from_pretrained(
                path or self.backbone, config=config, dtype=torch.float32, attn_implementation=attention
            )
        resize_embeddings(fast_deberta(model), self.tokenizer)
        if getattr(model.base_model, "pooler", None) is not None:
            model.base_model.pooler.requires_grad_(False)
        return model


@dataclass
class Prepared:
    """An objective, ready for the training loop.

    model: what is trained; `model.backbone` is the encoder, `model(**batch)` gives {"logits": ...}. examples: to train
    on, with labels. loss: f(logits, labels) -> scalar, a batch mean. tricks: of the objective, the outermost first.
    measure: figures on held-out text, equal at every call for equal weights; mode and random state stay as they were.
    saved: the part of the model that goes on, with its head where transformers has a class for it. state: its weights,
    where they are not simply its own. beside: writes what goes on beside it into the same folder.
    """

    model: nn.Module
    examples: Examples
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    tricks: list[Trick]
    measure: Callable[[], dict[str, float]]
    saved: PreTrainedModel
    state: Callable[[], dict[str, torch.Tensor] | None] = lambda: None
    beside: Callable[[Path], None] = lambda folder: None

    def save(self, folder: Path) -> None:
        """Write the model to a folder as transformers reads it, without a tokenizer."""
        with quiet():
            self.saved.save_pretrained(folder, state_dict=self.state())
        self.beside(folder)


@dataclass(frozen=True)
class Objective:
    """An entry of OBJECTIVES, which tests and checks go through.

    prepare: f(setup) -> Prepared. options: names and defaults of its `objective_options`. hides_tokens: it takes a
    masking. needs_labels: it learns from `LabelledTexts`. needs_images: from `ImagePairs`.
    """

    prepare: Callable[[Setup], Prepared]
    options: dict[str, Any] = field(default_factory=dict)
    hides_tokens: bool = True
    needs_labels: bool = False
    needs_images: bool = False
