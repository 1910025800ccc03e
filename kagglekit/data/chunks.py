"""Long texts in chunks, each short enough for the model (Sun et al., 2019, arXiv 1905.05583)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kagglekit.data.layout import chunk_columns, find_layout
from kagglekit.data.tokens import Tokens, join_tokens, room_of, row_numbers, special_ends
from kagglekit.options import check_range

if TYPE_CHECKING:
    import torch


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

    def __getitem__(self, rows) -> Chunks:
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = row_numbers(rows)
        counts, firsts = self.counts[rows], self._firsts[rows]
        ranges = [np.arange(first, first + n) for first, n in zip(firsts, counts, strict=True)]
        return Chunks(self.pieces[np.concatenate(ranges)], counts)

    def __add__(self, other: Chunks) -> Chunks:
        """The texts of both."""
        return Chunks(self.pieces + other.pieces, np.concatenate([self.counts, other.counts]))

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one batch: `input_ids` and `attention_mask`, both (texts, most chunks, longest) int64.

        Chunks are padded on the right; a chunk that a text does not have is padding throughout.
        """
        import torch

        present = np.arange(self.counts.max()) < self.counts[:, None]  # (texts, chunks)
        batch = {}
        for name, padded in self.pieces.pad(pad_id).items():
            values = np.full((*present.shape, padded.shape[1]), pad_id if name == "input_ids" else 0)
            values[present] = padded.numpy()
            batch[name] = torch.from_numpy(values)
        return batch


def make_chunks(tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None) -> Chunks:
    """Split whole texts into chunks of at most `chunk_length` tokens, each with special tokens of its own.

    tokens: whole texts, as `tokenize` makes them with `WHOLE`. stride: tokens by which a chunk overlaps the one before;
    0 is no overlap, a quarter of chunk_length is usual, just below chunk_length costs most. max_chunks: of a text with
    more, the first ones are kept and its end as the last one; 1 is the head of the text, None drops nothing (a text of
    a megabyte is then a batch of its own). Of texts in several columns see `chunk_columns`.
    """
    if tokens.columns is not None:
        return _chunk_columns(tokens, tokenizer, chunk_length, stride, max_chunks)
    texts = list(split_texts(tokens, tokenizer, chunk_length, stride, max_chunks))
    counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Chunks(join_tokens(piece for pieces in texts for piece in pieces), counts)


def _chunk_columns(tokens: Tokens, tokenizer, chunk_length: int, stride: int, max_chunks: int | None) -> Chunks:
    layout, texts = find_layout(tokenizer), []
    for ids, owners in zip(tokens, tokens.owners, strict=True):
        bodies = layout.split(ids, owners)
        room = room_of("chunk_length", chunk_length, layout.special(len(bodies)))
        most = room - room // 2
        check_range("stride", stride, 0 <= stride < most, f"from 0 to below {most}, the least that a column gets")
        pieces = chunk_columns(bodies, room, partial(chunk_starts, stride=stride, max_chunks=max_chunks))
        texts.append([layout.join(piece) for piece in pieces])
    counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Chunks(join_tokens(*zip(*(piece for pieces in texts for piece in pieces), strict=True)), counts)


def chunk(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Split whole texts into chunks without overlap, each a text of its own; nothing is dropped, and separators between
    columns are tokens like others."""
    return join_tokens(piece for pieces in split_texts(tokens, tokenizer, max_length) for piece in pieces)


def split_texts(
    tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None
) -> Iterator[list[np.ndarray]]:
    """The chunks of each whole text, see `make_chunks`. A text that fits is one chunk, unchanged."""
    first, last = special_ends(tokenizer)
    room = room_of("chunk_length", chunk_length, len(first) + len(last))
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
