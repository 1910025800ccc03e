import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kagglekit.pretraining.sentence_pairs import PiecePairs, cut_documents, cut_places, pair_layout


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(2, 25), st.randoms())
@settings(max_examples=60, deadline=None)
def test_pieces_fit_and_come_in_pairs(lengths, room, random):
    ends, total = np.cumsum(lengths), sum(lengths)
    assume(total > 1)
    words = np.array(sorted(random.sample(range(total), total // 2)), dtype=int)
    cuts = cut_places(ends, words, room)
    sizes = np.diff(cuts)
    assert cuts[0] == 0 and cuts[-1] == ends[-1] and len(sizes) % 2 == 0
    assert sizes.min() >= 1 and sizes.max() <= room and len(sizes) <= 2 * -(-ends[-1] // (2 * room))


def test_a_document_is_cut_where_a_sentence_ends_then_where_a_word_begins():
    assert cut_places(np.array([2, 9, 10]), np.arange(10), 20) == [0, 2, 10]  # 2 is nearer to the middle than 9
    assert cut_places(np.array([10]), np.array([0, 3, 8]), 20) == [0, 3, 10]
    assert cut_places(np.array([10]), np.array([0]), 20) == [0, 5, 10]
    assert cut_places(np.array([4, 10]), np.arange(10), 5) == [0, 5, 10]  # from 4 on six would be left


def test_documents_keep_all_tokens_in_order(tokenizer):
    texts = ["good film. it was fun ! no ?", "bad", "a very sad old plot is the end"]
    documents = cut_documents(texts, tokenizer, 4)
    assert [tokenizer.decode(np.concatenate(pieces)) for pieces in documents] == [
        "good film . it was fun ! no ?",
        "a very sad old plot is the end",
    ]
    assert [tokenizer.decode(piece) for piece in documents[0]] == ["good film .", "it was fun !", "no", "?"]


@pytest.fixture
def documents():
    """Three documents of 2, 4 and 2 pieces; a token says whose it is: tens for the document, ones for the place."""
    return [[np.array([10 * d + k] * (k + 1), dtype=np.int32) for k in range(n)] for d, n in enumerate((2, 4, 2), 1)]


def read(batch):
    """Of each row the tokens, and the types of the real ones."""
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    types = batch.get("token_type_ids", torch.zeros_like(ids))
    return [(row[m].tolist(), t[m].tolist()) for row, m, t in zip(ids, mask, types, strict=True)]


def pairs_of(documents, tokenizer, wrong, epochs=20):
    examples = PiecePairs(documents, tokenizer, wrong, True, 0)
    for epoch in range(epochs):
        examples.epoch = epoch
        batch = examples.__getitems__(list(range(len(examples))))
        yield from zip(read(batch), batch["order"].tolist(), range(len(examples)), strict=True)


ROWS = [((10,), (11, 11)), ((20,), (21, 21)), ((22,) * 3, (23,) * 4), ((30,), (31, 31))]


def test_half_of_the_pairs_are_swapped_and_types_tell_the_pieces(documents, tokenizer):
    counts = np.zeros(2)
    for (ids, types), order, row in pairs_of(documents, tokenizer, "swapped"):
        first, second = ROWS[row][::-1] if order else ROWS[row]
        assert ids == [2, *first, 3, *second, 3]
        assert types == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        counts[order] += 1
    assert 25 < counts[1] < 55  # of 80


def test_a_wrong_next_piece_is_one_of_another_document(documents, tokenizer):
    others = {row: set() for row in range(4)}
    for (ids, types), order, row in pairs_of(documents, tokenizer, "other", epochs=60):
        first, second = ROWS[row]
        assert ids[: len(first) + 2] == [2, *first, 3] and types.count(1) == len(ids) - len(first) - 2
        if order:
            others[row].add(ids[-2])
        else:
            assert ids[len(first) + 2 :] == [*second, 3]
    assert others == {0: {21, 23, 31}, 1: {11, 31}, 2: {11, 31}, 3: {11, 21, 23}}


def test_a_row_is_the_same_whatever_it_stands_beside(documents, tokenizer):
    examples = PiecePairs(documents, tokenizer, "other", False, 5)
    batches = [read(examples.__getitems__(rows)) for rows in ([0, 1, 2, 3], [3, 1])]
    assert [batches[0][3], batches[0][1]] == batches[1]
    assert "token_type_ids" not in examples.__getitems__([0])


def test_too_few_documents_are_an_error(documents, tokenizer):
    with pytest.raises(ValueError, match="1 texts of two tokens or more are too few"):
        PiecePairs(documents[:1], tokenizer, "other", True, 0)
    with pytest.raises(ValueError, match="0 texts of two tokens or more are too few"):
        PiecePairs([], tokenizer, "swapped", True, 0)


def test_what_stands_between_two_texts_is_read_off_the_tokenizer(tokenizer):
    assert [part.tolist() for part in pair_layout(tokenizer)] == [[2], [3], [3]]
