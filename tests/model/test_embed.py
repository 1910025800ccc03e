import numpy as np
import pytest
import torch

from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone
from kagglekit.model.pooling import POOLINGS
from kagglekit.model.shallow import PLAIN, embed


@pytest.fixture
def tokens(texts, tokenizer):
    return tokenize(texts(9)[0], tokenizer, 30)


@pytest.mark.parametrize("pooling", PLAIN)
def test_each_text_has_the_vector_that_it_has_alone(backbone, tokens, pooling):
    model = load_backbone(backbone, 0.0, attention="eager").eval()
    found, pool = embed(model, tokens, 0, pooling=pooling), POOLINGS[pooling](16, 2)
    assert found.shape == (9, pool.width) and found.dtype == np.float32
    assert not list(pool.parameters())
    for row, vector in enumerate(found):
        alone = tokens[[row]].pad(0)
        with torch.no_grad():
            states = model(**alone, output_hidden_states=True).hidden_states
        assert np.allclose(vector, pool(states, alone["attention_mask"])[0], atol=1e-5)


def test_every_architecture_has_vectors(backbones, tokens, architecture):
    found = embed(load_backbone(backbones[architecture]), tokens, 0)
    assert found.shape == (9, 16) and np.isfinite(found).all()


def test_bfloat16_is_close_to_float32(backbone, tokens):
    model = load_backbone(backbone)
    assert np.allclose(embed(model, tokens, 0, "bf16"), embed(model, tokens, 0, "fp32"), atol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_backbone_changes(backbone, tokens, training, weights, same):
    model = load_backbone(backbone, attention="eager").train(training)
    before, random = weights(model), torch.get_rng_state()
    first = embed(model, tokens, 0)
    assert model.training is training and model.config._attn_implementation == "eager"
    assert same(before, weights(model)) and torch.equal(random, torch.get_rng_state())
    assert np.array_equal(first, embed(model, tokens, 0))  # no dropout, though it was in training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_failure_leaves_the_backbone_in_its_mode(backbone, tokens):
    model = load_backbone(backbone).train()
    tokens.flat[0] = 999  # not in the vocabulary
    with pytest.raises(IndexError):
        embed(model, tokens, 0)
    assert model.training


@pytest.mark.parametrize("pooling", ["attention", "pooler", "gem", "none"])
def test_a_pooling_that_must_learn_is_refused_with_those_that_need_not(backbone, tokens, pooling):
    with pytest.raises(ValueError, match="one of mean, cls"):
        embed(load_backbone(backbone), tokens, 0, pooling=pooling)
