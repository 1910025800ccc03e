import pytest
import torch

from kagglekit.tricks.fgm import FGM, ascent


def test_ascent_is_epsilon_along_the_unit_gradient():
    gradient = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    move = ascent(gradient, 0.5)
    assert torch.allclose(move, 0.5 * gradient / (gradient**2).sum().sqrt())
    assert move.norm().item() == pytest.approx(0.5)
    assert torch.allclose(ascent(1e-3 * gradient, 0.5), move, rtol=1e-4)  # the size of the gradient does not matter


def test_ascent_takes_one_norm_a_row_when_given_dimensions():
    gradient = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    gradient[2], gradient[3] = 0, float("nan")
    moves = ascent(gradient, 0.5, (1, 2))
    for row, expected in zip(moves, gradient, strict=True):
        assert torch.allclose(row, ascent(expected, 0.5))
    assert moves.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5, 0.5, 0, 0, 0.5])


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_moves_nothing(bad):
    gradient = torch.full((3, 2), bad)
    assert torch.equal(ascent(gradient, 1.0), torch.zeros(3, 2))


@pytest.mark.parametrize("epsilon", [0.0, 0.7])
def test_the_gradient_is_the_sum_of_that_here_and_that_on_the_moved_embeddings(
    classifier, batch, compute, stepping, gradients, near, epsilon
):
    model, by_hand = classifier(), classifier()
    FGM(epsilon).training_step(stepping(model), model, batch)
    compute(by_hand)(batch)[0].backward()
    table = by_hand.get_input_embeddings().weight
    table.data += epsilon * table.grad / table.grad.norm()
    compute(by_hand)(batch)[0].backward()
    assert near(gradients(model), gradients(by_hand))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(classifier, batch, stepping, weights, same, value):
    model, trick = classifier(), FGM()
    before, table = weights(model), model.get_input_embeddings().weight
    step = stepping(model, spoil=lambda _: table.grad[5, :1].fill_(value))
    trick.training_step(step, model, batch)
    assert step.losses[0] == step.losses[1] and same(weights(model), before) and trick.norm_ == 0
