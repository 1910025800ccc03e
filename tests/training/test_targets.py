import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from kagglekit.losses.catalogue import LOSSES, make_loss
from kagglekit.model.heads import OUTPUT_LAYERS
from kagglekit.training.targets import (
    Auxiliary,
    Labels,
    MultiTaskLoss,
    Part,
    make_targets,
    read_auxiliary,
    read_soft_targets,
)

ROWS = 12
CLASSES = np.arange(ROWS) % 3
VALUES = np.column_stack([np.arange(ROWS), np.arange(ROWS)[::-1] ** 2]).astype(np.float32)
LABELS = {  # kind -> labels as `encode_labels` gives them, and how many classes or labels there are
    "binary": (CLASSES % 2, 2),
    "multiclass": (CLASSES, 3),
    "ordinal": (CLASSES, 3),
    "multilabel": (np.column_stack([CLASSES == 0, CLASSES > 0]).astype(np.float32), 2),
    "regression": (VALUES, 2),
}
PAIRS = [(kind, name) for name, kinds in LOSSES.items() for kind in kinds]
COLOURS = Auxiliary("colour", "multiclass", ["blue", "red"], (np.arange(ROWS) % 2).astype(np.float32), 0.5)
GAPS = np.where(np.arange(ROWS) % 4 == 0, np.nan, np.arange(ROWS)).astype(np.float32)
PRICES = Auxiliary("price", "regression", [], GAPS, 2.0)


def targets_of(kind, loss, auxiliary=(), soft=None, apart=False):
    values, columns = LABELS[kind]
    return make_targets(Labels(kind, columns, values, auxiliary, soft), loss, apart)


def logits(outputs, seed=0):
    return torch.randn(ROWS, outputs, generator=torch.Generator().manual_seed(seed))


# Other columns of train


def table(**columns):
    return pd.DataFrame({"id": [f"r{n}" for n in range(len(next(iter(columns.values()))))], **columns})


def test_names_become_classes_in_order_and_empty_cells_have_none():
    (target,) = read_auxiliary(table(colour=["red", " blue", "", "red", "blue", "  "]), {"colour": 0.5})
    assert (target.name, target.kind, target.classes, target.weight) == ("colour", "multiclass", ["blue", "red"], 0.5)
    assert np.array_equal(target.labels, np.float32([1, 0, np.nan, 1, 0, np.nan]), equal_nan=True)
    assert target.labels.dtype == np.float32 and target.columns == 2


def test_many_numbers_are_values_and_a_few_are_classes():
    numbers = [str(n / 2) for n in range(30)] + ["", "NA", "nan"]
    few = [str(n % 5) for n in range(31)] + ["", "None"]
    many, classes = read_auxiliary(table(price=numbers, stars=few), {"price": 1.0, "stars": 2})
    assert (many.kind, many.columns, classes.kind, classes.classes) == ("regression", 1, "multiclass", list("01234"))
    assert np.array_equal(many.labels, np.float32([*(n / 2 for n in range(30)), *[np.nan] * 3]), equal_nan=True)
    assert np.isnan(classes.labels).tolist() == [False] * 31 + [True] * 2


def test_a_name_that_means_missing_among_numbers_is_a_name_among_names():
    (target,) = read_auxiliary(table(region=["EU", "NA", "EU", "NA", "", "NA"]), {"region": 1.0})
    assert target.classes == ["EU", "NA"] and np.isnan(target.labels).tolist() == [False] * 4 + [True, False]


def test_a_weight_of_zero_leaves_a_column_out():
    assert read_auxiliary(table(colour=["a", "b"]), {"colour": 0, "nowhere": 0.0}) == []


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["a", "a", ""], "column 'x' of train holds fewer than two values"),
        (["", "", ""], "fewer than two values"),
        (["NA", "nan", ""], "fewer than two values"),
        (["a", "b", "c"], "holds 3 different values in 3 rows: too many for classes"),
        ([*map(str, range(30)), "1e999"], "numbers that are not finite"),
        ([*map(str, range(30)), "1e40"], "numbers that are not finite"),
    ],
)
def test_a_column_that_is_no_target_is_an_error(column, words):
    with pytest.raises(ValueError, match=words):
        read_auxiliary(table(x=column), {"x": 1.0})


def test_a_column_that_train_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="auxiliary: train has no column 'y'; it has id, x"):
        read_auxiliary(table(x=["1", "2"]), {"y": 1.0})
    with pytest.raises(ValueError, match="soft_targets: train has no column 'y'; it has id, x"):
        read_soft_targets(table(x=["1", "2"]), ["x", "y"], ["a", "b"])


def test_votes_and_probabilities_become_probabilities():
    soft = read_soft_targets(table(yes=["3", "0.25", "0"], no=["1", "0.75", "7"]), ["no", "yes"], ["n", "y"])
    assert soft.tolist() == [[0.25, 0.75], [0.75, 0.25], [1.0, 0.0]] and soft.dtype == np.float32
    assert read_soft_targets(table(yes=["3"]), [], ["n", "y"]) is None


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": ["1", "1"]}, r"soft_targets: 1 columns for 2 classes \(n, y\)"),
        (
            {"a": ["1", "1"], "b": ["1", "?"]},
            r"column 'b' holds '\?' in data row 2 \(id 'r1'\), which is no number \(1 such rows\)",
        ),
        ({"a": ["1", ""], "b": ["1", "2"]}, r"column 'a' holds '' in data row 2"),
        ({"a": ["1", "-1"], "b": ["1", "2"]}, r"data row 2 \(id 'r1'\) has a number below 0"),
        ({"a": ["0", "1"], "b": ["0", "2"]}, r"data row 1 \(id 'r0'\) has .* zeros alone"),
        ({"a": ["1", "1e999"], "b": ["1", "2"]}, "data row 2 .* one without end"),
    ],
)
def test_soft_targets_that_are_none_are_an_error(columns, words):
    with pytest.raises(ValueError, match=words):
        read_soft_targets(table(**columns), list(columns), ["n", "y"])


# Losses of several targets


def test_losses_add_up_by_their_weights():
    parts = [Part(F.mse_loss, slice(0, 2)), Part(F.l1_loss, slice(2, 3), 0.5)]
    x, y = logits(3), logits(3, seed=1)
    expected = F.mse_loss(x[:, :2], y[:, :2]) + 0.5 * F.l1_loss(x[:, 2:], y[:, 2:])
    assert torch.allclose(MultiTaskLoss(parts)(x, y), expected)


def test_rows_without_a_label_are_left_out_of_that_target_alone():
    parts = [Part(F.mse_loss, slice(0, 1)), Part(F.mse_loss, slice(1, 3), partial=True)]
    x, y = logits(3).requires_grad_(), logits(3, seed=1)
    y[::2, 1:] = torch.nan
    y[1, 2] = torch.nan  # one of two columns
    loss = MultiTaskLoss(parts)(x, y)
    rows = [3, 5, 7, 9, 11]
    assert torch.allclose(loss, F.mse_loss(x[:, 0], y[:, 0]) + F.mse_loss(x[rows, 1:], y[rows, 1:]))
    loss.backward()
    assert x.grad.isfinite().all() and (x.grad[::2, 1:] == 0).all()


def test_a_batch_without_any_label_of_a_target_leaves_it_and_its_weight_alone():
    parts = [Part(F.mse_loss, slice(0, 1)), Part(F.mse_loss, slice(1, 2), partial=True)]
    x, y, s = logits(2).requires_grad_(), logits(2, seed=1), torch.tensor([0.5, 0.5], requires_grad=True)
    y[:, 1] = torch.nan
    MultiTaskLoss(parts, s)(x, y).backward()
    assert (x.grad[:, 1] == 0).all() and (x.grad[:, 0] != 0).any()
    assert s.grad[1] == 0 and s.grad[0] != 0


def test_learned_weights_are_those_of_the_paper():
    parts = [Part(F.mse_loss, slice(0, 1)), Part(F.l1_loss, slice(1, 2), 0.5)]
    x, y, s = logits(2), logits(2, seed=1), torch.tensor([0.3, -0.7])
    first, second = F.mse_loss(x[:, :1], y[:, :1]), F.l1_loss(x[:, 1:], y[:, 1:])
    expected = first * math.exp(-0.3) + 0.3 + 0.5 * (second * math.exp(0.7) - 0.7)
    assert torch.allclose(MultiTaskLoss(parts, s)(x, y), expected)


def test_learned_weights_of_zero_add_up_like_fixed_ones():
    targets = targets_of("multiclass", {}, [COLOURS, PRICES])
    y, x = torch.from_numpy(targets.labels), logits(6)
    plain = targets.loss(x, y)
    targets.loss.log_variances = torch.zeros(3)
    assert torch.equal(targets.loss(x, y), plain)


def test_a_learned_weight_settles_where_it_is_one_over_the_loss():
    parts = [Part(F.mse_loss, slice(0, 1)), Part(F.mse_loss, slice(1, 2))]
    x, y, s = logits(2), logits(2, seed=1) * torch.tensor([1.0, 2.0]), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        MultiTaskLoss(parts, s)(x, y).backward()
        optimizer.step()
    assert torch.allclose((-s).exp(), 1 / (x - y).square().mean(dim=0), rtol=1e-2)


def test_as_many_learned_weights_as_targets_or_an_error():
    with pytest.raises(ValueError, match="zip"):
        MultiTaskLoss([Part(F.mse_loss, slice(0, 1))], torch.zeros(2))(logits(1), logits(1))


# What training rows teach


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_task_alone_has_the_plain_labels_and_loss(kind, name):
    labels, columns = LABELS[kind]
    targets = targets_of(kind, {name: {}})
    loss, link = make_loss({name: {}}, kind, labels, columns)
    encoded, center, scale = OUTPUT_LAYERS[link].encode(labels, columns)
    assert np.array_equal(targets.labels, encoded) and (targets.output_layer, targets.auxiliary) == (link, [])
    assert np.array_equal(targets.center, center) and np.array_equal(targets.scale, scale)
    x, y = logits(targets.outputs), torch.from_numpy(targets.labels)
    assert torch.equal(targets.loss(x, y), loss(x, y))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_targets_beside_add_their_losses_and_leave_that_of_the_task_as_it_is(kind, name):
    plain = targets_of(kind, {name: {}})
    both = targets_of(kind, {name: {}}, [COLOURS, PRICES])
    n = plain.outputs
    assert both.auxiliary == [("softmax", 2), ("identity", 1)] and (both.output_layer, both.outputs) == (
        plain.output_layer,
        n,
    )
    assert both.labels.shape == (ROWS, n + 3) and both.labels.dtype == np.float32
    x, y = logits(n + 3), torch.from_numpy(both.labels)
    there = ~torch.from_numpy(GAPS).isnan()
    values = torch.from_numpy((GAPS - np.nanmean(GAPS)) / np.nanstd(GAPS))
    ours = plain.loss(x[:, :n], torch.from_numpy(plain.labels))
    colours = F.cross_entropy(x[:, n : n + 2], torch.arange(ROWS) % 2)
    prices = F.mse_loss(x[there, n + 2], values[there])
    assert torch.allclose(both.loss(x, y), ours + 0.5 * colours + 2 * prices, rtol=1e-5)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
@pytest.mark.parametrize("auxiliary", [[], [COLOURS]])
def test_columns_apart_have_a_loss_each(kind, auxiliary):
    columns = LABELS[kind][1]
    whole = targets_of(kind, {}, [COLOURS])
    apart = targets_of(kind, {}, auxiliary, apart=True)
    assert len(apart.loss.parts) == columns + len(auxiliary)
    x, y = logits(columns + 2), torch.from_numpy(whole.labels)
    beside = 0.5 * F.cross_entropy(x[:, columns:], torch.arange(ROWS) % 2)
    expected = columns * (whole.loss(x, y) - beside) + (beside if auxiliary else 0)
    ours = x if auxiliary else x[:, :columns]
    assert torch.allclose(apart.loss(ours, torch.from_numpy(apart.labels)), expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [[2.0, 3.0], "balanced"])
def test_each_column_apart_has_its_own_weight_of_positives(weights):
    labels = LABELS["multilabel"][0]
    recipe = {"bce": {"pos_weight": weights}}
    whole, apart = (targets_of("multilabel", recipe, apart=a) for a in (False, True))
    x, y = logits(2), torch.from_numpy(labels)
    assert torch.allclose(apart.loss(x, y), 2 * whole.loss(x, y), rtol=1e-5)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal"])
def test_classes_are_one_target_also_apart(kind):
    assert len(targets_of(kind, {}, [COLOURS], apart=True).loss.parts) == 2


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "soft_f1"])
def test_soft_targets_take_the_place_of_classes(name):
    labels, columns = LABELS["multiclass"]
    soft = np.random.default_rng(0).dirichlet(np.ones(3), ROWS)
    x = logits(3)
    alone = targets_of("multiclass", {name: {}}, soft=soft)
    assert np.allclose(alone.labels, soft) and alone.labels.dtype == np.float32
    beside = targets_of("multiclass", {name: {}}, [PRICES], soft=soft)
    assert np.array_equal(beside.labels[:, :3], alone.labels)
    hard = targets_of("multiclass", {name: {}}, soft=np.eye(3)[labels])
    loss, _ = make_loss({name: {}}, "multiclass", labels, columns)
    assert torch.allclose(hard.loss(x, torch.from_numpy(hard.labels)), loss(x, torch.from_numpy(labels)), atol=1e-6)
    assert not torch.allclose(alone.loss(x, torch.from_numpy(alone.labels)), loss(x, torch.from_numpy(labels)))


def test_values_beside_are_standardised_over_the_rows_that_have_them():
    block = targets_of("multiclass", {}, [PRICES]).labels[:, 3]
    assert np.isnan(block).tolist() == np.isnan(GAPS).tolist()
    assert np.nanmean(block) == pytest.approx(0, abs=1e-6) and np.nanstd(block) == pytest.approx(1, abs=1e-6)


def test_a_class_that_these_rows_lack_is_learned_as_rare_and_no_value_at_all_is_an_error():
    rare = Auxiliary("colour", "multiclass", ["blue", "red"], np.zeros(ROWS, np.float32), 1.0)
    targets = targets_of("multiclass", {}, [rare])
    assert targets.loss(logits(5), torch.from_numpy(targets.labels)).isfinite()
    with pytest.raises(ValueError, match="no row that this fold trains on has a value of 'price'"):
        targets_of("multiclass", {}, [Auxiliary("price", "regression", [], GAPS * np.nan, 1.0)])
