import pytest
import torch

from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.pgd import PGD, climb, project
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
    """stepping(model): forward and backward that note each loss and the embeddings it was of. After pass `bad` an
    element of the embeddings' gradient is `value`, pass `break_at` ends in an exception."""

    def make(model, scale=1.0, bad=None, value=float("nan"), break_at=None):
        def step(inputs):
            loss, _ = compute(model)(inputs)
            (scale * loss).backward()
            step.losses.append(loss.item())
            step.seen.append(model.get_input_embeddings().weight.detach().clone())
            if len(step.losses) == bad:
                model.get_input_embeddings().weight.grad[5, 0] = value
            if len(step.losses) == break_at:
                raise InterruptedError
            return loss.detach()

        step.losses, step.seen = [], []
        return step

    return make


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


def test_climb_takes_one_length_a_row_where_it_is_told_so(draw):
    move, gradient = draw(5, 4, 3), draw(5, 4, 3)
    together = climb(move, gradient, 0.5, 1.0, (1, 2))
    for row in range(5):
        assert torch.allclose(together[row], climb(move[row], gradient[row], 0.5, 1.0), atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_leaves_the_move_as_it_is(draw, bad):
    move = 0.1 * draw(3, 2)
    assert torch.equal(climb(move, torch.full((3, 2), bad), 1.0, 1.0), move)


def test_one_step_of_pgd_is_fgm(fitted, weights, same):
    pgd, fgm = fitted([PGD(1, 1.0, 0.4)], "pgd", dropout=0.1), fitted([FGM(0.4)], "fgm", dropout=0.1)
    assert same(weights(pgd.model), weights(fgm.model))


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"alpha": 0.0}])
def test_pgd_that_goes_nowhere_is_the_gradient_counted_twice(fitted, weights, same, options):
    ours, twice = fitted([PGD(**options)], "pgd"), fitted([Twice()], "twice")
    assert same(weights(ours.model), weights(twice.model))


@pytest.mark.parametrize(("steps", "epsilon"), [(1, 1.0), (2, 1.0), (3, 0.5), (4, 1.0)])
def test_the_gradient_is_the_clean_one_and_that_at_the_last_point(classifier, batch, compute, stepping, steps, epsilon):
    model, by_hand = classifier(), classifier()
    PGD(steps, epsilon, 0.3).training_step(stepping(model), model, batch)
    table = by_hand.get_input_embeddings().weight
    origin, move = table.detach().clone(), torch.zeros_like(table)
    compute(by_hand)(batch)[0].backward()
    clean = [parameter.grad.clone() for parameter in by_hand.parameters()]
    for _ in range(steps):
        move += 0.3 * table.grad / table.grad.norm()
        move *= min(1.0, epsilon / move.norm().item())
        table.data = origin + move
        by_hand.zero_grad()
        compute(by_hand)(batch)[0].backward()
    for ours, first, last in zip(model.parameters(), clean, by_hand.parameters(), strict=True):
        assert torch.allclose(ours.grad, first + last.grad, rtol=1e-4, atol=1e-6)


def test_gradients_gathered_before_stay(classifier, batch, stepping):
    model, plain = classifier(), classifier()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.head.bias.grad += 5.0
    for one in (model, plain):
        PGD().training_step(stepping(one), one, batch)
    assert torch.allclose(model.head.bias.grad, 5 + plain.head.bias.grad)
    assert torch.allclose(model.head.weight.grad, plain.head.weight.grad)


def test_weights_inputs_random_state_and_mode_are_as_before(classifier, batch, weights, same, stepping):
    model, inputs = classifier(), {name: tensor.clone() for name, tensor in batch.items()}
    before, state = weights(model), torch.get_rng_state()
    PGD(epsilon=3.0, alpha=2.0).training_step(stepping(model), model, batch)
    assert same(weights(model), before) and same(batch, inputs) and model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("break_at", [1, 2, 3, 4])
def test_weights_are_as_before_after_an_exception_in_any_pass(classifier, batch, weights, same, stepping, break_at):
    model, plain = classifier(), classifier()
    before = weights(model)
    with pytest.raises(InterruptedError):
        PGD().training_step(stepping(model, break_at=break_at), model, batch)
    assert same(weights(model), before)
    if 1 < break_at < 4:
        stepping(plain)(batch)
        assert torch.equal(model.head.weight.grad, plain.head.weight.grad)  # the clean gradient is back


def test_the_loss_rises_from_point_to_point(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    returned = PGD(4, 1.0, 0.05).training_step(step, model, batch)
    assert step.losses == sorted(set(step.losses)) and len(step.losses) == 5
    assert returned.item() == step.losses[0]
    model.zero_grad()
    step = stepping(model)
    PGD(4, 1.0, -0.05).training_step(step, model, batch)
    assert step.losses == sorted(set(step.losses), reverse=True)


def test_no_point_is_outside_the_ball(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    PGD(5, 0.5, 0.3).training_step(step, model, batch)
    lengths = [(seen - step.seen[0]).norm().item() for seen in step.seen]
    assert lengths == pytest.approx([0, 0.3, *[0.5] * 4], abs=0.1) and max(lengths) < 0.5 + 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_gradients_that_are_not_finite_move_nothing_and_leave_no_nan(
    classifier, batch, weights, same, stepping, value, bad
):
    model = classifier()
    before, step = weights(model), stepping(model, bad=bad, value=value)
    trick = PGD()
    trick.training_step(step, model, batch)
    assert same(weights(model), before) and all(table.isfinite().all() for table in step.seen)
    assert torch.equal(step.seen[bad], step.seen[bad - 1])  # the move before stands
    assert torch.isfinite(trick.norm_)


def test_the_scale_of_the_loss_does_not_matter(classifier, batch, stepping):
    model, scaled = classifier(), classifier()
    PGD().training_step(stepping(model), model, batch)
    PGD().training_step(stepping(scaled, scale=2.0**16), scaled, batch)
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad / 2**16, rtol=1e-5, atol=1e-8)


def test_nothing_waits_for_the_device():
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 1)).to("meta")  # has no values to wait for
    model.get_input_embeddings = lambda: model[0]

    def step(inputs):
        loss = model(inputs).sum()
        loss.backward()
        return loss.detach()

    PGD().training_step(step, model, torch.zeros(2, 3, dtype=torch.long, device="meta"))


def test_frozen_embeddings_are_an_error_and_other_frozen_weights_are_not(classifier, batch, stepping):
    model = classifier()
    model.head.requires_grad_(False)
    PGD().training_step(stepping(model), model, batch)
    assert model.head.weight.grad is None
    model.get_input_embeddings().requires_grad_(False)
    model.zero_grad()
    with pytest.raises(ValueError, match=r"PGD moves the word embeddings.* frozen: unfreeze them or leave PGD out"):
        PGD().training_step(stepping(model), model, batch)


def test_the_receipt_says_how_far_embeddings_were_moved(trainer):
    receipt = trainer([PGD(3, 0.4, 0.3)]).fit()["PGD"]
    assert receipt == {"steps": 12, "mean perturbation norm": pytest.approx(0.4, rel=1e-3)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "PGD: steps=0 is out of range: it must be 1 or more"),
        ({"epsilon": -1.0}, "PGD: epsilon=-1.0 is out of range: it must be 0 or more"),
        ({"alpha": float("nan")}, "PGD: alpha=nan"),
        ({"start": 1.0}, "PGD: start=1.0"),
    ],
)
def test_a_knob_out_of_range_is_a_clear_error(options, words):
    PGD().check()
    with pytest.raises(ValueError, match=words):
        PGD(**options).check()


@pytest.mark.parametrize("options", [{}, {"accumulation": 2}, {"precision": "bf16"}], ids=str)
@pytest.mark.parametrize(
    "recipe",
    [lambda: [PGD(2)], lambda: [PGD(2), RDrop(), EMA(0.9)], lambda: [EMA(0.9), RDrop(), PGD(2)]],
    ids=["alone", "outermost", "innermost"],
)
def test_it_trains_and_stopped_and_resumed_is_never_stopped(trainer, weights, same, logged, recipe, options):
    straight = trainer(recipe(), "straight", dropout=0.1, **options)
    receipts = straight.fit()
    losses = logged(straight, "loss")
    assert sum(losses[-3:]) < sum(losses[:3]) and receipts["PGD"]["mean perturbation norm"] > 0
    trainer(recipe(), dropout=0.1, stop=4, **options).train()
    resumed = trainer(recipe(), dropout=0.1, **options)
    assert resumed.fit() == receipts
    assert same(weights(straight.model), weights(resumed.model))
