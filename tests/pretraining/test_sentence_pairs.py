import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM

from kagglekit.model.backbones import load_backbone
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.pretraining.sentence_pairs import (
    PairLoss,
    PiecePairs,
    measure_pairs,
    split_documents,
    split_points,
)

TEXTS = [f"{a} film. it was {b}!" for a in ("good", "bad", "old") for b in ("fun", "sad", "fine", "poor")]


@pytest.fixture
def make(prepare):
    """make(objective, model type, texts, **options): an objective of a tiny model."""

    def prepared(name="mlm_sop", kind="bert", texts=TEXTS, max_length=20, path=None, **options):
        return prepare(name, kind, options, texts, TEXTS[:4], max_length=max_length, path=path)

    return prepared


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_tokens_and_pairs_are_read_from_the_states_of_one_pass(kind, backbones, make):
    prepared = make(kind=kind)
    batch = prepared.examples.__getitems__([0, 1, 2])
    chosen, types = batch["input_ids"] > 9, {k: batch[k] for k in ("token_type_ids",) if k in batch}
    assert bool(types) == (kind in ("bert", "electra", "roberta"))  # of the tiny ones
    model, full = prepared.model.eval(), AutoModelForMaskedLM.from_pretrained(backbones[kind]).eval()
    text = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        ours = model(**text, chosen=chosen, **types)
        assert torch.allclose(ours["logits"], full(**text, **types).logits[chosen], atol=1e-4)
        first = full.base_model(**text, **types)[0][:, 0]
        pooled = model.pooler(first[:, None]) if kind in ("bert", "roberta") else model.pooler(first).tanh()
        assert torch.allclose(ours["pair"], model.head(pooled), atol=1e-4)
        assert torch.allclose(model.backbone(**text)[0], full.base_model(**text)[0], atol=1e-4)  # by itself, as it was


def test_types_change_what_is_computed(make):
    model = make().model.eval()
    ids = torch.tensor([[2, 7, 3, 8, 9, 3]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "chosen": ids > 3}
    with torch.no_grad():
        zeros = model(**inputs, token_type_ids=torch.zeros_like(ids))["logits"]
        assert torch.equal(zeros, model(**inputs)["logits"])
        assert not torch.allclose(zeros, model(**inputs, token_type_ids=torch.tensor([[0, 0, 0, 1, 1, 1]]))["logits"])


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_pair_loss_is_added_with_its_weight_and_zero_is_the_loss_of_the_tokens(weight):
    trick, pair, order = PairLoss(weight), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    given = {"order": order, "labels": torch.tensor([1])}

    def compute(inputs):
        assert set(inputs) == {"labels"}
        return torch.tensor(2.0), {"pair": pair}

    loss, _ = trick.compute_loss(compute, None, given)
    assert torch.allclose(loss, 2 + weight * F.cross_entropy(pair, order)) and "order" in given
    assert trick.receipt(None) == {"steps": 1, "mean pair loss": pytest.approx(float(F.cross_entropy(pair, order)))}


def test_an_undecided_model_is_right_by_half_and_as_perplexed_as_its_vocabulary(make, tokenizer):
    prepared = make("mlm_nsp")
    for parameter in prepared.model.parameters():
        parameter.data.zero_()
    masking = DynamicMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids)
    examples = prepared.examples
    figures = measure_pairs(prepared.model, examples, masking, "fp32")
    order = examples.__getitems__(list(range(len(examples))))["order"]
    assert figures["perplexity"] == pytest.approx(30, rel=1e-4)
    assert figures["pair_accuracy"] == pytest.approx(float((order == 0).float().mean()))
    masking.probability = 0
    assert math.isnan(measure_pairs(prepared.model, examples, masking, "fp32")["perplexity"])


def test_the_pooler_is_trained_and_saved_and_the_next_stage_begins_with_it(make, tokenizer, tmp_path):
    prepared = make()
    pooler = prepared.model.pooler
    with torch.no_grad():
        pooler.dense.weight.add_(1)
    prepared.save(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert torch.equal(load_backbone(str(tmp_path), pooler=True).pooler.dense.weight, pooler.dense.weight)
    second = make("mlm_nsp", path=str(tmp_path))
    assert torch.equal(second.model.pooler.dense.weight, pooler.dense.weight)


def test_a_backbone_without_a_pooler_is_saved_without_one(make, tmp_path):
    prepared = make(kind="distilbert")
    assert isinstance(prepared.model.pooler, torch.nn.Linear)
    prepared.save(tmp_path)
    assert not hasattr(AutoModel.from_pretrained(tmp_path), "pooler")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 6}, "max_length=6 is out of range: it must be 7 or more"),
        ({"weight": -1}, "weight=-1 is out of range"),
        ({"texts": ["bad", "good"]}, "0 texts of two tokens or more are too few"),
    ],
)
def test_what_cannot_be_learned_from_is_an_error(make, options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(2, 25), st.randoms())
@settings(max_examples=60, deadline=None)
def test_pieces_fit_and_come_in_pairs(lengths, room, random):
    ends, total = np.cumsum(lengths), sum(lengths)
    assume(total > 1)
    words = np.array(sorted(random.sample(range(total), total // 2)), dtype=int)
    points = split_points(ends, words, room)
    sizes = np.diff(points)
    assert points[0] == 0 and points[-1] == ends[-1] and len(sizes) % 2 == 0
    assert sizes.min() >= 1 and sizes.max() <= room and len(sizes) <= 2 * -(-ends[-1] // (2 * room))


def test_a_document_is_cut_where_a_sentence_ends_then_where_a_word_begins():
    assert split_points(np.array([2, 9, 10]), np.arange(10), 20) == [0, 2, 10]  # 2 is nearer to the middle than 9
    assert split_points(np.array([10]), np.array([0, 3, 8]), 20) == [0, 3, 10]
    assert split_points(np.array([10]), np.array([0]), 20) == [0, 5, 10]
    assert split_points(np.array([4, 10]), np.arange(10), 5) == [0, 5, 10]  # from 4 on six would be left


def test_documents_keep_all_tokens_in_order(tokenizer):
    texts = ["good film. it was fun ! no ?", "bad", "a very sad old plot is the end"]
    documents = split_documents(texts, tokenizer, 4)
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
