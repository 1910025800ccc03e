import pytest
import torch

from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM, ascent
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.trick import Trick


class Twice(Trick):
    def training_step(self, step, model, inputs):
        self.steps_ += 1
        loss = step(inputs)
        step(inputs)
        return loss


def step_of(compute, model, losses, break_at=None, scale=1.0):
    """Forward and backward, and a note of each loss."""

    def step(inputs):
        loss, _ = compute(model)(inputs)
        (scale * loss).backward()
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


def test_ascent_takes_one_length_a_row_where_it_is_told_so():
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(classifier, batch, compute, weights, same, value):
    model, losses, trick = classifier(), [], FGM()
    before, plain = weights(model), step_of(compute, model, losses)

    def step(inputs):
        loss = plain(inputs)
        model.get_input_embeddings().weight.grad[5, 0] = value
        return loss

    trick.training_step(step, model, batch)
    assert losses[0] == losses[1] and same(weights(model), before) and trick.norm_ == 0


def test_the_scale_of_the_loss_does_not_matter(classifier, batch, compute):
    model, scaled = classifier(), classifier()
    FGM().training_step(step_of(compute, model, []), model, batch)
    FGM().training_step(step_of(compute, scaled, [], scale=2.0**16), scaled, batch)
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad / 2**16, rtol=1e-5, atol=1e-8)


def test_nothing_waits_for_the_device():
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 1)).to("meta")  # has no values to wait for
    model.get_input_embeddings = lambda: model[0]

    def step(inputs):
        loss = model(inputs).sum()
        loss.backward()
        return loss.detach()

    FGM().training_step(step, model, torch.zeros(2, 3, dtype=torch.long, device="meta"))


def test_the_receipt_says_how_far_embeddings_were_moved(trainer):
    receipt = trainer([FGM(0.5)]).fit()["FGM"]
    assert receipt == {"steps": 12, "mean perturbation norm": pytest.approx(0.5, rel=1e-5)}


def test_frozen_embeddings_are_an_error(classifier, batch, compute):
    model = classifier()
    model.get_input_embeddings().weight.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen: unfreeze them or leave FGM out"):
        FGM().training_step(step_of(compute, model, []), model, batch)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan"), float("inf")])
def test_a_knob_out_of_range_is_a_clear_error(epsilon):
    FGM().check()
    with pytest.raises(ValueError, match=f"FGM: epsilon={epsilon} is out of range: it must be 0 or more"):
        FGM(epsilon).check()


@pytest.mark.parametrize("options", [{}, {"accumulation": 2}, {"precision": "bf16"}], ids=str)
@pytest.mark.parametrize(
    "recipe",
    [lambda: [FGM(), RDrop(), EMA(0.9)], lambda: [EMA(0.9), RDrop(), FGM()]],
    ids=["outermost", "innermost"],
)
def test_it_trains_beside_others_and_stopped_and_resumed_is_never_stopped(
    trainer, weights, same, logged, recipe, options
):
    straight = trainer(recipe(), "straight", dropout=0.1, **options)
    receipts = straight.fit()
    losses = logged(straight, "loss")
    assert sum(losses[-3:]) < sum(losses[:3]) and receipts["FGM"]["mean perturbation norm"] > 0
    trainer(recipe(), dropout=0.1, stop=4, **options).train()
    resumed = trainer(recipe(), dropout=0.1, **options)
    assert resumed.fit() == receipts
    assert same(weights(straight.model), weights(resumed.model))
