"""Text to tokens: tokenised once, kept as two flat arrays, padded batch by batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kagglekit.paths import replacing


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

    def __getitem__(self, rows) -> "Tokens":
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths, ends = self.lengths[rows], self.ends[rows]
        return Tokens(np.concatenate([self.flat[end - n : end] for n, end in zip(lengths, ends, strict=True)]), lengths)

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one right-padded batch: `input_ids` and `attention_mask`, both (texts, longest) int64."""
        mask = np.arange(self.lengths.max()) < self.lengths[:, None]  # (texts, longest)
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.flat
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def tokenize(texts: Sequence[str], tokenizer, max_length: int, cache: Path | None = None) -> Tokens:
    """Tokenise `texts` with special tokens, cut at `max_length` tokens (the head of the text is kept).

    With `cache` (a folder) the arrays are kept there under a hash of the texts, the tokenizer and the length, and the
    next call with the same three reads them back.
    """
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
    ids = tokenizer([text[: 40 * max_length] for text in texts], truncation=True, max_length=max_length)["input_ids"]
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return Tokens(np.concatenate([np.asarray(i, dtype=np.int32) for i in ids]), lengths)


def chunk(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Cut texts into pieces of at most `max_length` tokens, each between its own special tokens; nothing is dropped.

    `tokens` were made with the special tokens of `tokenizer` at both ends, as `tokenize` makes them.
    """
    first, last = tokens.flat[:1], tokens.flat[-1:]
    body = max_length - 2
    pieces = []
    for n, end in zip(tokens.lengths, tokens.ends, strict=True):
        inner = tokens.flat[end - n + 1 : end - 1]
        pieces += [np.concatenate([first, inner[i : i + body], last]) for i in range(0, max(len(inner), 1), body)]
    return Tokens(np.concatenate(pieces), np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces)))
