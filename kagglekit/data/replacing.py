"""Words replaced by others that may stand in their place."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

from collections.abc import Collection, Sequence

import numpy as np

from kagglekit.data.augmenter import Augmenter, random_of
from kagglekit.data.synonyms import MaskedPredictions, SynonymFile, read_synonyms
from kagglekit.data.words import CHINESE, Words, in_case_of, is_stop_word, split_words
from kagglekit.ranges import check_range


def count_share(share: float, text: Words) -> int:
    """How many words a share of them is, at least one as in EDA's paper."""
    return min(max(1, int(share * len(text))), len(text))


def free_places(text: Words, keep: Collection[str] = ()) -> np.ndarray:
    """The places of all words but those of `keep`, in any case."""
    kept = {word.lower() for word in keep}
    return np.array([place for place, word in enumerate(text.words) if word.lower() not in kept], dtype=int)


def draw_synonyms(
    source,
    texts: Sequence[Words],
    counts: Sequence[int],
    randoms: Sequence[np.random.Generator],
    keep=(),
    chinese="jieba",
) -> list[list[tuple[int, str]]]:
    """For each text as many places as `counts` says, drawn among the words that have synonyms, and one synonym of each.

    source: what finds them, see `synonyms`; it is asked once for all texts, since it may be a model. Words that are not
    of letters only, stop words and those of `keep` have none. A synonym has the capitals of its word.
    """
    places = []
    for text, count, random in zip(texts, counts, randoms, strict=True):
        free = [place for place in free_places(text, keep).tolist() if _says_something(text.words[place])]
        places.append(random.permutation(free)[: count * source.asked].astype(int).tolist())
    answers = iter(
        source.find([(text, place) for text, own in zip(texts, places, strict=True) for place in own], chinese)
    )
    drawn = []
    for text, own, count, random in zip(texts, places, counts, randoms, strict=True):
        found = [(place, others) for place, others in zip(own, answers, strict=False) if others][:count]
        words = [in_case_of(text.words[place], others[random.integers(len(others))]) for place, others in found]
        drawn.append([(place, word) for (place, _), word in zip(found, words, strict=True)])
    return drawn


def _says_something(word: str) -> bool:
    return word.isalpha() and not is_stop_word(word)


def check_synonyms(name: str, source: str, top: int, chinese: str) -> None:
    """Raise FileNotFoundError or ValueError for knobs that say how synonyms are found, before anything is loaded."""
    check_range(f"{name}: top", top, top > 0, "above 0")
    check_range(f"{name}: chinese", chinese, chinese in CHINESE, f"one of {', '.join(CHINESE)}")
    if source not in ("embeddings", "mlm"):
        try:
            read_synonyms(source)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{name}: {source!r} is neither embeddings nor mlm, and no file: {error}"
            ) from error


def replace_words(
    texts: Sequence[str], source, share: float, seed: int, keep: Collection[str], chinese: str
) -> list[str]:
    """Texts with a share of their words, at least one, replaced by synonyms from `source`."""
    split = [split_words(text, chinese) for text in texts]
    randoms = [random_of(seed, text) for text in texts]
    counts = [count_share(share, text) for text in split]
    for text, own in zip(split, draw_synonyms(source, split, counts, randoms, keep, chinese), strict=True):
        for place, word in own:
            text.words[place] = word
    return [str(text) for text in split]


class MLMSynonyms(Augmenter):
    """Replace some words by others that the masked-language model expects there, see `MaskedPredictions`.

    share: of the words, at least one; 0 leaves texts as they are, 0.4 of the words is Jiao et al.'s (TinyBERT, 2020,
    section 4.2), much less is safer. top: a word is drawn from so many, the likeliest. Labels can change: a model often
    expects "bad" where "good" stands. keep: words that stay. chinese: what a word is, "jieba" or "characters".
    backbone: whose predictions; "" is the one that is trained, and needs a masked-language head. Costs one pass
    forward over twice the text per word that is replaced: do it ahead, not on the fly.
    """

    synonyms_: MaskedPredictions | None = None

    def __init__(
        self, share: float = 0.1, top: int = 5, keep: list[str] = (), chinese: str = "jieba", backbone: str = ""
    ):
        self.share = share
        self.top = top
        self.keep = keep
        self.chinese = chinese
        self.backbone = backbone

    def check(self):
        check_range("MLMSynonyms: share", self.share, 0 <= self.share <= 1, "from 0 to 1")
        check_synonyms("MLMSynonyms", "mlm", self.top, self.chinese)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        if not self.share:
            return list(texts)
        self.synonyms_ = self.synonyms_ or MaskedPredictions(self.backbone, self.top)
        return replace_words(texts, self.synonyms_, self.share, seed, self.keep, self.chinese)


class Dictionary(Augmenter):
    """Replace some words by synonyms from a file of your own, see `SynonymFile`: the safest, if the file is good.

    share: of the words, at least one that the file has; 0 leaves texts as they are, 1 replaces every word of the file.
    keep: words that stay. chinese: what a word is, "jieba" or "characters". Costs next to nothing.
    """

    synonyms_: SynonymFile | None = None

    def __init__(self, file: str, share: float = 0.1, keep: list[str] = (), chinese: str = "jieba"):
        self.file = file
        self.share = share
        self.keep = keep
        self.chinese = chinese

    def check(self):
        check_range("Dictionary: share", self.share, 0 <= self.share <= 1, "from 0 to 1")
        check_range("Dictionary: chinese", self.chinese, self.chinese in CHINESE, f"one of {', '.join(CHINESE)}")
        read_synonyms(self.file)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        if not self.share:
            return list(texts)
        self.synonyms_ = self.synonyms_ or SynonymFile(self.file)
        return replace_words(texts, self.synonyms_, self.share, seed, self.keep, self.chinese)
