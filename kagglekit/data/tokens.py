"""Texts to tokens: tokenised once, stored as two flat arrays, padded batch by batch; long texts also in chunks."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kagglekit.arrays import cached_arrays
from kagglekit.data.truncation import TRUNCATIONS, keep_head_tail, key_parts
from kagglekit.options import check_range

WHOLE = 10**9  # a max_length that truncates nothing


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
        rows = _row_numbers(rows)
        lengths, ends = self.lengths[rows], self.ends[rows]
        return Tokens(np.concatenate([self.flat[end - n : end] for n, end in zip(lengths, ends, strict=True)]), lengths)

    def __add__(self, other: "Tokens") -> "Tokens":
        """The texts of both."""
        return Tokens(np.concatenate([self.flat, other.flat]), np.concatenate([self.lengths, other.lengths]))

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one right-padded batch: `input_ids` and `attention_mask`, both (texts, longest) int64.

        A text of zero tokens, which a tokenizer without special tokens can give, is padding throughout.
        """
        mask = np.arange(self.lengths.max().clip(1)) < self.lengths[:, None]  # (texts, longest)
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.flat
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


@dataclass(frozen=True)
class Chunks:
    """Long texts as overlapping chunks, each short enough for the model (Sun et al., 2019, arXiv 1905.05583).

    Used like `Tokens`; batches have one dimension more. pieces: the chunks of all texts, one after the other. counts:
    chunks of each text (texts,), 1 or more.
    """

    pieces: Tokens
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each text in a padded batch (texts,): its chunks times the longest of them.

        A batch from `pad` never has more tokens than texts times the largest of their lengths, as with `Tokens`: in a
        text of several chunks all but the last are full.
        """
        return self.counts * np.maximum.reduceat(self.pieces.lengths, self._firsts)

    @property
    def _firsts(self) -> np.ndarray:
        """The number of each text's first chunk."""
        return np.cumsum(self.counts) - self.counts

    def __getitem__(self, rows) -> "Chunks":
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = _row_numbers(rows)
        counts, firsts = self.counts[rows], self._firsts[rows]
        ranges = [np.arange(first, first + n) for first, n in zip(firsts, counts, strict=True)]
        return Chunks(self.pieces[np.concatenate(ranges)], counts)

    def __add__(self, other: "Chunks") -> "Chunks":
        """The texts of both."""
        return Chunks(self.pieces + other.pieces, np.concatenate([self.counts, other.counts]))

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one batch: `input_ids` and `attention_mask`, both (texts, most chunks, longest) int64.

        Chunks are padded on the right; a chunk that a text does not have is padding throughout.
        """
        present = np.arange(self.counts.max()) < self.counts[:, None]  # (texts, chunks)
        batch = {}
        for name, padded in self.pieces.pad(pad_id).items():
            values = np.full((*present.shape, padded.shape[1]), pad_id if name == "input_ids" else 0)
            values[present] = padded.numpy()
            batch[name] = torch.from_numpy(values)
        return batch


def tokenize(
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    cache: Path | None = None,
    cut: str = "head",
    head_tokens: int | None = None,
) -> Tokens:
    """Tokenise `texts` with special tokens, and truncate those of more than `max_length` tokens, these included.

    cut: the part that is kept, one of `TRUNCATIONS`: "head", "tail", "head_tail" (head_tokens: see `keep_head_tail`),
    "middle", or "key_parts": title, first and last paragraph, which may be far fewer tokens than fit; where they are
    too many, half from either end. All but "head" read long texts to their end, which takes longer.
    cache: a folder for the arrays, under a hash of texts, tokenizer and length; the next call with the same three reads
    them back. All but "head" and "key_parts" share a file.
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


def truncate(tokens: Tokens, tokenizer, max_length: int, keep: Callable[[np.ndarray, int], np.ndarray]) -> Tokens:
    """Truncate whole texts, as `tokenize` makes them with `WHOLE`, to `max_length` tokens; special tokens stay.

    keep: a function such as `truncation.keep_tail`.
    """
    first, last = special_ends(tokenizer)
    room = _room("max_length", max_length, first, last)

    def shortened(ids):
        body = ids[len(first) : len(ids) - len(last)]
        return ids if len(body) <= room else np.concatenate([first, keep(body, room), last])

    return join_tokens(shortened(ids) for ids in tokens)


def make_chunks(tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None) -> Chunks:
    """Split whole texts into chunks of at most `chunk_length` tokens, each with special tokens of its own.

    tokens: whole texts, as `tokenize` makes them with `WHOLE`. stride: tokens by which a chunk overlaps the one before;
    0 is no overlap, a quarter of chunk_length is usual, just below chunk_length costs most. max_chunks: of a text with
    more, the first ones are kept and its end as the last one; 1 is the head of the text, None drops nothing (a text of
    a megabyte is then a batch of its own).
    """
    texts = list(split_texts(tokens, tokenizer, chunk_length, stride, max_chunks))
    counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Chunks(join_tokens(piece for pieces in texts for piece in pieces), counts)


def chunk(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Split whole texts into chunks without overlap, each a text of its own; nothing is dropped."""
    return join_tokens(piece for pieces in split_texts(tokens, tokenizer, max_length) for piece in pieces)


def split_texts(
    tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None
) -> Iterator[list[np.ndarray]]:
    """The chunks of each whole text, see `make_chunks`. A text that fits is one chunk, unchanged."""
    first, last = special_ends(tokenizer)
    room = _room("chunk_length", chunk_length, first, last)
    check_range("stride", stride, 0 <= stride < room, f"from 0 to below {room}, the tokens of text in a chunk")
    check_range("max_chunks", max_chunks, max_chunks is None or max_chunks > 0, "above 0, or None")
    for ids in tokens:
        body = ids[len(first) : len(ids) - len(last)]
        starts = chunk_starts(len(body), room, stride, max_chunks)
        yield [np.concatenate([first, body[start : start + room], last]) for start in starts]


def chunk_starts(tokens: int, room: int, stride: int = 0, max_chunks: int | None = None) -> list[int]:
    """Where the chunks of a text of `tokens` begin, each of `room` tokens; see `make_chunks`."""
    starts = list(range(0, max(tokens - stride, 1), room - stride))
    if max_chunks is None or len(starts) <= max_chunks:
        return starts
    return [*starts[: max_chunks - 1], tokens - room] if max_chunks > 1 else starts[:1]


def join_tokens(texts: Iterable[np.ndarray]) -> Tokens:
    """The tokens of each text as one `Tokens`."""
    texts = list(texts)
    return Tokens(np.concatenate(texts), np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))


def special_ends(tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that `tokenizer` puts before and after a text: none, one or several, (tokens,) int32 each."""
    whole, body = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(body)] == body)
    return np.array(whole[:start], dtype=np.int32), np.array(whole[start + len(body) :], dtype=np.int32)


def _room(name: str, length: int, first: np.ndarray, last: np.ndarray) -> int:
    special = len(first) + len(last)
    check_range(name, length, length > special, f"above {special}, the number of special tokens")
    return length - special


def _row_numbers(rows) -> np.ndarray:
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _tokenize_cached(texts, tokenizer, max_length, cache) -> Tokens:
    if not cache:
        return _tokenize(texts, tokenizer, max_length)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()  # left over from the last call, no property of the tokenizer
        tokenizer.backend_tokenizer.no_padding()
        vocabulary = tokenizer.backend_tokenizer.to_str()
    else:
        vocabulary = repr(sorted(tokenizer.get_vocab().items()))
    key = hashlib.sha256(f"{max_length} {len(texts)}\n{vocabulary}".encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    file = cache / f"{key.hexdigest()[:16]}.npz"
    return Tokens(**cached_arrays(file, lambda: vars(_tokenize(texts, tokenizer, max_length))))


def _tokenize(texts, tokenizer, max_length) -> Tokens:
    # a token has at least one character, few have more than 20: text far beyond max_length need not be read
    texts, rows = [text[: 40 * max_length] for text in texts], []
    options = {"truncation": True, "return_attention_mask": False, "return_token_type_ids": False}
    for start in range(0, len(texts), 1000):  # a tokenizer's output takes far more memory than the token ids
        ids = tokenizer(texts[start : start + 1000], max_length=max_length, **options)["input_ids"]
        rows += [np.asarray(row, dtype=np.int32) for row in ids]
    return join_tokens(rows)
