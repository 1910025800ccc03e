"""Texts that share sequences: none is lost, none is cut that fits, and little is padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.chunks import chunk
from kagglekit.data.tokens import WHOLE, Tokens, join_tokens, tokenize
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.pretraining.mlm import fit_best, pack, padding_shares, read_pieces, show_packing
from kagglekit.pretraining.stage_knobs import Stage

CLS, SEP = 2, 3


def plain_best_fit(lengths, room, gap=1):
    """The same without a clever search: look at every bin."""
    bins = []
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        left = [room - sum(lengths[i] + gap for i in members) - lengths[item] for members in bins]
        fits = [place for place in range(len(bins)) if left[place] >= 0]
        if fits:
            bins[min(fits, key=lambda place: left[place])].append(item)
        else:
            bins.append([item])
    return bins


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 40))
def test_best_fit_fills_bins_as_a_search_through_all_of_them_does(lengths, room):
    bins, plain = fit_best(lengths, room), plain_best_fit(lengths, room)
    assert sorted(item for members in bins for item in members) == list(range(len(lengths)))
    sizes = [sum(lengths[i] + 1 for i in members) - 1 for members in bins]
    assert all(size <= room for size in sizes)
    assert sorted(sizes) == sorted(sum(lengths[i] + 1 for i in members) - 1 for members in plain)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_packing_loses_no_token_and_cuts_no_text_that_fits(tokenizer, lengths):
    """Each text is made of tokens of its own number, as far as the vocabulary goes."""
    texts = [np.full(n, 5 + number % 25) for number, n in enumerate(lengths)]
    texts = [np.concatenate([[CLS], text, [SEP]]).astype(np.int32) for text in texts]
    packed = pack(join_tokens(texts), tokenizer, 12)
    assert packed.lengths.max() <= 12
    pieces = []
    for ids in packed:
        assert ids[0] == CLS and ids[-1] == SEP
        pieces += [tuple(piece) for piece in np.split(ids[1:-1], np.flatnonzero(ids[1:-1] == SEP))]
    pieces = [tuple(token for token in piece if token != SEP) for piece in pieces]
    cut = [n for length in lengths for n in [10] * (length // 10) + [length % 10]]
    assert sorted(len(piece) for piece in pieces if piece) == sorted(n for n in cut if n)
    assert all(len(set(piece)) <= 1 for piece in pieces)
    counts = np.bincount(np.concatenate([*packed]), minlength=30)[5:]
    assert np.array_equal(counts, np.bincount(np.concatenate(texts), minlength=30)[5:])


def test_texts_stand_in_their_order_with_a_separator_between_them(tokenizer):
    tokens = tokenize(["good film", "the end", "a very bad old plot", "!"], tokenizer, WHOLE)
    (packed,) = pack(tokens, tokenizer, 20)
    words = tokenizer.convert_ids_to_tokens(packed.tolist())
    assert " ".join(words) == "[CLS] good film [SEP] the end [SEP] a very bad old plot [SEP] ! [SEP]"


def test_long_texts_fill_sequences_and_their_ends_share_one(tokenizer):
    tokens = tokenize(["good " * 14, "bad " * 13, "fun"], tokenizer, WHOLE)
    assert sorted(pack(tokens, tokenizer, 12).lengths.tolist()) == [12, 12, 12]  # 4 + 1 + 3 + 1 + 1, and two ends
    assert chunk(tokens, tokenizer, 12).lengths.tolist() == [12, 6, 12, 5, 3]


def test_texts_of_no_tokens_are_a_sequence_of_none(tokenizer):
    empty = tokenize(["", ""], tokenizer, WHOLE)
    assert [ids.tolist() for ids in pack(empty, tokenizer, 12)] == [[CLS, SEP]]


@pytest.mark.parametrize("knobs", [{"pack": False}, {"masking": "selective"}, {"masking": "entropy"}])
def test_without_pack_each_text_is_by_itself_and_so_a_task_model_is_asked(tokenizer, texts, knobs):
    words, _ = texts(30)
    alone = read_pieces(words, tokenizer, Stage(max_length=12, **knobs))
    assert np.array_equal(alone.flat, chunk(tokenize(words, tokenizer, WHOLE), tokenizer, 12).flat)


def test_the_separator_is_the_tokenizers_own():
    """Of MiniLM it is [SEP]; of one that has none, the end of a text."""
    tokenizer = load_tokenizer(find_backbone("minilm"))
    (ids,) = pack(tokenize(["good film", "bad film"], tokenizer, WHOLE), tokenizer, 16)
    assert tokenizer.decode(ids) == "[CLS] good film [SEP] bad film [SEP]"
    tokenizer.eos_token, tokenizer.sep_token = "[PAD]", None
    (ids,) = pack(tokenize(["good film", "bad film"], tokenizer, WHOLE), tokenizer, 16)
    assert tokenizer.decode(ids) == "[CLS] good film [PAD] bad film [SEP]"
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="has no separator to put between texts: set pack=False"):
        pack(tokenize(["good film"], tokenizer, WHOLE), tokenizer, 16)


def test_packing_leaves_hardly_any_padding(tokenizer, texts):
    words, _ = texts(400)
    table = show_packing(words, tokenizer, Stage(max_length=32, batch_size=4))
    alone, packed = table.loc["each text by itself"], table.loc["packed"]
    assert packed["padding to max_length"] < 0.02 < 0.4 < alone["padding to max_length"]
    assert packed["padding in batches"] < 0.02 and packed["sequences"] < 0.6 * alone["sequences"]
    assert packed["steps of an epoch"] == -(-packed["sequences"] // 4)


def test_shares_of_padding_are_what_batches_have():
    lengths = np.array([2, 4, 4, 8])
    tokens = Tokens(np.zeros(18, dtype=np.int32), lengths)
    shares = padding_shares(tokens.lengths, 8, batch_size=4)
    assert shares == {"padding to max_length": 1 - 18 / 32, "padding in batches": 1 - 18 / 32}  # one batch of all
    assert padding_shares(np.full(8, 8), 8, 2) == {"padding to max_length": 0, "padding in batches": 0}
