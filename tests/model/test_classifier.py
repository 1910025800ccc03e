"""Classifiers: a battery over poolings, heads, architectures and chunks, then what is special to each option."""

import errno
import itertools
import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from kagglekit.data.chunks import Chunks
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.model.heads import HEADS, OUTPUT_LAYERS
from kagglekit.model.pooling import POOLINGS
from kagglekit.training.build_model import load_encoder

KINDS = ["binary", "multiclass", "multilabel", "regression", "ordinal"]
TARGETS = {"auxiliary": [["softmax", 4], ["identity", 1]], "learned_weights": True}
NUMBERS, VECTORS = torch.linspace(-1, 1, 16).reshape(8, 2), torch.linspace(-2, 2, 40).reshape(8, 5).sin()
FEATURES = {  # name -> options of the classifier, and what the batch of eight has for them
    "numbers": ({"features": {"numbers": 2}}, {"numbers": NUMBERS}),
    "categories": ({"features": {"categories": [4]}}, {"categories": torch.arange(8).unsqueeze(1) % 4}),
    "vectors": ({"features": {"vectors": 5}}, {"vectors": VECTORS}),
    "embedded vectors": ({"embedded_vectors": 5}, {"embedded": VECTORS}),
    "words": ({"word_vectors": [30, 6]}, {}),
    "embedded words": ({"embedded_words": [30, 6]}, {}),
}
FEATURES["all"] = (
    {"features": {"numbers": 2, "categories": [4], "vectors": 5}, "word_vectors": [30, 6]}
    | {"embedded_words": [30, 6], "embedded_vectors": 5},
    {name: values for _, given in FEATURES.values() for name, values in given.items()},
)
each_head = pytest.mark.parametrize("head", HEADS)
each_pooling = pytest.mark.parametrize("pooling", sorted(POOLINGS))
paired = pytest.mark.parametrize(("pooling", "head"), list(zip(sorted(POOLINGS), itertools.cycle(HEADS))))


def fill(model):
    """Give tables of words random vectors, and move what starts at zero."""
    torch.manual_seed(1)
    for words in (model.words, model.embedded_words):
        if words is not None:
            words.table.normal_()
    for module in (model.embedded_words, model.embedded_vectors):
        if module is not None:
            torch.nn.init.normal_(module.projection.weight)
    return model


# The battery


@each_head
@each_pooling
def test_every_pooling_goes_with_every_head_for_texts_and_chunks(classifier, batch, chunked, pooling, head):
    for inputs, options in ((batch, {}), (chunked, {"chunk_pooling": "attention"})):
        model = classifier(pooling=pooling, head=head, **options, **TARGETS).train()
        logits = model(inputs["attention_mask"], inputs["input_ids"])["logits"]
        assert logits.shape == (len(inputs["input_ids"]), 3 + 4 + 1)
        (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@paired
def test_saved_and_loaded_gives_the_same_output(
    classifier, batch, chunked, tmp_path, weights, same, logits, pooling, head
):
    for inputs, options in ((batch, {}), (chunked, {"chunk_pooling": "attention"})):
        model = classifier(pooling=pooling, head=head, dropout=0.1, **options)
        model.center.fill_(3.0)
        model.save(tmp_path / "model")
        loaded = Classifier.load(tmp_path / "model")
        assert same(weights(loaded), weights(model)) and {**loaded.options, "auxiliary": ()} == model.options
        assert torch.allclose(logits(loaded, inputs), logits(model, inputs), atol=1e-6)


def test_every_architecture_is_saved_and_loaded_and_has_all_gradients(
    classifier, backbones, batch, tmp_path, weights, same, logits, gradients, architecture
):
    model = classifier(folder=backbones[architecture], pooling="attention")
    assert {name for name, gradient in gradients(model, batch).items() if gradient is None} == set()
    model.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    assert same(weights(loaded), weights(model))
    assert torch.allclose(logits(loaded, batch), logits(model, batch), atol=1e-5)


@each_pooling
def test_padding_and_other_rows_change_no_logit(classifier, backbones, examples, logits, architecture, pooling):
    options = {"folder": backbones[architecture], "pooling": pooling}
    if POOLINGS[pooling].own_pooler and architecture not in ("bert", "roberta"):
        with pytest.raises(ValueError, match=rf"pooling='{pooling}': .*Model has no pooler .*use one of cls, mean"):
            classifier(**options)
        return
    model, rows = classifier(**options), examples(rows=8)
    lengths = rows.tokens.lengths
    together = logits(model, rows.__getitems__(list(range(8))))
    for row in (lengths.argmin(), np.argsort(lengths)[4]):
        assert torch.allclose(logits(model, rows.__getitems__([row])), together[[row]], atol=1e-5)


@paired
def test_how_many_chunks_are_encoded_at_once_and_other_texts_change_nothing(
    classifier, examples, chunked, logits, gradients, pooling, head
):
    options = {"pooling": pooling, "head": head, "chunk_pooling": "attention"}
    whole, slices = classifier(**options), classifier(chunk_tokens=15, **options)
    assert torch.allclose(logits(whole, chunked), logits(slices, chunked), atol=1e-6)
    ours, theirs = gradients(whole, chunked), gradients(slices, chunked)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)
    alone = Chunks(examples(rows=8).tokens[[3]], np.array([1])).pad(0)
    assert torch.allclose(logits(whole, chunked)[[1]], logits(whole, alone), atol=1e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_features_change_logits_have_gradients_and_are_saved_with_the_model(
    classifier, batch, tmp_path, weights, same, logits, gradients, name
):
    options, given = FEATURES[name]
    model, inputs = fill(classifier(head="queries", **options, **TARGETS)), {**batch, **given}
    assert [name for name, gradient in gradients(model, inputs).items() if gradient is None] == []
    model.save(tmp_path / "model")
    loaded, before = Classifier.load(tmp_path / "model"), logits(model, inputs)
    assert same(weights(loaded), weights(model)) and loaded.blocks == [("softmax", 3), ("softmax", 4), ("identity", 1)]
    assert torch.allclose(logits(loaded, inputs), before, atol=1e-6)
    for values in given:
        assert not torch.allclose(logits(model, {**inputs, values: inputs[values].flip(0)}), before, atol=1e-4)
    if not given:
        (model.words or model.embedded_words).table.neg_()
        assert not torch.allclose(logits(model, inputs), before, atol=1e-4)


@each_head
@pytest.mark.parametrize("in_chunks", [False, True])
def test_half_precision_gives_float32_logits_near_those_of_full_precision(
    classifier, batch, chunked, logits, gradients, head, in_chunks
):
    options, given = FEATURES["words" if in_chunks else "all"]
    model = fill(classifier(head=head, chunk_pooling="attention" if in_chunks else "", chunk_tokens=20, **options))
    inputs = chunked if in_chunks else {**batch, **given}
    full = logits(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = logits(model, inputs)
        assert all(gradient.isfinite().all() for gradient in gradients(model, inputs).values())
    assert half.dtype == torch.float32 and torch.allclose(half, full, atol=0.05)


# Folders


def test_a_saved_folder_holds_no_pickle_and_loads_in_transformers(classifier, tmp_path, tokenizer):
    classifier().save(tmp_path / "model", tokenizer)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "model.safetensors", "classifier.json", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").vocab_size == 30


def test_a_full_disk_leaves_the_model_that_was_there(classifier, tmp_path, monkeypatch, weights, same):
    model = classifier()
    model.save(tmp_path / "model")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kagglekit.model.classifier.save_file", full)
    with pytest.raises(OSError, match="the disk is full"):
        classifier(seed=1).save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert same(weights(Classifier.load(tmp_path / "model")), weights(model))


def test_an_encoder_is_loaded_from_a_classifier_and_nothing_else(
    classifier, backbones, tmp_path, weights, same, drawn, architecture
):
    model = drawn(classifier(folder=backbones[architecture], embedded_words=[30, 6], **TARGETS))
    model.save(tmp_path / "model")
    backbone = load_backbone(backbones[architecture])
    load_encoder(backbone, tmp_path / "model")
    assert same(weights(backbone), weights(model.backbone))


@pytest.mark.parametrize(("theirs", "ours"), [("pooler", "pooler"), ("pooler", "mean"), ("mean", "pooler")])
def test_a_pooler_is_loaded_where_both_have_one(classifier, backbone, tmp_path, drawn, theirs, ours):
    model = drawn(classifier(pooling=theirs))
    model.save(tmp_path / "model")
    bare = load_backbone(backbone, pooler=ours == "pooler")
    before = {name: tensor.clone() for name, tensor in bare.state_dict().items() if name.startswith("pooler.")}
    load_encoder(bare, tmp_path / "model")
    expected = model.pooling.state_dict() if theirs == ours else before
    found = {name: tensor for name, tensor in bare.state_dict().items() if name.startswith("pooler.")}
    assert found.keys() == before.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert torch.equal(bare.get_input_embeddings().weight, model.get_input_embeddings().weight)


# Logits and predictions


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_kind_and_of_the_task_alone(classifier, kind):
    model = classifier(kind, 3, **TARGETS)
    model.center.copy_(torch.tensor([10.0, 20.0, 30.0]))
    model.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    raw = torch.tensor([[0.0, 1.0, -2.0]])
    expected = {"multilabel": raw.sigmoid(), "regression": torch.tensor([[10.0, 22.0, 24.0]])}
    expected |= {"ordinal": expected["regression"], "binary": raw.softmax(-1), "multiclass": raw.softmax(-1)}
    predictions = model.predictions(raw.to(torch.bfloat16))
    assert torch.allclose(predictions, expected[kind]) and predictions.dtype == torch.float32
    assert torch.equal(model.predictions(torch.cat([raw, torch.randn(1, 5)], dim=1)), model.predictions(raw))


def test_the_head_of_a_new_model_is_nearly_undecided_and_its_dropout_acts_in_training_only(classifier, batch, logits):
    model = classifier(head_dropout=0.5)
    probs = model.predictions(logits(model, batch))
    assert torch.allclose(probs, torch.full_like(probs, 1 / 3), atol=0.1)
    assert torch.equal(logits(model, batch), logits(model, batch))
    model.train()
    outputs = [model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"] for _ in range(2)]
    assert not torch.equal(*outputs)


def test_one_draw_of_dropout_is_plain_dropout_and_several_are_averaged(classifier, batch, logits):
    plain = classifier()
    for draws in (1, 3):
        model = classifier(head_dropout=0.5, dropout_samples=draws).train()
        torch.manual_seed(5)
        outputs = model(batch["attention_mask"], input_ids=batch["input_ids"])
        torch.manual_seed(5)
        reference = sum(F.linear(model.dropout(outputs["pooled"]), model.head.weight) for _ in range(draws)) / draws
        assert torch.allclose(outputs["logits"], reference, atol=1e-6)
        assert torch.equal(logits(model, batch), logits(plain, batch))


def test_embeddings_can_be_given_in_place_of_ids(classifier, batch, logits):
    model = classifier().eval()
    embedded = model.get_input_embeddings()(batch["input_ids"])
    given = model(batch["attention_mask"], inputs_embeds=embedded)["logits"]
    assert torch.allclose(given, logits(model, batch), atol=1e-6)


@pytest.mark.parametrize("link", OUTPUT_LAYERS)
def test_a_head_has_a_target_for_each_label_or_value_and_one_for_classes_or_levels(backbone, link):
    sizes = [1, 1, 1] if link in ("sigmoid", "identity", "unit") else [3]
    model = Classifier(load_backbone(backbone), link, 3, head="flat", **TARGETS)
    assert model.head.sizes == [*sizes, 4, 1] and len(model.log_variances) == len(model.head.sizes)


@pytest.mark.parametrize("wrong", [{"head": "sum"}, {"pooling": "sum"}])
def test_an_unknown_head_or_pooling_is_an_error_with_those_there_are(backbone, wrong):
    with pytest.raises(ValueError, match=r"='sum' must be one of (linear, separate|cls, mean, max, attention)"):
        Classifier(load_backbone(backbone), "softmax", 3, **wrong)


# Chunks and features


@pytest.mark.parametrize(("chunk_pooling", "reduce"), [("mean", torch.mean), ("max", torch.amax)])
def test_vectors_of_chunks_become_one_vector(classifier, chunked, chunk_pooling, reduce):
    model, plain = classifier(chunk_pooling=chunk_pooling).eval(), classifier().eval()
    pooled = model(**chunked)["pooled"]
    for row, count in enumerate(chunked["attention_mask"].any(dim=2).sum(dim=1).tolist()):
        vectors = plain(**{name: values[row, :count] for name, values in chunked.items()})["pooled"]
        assert torch.allclose(pooled[row], reduce(vectors, dim=0), atol=1e-6)


def test_one_chunk_is_the_text_itself(classifier, batch, logits):
    one = {name: batch[name].unsqueeze(1) for name in ("input_ids", "attention_mask")}
    assert torch.allclose(logits(classifier(chunk_pooling="mean"), one), logits(classifier(), batch), atol=1e-6)


def test_word_vectors_of_chunks_are_those_of_the_whole_text(classifier, chunked):
    model = fill(classifier(word_vectors=[30, 6], chunk_pooling="mean"))
    mean = model.words.mean(*(chunked[name].flatten(1) for name in ("input_ids", "attention_mask")))
    outputs = model.eval()(**chunked)
    head = model.head(torch.cat([outputs["pooled"], mean], 1), None, None, lambda x: x)
    assert torch.allclose(outputs["logits"], head)


@pytest.mark.parametrize("name", ["embedded vectors", "embedded words"])
def test_what_is_added_to_embeddings_changes_nothing_until_it_is_trained(
    classifier, backbones, batch, logits, gradients, name, architecture
):
    options, given = FEATURES[name]
    model, plain = (classifier(folder=backbones[architecture], **o) for o in (options, {}))
    if model.embedded_words is not None:
        model.embedded_words.table.normal_()
    inputs = {**batch, **given}
    assert torch.equal(logits(model, inputs), logits(plain, batch))
    (gradient,) = (x for key, x in gradients(model, inputs).items() if key.endswith("projection.weight"))
    assert gradient.abs().sum() > 0
    (model.embedded_words or model.embedded_vectors).projection.weight.data.sub_(gradient.sign(), alpha=0.1)
    assert not torch.allclose(logits(model, inputs), logits(plain, batch), atol=1e-3)


def test_a_vector_of_a_document_is_added_to_each_of_its_words(classifier, batch, logits):
    model = fill(classifier(embedded_vectors=5))
    vectors = torch.randn(8, 5)
    added = vectors @ model.embedded_vectors.projection.weight.T
    embedded = model.get_input_embeddings()(batch["input_ids"]) + added.unsqueeze(1)
    reference = classifier()(batch["attention_mask"], inputs_embeds=embedded)["logits"]
    assert torch.allclose(logits(model, {**batch, "embedded": vectors}), reference, atol=1e-5)
    assert len(model.get_input_embeddings()._forward_hooks) == 0  # none is left


@pytest.mark.parametrize(
    ("options", "inputs", "words"),
    [
        ({"features": {"numbers": 2}}, {}, "the model reads the feature 'numbers', and the batch has none"),
        ({"embedded_vectors": 5}, {}, "adds a vector to the word embeddings .* and the batch has none"),
        ({}, {"numbers": NUMBERS}, "the batch has the features numbers, and the model reads text alone"),
        ({"word_vectors": [30, 6]}, {"input_ids": None}, "needs input_ids, not inputs_embeds alone"),
    ],
)
def test_a_batch_that_the_model_was_not_built_for_is_an_error(classifier, batch, logits, options, inputs, words):
    with pytest.raises(ValueError, match=words):
        logits(classifier(**options), {**batch, **inputs})


@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_in_float32_where_the_backbone_is_in_float16(classifier, batch, head):
    model = classifier(head=head).eval()
    with torch.no_grad():
        list(model.head.parameters())[-2].mul_(1e7)  # weights of the last layer: logits are beyond 65,504
        with torch.autocast("cpu", torch.float16):
            found = model(batch["attention_mask"], batch["input_ids"])
        wanted = model(batch["attention_mask"], batch["input_ids"])
    assert found["logits"].abs().max() > 65504
    torch.testing.assert_close(
        found["logits"], wanted["logits"], rtol=0.1, atol=0.01 * wanted["logits"].abs().max().item()
    )
