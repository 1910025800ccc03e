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


def of_its_own(head, vector, states, mask):
    inside = [F.gelu(vector @ dense[0].weight.T + dense[0].bias) for dense in head.dense]
    return [x @ out.weight.T + out.bias for x, out in zip(inside, head.out, strict=True)]


def attended(head, vector, states, mask):
    queries = head.query.expand(4, -1, -1)
    answers = F.scaled_dot_product_attention(queries, states, states, attn_mask=mask[:, None].bool())
    return [out(torch.cat([answers[:, k], vector], dim=1)) for k, out in enumerate(head.out)]


def marked(head, vector, states, mask):
    """Logits of all targets, asked with the embedding of one, of which its block is kept."""
    of_all = [head.out(head.dense(vector + embedding)).split(SIZES, dim=1) for embedding in head.target.weight]
    return [blocks[k] for k, blocks in enumerate(of_all)]


REFERENCES = {  # (head, inputs) -> logits of each target
    "linear": lambda head, vector, states, mask: [vector @ head.weight.T + head.bias],
    "separate": of_its_own,
    "queries": attended,
    "flat": marked,
}


def test_the_references_are_complete():
    assert REFERENCES.keys() == HEADS.keys()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_what_its_name_says(inputs, name):
    head = build(name)
    reference = torch.cat(REFERENCES[name](head, *inputs), dim=1)
    assert torch.allclose(head(*inputs, unchanged), reference, atol=1e-5)


def test_new_queries_weigh_all_tokens_equally(inputs):
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
def test_padding_and_other_rows_change_nothing(inputs, name):
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
def test_dropout_is_before_the_last_layer(inputs, name):
    head = build(name)
    last = [head] if name == "linear" else head.out if isinstance(head.out, torch.nn.ModuleList) else [head.out]
    biases = torch.cat([layer.bias for layer in last])
    assert torch.allclose(head(*inputs, torch.zeros_like), biases.expand(4, 6))


@pytest.mark.parametrize("name", ["separate", "queries"])
def test_the_weights_of_one_target_change_no_other(inputs, name):
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
