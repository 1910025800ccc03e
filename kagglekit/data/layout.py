"""Texts of several columns as tokens: what the tokenizer puts between two texts, and how columns share the room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kagglekit.options import check_range

Keep = Callable[[np.ndarray, int], np.ndarray]  # such as `truncation.keep_tail`


@dataclass(frozen=True)
class Layout:
    """The special tokens before, between and behind the columns of a text, int32 (tokens,) each.

    apart: which of those before and of those behind have a token type of their own, as [CLS] in XLNet and Funnel.
    """

    first: np.ndarray
    between: np.ndarray
    last: np.ndarray
    apart: tuple[np.ndarray, np.ndarray]

    def special(self, columns: int) -> int:
        """The number of special tokens of a text."""
        return len(self.first) + (columns - 1) * len(self.between) + len(self.last)

    def join(self, bodies: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text from those of its columns, int32 (tokens,), and which column each belongs to, int8
        (tokens,): a separator to the column before it; what stands apart to one more."""
        n = len(bodies)
        ids, owners = [self.first], [np.where(self.apart[0], n, 0)]
        for number, body in enumerate(bodies):
            behind = self.between if number < n - 1 else self.last
            ids += [body, behind]
            owners.append(np.full(len(body) + len(behind), number))
        owners[-1][len(owners[-1]) - len(self.last) :][self.apart[1]] = n
        return np.concatenate(ids).astype(np.int32), np.concatenate(owners).astype(np.int8)

    def split(self, ids: np.ndarray, owners: np.ndarray) -> list[np.ndarray]:
        """The tokens of each column of a text that `join` made."""
        inside = slice(len(self.first), len(ids) - len(self.last))
        n = int(max(owners[inside].max(initial=0), owners[inside.stop :][~self.apart[1]].max(initial=0))) + 1
        bodies = [ids[inside][owners[inside] == number] for number in range(n)]
        return [body[: len(body) - len(self.between)] for body in bodies[:-1]] + bodies[-1:]


def find_layout(tokenizer) -> Layout:
    """What a tokenizer does with two texts: `[CLS] a [SEP] b [SEP]`, `<s> a </s></s> b </s>`; more columns likewise.

    Where it puts nothing between two texts, as in most decoders, the separator is its sep token, a line break that is
    one token, or its eos token. Raises ValueError for a tokenizer with none of these.
    """
    one, two = (tokenizer(*texts, return_token_type_ids=True) for texts in (["a"], ["a", "a"]))
    whole, pair = one["input_ids"], two["input_ids"]
    body = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(place for place in range(len(whole)) if whole[place : place + len(body)] == body)
    behind = len(whole) - start - len(body)
    inner = pair[start:][len(body) : len(pair) - start - behind - len(body)]
    known = pair == [*whole[:start], *body, *inner, *body, *whole[len(whole) - behind :]]
    between = inner if known and inner else _find_separator(tokenizer)
    types = np.array(two.get("token_type_ids") or np.zeros(len(pair)))
    apart = types[:start] > 1, types[len(types) - behind :] > 1
    return Layout(
        *(np.array(part, dtype=np.int32) for part in (whole[:start], between, whole[start + len(body) :])), apart
    )


def _find_separator(tokenizer) -> list[int]:
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if tokenizer.sep_token_id is not None:
        return [tokenizer.sep_token_id]
    if len(line_break) == 1 and line_break[0] != tokenizer.unk_token_id:
        return list(line_break)
    if tokenizer.eos_token_id is not None:
        return [tokenizer.eos_token_id]
    raise ValueError(
        "the tokenizer has no token to put between the columns of a text: no separator, no line break, no end of text. "
        "Choose another backbone, or say in 1_eda how the columns make one text: template='{title}: {body}'"
    )


def share_room(lengths: Sequence[int], room: int, budget: Sequence[int] = ()) -> list[int]:
    """How many tokens of each column are kept, when `room` tokens are read.

    The longest column is truncated first, as tokenizers do (`longest_first`), but none below its `budget`; so what one
    column leaves of its budget goes to the others. budget: tokens a column; empty: 0 each. (128, 256) of a room of 384
    is exactly that for long columns.
    """
    floors = [min(*pair) for pair in zip(lengths, budget or [0] * len(lengths), strict=True)]
    check_range("budget", sum(budget), sum(budget) <= room, f"at most {room} in all, the room for text in max_length")

    if len(lengths) == 1:
        return [min(lengths[0], room)]

    def kept(level: int) -> list[int]:
        return [max(floor, min(length, level)) for floor, length in zip(floors, lengths, strict=True)]

    low, high = 0, max(lengths)  # the largest level that fits
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(kept(middle)) <= room else (low, middle - 1)
    found = kept(low)
    more = [number for number, length in enumerate(lengths) if max(low, floors[number]) == low < length]
    more.sort(key=lambda number: (lengths[number], number), reverse=True)
    for number in more[: room - sum(found)]:
        found[number] += 1
    return found


def cut_columns(
    bodies: Sequence[np.ndarray], room: int, keeps: Sequence[Keep], budget: Sequence[int] = ()
) -> list[np.ndarray]:
    """What is kept of the tokens of each column, see `share_room`; `keeps` has a rule for each."""
    shares = share_room([len(body) for body in bodies], room, budget)
    return [keep(body, share) for keep, body, share in zip(keeps, bodies, shares, strict=True)]


def chunk_columns(
    bodies: Sequence[np.ndarray], room: int, starts: Callable[[int, int], Sequence[int]]
) -> list[list[np.ndarray]]:
    """The chunks of a text of several columns, as question answering reads a document: the longest column goes on from
    chunk to chunk, and the others stand in each, with half of its room at most, longest first.

    starts: f(tokens, room) -> where the chunks of the longest column begin, such as `chunk_starts`.
    """
    lengths = [len(body) for body in bodies]
    if sum(lengths) <= room:
        return [list(bodies)]
    longest = int(np.argmax(lengths))
    rest = [0 if number == longest else length for number, length in enumerate(lengths)]
    shares = share_room(rest, room // 2)
    left = room - sum(shares)

    def piece(start: int) -> list[np.ndarray]:
        places = [(start, left) if number == longest else (0, share) for number, share in enumerate(shares)]
        return [body[begin : begin + size] for body, (begin, size) in zip(bodies, places, strict=True)]

    return [piece(start) for start in starts(lengths[longest], left)]
