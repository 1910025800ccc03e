"""Long texts as several chunks that overlap, each short enough for the model (Sun et al., 2019, arXiv 1905.05583)."""

from dataclasses import dataclass

import numpy as np
import torch

from kagglekit.data.tokens import Tokens, join_tokens, split_texts


@dataclass(frozen=True)
class Chunks:
    """Token ids of many texts in chunks; it is used like `Tokens`, and its batches have one dimension more.

    pieces: the chunks of all texts, one after the other. counts: chunks of each text (texts,), 1 or more.
    """

    pieces: Tokens
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def lengths(self) -> np.ndarray:
        """What each text takes in a batch (texts,): its chunks times the longest of them.

        A batch as `pad` lays it out has never more tokens than texts times the highest of their lengths, as with
        `Tokens`: all that has several chunks has full ones.
        """
        return self.counts * np.maximum.reduceat(self.pieces.lengths, self._firsts)

    @property
    def _firsts(self) -> np.ndarray:
        """The number of each text's first chunk."""
        return np.cumsum(self.counts) - self.counts

    def __getitem__(self, rows) -> "Chunks":
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        counts, firsts = self.counts[rows], self._firsts[rows]
        ranges = [np.arange(first, first + n) for first, n in zip(firsts, counts, strict=True)]
        return Chunks(self.pieces[np.concatenate(ranges)], counts)

    def __add__(self, other: "Chunks") -> "Chunks":
        """The texts of both."""
        return Chunks(self.pieces + other.pieces, np.concatenate([self.counts, other.counts]))

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one batch: `input_ids` and `attention_mask`, both (texts, most chunks, longest) int64.

        Chunks are padded on the right; a chunk that a text does not have is padding all through.
        """
        there = np.arange(self.counts.max()) < self.counts[:, None]  # (texts, chunks)
        batch = {}
        for name, padded in self.pieces.pad(pad_id).items():
            fill = pad_id if name == "input_ids" else 0
            values = np.full((*there.shape, padded.shape[1]), fill)
            values[there] = padded.numpy()
            batch[name] = torch.from_numpy(values)
        return batch


def make_chunks(tokens: Tokens, tokenizer, chunk_length: int, stride: int = 0, max_chunks: int | None = None) -> Chunks:
    """Cut whole texts into chunks of at most `chunk_length` tokens, each between special tokens of its own.

    tokens: whole texts, as `tokenize` makes them with `WHOLE`. stride: tokens at the end of a chunk with which the next
    one begins again; 0 is none, a quarter of chunk_length is usual, and just below chunk_length costs most. max_chunks:
    of a text; where it has more, the first ones are kept and the end of the text as the last one. 1 is the head of the
    text, None drops nothing, and one text of a megabyte is then a batch of its own.
    """
    texts = list(split_texts(tokens, tokenizer, chunk_length, stride, max_chunks))
    counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Chunks(join_tokens(piece for pieces in texts for piece in pieces), counts)
