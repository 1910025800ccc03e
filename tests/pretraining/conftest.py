"""An objective of a tiny backbone, ready for the loop."""

from functools import partial

import numpy as np
import pytest
import torch

from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.vocabulary import add_tokens
from kagglekit.pretraining.simcse import LabelledTexts
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import prepare as prepare_stage

GOOD, BAD = "the good film is fun !", "a bad plot was sad ."
TEXTS = [f"{a} {word} {b}" for word in ("old", "new", "very", "it") for a in (GOOD, BAD) for b in (GOOD, BAD, "no ?")]
LABELS = LabelledTexts(TEXTS, np.array([text.startswith(GOOD) for text in TEXTS], dtype=int))


@pytest.fixture
def prepare(backbones):
    """prepare(objective, model type, options, **knobs of the stage): made from the same seed at every call."""

    def make(
        name,
        kind="bert",
        options=None,
        texts=TEXTS[:18],
        held_out=TEXTS[18:],
        labels=LABELS,
        words=(),
        tokenizer=None,
        path=None,
        held_out_share=0.05,
        **knobs,
    ):
        torch.manual_seed(0)
        knobs, path = {"max_length": 20, "held_out": held_out_share, **knobs}, path or backbones[kind]
        stage, tokenizer = Stage(name, objective_options=options or {}, **knobs), tokenizer or load_tokenizer(path)
        add_tokens(tokenizer, words)
        return prepare_stage(stage, path, tokenizer, texts, held_out, labels=labels)

    return make


@pytest.fixture
def compute_loss():
    """compute_loss(prepared, tricks): a function inputs -> (loss, outputs) through the given tricks."""

    def make(prepared, tricks=()):
        def compute(inputs):
            outputs = prepared.model(**{name: x for name, x in inputs.items() if name != "labels"})
            return prepared.loss(outputs["logits"], inputs["labels"]), outputs

        for trick in reversed(tricks):
            compute = partial(trick.compute_loss, compute, prepared.model)
        return compute

    return make
