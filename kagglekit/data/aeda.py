"""Punctuation marks between the words of a text (AEDA: Karimi, Rossi and Prati, 2021, arXiv 2108.13230)."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

from collections.abc import Sequence

import numpy as np

from kagglekit.data.augmenter import Augmenter, random_of
from kagglekit.data.words import CHINESE, Words, is_chinese, split_words
from kagglekit.ranges import check_range


def insert_marks(text: Words, n: int, random: np.random.Generator) -> None:
    """A punctuation mark before each of `n` words, Chinese ones in Chinese text."""
    for place in random.choice(len(text), n, replace=False):
        if is_chinese(text.words[place]):
            text.gaps[place] += random.choice(list("。；？：！，"))
        else:
            text.gaps[place] += random.choice(list(".;?:!,")) + " "


class AEDA(Augmenter):
    """Put punctuation marks before words drawn by chance: all words stay, and in their order, so labels mostly do too.

    ratio: the number of marks is drawn from 1 up to this share of the words; 0 adds none, 0.3 is the paper's, 1 may
    put one before every word. chinese: what a word is, "jieba" or "characters". Costs next to nothing. A mark can speak
    where punctuation does: "?" and "!" in texts of one line.
    """

    def __init__(self, ratio: float = 0.3, chinese: str = "jieba"):
        self.ratio = ratio
        self.chinese = chinese

    def check(self):
        check_range("AEDA: ratio", self.ratio, 0 <= self.ratio <= 1, "from 0 to 1")
        check_range("AEDA: chinese", self.chinese, self.chinese in CHINESE, f"one of {', '.join(CHINESE)}")

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        return [self._mark(text, random_of(seed, text)) for text in texts] if self.ratio else list(texts)

    def _mark(self, text: str, random: np.random.Generator) -> str:
        words = split_words(text, self.chinese)
        if len(words):
            most = max(1, int(self.ratio * len(words)))
            insert_marks(words, int(random.integers(1, most + 1)), random)
        return str(words)
