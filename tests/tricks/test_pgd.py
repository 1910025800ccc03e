from functools import partial

import pytest
import torch

from kagglekit.tricks.pgd import PGD, climb, project

TABLE = "backbone.embeddings.word_embeddings.weight"


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 3.0])
def test_project_is_the_nearest_point_of_the_ball(draw, epsilon):
    move = draw(4, 3)
    norm = move.pow(2).sum().sqrt()
    assert torch.allclose(project(move, epsilon), move * min(1, epsilon / norm))
    inside = 0.01 * move
    assert torch.equal(project(inside, 0.3), inside)
    assert torch.equal(project(torch.zeros(4, 3), epsilon), torch.zeros(4, 3))


def test_climb_is_a_unit_step_and_back_into_the_ball(draw):
    move, gradient = 0.1 * draw(4, 3), draw(4, 3)
    moved = move + 0.4 * gradient / gradient.norm()
    assert torch.allclose(climb(move, gradient, 0.4, 9.0), moved)
    assert torch.allclose(climb(move, gradient, 0.4, 0.2), 0.2 * moved / moved.norm())


def test_climb_takes_one_norm_a_row_when_given_dimensions(draw):
    move, gradient = draw(5, 4, 3), draw(5, 4, 3)
    together = climb(move, gradient, 0.5, 1.0, (1, 2))
    for row in range(5):
        assert torch.allclose(together[row], climb(move[row], gradient[row], 0.5, 1.0), atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_leaves_the_move_as_it_is(draw, bad):
    move = 0.1 * draw(3, 2)
    assert torch.equal(climb(move, torch.full((3, 2), bad), 1.0, 1.0), move)


@pytest.mark.parametrize(("steps", "epsilon"), [(1, 1.0), (2, 1.0), (3, 0.5), (4, 1.0)])
def test_the_gradient_is_the_clean_one_and_that_at_the_last_point(
    classifier, batch, compute, stepping, gradients, near, steps, epsilon
):
    model, by_hand = classifier(), classifier()
    PGD(steps, epsilon, 0.3).training_step(stepping(model), model, batch)
    table = by_hand.get_input_embeddings().weight
    origin, move = table.detach().clone(), torch.zeros_like(table)
    compute(by_hand)(batch)[0].backward()
    clean = [gradient.clone() for gradient in gradients(by_hand)]
    for _ in range(steps):
        move += 0.3 * table.grad / table.grad.norm()
        move *= min(1.0, epsilon / move.norm().item())
        table.data = origin + move
        by_hand.zero_grad()
        compute(by_hand)(batch)[0].backward()
    assert near(gradients(model), [first + last for first, last in zip(clean, gradients(by_hand), strict=True)])


def test_with_a_trick_inside_that_does_nothing_it_is_the_same(classifier, batch, stepping, gradients, near):
    """Where one may read other words or gradients, all rows are moved and every gradient is computed."""
    models = [classifier() for _ in range(2)]
    for model, wrap in zip(models, (lambda step: step, partial), strict=True):
        step = stepping(model, spoil=lambda _: found.append([g is not None for g in gradients(model)]))  # noqa: B023
        found = []
        PGD(3).training_step(wrap(step), model, batch)
        assert [sum(one) for one in found[1:3]] == [1 if wrap is not partial else sum(found[0])] * 2
        assert found[3] == found[0]
    assert near(*map(gradients, models), rtol=1e-6)


def test_gradients_gathered_before_stay(classifier, batch, stepping):
    model, plain = classifier(), classifier()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.head.bias.grad += 5.0
    for one in (model, plain):
        PGD().training_step(stepping(one), one, batch)
    assert torch.allclose(model.head.bias.grad, 5 + plain.head.bias.grad)
    assert torch.allclose(model.head.weight.grad, plain.head.weight.grad)


@pytest.mark.parametrize("break_at", [2, 3])
def test_the_clean_gradient_is_back_after_an_exception(classifier, batch, stepping, break_at):
    model, plain = classifier(), classifier()
    with pytest.raises(InterruptedError):
        PGD().training_step(stepping(model, break_at=break_at), model, batch)
    stepping(plain)(batch)
    assert torch.equal(model.head.weight.grad, plain.head.weight.grad)


def test_no_point_is_outside_the_ball(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    PGD(5, 0.5, 0.3).training_step(step, model, batch)
    lengths = [(seen[TABLE] - step.weights[0][TABLE]).norm().item() for seen in step.weights]
    assert lengths == pytest.approx([0, 0.3, *[0.5] * 4], abs=0.1) and max(lengths) < 0.5 + 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(
    classifier, batch, weights, same, stepping, value, bad
):
    model, trick = classifier(), PGD()
    before, table = weights(model), model.get_input_embeddings().weight
    step = stepping(model, spoil=lambda number: table.grad[5, :1].fill_(value) if number == bad else None)
    trick.training_step(step, model, batch)
    tables = [seen[TABLE] for seen in step.weights]
    assert same(weights(model), before) and all(table.isfinite().all() for table in tables)
    assert torch.equal(tables[bad], tables[bad - 1])  # the move before stands
    assert torch.isfinite(trick.norm_)
