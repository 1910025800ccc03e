"""Layers written out for bfloat16 on a CPU against those of transformers."""

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel

from kagglekit.model import fast_layers
from kagglekit.model.fast_layers import quicken
from tests.conftest import WIDTHS

KINDS = ["bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "data2vec-text"]


def make(kind="bert", **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**WIDTHS, "hidden_size": 32, "max_position_embeddings": 64, **options})
    config._attn_implementation = "eager"
    return AutoModel.from_config(config).train()


def batch(padded=True, tokens=9):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(5, tokens, dtype=torch.long)
    if padded:
        mask[0, 4:] = mask[3, 7:] = 0
    return {"input_ids": torch.randint(5, 30, mask.shape, generator=generator), "attention_mask": mask}


def run(model, inputs, precision="bf16"):
    """Loss, states and gradients."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        states = model(**inputs).last_hidden_state
    real = states.float() * inputs["attention_mask"].unsqueeze(-1)
    weights = torch.linspace(-1, 1, real.numel()).view_as(real)
    loss = (real * weights).sum() + (real**3).mean()
    loss.backward()
    return states.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def error(one, other):
    return ((one - other).norm() / other.norm()).item()


def as_close_as_autocast(model, inputs):
    """Whether states and gradients of the quickened model are as near to float32 as those of autocast."""
    exact, plain = run(model, inputs, "fp32"), run(model, inputs)
    quick = copy.deepcopy(model)
    quicken(quick)
    states, gradients = run(quick, inputs)
    weights = [module.forward.args[1] for module in quick.modules() if "forward" in vars(module)]
    assert len(weights) == 2 and all(layer.versions for layer in weights)  # it was another path
    assert states.dtype == torch.float32
    assert error(states, exact[0]) < 1.3 * error(plain[0], exact[0]) + 1e-3
    assert gradients.keys() == plain[1].keys()
    for name, gradient in gradients.items():
        if not name.endswith("key.bias"):  # zero but for rounding
            assert error(gradient, exact[1][name]) < 1.5 * error(plain[1][name], exact[1][name]) + 4e-3, name


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quick_layer_is_as_close_to_float32_as_autocast(kind, padded):
    as_close_as_autocast(make(kind, hidden_dropout_prob=0, attention_probs_dropout_prob=0), batch(padded))


@pytest.mark.parametrize("names", [("PACKED", "PACKED_BACKWARD"), ("SCORES",)])
def test_oneDNN_layouts_and_slices_of_attention_change_nothing_else(names, monkeypatch):
    for name in names:
        monkeypatch.setattr(fast_layers, name, 1)
    model = make(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    as_close_as_autocast(model, batch())
    as_close_as_autocast(model, batch(padded=False, tokens=32))


def test_dropout_is_where_transformers_has_it(monkeypatch):
    def kept(x):
        return (torch.arange(x.numel()) % 7 > 1).view_as(x)

    def dropout(x, p=0.5, training=True, inplace=False):
        return x * kept(x) / (1 - p) if training and p else x

    monkeypatch.setattr(F, "dropout", dropout)

    def drop(x, p):
        mask = -kept(x).to(torch.int16)  # all bits of what is kept
        return (fast_layers._undrop(x, mask, p), mask) if p else (x, None)

    monkeypatch.setattr(fast_layers, "_drop", drop)
    as_close_as_autocast(make(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3), batch())


@pytest.mark.parametrize("probability", [0.02, 0.1, 0.3, 0.9])
def test_dropout_drops_its_share_by_chance_and_keeps_the_mean(probability):
    torch.manual_seed(0)
    n = 400_001  # no multiple of four: the last draw is cut
    dropped, kept = fast_layers._drop(torch.ones(n).bfloat16(), probability)
    tied = torch.corrcoef(torch.stack([(kept[k:][: n - 8] != 0).float() for k in range(9)]))  # of neighbours
    assert set(kept.unique().tolist()) == {-1, 0} and torch.equal(dropped == 0, kept == 0)
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=3 / n**0.5)
    assert dropped.float().mean().item() == pytest.approx(1, rel=0.02)
    assert (tied - torch.eye(9)).abs().max() < 5 / n**0.5
    assert torch.equal(fast_layers._undrop(torch.ones(n).bfloat16(), kept, probability), dropped)


@pytest.mark.parametrize("probability", [1e-9, 1 - 1e-9])
def test_a_share_near_none_or_all_has_no_infinite_values(probability):
    dropped, _ = fast_layers._drop(torch.ones(1000).bfloat16(), probability)
    assert dropped.isfinite().all()


def test_without_autocast_nothing_changes():
    model = make()
    quick = copy.deepcopy(model)
    quicken(quick)
    results = []
    for one in (model, quick):
        torch.manual_seed(3)
        results.append(run(one, batch(), "fp32"))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(gradient, results[1][1][name]) for name, gradient in results[0][1].items())


def test_checkpointing_computes_the_same_again():
    model = make(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    quicken(model)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(run(model, batch()))
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(gradient, results[1][1][name]) for name, gradient in results[0][1].items())


@pytest.mark.parametrize("change", ["optimizer", "in place", "loaded"])
def test_changed_weights_are_read_again(change):
    model = make(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    quicken(model)
    first, _ = run(model, batch())
    if change == "optimizer":
        torch.optim.AdamW(model.parameters(), lr=0.01, fused=True).step()
    elif change == "in place":
        torch._foreach_mul_([p.detach() for p in model.encoder.parameters()], 1.1)
    else:
        model.load_state_dict({name: x * 1.1 for name, x in model.state_dict().items() if x.is_floating_point()}, False)
    fresh = copy.deepcopy(model)
    quicken(fresh)
    again = run(model, batch())[0]
    assert not torch.equal(again, first) and torch.equal(again, run(fresh, batch())[0])


@pytest.mark.parametrize("amx", [True, False])
def test_predicting_in_between_does_not_disturb_training(amx, monkeypatch):
    monkeypatch.setattr(fast_layers, "has_amx", lambda: amx)
    model = make(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    quicken(model)
    first = run(model, batch())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        states = model.eval()(**batch()).last_hidden_state
    assert error(states, first[0]) < 0.02
    again = run(model.train(), batch())
    assert torch.equal(first[0], again[0]) and all(torch.equal(x, again[1][name]) for name, x in first[1].items())


def test_wide_layers_train_as_before_and_predict_quickly(monkeypatch):
    model = make(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    plain = run(model, batch())
    quicken(model)
    monkeypatch.setattr(fast_layers, "WIDE", 32)
    states, gradients = run(model, batch())
    weights = [layer.forward.args[1] for layer in model.encoder.layer]
    assert torch.equal(states, plain[0]) and all(torch.equal(x, plain[1][name]) for name, x in gradients.items())
    assert not any(layer.versions for layer in weights)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model.eval()(**batch())
    assert all(layer.versions for layer in weights)


def test_weights_that_change_before_the_backward_pass_are_an_error():
    model = make()
    quicken(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch()).last_hidden_state.sum()
        torch._foreach_mul_([p.detach() for p in model.encoder.parameters() if p.ndim > 1], 1.1)
        model(**batch())
    with pytest.raises(RuntimeError, match="changed between"):
        loss.backward()


def test_frozen_layers_have_no_gradient_and_a_replaced_forward_is_used():
    model = make()
    quicken(model)
    for p in (*model.embeddings.parameters(), *model.encoder.layer[0].parameters()):
        p.requires_grad_(False)
    states, gradients = run(model, batch())
    assert gradients and all(name.startswith("encoder.layer.1") for name in gradients)
    model.encoder.layer[1].output.dense.forward = lambda x: x[..., :32] * 0 + 5
    assert not torch.equal(run(model.eval(), batch())[0], states)


def test_what_is_not_an_exact_encoder_layer_is_left_alone():
    for model in (
        make(hidden_act="relu"),
        make(is_decoder=True),
        make(chunk_size_feed_forward=3),
        make("roberta-prelayernorm"),
    ):
        quicken(model)
        assert not any("forward" in vars(module) for module in model.modules())
