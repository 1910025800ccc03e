"""What is kept of a text that is too long for the model (Sun et al., 2019, arXiv 1905.05583, section 5.3.1).

The functions `keep_...` take the tokens of one text without special tokens (tokens,) and how many of them there is
room for, and return those that are kept, in order; a text that fits comes back as it is. They work on any array with
one entry per token, so `keep_tail(np.arange(n), room)` says which places are kept.
"""

import re

import numpy as np

BLANK_LINES = re.compile(r"\n\s*\n")
LINE_BREAK = re.compile(r"\n")


def keep_head(body: np.ndarray, room: int) -> np.ndarray:
    """The first tokens."""
    return body[:room]


def keep_tail(body: np.ndarray, room: int) -> np.ndarray:
    """The last tokens."""
    return body[max(len(body) - room, 0) :]


def keep_head_tail(body: np.ndarray, room: int, head: int | None = None) -> np.ndarray:
    """The first `head` tokens, and from the end of the text as many as there is room left for.

    head: 0 is `keep_tail`, `room` or more is `keep_head`. None is 128, as in the paper (128 + 382 of 510), but at most
    a quarter of the room.
    """
    if len(body) <= room:
        return body
    head = min(128, -(-room // 4)) if head is None else min(head, room)
    return np.concatenate([body[:head], body[len(body) - room + head :]])


def keep_halves(body: np.ndarray, room: int) -> np.ndarray:
    """As many tokens from the beginning as from the end."""
    return keep_head_tail(body, room, -(-room // 2))


def keep_middle(body: np.ndarray, room: int) -> np.ndarray:
    """The tokens in the middle: as many are dropped before them as after (one more after where the number is odd)."""
    start = max(len(body) - room, 0) // 2
    return body[start : start + room]


def key_parts(text: str) -> str:
    """The text without what lies between its first and its last paragraph: title, first and last paragraph are left.

    The title is the first line, which is the first column where a task has several (they are joined line by line).
    Paragraphs stand between blank lines; in a text with none every line is a paragraph. A text of one paragraph, or of
    two, is left as it is, and so is one without line breaks.
    """
    text = text.strip()
    start = re.match(r"[^\n]*\s*", text).end()  # of the first paragraph
    breaks = list(BLANK_LINES.finditer(text, start)) or list(LINE_BREAK.finditer(text, start))
    return text[: breaks[0].start()] + text[breaks[-1].start() :] if breaks else text


TRUNCATIONS = {
    "head": keep_head,
    "tail": keep_tail,
    "head_tail": keep_head_tail,
    "middle": keep_middle,
    "key_parts": keep_halves,  # of what `key_parts` leaves
}
