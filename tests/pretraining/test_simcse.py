import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone
from kagglekit.pretraining.simcse import (
    ClassPairs,
    LabelledTexts,
    SimCSE,
    alignment,
    halve,
    info_nce,
    measure_vectors,
    read_pairs,
    recall_at_1,
    same_class,
    uniformity,
)

TEXTS = ["good film", "a bad plot", "very sad", "it was fun", "the end .", "old plot ?"]


@pytest.fixture
def views():
    return torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_info_nce_is_the_cross_entropy_of_finding_the_partner(views):
    a, b, _ = F.normalize(views, dim=-1).unbind(dim=1)
    expected = -torch.stack([(a[i] @ b[i] / 0.05 - (a[i] @ b.T / 0.05).logsumexp(0)) for i in range(5)]).mean()
    assert torch.allclose(info_nce(views[:, :2], torch.arange(5), 0.05), expected, atol=1e-5)


def test_hard_negatives_of_all_texts_join_the_choice(views):
    a, b, c = F.normalize(views, dim=-1).unbind(dim=1)
    scores = torch.cat([a @ b.T, a @ c.T], dim=1) / 0.1
    expected = (scores.logsumexp(dim=1) - (a * b).sum(dim=1) / 0.1).mean()
    assert torch.allclose(info_nce(views, torch.arange(5), 0.1), expected, atol=1e-5)
    assert info_nce(views, torch.arange(5), 0.1) > info_nce(views[:, :2], torch.arange(5), 0.1)


def test_partners_of_texts_with_the_same_label_are_no_wrong_choice(views):
    labels = torch.tensor([0, 0, 1, 1, 2])
    two = torch.stack([info_nce(views[[i, 2, 4], :2], torch.arange(3), 0.5) for i in (0, 1)])
    mine = info_nce(views[[0, 1, 2, 4], :2], torch.tensor([0, 0, 1, 2]), 0.5)
    assert mine < info_nce(views[[0, 1, 2, 4], :2], torch.arange(4), 0.5) and two.isfinite().all()
    assert info_nce(views[:, :2], torch.zeros(5, dtype=torch.long), 0.5) == 0  # nothing to tell apart
    loss = info_nce(views[:, :2], labels, 0.05)
    loss.backward()
    assert views.grad.isfinite().all() and info_nce(views[:1, :2], labels[:1], 0.05) == 0


def test_a_text_is_read_twice_and_dropout_alone_tells_the_readings_apart(backbone, batch):
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        views = SimCSE(load_backbone(backbone, 0.1)).train()(**text)["logits"]
        still = SimCSE(load_backbone(backbone, 0.0)).train()(**text)["logits"]
    assert views.shape == (8, 2, 16) and not torch.allclose(views[:, 0], views[:, 1], atol=1e-3)
    assert torch.equal(still[:, 0], still[:, 1])
    assert F.cosine_similarity(views[:, 0], views[:, 1]).mean() > 0.8


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_views_of_a_row_are_encoded_as_texts_of_their_own(backbone, batch, pooling):
    ids, mask = batch["input_ids"], batch["attention_mask"]
    model = SimCSE(load_backbone(backbone, 0.0), pooling)
    with torch.no_grad():
        views = model(ids.unflatten(0, (4, 2)), mask.unflatten(0, (4, 2)))["logits"]
        states = load_backbone(backbone, 0.0)(input_ids=ids, attention_mask=mask).last_hidden_state
    means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    assert torch.allclose(views.flatten(0, 1), means if pooling == "mean" else states[:, 0], atol=1e-5)


def test_alignment_and_uniformity_are_those_of_the_paper():
    x, y = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    a, b = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    assert alignment(x, y) == pytest.approx(float(((a - b).norm(dim=1) ** 2).mean()), rel=1e-5)
    pairs = [float((a[i] - a[j]).norm() ** 2) for i in range(6) for j in range(i)]
    assert uniformity(x) == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-5)
    assert alignment(x, 3 * x) < 1e-12 and uniformity(torch.ones(5, 4)) == 0
    assert alignment(x, -x) == pytest.approx(4)


def test_retrieval_counts_what_is_found_and_never_a_text_itself():
    x = torch.eye(4)
    assert recall_at_1(x, x) == 1 and recall_at_1(x, x[[1, 0, 2, 3]]) == 0.5
    near = torch.tensor([[1, 0.0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    assert same_class(near, torch.tensor([0, 0, 1, 1]), 4) == 1
    assert same_class(near, torch.tensor([0, 1, 1, 1]), 2) == 0  # its own class is not its neighbour


def test_halves_are_texts_of_their_own(tokenizer):
    tokens = tokenize(["the good film", "bad", "a sad plot !"], tokenizer, 20)
    begins, ends = ([tokenizer.decode(text) for text in part] for part in halve(tokens, tokenizer))
    assert begins == ["[CLS] the good [SEP]", "[CLS] a sad [SEP]"]
    assert ends == ["[CLS] film [SEP]", "[CLS] plot ! [SEP]"]
    assert halve(tokenize(["bad"], tokenizer, 20), tokenizer) is None


def test_words_that_are_counted_find_their_other_half(tokenizer):
    """Vectors that know the words: each half is found where the halves share words, and NaN is said where none is."""

    def embed(tokens):
        counts = [torch.bincount(torch.from_numpy(text).long(), minlength=30)[5:] for text in tokens]
        return torch.stack(counts).float()

    whole = tokenize(["good film good film", "sad plot sad plot", "old end old end"], tokenizer, 20)
    figures = measure_vectors(embed, whole, halve(whole, tokenizer))
    assert figures["recall_at_1"] == 1 and figures["alignment"] < 1e-6 and figures["uniformity"] < -1
    nothing = measure_vectors(embed, tokenize(["bad"], tokenizer, 20), None)
    assert all(map(math.isnan, nothing.values()))


@pytest.fixture
def make(prepare):
    """make(objective, options): an objective of a tiny BERT, on `texts`; options: of the objective."""

    def prepared(name="simcse", options=None, labels=None, texts=TEXTS, **knobs):
        return prepare(name, "bert", options, texts, TEXTS[:3], labels, held_out_share=0.3, **knobs)

    return prepared


def dropouts(prepared):
    return {module.p for module in prepared.model.modules() if isinstance(module, torch.nn.Dropout)}


def test_dropout_is_a_tenth_where_the_stage_has_none(make):
    assert dropouts(make()) == {0.1}
    assert dropouts(make("simcse", dropout=0.2)) == {0.2}
    assert dropouts(make("simcse", {"dropout": 0.3})) == {0.3}
    with pytest.raises(ValueError, match="simcse learns from dropout, and the backbone has none: set dropout="):
        make("simcse", {"dropout": 0})


def test_texts_that_are_equal_when_cut_count_once(make):
    texts = ["good film " * 20 + "a", "good film " * 20 + "b", "bad"]
    assert len(make("simcse", texts=texts).examples) == 2


@pytest.mark.parametrize("options", [{"temperature": 0}, {"pooling": "max"}, {"dropout": 1}])
def test_options_out_of_range_are_errors(make, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* is out of range"):
        make("simcse", options)


@pytest.mark.parametrize("name", ["simcse", "simcse_supervised"])
def test_the_first_token_of_a_decoder_is_no_vector_of_a_text(prepare, tiny_decoder, name):
    with pytest.raises(ValueError, match=r"pooling='cls' reads the first token, and in a decoder .* use last_token"):
        prepare(name, options={"pooling": "cls"}, path=tiny_decoder("llama"))


def test_a_text_that_is_alone_in_its_batch_has_nothing_to_be_told_from(make):
    with pytest.raises(ValueError, match="batch_size=1 is out of range: it must be 2 or more"):
        make("simcse", batch_size=1)


def test_partners_are_of_the_same_class_and_other_ones_in_every_epoch(tokenizer):
    tokens, classes = tokenize(TEXTS * 2, tokenizer, 20), np.array([4, 1, 4, 1, 9, 4] * 2)
    classes[-2] = 7  # 9 and 7 have a single text: left out
    pairs = ClassPairs(tokens, 0, classes, seed=3)
    assert len(pairs) == 10
    seen = {row: set() for row in range(10)}
    for epoch in range(30):
        pairs.epoch = epoch
        for row in range(10):
            seen[row].add(pairs.partner(row))
    labels = pairs.arrays["labels"]
    for row, partners in seen.items():
        assert partners == set(np.flatnonzero(labels == labels[row])) - {row}
    pairs.epoch = 0
    batch = pairs.__getitems__([2, 5])
    assert batch["input_ids"].shape[:2] == (2, 2) and batch["labels"].tolist() == labels[[2, 5]].tolist()
    again = pairs.__getitems__([5, 2])
    assert torch.equal(batch["input_ids"], again["input_ids"][[1, 0]])  # whatever it stands beside
    with pytest.raises(ValueError, match="no two texts have the same label"):
        ClassPairs(tokens[[0, 1]], 0, np.array([0, 1]), 0)


def test_labels_of_several_columns_are_one_class_where_they_are_equal():
    assert LabelledTexts(["a", "b", "c"], np.array([[0, 1.0], [1, 1], [0, 1]])).classes().tolist() == [0, 1, 0]
    assert LabelledTexts(pairs=[("x", "y"), ("a", "y"), ("x", "z")]).classes().tolist() == [1, 0, 1]


def test_pairs_come_from_a_file_and_what_is_wrong_is_named(tmp_path, make):
    file = tmp_path / "pairs.csv"
    file.write_text(
        "id,anchor,positive,negative\n1,good film,fun film,bad film\n2,old plot,a plot,no end\n3,sad,bad,fun\n"
    )
    assert read_pairs(file).pairs[0] == ("good film", "fun film", "bad film")
    prepared = make("simcse_supervised", labels=read_pairs(file))
    assert len(prepared.examples) == 2 and prepared.examples.__getitems__([0, 1])["input_ids"].shape[:2] == (2, 3)
    assert set(prepared.measure()) == {"alignment", "uniformity", "recall_at_1", "pairs_at_1"}
    file.write_text("anchor,text\na,b\n")
    with pytest.raises(ValueError, match=r"pairs.csv has no column 'positive': it has anchor, text"):
        read_pairs(file)
    file.write_text("anchor,positive\na,b\nc, \n")
    with pytest.raises(ValueError, match=r"pairs.csv: column 'positive' is empty in row 2"):
        read_pairs(file)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of the two"),
        ({"texts": ["a"], "pairs": [("a", "b")]}, "give one of the two"),
        ({"texts": ["a", "b"], "labels": np.zeros(1)}, "2 texts need as many labels"),
        ({"pairs": [("a", "b"), ("a", "b", "c")]}, r"all be \(text, partner\)"),
    ],
)
def test_labels_that_do_not_fit_are_errors(given, said):
    with pytest.raises(ValueError, match=said):
        LabelledTexts(**given)


def test_texts_that_are_measured_are_not_learned_from(make, tokenizer):
    labels = LabelledTexts(TEXTS * 2, np.array([0, 1] * 6))
    prepared = make("simcse_supervised", labels=labels)
    learned = {tokenizer.decode(text, skip_special_tokens=True) for text in prepared.examples.tokens}
    assert len(prepared.examples) == 6 and learned == set(TEXTS[3:])  # the first three are held out
    assert 0 <= prepared.measure()["same_class"] <= 1
    elsewhere = LabelledTexts([f"{text} !" for text in labels.texts], labels.labels)
    assert len(make("simcse_supervised", labels=elsewhere).examples) == 12 - round(0.3 * 12)


def test_pairs_of_one_text_alone_are_an_error(make):
    with pytest.raises(ValueError, match="all pairs have the same first text"):
        make("simcse_supervised", labels=LabelledTexts(pairs=[("bad", "sad"), ("bad", "poor")]))
