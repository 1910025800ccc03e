"""Words that may stand in another's place: near it among word vectors, or named in a file."""

import re
from collections.abc import Sequence
from pathlib import Path

from torch.nn import functional as F

from kagglekit.data.expected_words import MaskedPredictions
from kagglekit.data.words import Words, fitting, whole_words
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer, quiet
from kagglekit.paths import resolve
from kagglekit.training.seeds import random_state_kept

Place = tuple[Words, int]  # a word in its text


class NearestWords:
    """The words whose vectors in the backbone's embeddings have the highest cosine with that of a word.

    They go where the word goes, and so do opposites: "bad" is near "good", and a label may change. A word that is not
    one token of the backbone has none, nor has a single character of Chinese, so hardly any word of Chinese does.
    similarity: the least cosine.
    """

    asked = 10  # places to ask about for each that is wanted: not every word has one, and asking is cheap

    def __init__(self, backbone: str, top: int = 5, similarity: float = 0.4):
        self.backbone = backbone
        self.top = top
        self.similarity = similarity
        self.words_: list[str] | None = None

    def find(self, places: Sequence[Place], chinese: str = "jieba") -> list[list[str]]:
        """For the word at each place, its neighbours, nearest first; none for a word that is unknown."""
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
                candidates = [
                    self.words_[o] for o, value in zip(others, values, strict=True) if value >= self.similarity
                ]
                found[k] = fitting(name, candidates)[: self.top]
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
    """The synonyms of a file: on each line a word and, behind it, those that may take its place.

    They are parted by tabs, by commas (also Chinese ones) or, on a line without either, by spaces. Case does not count
    in looking a word up. A word on several lines has the synonyms of all. Empty lines and those that begin with # say
    nothing. Raises FileNotFoundError, and ValueError that names a line without synonyms, or bytes that are not UTF-8.
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
    """A file of synonyms as word, in lower case -> its synonyms; see `SynonymFile`."""
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
    """What finds synonyms: "embeddings" of a backbone, "mlm", its predictions, or the path of a dictionary file."""
    if source == "embeddings":
        return NearestWords(backbone, top)
    if source == "mlm":
        return MaskedPredictions(backbone, top)
    return SynonymFile(source)
