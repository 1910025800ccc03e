"""Truncation: which part of a text is kept when it is too long (Sun et al., 2019, arXiv 1905.05583, section 5.3.1).

The functions `keep_...` take the tokens of one text without special tokens (tokens,) and how many of them fit, and
return those that are kept, in order; a text that fits comes back unchanged. They work on any array with one entry per
token: `keep_tail(np.arange(n), room)` says which positions are kept.
"""

import re

import numpy as np


def keep_head(body: np.ndarray, room: int) -> np.ndarray:
    """The first tokens."""
    return body[:room]


def keep_tail(body: np.ndarray, room: int) -> np.ndarray:
    """The last tokens."""
    return body[max(len(body) - room, 0) :]


def keep_head_tail(body: np.ndarray, room: int, head: int | None = None) -> np.ndarray:
    """The first `head` tokens, and the rest of the room from the end of the text.

    head: 0 is `keep_tail`, `room` or more is `keep_head`. None is 128, as in the paper (128 + 382 of 510), but at most
    a quarter of the room.
    """
    if len(body) <= room:
        return body
    head = min(128, -(-room // 4)) if head is None else min(head, room)
    return np.concatenate([body[:head], body[len(body) - room + head :]])


def keep_halves(body: np.ndarray, room: int) -> np.ndarray:
    """Half of the room from the beginning, half from the end."""
    return keep_head_tail(body, room, -(-room // 2))


def keep_middle(body: np.ndarray, room: int) -> np.ndarray:
    """The tokens in the middle: as many are dropped before them as after (one more after where the number is odd)."""
    start = max(len(body) - room, 0) // 2
    return body[start : start + room]


def key_parts(text: str) -> str:
    """Title, first and last paragraph of a text.

    The title is the first line, which is the first column where a task has several text columns. Blank lines separate
    paragraphs; without any, every line is a paragraph. A text of at most two paragraphs stays as it is.
    """
    text = text.strip()
    start = re.match(r"[^\n]*\s*", text).end()  # of the first paragraph
    breaks = list(re.compile(r"\n\s*\n").finditer(text, start)) or list(re.compile(r"\n").finditer(text, start))
    return text[: breaks[0].start()] + text[breaks[-1].start() :] if breaks else text


TRUNCATIONS = {
    "head": keep_head,
    "tail": keep_tail,
    "head_tail": keep_head_tail,
    "middle": keep_middle,
    "key_parts": keep_halves,  # of what `key_parts` leaves
}
