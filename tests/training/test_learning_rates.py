import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from kagglekit.training.learning_rates import (
    adamw,
    learning_rates,
    make_schedule,
    parameter_groups,
    suggest_learning_rate,
)
from kagglekit.training.recipe import SCHEDULES

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]


def rates(model, groups):
    """Parameter name -> (learning rate, weight decay, group name)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"], g["name"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group_and_rates_fall_from_layer_to_layer_as_the_module_tree_has_them(
    classifier, backbones, name
):
    model = classifier(folder=backbones[name], pooling="attention")
    groups = parameter_groups(model, 1e-4, 1e-3, 0.5, 0.01)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) and set(listed) == {id(parameter) for parameter in model.parameters()}
    found = rates(model, groups)
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


def test_decay_one_is_the_same_rate_everywhere_and_groups_are_named(classifier):
    groups = parameter_groups(classifier(), 1e-4, weight_decay=0.02)
    assert {group["lr"] for group in groups} == {1e-4}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.02}
    assert {group["name"] for group in groups} == {"embeddings", "layer 1", "layer 2", "head"}
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))


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


@pytest.mark.parametrize(
    ("layers", "full", "lora"),
    [
        (10_000, 2e-4, 1e-3),
        (10_600_000, 1.6e-4, 1e-3),
        (86_000_000, 2e-5, 1e-3),
        (106_000_000, 1.6e-5, 1e-3),
        (440_000_000, 1e-5, 2e-4),
        (10**9, 1e-5, 1e-4),
    ],
)
def test_the_suggested_rate_falls_with_the_size_of_the_layers(layers, full, lora):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(1000, 100, device="meta")
            self.layers = nn.Linear(layers, 1, bias=False, device="meta")

        def get_input_embeddings(self):
            return self.words

    assert suggest_learning_rate(Backbone()) == pytest.approx(full)
    assert suggest_learning_rate(Backbone(), "lora") == suggest_learning_rate(Backbone(), "qlora") == lora
    assert suggest_learning_rate(Backbone(), "head") == 1e-3


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


GROUPS = [{"name": "embeddings", "lr": 1e-5}, {"name": "layer 1", "lr": 2e-5}, {"name": "head", "lr": 1e-3}]
FALL = {  # share of the way from the end of the warm-up to the end -> share of the rate, with three cycles
    "linear": lambda way: 1 - way,
    "cosine": lambda way: (1 + math.cos(math.pi * way)) / 2,
    "constant_with_warmup": lambda way: 1.0,
    "constant": lambda way: 1.0,
    "polynomial": lambda way: (1 - way) ** 2,
    "cosine_with_restarts": lambda way: (1 + math.cos(math.pi * (3 * way % 1))) / 2,
    "cosine_warm_restarts": lambda way: (1 + math.cos(math.pi * (3 * way % 1))) / 2,
}


def rates_of(schedule, warmup, steps=60, cycles=3, growth=1):
    """The share of the full rate at each step."""
    table = learning_rates(GROUPS, schedule, warmup, cycles, steps, growth)
    return (table["layer 1"] / 2e-5).to_numpy()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_every_schedule_is_the_formula_of_its_name(schedule, warmup):
    rise = 0 if schedule == "constant" else round(60 * warmup)
    expected = [step / rise if step < rise else FALL[schedule]((step - rise) / (60 - rise)) for step in range(60)]
    assert np.allclose(rates_of(schedule, warmup), expected, atol=2e-4)  # polynomial ends at 1e-4, not at 0
    assert set(FALL) == set(SCHEDULES)


@pytest.mark.parametrize("schedule", ["cosine_with_restarts", "cosine_warm_restarts"])
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_one_cycle_is_plain_cosine(schedule, warmup):
    for growth in (1, 2):
        assert np.allclose(rates_of(schedule, warmup, cycles=1, growth=growth), rates_of("cosine", warmup))


@pytest.mark.parametrize(("steps", "warmup", "starts"), [(70, 0.0, [0, 10, 30]), (75, 0.1, [8, 18, 38])])
def test_growing_cycles_are_each_twice_as_long_as_the_one_before(steps, warmup, starts):
    rates = rates_of("cosine_warm_restarts", warmup, steps, growth=2)
    assert np.flatnonzero(rates == 1).tolist() == starts
    assert rates[starts[1] - 1] < 0.03 and rates[-1] < 0.03


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_shortest_runs_have_a_schedule_too(schedule, steps):
    rates = rates_of(schedule, 0.5, steps)
    assert len(rates) == steps and (rates >= 0).all() and rates.max() == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_table_has_a_row_a_step_and_the_groups_keep_their_ratios(schedule, classifier):
    table = learning_rates(GROUPS, schedule, 0.1, 2, 20)
    assert table.index.tolist() == list(range(1, 21)) and list(table) == ["embeddings", "layer 1", "head"]
    assert (table.dtypes == np.float64).all() and isinstance(table.index, pd.RangeIndex)
    assert np.allclose(table["head"], 50 * table["layer 1"]) and np.allclose(table["layer 1"], 2 * table["embeddings"])
    assert table.max().tolist() == pytest.approx([1e-5, 2e-5, 1e-3])
    groups, again = (parameter_groups(classifier(), 1e-4, 1e-3, 0.5) for _ in range(2))
    assert list(learning_rates(groups, schedule, 0.1, 2, 20)) == ["embeddings", "layer 1", "layer 2", "head"]
    assert [group["lr"] for group in groups] == [group["lr"] for group in again]  # those to train with are left alone


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_that_is_loaded_goes_on_as_the_one_that_was_saved(schedule, tmp_path):
    def make():
        optimizer = adamw([{"params": [torch.zeros(1, requires_grad=True)], "lr": group["lr"]} for group in GROUPS])
        return optimizer, make_schedule(optimizer, schedule, 30, 3, 2, 2)

    def go(optimizer, scheduler, steps):
        rows = []
        for _ in range(steps):
            rows.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
        return rows

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        straight = go(*make(), 30)
        for stop in (1, 3, 12, 13, 29):
            stopped, resumed = make(), make()
            rows = go(*stopped, stop)
            for k, part in enumerate(stopped):
                torch.save(part.state_dict(), tmp_path / f"{k}.pt")
            for k, part in enumerate(resumed):
                part.load_state_dict(torch.load(tmp_path / f"{k}.pt", weights_only=True))
            assert rows + go(*resumed, 30 - stop) == straight
