"""Tables of truncations: what each keeps of all texts, at which cost, and what is read of one text."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from kagglekit.competition.text_columns import SEPARATOR, SHOWN, split_columns
from kagglekit.data.chunks import chunk_starts
from kagglekit.data.layout import chunk_columns, cut_columns, find_layout
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.data.truncation import TRUNCATIONS, key_parts
from kagglekit.show.texts import shorten

THIRDS = ("beginning", "middle", "end")


def compare_truncation(
    texts: Sequence[str],
    tokenizer,
    max_lengths: Sequence[int] = (128, 256, 512),
    stride: int = 0,
    max_chunks: int | None = None,
    rows: int = 2000,
    seed: int = 0,
    tokens: Tokens | None = None,
) -> pd.DataFrame:
    """What every truncation, and splitting into chunks, keeps at each max_length; a line each.

    Columns: `texts cut`, the share of texts that lose something; `tokens kept`, the share of all tokens; and for texts
    longer than max_length, the mean share that is kept of the whole, and of its beginning, middle and end, a third
    each. `tokens read` and `chunks` per text are the cost.
    stride, max_chunks: of the chunks. rows: at most so many texts are used, drawn by `seed`. tokens: of the whole texts
    (and of others after them), where they are known already.
    """
    texts, tokens = _draw(texts, tokens, tokenizer, rows, seed)
    special, table = find_layout(tokenizer).special(len(split_columns(texts[0]))), {}
    columns = _split_columns(tokens, tokenizer)
    sizes = [[len(body) for body in bodies] for bodies in columns]
    parts, totals = _find_key_parts(texts, columns, tokenizer), np.array([sum(own) for own in sizes])
    for max_length in max_lengths:
        room = max_length - special
        for cut in TRUNCATIONS:
            kept = [[np.concatenate(_kept_places(*own, room, cut))] for own in zip(sizes, parts, strict=True)]
            table[max_length, cut] = _summarise(kept, totals, room, special)
        starts = partial(chunk_starts, stride=stride, max_chunks=max_chunks)
        chunks = [[np.concatenate(piece) for piece in chunk_columns(_places(own), room, starts)] for own in sizes]
        table[max_length, "chunks"] = _summarise(chunks, totals, room, special)
    found = pd.DataFrame.from_dict(table, orient="index").rename_axis(["max_length", "cut"])
    found.attrs["percent"] = ["texts cut", "tokens kept", "of long texts", *THIRDS]
    return found


def show_truncation(
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    characters: int = 160,
    rows: int = 2000,
    seed: int = 0,
    tokens: Tokens | None = None,
) -> pd.DataFrame:
    """What each truncation keeps of one text, a median-length one of those longer than `max_length`.

    [...] marks an omission; long pieces are shortened to `characters`. rows, seed, tokens: as in `compare_truncation`.
    """
    texts, tokens = _draw(texts, tokens, tokenizer, rows, seed)
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    longer = order[lengths[order] > max_length]
    chosen = longer[len(longer) // 2] if len(longer) else order[-1]
    columns, shown = _split_columns(tokens[[chosen]], tokenizer), {}
    (bodies,), (parts,) = columns, _find_key_parts(texts[[chosen]], columns, tokenizer)
    sizes, body = [len(body) for body in bodies], np.concatenate(bodies)
    for cut in TRUNCATIONS:
        kept = _kept_places(sizes, parts, max_length - find_layout(tokenizer).special(len(sizes)), cut)
        pieces = (np.split(body[own], np.flatnonzero(np.diff(own) > 1) + 1) for own in kept)
        read = (" [...] ".join(shorten(tokenizer.decode(piece), characters) for piece in own) for own in pieces)
        shown[cut] = {"tokens": f"{sum(map(len, kept))} of {len(body)}", "what is read": f" {SHOWN} ".join(read)}
    found = pd.DataFrame.from_dict(shown, orient="index").rename_axis("cut")
    found.attrs["characters"] = 3 * characters
    return found


def _draw(texts: Sequence[str], tokens: Tokens | None, tokenizer, rows: int, seed: int) -> tuple[np.ndarray, Tokens]:
    """At most `rows` texts, and the tokens of each whole."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[:rows])
    drawn = np.array(texts, dtype=object)[chosen]
    return drawn, tokenize(drawn, tokenizer, WHOLE) if tokens is None else tokens[chosen]


def _summarise(read: list[list[np.ndarray]], sizes: np.ndarray, room: int, special: int) -> dict[str, float]:
    """A line of `compare_truncation`. read: for each text, the positions of the tokens of each piece that is read."""
    places = [pieces[0] if len(pieces) == 1 else np.unique(np.concatenate(pieces)) for pieces in read]
    kept = np.array([len(p) for p in places])
    long = [(p, n) for p, n in zip(places, sizes, strict=True) if n > room]
    thirds = np.mean([_third_shares(p, n) for p, n in long], axis=0) if long else np.ones(3)
    return {
        "texts cut": np.mean(kept < sizes),
        "tokens kept": kept.sum() / max(sizes.sum(), 1),
        "of long texts": np.mean([len(p) / n for p, n in long]) if long else 1.0,
        **dict(zip(THIRDS, thirds, strict=True)),
        "tokens read": np.mean([sum(map(len, pieces)) + special * len(pieces) for pieces in read]),
        "chunks": np.mean([len(pieces) for pieces in read]),
    }


def _third_shares(places: np.ndarray, n: int) -> np.ndarray:
    """The share that is kept of each third of a text of `n` tokens (3,)."""
    third = 3 * np.arange(n) // n
    return np.bincount(third[places], minlength=3) / np.bincount(third, minlength=3).clip(1)


def _split_columns(tokens: Tokens, tokenizer) -> list[list[np.ndarray]]:
    """The tokens of each column of each whole text, without special ones."""
    layout = find_layout(tokenizer)
    return [layout.split(*text) for text in zip(tokens, tokens.owners, strict=True)]


def _places(sizes: Sequence[int]) -> list[np.ndarray]:
    """The positions of the tokens of each column in a text, special tokens not counted."""
    places = np.arange(sum(sizes))
    return np.split(places, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [places]


def _kept_places(sizes: Sequence[int], key_parts: Sequence[np.ndarray], room: int, cut: str) -> list[np.ndarray]:
    """The positions that a truncation keeps of each column of a text. sizes: tokens of its columns."""
    if sum(sizes) <= room:
        return _places(sizes)
    return cut_columns(key_parts if cut == "key_parts" else _places(sizes), room, [TRUNCATIONS[cut]] * len(sizes))


def _find_key_parts(texts: Sequence[str], columns: list[list[np.ndarray]], tokenizer) -> list[list[np.ndarray]]:
    """The positions of the tokens of title, first and last paragraph in each column: a beginning and an end of it.

    columns: the tokens of each column of each text."""
    short = [SEPARATOR.join(map(key_parts, split_columns(text))) for text in texts]
    changed = [number for number, text in enumerate(texts) if short[number] != text]
    read = tokenize([short[number] for number in changed], tokenizer, WHOLE) if changed else ()
    shorter, found = list(columns), []
    for number, parts in zip(changed, _split_columns(read, tokenizer) if changed else (), strict=True):
        shorter[number] = parts
    for whole, parts in zip(columns, shorter, strict=True):
        found.append([])
        for places, ids, kept in zip(_places(list(map(len, whole))), whole, parts, strict=True):
            n = min(len(ids), len(kept))
            same = np.append(ids[:n] == kept[:n], False)
            head = int(same.argmin())  # where they differ first
            found[-1].append(np.concatenate([places[:head], places[len(ids) - n + head :]]))
    return found
