"""Where words begin in a row of token ids, whatever the tokenizer."""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kagglekit.data.words import IS_HAN, load_jieba

MARKS = {"##": "inside", "▁": "before", "Ġ": "before"}  # WordPiece, SentencePiece, byte-level BPE


@dataclass(frozen=True, eq=False)
class WordTable:
    """Word boundaries of a vocabulary; tables are (vocabulary,) bool.

    mark: how the tokenizer marks pieces, a name of MARKS. begins: the token begins a word. closes: the next one does.
    spaced: a space stands before it. chinese: it consists of Chinese characters, or is a part of one. text: its bytes.
    """

    mark: str
    begins: torch.Tensor = field(repr=False)
    closes: torch.Tensor = field(repr=False)
    spaced: np.ndarray = field(repr=False)
    chinese: torch.Tensor = field(repr=False)
    text: list[bytes] = field(repr=False)

    def starts(self, ids: torch.Tensor, maskable: torch.Tensor, segment: bool = True) -> torch.Tensor:
        """Where words begin (bool); ids, maskable: (batch, tokens). A token that is not maskable is a word of its own.

        segment: jieba splits Chinese text into words, from the row's own tokens; the ids then come to the CPU. Without
        it a word is a piece of the tokenizer, mostly a character. Raises ModuleNotFoundError when jieba is missing.
        """
        begins, closes, chinese = (x.to(ids.device)[ids] for x in (self.begins, self.closes, self.chinese))
        begins[:, 1:] |= closes[:, :-1] | ~maskable[:, :-1]
        begins[:, 0] = True
        begins |= ~maskable
        if segment and bool((chinese := chinese & maskable).any()):
            rows = (x.cpu().numpy() for x in (ids, maskable, chinese, begins))
            joined = np.stack([self._join(*row) for row in zip(*rows, strict=True)])
            return torch.from_numpy(joined).to(ids.device)
        return begins

    def _join(self, ids: np.ndarray, maskable: np.ndarray, chinese: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The `starts` of one row, those inside its Chinese text by jieba."""
        starts, places = starts.copy(), np.flatnonzero(chinese)
        opens = (np.diff(places, prepend=-2) > 1) | self.spaced[ids[places]]
        for run in np.split(places, np.flatnonzero(opens)[1:]) if len(places) else ():
            pieces = [self.text[i] for i in ids[run]]
            text = b"".join(pieces).decode("utf-8", "surrogateescape")  # a part of a character is kept as it is
            if not IS_HAN.search(text):
                continue
            ends = cut_chinese(text)
            starts[run[1:]] = [end in ends for end in np.cumsum([len(piece) for piece in pieces])[:-1]]
            before, behind = run[0] - 1, run[-1] + 1
            if before >= 0 and self.text[ids[before]]:  # a space of its own goes with what it stands before
                starts[run[0]] = True
            if behind < len(ids):
                starts[behind] = True
        return starts


@lru_cache(maxsize=100_000)
def cut_chinese(text: str) -> frozenset[int]:
    """Where the words of a Chinese text end, by jieba, in bytes of UTF-8; see `load_jieba`."""
    lengths = [len(word.encode("utf-8", "surrogateescape")) for word in load_jieba().cut(text)]
    return frozenset(np.cumsum(lengths).tolist())


def make_word_table(tokenizer) -> WordTable:
    """The table of a tokenizer, read from its vocabulary.

    WordPiece marks pieces inside a word (##); SentencePiece (▁) and byte-level BPE (Ġ) mark a space before one: there a
    sign that is no letter, mark or digit is a word of its own too, as in BERT. Added tokens are words.
    Raises ValueError for a vocabulary without such marks.
    """
    vocabulary = tokenizer.get_vocab()
    counts = {mark: sum(token.startswith(mark) for token in vocabulary) for mark in MARKS}
    mark = max(counts, key=counts.get)
    if not counts[mark]:
        raise ValueError(
            f"the tokenizer's vocabulary marks no pieces of words ({', '.join(MARKS)}): where words begin is not "
            'known; use masking = "dynamic"'
        )
    size = max(vocabulary.values()) + 1
    begins, closes, spaced, chinese = (np.zeros(size, dtype=bool) for _ in range(4))
    text = [b""] * size
    bytes_of = {character: byte for byte, character in bytes_to_unicode().items()}
    added = set(tokenizer.added_tokens_decoder)
    for token, i in vocabulary.items():
        content = token.encode() if i in added else _content(token, mark, bytes_of)
        body = content.lstrip(b" ")
        letters = body.decode("utf-8", "surrogateescape")
        spaced[i] = content.startswith(b" ")
        if MARKS[mark] == "inside":
            begins[i] = not token.startswith(mark)
        else:
            begins[i] = spaced[i] or not letters or not _in_word(letters[0])
            closes[i] = bool(letters) and not _in_word(letters[-1])
        if i in added:
            begins[i] = closes[i] = True
            continue
        text[i] = body
        broken = any(unicodedata.category(c) == "Cs" for c in letters)
        chinese[i] = broken or (bool(letters) and all(map(IS_HAN.match, letters)))
    return WordTable(mark, *map(torch.from_numpy, (begins, closes)), spaced, torch.from_numpy(chinese), text)


def _content(token: str, mark: str, bytes_of: dict[str, int]) -> bytes:
    """The text of a token in UTF-8, with a space in place of its mark."""
    if mark == "Ġ":
        return bytes(bytes_of[c] for c in token) if all(c in bytes_of for c in token) else token.encode()
    if mark == "##":
        return token.removeprefix(mark).encode()
    byte = re.fullmatch("<0x([0-9A-F]{2})>", token)  # what has no piece of its own is spelt in bytes
    return bytes([int(byte[1], 16)]) if byte else token.replace(mark, " ").encode()


def _in_word(character: str) -> bool:
    """Letters, marks and digits are, and bytes that are a part of a character."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "Cs"
