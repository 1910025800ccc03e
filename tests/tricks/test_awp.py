import pytest
import torch

from kagglekit.tricks.awp import AWP, relative_ascent
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.trick import Trick


class Twice(Trick):
    def training_step(self, step, model, inputs):
        self.steps_ += 1
        loss = step(inputs)
        step(inputs)
        return loss


@pytest.fixture
def stepping(compute):
    """stepping(model): forward and backward that note each loss and the weights it was of. With a `value`, an element
    of a gradient is that after each pass; pass `break_at` ends in an exception."""

    def make(model, scale=1.0, value=None, break_at=None):
        def step(inputs):
            loss, _ = compute(model)(inputs)
            (scale * loss).backward()
            step.losses.append(loss.item())
            step.seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
            if value is not None:
                model.head.weight.grad[0, 0] = value
            if len(step.losses) == break_at:
                raise InterruptedError
            return loss.detach()

        step.losses, step.seen = [], []
        return step

    return make


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


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"epsilon": 0.0}])
def test_awp_that_moves_nothing_is_the_gradient_counted_twice(fitted, weights, same, options):
    ours, twice = fitted([AWP(**options, start=0.0)], "awp", dropout=0.1), fitted([Twice()], "twice", dropout=0.1)
    assert same(weights(ours.model), weights(twice.model))


def test_the_gradient_is_the_sum_of_that_here_and_that_on_the_moved_weights(classifier, batch, compute, stepping):
    model, by_hand = classifier(), classifier()
    AWP(0.1, 0.05).training_step(stepping(model), model, batch)
    compute(by_hand)(batch)[0].backward()
    for weight in by_hand.parameters():
        if weight.ndim > 1:
            move = 0.1 * weight.norm() * weight.grad / weight.grad.norm()
            weight.data += move.clamp(-0.05 * weight.abs(), 0.05 * weight.abs()).detach()
    compute(by_hand)(batch)[0].backward()
    for ours, sums in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours.grad, sums.grad, rtol=1e-4, atol=1e-6)


def test_all_matrices_are_moved_and_no_bias_and_no_norm(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    AWP().training_step(step, model, batch)
    before, moved = step.seen
    changed = {name for name in before if not torch.equal(before[name], moved[name])}
    assert changed == {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert all(((moved[name] - before[name]).abs() <= 0.0101 * before[name].abs()).all() for name in changed)


def test_weights_inputs_random_state_and_mode_are_as_before(classifier, batch, weights, same, stepping):
    model, inputs = classifier(), {name: tensor.clone() for name, tensor in batch.items()}
    before, state = weights(model), torch.get_rng_state()
    AWP(1.0, 0.5).training_step(stepping(model), model, batch)
    assert same(weights(model), before) and same(batch, inputs) and model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("break_at", [1, 2])
def test_weights_are_as_before_after_an_exception_in_either_pass(classifier, batch, weights, same, stepping, break_at):
    model = classifier()
    before = weights(model)
    with pytest.raises(InterruptedError):
        AWP().training_step(stepping(model, break_at=break_at), model, batch)
    assert same(weights(model), before)


@pytest.mark.parametrize(("strength", "epsilon"), [(0.5, 0.01), (0.001, 0.5), (1.0, 0.05)])
def test_the_loss_on_moved_weights_is_higher(classifier, batch, stepping, strength, epsilon):
    model = classifier()
    step = stepping(model)
    returned = AWP(strength, epsilon).training_step(step, model, batch)
    assert step.losses[1] > step.losses[0] == returned.item()
    model.zero_grad()
    step = stepping(model)
    AWP(-strength, epsilon).training_step(step, model, batch)
    assert step.losses[1] < step.losses[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(classifier, batch, weights, same, stepping, value):
    model = classifier()
    before, step, trick = weights(model), stepping(model, value=value), AWP()
    trick.training_step(step, model, batch)
    assert same(weights(model), before) and torch.isfinite(trick.norm_)
    assert torch.equal(step.seen[1]["head.weight"], before["head.weight"])
    assert all(weight.isfinite().all() for weight in step.seen[1].values())


def test_the_scale_of_the_loss_does_not_matter(classifier, batch, stepping):
    model, scaled = classifier(), classifier()
    AWP().training_step(stepping(model), model, batch)
    AWP().training_step(stepping(scaled, scale=2.0**16), scaled, batch)
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad / 2**16, rtol=1e-5, atol=1e-8)


def test_nothing_waits_for_the_device():
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 1)).to("meta")  # has no values to wait for

    def step(inputs):
        loss = model(inputs).sum()
        loss.backward()
        return loss.detach()

    AWP().training_step(step, model, torch.zeros(2, 3, dtype=torch.long, device="meta"))


def test_frozen_weights_are_not_moved_and_a_model_of_them_is_an_error(classifier, batch, stepping):
    model = classifier()
    model.backbone.requires_grad_(False)
    step = stepping(model)
    AWP().training_step(step, model, batch)
    before, moved = step.seen
    assert [name for name in before if not torch.equal(before[name], moved[name])] == ["head.weight"]
    model.head.weight.requires_grad_(False)
    model.zero_grad()
    with pytest.raises(
        ValueError, match="AWP moves weight matrices, and all are frozen: unfreeze some or leave AWP out"
    ):
        AWP().training_step(stepping(model), model, batch)


def test_the_receipt_says_how_far_weights_were_moved(trainer):
    receipt = trainer([AWP(0.5, 0.01)]).fit()["AWP"]
    assert receipt["steps"] == 6 and 0.005 < receipt["mean relative perturbation"] < 0.01
    receipt = trainer([AWP(0.003, 0.9, start=0.0)], "free").fit()["AWP"]
    assert receipt == {"steps": 12, "mean relative perturbation": pytest.approx(0.003, rel=0.2)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": -0.1}, "AWP: strength=-0.1 is out of range: it must be 0 or more"),
        ({"epsilon": 1.0}, "AWP: epsilon=1.0 is out of range: it must be from 0 to below 1"),
        ({"start": -0.5}, "AWP: start=-0.5"),
    ],
)
def test_a_knob_out_of_range_is_a_clear_error(options, words):
    AWP().check()
    with pytest.raises(ValueError, match=words):
        AWP(**options).check()


@pytest.mark.parametrize("options", [{}, {"accumulation": 2}, {"precision": "bf16"}], ids=str)
@pytest.mark.parametrize(
    "recipe",
    [
        lambda: [AWP(start=0.2)],
        lambda: [AWP(start=0.2), RDrop(), EMA(0.9)],
        lambda: [EMA(0.9), RDrop(), AWP(start=0.2)],
    ],
    ids=["alone", "outermost", "innermost"],
)
def test_it_trains_and_stopped_and_resumed_is_never_stopped(trainer, weights, same, logged, recipe, options):
    straight = trainer(recipe(), "straight", dropout=0.1, **options)
    receipts = straight.fit()
    losses = logged(straight, "loss")
    assert sum(losses[-3:]) < sum(losses[:3]) and receipts["AWP"]["mean relative perturbation"] > 0
    trainer(recipe(), dropout=0.1, stop=4, **options).train()
    resumed = trainer(recipe(), dropout=0.1, **options)
    assert resumed.fit() == receipts
    assert same(weights(straight.model), weights(resumed.model))
