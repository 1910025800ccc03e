"""Words and sentences of a text in any language: by spaces, Chinese words by a segmenter (jieba)."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from kagglekit.options import check_range

CHINESE = ("jieba", "characters")  # how Chinese text is split into words
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
MARKS = "".join(c for c in map(chr, range(0x300, 0x3100)) if unicodedata.category(c)[0] == "M") + "\u200c\u200d"
LETTER = rf"(?:(?![{HAN}])[^\W_]|[{MARKS}_])"
WORD = re.compile(
    rf"(?:https?://|www\.)[!-~]+|[{HAN}]+|[@#]?(?![{MARKS}]){LETTER}+(?:(?:['’-]|(?<=\d)[.,](?=\d)){LETTER}+)*"
)
IS_HAN = re.compile(f"[{HAN}]")
CHINESE_STOP_WORDS = """的 了 是 在 和 也 就 都 而 及 与 着 或 把 被 让 给 对 从 向 于 以 为 之 其 这 那 哪 谁 我 你 他
她 它 们 吗 呢 吧 啊 呀 嘛 么 又 再 不 没 我们 你们 他们 她们 它们 自己 这个 那个 这样 那样 什么 怎么 因为 所以 如果
但是 而且 一个 没有 不是 就是 还是 可以"""
STOP_WORDS = ENGLISH_STOP_WORDS | set(CHINESE_STOP_WORDS.split())


@dataclass
class Words:
    """The words of a text, and the gaps before, between and after them: one more; `str` gives the text back."""

    words: list[str]
    gaps: list[str]

    def __len__(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        return "".join(gap + word for gap, word in zip(self.gaps, [*self.words, ""], strict=True))

    def insert(self, place: int, word: str) -> None:
        """Insert a word before the one at `place`, with a space between the two unless both are Chinese."""
        together = is_chinese(word) and is_chinese(self.words[place])
        self.words.insert(place, word)
        self.gaps.insert(place + 1, "" if together else " ")

    def delete(self, place: int) -> None:
        """Delete a word and the space before it; punctuation stays."""
        del self.words[place]
        behind = self.gaps.pop(place + 1)
        before = self.gaps[place].rstrip(" ")
        self.gaps[place] = before + behind if before or place else behind.lstrip(" ")


def is_chinese(word: str) -> bool:
    """Whether a word is made of Chinese characters."""
    return IS_HAN.match(word) is not None


def split_words(text: str, chinese: str = "jieba") -> Words:
    """The words of a text. Numbers, URLs, @names and #tags are one word each.

    chinese: "jieba" segments Chinese text into words, "characters" takes each character for a word. Raises
    ModuleNotFoundError when there is Chinese text and jieba is missing.
    """
    check_range("chinese", chinese, chinese in CHINESE, f"one of {', '.join(CHINESE)}")
    words, gaps, end = [], [], 0
    for found in WORD.finditer(text):
        parts = [found[0]]
        if is_chinese(found[0]):
            parts = list(found[0]) if chinese == "characters" else load_jieba().lcut(found[0])
        words += parts
        gaps += [text[end : found.start()], *[""] * (len(parts) - 1)]
        end = found.end()
    return Words(words, [*gaps, text[end:]])


def load_jieba():
    """The Chinese segmenter, silenced. Raises ModuleNotFoundError that says what to do about it."""
    try:
        import jieba
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Chinese text is split into words by jieba, which is missing: pip install jieba, or set the option "
            'chinese to "characters", which takes each character for a word'
        ) from error
    jieba.setLogLevel(logging.WARNING)
    return jieba


def is_stop_word(word: str) -> bool:
    """Whether a word is a stop word ("the", "not", "的"): these are never replaced."""
    return word.lower() in STOP_WORDS


def in_case_of(word: str, other: str) -> str:
    """`other` with the capitals of `word`: "GOOD" and "nice" give "NICE"."""
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other


def whole_words(tokenizer) -> dict[str, int]:
    """The words of letters only that are one token of a tokenizer: word -> id."""
    ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    texts = tokenizer.batch_decode([[number] for number in ids])
    words = sorted({text.strip() for text in texts if text.strip().isalpha()})
    read = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"] if words else []
    return {word: own[-1] for word, own in zip(words, read, strict=True) if len(own) == 1}


def fitting(word: str, candidates: Sequence[str]) -> list[str]:
    """The candidates that are another word of the same script and no stop word."""
    chinese = is_chinese(word)
    others = (other for other in candidates if other.lower() != word.lower() and is_chinese(other) == chinese)
    return [other for other in others if (chinese or len(other) > 1) and not is_stop_word(other)]


END = re.compile(
    r"""[.!?…]+["'”’)\]»]*(?=\s)"""  # English and alike: a space follows
    r"""|(?:[。！？；｡]|…{2})+["'”’」』）》】]*"""  # Chinese and Japanese: no space needed
    r"""|(?=\n)"""
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, English or Chinese; a line break ends one too. Joined they are the text again, as the
    space before a sentence belongs to it. Abbreviations ("Mr. Smith") are taken for ends."""
    ends = [0, *(match.end() for match in END.finditer(text)), len(text)]
    sentences = []
    for start, stop in pairwise(ends):
        part = text[start:stop]
        if sentences and not (part.strip() and sentences[-1].strip()):
            sentences[-1] += part  # nothing but space is no sentence
        elif part:
            sentences.append(part)
    return sentences
