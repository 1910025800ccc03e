import pytest
import torch

from kagglekit.training.trick import Trick
from kagglekit.tricks import FGM
from kagglekit.tricks.fgm import ascent


class Twice(Trick):
    def training_step(self, step, model, inputs):
        self.steps_ += 1
        loss = step(inputs)
        step(inputs)
        return loss


def step_of(compute, model, losses, break_at=None):
    """Forward and backward, and a note of each loss."""

    def step(inputs):
        loss, _ = compute(model)(inputs)
        loss.backward()
        losses.append(loss.detach())
        if len(losses) == break_at:
            raise InterruptedError
        return loss.detach()

    return step


def test_ascent_is_epsilon_along_the_unit_gradient():
    gradient = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    move = ascent(gradient, 0.5)
    assert torch.allclose(move, 0.5 * gradient / (gradient**2).sum().sqrt())
    assert move.norm().item() == pytest.approx(0.5)
    assert torch.allclose(ascent(1e-3 * gradient, 0.5), move, rtol=1e-4)  # the size of the gradient does not matter


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_moves_nothing(bad):
    gradient = torch.full((3, 2), bad)
    assert torch.equal(ascent(gradient, 1.0), torch.zeros(3, 2))


def test_fgm_with_zero_epsilon_is_the_gradient_counted_twice(fitted, weights, same, classifier, batch, compute):
    model, plain = classifier(), classifier()
    FGM(0.0).training_step(step_of(compute, model, []), model, batch)
    compute(plain)(batch)[0].backward()
    for ours, once in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, 2 * once.grad, rtol=1e-5, atol=1e-7)
    ours, twice = fitted([FGM(0.0)], "fgm", dropout=0.1), fitted([Twice()], "twice", dropout=0.1)
    assert same(weights(ours.model), weights(twice.model))


def test_the_gradient_is_the_sum_of_that_here_and_that_on_the_moved_embeddings(classifier, batch, compute):
    model, by_hand = classifier(), classifier()
    FGM(0.7).training_step(step_of(compute, model, []), model, batch)
    compute(by_hand)(batch)[0].backward()
    table = by_hand.get_input_embeddings().weight
    table.data += 0.7 * table.grad / table.grad.norm()
    compute(by_hand)(batch)[0].backward()
    for ours, sums in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours.grad, sums.grad, rtol=1e-4, atol=1e-6)


def test_weights_inputs_and_mode_are_as_before(classifier, batch, compute, weights, same):
    model, inputs = classifier(), {name: tensor.clone() for name, tensor in batch.items()}
    before = weights(model)
    state = torch.get_rng_state()
    FGM(3.0).training_step(step_of(compute, model, []), model, batch)
    assert same(weights(model), before) and same(batch, inputs)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("break_at", [1, 2])
def test_weights_are_as_before_after_an_exception_in_either_pass(classifier, batch, compute, weights, same, break_at):
    model = classifier()
    before = weights(model)
    with pytest.raises(InterruptedError):
        FGM(3.0).training_step(step_of(compute, model, [], break_at), model, batch)
    assert same(weights(model), before)


@pytest.mark.parametrize("epsilon", [0.01, 0.1])
def test_the_loss_on_moved_embeddings_is_higher(classifier, batch, compute, epsilon):
    model, losses = classifier(), []
    returned = FGM(epsilon).training_step(step_of(compute, model, losses), model, batch)
    assert losses[1] > losses[0] and returned == losses[0]
    model.zero_grad()
    negative = []
    FGM(-epsilon).training_step(step_of(compute, model, negative), model, batch)
    assert negative[1] < negative[0]


def test_the_receipt_says_how_far_embeddings_were_moved(trainer):
    receipt = trainer([FGM(0.5)]).fit()["FGM"]
    assert receipt == {"steps": 12, "mean perturbation norm": pytest.approx(0.5, rel=1e-5)}


def test_frozen_embeddings_are_an_error(classifier, batch, compute):
    model = classifier()
    model.get_input_embeddings().weight.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen: unfreeze them or leave FGM out"):
        FGM().training_step(step_of(compute, model, []), model, batch)
