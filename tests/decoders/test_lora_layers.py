"""Decoder layers with adapters in bfloat16 equal those of transformers to rounding, forward and backward."""

import pytest
import torch
from torch import nn

from kagglekit.decoders.lora import Adapted, adapters_of, add_adapters, merged
from kagglekit.decoders.lora_layers import _norm, quicken_decoder
from kagglekit.decoders.lora_products import draw_dropout, undo_dropout
from kagglekit.model.backbones import load_backbone
from kagglekit.model.fast_layers import quicken


@pytest.fixture
def make(tiny_decoder, backbones):
    """make(family, quick, exact, **options): a tiny backbone with adapters; exact: its weights fit bfloat16."""

    def build(family="llama", quick=True, exact=True, attention="eager", **options):
        folder = backbones[family] if family in backbones else tiny_decoder(family)
        model = load_backbone(folder, 0.0, attention=attention)
        for parameter in model.parameters() if exact else ():
            parameter.data = parameter.data.bfloat16().float()
        torch.manual_seed(0)
        add_adapters(model, {"r": 4, "dropout": 0.0, **options})
        torch.manual_seed(1)
        for layer in adapters_of(model).values():
            nn.init.normal_(layer.lora_b, std=0.1)
        if quick:
            quicken_decoder(model)
            quicken(model)
        return model

    return build


def batch():
    ids, mask = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(0)), torch.ones(3, 9).long()
    mask[1, 5:] = 0
    return ids, mask


def run(model, bf16=True, given=True):
    """States of real tokens, and gradients."""
    ids, mask = batch()
    for parameter in model.parameters():
        parameter.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        states = model(input_ids=ids, attention_mask=mask if given else None, use_cache=False).last_hidden_state
    states = states.float()[mask.bool()] if given else states.float()
    (states.sin().sum() / 9).backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    return states.detach(), torch.cat([grad.flatten() for grad in grads])


def distance(one, other):
    return float((one - other).norm() / other.norm())


OPTIONS = [{}, {"targets": ["q_proj", "v_proj", "down_proj"]}, {"whole": ["norm", "input_layernorm"]}]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_states_and_gradients_are_as_near_to_float32_as_those_of_transformers(make, family, options, attention):
    theirs, ours = make(family, False, attention=attention, **options), make(family, attention=attention, **options)
    for given in (True, False):
        exact, slow, quick = run(theirs, False, given), run(theirs, given=given), run(ours, given=given)
        for reference, one, other in zip(exact, slow, quick, strict=True):
            assert 0 < distance(other, reference) < 3 * distance(one, reference) + 0.01
    assert all(type(x.forward).__name__ == "partial" for x in ours.layers)


def test_weights_that_fit_bfloat16_are_kept_once_and_others_stay(make):
    for exact in (True, False):
        model = make(exact=exact).eval()
        before = {name: p.float().clone() for name, p in model.named_parameters()}
        plain = run(model)[0]
        with torch.inference_mode():
            assert torch.allclose(run_forward(model), plain, atol=1e-6)
        layer = model.layers[0].self_attn.k_proj
        assert layer.weight.dtype == (torch.bfloat16 if exact else torch.float32)
        assert all(torch.equal(before[name], p.float()) for name, p in model.named_parameters())
        states = run(model, bf16=False)[0]
        assert distance(states, run(make(exact=exact, quick=False), False)[0]) < 1e-5


def run_forward(model):
    ids, mask = batch()
    with torch.autocast("cpu", torch.bfloat16):
        return model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.float()[mask.bool()]


def test_a_changed_adapter_or_weight_is_seen_and_a_hook_too(make):
    model = make()
    first = run(model)[0]
    layer = model.layers[0].mlp.gate_proj
    with torch.no_grad():
        layer.lora_b.mul_(3)
    second = run(model)[0]
    assert distance(second, first) > 1e-2
    with torch.no_grad():
        layer.weight.mul_(2)
    third = run(model)[0]
    assert distance(third, second) > 1e-2
    handle = layer.register_forward_hook(lambda *_: _[2] * 0)
    assert distance(run(model)[0], third) > 1e-2
    handle.remove()
    assert torch.equal(run(model)[0], third)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_fast_layers_of_encoders_see_adapters(make, family):
    model = make(family, exact=False)
    states, gradient = run(model)
    assert distance(states, run(make(family, False, exact=False), False)[0]) < 0.05 and gradient.abs().max() > 0
    assert all(layer.lora_b.grad.abs().max() > 0 for layer in adapters_of(model).values())
    model.eval()
    for factor in (1.0, 0.1, 10.0):  # what is kept of merged weights is of these alone, though others had their address
        for layer in adapters_of(model).values():
            layer.lora_b.data.mul_(factor)
        with torch.inference_mode(), merged(model):
            found = run_forward(model)
        assert distance(found, run(model, False)[0]) < 0.05
    with merged(model):
        assert not any(isinstance(one, Adapted) for one in model.modules())


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_dropout_keeps_the_mean_and_drops_the_share_to_the_nearest_256th(share):
    torch.manual_seed(0)
    x = torch.ones(400, 401)
    dropped, kept = draw_dropout(x, share)
    assert (1 - kept.float().mean()).item() == pytest.approx(round(256 * share) / 256, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(undo_dropout(x, kept, share), dropped)
    torch.manual_seed(0)
    assert torch.equal(draw_dropout(x, share)[1], kept)
    assert draw_dropout(x, 0.0) == (x, None)


def test_a_norm_has_the_gradient_of_autograd(make):
    norm, x = make().norm, torch.randn(5, 32, requires_grad=True)
    norm.weight = nn.Parameter(torch.rand(32) + 0.5)
    found = []
    for function in (norm, lambda x: _norm(x, norm)):
        x.grad = norm.weight.grad = None
        function(x).float().pow(3).sum().backward()
        found += [x.grad.clone(), norm.weight.grad.clone()]
    assert distance(found[2], found[0]) < 0.02 and distance(found[3], found[1]) < 0.02
