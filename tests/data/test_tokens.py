from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from kagglekit.data.chunks import chunk
from kagglekit.data.tokens import WHOLE, Tokens, special_ends, tokenize, truncate
from kagglekit.data.truncation import TRUNCATIONS, keep_head_tail, keep_tail
from kagglekit.model.backbones import load_tokenizer

TEXTS = ["the good film !", "", "bad", "😀 \0 unknown", "a " * 50]


LONG = [*TEXTS, "住过几次，感觉还可以。" * 4, "😀 good 😀 bad " * 9, "title\n\nthe first\n\nthe old\n\nthe end !"]


def rows_of(tokens):
    return [ids.tolist() for ids in tokens]


ENDS = {  # what a tokenizer puts around a text -> the special tokens before and behind it
    "[CLS] $A [SEP]": ([2], [3]),
    "$A": ([], []),
    "[CLS] [MASK] $A [SEP]": ([2, 4], [3]),
    "$A [SEP] [CLS]": ([], [3, 2]),
    "[CLS] $A": ([2], []),
}


@pytest.fixture(params=ENDS)
def template(request):
    return request.param


@pytest.fixture
def any_tokenizer(template, backbone):
    tokenizer = load_tokenizer(backbone)
    special = [("[CLS]", 2), ("[SEP]", 3), ("[MASK]", 4)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return tokenizer


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


def test_a_batch_of_texts_without_any_token_is_padding():
    batch = Tokens(np.array([], dtype=np.int32), np.array([0, 0])).pad(7)
    assert batch["input_ids"].tolist() == [[7], [7]] and batch["attention_mask"].tolist() == [[0], [0]]


def test_special_tokens_are_found_at_either_end(any_tokenizer, template):
    first, last = special_ends(any_tokenizer)
    assert (first.tolist(), last.tolist()) == ENDS[template]


@pytest.mark.parametrize("cut", TRUNCATIONS)
@pytest.mark.parametrize("max_length", [4, 7, 20, 1000])
def test_every_cut_keeps_special_tokens_and_its_part_of_the_text(any_tokenizer, template, cut, max_length):
    first, last = ENDS[template]
    room = max_length - len(first) - len(last)
    texts = LONG if cut != "key_parts" else LONG[:-1]  # its last one has paragraphs
    for text, ids in zip(texts, rows_of(tokenize(texts, any_tokenizer, max_length, cut=cut)), strict=True):
        body = any_tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == [*first, *TRUNCATIONS[cut](np.array(body, dtype=int), room), *last]
        assert len(ids) == min(max_length, len(body) + len(first) + len(last))


@given(
    st.lists(st.text("a好😀. \n", max_size=60), min_size=1, max_size=4),
    st.integers(3, 40),
    st.sampled_from([*TRUNCATIONS]),
)
def test_no_cut_is_too_long_and_what_fits_is_unchanged(tokenizer, texts, max_length, cut):
    whole = rows_of(tokenize(texts, tokenizer, WHOLE))
    for before, after in zip(whole, rows_of(tokenize(texts, tokenizer, max_length, cut=cut)), strict=True):
        assert len(after) <= max_length and after[0] == 2 and after[-1] == 3
        if len(before) <= max_length:
            assert after == before
        elif cut != "key_parts":
            assert len(after) == max_length


def test_the_head_cut_after_tokenising_is_that_of_the_tokenizer(tokenizer):
    whole = tokenize(LONG, tokenizer, WHOLE)
    assert rows_of(truncate(whole, tokenizer, 9, TRUNCATIONS["head"])) == rows_of(tokenize(LONG, tokenizer, 9))


def test_a_tokenizer_that_would_keep_the_tail_keeps_the_head_all_the_same(tokenizer, backbone):
    other = load_tokenizer(backbone)
    other.truncation_side = "left"
    assert rows_of(tokenize(LONG, other, 9)) == rows_of(tokenize(LONG, tokenizer, 9))
    assert other.truncation_side == "left"


def test_the_head_of_head_and_tail_is_a_knob(tokenizer):
    whole = tokenize(LONG, tokenizer, WHOLE)
    for head_tokens, keep in ((None, keep_head_tail), (0, keep_tail), (3, partial(keep_head_tail, head=3))):
        ours = tokenize(LONG, tokenizer, 9, cut="head_tail", head_tokens=head_tokens)
        assert rows_of(ours) == rows_of(truncate(whole, tokenizer, 9, keep))


def test_key_parts_are_read_where_the_whole_is_too_long(tokenizer):
    def read(max_length):
        return tokenizer.decode(tokenize(LONG[-1:], tokenizer, max_length, cut="key_parts").flat)

    assert read(10) == tokenizer.decode(tokenizer("title the first the old the end !")["input_ids"])
    assert read(9) == tokenizer.decode(tokenizer("title the first the end !")["input_ids"])
    assert read(6) == tokenizer.decode(tokenizer("title the end !")["input_ids"])  # half from either end


def test_cuts_of_the_same_texts_share_a_cache_and_are_the_same_with_it(tokenizer, tmp_path):
    for cut in TRUNCATIONS:
        for _ in range(2):
            cached = tokenize(LONG, tokenizer, 9, tmp_path, cut)
            assert rows_of(cached) == rows_of(tokenize(LONG, tokenizer, 9, cut=cut))
    assert len(list(tmp_path.iterdir())) == 4  # the head, the whole texts, and for key parts the head and these parts


def test_what_is_out_of_range_is_said(tokenizer):
    with pytest.raises(ValueError, match=r"cut='first' is out of range: it must be one of head, tail"):
        tokenize(LONG, tokenizer, 9, cut="first")
    with pytest.raises(ValueError, match=r"head_tokens=-1 is out of range"):
        tokenize(LONG, tokenizer, 9, cut="head_tail", head_tokens=-1)
    with pytest.raises(ValueError, match=r"max_length=2 is out of range: it must be above 2, the number of special"):
        tokenize(LONG, tokenizer, 2, cut="tail")


def test_chunks_have_the_special_tokens_of_any_tokenizer(any_tokenizer, template):
    first, last = ENDS[template]
    body = 6 - len(first) - len(last)
    for row in rows_of(chunk(tokenize(["a " * 4 * body], any_tokenizer, WHOLE), any_tokenizer, 6)):
        assert row == [*first, *[5] * body, *last]


def test_an_empty_text_is_one_chunk(tokenizer):
    assert isinstance(chunk(tokenize([""], tokenizer, 9), tokenizer, 5), Tokens)
    assert rows_of(chunk(tokenize([""], tokenizer, 9), tokenizer, 5)) == [[2, 3]]
