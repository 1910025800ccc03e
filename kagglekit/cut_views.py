"""Tables to look at: what each way of cutting long texts keeps of the data."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kagglekit.data.cuts import CUTS, key_parts
from kagglekit.data.tokens import WHOLE, Tokens, chunk_starts, special_ends, tokenize
from kagglekit.views import shorten

THIRDS = ("beginning", "middle", "end")


def compare_cuts(
    texts: Sequence[str],
    tokenizer,
    max_lengths: Sequence[int] = (128, 256, 512),
    stride: int = 0,
    max_chunks: int | None = None,
    rows: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What every cut, and cutting into chunks, keeps at each max_length; one line each.

    Columns: `texts cut`, the share of texts that lose something; `tokens kept`, the share of all tokens; and of the
    texts that are longer than max_length, the mean share that is kept of the whole, and of the beginning, middle and
    end, a third each. `tokens read` per text and `chunks` per text, both means, are what it costs.
    stride, max_chunks: of the chunks. rows: no more texts are looked at, drawn by `seed`.
    """
    texts = _draw(texts, rows, seed)
    special = sum(map(len, special_ends(tokenizer)))
    whole = tokenize(texts, tokenizer, WHOLE)
    sizes, parts, table = whole.lengths - special, _find_key_parts(texts, whole, tokenizer), {}
    for max_length in max_lengths:
        room = max_length - special
        for cut in CUTS:
            kept = [_kept_places(n, part, room, cut) for n, part in zip(sizes, parts, strict=True)]
            table[max_length, cut] = _summarise([[places] for places in kept], sizes, room, special)
        chunks = [
            [np.arange(start, min(start + room, n)) for start in chunk_starts(n, room, stride, max_chunks)]
            for n in sizes
        ]
        table[max_length, "chunks"] = _summarise(chunks, sizes, room, special)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["max_length", "cut"])


def _draw(texts: Sequence[str], rows: int, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(len(texts))[:rows]
    return np.array(texts, dtype=object)[np.sort(chosen)]


def _summarise(read: list[list[np.ndarray]], sizes: np.ndarray, room: int, special: int) -> dict[str, float]:
    """One line of `compare_cuts`. read: for each text, the places of the tokens in each piece of it that is read."""
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
    """Which share is kept of each third of a text of `n` tokens (3,)."""
    third = 3 * np.arange(n) // n
    return np.bincount(third[places], minlength=3) / np.bincount(third, minlength=3).clip(1)


def _kept_places(n: int, key_parts: np.ndarray, room: int, cut: str) -> np.ndarray:
    """The places of the tokens that a cut keeps of a text of `n`, special tokens not counted."""
    return CUTS[cut](key_parts if cut == "key_parts" and n > room else np.arange(n), room)


def _find_key_parts(texts: Sequence[str], whole: Tokens, tokenizer) -> list[np.ndarray]:
    """The places of the tokens of title, first and last paragraph in each text: a beginning and an end of it."""
    first, last = special_ends(tokenizer)
    parts, places = tokenize([key_parts(text) for text in texts], tokenizer, WHOLE), []
    for ids, kept in zip(whole, parts, strict=True):
        ids, kept = (x[len(first) : len(x) - len(last)] for x in (ids, kept))
        n = min(len(ids), len(kept))
        same = np.append(ids[:n] == kept[:n], False)
        head = int(same.argmin())  # where they differ first
        places.append(np.concatenate([np.arange(head), np.arange(len(ids) - n + head, len(ids))]))
    return places


def show_cuts(
    texts: Sequence[str], tokenizer, max_length: int, characters: int = 160, rows: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What each cut keeps of one text, a middling one of those that are longer than `max_length`.

    Between pieces that do not follow each other stands [...]; a long piece is shortened in its middle to `characters`.
    rows, seed: as in `compare_cuts`.
    """
    texts = _draw(texts, rows, seed)
    lengths = tokenize(texts, tokenizer, WHOLE).lengths
    order = np.argsort(lengths, kind="stable")
    longer = order[lengths[order] > max_length]
    text = texts[longer[len(longer) // 2] if len(longer) else order[-1]]
    (first, last), whole, shown = special_ends(tokenizer), tokenize([text], tokenizer, WHOLE), {}
    body = whole.flat[len(first) : len(whole.flat) - len(last)]
    (parts,) = _find_key_parts([text], whole, tokenizer)
    for cut in CUTS:
        places = _kept_places(len(body), parts, max_length - len(first) - len(last), cut)
        pieces = np.split(body[places], np.flatnonzero(np.diff(places) > 1) + 1)
        read = " [...] ".join(shorten(tokenizer.decode(piece), characters) for piece in pieces)
        shown[cut] = {"tokens": f"{len(places)} of {len(body)}", "what is read": read}
    return pd.DataFrame.from_dict(shown, orient="index").rename_axis("cut")
