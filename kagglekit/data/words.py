"""A text as its words and what stands between them, in any language: by spaces, and Chinese by a segmenter.

Where sentences end, in English and in Chinese.
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from kagglekit.options import check_range

CHINESE = ("jieba", "characters")  # what a word of Chinese text is
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
MARKS = "".join(c for c in map(chr, range(0x300, 0x3100)) if unicodedata.category(c)[0] == "M") + "\u200c\u200d"
LETTER = rf"(?:(?![{HAN}])[^\W_]|[{MARKS}_])"
WORD = re.compile(
    rf"(?:https?://|www\.)[!-~]+|[{HAN}]+|[@#]?(?![{MARKS}]){LETTER}+(?:(?:['’-]|(?<=\d)[.,](?=\d)){LETTER}+)*"
)
IS_HAN = re.compile(f"[{HAN}]")
SMALL_WORDS = (
    "的 了 是 在 和 也 就 都 而 及 与 着 或 把 被 让 给 对 从 向 于 以 为 之 其 这 那 哪 谁 我 你 他 她 它 们 吗 "
)
SMALL_WORDS += (
    "呢 吧 啊 呀 嘛 么 又 再 不 没 我们 你们 他们 她们 它们 自己 这个 那个 这样 那样 什么 怎么 因为 所以 如果 "
)
SMALL_WORDS += "但是 而且 一个 没有 不是 就是 还是 可以"
STOP_WORDS = ENGLISH_STOP_WORDS | set(SMALL_WORDS.split())


@dataclass
class Words:
    """The words of a text, and the gaps before, between and behind them: one more; `str` gives the text back."""

    words: list[str]
    gaps: list[str]

    def __len__(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        return "".join(gap + word for gap, word in zip(self.gaps, [*self.words, ""], strict=True))

    def insert(self, place: int, word: str) -> None:
        """Put a word before the one at `place`; a space parts the two unless both are Chinese."""
        together = is_chinese(word) and is_chinese(self.words[place])
        self.words.insert(place, word)
        self.gaps.insert(place + 1, "" if together else " ")

    def delete(self, place: int) -> None:
        """Take a word out, and the space before it; punctuation stays."""
        del self.words[place]
        behind = self.gaps.pop(place + 1)
        before = self.gaps[place].rstrip(" ")
        self.gaps[place] = before + behind if before or place else behind.lstrip(" ")


def is_chinese(word: str) -> bool:
    """Whether a word is of Chinese characters."""
    return IS_HAN.match(word) is not None


def split_words(text: str, chinese: str = "jieba") -> Words:
    """The words of a text. Numbers, addresses, @names and #tags are one word each.

    chinese: "jieba" finds the words of Chinese text, "characters" takes each character for one. Raises
    ModuleNotFoundError when there is Chinese text and jieba is missing.
    """
    check_range("chinese", chinese, chinese in CHINESE, f"one of {', '.join(CHINESE)}")
    words, gaps, end = [], [], 0
    for found in WORD.finditer(text):
        parts = _split_chinese(found[0], chinese) if is_chinese(found[0]) else [found[0]]
        words += parts
        gaps += [text[end : found.start()], *[""] * (len(parts) - 1)]
        end = found.end()
    return Words(words, [*gaps, text[end:]])


def _split_chinese(run: str, chinese: str) -> list[str]:
    if chinese == "characters":
        return list(run)
    return load_jieba().lcut(run)


def load_jieba():
    """The segmenter, which tells nothing while it loads. Raises ModuleNotFoundError that says what to do about it."""
    try:
        import jieba
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the words of Chinese text are found by jieba, which is missing: pip install jieba, or set the option "
            'chinese to "characters", which takes each character for a word'
        ) from error
    jieba.setLogLevel(logging.WARNING)
    return jieba


def is_stop_word(word: str) -> bool:
    """Whether a word says little by itself, as "the" and "not" do: these are not replaced by others."""
    return word.lower() in STOP_WORDS


def in_case_of(word: str, other: str) -> str:
    """`other` in capitals where `word` is: "GOOD" and "nice" give "NICE"."""
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other


def whole_words(tokenizer) -> dict[str, int]:
    """The words, of letters only, that are one token: word -> id."""
    ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    texts = tokenizer.batch_decode([[number] for number in ids])
    words = sorted({text.strip() for text in texts if text.strip().isalpha()})
    read = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"] if words else []
    return {word: own[-1] for word, own in zip(words, read, strict=True) if len(own) == 1}


def fitting(word: str, candidates: Sequence[str]) -> list[str]:
    """Those that are another word of the same script, and say something."""
    chinese = is_chinese(word)
    others = (other for other in candidates if other.lower() != word.lower() and is_chinese(other) == chinese)
    return [other for other in others if (chinese or len(other) > 1) and not is_stop_word(other)]


END = re.compile(
    r"""[.!?…]+["'”’)\]»]*(?=\s)"""  # English and its kin: a space follows
    r"""|(?:[。！？；｡]|…{2})+["'”’」』）》】]*"""  # Chinese and Japanese: none need
    r"""|(?=\n)"""
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, English or Chinese; a line break ends one too. Joined they are the text again.

    The space before a sentence goes with it. Abbreviations ("Mr. Smith") are taken for ends.
    """
    ends = [0, *(match.end() for match in END.finditer(text)), len(text)]
    sentences = []
    for start, stop in pairwise(ends):
        part = text[start:stop]
        if sentences and not (part.strip() and sentences[-1].strip()):
            sentences[-1] += part  # nothing but space is no sentence
        elif part:
            sentences.append(part)
    return sentences
