import errno
import os

import pytest
import torch
from transformers import AutoTokenizer

from kagglekit.model.classifier import Classifier
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
    assert same(weights(loaded), weights(model)) and loaded.options == model.options
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


@pytest.mark.parametrize("wrong", [{"kind": "ranking"}, {"pooling": "sum"}])
def test_an_unknown_kind_or_pooling_is_an_error_with_those_there_are(classifier, wrong):
    with pytest.raises(ValueError, match=r"one of binary, multiclass.* one of cls, mean, max, attention"):
        classifier(**wrong)
