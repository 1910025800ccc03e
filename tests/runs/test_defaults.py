"""Defaults that a recipe leaves to this version: which are recorded, and how a run goes on with those that it had."""

import pytest

from kagglekit.model.backbones import load_config
from kagglekit.runs.defaults import changed_defaults, describe_precisions, fill_in_defaults, find_defaults
from kagglekit.training.recipe import Recipe

FULL = Recipe(
    tricks={"FGM": {"epsilon": 0.5}, "EMA": {}},
    augment={"AEDA": {}},
    loss={"focal": {}},
    tuning="lora",
    lora={"r": 8},
)
FOUND = {
    "pooling": "mean",
    **{
        "tricks: FGM: start": 0.0,
        "tricks: FGM: every": 1,
        "tricks: EMA: start": 0.5,
        "tricks: EMA: decay": 0.99,
        "tricks: EMA: warmup": False,
    },
    **{
        "augment: AEDA: ratio": 0.3,
        "augment: AEDA: chinese": "jieba",
        "loss: focal: gamma": 2.0,
        "loss: focal: class_weights": None,
    },
    **{"lora: alpha": 32.0, "lora: dropout": 0.05, "lora: targets": "all-linear", "lora: whole": []},
}


def test_what_a_recipe_does_not_say_is_found(backbone):
    config = load_config(backbone)
    assert find_defaults(FULL, "multiclass", config) == FOUND
    assert find_defaults(Recipe(pooling="max"), "multiclass", config) == {}
    assert find_defaults(Recipe(lora={}), "regression", config) == {"pooling": "mean"}
    words = {"pattern": "{text} {mask}", "verbalizer": {"1": ["good"], "0": ["bad"]}}
    assert find_defaults(Recipe(**words), "binary", config) == {}  # the mask is read


def test_the_pooling_of_a_decoder_is_another(tiny_decoder):
    assert find_defaults(Recipe(), "multiclass", load_config(tiny_decoder("qwen3"))) == {"pooling": "last_token"}


def test_a_recipe_that_says_all_its_defaults_is_the_same_training_and_has_none_left(backbone):
    said = fill_in_defaults(FULL, FOUND)
    assert said.tricks["FGM"] == {"epsilon": 0.5, "start": 0.0, "every": 1}
    assert said.tricks["EMA"] == {"start": 0.5, "decay": 0.99, "warmup": False}
    assert said.pooling == "mean" and said.lora["r"] == 8 and said.lora["alpha"] == 32.0
    assert said.loss == {"focal": {"gamma": 2.0, "class_weights": None}}
    assert find_defaults(said, "multiclass", load_config(backbone)) == {}
    assert FULL.tricks == {"FGM": {"epsilon": 0.5}, "EMA": {}}


def test_options_that_only_one_version_has_are_no_change():
    begun = {"tricks: EMA: decay": 0.9, "tricks: EMA: gone": 1, "pooling": "mean"}
    assert changed_defaults(begun, {"tricks: EMA: decay": 0.99, "tricks: EMA: new": 2, "pooling": "mean"}) == {
        "tricks: EMA: decay": 0.9
    }


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ({}, ""),
        ({0: "bf16", 1: "bf16"}, ""),
        ({0: "fp32", 1: "bf16", 2: "fp32"}, "fold 0, 2 in fp32, fold 1 in bf16, here in bf16"),
        ({3: "fp32, then bf16"}, "fold 3 in fp32, then bf16, here in bf16"),
    ],
)
def test_precisions_of_folds_are_said_where_one_is_another(folds, words):
    assert describe_precisions(folds, "bf16") == words
