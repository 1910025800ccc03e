"""Where sentences end, in English and in Chinese."""

import re
from itertools import pairwise

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
