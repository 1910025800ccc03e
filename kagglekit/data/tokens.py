"""Text to tokens: tokenised once, kept as two flat arrays, padded batch by batch."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kagglekit.data.truncation import TRUNCATIONS, keep_head_tail, key_parts
from kagglekit.files import replacing
from kagglekit.options import check_range

WHOLE = 10**9  # a max_length that cuts nothing


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts of different lengths.

    `flat` (tokens of all texts,) int32 holds them one after the other; text i is `flat[ends[i] - lengths[i]:ends[i]]`.
    """

    flat: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The tokens of each text."""
        return (self.flat[end - n : end] for n, end in zip(self.lengths, self.ends, strict=True))

    def __getitem__(self, rows) -> "Tokens":
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths, ends = self.lengths[rows], self.ends[rows]
        return Tokens(np.concatenate([self.flat[end - n : end] for n, end in zip(lengths, ends, strict=True)]), lengths)

    def __add__(self, other: "Tokens") -> "Tokens":
        """The texts of both."""
        return Tokens(np.concatenate([self.flat, other.flat]), np.concatenate([self.lengths, other.lengths]))

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one right-padded batch: `input_ids` and `attention_mask`, both (texts, longest) int64.

        Texts of zero tokens, which a tokenizer without special tokens gives, are padding all through.
        """
        mask = np.arange(self.lengths.max().clip(1)) < self.lengths[:, None]  # (texts, longest)
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.flat
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def join_tokens(texts: Iterable[np.ndarray]) -> Tokens:
    """The tokens of each text as one `Tokens`."""
    texts = list(texts)
    return Tokens(np.concatenate(texts), np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))


def tokenize(
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    cache: Path | None = None,
    cut: str = "head",
    head_tokens: int | None = None,
) -> Tokens:
    """Tokenise `texts` with special tokens; a text of more than `max_length` tokens, these included, is cut.

    cut: what is kept of it: "head", "tail", "head_tail", "middle", or "key_parts": title, first and last paragraph,
    which may be far fewer tokens than there is room for, and where they are too many, half from either end. All but
    "head" read long texts to their end, which takes longer. head_tokens: of "head_tail", see `keep_head_tail`.
    With `cache` (a folder) the arrays are kept there under a hash of the texts, the tokenizer and the length, and the
    next call with the same three reads them back; all cuts but "head" and "key_parts" share what is kept.
    """
    check_range("cut", cut, cut in TRUNCATIONS, f"one of {', '.join(TRUNCATIONS)}")
    check_range("head_tokens", head_tokens, head_tokens is None or head_tokens >= 0, "0 or more, or None")
    if cut == "head" and tokenizer.truncation_side == "right":
        return _tokenize_cached(texts, tokenizer, max_length, cache)
    if cut == "key_parts":
        fits = tokenize(texts, tokenizer, max_length + 1, cache).lengths <= max_length
        texts = [text if fit else key_parts(text) for text, fit in zip(texts, fits, strict=True)]
    keep = partial(keep_head_tail, head=head_tokens) if cut == "head_tail" else TRUNCATIONS[cut]
    return truncate(_tokenize_cached(texts, tokenizer, WHOLE, cache), tokenizer, max_length, keep)


def _tokenize_cached(texts, tokenizer, max_length, cache) -> Tokens:
    if not cache:
        return _tokenize(texts, tokenizer, max_length)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()  # what the last call left: not part of what the tokenizer is
        tokenizer.backend_tokenizer.no_padding()
        vocabulary = tokenizer.backend_tokenizer.to_str()
    else:
        vocabulary = repr(sorted(tokenizer.get_vocab().items()))
    key = hashlib.sha256(f"{max_length} {len(texts)}\n{vocabulary}".encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    file = cache / f"{key.hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as arrays:
            return Tokens(arrays["flat"], arrays["lengths"])
    tokens = _tokenize(texts, tokenizer, max_length)
    with replacing(file) as part, open(part, "wb") as stream:
        np.savez(stream, flat=tokens.flat, lengths=tokens.lengths)
    return tokens


def _tokenize(texts, tokenizer, max_length) -> Tokens:
    # a token has at least one character, and few have more than 20: what is far beyond the cut need not be read
    texts, rows = [text[: 40 * max_length] for text in texts], []
    options = {"truncation": True, "max_length": max_length}
    options |= {"return_attention_mask": False, "return_token_type_ids": False}
    for start in range(0, len(texts), 1000):  # what a tokenizer says of a token takes far more memory than its number
        ids = tokenizer(texts[start : start + 1000], **options)["input_ids"]
        rows += [np.asarray(row, dtype=np.int32) for row in ids]
    return join_tokens(rows)


def special_ends(tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that `tokenizer` puts before and behind a text: none, one or several, (tokens,) int32 each."""
    whole, body = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(body)] == body)
    return np.array(whole[:start], dtype=np.int32), np.array(whole[start + len(body) :], dtype=np.int32)


def truncate(tokens: Tokens, tokenizer, max_length: int, keep: Callable[[np.ndarray, int], np.ndarray]) -> Tokens:
    """Cut whole texts, as `tokenize` makes them with `WHOLE`, to `max_length` tokens; special tokens stay.

    keep: one of the functions of `cuts`, such as `keep_tail`.
    """
    first, last = special_ends(tokenizer)
    room = _room("max_length", max_length, first, last)

    def cut(ids):
        body = ids[len(first) : len(ids) - len(last)]
        return ids if len(body) <= room else np.concatenate([first, keep(body, room), last])

    return join_tokens(cut(ids) for ids in tokens)


def _room(name: str, length: int, first: np.ndarray, last: np.ndarray) -> int:
    special = len(first) + len(last)
    check_range(name, length, length > special, f"above {special}, the number of special tokens")
    return length - special


def chunk_starts(tokens: int, room: int, stride: int = 0, max_chunks: int | None = None) -> list[int]:
    """Where the chunks of a text of `tokens` begin, each of `room` tokens, the first `stride` of them those that the
    chunk before ends with.

    A text of more than `max_chunks` keeps the first ones and, as its last chunk, its last `room` tokens; max_chunks=1
    keeps the first chunk, None keeps all.
    """
    starts = list(range(0, max(tokens - stride, 1), room - stride))
    if max_chunks is None or len(starts) <= max_chunks:
        return starts
    return [*starts[: max_chunks - 1], tokens - room] if max_chunks > 1 else starts[:1]


def split_texts(
    tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None
) -> Iterator[list[np.ndarray]]:
    """The chunks of each whole text, of at most `chunk_length` tokens with special tokens of their own; see
    `chunk_starts`. A text that fits is one chunk, as it is."""
    first, last = special_ends(tokenizer)
    room = _room("chunk_length", chunk_length, first, last)
    check_range("stride", stride, 0 <= stride < room, f"from 0 to below {room}, the tokens of text in a chunk")
    check_range("max_chunks", max_chunks, max_chunks is None or max_chunks > 0, "above 0, or None")
    for ids in tokens:
        body = ids[len(first) : len(ids) - len(last)]
        starts = chunk_starts(len(body), room, stride, max_chunks)
        yield [np.concatenate([first, body[start : start + room], last]) for start in starts]


def chunk(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Cut whole texts into chunks that do not overlap, each a text of its own; nothing is dropped."""
    return join_tokens(piece for pieces in split_texts(tokens, tokenizer, max_length) for piece in pieces)
