"""A masked-language model that classifies: what it would write at the masks of a pattern, read as classes.

PET, pattern-exploiting training (Schick and Schütze, 2021, arXiv 2001.07676). The pattern: kagglekit/data/patterns.py.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from kagglekit.files import read_json
from kagglekit.model.backbones import load_config, quiet
from kagglekit.model.heads import Drop

HEAD = "head.model."  # where a classifier has it


class Verbalizer(nn.Module):
    """A head that is a pretrained one: the logits that a masked-language model has for the words of each class.

    A class's logit is the mean over its words of the mean over the masks of the logit of the word's token there. So a
    model classifies before it has seen a label, and few labels teach it much.
    masked_lm: of transformers; it is taken apart: its encoder goes to the classifier, its head stays here, and weights
    that they share (the word embeddings) stay shared. They are saved once, with the encoder. words: as `find_words`
    gives them, (classes, words, masks) tokens. Called as all heads are, with the vectors at the masks side by side,
    (batch, masks * width); `drop` acts on them. Computed in float32: steps of bfloat16 would be seen in the logits.
    """

    def __init__(
        self, masked_lm: PreTrainedModel, words: Sequence[Sequence[Sequence[int]]], width: int, sizes: Sequence[int]
    ):
        super().__init__()
        encoder, masks = masked_lm.base_model, len(words[0][0])
        if encoder is masked_lm:
            raise ValueError(f"head='verbalizer' needs a model with a head for words, not a {type(encoder).__name__}")
        if width != masks * encoder.config.hidden_size or list(sizes) != [len(words)]:
            raise ValueError(
                f"head='verbalizer' reads {masks} masks and knows {len(words)} classes, and nothing else: it was given "
                f"vectors of {width} numbers, for targets of {list(sizes)} logits"
            )
        setattr(masked_lm, masked_lm.base_model_prefix, Given(encoder))
        self.model = masked_lm
        self.counts = [len(one) for one in words]
        tokens = torch.tensor([ids for one in words for ids in one])  # (words, masks)
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("places", torch.arange(masks), persistent=False)
        seen, self.twins = {id(parameter) for parameter in encoder.parameters()}, []
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if id(parameter) in seen:
                self.twins.append(name)
            seen.add(id(parameter))
        self.register_state_dict_post_hook(_leave_out_twins)
        self.register_load_state_dict_pre_hook(_put_back_twins)

    def forward(self, vector: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, drop: Drop) -> torch.Tensor:
        dtype = next(self.model.parameters()).dtype
        states = drop(vector).to(dtype).unflatten(-1, (len(self.places), -1))  # (batch, masks, width)
        with torch.autocast(vector.device.type, enabled=False):
            logits = self.model(inputs_embeds=states).logits.float()  # (batch, masks, vocabulary)
        logits = logits[:, self.places, self.tokens]  # (batch, words, masks)
        return torch.stack([one.mean(dim=(1, 2)) for one in logits.split(self.counts, dim=1)], dim=1)


class Given(nn.Module):
    """Stands where the encoder was: its output is what it is given. What else is asked of it, the encoder answers."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        vars(self)["encoder"] = encoder  # no part of this module: it is the classifier's

    def __getattr__(self, name):
        return getattr(vars(self)["encoder"], name)

    def forward(self, *args, inputs_embeds: torch.Tensor, **kwargs) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


def _leave_out_twins(module: Verbalizer, state: dict, prefix: str, *_) -> None:
    """A hook of `state_dict`: each weight under one name."""
    for name in module.twins:
        state.pop(prefix + name, None)


def _put_back_twins(module: Verbalizer, state: dict, prefix: str, *_) -> None:
    """A hook of `load_state_dict`: a weight that has come under its first name is there under the others too."""
    for name in module.twins:
        state[prefix + name] = module.get_parameter(name).data


def load_masked_lm(
    path: str,
    dropout: float | None = None,
    attention: str | None = None,
    attention_dropout: float | None = None,
    start: Path | None = None,
    untrained: bool = False,
) -> PreTrainedModel:
    """A backbone with its head for words, in float32.

    dropout, attention, attention_dropout: as in `load_backbone`. start: a folder that `Classifier.save` wrote; where
    its head is a verbalizer, that is the head, and its encoder is for `load_encoder` to load. untrained: a head that
    begins at random will do, to look at its shapes.
    Raises ValueError for an architecture without such a head, and where neither the files nor the start have one.
    """
    whole = start is not None and read_json(start / "classifier.json").get("head") == "verbalizer"
    config = load_config(str(start) if whole else path, dropout, attention_dropout)
    options = {"config": config, "dtype": torch.float32, "attn_implementation": attention}
    missing: set[str] = set()
    try:
        with quiet():
            if whole:
                model = AutoModelForMaskedLM.from_config(config, **{k: options[k] for k in options if k != "config"})
            else:
                model, report = AutoModelForMaskedLM.from_pretrained(path, **options, output_loading_info=True)
                inside = f"{model.base_model_prefix}."
                missing = {name for name in report["missing_keys"] if not name.startswith(inside)}
    except ValueError as error:
        raise ValueError(f"verbalizer: {path} cannot say words at a mask: {str(error).splitlines()[0]}") from error
    if missing and not untrained:
        raise ValueError(
            f"verbalizer: the files of {path} have no pretrained head for words ({min(missing)} is missing): start "
            "from a run of 2_pretrain whose objective is mlm, or choose a backbone that has one"
        )
    if whole:
        saved = load_file(start / "model.safetensors").items()
        head = {name.removeprefix(HEAD): tensor for name, tensor in saved if name.startswith(HEAD)}
        model.load_state_dict(head, strict=False)  # the encoder's are not among them
    return model
