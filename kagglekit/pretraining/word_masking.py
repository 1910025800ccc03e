"""Whole words hidden, one by one or several in a row."""

import torch

from kagglekit.data.words import CHINESE
from kagglekit.pretraining.hiding import Masking
from kagglekit.pretraining.words import WordTable
from kagglekit.ranges import check_range


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
