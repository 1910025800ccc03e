"""Trainings on a device that refuses to mix with the CPU, by test_second_device.py in a process of its own."""

import numpy as np
import pytest

from kagglekit.tricks import TRICKS
from tests.second_device import second_device  # first: it changes torch
from tests.training.conftest import AT_EMBEDDINGS, AUXILIARY, EVERYTHING, TRAIN, VALID
from tests.tricks.trick_cases import CASES

DESCRIBED = {"bad": "a poor film", "good": "fun, a good plot"}
DECODER = {"family": "llama", "tuning": "lora", "lora": {"r": 4}}
RECIPES = {
    **{name: {"tricks": {name: CASES[name].usual}, "dropout": 0.1} for name in TRICKS},
    "all tricks of the loop": {"tricks": {"AWP": {"start": 0.0}, "RDrop": {}, "EMA": {"start": 0.0}}, "dropout": 0.1},
    "features, other targets": {
        "features": EVERYTHING,
        "auxiliary": AUXILIARY,
        "learned_weights": True,
        "head": "queries",
    },
    "vectors at the embeddings": {"features": AT_EMBEDDINGS, "reinit_layers": 1, "layer_decay": 0.9},
    "chunks": {"max_length": 8, "chunks": 3, "chunk_pooling": "attention", "pooling": "attention"},
    "descriptions": {"auxiliary_descriptions": DESCRIBED, "head_dropout": 0.1, "dropout_samples": 3},
    "the best step": {"keep_best": True, "evaluate_every": 1, "accumulation": 2, "schedule": "cosine"},
    "adapters": {**DECODER, "pooling": "last_token"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_it_learns_what_it_learns_on_the_cpu(feature_tuner, tiny_decoder, tmp_path, name):
    knobs = dict(RECIPES[name])
    if family := knobs.pop("family", ""):
        knobs["folder"] = tiny_decoder(family)
    here = feature_tuner(**knobs).fit(TRAIN, VALID, tmp_path / "here", 0)
    with second_device():
        there = feature_tuner(**knobs).fit(TRAIN, VALID, tmp_path / "there", 0)
    assert np.allclose(here.oof, there.oof, atol=1e-5) and np.allclose(here.test, there.test, atol=1e-5)
