import pytest
import torch

from kagglekit.model.pooling import POOLINGS

PARAMETERS = {"cls": 0, "mean": 0, "max": 0, "attention": 6}  # tensors: two linear layers and a norm


@pytest.fixture
def hidden():
    return torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(0))  # (batch, tokens, width)


@pytest.fixture
def mask():
    return (torch.arange(7) < torch.tensor([7, 4, 1, 5])[:, None]).long()


@pytest.fixture(params=sorted(POOLINGS))
def pooling(request):
    torch.manual_seed(0)
    return POOLINGS[request.param](6)


def test_the_list_is_complete():
    assert POOLINGS.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_it_has_the_parameters_it_claims_and_each_gets_a_gradient(name, hidden, mask):
    pooling = POOLINGS[name](6)
    assert len(list(pooling.parameters())) == PARAMETERS[name]
    pooling(hidden, mask).square().sum().backward() if PARAMETERS[name] else None
    for parameter_name, parameter in pooling.named_parameters():
        if parameter_name == "score.3.bias":  # adds the same to every score: softmax does not see it
            assert parameter.grad.abs().max() < 1e-5
        else:
            assert parameter.grad.abs().max() > 0


def test_the_backbone_gets_a_gradient_at_real_tokens_only(pooling, hidden, mask):
    hidden = hidden.requires_grad_()
    pooling(hidden, mask).square().sum().backward()
    reached = hidden.grad.abs().sum(dim=-1)
    assert (reached.sum(dim=1) > 0).all()
    assert (reached[mask == 0] == 0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cls", lambda tokens: tokens[0]),
        ("mean", lambda tokens: tokens.mean(dim=0)),
        ("max", lambda tokens: tokens.amax(dim=0)),
    ],
)
def test_it_is_what_its_name_says_over_real_tokens(name, expected, hidden, mask):
    pooled = POOLINGS[name](6)(hidden, mask)
    for vector, tokens, real in zip(pooled, hidden, mask.bool(), strict=True):
        assert torch.allclose(vector, expected(tokens[real]), atol=1e-6)


def test_attention_is_a_mean_weighted_by_its_scores(hidden, mask):
    pooling = POOLINGS["attention"](6)
    for vector, tokens, real in zip(pooling(hidden, mask), hidden, mask.bool(), strict=True):
        weights = pooling.score(tokens[real]).softmax(dim=0)
        assert torch.allclose(vector, (weights * tokens[real]).sum(dim=0), atol=1e-6)
    torch.nn.init.zeros_(pooling.score[3].weight)
    assert torch.allclose(pooling(hidden, mask), POOLINGS["mean"](6)(hidden, mask), atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_does_not_change_the_result(pooling, hidden, side):
    mask, more = torch.ones(4, 7, dtype=torch.long), torch.full((4, 3, 6), 100.0)
    parts = [(hidden, mask), (more, torch.zeros(4, 3, dtype=torch.long))]
    padded, padded_mask = (torch.cat(x, dim=1) for x in zip(*(parts if side == "right" else parts[::-1]), strict=True))
    assert torch.allclose(pooling(padded, padded_mask), pooling(hidden, mask), atol=1e-6)


def test_a_batch_of_one_is_its_row(pooling, hidden, mask):
    pooled = pooling(hidden, mask)
    assert pooled.shape == (4, pooling.width)
    for row in range(4):
        assert torch.allclose(pooling(hidden[row : row + 1], mask[row : row + 1])[0], pooled[row], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_and_close(pooling, hidden, mask, dtype):
    pooled = pooling.to(dtype)(hidden.to(dtype), mask)
    assert pooled.dtype == dtype and torch.isfinite(pooled).all()
    assert torch.allclose(pooled.float(), pooling.float()(hidden, mask), atol=0.05)
