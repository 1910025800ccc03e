"""Long texts in chunks that overlap: nothing is lost, nothing is too long, and batches keep to their budget."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kagglekit.data.batches import Examples, prediction_batches, training_batches
from kagglekit.data.chunks import chunk, make_chunks
from kagglekit.data.tokens import WHOLE, Tokens, join_tokens, tokenize

TEXTS = ["a the " * 20, "", "good", "住过几次，感觉还可以。" * 3, "😀 fun 😀 " * 15, "a b c d e f g h"]
SIZES = st.integers(3, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 3)))  # chunk_length, stride


def whole_texts(counts):
    """Texts of so many tokens, numbered from 10, between 2 and 3."""
    return join_tokens(np.array([2, *range(10, 10 + n), 3], dtype=np.int32) for n in counts)


def chunks_of(chunks):
    """The chunks of each text, without special tokens."""
    pieces = iter(chunks.pieces)
    return [[next(pieces)[1:-1].tolist() for _ in range(n)] for n in chunks.counts]


@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=5), size=SIZES)
def test_chunks_lose_nothing_overlap_by_the_stride_and_are_never_too_long(tokenizer, counts, size):
    chunk_length, stride = size
    chunks = make_chunks(whole_texts(counts), tokenizer, chunk_length, stride)
    assert chunks.pieces.lengths.max() <= chunk_length
    assert all(ids[0] == 2 and ids[-1] == 3 for ids in chunks.pieces)
    for count, pieces in zip(counts, chunks_of(chunks), strict=True):
        assert pieces[0] + [token for piece in pieces[1:] for token in piece[stride:]] == list(range(10, 10 + count))
        for before, after in pairwise(pieces):
            assert len(before) == chunk_length - 2 and len(after) > stride
            assert before[len(before) - stride :] == after[:stride]


@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=5), size=SIZES, most=st.integers(1, 5))
def test_of_too_many_chunks_the_first_and_the_end_of_the_text_stay(tokenizer, counts, size, most):
    every = chunks_of(make_chunks(whole_texts(counts), tokenizer, *size))
    some = chunks_of(make_chunks(whole_texts(counts), tokenizer, *size, most))
    for count, pieces, kept in zip(counts, every, some, strict=True):
        if len(pieces) <= most:
            assert kept == pieces
        elif most == 1:
            assert kept == pieces[:1]
        else:
            assert kept == [*pieces[: most - 1], list(range(10, 10 + count))[-(size[0] - 2) :]]


def test_one_chunk_is_the_head_cut_and_no_stride_is_chunk(tokenizer):
    whole = tokenize(TEXTS, tokenizer, WHOLE)
    head, one = tokenize(TEXTS, tokenizer, 9), make_chunks(whole, tokenizer, 9, 3, max_chunks=1)
    assert np.array_equal(one.pieces.flat, head.flat) and np.array_equal(one.lengths, head.lengths)
    assert np.array_equal(make_chunks(whole, tokenizer, 9).pieces.flat, chunk(whole, tokenizer, 9).flat)


def test_a_text_that_fits_is_one_chunk_as_it_is(tokenizer):
    whole = tokenize(TEXTS, tokenizer, WHOLE)
    chunks = make_chunks(whole, tokenizer, 1000, 500)
    assert chunks.counts.tolist() == [1] * len(TEXTS)
    assert np.array_equal(chunks.pieces.flat, whole.flat) and np.array_equal(chunks.lengths, whole.lengths)


def test_rows_come_in_the_order_asked_for(tokenizer):
    chunks = make_chunks(tokenize(TEXTS, tokenizer, WHOLE), tokenizer, 9, 2)
    every = chunks_of(chunks)
    assert chunks_of(chunks[[3, 0, 3]]) == [every[3], every[0], every[3]]
    mask = np.array([False, True, False, True, True, False])
    assert chunks_of(chunks[mask]) == [every[1], every[3], every[4]]
    assert len(chunks[mask]) == 3 and np.array_equal(chunks[mask].lengths, chunks.lengths[mask])


def test_a_batch_holds_each_chunk_at_its_place_and_padding_elsewhere(tokenizer):
    chunks = make_chunks(tokenize(TEXTS, tokenizer, WHOLE), tokenizer, 9, 2)
    batch = chunks.pad(7)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.shape == mask.shape == (len(TEXTS), chunks.counts.max(), 9) and ids.dtype == mask.dtype == torch.int64
    for row, pieces in enumerate(chunks_of(chunks)):
        for number in range(chunks.counts.max()):
            piece = [2, *pieces[number], 3] if number < len(pieces) else []
            assert ids[row, number].tolist() == piece + [7] * (9 - len(piece))
            assert mask[row, number].tolist() == [1] * len(piece) + [0] * (9 - len(piece))


def test_texts_of_one_chunk_are_a_batch_of_the_plain_tokens_with_one_dimension_more(tokenizer):
    whole = tokenize(TEXTS[1:3], tokenizer, WHOLE)
    ours, plain = make_chunks(whole, tokenizer, 9).pad(0), whole.pad(0)
    assert all(torch.equal(ours[name].squeeze(1), plain[name]) for name in plain)


def test_a_text_without_any_token_is_one_empty_chunk():
    tokens = Tokens(np.array([], dtype=np.int32), np.array([0, 0]))
    bare = type("Bare", (), {"__call__": lambda self, text, **options: {"input_ids": [5]}})()
    chunks = make_chunks(tokens, bare, 9)
    assert chunks.counts.tolist() == [1, 1] and chunks.lengths.tolist() == [0, 0]
    assert chunks.pad(0)["attention_mask"].tolist() == [[[0]], [[0]]]


@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=30), size=SIZES, budget=st.integers(1, 400))
def test_padded_batches_keep_to_the_token_budget(tokenizer, counts, size, budget):
    chunks = make_chunks(whole_texts(counts), tokenizer, *size)
    batches = prediction_batches(chunks.lengths, budget)
    assert sorted(np.concatenate(batches)) == list(range(len(counts)))
    for rows in batches:
        padded = chunks[rows].pad(0)["input_ids"].numel()
        assert padded == len(rows) * chunks.lengths[rows].max()
        assert padded <= budget or len(rows) == 1


def test_chunks_are_rows_of_a_training_set(tokenizer):
    chunks = make_chunks(tokenize(TEXTS, tokenizer, WHOLE), tokenizer, 9, 2)
    examples = Examples(chunks, 0, np.arange(len(TEXTS)))
    seen = [examples.__getitems__(rows.tolist()) for rows in training_batches(chunks.lengths, 2, seed=0)]
    assert sorted(torch.cat([batch["labels"] for batch in seen]).tolist()) == list(range(len(TEXTS)))
    assert sum(int(batch["attention_mask"].sum()) for batch in seen) == chunks.pieces.lengths.sum()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((9, 7), "stride=7 is out of range: it must be from 0 to below 7"),
        ((9, 2, 0), "max_chunks=0"),
        ((2,), "chunk_length=2"),
    ],
)
def test_a_size_out_of_range_is_an_error(tokenizer, sizes, words):
    with pytest.raises(ValueError, match=words):
        make_chunks(whole_texts([5]), tokenizer, *sizes)
