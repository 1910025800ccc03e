"""Verbalizer: a language model classifies by the words that it predicts, at the masks of a pattern or at its end.

PET, pattern-exploiting training (Schick and Schütze, 2021, arXiv 2001.07676). Patterns: kagglekit/data/patterns.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from kagglekit.decoders.causal import is_causal
from kagglekit.decoders.lora_base import read_base
from kagglekit.files import read_json
from kagglekit.files.arrays import loading, read_tensors
from kagglekit.model.backbones import backbone_folder, load_config, quiet
from kagglekit.model.deberta_attention import fast_deberta
from kagglekit.model.heads import Drop

HEAD = "head.model."  # prefix of its weights in a classifier


class Verbalizer(nn.Module):
    """A pretrained head: the logits of a language model for the words of each class.

    The logit of a class is the mean over its words and their tokens of the token's logit at its mask. The model
    classifies before it has seen a label, and learns from few labels.
    whole: a model of transformers; it is split: its encoder goes to the classifier, its head stays here. The weights
    that a masked-language model shares between them (the word embeddings) stay shared and are saved once, with the
    encoder; of the vocabulary of a decoder only the rows of the words are copied, multiplied and trained (what it does
    to logits, such as Gemma's soft cap, it still does). words: (classes, words, masks) token ids from `find_words`.
    Called like all heads, with the concatenated vectors at the masks, (batch, masks * width); `drop` acts on them.
    Computed in float32: bfloat16 would round the logits visibly.
    """

    def __init__(
        self, whole: PreTrainedModel, words: Sequence[Sequence[Sequence[int]]], width: int, sizes: Sequence[int]
    ):
        super().__init__()
        encoder, masks = whole.base_model, len(words[0][0])
        if encoder is whole:
            raise ValueError(f"head='verbalizer' needs a model with a head for words, not a {type(encoder).__name__}")
        if width != masks * encoder.config.hidden_size or list(sizes) != [len(words)]:
            raise ValueError(
                f"head='verbalizer' reads {masks} masks and knows {len(words)} classes, and nothing else: it was given "
                f"vectors of {width} numbers, for targets of {list(sizes)} logits"
            )
        setattr(whole, whole.base_model_prefix, Given(encoder))
        self.model = whole
        self.counts = [len(one) for one in words]
        tokens = torch.tensor([ids for one in words for ids in one])  # (words, masks)
        if is_causal(encoder.config):
            whole.set_output_embeddings(_rows(whole.get_output_embeddings(), tokens[:, 0]))
            tokens = torch.arange(len(tokens))[:, None]
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
            logits = self.model(
                inputs_embeds=states
            ).logits.float()  # (batch, masks, vocabulary, or words of a decoder)
        logits = logits[:, self.places, self.tokens]  # (batch, words, masks)
        return torch.stack([one.mean(dim=(1, 2)) for one in logits.split(self.counts, dim=1)], dim=1)


def _rows(head: nn.Linear, tokens: torch.Tensor) -> nn.Linear:
    """A linear layer with the rows of these tokens (words,), a copy in float32."""
    made = nn.Linear(head.in_features, len(tokens), bias=head.bias is not None, device=head.weight.device)
    with torch.no_grad():
        made.weight.copy_(head.weight[tokens])
        if head.bias is not None:
            made.bias.copy_(head.bias[tokens])
    return made


class States(BaseModelOutputWithPastAndCrossAttentions):
    """The output of an encoder: its states, and of all else that a family may look for, nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class Given(nn.Module):
    """Replaces the encoder in the language model: returns its input. Other attributes are the encoder's; a decoder in
    it, which the head of OPT calls instead, returns its input too."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        vars(self)["encoder"] = encoder  # not a submodule: it belongs to the classifier

    def __getattr__(self, name):
        part = getattr(vars(self)["encoder"], name)
        return Given(part) if name == "decoder" else part

    def forward(self, *args, inputs_embeds: torch.Tensor, **kwargs) -> States:
        return States(last_hidden_state=inputs_embeds)


def _leave_out_twins(module: Verbalizer, state: dict, prefix: str, *_) -> None:
    """A hook of `state_dict`: each shared weight is saved under one name."""
    for name in module.twins:
        state.pop(prefix + name, None)


def _put_back_twins(module: Verbalizer, state: dict, prefix: str, *_) -> None:
    """A hook of `load_state_dict`: a shared weight loaded under its first name counts under the others too."""
    for name in module.twins:
        state[prefix + name] = module.get_parameter(name).data


def language_model(config) -> type:
    """The class of transformers that loads the architecture of a configuration with its head for words."""
    return AutoModelForCausalLM if is_causal(config) else AutoModelForMaskedLM


def load_language_model(
    path: str,
    dropout: float | None = None,
    attention: str | None = None,
    attention_dropout: float | None = None,
    start: Path | None = None,
    untrained: bool = False,
    packed: Mapping[str, Any] = MappingProxyType({}),
) -> PreTrainedModel:
    """Load a backbone with its head for words, masked or of the next token, in float32.

    dropout, attention, attention_dropout: as in `load_backbone`. start: a folder of `Classifier.save`; where its head
    is a verbalizer, that head is loaded, and what its encoder has learned is left to others; the rows of a decoder's
    words are left to `load_words`. untrained: accept a head of random weights, to look at its shapes. packed: as in
    `load_backbone`.
    Raises ValueError for an architecture without such a head, and where neither the files nor the start have one.
    """
    same = start is not None and read_json(start / "classifier.json").get("head") == "verbalizer"
    config = load_config(str(start) if same else path, dropout, attention_dropout)
    kind, same = language_model(config), same and not is_causal(config)
    whole = same and read_base(start) is None  # else it stands on the weights of the backbone
    options = {"config": config, "dtype": torch.float32, "attn_implementation": attention, **packed}
    missing: set[str] = set()
    try:
        with quiet(), loading(backbone_folder(path), weights=True):
            if whole:
                model = kind.from_config(config, **{k: options[k] for k in ("dtype", "attn_implementation")})
            else:
                model, report = kind.from_pretrained(path, **options, output_loading_info=True)
                inside = f"{model.base_model_prefix}."
                missing = {name for name in report["missing_keys"] if not name.startswith(inside)}
    except ValueError as error:
        raise ValueError(f"verbalizer: {path} cannot predict words: {str(error).splitlines()[0]}") from error
    if missing and not untrained:
        how = "" if is_causal(config) else "start from a run of 2_pretrain whose objective is mlm, or "
        raise ValueError(
            f"verbalizer: the files of {path} have no pretrained head for words ({min(missing)} is missing): "
            f"{how}choose a backbone that has one"
        )
    if same:
        saved = read_tensors(start / "model.safetensors").items()
        head = {name.removeprefix(HEAD): tensor for name, tensor in saved if name.startswith(HEAD)}
        model.load_state_dict(head, strict=False)  # the encoder's weights are not among them
    return fast_deberta(model)


def load_words(head: Verbalizer, words: Sequence, start: Path) -> None:
    """Load the rows of a decoder's words from a folder of `Classifier.save`, where it has those of the same words."""
    if not is_causal(head.model.config) or read_json(start / "classifier.json").get("label_words") != words:
        return
    saved = read_tensors(start / "model.safetensors").items()
    head.load_state_dict({name.removeprefix("head."): x for name, x in saved if name.startswith("head.")})
