"""Adapters add B A to frozen layers, merge into them, average as what they add, and fit any backbone."""

import pytest
import torch
from torch import nn

from kagglekit.decoders.lora import (
    Adapted,
    adapters_of,
    add_adapters,
    average_adapters,
    begin_adapters,
    check_layers,
    choose_layers,
    factor,
    find_linears,
    merge_adapters,
    merged,
    narrow_frozen,
)
from kagglekit.decoders.lora_options import LoraOptions
from kagglekit.model.backbones import load_backbone

FAMILIES = ("llama", "qwen3", "gemma3_text", "phi3", "gpt2", "bert", "deberta-v2", "roberta")


@pytest.fixture
def make(tiny_decoder, backbones):
    """make(family, noise, **options): a tiny backbone with adapters that add something."""

    def build(family="llama", noise=0.1, **options):
        folder = backbones[family] if family in backbones else tiny_decoder(family)
        model = load_backbone(folder, 0.0, attention="eager").eval()
        add_adapters(model, {"r": 4, "dropout": 0.0, **options})
        torch.manual_seed(1)
        for layer in adapters_of(model).values():
            nn.init.normal_(layer.lora_b, std=noise)
        return model

    return build


@pytest.fixture
def states():
    """states(model): of random tokens, some of them padding."""
    ids, mask = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(0)), torch.ones(3, 9).long()
    mask[1, 5:] = 0

    def read(model):
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]

    return read


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_adapter_changes_nothing_and_a_merged_one_equals_it(make, states, backbones, tiny_decoder, family):
    plain = load_backbone(backbones[family] if family in backbones else tiny_decoder(family), 0.0, attention="eager")
    names, expected = dict(plain.named_parameters()), states(plain.eval())
    fresh, model = make(family, noise=0.0), make(family)
    assert torch.equal(states(fresh), expected)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(model.state_dict()) - set(
        plain.state_dict()
    )
    adapted = states(model)
    assert (adapted - expected).abs().max() > 1e-2
    with merged(model):
        assert torch.allclose(states(model), adapted, atol=5e-5) and not adapters_of(model)
        assert [type(one) for one in find_linears(model).values()] == [type(x) for x in find_linears(plain).values()]
    assert torch.equal(states(model), adapted)
    whole = merge_adapters(model)
    assert torch.allclose(states(whole), adapted, atol=5e-5)
    assert dict(whole.named_parameters()).keys() == names.keys()


def test_what_is_added_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    plain = layer(x)
    add_adapters(nn.Sequential(layer), {"r": 2, "alpha": 3.0, "dropout": 0.0})
    nn.init.normal_(layer.lora_b)
    expected = plain + 1.5 * x @ layer.lora_a.t() @ layer.lora_b.t()
    assert isinstance(layer, nn.Linear) and type(layer) is Adapted.of(nn.Linear)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert torch.allclose(layer.weight + layer.delta(), layer.weight + 1.5 * layer.lora_b @ layer.lora_a)


def test_dropout_is_of_the_way_to_the_adapter_alone():
    torch.manual_seed(0)
    layer = nn.Linear(1000, 3)
    add_adapters(nn.Sequential(layer), {"r": 2, "dropout": 0.5})
    x = torch.ones(1, 1000)
    assert torch.equal(layer.train()(x), layer.eval()(x))  # B is 0
    nn.init.ones_(layer.lora_b)
    assert not torch.equal(layer.train()(x), layer.eval()(x))


@pytest.mark.parametrize(
    ("targets", "count"),
    [("all-linear", 14), (["q_proj", "v_proj"], 4), (["layers.1.mlp.up_proj"], 1), (["mlp.up_proj"], 2)],
)
def test_targets_are_the_ends_of_names(make, targets, count):
    assert len(adapters_of(make(targets=targets))) == count


def test_parts_that_are_asked_for_are_trained_whole_and_the_lowest_layers_can_be_left_out(make, tiny_decoder):
    model = make(whole=["norm", "layers.1.input_layernorm"])
    trained = [n for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n]
    assert trained == ["layers.1.input_layernorm.weight", "norm.weight"]
    other = load_backbone(tiny_decoder("llama"))
    add_adapters(other, {}, other.layers[:1])
    assert all(name.startswith("layers.1.") for name in adapters_of(other)) and len(adapters_of(other)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["q_prj"]}, r"targets has 'q_prj': did you mean q_proj.* The linear layers are q_proj, k_proj"),
        ({"targets": ["query"]}, "targets has 'query': the linear layers are q_proj, k_proj, v_proj, o_proj, gate_p"),
        ({"r": 17}, "r=17 is out of range: it must be at most 16, the smaller side of layers.0.self_attn.k_proj"),
        ({"whole": ["nrm"]}, "whole has 'nrm': did you mean norm"),
    ],
)
def test_what_fits_no_layer_is_named_with_those_that_there_are(tiny_decoder, options, message):
    with pytest.raises(ValueError, match=message):
        check_layers(load_backbone(tiny_decoder("llama")), LoraOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "lora: r=0 is out of range"),
        ({"rank": 8}, "lora has no knob 'rank'"),
        ({"targets": "q_proj"}, "targets='q_proj' must be 'all-linear', or a list"),
        ({"targets": []}, "names no layer: set tuning='head'"),
        ({"dropout": 1.0}, "lora: dropout=1.0"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        LoraOptions(**options)


def test_frozen_weights_are_kept_in_16_bits_where_no_number_changes(make, states):
    model = make()
    q, k = (find_linears(model)[f"layers.0.self_attn.{name}_proj"] for name in "qk")
    for one in choose_layers(model, LoraOptions()).values():
        one.weight.data = one.weight.bfloat16().float()
    k.weight.data[0, 0] = 1 / 3
    v = find_linears(model)["layers.0.self_attn.v_proj"].weight.requires_grad_(True)  # as of `whole`
    before = states(model)
    narrow_frozen(model, torch.bfloat16)
    assert v.dtype == torch.float32  # steps are too small for 16 bits
    assert q.weight.dtype == torch.bfloat16 and k.weight.dtype == torch.float32 and q.lora_a.dtype == torch.float32
    assert torch.equal(states(model), before)
    with merged(model):
        assert type(q) is not nn.Linear and type(k) is nn.Linear  # a sum in 16 bits would be rounded
    assert torch.allclose(states(merge_adapters(model)), before, atol=2e-5)


@pytest.fixture
def random_states():
    torch.manual_seed(0)
    return [{"x.lora_a": torch.randn(3, 8), "x.lora_b": torch.randn(7, 3), "x.weight": torch.ones(1)} for _ in range(3)]


def test_an_average_is_of_what_adapters_add_and_not_of_their_factors(random_states):
    weights = [1.0, 2.0, 0.0]
    mean = average_adapters(random_states, weights)
    products = [state["x.lora_b"] @ state["x.lora_a"] for state in random_states]
    expected = (products[0] + 2 * products[1]) / 3
    assert mean.keys() == {"x.lora_a", "x.lora_b"} and len(mean["x.lora_a"]) == 6
    assert torch.allclose(mean["x.lora_b"] @ mean["x.lora_a"], expected, atol=1e-5)
    low = average_adapters(random_states, weights, rank=3)
    u, s, v = torch.linalg.svd(expected)
    nearest = u[:, :3] * s[:3] @ v[:3]
    assert torch.allclose(low["x.lora_b"] @ low["x.lora_a"], nearest, atol=1e-4)
    a, b = (torch.stack([state[f"x.lora_{one}"] for state in random_states[:2]]).mean(0) for one in "ab")
    assert not torch.allclose(b @ a, torch.stack(products[:2]).mean(0), atol=1e-1)


def test_factors_of_a_higher_rank_have_the_same_product(random_states):
    a, b = factor(random_states[0]["x.lora_a"], random_states[0]["x.lora_b"], 5)
    assert a.shape == (5, 8) and torch.equal(b @ a, random_states[0]["x.lora_b"] @ random_states[0]["x.lora_a"])
    assert a[3:].abs().min() > 0  # else they would never learn


def test_adapters_begin_as_others_of_any_rank_and_strength(make, states):
    saved = make()
    for layer in adapters_of(saved).values():
        assert layer.lora_scale == 8.0
    trained = {name: x for name, x in saved.state_dict().items() if ".lora_" in name}
    for r in (4, 6):
        model = make(noise=0.0, r=r, alpha=3.0)
        begin_adapters(model, trained, 8.0)
        assert torch.allclose(states(model), states(saved), atol=1e-4)
    low = make(noise=0.0, r=1)
    begin_adapters(low, trained, 8.0)
    assert not torch.allclose(states(low), states(saved), atol=1e-2)
    with pytest.raises(ValueError, match=r"has trained layers.0.self_attn.k_proj.lora_a, and here"):
        begin_adapters(make(targets=["q_proj"]), trained, 8.0)
    with pytest.raises(ValueError, match=r"has no adapter at layers.0.self_attn.q_proj: name the same targets"):
        begin_adapters(make(), {}, 8.0)
