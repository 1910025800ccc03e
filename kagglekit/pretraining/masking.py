"""What every masking does: choose tokens, hide them by the 80-10-10 rule, and say which; anew at each visit, or not.

Whole words hidden, one by one or several in a row.
"""

from collections.abc import Sequence

import torch

from kagglekit.data.words import CHINESE
from kagglekit.options import check_range
from kagglekit.pretraining.words import WordTable
from kagglekit.tricks.trick import Trick


def mask_tokens(
    input_ids: torch.Tensor, maskable: torch.Tensor, mask_id: int, vocabulary: int, probability: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose tokens to predict, anew at every call (Liu et al., 2019), and hide them (Devlin et al., 2019).

    input_ids, maskable: (batch, tokens); only where `maskable` is True can a token be chosen. Each is chosen with
    `probability`; of these 80 % become the mask token, 10 % a random one, 10 % stay.
    Returns the ids with hidden tokens, and where tokens were chosen (bool), both (batch, tokens). Uses the global RNG.
    """
    chance = torch.rand(input_ids.shape, device=input_ids.device)
    chosen = maskable & (chance < probability)
    others = torch.randint_like(input_ids, vocabulary)
    return hide_chosen(input_ids, chosen, chance / probability, others, mask_id), chosen


def hide_chosen(ids: torch.Tensor, chosen: torch.Tensor, part: torch.Tensor, others: torch.Tensor, mask_id: int):
    """The 80-10-10 rule, all (batch, tokens): a chosen token becomes the mask token where its `part` is below 0.8, and
    from 0.9 on the one of `others`; between them it stays. part: uniform from 0 to 1."""
    hidden = torch.where(chosen & (part < 0.8), mask_id, ids)
    return torch.where(chosen & (part >= 0.9), others, hidden)


def choose_best(scores: torch.Tensor, maskable: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The `counts` (batch,) maskable tokens of each row with the highest scores (batch, tokens), as bool."""
    order = scores.masked_fill(~maskable, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return maskable & (order.argsort(dim=1) < counts[:, None])


class Masking(Trick):
    """Hides tokens of a batch and says which; a scheme overrides how they are drawn or chosen.

    mask_id, vocabulary, special_ids: of the tokenizer; special tokens, the padding among them, are never chosen.
    probability: share of the tokens that is chosen, on average; 0.15 is usual, 0 learns nothing. Of what is chosen
    80 % become the mask token, 10 % a random one, 10 % stay. Random numbers come from the global generator.
    """

    chosen_: torch.Tensor | float = 0.0  # sums over the steps; they stay on the device: no waiting
    tokens_: torch.Tensor | float = 0.0

    def __init__(self, mask_id: int, vocabulary: int, special_ids: Sequence[int], probability: float = 0.15):
        self.mask_id = mask_id
        self.vocabulary = vocabulary
        self.special_ids = special_ids
        self.probability = probability

    def check(self):
        super().check()
        check_range("mask_probability", self.probability, 0 <= self.probability <= 1, "from 0 to 1")

    def find_maskable(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Where tokens may be chosen (batch, tokens): no special ones, and no padding."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        special = torch.tensor(self.special_ids, dtype=ids.dtype).to(ids.device, non_blocking=True)
        maskable = ~torch.isin(ids, special)
        return maskable if mask is None else maskable & mask.bool()

    def draw(self, ids: torch.Tensor, maskable: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each token a number from 0 to below 1, and a random token."""
        return torch.rand(ids.shape, device=ids.device), torch.randint_like(ids, self.vocabulary)

    def choose(self, inputs, maskable: torch.Tensor, chance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which tokens are predicted, and the `part` of `hide_chosen`."""
        return maskable & (chance < self.probability), chance / self.probability if self.probability else chance

    def hide(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`inputs` with some tokens hidden, where they were (`chosen`) and what they were (`labels`, (chosen,))."""
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


class DynamicMasking(Masking):
    """Hide other tokens of a text each time it comes by (RoBERTa; Liu et al., 2019, arXiv 1907.11692)."""


class StaticMasking(Masking):
    """Hide the same tokens of a text each time it comes by (BERT; Devlin et al., 2019, arXiv 1810.04805).

    What is hidden hangs on the tokens of the row and on `seed` alone, not on its batch or its padding. copies: each
    row has so many fixed patterns, one of which is drawn at each visit: BERT's data were copied 10 times; 1 is one
    pattern for ever, many are dynamic masking.
    """

    def __init__(self, mask_id, vocabulary, special_ids, probability=0.15, *, seed: int = 0, copies: int = 1):
        super().__init__(mask_id, vocabulary, special_ids, probability)
        self.seed = seed
        self.copies = copies

    def check(self):
        super().check()
        check_range("masking_options: copies", self.copies, self.copies >= 1, "1 or more")

    def draw(self, ids, maskable):
        places = torch.arange(ids.shape[1], device=ids.device)
        seed = torch.full_like(ids[:, :1], self.seed)  # (batch, 1)
        if self.copies > 1:
            seed = seed * self.copies + torch.randint_like(seed, self.copies)
        row = (scramble(ids + scramble(places)) * maskable).sum(dim=1, keepdim=True)  # padding adds nothing
        numbers = scramble(scramble(row + scramble(seed)) + places)  # (batch, tokens)
        return (numbers >> 40 & 2**24 - 1) / 2**24, (numbers & 2**40 - 1) % self.vocabulary


def scramble(numbers: torch.Tensor) -> torch.Tensor:
    """A number of 64 random-looking bits for each int64 (SplitMix64; Steele et al., 2014)."""
    numbers = numbers + (0x9E3779B97F4A7C15 - 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)):
        numbers = (numbers ^ (numbers >> shift & 2 ** (64 - shift) - 1)) * factor  # a shift that brings in zeros
    return numbers ^ (numbers >> 31 & 2**33 - 1)


def number(starts: torch.Tensor) -> torch.Tensor:
    """A number for each token (batch, tokens), from 0 on, the same up to the next one of `starts` (bool)."""
    return starts.long().cumsum(dim=1).clamp(min=1) - 1


def span_starts(word_starts: torch.Tensor, maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Where spans begin, of `lengths` words (batch, spans) one after the other, and behind what is not maskable.

    word_starts, maskable: (batch, tokens). There must be as many lengths as there may be words.
    """
    span = torch.searchsorted(lengths.cumsum(dim=1), number(word_starts), right=True)  # (batch, tokens)
    starts = torch.ones_like(word_starts)
    starts[:, 1:] = (span[:, 1:] != span[:, :-1]) | ~maskable[:, :-1]
    return starts


class WholeWordMasking(Masking):
    """Hide all pieces of a word or none: what is left of a word would give it away (BERT-WWM; Cui et al., 2019,
    arXiv 1906.08101).

    Each word is chosen with `probability`, so that the share of tokens is that too; the 80-10-10 rule goes by words.
    words: from `make_word_table(tokenizer)`. chinese: "jieba" finds the words of Chinese text; "characters" takes what
    the tokenizer makes of it, mostly single characters, and needs no package.
    """

    def __init__(self, mask_id, vocabulary, special_ids, probability, words: WordTable, *, chinese: str = "jieba"):
        super().__init__(mask_id, vocabulary, special_ids, probability)
        self.words = words
        self.chinese = chinese

    def check(self):
        super().check()
        check_range("masking_options: chinese", self.chinese, self.chinese in CHINESE, f"one of {', '.join(CHINESE)}")

    def starts(self, ids: torch.Tensor, maskable: torch.Tensor) -> torch.Tensor:
        """Where what is hidden as a whole begins (batch, tokens)."""
        return self.words.starts(ids, maskable, self.chinese == "jieba")

    def choose(self, inputs, maskable, chance):
        groups = number(self.starts(inputs["input_ids"], maskable))
        return super().choose(inputs, maskable, chance.gather(1, groups))


class SpanMasking(WholeWordMasking):
    """Hide several words in a row, n-grams of whole words (SpanBERT; Joshi et al., 2020, arXiv 1907.10529).

    The row is cut into spans, of 1, 2, ... `max_span` words with chances that fall as (1 - geometric)^(words - 1), and
    each span is chosen with `probability`: so is each token. geometric: 0.2, with max_span 10, is 3.8 words on average;
    1 is spans of one word, and so is max_span=1: whole-word masking. A span ends at a special token and at the end of
    the row. The 80-10-10 rule goes by spans.
    """

    def __init__(
        self,
        mask_id,
        vocabulary,
        special_ids,
        probability,
        words: WordTable,
        *,
        chinese: str = "jieba",
        max_span: int = 10,
        geometric: float = 0.2,
    ):
        super().__init__(mask_id, vocabulary, special_ids, probability, words, chinese=chinese)
        self.max_span = max_span
        self.geometric = geometric

    def check(self):
        super().check()
        check_range("masking_options: max_span", self.max_span, self.max_span >= 1, "1 or more words")
        check_range("masking_options: geometric", self.geometric, 0 < self.geometric <= 1, "above 0, up to 1")

    def starts(self, ids, maskable):
        chances = (1 - self.geometric) ** torch.arange(self.max_span, dtype=torch.float32, device=ids.device)
        lengths = 1 + chances.multinomial(ids.numel(), replacement=True).view(ids.shape)  # (batch, spans)
        return span_starts(super().starts(ids, maskable), maskable, lengths)
