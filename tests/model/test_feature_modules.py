import pytest
import torch
from torch.nn import functional as F

from kagglekit.model.feature_layers import GAIN, DocumentVectors, FeatureEncoder, WordVectors


@pytest.fixture
def features():
    """Eight rows of 3 numbers, 2 categorical columns with 4 and 3 codes, and vectors of 5."""
    generator = torch.Generator().manual_seed(0)
    return {
        "numbers": torch.randn(8, 3, generator=generator),
        "categories": torch.stack([torch.arange(8) % 4, torch.arange(8) % 3], dim=1),
        "vectors": torch.randn(8, 5, generator=generator),
    }


@pytest.fixture
def table():
    """A vector of 6 for each of 30 tokens; tokens 0 to 4 have none."""
    table = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    table[:5] = 0
    return table


OPTIONS = {"numbers": 3, "categories": [4, 3], "vectors": 5}


def test_the_encoder_is_a_linear_layer_on_all_that_is_given_then_norm_and_gelu(features):
    encoder = FeatureEncoder(**OPTIONS, width=7)
    first, second = (embedding(features["categories"][:, k]) for k, embedding in enumerate(encoder.categories))
    everything = torch.cat([features["numbers"], features["vectors"], first, second], dim=1)
    linear = encoder.mix[0]
    reference = F.gelu(GAIN * F.layer_norm(everything @ linear.weight.T + linear.bias, (7,)))
    assert torch.allclose(encoder(**features), reference, atol=1e-6)
    assert encoder(**features).shape == (8, encoder.width) == (8, 7)


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_kind_can_stand_alone(features, kind):
    encoder = FeatureEncoder(**{kind: OPTIONS[kind]})
    assert encoder(**{kind: features[kind]}).shape == (8, 32)
    with pytest.raises(ValueError, match=f"the model reads the feature '{kind}', and the batch has none"):
        encoder(**{other: features[other] for other in OPTIONS if other != kind})


def test_an_encoder_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="there are no features"):
        FeatureEncoder()


def test_every_parameter_of_the_encoder_has_a_gradient_and_a_batch_of_one_works(features):
    encoder = FeatureEncoder(**OPTIONS)
    (encoder(**features) * torch.randn(32)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    one = encoder(**{name: tensor[:1] for name, tensor in features.items()})
    assert torch.allclose(one, encoder(**features)[:1], atol=1e-6)


def test_an_unknown_category_adds_nothing_until_it_is_trained(features):
    encoder = FeatureEncoder(categories=[4, 3])
    unknown = encoder(categories=torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(unknown, encoder.mix(torch.zeros(1, encoder.mix[0].in_features)))
    assert not torch.equal(unknown, encoder(categories=torch.ones(1, 2, dtype=torch.long)))


def test_columns_of_any_scale_come_out_at_one_scale(features):
    encoder = FeatureEncoder(numbers=3, width=64)
    small, large = (encoder(numbers=scale * features["numbers"]).std().item() for scale in (1, 1e4))
    assert 0.3 < small / GAIN < 1 and 0.3 < large / GAIN < 1


def test_word_vectors_look_a_projected_vector_up_for_each_token(table):
    words = WordVectors(table, 16)
    torch.nn.init.normal_(words.projection.weight)
    ids = torch.tensor([[7, 0, 9], [5, 5, 29]])
    reference = table[ids] @ words.projection.weight.T
    assert torch.allclose(words(ids), reference, atol=1e-6)


def test_the_mean_is_over_real_tokens_that_have_a_vector(table):
    words = WordVectors(table)
    ids = torch.tensor([[2, 7, 9, 3, 11], [2, 3, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    assert torch.allclose(words.mean(ids, mask), torch.stack([(table[7] + table[9]) / 2, torch.zeros(6)]))
    chunks = words.mean(ids.reshape(1, 2, 5), mask.reshape(1, 2, 5))  # one text of two chunks
    assert torch.allclose(chunks, words.mean(ids, mask)[:1])


def test_padding_on_either_side_does_not_change_the_mean(table):
    words, ids = WordVectors(table), torch.tensor([[7, 9, 12]])
    padded = F.pad(ids, (2, 4), value=20)
    mask = F.pad(torch.ones_like(ids), (2, 4))
    assert torch.allclose(words.mean(padded, mask), words.mean(ids, torch.ones_like(ids)))


def test_the_table_is_saved_and_never_trained(table):
    words = WordVectors(table, 16)
    assert [name for name, _ in words.named_parameters()] == ["projection.weight"]
    assert list(WordVectors(table).parameters()) == []
    copy = WordVectors(torch.zeros(30, 6), 16)
    copy.load_state_dict(words.state_dict())
    assert torch.equal(copy.table, table)
    words(torch.tensor([[7, 9]])).sum().backward()
    assert words.table.grad is None and words.projection.weight.grad.abs().sum() > 0


def test_building_the_projections_draws_no_random_numbers(table):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    WordVectors(table, 16), DocumentVectors(5, 16)
    assert torch.equal(torch.rand(3), expected)
