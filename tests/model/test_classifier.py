import errno
import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from kagglekit.data.tokens import Chunks
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier, load_encoder
from kagglekit.model.heads import HEADS, OUTPUT_LAYERS
from kagglekit.model.pooling import POOLINGS

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]
KINDS = ["binary", "multiclass", "multilabel", "regression", "ordinal"]


def logits(model, batch):
    with torch.no_grad():
        return model.eval()(batch["attention_mask"], input_ids=batch["input_ids"])["logits"]


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_saved_and_loaded_gives_the_same_output(classifier, batch, tmp_path, weights, same, pooling):
    model = classifier(pooling=pooling, dropout=0.1)
    model.center.fill_(3.0)
    model.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    assert same(weights(loaded), weights(model)) and {**loaded.options, "auxiliary": ()} == model.options
    assert torch.allclose(logits(loaded, batch), logits(model, batch), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_is_saved_and_loaded(classifier, backbones, batch, tmp_path, weights, same, name):
    model = classifier(folder=backbones[name])
    model.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    assert same(weights(loaded), weights(model))
    assert torch.allclose(logits(loaded, batch), logits(model, batch), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_padding_changes_no_logit(classifier, backbones, examples, name, pooling):
    if POOLINGS[pooling].own_pooler and name not in ("bert", "roberta"):
        pytest.skip("no pooler of its own")
    model, rows = classifier(folder=backbones[name], pooling=pooling), examples(rows=8)
    together = logits(model, rows.__getitems__(list(range(8))))
    alone = torch.cat([logits(model, rows.__getitems__([row])) for row in range(8)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(classifier, backbones, batch, name):
    model = classifier(folder=backbones[name], pooling="attention")
    model.head.weight.data.normal_()
    model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"].square().sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == set()


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


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_what_the_kind_calls_for(classifier, kind):
    model = classifier(kind, 3)
    model.center.copy_(torch.tensor([10.0, 20.0, 30.0]))
    model.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    raw = torch.tensor([[0.0, 1.0, -2.0]])
    expected = {"multilabel": raw.sigmoid(), "regression": torch.tensor([[10.0, 22.0, 24.0]])}
    expected |= {"ordinal": expected["regression"], "binary": raw.softmax(-1), "multiclass": raw.softmax(-1)}
    predictions = model.predictions(raw.to(torch.bfloat16))
    assert torch.allclose(predictions, expected[kind]) and predictions.dtype == torch.float32


def test_head_dropout_acts_in_training_only(classifier, batch):
    model = classifier(head_dropout=0.5)
    assert torch.equal(logits(model, batch), logits(model, batch))
    model.train()
    outputs = [model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"] for _ in range(2)]
    assert not torch.equal(*outputs)


def test_embeddings_can_be_given_in_place_of_ids(classifier, batch):
    model = classifier().eval()
    embedded = model.get_input_embeddings()(batch["input_ids"])
    given = model(batch["attention_mask"], inputs_embeds=embedded)["logits"]
    assert torch.allclose(given, logits(model, batch), atol=1e-6)


def test_the_head_of_a_new_model_is_nearly_undecided(classifier, batch):
    probs = classifier().predictions(logits(classifier(), batch))
    assert torch.allclose(probs, torch.full_like(probs, 1 / 3), atol=0.1)


@pytest.mark.parametrize("wrong", [{"head": "sum"}, {"pooling": "sum"}])
def test_an_unknown_head_or_pooling_is_an_error_with_those_there_are(backbone, wrong):
    with pytest.raises(ValueError, match=r"='sum' must be one of (linear, separate|cls, mean, max, attention)"):
        Classifier(load_backbone(backbone), "softmax", 3, **wrong)


# Heads, chunks, what stands beside the text, targets beside


def run(model, inputs):
    """Logits without dropout."""
    with torch.no_grad():
        return model.eval()(**inputs)["logits"]


@pytest.fixture
def chunked(examples):
    """Four texts of 3, 1, 2 and 2 chunks as a batch."""
    pieces, counts = examples(rows=8).tokens, np.array([3, 1, 2, 2])
    return Chunks(pieces, counts).pad(0)


NUMBERS, VECTORS = torch.linspace(-1, 1, 16).reshape(8, 2), torch.linspace(-2, 2, 40).reshape(8, 5).sin()
BESIDE = {  # name -> options of the classifier, and what the batch of eight has beside the text
    "numbers": ({"features": {"numbers": 2}}, {"numbers": NUMBERS}),
    "categories": ({"features": {"categories": [4]}}, {"categories": torch.arange(8).unsqueeze(1) % 4}),
    "vectors": ({"features": {"vectors": 5}}, {"vectors": VECTORS}),
    "embedded vectors": ({"embedded_vectors": 5}, {"embedded": VECTORS}),
    "words": ({"word_vectors": [30, 6]}, {}),
    "embedded words": ({"embedded_words": [30, 6]}, {}),
}
BESIDE["all"] = (
    {"features": {"numbers": 2, "categories": [4], "vectors": 5}, "word_vectors": [30, 6]}
    | {"embedded_words": [30, 6], "embedded_vectors": 5},
    {name: values for _, beside in BESIDE.values() for name, values in beside.items()},
)
TARGETS = {"auxiliary": [["softmax", 4], ["identity", 1]], "learned_weights": True}


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


def gradients(model, inputs):
    """Gradients of all parameters, those of the learned weights left out."""
    model.zero_grad()
    logits = model.train()(**inputs)["logits"]
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if name != "log_variances"}
    return {name: None if gradient is None else gradient.clone() for name, gradient in found.items()}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_every_pooling_goes_with_every_head_and_all_parameters_have_gradients(classifier, batch, pooling, head):
    model = classifier(pooling=pooling, head=head, **TARGETS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert run(model, inputs).shape == (8, 3 + 4 + 1)
    assert [name for name, gradient in gradients(model, inputs).items() if gradient is None] == []


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_so_do_they_for_chunks(classifier, chunked, pooling, head):
    model = classifier(pooling=pooling, head=head, chunk_pooling="attention", chunk_tokens=20, **TARGETS)
    assert run(model, chunked).shape == (4, 3 + 4 + 1)
    assert [name for name, gradient in gradients(model, chunked).items() if gradient is None] == []


@pytest.mark.parametrize(("chunk_pooling", "reduce"), [("mean", torch.mean), ("max", torch.amax)])
def test_vectors_of_chunks_become_one_vector(classifier, chunked, chunk_pooling, reduce):
    model = classifier(chunk_pooling=chunk_pooling).eval()
    for row, count in enumerate(chunked["attention_mask"].any(dim=2).sum(dim=1).tolist()):
        chunks = [{k: v[row, [n]] for k, v in chunked.items()} for n in range(count)]
        vectors = torch.cat([classifier().eval()(**chunk)["pooled"] for chunk in chunks])
        assert torch.allclose(model(**chunked)["pooled"][row], reduce(vectors, dim=0), atol=1e-6)


@pytest.mark.parametrize("link", OUTPUT_LAYERS)
def test_a_head_has_a_target_for_each_label_or_value_and_one_for_classes_or_levels(backbone, link):
    sizes = [1, 1, 1] if link in ("sigmoid", "identity", "unit") else [3]
    model = Classifier(load_backbone(backbone), link, 3, head="flat", **TARGETS)
    assert model.head.sizes == [*sizes, 4, 1] and len(model.log_variances) == len(model.head.sizes)


def test_one_chunk_is_the_text_itself(classifier, batch):
    plain, chunked = classifier(), classifier(chunk_pooling="mean")
    one = {name: batch[name].unsqueeze(1) for name in ("input_ids", "attention_mask")}
    assert torch.allclose(run(chunked, one), logits(plain, batch), atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_how_many_chunks_are_encoded_at_once_changes_no_logit_and_no_gradient(classifier, chunked, head):
    options = {"head": head, "chunk_pooling": "attention"}
    whole, slices = classifier(**options), classifier(chunk_tokens=15, **options)
    assert torch.allclose(run(whole, chunked), run(slices, chunked), atol=1e-6)
    ours, theirs = gradients(whole, chunked), gradients(slices, chunked)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


@pytest.mark.parametrize("head", HEADS)
def test_chunks_of_other_texts_in_the_batch_change_no_logit(classifier, examples, chunked, head):
    model = classifier(head=head, chunk_pooling="attention")
    pieces = examples(rows=8).tokens
    alone = Chunks(pieces[[3]], np.array([1])).pad(0)
    assert torch.allclose(run(model, chunked)[[1]], run(model, alone), atol=1e-5)


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_text_is_saved_with_the_model(classifier, batch, tmp_path, weights, same, name):
    options, beside = BESIDE[name]
    model = fill(classifier(head="queries", **options, **TARGETS))
    model.save(tmp_path / "model")
    loaded, inputs = Classifier.load(tmp_path / "model"), {**batch, **beside}
    inputs.pop("labels")
    assert same(weights(loaded), weights(model)) and loaded.blocks == [("softmax", 3), ("softmax", 4), ("identity", 1)]
    assert torch.allclose(run(loaded, inputs), run(model, inputs), atol=1e-6)


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_text_changes_logits_and_has_gradients(classifier, batch, name):
    options, beside = BESIDE[name]
    model, inputs = fill(classifier(**options)), {**batch, **beside}
    inputs.pop("labels")
    assert [name for name, gradient in gradients(model, inputs).items() if gradient is None] == []
    before = run(model, inputs)
    for values in beside or [None]:
        changed = dict(inputs)
        if values:
            changed[values] = inputs[values].flip(0)
        for words in (model.words, model.embedded_words):
            if words is not None and not values:
                words.table.neg_()
        assert not torch.allclose(run(model, changed), before, atol=1e-4)


@pytest.mark.parametrize("name", ["embedded vectors", "embedded words"])
@pytest.mark.parametrize("architecture", NAMES)
def test_what_is_added_to_embeddings_changes_nothing_until_it_is_trained(
    classifier, backbones, batch, name, architecture
):
    options, beside = BESIDE[name]
    model, plain = (classifier(folder=backbones[architecture], **o) for o in (options, {}))
    if model.embedded_words is not None:
        model.embedded_words.table.normal_()
    inputs = {**batch, **beside}
    inputs.pop("labels")
    assert torch.equal(run(model, inputs), logits(plain, batch))


def test_a_vector_of_a_document_is_added_to_each_of_its_words(classifier, batch):
    model = fill(classifier(embedded_vectors=5))
    vectors = torch.randn(8, 5)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    added = vectors @ model.embedded_vectors.projection.weight.T
    embedded = model.get_input_embeddings()(batch["input_ids"]) + added.unsqueeze(1)
    reference = classifier()(batch["attention_mask"], inputs_embeds=embedded)["logits"]
    assert torch.allclose(run(model, {**inputs, "embedded": vectors}), reference, atol=1e-5)
    assert len(model.get_input_embeddings()._forward_hooks) == 0  # none is left


def test_word_vectors_of_chunks_are_those_of_the_whole_text(classifier, chunked):
    model = fill(classifier(word_vectors=[30, 6], chunk_pooling="mean"))
    mean = model.words.mean(*(chunked[name].flatten(1) for name in ("input_ids", "attention_mask")))
    outputs = model.eval()(**chunked)
    assert torch.allclose(
        outputs["logits"], model.head(torch.cat([outputs["pooled"], mean], 1), None, None, lambda x: x)
    )


@pytest.mark.parametrize(
    ("options", "inputs", "words"),
    [
        ({"features": {"numbers": 2}}, {}, "the model reads the feature 'numbers', and the batch has none"),
        ({"embedded_vectors": 5}, {}, "adds a vector to the word embeddings .* and the batch has none"),
        ({}, {"numbers": torch.zeros(8, 2)}, "the batch has the features numbers, and the model reads text alone"),
        ({"word_vectors": [30, 6]}, {"input_ids": None}, "needs input_ids, not inputs_embeds alone"),
    ],
)
def test_a_batch_that_the_model_was_not_built_for_is_an_error(classifier, batch, options, inputs, words):
    inputs = {**{name: batch[name] for name in ("input_ids", "attention_mask")}, **inputs}
    with pytest.raises(ValueError, match=words):
        classifier(**options)(**inputs)


def test_one_draw_of_dropout_is_plain_dropout_and_several_are_averaged(classifier, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for draws in (1, 3):
        model = classifier(head_dropout=0.5, dropout_samples=draws).train()
        torch.manual_seed(5)
        outputs = model(**inputs)
        torch.manual_seed(5)
        reference = sum(F.linear(model.dropout(outputs["pooled"]), model.head.weight) for _ in range(draws)) / draws
        assert torch.allclose(outputs["logits"], reference, atol=1e-6)
        assert torch.equal(run(model, inputs), logits(classifier(), batch))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_task_alone(classifier, kind):
    model, plain = classifier(kind, 3, **TARGETS), classifier(kind, 3)
    raw = torch.randn(5, 8)
    assert torch.equal(model.predictions(raw), plain.predictions(raw[:, :3]))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_half_precision_gives_logits_in_full_precision_near_those_of_full_precision(
    classifier, batch, chunked, head, in_chunks
):
    options, beside = BESIDE["words" if in_chunks else "all"]
    model = fill(classifier(head=head, chunk_pooling="attention" if in_chunks else "", chunk_tokens=20, **options))
    inputs = chunked if in_chunks else {**{k: batch[k] for k in ("input_ids", "attention_mask")}, **beside}
    full = run(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(model, inputs)
        assert all(gradient.isfinite().all() for gradient in gradients(model, inputs).values())
    assert half.dtype == torch.float32 and torch.allclose(half, full, atol=0.05)


# A backbone that goes on from a classifier's


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_taken_over_from_a_classifier_and_nothing_else(
    classifier, backbones, tmp_path, weights, same, name
):
    model = classifier(folder=backbones[name], embedded_words=[30, 6], **TARGETS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save(tmp_path / "model")
    backbone = load_backbone(backbones[name])
    load_encoder(backbone, tmp_path / "model")
    assert same(weights(backbone), weights(model.backbone))


@pytest.mark.parametrize(("theirs", "ours"), [("pooler", "pooler"), ("pooler", "mean"), ("mean", "pooler")])
def test_a_pooler_is_taken_over_where_both_have_one(classifier, backbone, tmp_path, theirs, ours):
    model = classifier(pooling=theirs)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save(tmp_path / "model")
    bare = load_backbone(backbone, pooler=ours == "pooler")
    before = {name: tensor.clone() for name, tensor in bare.state_dict().items() if name.startswith("pooler.")}
    load_encoder(bare, tmp_path / "model")
    expected = model.pooling.state_dict() if theirs == ours else before
    found = {name: tensor for name, tensor in bare.state_dict().items() if name.startswith("pooler.")}
    assert found.keys() == before.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert torch.equal(bare.get_input_embeddings().weight, model.get_input_embeddings().weight)
