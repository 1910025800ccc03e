import numpy as np
import pytest
import torch

from kagglekit.data.tokens import Tokens, chunk, tokenize
from kagglekit.model.backbones import load_tokenizer

TEXTS = ["the good film !", "", "bad", "😀 \0 unknown", "a " * 50]


def rows_of(tokens):
    return [tokens.flat[end - n : end].tolist() for n, end in zip(tokens.lengths, tokens.ends, strict=True)]


def test_tokens_are_those_of_the_tokenizer_cut_at_max_length(tokenizer):
    expected = [tokenizer(text, truncation=True, max_length=9)["input_ids"] for text in TEXTS]
    tokens = tokenize(TEXTS, tokenizer, 9)
    assert rows_of(tokens) == expected
    assert tokens.flat.dtype == np.int32 and len(tokens) == 5
    assert tokens.lengths.tolist() == [6, 2, 3, 4, 9]  # an empty text is its two special tokens


def test_rows_come_in_the_order_asked_for(tokenizer):
    tokens = tokenize(TEXTS, tokenizer, 9)
    every = rows_of(tokens)
    assert rows_of(tokens[[3, 0, 3]]) == [every[3], every[0], every[3]]
    assert rows_of(tokens[np.array([False, True, False, False, True])]) == [every[1], every[4]]


def test_a_padded_batch_is_that_of_the_tokenizer(tokenizer):
    ours = tokenize(TEXTS, tokenizer, 9)[[0, 1, 4]].pad(0)
    theirs = tokenizer([TEXTS[0], TEXTS[1], TEXTS[4]], truncation=True, max_length=9, padding=True, return_tensors="pt")
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == torch.int64


def test_one_megabyte_in_one_cell_reads_as_its_head(tokenizer):
    assert np.array_equal(tokenize(["good " * 200_000], tokenizer, 8).flat, tokenize(["good " * 20], tokenizer, 8).flat)


def test_the_cache_gives_the_same_arrays_and_is_read(tokenizer, tmp_path, monkeypatch):
    first = tokenize(TEXTS, tokenizer, 9, tmp_path)
    monkeypatch.setattr("kagglekit.data.tokens._tokenize", None)  # a second call would fail
    second = tokenize(TEXTS, tokenizer, 9, tmp_path)
    assert np.array_equal(first.flat, second.flat) and np.array_equal(first.lengths, second.lengths)
    assert len(list(tmp_path.iterdir())) == 1


def test_other_texts_lengths_and_tokenizers_have_other_caches(tokenizer, backbones, tmp_path):
    other = load_tokenizer(backbones["bert"])
    other.add_tokens(["😀"])
    tokenize(TEXTS, tokenizer, 9, tmp_path)
    tokenize(TEXTS, tokenizer, 8, tmp_path)
    tokenize(TEXTS[::-1], tokenizer, 9, tmp_path)
    tokenize(["".join(TEXTS)], tokenizer, 9, tmp_path)
    tokenize(TEXTS, other, 9, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("max_length", [3, 5, 9, 60])
def test_chunks_drop_nothing_and_are_never_too_long(tokenizer, max_length):
    whole = tokenize(TEXTS, tokenizer, 1000)
    pieces = chunk(whole, tokenizer, max_length)
    assert pieces.lengths.max() <= max_length
    assert all(row[0] == 2 and row[-1] == 3 and 2 not in row[1:] for row in rows_of(pieces))
    body = [token for row in rows_of(pieces) for token in row[1:-1]]
    assert body == [token for row in rows_of(whole) for token in row[1:-1]]
    if max_length == 60:
        assert rows_of(pieces) == rows_of(whole)


def test_an_empty_text_is_one_chunk(tokenizer):
    assert isinstance(chunk(tokenize([""], tokenizer, 9), tokenizer, 5), Tokens)
    assert rows_of(chunk(tokenize([""], tokenizer, 9), tokenizer, 5)) == [[2, 3]]
