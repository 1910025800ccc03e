import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from kagglekit.data.batches import training_batches
from kagglekit.losses.catalogue import default_loss
from kagglekit.training.learning_rates import adamw, find_learning_rate, parameter_groups, smooth, suggest_rate


@pytest.fixture
def tried(classifier, examples):
    """tried(**options): a tiny model, its groups and the table of a trial."""

    def make(model=None, head=1e-2, **options):
        model = model or classifier(dropout=0.1)
        groups = parameter_groups(model, 1e-3, head, 0.5)
        options = {"batch_size": 4, "steps": 30, **options}
        return model, groups, find_learning_rate(model, groups, examples(), default_loss("multiclass"), **options)

    return make


def test_smoothing_is_the_mean_with_weights_that_fall_by_a_tenth_a_step():
    values = [3.0, 1.0, 2.0]
    expected = [3, (0.9 * 3 + 1) / 1.9, (0.81 * 3 + 0.9 * 1 + 2) / 2.71]
    assert np.allclose(smooth(values), expected) and np.allclose(smooth(values, memory=0.0), values)


@pytest.mark.parametrize(("smoothed", "rate"), [([3, 2, 1, 2], 1e-3), ([1, 2, 3, 4], 1e-5), ([4, 3, 2, 1], 1e-2)])
def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss(smoothed, rate):
    table = pd.DataFrame({"learning_rate": [1e-4, 1e-3, 1e-2, 1e-1], "smoothed": smoothed})
    assert suggest_rate(table) == pytest.approx(rate)
    assert suggest_rate(pd.DataFrame({"learning_rate": [0.0123456], "smoothed": [1.0]})) == 0.0012


def test_the_rates_grow_by_equal_factors(tried):
    _, _, table = tried(lowest=1e-6, highest=1e-3)
    assert list(table) == ["learning_rate", "loss", "smoothed"] and len(table) == 30
    assert table["learning_rate"].iloc[[0, -1]].tolist() == pytest.approx([1e-6, 1e-3])
    assert np.allclose(np.diff(np.log(table["learning_rate"])), math.log(1000) / 29)
    assert np.allclose(table["smoothed"], smooth(table["loss"].tolist()))


def test_it_is_the_loop_one_would_write(classifier, examples, tried, monkeypatch):
    """Each group keeps its ratio to the fastest of the backbone: here the head has ten times its rate."""
    steps = []
    monkeypatch.setattr(
        "kagglekit.training.learning_rates.adamw", lambda groups: steps.append(adamw(groups)) or steps[0]
    )
    _, groups, table = tried(classifier(), steps=8, lowest=1e-4, highest=1e-2)
    rates = {group["name"]: group["lr"] for group in steps[0].param_groups}
    assert rates == pytest.approx({"embeddings": 0.0025, "layer 1": 0.005, "layer 2": 0.01, "head": 0.1})
    assert [group["lr"] for group in groups] == [g["lr"] for g in parameter_groups(classifier(), 1e-3, 1e-2, 0.5)]

    model, rows = classifier(), examples()
    optimizer = torch.optim.AdamW(parameter_groups(model, 1.0, 10.0, 0.5))
    ratios = [group["lr"] for group in optimizer.param_groups]
    order = itertools.chain(*(training_batches(rows.tokens.lengths, 4, 0, epoch) for epoch in range(2)))
    losses = []
    for rate, batch in zip(np.geomspace(1e-4, 1e-2, 8), map(rows.__getitems__, order), strict=False):
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        labels = batch.pop("labels")
        loss = torch.nn.functional.cross_entropy(model(**batch)["logits"], labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.allclose(table["loss"], losses, atol=1e-5)


def test_features_keep_their_rate_in_a_trial_and_the_backbone_has_that_of_the_table(classifier, examples, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "kagglekit.training.learning_rates.adamw", lambda groups: steps.append(adamw(groups)) or steps[0]
    )
    model, rows = classifier(features={"numbers": 1}), examples()
    rows.arrays["numbers"] = np.zeros((len(rows), 1), dtype=np.float32)
    groups = parameter_groups(model, 1e-3, layer_decay=0.5)
    find_learning_rate(model, groups, rows, default_loss("multiclass"), 4, steps=8, lowest=1e-4, highest=1e-2)
    rates = {group["name"]: group["lr"] for group in steps[0].param_groups}
    expected = {"embeddings": 0.0025, "layer 1": 0.005, "layer 2": 0.01, "head": 0.01, "features": 3e-3}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_no_trace(classifier, tried, weights, same, training):
    model = classifier(dropout=0.1).train(training)
    before, state = weights(model), torch.get_rng_state()
    tried(model)
    assert same(weights(model), before) and torch.equal(torch.get_rng_state(), state)
    assert model.training is training and all(parameter.grad is None for parameter in model.parameters())


def test_it_leaves_none_after_an_exception_either(classifier, examples, weights, same):
    model = classifier()
    before, calls = weights(model), []

    def loss(logits, labels):
        calls.append(1)
        if len(calls) == 3:
            raise KeyError
        return default_loss("multiclass")(logits, labels)

    with pytest.raises(KeyError):
        find_learning_rate(model, parameter_groups(model, 1e-2), examples(), loss, 4, lowest=1e-2)
    assert same(weights(model), before) and all(parameter.grad is None for parameter in model.parameters())


def test_the_same_seed_gives_the_same_trial_and_another_seed_another(classifier, tried):
    first, again, other = (tried(classifier(), seed=seed)[2] for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_it_stops_where_the_loss_explodes(tried):
    _, _, table = tried(highest=1e3, steps=60)
    assert len(table) < 60 and table["smoothed"].iloc[-1] >= 4 * table["smoothed"].min()
    assert (table["smoothed"][:-1] < 4 * table["smoothed"].cummin()[:-1]).all()


def test_it_stops_at_a_loss_that_is_no_number(classifier, examples):
    model, calls = classifier(), []

    def loss(logits, labels):
        calls.append(1)
        return default_loss("multiclass")(logits, labels) * (math.nan if len(calls) == 5 else 1)

    table = find_learning_rate(model, parameter_groups(model, 1e-2), examples(), loss, 4)
    assert len(table) == len(calls) == 5 and math.isnan(table["loss"].iloc[-1])
    assert math.isfinite(suggest_rate(table))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_suggested_rate_trains(tried, trainer, logged, precision):
    _, _, table = tried(head=None, precision=precision, highest=1.0, steps=80)
    rate = suggest_rate(table)
    assert 1e-4 < rate < 1e-1
    run = trainer(rate=rate, epochs=15)
    run.fit()
    losses = logged(run, "loss")
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
