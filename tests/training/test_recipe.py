import json
from dataclasses import fields

import pytest

from kagglekit.training.recipe import Recipe

RESTARTS = {"schedule": "cosine_warm_restarts", "cycles": 2}


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        # of another type
        ({"max_length": 24.0}, "max_length=24.0 is out of range: it must be int"),
        ({"max_length": True}, "max_length=True is out of range: it must be int"),
        ({"epochs": "3"}, "epochs='3' is out of range: it must be float"),
        ({"dropout": "no"}, r"dropout='no' is out of range: it must be float \| None"),
        ({"truncation": None}, "truncation=None is out of range: it must be str"),
        ({"freeze_embeddings": 1}, "freeze_embeddings=1 is out of range: it must be bool"),
        ({"loss": "focal"}, "loss='focal' .* must be dict"),
        ({"loss": {"focal": 2}}, "loss={'focal': 2} .* must be dict"),
        ({"soft_targets": "a"}, r"soft_targets='a' .* must be list\[str\]"),
        ({"soft_targets": [1]}, r"soft_targets=\[1\] .* must be list\[str\]"),
        ({"auxiliary": ["a"]}, r"auxiliary=\['a'\] .* must be dict\[str, float\]"),
        ({"auxiliary": {"a": "1"}}, r"must be dict\[str, float\]"),
        ({"tricks": ["EMA"]}, r"tricks=\['EMA'\] .* must be dict"),
        ({"tricks": {"EMA": None}}, "tricks={'EMA': None} .* must be dict"),
        ({"features": ["a"]}, r"features=\['a'\] .* must be dict"),
        ({"features": {"numbers": "a"}}, r"features: numbers='a' .* must be list\[str\]"),
        ({"features": {"vectors": ["a"]}}, r"features: vectors=\['a'\] .* must be str"),
        # out of range
        ({"chunks": -1}, "chunks=-1 is out of range: it must be 0 or more"),
        ({"chunk_stride": -1}, "chunk_stride=-1"),
        ({"truncation": "end"}, "truncation='end' .* one of head, tail, head_tail, middle, key_parts"),
        ({"chunk_pooling": "gem"}, "chunk_pooling='gem' .* one of mean, max, attention"),
        ({"pooling": "sum"}, "pooling='sum' .* one of auto, cls, mean"),
        ({"head": "sum"}, "head='sum' .* one of linear, separate, queries, flat"),
        ({"dropout": 1.0}, "dropout=1.0 .* from 0 to below 1"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1"),
        ({"head_dropout": 1}, "head_dropout=1"),
        ({"dropout_samples": 0}, "dropout_samples=0 .* above 0"),
        ({"reinit_layers": -1}, "reinit_layers=-1"),
        ({"freeze_layers": -1}, "freeze_layers=-1"),
        ({"features": {"colour": "a"}}, "features='colour' .* one of numbers, categories, vectors"),
        ({"features": {"vectors": "f", "vectors_at": "first"}}, r"vectors_at='first' .*\['last', 'embeddings'\]"),
        ({"features": {"word_vectors": "f", "word_vectors_at": 1}}, r"word_vectors_at=1 .*\['last', 'embeddings'\]"),
        ({"auxiliary": {"a": -1}}, "auxiliary: a=-1 .* a weight, 0 or more"),
        ({"auxiliary": {"a": float("inf")}}, "auxiliary: a=inf"),
        ({"epochs": -1}, "epochs=-1 .* 0 or more"),
        ({"epochs": float("nan")}, "epochs=nan"),
        ({"epochs": float("inf")}, "epochs=inf"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"accumulation": 0}, "accumulation=0"),
        ({"learning_rate": 2.0}, "learning_rate=2.0 .* above 0 and below 1"),
        ({"head_learning_rate": 0}, "head_learning_rate=0"),
        ({"layer_decay": 1.1}, "layer_decay=1.1 .* above 0, and at most 1"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"schedule": "step"}, "schedule='step' .* one of linear, cosine"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"cycles": 0}, "cycles=0"),
        ({"cycle_growth": 0}, "cycle_growth=0"),
        ({"max_grad_norm": -1}, "max_grad_norm=-1 .* 0 or more"),
        ({"evaluate_every": -1}, "evaluate_every=-1"),
        ({"keep_best": True, "patience": -1}, "patience=-1"),
        # no knob, or one that has another name since version 0.1
        ({"poling": "max"}, "Recipe has no knob 'poling': did you mean pooling"),
        ({"cut": "tail"}, "cut is now called truncation"),
        ({"beside": {}}, "beside is now called features"),
        ({"max_length": 0}, "max_length=0 is out of range: it must be above 0"),
        ({"tricks": {"SIFT": {}}}, "there is no trick 'SIFT'"),
        ({"tricks": {"EMA": {"decay": 2.0}}}, "EMA: decay=2.0"),
    ],
)
def test_a_knob_of_another_type_or_out_of_range_is_an_error_with_the_rule(knob, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**knob)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"tricks": {"RDrop": {}}, "attention_dropout": None}, "dropout=0: set dropout=0.1"),
        ({"tricks": {"RDrop": {}}}, "dropout=0: set dropout=0.1"),
        ({"dropout_samples": 5}, "dropout_samples=5 has no effect without head_dropout"),
        ({"patience": 2}, "patience=2 has no effect without keep_best: leave it out, or set keep_best"),
        ({"keep_best": True, "tricks": {"CheckpointSoup": {}}}, "keep_best and CheckpointSoup"),
        ({"chunks": 2, "tricks": {"Mixup": {}}}, "Mixup mixes token by token, .* set chunks=0"),
        ({"chunks": 2, "truncation": "tail"}, "truncation='tail' and chunks=2 are two ways to read a long text"),
        ({"chunks": 2, "max_length": 32}, "chunk_stride=32 must be below max_length=32"),
        ({"cycles": 2}, "cycles=2 has no effect with schedule='linear'.*set schedule to cosine_with_r"),
        (
            {"cycles": 2, "cycle_growth": 2, "schedule": "cosine_with_restarts"},
            "cycle_growth=2 .* set schedule to",
        ),
        ({"cycle_growth": 2, "schedule": "cosine_warm_restarts"}, "cycle_growth=2 .* two cycles or more: set cycles=2"),
        ({"features": {"vectors_at": "last"}}, "vectors_at goes with vectors, and there are none"),
        ({"features": {"test_vectors": "f"}}, "test_vectors goes with vectors, and there are none"),
        ({"features": {"word_vectors": "", "word_vectors_at": "embeddings"}}, "word_vectors_at goes with word_vectors"),
        ({"features": {"vectors": "f", "vectors_at": "embeddings"}, "chunks": 2}, "embeddings of chunks: set chunks=0"),
        ({"features": {"numbers": ["a"], "categories": ["a"]}}, "column 'a' is named twice"),
        ({"features": {"numbers": ["a", "a"]}}, "column 'a' is named twice"),
        ({"features": {"categories": ["b"]}, "auxiliary": {"b": 1.0}}, "column 'b' is named twice"),
        ({"features": {"numbers": ["b"]}, "soft_targets": ["a", "b"]}, "column 'b' is named twice"),
        ({"auxiliary": {"b": 1.0}, "soft_targets": ["a", "b"]}, "column 'b' is named twice"),
    ],
)
def test_knobs_that_contradict_each_other_are_an_error(knobs, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"tricks": {"RDrop": {}}, "dropout": None, "attention_dropout": None},
        {"tricks": {"RDrop": {}}, "head_dropout": 0.1},
        {"dropout_samples": 5, "head_dropout": 0.2},
        {"keep_best": True, "patience": 1, "max_grad_norm": 0},
        {**RESTARTS, "cycle_growth": 2},
        {"schedule": "cosine_with_restarts", "cycles": 3},
        {"chunks": 2, "features": {"vectors": "f", "vectors_at": "last", "word_vectors": "g"}},
        {"chunks": 2, "features": {"word_vectors": "g", "word_vectors_at": "embeddings"}},
        {"epochs": 1, "auxiliary": {"a": 1, "b": 0}},
    ],
)
def test_knobs_that_go_together_are_none(knobs):
    assert {name: getattr(Recipe(**knobs), name) for name in knobs} == knobs


@pytest.mark.parametrize(
    ("kind", "knobs", "words"),
    [
        ("regression", {"loss": {"focal": {}}}, "loss='focal' does not fit kind='regression'"),
        (
            "multilabel",
            {"soft_targets": ["a", "b"]},
            "probabilities of classes, and the task is multilabel",
        ),
        ("regression", {"soft_targets": ["a"]}, "the task is regression"),
        ("multiclass", {"auxiliary": {"label": 1.0}}, "column 'label' is the id, a label or part of the text"),
        ("multiclass", {"auxiliary": {"id": 1.0}}, "column 'id' is the id"),
        ("multiclass", {"auxiliary": {"text": 1.0}}, "column 'text' is the id, a label or part of the text"),
        ("binary", {"soft_targets": ["x", "label"]}, "column 'label'"),
        ("multiclass", {"learned_weights": True}, "learned_weights are of several targets, and there is one"),
        ("regression", {"learned_weights": True}, "and there is one: name others in auxiliary"),
        ("ordinal", {"learned_weights": True, "auxiliary": {"a": 0.0}}, "and there is one"),
    ],
)
def test_what_does_not_fit_the_task_is_an_error(task, kind, knobs, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**knobs).check_task(task(kind))


def test_learned_weights_go_with_several_labels_or_other_targets(task):
    Recipe(learned_weights=True).check_task(task("multilabel"))
    Recipe(learned_weights=True).check_task(task("regression", labels=["x", "y"]))
    Recipe(learned_weights=True, auxiliary={"a": 1.0}).check_task(task("binary"))


def test_the_columns_to_read_are_named():
    features = {"numbers": ["a"], "categories": ["b", "c"], "vectors": "f"}
    recipe = Recipe(features=features, soft_targets=["d", "e"], auxiliary={"f": 0.5})
    assert recipe.columns == ["a", "b", "c"] and recipe.train_columns == ["a", "b", "c", "d", "e", "f"]
    assert Recipe().columns == Recipe().train_columns == []


def test_a_recipe_is_plain_data_and_the_same_after_a_trip_through_json():
    recipe = Recipe(loss={"focal": {"gamma": 1.0}}, tricks={"EMA": {"decay": 0.9}}, auxiliary={"a": 0.5}, **RESTARTS)
    assert Recipe(**json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert list(recipe.as_dict()) == [knob.name for knob in fields(Recipe)]


def test_a_recipe_is_read_from_among_other_names_and_those_of_version_0_1():
    parameters = {**Recipe(epochs=5, head="flat").as_dict(), "work": "runs/bbc", "seed": 3}
    assert Recipe.read(parameters) == Recipe(epochs=5, head="flat")
    assert Recipe.read({name: value for name, value in parameters.items() if name != "head"}) == Recipe(epochs=5)
    old = Recipe.read({"cut": "tail", "beside": {"numbers": ["a"]}})
    assert old == Recipe(truncation="tail", features={"numbers": ["a"]})
