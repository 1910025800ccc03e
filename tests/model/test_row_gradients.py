"""Gradients of word embeddings in rows, against those of PyTorch."""

import copy

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from kagglekit.model.row_gradients import clip_norm
from kagglekit.tricks.weights import gradients_aside


@pytest.fixture
def pair(classifier):
    """A model, and the same with PyTorch's own embeddings."""
    model = classifier().train()
    plain = copy.deepcopy(model)
    vars(plain.get_input_embeddings()).pop("forward")
    return model, plain


def backward(model, examples, rows):
    batch = examples.__getitems__(rows)
    labels = batch.pop("labels")
    torch.nn.functional.cross_entropy(model(**batch)["logits"], labels).backward()


def gradient(model):
    return model.get_input_embeddings().weight.grad


def test_the_gradient_is_that_of_pytorch_and_the_table_is_used_again(pair, examples):
    table, rows = None, examples(rows=12)
    for step in range(3):
        for model in pair:
            backward(model, rows, [step, step + 1, 7])
            backward(model, rows, [step + 5, 2])  # they add up
        ours, theirs = map(gradient, pair)
        assert theirs.abs().sum() > 0 and torch.allclose(ours, theirs, atol=1e-7)
        assert not ours[0].any()  # the padding
        assert table is None or ours is table
        table = ours
        for model in pair:
            model.zero_grad()
        assert gradient(pair[0]) is None and not table.any()


def test_gradients_set_aside_come_back(pair, examples):
    model, rows = pair[0], examples(rows=12)
    backward(model, rows, [0, 1])
    first = gradient(model).clone()
    with gradients_aside(model):
        backward(model, rows, [5, 6])
        assert not torch.equal(gradient(model), first)
    assert torch.equal(gradient(model), first)
    model.zero_grad()
    backward(model, rows, [0, 1])
    assert torch.equal(gradient(model), first)


@pytest.mark.parametrize("most", [0.01, 1e6])
def test_clipping_is_that_of_pytorch(pair, examples, most):
    rows, norms = examples(rows=12), []
    for model, clip in zip(
        pair,
        (lambda m: clip_norm(m, most), lambda m: clip_grad_norm_(m.parameters(), most)),
        strict=True,
    ):
        backward(model, rows, [0, 1, 2])
        norms.append(clip(model).item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    for ours, theirs in zip(*(m.parameters() for m in pair), strict=True):
        assert (ours.grad is None and theirs.grad is None) or torch.allclose(
            ours.grad, theirs.grad, rtol=1e-5, atol=1e-9
        )


def test_frozen_embeddings_have_none_and_free_gives_the_memory_back(pair, examples):
    model, rows = pair[0], examples(rows=12)
    backward(model, rows, [0])
    model.zero_grad()
    model.row_gradients.free()
    assert model.row_gradients.table is None
    model.get_input_embeddings().weight.requires_grad_(False)
    backward(model, rows, [0])
    assert gradient(model) is None
