"""Which tokens masked-language modelling hides: MASKINGS has the schemes by name, `make_masking` builds one.

A scheme chooses tokens of each batch, hides them by the 80-10-10 rule of BERT, and keeps what they were as labels.
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import pandas as pd
import torch

from kagglekit.data.tokens import tokenize
from kagglekit.data.words import CHINESE
from kagglekit.device import random_state_kept
from kagglekit.model.classifier import Classifier
from kagglekit.options import check_range
from kagglekit.pretraining.importance import EntropyScorer, choose_best, score_tokens
from kagglekit.pretraining.objective import check_options
from kagglekit.pretraining.word_starts import WordTable, make_word_table
from kagglekit.tricks.trick import Trick, knob, trick


@trick
class Masking(Trick):
    """Hides tokens of a batch; a scheme overrides how they are drawn or chosen.

    Special tokens and padding are never chosen. Of the chosen ones 80 % become the mask token, 10 % a random one,
    10 % stay. Random numbers come from the global generator.
    """

    chosen_ = tokens_ = 0.0  # sums over the steps; they stay on the device, so that nothing waits for it

    mask_id: int = knob(MISSING, "the mask token of the tokenizer")
    vocabulary: int = knob(MISSING, "number of its tokens")
    special_ids: Sequence[int] = knob(MISSING, "its special tokens")
    probability: float = knob(0.15, "share of the tokens that is chosen, on average; 0.15 is usual, 0 learns nothing")

    def check(self):
        super().check()
        check_range("mask_probability", self.probability, 0 <= self.probability <= 1, "from 0 to 1")

    def find_maskable(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Where tokens may be chosen: bool (batch, tokens)."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        special = torch.tensor(self.special_ids, dtype=ids.dtype).to(ids.device, non_blocking=True)
        maskable = ~torch.isin(ids, special)
        return maskable if mask is None else maskable & mask.bool()

    def draw(self, ids: torch.Tensor, maskable: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A number from 0 to below 1 and a random token for each token: both (batch, tokens)."""
        return torch.rand(ids.shape, device=ids.device), torch.randint_like(ids, self.vocabulary)

    def choose(self, inputs, maskable: torch.Tensor, chance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which tokens are predicted, and the `part` of `hide_chosen`: both (batch, tokens)."""
        return maskable & (chance < self.probability), chance / self.probability if self.probability else chance

    def hide(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`inputs` with some tokens hidden; `chosen` (batch, tokens) says which, `labels` (chosen,) what they were."""
        ids, maskable = inputs["input_ids"], self.find_maskable(inputs)
        chance, others = self.draw(ids, maskable)
        chosen, part = self.choose(inputs, maskable, chance)
        hidden = hide_chosen(ids, chosen, part, others, self.mask_id)
        return {**inputs, "input_ids": hidden, "chosen": chosen, "labels": ids[chosen]}

    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        seen = self.hide(inputs)
        self.chosen_ = self.chosen_ + seen["chosen"].sum()
        self.tokens_ = self.tokens_ + self.find_maskable(inputs).sum()
        return compute(seen)

    def receipt(self, model):
        share = float(self.chosen_) / max(float(self.tokens_), 1)
        return {**super().receipt(model), "share of tokens chosen": share}


def hide_chosen(ids: torch.Tensor, chosen: torch.Tensor, part: torch.Tensor, others: torch.Tensor, mask_id: int):
    """The 80-10-10 rule (Devlin et al., 2019), all (batch, tokens): a chosen token becomes the mask token where its
    `part` is below 0.8, that of `others` from 0.9 on, and stays in between. part: uniform from 0 to 1."""
    hidden = torch.where(chosen & (part < 0.8), mask_id, ids)
    return torch.where(chosen & (part >= 0.9), others, hidden)


@trick
class DynamicMasking(Masking):
    """Hides other tokens of a text at each visit (RoBERTa; Liu et al., 2019, arXiv 1907.11692)."""


@trick
class StaticMasking(Masking):
    """Hides the same tokens of a text at each visit (BERT; Devlin et al., 2019, arXiv 1810.04805).

    The choice depends on the tokens of the row and on `seed`, not on its batch or padding.
    """

    seed: int = knob(0, "another one hides other tokens", kw_only=True)
    copies: int = knob(
        1, "fixed patterns of a row, one is drawn at each visit: 10 in BERT; many are dynamic", kw_only=True, least=1
    )

    def draw(self, ids, maskable):
        places = torch.arange(ids.shape[1], device=ids.device)
        seed = torch.full_like(ids[:, :1], self.seed)  # (batch, 1)
        if self.copies > 1:
            seed = seed * self.copies + torch.randint_like(seed, self.copies)
        row = (scramble(ids + scramble(places)) * maskable).sum(dim=1, keepdim=True)  # padding adds nothing
        numbers = scramble(scramble(row + scramble(seed)) + places)  # (batch, tokens)
        return (numbers >> 40 & 2**24 - 1) / 2**24, (numbers & 2**40 - 1) % self.vocabulary


def scramble(numbers: torch.Tensor) -> torch.Tensor:
    """64 random-looking bits for each int64 (SplitMix64; Steele et al., 2014)."""
    numbers = numbers + (0x9E3779B97F4A7C15 - 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)):
        numbers = (numbers ^ (numbers >> shift & 2 ** (64 - shift) - 1)) * factor  # a shift that brings in zeros
    return numbers ^ (numbers >> 31 & 2**33 - 1)


@trick
class WholeWordMasking(Masking):
    """Hides all pieces of a word or none, since one piece gives the others away (BERT-WWM; Cui et al., 2019,
    arXiv 1906.08101).

    Each word is chosen with `probability`, and so is each token; the 80-10-10 rule goes by words.
    """

    words: WordTable = knob(None, "from `make_word_table(tokenizer)`")
    chinese: str = knob(
        "jieba", 'finds words of Chinese text; "characters": pieces of the tokenizer, without a package', kw_only=True
    )

    def check(self):
        super().check()
        check_range("masking_options: chinese", self.chinese, self.chinese in CHINESE, f"one of {', '.join(CHINESE)}")

    def starts(self, ids: torch.Tensor, maskable: torch.Tensor) -> torch.Tensor:
        """Where a group of tokens begins that is hidden as a whole: bool (batch, tokens)."""
        return self.words.starts(ids, maskable, self.chinese == "jieba")

    def choose(self, inputs, maskable, chance):
        groups = number(self.starts(inputs["input_ids"], maskable))
        return super().choose(inputs, maskable, chance.gather(1, groups))


@trick
class SpanMasking(WholeWordMasking):
    """Hides several words in a row, n-grams of whole words (SpanBERT; Joshi et al., 2020, arXiv 1907.10529).

    A row is cut into spans, whose chances fall as (1 - geometric)^(words - 1); each span is chosen with `probability`,
    and so is each token. A span ends at a special token and at the end of the row. The 80-10-10 rule goes by spans.
    """

    max_span: int = knob(10, "words of the longest span; 1: whole-word masking", kw_only=True, least=1)
    geometric: float = knob(0.2, "0.2: 3.8 words on average; 1: whole-word masking", kw_only=True, above=0, most=1)

    def starts(self, ids, maskable):
        chances = (1 - self.geometric) ** torch.arange(self.max_span, dtype=torch.float32, device=ids.device)
        lengths = 1 + chances.multinomial(ids.numel(), replacement=True).view(ids.shape)  # (batch, spans)
        return span_starts(super().starts(ids, maskable), maskable, lengths)


def number(starts: torch.Tensor) -> torch.Tensor:
    """The number of the group that each token is in, from 0 on; `starts` (batch, tokens): where groups begin."""
    return starts.long().cumsum(dim=1).clamp(min=1) - 1


def span_starts(word_starts: torch.Tensor, maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Where spans begin that are `lengths` (batch, spans) words long, and behind each token that is not maskable.

    word_starts, maskable: (batch, tokens). There are at least as many lengths as words.
    """
    span = torch.searchsorted(lengths.cumsum(dim=1), number(word_starts), right=True)  # (batch, tokens)
    starts = torch.ones_like(word_starts)
    starts[:, 1:] = (span[:, 1:] != span[:, :-1]) | ~maskable[:, :-1]
    return starts


@trick
class SelectiveMasking(Masking):
    """Hides the tokens that matter most to a task (Train No Evil; Gu et al., 2020, arXiv 2004.09733).

    Of each row the share `probability` with the highest scores is chosen, rounded up or down at random so that it is
    right on average. Tokens that the scorer does not know are hidden from it.
    """

    scorer: Any = knob(None, "a `TokenScorer` or an `EntropyScorer`, which scores each token")
    temperature: float = knob(
        0.0,
        "0: the same tokens at each visit; above: drawn by exp(score / temperature); large: dynamic",
        kw_only=True,
        least=0,
    )

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
    return [one.name for one in fields(MASKINGS[name]) if one.kw_only and one.name != "start"]


def make_masking(
    name: str, tokenizer, probability: float = 0.15, options: dict[str, Any] | None = None, scorer=None
) -> Masking:
    """The scheme of a name of MASKINGS, for a tokenizer.

    options: of the scheme, see its class. scorer: for "selective" and "entropy", what `train_token_scorer` learned from
    a task model by the rule of that name; "entropy" also takes the task model itself (`Classifier`): exact, and slow.
    Raises ValueError for an unknown name or option, one out of range, a tokenizer without a mask token, and a missing
    scorer.
    """
    options, special_ids, needed = dict(options or {}), tuple(tokenizer.all_special_ids), []
    check_options("masking_options", name, options, masking_options(name))
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer of this backbone has no mask token: it cannot be pretrained by masking")
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
    """The first `n` tokens of each text as a model in training reads them: chosen ones as [token -> replacement]."""
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
