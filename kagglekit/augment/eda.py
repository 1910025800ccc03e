"""EDA, easy data augmentation (Wei and Zou, 2019, arXiv 1901.11196), and AEDA, which inserts punctuation marks
(Karimi, Rossi and Prati, 2021, arXiv 2108.13230)."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from kagglekit.augment.augmenter import Augmenter, random_of
from kagglekit.augment.synonyms import check_synonyms, count_share, draw_synonyms, free_places, make_synonyms
from kagglekit.data.words import Words, is_chinese, split_words
from kagglekit.options import knob

OPERATIONS = ("replace", "insert", "swap", "delete")


def swap_words(text: Words, n: int, random: np.random.Generator, keep: Collection[str] = ()) -> None:
    """Swap two words, `n` times; those of `keep` stay where they are."""
    places = free_places(text, keep)
    for _ in range(n if len(places) > 1 else 0):
        a, b = random.choice(places, 2, replace=False)
        text.words[a], text.words[b] = text.words[b], text.words[a]


def delete_words(text: Words, share: float, random: np.random.Generator, keep: Collection[str] = ()) -> None:
    """Delete each word but those of `keep` with the probability `share`; at least one word is left."""
    places = free_places(text, keep)
    gone = places[random.random(len(places)) < share]
    if len(gone) == len(text):
        gone = np.delete(gone, random.integers(len(gone))) if len(gone) else gone
    for place in gone[::-1]:
        text.delete(place)


def insert_marks(text: Words, n: int, random: np.random.Generator) -> None:
    """Insert a punctuation mark before each of `n` words, a Chinese one before Chinese words."""
    for place in random.choice(len(text), n, replace=False):
        if is_chinese(text.words[place]):
            text.gaps[place] += random.choice(list("。；？：！，"))
        else:
            text.gaps[place] += random.choice(list(".;?:!,")) + " "


@dataclass(eq=False)
class EDA(Augmenter):
    """Apply one of four operations to each text, drawn at random: replace words by synonyms, insert synonyms of words
    elsewhere, swap words, or delete words.

    replace, insert, swap: the share of words, at least one; delete: the probability of each word. 0 leaves the
    operation out, all four 0 leave texts as they are. The paper takes 0.05 up to 2,000 rows, 0.1 above, and 16 copies
    of 500 rows, 8 of 2,000, 4 of more; 0.5 hurts more than it helps.
    Labels can change: a lost or moved "not", "good" that becomes "bad", its near neighbour. (Of tweets with a negation
    delete=0.1 loses one in 13 %, all four at 0.1 in 3 %.) keep: words that are never touched, such as ["not", "no",
    "never", "不", "没有"].
    synonyms: "embeddings" (`NearestWords`, of little use for Chinese), "mlm" (`MaskedPredictions`), or the path of a
    file (`SynonymFile`). top: a synonym is drawn from the `top` best. Stop words and words that are not letters only
    have none. chinese: what a word is, "jieba" or "characters". backbone: whose embeddings or predictions; "" is the
    one that is trained. Costs almost nothing, with "mlm" a forward pass over twice the text for each word.
    """

    synonyms: str = "embeddings"
    replace: float = knob(0.1, "share of the words", least=0, below=1)
    insert: float = knob(0.1, "share of the words", least=0, below=1)
    swap: float = knob(0.1, "share of the words", least=0, below=1)
    delete: float = knob(0.1, "probability of each word", least=0, below=1)
    keep: list[str] = knob([], "words that stay")
    top: int = knob(5, "best synonyms to draw from", above=0)
    chinese: str = knob("jieba", "what a word is", choices=("jieba", "characters"))
    backbone: str = ""

    synonyms_ = None

    def check(self):
        check_synonyms("EDA", self.synonyms)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        operations = [name for name in OPERATIONS if getattr(self, name)]
        if not operations:
            return list(texts)
        split = [split_words(text, self.chinese) for text in texts]
        randoms = [random_of(seed, text) for text in texts]
        drawn = [str(random.choice(operations)) if len(t) else "" for t, random in zip(split, randoms, strict=True)]
        for text, random, name in zip(split, randoms, drawn, strict=True):
            if name == "swap":
                swap_words(text, count_share(self.swap, text), random, self.keep)
            elif name == "delete":
                delete_words(text, self.delete, random, self.keep)
        rows = [row for row, name in enumerate(drawn) if name in ("replace", "insert")]
        if rows:
            self._use_synonyms(*([of[row] for row in rows] for of in (split, randoms, drawn)))
        return [str(text) for text in split]

    def _use_synonyms(self, texts: list[Words], randoms: list[np.random.Generator], names: list[str]) -> None:
        self.synonyms_ = self.synonyms_ or make_synonyms(self.synonyms, self.backbone, self.top)
        counts = [count_share(getattr(self, name), text) for text, name in zip(texts, names, strict=True)]
        drawn = draw_synonyms(self.synonyms_, texts, counts, randoms, self.keep, self.chinese)
        for text, random, name, synonyms in zip(texts, randoms, names, drawn, strict=True):
            for place, word in synonyms:
                if name == "replace":
                    text.words[place] = word
                else:
                    text.insert(int(random.integers(len(text))), word)


@dataclass(eq=False)
class AEDA(Augmenter):
    """Insert punctuation marks before randomly chosen words: words and their order stay, so labels mostly do too.

    ratio: the number of marks is drawn from 1 up to this share of the words; 0 adds none, 0.3 is the paper's, 1 may
    put one before every word. chinese: what a word is, "jieba" or "characters". Costs almost nothing. Punctuation can
    carry the label: "?" and "!" in one-line texts.
    """

    ratio: float = knob(0.3, "marks, at most, as a share of the words", least=0, most=1)
    chinese: str = knob("jieba", "what a word is", choices=("jieba", "characters"))

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        return [self._mark(text, random_of(seed, text)) for text in texts] if self.ratio else list(texts)

    def _mark(self, text: str, random: np.random.Generator) -> str:
        words = split_words(text, self.chinese)
        if len(words):
            most = max(1, int(self.ratio * len(words)))
            insert_marks(words, int(random.integers(1, most + 1)), random)
        return str(words)
