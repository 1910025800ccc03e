import pytest
import torch
from transformers import TrainerCallback

from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.swa import SWA, sawtooth


class Weights(TrainerCallback):
    """A copy of the weights after each step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append([parameter.detach().clone() for parameter in model.parameters()])


def test_the_rate_falls_on_a_line_to_a_tenth_in_each_cycle():
    assert [sawtooth(step, 4) for step in range(6)] == pytest.approx([1, 0.7, 0.4, 0.1, 1, 0.7])
    assert [sawtooth(step, 1) for step in range(3)] == [1, 1, 1]
    assert [sawtooth(step, 2) for step in range(3)] == pytest.approx([1, 0.1, 1])


@pytest.mark.parametrize(
    ("start", "cycle", "averaged"),  # which of the weights after steps 1 to 12
    [(0.75, 1, [10, 11, 12]), (0.0, 4, [4, 8, 12]), (0.5, 5, [11]), (0.4, 3, [8, 11]), (0.0, 1, range(1, 13))],
)
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_average_is_the_equal_mean_of_the_weights_at_the_ends_of_cycles(trainer, start, cycle, averaged, rate):
    swa, seen = SWA(rate, cycle, start=start), Weights()
    receipt = trainer([swa], callbacks=[seen]).fit()["SWA"]
    assert receipt["steps"] == len(averaged)
    for number, average in enumerate(swa.average_):
        mean = torch.stack([seen.steps[step - 1][number] for step in averaged]).double().mean(dim=0)
        assert torch.allclose(average.double(), mean, atol=1e-6)


def test_without_a_rate_training_itself_is_not_touched(fitted, weights, same, logged):
    evaluation = {"evaluation": lambda model: {"score": 0.0}, "evaluate_every": 2}
    run, plain = fitted([SWA(start=0.3)], "swa", dropout=0.1, **evaluation), fitted(folder="plain", dropout=0.1)
    assert same(weights(run.model), weights(plain.model))
    assert logged(run, "learning_rate") == logged(plain, "learning_rate")


def test_the_average_of_one_cycle_is_the_live_model(fitted, weights, same):
    run = fitted([SWA(cycle=3, start=0.75)])
    live = weights(run.model)
    with run.evaluating():
        assert same(weights(run.model), live)


def test_the_full_rate_from_the_start_on_is_a_constant_schedule(fitted, weights, same, logged):
    own = fitted([SWA(rate=1.0, start=0.0)], "own", dropout=0.1, schedule="linear")
    constant = fitted(folder="constant", dropout=0.1, schedule="constant")
    assert same(weights(own.model), weights(constant.model))
    assert logged(own, "learning_rate") == logged(constant, "learning_rate")


def test_the_rate_of_each_step_is_logged_and_the_schedule_is_left_alone_before(trainer, logged):
    run, plain = trainer([SWA(0.5, 3, start=0.5)], "swa", warmup=0), trainer(folder="plain", warmup=0)
    run.optimizer.param_groups[0]["lr"] = plain.optimizer.param_groups[0]["lr"] = 2e-2  # groups keep their ratio
    run.fit(), plain.fit()
    rates, schedule = logged(run, "learning_rate"), logged(plain, "learning_rate")
    assert rates[:6] == schedule[:6]
    assert rates[6:] == pytest.approx([1e-2, 5.5e-3, 1e-3, 1e-2, 5.5e-3, 1e-3])
    groups = run.optimizer.param_groups
    assert groups[0]["lr"] == plain.optimizer.param_groups[0]["lr"]  # after the last step it is the schedule's again


def test_groups_keep_their_ratio(trainer):
    seen = []

    class Rates(TrainerCallback):
        def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            seen.append([group["lr"] for group in optimizer.param_groups])

    run = trainer([SWA(0.5, start=0.5)], callbacks=[Rates()])
    for number, group in enumerate(run.optimizer.param_groups):
        group["lr"] = 1e-3 * (number + 1)
    run.fit()
    assert seen[8] == pytest.approx([0.5e-3 * (number + 1) for number in range(len(seen[8]))])


def test_weights_come_back_after_evaluating_also_after_an_exception(fitted, weights, same):
    run = fitted([SWA(0.5)])
    live = weights(run.model)
    with run.evaluating():
        assert not same(weights(run.model), live)
    assert same(weights(run.model), live)
    with pytest.raises(KeyError), run.evaluating():
        raise KeyError
    assert same(weights(run.model), live)


def test_the_average_lies_between_what_was_averaged(trainer):
    swa, seen = SWA(1.0, start=0.5), Weights()
    trainer([swa], callbacks=[seen]).fit()
    for average, *steps in zip(swa.average_, *seen.steps[6:], strict=True):
        steps = torch.stack(steps)
        assert (average >= steps.amin(dim=0) - 1e-6).all() and (average <= steps.amax(dim=0) + 1e-6).all()


@pytest.mark.parametrize("stop", [2, 6, 8, 11])
def test_stopped_and_resumed_is_never_stopped(trainer, weights, same, logged, stop):
    options = {"dropout": 0.1, "accumulation": 1}
    straight = trainer([SWA(0.5, 2, start=0.5)], "straight", **options)
    receipts = straight.fit()
    trainer([SWA(0.5, 2, start=0.5)], stop=stop, **options).train()
    resumed = trainer([SWA(0.5, 2, start=0.5)], **options)
    assert resumed.fit() == receipts
    assert same(weights(straight.model), weights(resumed.model))
    assert logged(straight, "learning_rate") == logged(resumed, "learning_rate")
    with straight.evaluating(), resumed.evaluating():
        assert same(weights(straight.model), weights(resumed.model))


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (4, "bf16")])
def test_with_accumulation_and_bf16_it_counts_steps_of_the_optimizer(trainer, accumulation, precision, logged):
    run = trainer([SWA(0.5, start=0.0)], accumulation=accumulation, precision=precision, epochs=6)
    assert run.fit()["SWA"]["steps"] == run.state.max_steps == 36 // accumulation + (accumulation == 4) * 3
    losses = logged(run, "loss")
    assert min(losses[-3:]) < losses[0]


def test_beside_fgm_it_averages_what_fgm_trains(fitted, weights, same):
    alone, both = fitted([FGM()], "alone", dropout=0.1), fitted([SWA(), FGM()], "both", dropout=0.1)
    assert same(weights(alone.model), weights(both.model))


def test_of_two_averages_the_last_is_evaluated(fitted, weights, same):
    for recipe in ([EMA(0.9), SWA(0.5)], [SWA(0.5), EMA(0.9)]):
        run = fitted(recipe, repr(recipe))
        live, last = weights(run.model), recipe[-1].average_
        with run.evaluating():
            assert all(map(torch.equal, run.model.parameters(), last))
        assert same(weights(run.model), live)


def test_the_receipt_has_the_distance_of_the_average(fitted):
    run = fitted([SWA(0.5)])
    receipt = run.tricks[0].receipt(run.model)
    assert receipt["steps"] == 3 and 0 < receipt["distance of average to last weights"] < 1


def test_a_cycle_longer_than_what_is_left_is_an_error(trainer):
    with pytest.raises(RuntimeError, match="SWA never acted in 12 steps"):
        trainer([SWA(cycle=4, start=0.75)]).fit()


@pytest.mark.parametrize(("knob", "value"), [("rate", -0.5), ("rate", float("inf")), ("cycle", 0), ("start", 1.0)])
def test_a_knob_out_of_range_is_an_error(knob, value):
    with pytest.raises(ValueError, match=f"SWA: {knob}={value} is out of range"):
        SWA(**{knob: value}).check()
