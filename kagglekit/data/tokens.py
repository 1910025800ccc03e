"""Texts to tokens: tokenised once, stored in flat arrays, padded batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kagglekit.competition.text_columns import SEPARATOR, split_columns
from kagglekit.data.layout import Layout, cut_columns, find_layout
from kagglekit.data.truncation import TRUNCATIONS, keep_head_tail, key_parts
from kagglekit.files.arrays import cached_arrays
from kagglekit.options import check_range

if TYPE_CHECKING:
    import torch

WHOLE = 10**9  # a max_length that truncates nothing


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts of different lengths.

    `flat` (tokens of all texts,) int32 holds them one after the other; text i is `flat[ends[i] - lengths[i]:ends[i]]`.
    columns: which of several text columns each token belongs to, int8 like `flat`, from 0; None: there is one.
    """

    flat: np.ndarray
    lengths: np.ndarray
    columns: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The tokens of each text."""
        return self._each(self.flat)

    def _each(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        return (flat[end - n : end] for n, end in zip(self.lengths, self.ends, strict=True))

    @property
    def owners(self) -> Iterator[np.ndarray]:
        """The columns of the tokens of each text."""
        return self._each(np.zeros(len(self.flat), dtype=np.int8) if self.columns is None else self.columns)

    def __getitem__(self, rows) -> Tokens:
        """The texts at `rows` (row numbers or a boolean mask), in that order."""
        rows = row_numbers(rows)
        lengths, ends = self.lengths[rows], self.ends[rows]

        def chosen(flat):
            return np.concatenate([flat[end - n : end] for n, end in zip(lengths, ends, strict=True)])

        return Tokens(chosen(self.flat), lengths, None if self.columns is None else chosen(self.columns))

    def __add__(self, other: Tokens) -> Tokens:
        """The texts of both."""
        columns = None
        if self.columns is not None or other.columns is not None:
            columns = np.concatenate([*self.owners, *other.owners])
        lengths = np.concatenate([self.lengths, other.lengths])
        return Tokens(np.concatenate([self.flat, other.flat]), lengths, columns)

    def pad(self, pad_id: int) -> dict[str, torch.Tensor]:
        """All texts as one right-padded batch: `input_ids` and `attention_mask`, both (texts, longest) int64; of texts
        in several columns also `token_type_ids`, the number of each token's column, see `backbones.token_types`.

        A text of zero tokens, such as one of several columns, is padding throughout.
        """
        import torch  # of which a notebook that only counts tokens has no need

        mask = np.arange(self.lengths.max().clip(1)) < self.lengths[:, None]  # (texts, longest)
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.flat
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
        if self.columns is not None:
            types = np.zeros(mask.shape, dtype=np.int64)
            types[mask] = self.columns
            batch["token_type_ids"] = torch.from_numpy(types)
        return batch


def tokenize(
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    cache: Path | None = None,
    cut: str | Sequence[str] = "head",
    head_tokens: int | None = None,
    budget: Sequence[int] = (),
) -> Tokens:
    """Tokenise `texts` with special tokens, and truncate those of more than `max_length` tokens, these included.

    Between the columns of a text (see `text_columns`) is what the tokenizer puts between two texts, see `find_layout`.
    cut: the part that is kept, one of `TRUNCATIONS`: "head", "tail", "head_tail" (head_tokens: see `keep_head_tail`),
    "middle", or "key_parts": title, first and last paragraph, which may be far fewer tokens than fit; where they are
    too many, half from either end. All but "head" read long texts to their end, which takes longer. Of several columns
    each is cut by itself, by its own rule where there is a list of them; budget: tokens of each, see `share_room`.
    cache: a folder for the arrays, under a hash of texts, tokenizer and length; the next call with the same three reads
    them back. All but "head" and "key_parts" share a file, and so do all cuts of several columns.
    """
    cuts = [cut] if isinstance(cut, str) else list(cut)
    for one in cuts:
        check_range("cut", one, one in TRUNCATIONS, f"one of {', '.join(TRUNCATIONS)}")
    check_range("head_tokens", head_tokens, head_tokens is None or head_tokens >= 0, "0 or more, or None")
    if any(SEPARATOR in text for text in texts):
        rows = [split_columns(text) for text in texts]
        return tokenize_columns(rows, tokenizer, max_length, find_layout(tokenizer), cache, cuts, head_tokens, budget)
    (cut,) = set(cuts)
    if cut == "head" and tokenizer.truncation_side == "right":
        return _tokenize_cached(texts, tokenizer, max_length, cache)
    if cut == "key_parts":
        fits = tokenize(texts, tokenizer, max_length + 1, cache).lengths <= max_length
        texts = [text if fit else key_parts(text) for text, fit in zip(texts, fits, strict=True)]
    return truncate(_tokenize_cached(texts, tokenizer, WHOLE, cache), tokenizer, max_length, _keep(cut, head_tokens))


def tokenize_columns(
    rows: Sequence[Sequence[str]],
    tokenizer,
    max_length: int,
    layout: Layout,
    cache: Path | None = None,
    cut: str | Sequence[str] = "head",
    head_tokens: int | None = None,
    budget: Sequence[int] = (),
) -> Tokens:
    """Tokenise the columns of each text by themselves, and join them as the layout says, see `tokenize`.

    All columns are read whole, as one list; then each text is put together from its own. layout: a `Layout`, or a
    `Pattern`.
    """
    cuts = [cut] if isinstance(cut, str) else list(cut)
    whole = _tokenize_cached([column for row in rows for column in row], tokenizer, WHOLE, cache, special=False)
    bodies, found = iter(whole), []
    for row in rows:
        room = room_of("max_length", max_length, layout.special(len(row)))
        own, names = [next(bodies) for _ in row], cuts * len(row) if len(cuts) == 1 else cuts
        if len(row) != len(names) or len(budget) not in (0, len(row)):
            raise ValueError(f"cut and budget are of {max(len(names), len(budget))} columns, and a text has {len(row)}")
        if sum(map(len, own)) > room:
            if "key_parts" in names:
                parts = zip(row, names, strict=True)
                short = [key_parts(text) if name == "key_parts" else text for text, name in parts]
                own = list(_tokenize(short, tokenizer, WHOLE, special=False))
            own = cut_columns(own, room, [_keep(name, head_tokens) for name in names], budget)
        found.append(layout.join(own))
    return join_tokens(*zip(*found, strict=True))


def _keep(cut: str, head_tokens: int | None) -> Callable[[np.ndarray, int], np.ndarray]:
    return partial(keep_head_tail, head=head_tokens) if cut == "head_tail" else TRUNCATIONS[cut]


def truncate(tokens: Tokens, tokenizer, max_length: int, keep: Callable[[np.ndarray, int], np.ndarray]) -> Tokens:
    """Truncate whole texts, as `tokenize` makes them with `WHOLE`, to `max_length` tokens; special tokens stay.

    keep: a function such as `truncation.keep_tail`.
    """
    first, last = special_ends(tokenizer)
    room = room_of("max_length", max_length, len(first) + len(last))

    def shortened(ids):
        body = ids[len(first) : len(ids) - len(last)]
        return ids if len(body) <= room else np.concatenate([first, keep(body, room), last])

    return join_tokens(shortened(ids) for ids in tokens)


def join_tokens(texts: Iterable[np.ndarray], columns: Iterable[np.ndarray] | None = None) -> Tokens:
    """The tokens of each text as one `Tokens`; columns: of the tokens of each."""
    texts = list(texts)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Tokens(np.concatenate(texts), lengths, None if columns is None else np.concatenate(list(columns)))


def special_ends(tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that `tokenizer` puts before and after a text: none, one or several, (tokens,) int32 each."""
    whole, body = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(body)] == body)
    return np.array(whole[:start], dtype=np.int32), np.array(whole[start + len(body) :], dtype=np.int32)


def room_of(name: str, length: int, special: int) -> int:
    """The tokens of text that fit; raises ValueError where that is none."""
    check_range(name, length, length > special, f"above {special}, the number of special tokens")
    return length - special


def row_numbers(rows) -> np.ndarray:
    """Row numbers of a boolean mask; others are returned as they are."""
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _tokenize_cached(texts, tokenizer, max_length, cache, special: bool = True) -> Tokens:
    if not cache:
        return _tokenize(texts, tokenizer, max_length, special)
    if tokenizer.is_fast:
        _forget_last_call(tokenizer)
        vocabulary = tokenizer.backend_tokenizer.to_str()
    else:
        vocabulary = repr(sorted(tokenizer.get_vocab().items()))
    plain = "" if special else " without special tokens"
    key = hashlib.sha256(f"{max_length}{plain} {len(texts)}\n{vocabulary}".encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    file = cache / f"{key.hexdigest()[:16]}.npz"

    def make() -> dict[str, np.ndarray]:
        tokens = _tokenize(texts, tokenizer, max_length, special)
        return {"flat": tokens.flat, "lengths": tokens.lengths}

    return Tokens(**cached_arrays(file, make))


def _tokenize(texts, tokenizer, max_length, special: bool = True) -> Tokens:
    # a token has at least one character, few have more than 20: text far beyond max_length need not be read
    texts, rows = [text[: 40 * max_length] for text in texts], []
    options = {"truncation": True, "return_attention_mask": False, "return_token_type_ids": False}
    options["add_special_tokens"] = special
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id) if special else ()
    empty = [mark for mark in marks if mark is not None][:1]  # most decoders add nothing to a text: it needs a token
    for start in range(0, len(texts), 1000):  # a tokenizer's output takes far more memory than the token ids
        ids = tokenizer(texts[start : start + 1000], max_length=max_length, **options)["input_ids"]
        rows += [np.asarray(row or empty, dtype=np.int32) for row in ids]
    _forget_last_call(tokenizer)
    return join_tokens(rows)


def _forget_last_call(tokenizer) -> None:
    """Truncation and padding are of the last call, and would be saved with the tokenizer."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
