import numpy as np
import pytest
import torch
from torch import nn

from kagglekit.optim import adamw, parameter_groups, suggest_learning_rate

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]


def rates(model, groups):
    """Parameter name -> (learning rate, weight decay, group name)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"], g["name"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_every_trainable_parameter_is_in_exactly_one_group(classifier, backbones, name, layer_decay):
    model = classifier(folder=backbones[name], pooling="attention")
    groups = parameter_groups(model, 1e-4, 1e-3, layer_decay)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_rates_fall_from_layer_to_layer_as_the_module_tree_has_them(classifier, backbones, name):
    model = classifier(folder=backbones[name], pooling="attention")
    found = rates(model, parameter_groups(model, 1e-4, 1e-3, 0.5, 0.01))
    layers = max((m for m in model.backbone.modules() if isinstance(m, nn.ModuleList)), key=len)
    of_layers = {id(p): depth for depth, layer in enumerate(layers) for p in layer.parameters()}
    assert len(layers) == 2
    for parameter_name, parameter in model.named_parameters():
        rate, decay, _ = found[parameter_name]
        assert decay == (0.01 if parameter.ndim > 1 else 0)
        if id(parameter) in of_layers:
            assert rate == pytest.approx([5e-5, 1e-4][of_layers[id(parameter)]])
        elif not parameter_name.startswith("backbone"):
            assert rate == 1e-3
        elif "embeddings" in parameter_name and "rel_" not in parameter_name:
            assert rate == pytest.approx(2.5e-5)
        else:  # DeBERTa's relative positions and last norms belong to what stands above the layers
            assert rate == pytest.approx(2.5e-5 if "embeddings_project" in parameter_name else 1e-4)


def test_decay_one_is_the_same_rate_everywhere(classifier):
    groups = parameter_groups(classifier(), 1e-4, weight_decay=0.02)
    assert {group["lr"] for group in groups} == {1e-4}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.02}


def test_groups_are_named(classifier):
    names = [group["name"] for group in parameter_groups(classifier(), 1e-4)]
    assert set(names) == {"embeddings", "layer 1", "layer 2", "head"}


def test_frozen_parameters_are_in_no_group_and_change_no_depth(classifier):
    model, plain = classifier(), classifier()
    model.backbone.encoder.layer[0].requires_grad_(False)
    model.backbone.embeddings.requires_grad_(False)
    found = rates(model, parameter_groups(model, 1e-4, 1e-3, 0.5))
    expected = rates(plain, parameter_groups(plain, 1e-4, 1e-3, 0.5))
    assert found == {name: value for name, value in expected.items() if "layer.1." in name or "backbone" not in name}


def test_a_backbone_without_layers_is_all_embeddings():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

    model = Bag()
    assert rates(model, parameter_groups(model, 1.0, 2.0, 0.5))["backbone.weight"] == (1.0, 0.01, "embeddings")


@pytest.mark.parametrize(("layers", "rate"), [(10_000, 2e-4), (10_600_000, 1.6e-4), (86_000_000, 2e-5), (10**9, 1e-5)])
def test_the_suggested_rate_falls_with_the_size_of_the_layers(layers, rate):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(1000, 100, device="meta")
            self.layers = nn.Linear(layers, 1, bias=False, device="meta")

        def get_input_embeddings(self):
            return self.words

    assert suggest_learning_rate(Backbone()) == pytest.approx(rate)


def test_adamw_is_that_of_torch_group_by_group(classifier):
    model, plain = classifier(), classifier()
    ours = adamw(parameter_groups(model, 1e-3, 1e-2, 0.5))
    theirs = torch.optim.AdamW(parameter_groups(plain, 1e-3, 1e-2, 0.5), fused=False)
    for _ in range(3):
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            one.grad = torch.sin(torch.arange(one.numel(), dtype=torch.float32)).reshape(one.shape)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert np.allclose(one.detach(), other.detach(), atol=1e-6)
