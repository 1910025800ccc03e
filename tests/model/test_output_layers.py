import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kagglekit.model.heads import OUTPUT_LAYERS

CLASSES = np.array([2, 0, 1, 3, 3, 1])
SURE = 60.0  # a logit whose sigmoid is 1 in float32


def sure_logits(name, targets):
    """Logits of a model that has learned the targets by heart."""
    if name in ("softmax", "expectation"):
        return SURE * torch.eye(4)[torch.from_numpy(targets)]
    if name == "identity":
        return torch.from_numpy(targets)
    return torch.logit(torch.from_numpy(targets), eps=0) if name == "unit" else SURE * (2 * torch.tensor(targets) - 1)


def decoded(name, logits, center, scale):
    return OUTPUT_LAYERS[name].decode(logits, torch.from_numpy(center), torch.from_numpy(scale))


@pytest.mark.parametrize("name", ["identity", "unit", "corn", "cumulative", "expectation"])
def test_logits_that_are_sure_of_ordered_classes_decode_to_them(name):
    targets, center, scale = OUTPUT_LAYERS[name].encode(CLASSES, 4)
    found = decoded(name, sure_logits(name, targets), center, scale)
    assert found.shape == (6, 1) and found.dtype == torch.float32
    torch.testing.assert_close(found[:, 0], torch.tensor(CLASSES, dtype=torch.float32), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "labels"), [("softmax", CLASSES), ("sigmoid", np.array([[0, 1, 1, 0], [1, 0, 1, 1]], dtype=np.float32))]
)
def test_logits_that_are_sure_of_classes_or_labels_decode_to_them(name, labels):
    targets, center, scale = OUTPUT_LAYERS[name].encode(labels, 4)
    assert targets is labels and center.tolist() == [0] * 4 and scale.tolist() == [1] * 4
    expected = torch.eye(4)[labels] if name == "softmax" else torch.tensor(labels)
    torch.testing.assert_close(decoded(name, sure_logits(name, targets), center, scale), expected)


VALUES = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.floats(-1000, 1000, width=32))


@pytest.mark.parametrize("name", ["identity", "unit"])
@settings(max_examples=50, deadline=None)
@given(values=VALUES)
def test_logits_that_are_sure_of_values_decode_to_them(name, values):
    targets, center, scale = OUTPUT_LAYERS[name].encode(values, values.shape[1])
    assert targets.dtype == center.dtype == scale.dtype == np.float32
    assert targets.shape == values.shape and center.shape == scale.shape == values.shape[1:]
    found = decoded(name, sure_logits(name, targets), center, scale)
    torch.testing.assert_close(found, torch.from_numpy(values), atol=1e-3, rtol=1e-3)


def test_identity_standardises():
    values = np.random.default_rng(0).normal([5, -3], [2, 0.1], (50, 2)).astype(np.float32)
    targets, center, scale = OUTPUT_LAYERS["identity"].encode(values, 2)
    assert targets.mean(axis=0) == pytest.approx(0, abs=1e-4) and targets.std(axis=0) == pytest.approx(1, abs=1e-4)
    assert center == pytest.approx(values.mean(axis=0)) and scale == pytest.approx(values.std(axis=0))


def test_unit_stretches_from_0_to_1():
    values = np.array([[10.0, 4.0], [20.0, 4.0], [15.0, 4.0]], dtype=np.float32)
    targets, center, scale = OUTPUT_LAYERS["unit"].encode(values, 2)
    assert targets.tolist() == [[0, 0], [1, 0], [0.5, 0]]
    assert center.tolist() == [10, 4] and scale == pytest.approx([10, 1e-6])


@pytest.mark.parametrize("name", ["corn", "cumulative"])
def test_levels_say_whether_the_label_is_above(name):
    targets, center, scale = OUTPUT_LAYERS[name].encode(np.array([0, 1, 2]), 3)
    assert targets.tolist() == [[0, 0], [1, 0], [1, 1]] and targets.dtype == np.float32
    assert len(center) == len(scale) == 2


@pytest.mark.parametrize("name", ["corn", "cumulative"])
def test_two_ordered_classes_are_one_level(name):
    targets, center, scale = OUTPUT_LAYERS[name].encode(np.array([0, 1]), 2)
    assert targets.tolist() == [[0], [1]]
    assert decoded(name, torch.tensor([[0.0]]), center, scale).item() == 0.5


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("corn", lambda logits: logits.sigmoid().cumprod(1).sum(1)),
        ("cumulative", lambda logits: logits.sigmoid().sum(1)),
        ("expectation", lambda logits: logits.softmax(1) @ torch.arange(3.0)),
    ],
)
def test_corn_multiplies_levels_cumulative_adds_them_and_expectation_is_the_mean_class(name, reference):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    found = decoded(name, logits, np.zeros(3, np.float32), np.ones(3, np.float32))
    torch.testing.assert_close(found[:, 0], reference(logits))


@pytest.mark.parametrize("name", OUTPUT_LAYERS)
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_predictions_of_bf16_and_extreme_logits_are_finite_float32_in_range(name, size):
    labels = np.eye(4, dtype=np.float32)[CLASSES] if name == "sigmoid" else CLASSES
    _, center, scale = OUTPUT_LAYERS[name].encode(labels, 4)
    signs = torch.tensor([[1, -1, 1, 1], [-1, -1, -1, 1]])[:, : len(center)]
    found = decoded(name, (size * signs).to(torch.bfloat16), center, scale)
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    if name != "identity":
        assert found.min() >= 0 and found.max() <= 3
