"""Which tokens are hidden for masked-language modelling. `MASKINGS` has the schemes by name."""

import inspect
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from kagglekit.data.tokens import tokenize
from kagglekit.device import random_state_kept
from kagglekit.model.classifier import Classifier
from kagglekit.options import check_range
from kagglekit.pretraining.importance import EntropyScorer, score_tokens
from kagglekit.pretraining.masking import (
    DynamicMasking,
    Masking,
    SpanMasking,
    StaticMasking,
    WholeWordMasking,
    choose_best,
    mask_tokens,
)
from kagglekit.pretraining.objective import check_options
from kagglekit.pretraining.words import make_word_table

__all__ = ["MASKINGS", "DynamicMasking", "Masking", "make_masking", "mask_tokens", "show_masking"]


class SelectiveMasking(Masking):
    """Hide the tokens that matter most to a task (Train No Evil; Gu et al., 2020, arXiv 2004.09733).

    scorer: a module, (input_ids, attention_mask) -> {"logits": (batch, tokens)}, how much each token matters:
    a `TokenScorer` or an `EntropyScorer`; tokens it does not know are hidden from it.
    Of each row the share `probability` with the highest scores is chosen; where that is no whole number it is rounded
    up or down at random, so that it is right on average. temperature: 0 chooses the same tokens at each visit; above 0
    they are drawn, each with a chance that grows with exp(score / temperature); large is dynamic masking.
    """

    def __init__(self, mask_id, vocabulary, special_ids, probability, scorer, *, temperature: float = 0.0):
        super().__init__(mask_id, vocabulary, special_ids, probability)
        self.scorer = scorer
        self.temperature = temperature

    def check(self):
        super().check()
        check_range("masking_options: temperature", self.temperature, self.temperature >= 0, "0 or more")

    def choose(self, inputs, maskable, chance):
        scores = score_tokens(self.scorer, inputs, self.mask_id)
        if self.temperature:
            scores = scores / self.temperature - (-torch.rand_like(scores).log()).log()  # Gumbel: draws without return
        counts = (maskable.sum(dim=1) * self.probability + torch.rand(len(scores), device=scores.device)).floor()
        return choose_best(scores, maskable, counts), chance


MASKINGS = {
    "dynamic": DynamicMasking,
    "static": StaticMasking,
    "whole_word": WholeWordMasking,
    "span": SpanMasking,
    "selective": SelectiveMasking,
    "entropy": SelectiveMasking,
}


def masking_options(name: str) -> list[str]:
    """The names of the options of a scheme of MASKINGS."""
    check_range("masking", name, name in MASKINGS, f"one of {', '.join(MASKINGS)}")
    knobs = inspect.signature(MASKINGS[name]).parameters.values()
    return [knob.name for knob in knobs if knob.kind is knob.KEYWORD_ONLY]


def make_masking(
    name: str, tokenizer, probability: float = 0.15, options: dict[str, Any] | None = None, scorer=None
) -> Masking:
    """The masking of a name of MASKINGS for a tokenizer.

    options: of the scheme, see its class. scorer: of "selective" and "entropy", what `train_token_scorer` makes of a
    task model by the rule of that name; "entropy" also takes the task model itself (`Classifier`): exact, and slow.
    Raises ValueError for a name or an option that is not known or out of range, for a tokenizer without a mask token,
    and where a scorer is missing.
    """
    options, known = dict(options or {}), masking_options(name)
    check_options("masking_options", name, options, known)
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer of this backbone has no mask token: it cannot be pretrained by masking")
    special_ids, needed = tokenizer.all_special_ids, []
    if issubclass(MASKINGS[name], WholeWordMasking):
        needed = [make_word_table(tokenizer)]
    elif MASKINGS[name] is SelectiveMasking:
        if scorer is None:
            raise ValueError(f"masking={name!r} needs a model of the task, which says what matters: give a scorer")
        if isinstance(scorer, Classifier):
            check_range("masking", name, name == "entropy", "entropy, or be given a TokenScorer of the task model")
            scorer = EntropyScorer(scorer, tokenizer.mask_token_id, special_ids)
        needed = [scorer]
    masking = MASKINGS[name](tokenizer.mask_token_id, len(tokenizer), special_ids, probability, *needed, **options)
    masking.check()
    return masking


def show_masking(texts: Sequence[str], tokenizer, masking: Masking, n: int = 48, seed: int = 0) -> pd.DataFrame:
    """The first `n` tokens of each text as a model in training sees them: chosen ones as [token -> what is shown]."""
    rows = []
    with random_state_kept():
        torch.manual_seed(seed)
        for text in texts:
            inputs = tokenize([text], tokenizer, n).pad(tokenizer.pad_token_id)
            seen = masking.hide(inputs)
            was, now = (tokenizer.convert_ids_to_tokens(x["input_ids"][0].tolist()) for x in (inputs, seen))
            marked = [f"[{a} -> {b}]" if c else a for a, b, c in zip(was, now, seen["chosen"][0], strict=True)]
            rows.append(" ".join(marked))
    return pd.DataFrame({"as the model sees it": rows})
