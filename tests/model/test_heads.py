import pytest
import torch
from torch.nn import functional as F

from kagglekit.model.heads import HEADS

WIDTH, HIDDEN, SIZES = 10, 6, [3, 1, 2]
LENGTHS = torch.tensor([5, 2, 1, 4])


@pytest.fixture
def inputs():
    """Text vectors of 4 texts, and states of up to 5 tokens with their mask."""
    generator = torch.Generator().manual_seed(0)
    vector, states = torch.randn(4, WIDTH, generator=generator), torch.randn(4, 5, HIDDEN, generator=generator)
    return vector, states, (torch.arange(5) < LENGTHS.unsqueeze(1)).long()


def build(name, sizes=SIZES):
    """A head whose weights are all away from where they start."""
    torch.manual_seed(1)
    head = HEADS[name](WIDTH, HIDDEN, sizes)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def unchanged(x):
    return x


def test_linear_is_one_layer_for_all_targets(inputs):
    head = build("linear")
    assert torch.allclose(head(*inputs, unchanged), inputs[0] @ head.weight.T + head.bias, atol=1e-5)


def test_separate_is_a_network_of_its_own_for_each_target(inputs):
    head = build("separate")
    inside = [F.gelu(inputs[0] @ dense[0].weight.T + dense[0].bias) for dense in head.dense]
    reference = [x @ out.weight.T + out.bias for x, out in zip(inside, head.out, strict=True)]
    assert torch.allclose(head(*inputs, unchanged), torch.cat(reference, dim=1), atol=1e-5)


def test_queries_are_attention_with_a_query_a_target(inputs):
    head, (vector, states, mask) = build("queries"), inputs
    queries = head.query.expand(4, -1, -1)
    answers = F.scaled_dot_product_attention(queries, states, states, attn_mask=mask[:, None].bool())
    reference = [out(torch.cat([answers[:, k], vector], dim=1)) for k, out in enumerate(head.out)]
    assert torch.allclose(head(*inputs, unchanged), torch.cat(reference, dim=1), atol=1e-5)


def test_flat_is_one_head_that_is_told_which_target_it_is_asked_for(inputs):
    head, begin, reference = build("flat"), 0, []
    for k, size in enumerate(SIZES):
        logits = head.out(head.dense(inputs[0] + head.target.weight[k]))  # of all targets
        reference.append(logits[:, begin : begin + size])
        begin += size
    assert torch.allclose(head(*inputs, unchanged), torch.cat(reference, dim=1), atol=1e-5)


def test_new_queries_look_at_all_tokens_alike(inputs):
    head, (vector, states, mask) = HEADS["queries"](WIDTH, HIDDEN, [2]), inputs
    mean = (states * mask.unsqueeze(-1)).sum(dim=1) / LENGTHS.unsqueeze(1)
    assert torch.allclose(head(*inputs, unchanged), head.out[0](torch.cat([mean, vector], dim=1)), atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_has_a_gradient_and_a_new_head_is_nearly_undecided(inputs, name):
    head = HEADS[name](WIDTH, HIDDEN, SIZES)
    logits = head(*inputs, unchanged)
    assert logits.shape == (4, 6) and logits.abs().max() < 0.5
    (logits * torch.randn(4, 6)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_padding_rows_beside_it_and_what_stands_in_padding_change_nothing(inputs, name):
    head, (vector, states, mask) = build(name), inputs
    together = head(vector, states.masked_fill(mask.unsqueeze(-1) == 0, torch.nan), mask, unchanged)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = head(vector[[row]], states[[row], :length], mask[[row], :length], unchanged)
        assert torch.allclose(together[[row]], alone, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_text_of_zero_tokens_has_finite_logits_and_gradients(inputs, name):
    head, (vector, states, mask) = build(name), inputs
    states = torch.full_like(states, torch.nan).requires_grad_()
    head(vector, states, torch.zeros_like(mask), unchanged).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_the_dropout_stands_before_the_last_layer(inputs, name):
    head = build(name)
    last = [head] if name == "linear" else head.out if isinstance(head.out, torch.nn.ModuleList) else [head.out]
    biases = torch.cat([layer.bias for layer in last])
    assert torch.allclose(head(*inputs, torch.zeros_like), biases.expand(4, 6))


@pytest.mark.parametrize("name", ["separate", "queries"])
def test_what_belongs_to_one_target_moves_no_other(inputs, name):
    head = build(name)
    before = head(*inputs, unchanged)
    with torch.no_grad():
        head.out[1].weight.add_(1)
    changed = (head(*inputs, unchanged) != before).all(dim=0)
    assert changed.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("name", HEADS)
def test_half_precision_is_near_full_precision(inputs, name):
    head = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = head(inputs[0], inputs[1].bfloat16(), inputs[2], unchanged)
    assert torch.allclose(half.float(), head(*inputs, unchanged), atol=0.3, rtol=0.1)
