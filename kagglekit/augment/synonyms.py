"""Synonyms: replace words by neighbours in the embeddings, by masked predictions, or by those of a file."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn import functional as F

from kagglekit.augment.augmenter import Augmenter, random_of
from kagglekit.augment.masked_words import MaskedPredictions
from kagglekit.data.words import Words, fitting, in_case_of, is_stop_word, split_words, whole_words
from kagglekit.device import random_state_kept
from kagglekit.files import resolve
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer, quiet
from kagglekit.options import knob

Place = tuple[Words, int]  # a word in its text


class NearestWords:
    """The nearest words by cosine of their vectors in the backbone's embeddings.

    They appear in similar contexts, and so do opposites: "bad" is near "good", and a label may change. A word that is
    not one token of the backbone has none, nor has a single Chinese character, so hardly any Chinese word does.
    similarity: the least cosine.
    """

    asked = 10  # places to look up for each one needed: not every word has a synonym, and a look-up is cheap

    def __init__(self, backbone: str, top: int = 5, similarity: float = 0.4):
        self.backbone, self.top, self.similarity = backbone, top, similarity
        self.words_: list[str] | None = None

    def find(self, places: Sequence[Place], chinese: str = "jieba") -> list[list[str]]:
        """The neighbours of the word at each place, nearest first; none for an unknown word."""
        if self.words_ is None:
            self._load()
        known = [place for place, (text, at) in enumerate(places) if text.words[at].lower() in self.numbers_]
        found: list[list[str]] = [[] for _ in places]
        for start in range(0, len(known), 256):
            part = known[start : start + 256]
            names = [places[k][0].words[places[k][1]].lower() for k in part]
            near = self.vectors_[[self.numbers_[name] for name in names]] @ self.vectors_.T  # (part, words)
            best, order = near.topk(min(2 * self.top + 4, near.shape[1]))
            for k, name, values, others in zip(part, names, best.tolist(), order.tolist(), strict=True):
                near_enough = [o for o, value in zip(others, values, strict=True) if value >= self.similarity]
                found[k] = fitting(name, [self.words_[o] for o in near_enough])[: self.top]
        return found

    def _load(self):
        path = find_backbone(self.backbone)
        with random_state_kept(), quiet():
            table = load_backbone(path).get_input_embeddings().weight.detach()
        tokens = whole_words(load_tokenizer(path))
        words = sorted(word for word in tokens if word.lower() == word and len(word) > 1)
        self.vectors_ = F.normalize(table[[tokens[word] for word in words]].float(), dim=1)  # (words, width)
        self.numbers_ = {word: number for number, word in enumerate(words)}
        self.words_ = words


class SynonymFile:
    """The synonyms of a file: on each line a word and then its synonyms.

    They are separated by tabs, by commas (also Chinese ones) or, on a line without either, by spaces. Case is ignored.
    A word on several lines has the synonyms of all. Empty lines and those that begin with # are skipped. Raises
    FileNotFoundError, and ValueError that names a line without synonyms, or bytes that are not UTF-8.
    """

    asked = 1000

    def __init__(self, file: str):
        self.file = file
        self.synonyms_: dict[str, list[str]] | None = None

    def find(self, places: Sequence[Place], chinese: str = "jieba") -> list[list[str]]:
        """The synonyms of the word at each place, in the order of the file."""
        if self.synonyms_ is None:
            self.synonyms_ = read_synonyms(self.file)
        return [self.synonyms_.get(text.words[at].casefold(), []) for text, at in places]


def read_synonyms(file: str | Path) -> dict[str, list[str]]:
    """A file of synonyms as word in lower case -> its synonyms; see `SynonymFile`."""
    path, synonyms = resolve(file), {}
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: it should hold a word and its synonyms on each line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}): save it so") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = re.split(r"[\t,，]", line) if re.search(r"[\t,，]", line) else line.split()
        word, *others = (part.strip() for part in parts)
        if not word or not any(others):
            raise ValueError(f"{path}, line {number}: {line.strip()[:60]!r} is not a word and its synonyms")
        known = synonyms.setdefault(word.casefold(), [])
        known += [other for other in others if other and other not in known and other.casefold() != word.casefold()]
    return synonyms


def make_synonyms(source: str, backbone: str, top: int):
    """The source of synonyms: "embeddings" or "mlm" (predictions) of a backbone, or the path of a file."""
    if source == "embeddings":
        return NearestWords(backbone, top)
    if source == "mlm":
        return MaskedPredictions(backbone, top)
    return SynonymFile(source)


def count_share(share: float, text: Words) -> int:
    """The number of words in a share of them, at least one as in EDA's paper."""
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
    keep: Collection[str] = (),
    chinese: str = "jieba",
) -> list[list[tuple[int, str]]]:
    """For each text, up to `counts` random places whose words have synonyms, each with one synonym.

    source: from `make_synonyms`; it is called once for all texts, since it may be a model. Words that are not letters
    only, stop words and those of `keep` have none. A synonym takes over the capitals of its word.
    """
    places = []
    for text, count, random in zip(texts, counts, randoms, strict=True):
        words = [(place, text.words[place]) for place in free_places(text, keep).tolist()]
        free = [place for place, word in words if word.isalpha() and not is_stop_word(word)]
        places.append(random.permutation(free)[: count * source.asked].astype(int).tolist())
    wanted = [(text, place) for text, own in zip(texts, places, strict=True) for place in own]
    answers, drawn = iter(source.find(wanted, chinese)), []
    for text, own, count, random in zip(texts, places, counts, randoms, strict=True):
        found = [(place, others) for place, others in zip(own, answers, strict=False) if others][:count]
        drawn.append([(p, in_case_of(text.words[p], others[random.integers(len(others))])) for p, others in found])
    return drawn


def check_synonyms(name: str, source: str) -> None:
    """Raise FileNotFoundError or ValueError for a file of synonyms that cannot be read, before anything is loaded."""
    if source not in ("embeddings", "mlm"):
        try:
            read_synonyms(source)
        except FileNotFoundError as error:
            what = f"{name}: {source!r} is neither embeddings nor mlm, and no file"
            raise FileNotFoundError(f"{what}: {error}") from error


def replace_words(
    texts: Sequence[str], source, share: float, seed: int, keep: Collection[str], chinese: str
) -> list[str]:
    """Replace a share of the words of each text, at least one, by synonyms from `source`."""
    split = [split_words(text, chinese) for text in texts]
    randoms = [random_of(seed, text) for text in texts]
    counts = [count_share(share, text) for text in split]
    for text, drawn in zip(split, draw_synonyms(source, split, counts, randoms, keep, chinese), strict=True):
        for place, word in drawn:
            text.words[place] = word
    return [str(text) for text in split]


@dataclass(eq=False)
class MLMSynonyms(Augmenter):
    """Replace words by those that the masked-language model predicts in their place, see `MaskedPredictions`.

    share: of the words, at least one; 0 leaves texts as they are, 0.4 is Jiao et al.'s (TinyBERT, 2020, section 4.2),
    much less is safer. top: a word is drawn from the `top` likeliest. Labels can change: a model often predicts "bad"
    in place of "good". keep: words that stay. chinese: what a word is, "jieba" or "characters". backbone: whose
    predictions; "" is the one that is trained, and needs a masked-language head. Costs a forward pass over twice the
    text per replaced word: augment ahead of training, not on the fly.
    """

    share: float = knob(0.1, "share of the words", least=0, most=1)
    top: int = knob(5, "likeliest words to draw from", above=0)
    keep: list[str] = knob([], "words that stay")
    chinese: str = knob("jieba", "what a word is", choices=("jieba", "characters"))
    backbone: str = ""

    synonyms_ = None

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        if not self.share:
            return list(texts)
        self.synonyms_ = self.synonyms_ or MaskedPredictions(self.backbone, self.top)
        return replace_words(texts, self.synonyms_, self.share, seed, self.keep, self.chinese)


@dataclass(eq=False)
class Dictionary(Augmenter):
    """Replace words by synonyms from a file of your own, see `SynonymFile`: the safest, if the file is good.

    share: of the words, at least one that the file has; 0 leaves texts as they are, 1 replaces every word of the file.
    keep: words that stay. chinese: what a word is, "jieba" or "characters". Costs almost nothing.
    """

    file: str
    share: float = knob(0.1, "share of the words", least=0, most=1)
    keep: list[str] = knob([], "words that stay")
    chinese: str = knob("jieba", "what a word is", choices=("jieba", "characters"))

    synonyms_ = None

    def check(self):
        read_synonyms(self.file)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        if not self.share:
            return list(texts)
        self.synonyms_ = self.synonyms_ or SynonymFile(self.file)
        return replace_words(texts, self.synonyms_, self.share, seed, self.keep, self.chinese)
