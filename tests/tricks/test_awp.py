import pytest
import torch

from kagglekit.tricks.awp import AWP, relative_ascent


@pytest.fixture
def tensors():
    """tensors(): two weights and their gradients."""
    generator = torch.Generator().manual_seed(0)
    return lambda: [torch.randn(shape, generator=generator) for shape in ((4, 3), (2, 5, 2))]


@pytest.mark.parametrize(("strength", "epsilon"), [(0.5, 0.01), (0.001, 0.5), (0.05, 0.05), (1.0, 0.0), (0.0, 0.1)])
def test_a_move_is_relative_to_its_weight_and_no_element_goes_too_far(tensors, strength, epsilon):
    weights, gradients = tensors(), tensors()
    moves = relative_ascent(weights, gradients, strength, epsilon)
    for move, w, g in zip(moves, weights, gradients, strict=True):
        free = strength * w.norm() * g / g.norm()
        assert torch.allclose(move, free.clamp(-epsilon * w.abs(), epsilon * w.abs()))


def test_only_its_direction_counts_of_a_gradient(tensors):
    weights, gradients = tensors(), tensors()
    moves = relative_ascent(weights, gradients, 0.05, 0.1)
    for size in (2.0**16, 1e-6):
        scaled = relative_ascent(weights, [size * g for g in gradients], 0.05, 0.1)
        assert all(torch.allclose(one, other, rtol=1e-4) for one, other in zip(moves, scaled, strict=True))


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_moves_nothing_and_the_others_do(tensors, bad):
    weights, gradients = tensors(), tensors()
    expected = relative_ascent(weights, gradients, 0.5, 0.01)
    if bad == 0:
        gradients[0].zero_()
    gradients[0][1, 1] = bad
    moves = relative_ascent(weights, gradients, 0.5, 0.01)
    assert torch.equal(moves[0], torch.zeros(4, 3)) and torch.equal(moves[1], expected[1])


def test_the_gradient_is_the_sum_of_that_here_and_that_on_the_moved_weights(
    classifier, batch, compute, stepping, gradients, near
):
    model, by_hand = classifier(), classifier()
    AWP(0.1, 0.05).training_step(stepping(model), model, batch)
    compute(by_hand)(batch)[0].backward()
    for weight in by_hand.parameters():
        if weight.ndim > 1:
            move = 0.1 * weight.norm() * weight.grad / weight.grad.norm()
            weight.data += move.clamp(-0.05 * weight.abs(), 0.05 * weight.abs()).detach()
    compute(by_hand)(batch)[0].backward()
    assert near(gradients(model), gradients(by_hand))


def test_all_matrices_are_moved_and_no_bias_and_no_norm(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    AWP().training_step(step, model, batch)
    before, moved = step.weights
    changed = {name for name in before if not torch.equal(before[name], moved[name])}
    assert changed == {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert all(((moved[name] - before[name]).abs() <= 0.0101 * before[name].abs()).all() for name in changed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(classifier, batch, weights, same, stepping, value):
    model, trick = classifier(), AWP()
    before, step = weights(model), stepping(model, spoil=lambda _: model.head.weight.grad[0, :1].fill_(value))
    trick.training_step(step, model, batch)
    assert same(weights(model), before) and torch.isfinite(trick.norm_)
    assert torch.equal(step.weights[1]["head.weight"], before["head.weight"])
    assert all(weight.isfinite().all() for weight in step.weights[1].values())


def test_frozen_weights_are_not_moved_and_a_model_of_them_is_an_error(classifier, batch, stepping):
    model = classifier()
    model.backbone.requires_grad_(False)
    step = stepping(model)
    AWP().training_step(step, model, batch)
    before, moved = step.weights
    assert [name for name in before if not torch.equal(before[name], moved[name])] == ["head.weight"]
    model.head.weight.requires_grad_(False)
    model.zero_grad()
    with pytest.raises(
        ValueError, match="AWP moves weight matrices, and all are frozen: unfreeze some or leave AWP out"
    ):
        AWP().training_step(stepping(model), model, batch)
