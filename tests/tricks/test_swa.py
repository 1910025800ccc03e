import pytest
import torch
from transformers import TrainerCallback

from kagglekit.tricks.ema import EMA
from kagglekit.tricks.swa import SWA, sawtooth


def test_the_rate_falls_on_a_line_to_a_tenth_in_each_cycle():
    assert [sawtooth(step, 4) for step in range(6)] == pytest.approx([1, 0.7, 0.4, 0.1, 1, 0.7])
    assert [sawtooth(step, 1) for step in range(3)] == [1, 1, 1]
    assert [sawtooth(step, 2) for step in range(3)] == pytest.approx([1, 0.1, 1])


@pytest.mark.parametrize(
    ("start", "cycle", "averaged"),  # which of the weights after steps 1 to 12
    [(0.75, 1, [10, 11, 12]), (0.0, 4, [4, 8, 12]), (0.5, 5, [11]), (0.4, 3, [8, 11]), (0.0, 1, range(1, 13))],
)
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_average_is_the_equal_mean_of_the_weights_at_the_ends_of_cycles(
    trainer, snapshots, start, cycle, averaged, rate
):
    swa, seen = SWA(rate, cycle, start=start), snapshots()
    receipt = trainer([swa], callbacks=[seen]).fit()["SWA"]
    assert receipt["steps"] == len(averaged)
    for number, average in enumerate(swa.average_):
        mean = torch.stack([seen.steps[step][number] for step in averaged]).double().mean(dim=0)
        assert torch.allclose(average.double(), mean, atol=1e-6)


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


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (4, "bf16")])
def test_with_accumulation_and_bf16_it_counts_steps_of_the_optimizer(trainer, accumulation, precision, logged):
    run = trainer([SWA(0.5, start=0.0)], accumulation=accumulation, precision=precision, epochs=6)
    assert run.fit()["SWA"]["steps"] == run.state.max_steps == 36 // accumulation + (accumulation == 4) * 3
    losses = logged(run, "loss")
    assert min(losses[-3:]) < losses[0]


def test_of_two_averages_the_last_is_evaluated(fitted, weights, same):
    for recipe in ([EMA(0.9), SWA(0.5)], [SWA(0.5), EMA(0.9)]):
        run = fitted(recipe, repr(recipe))
        live, last = weights(run.model), recipe[-1].average_
        with run.evaluating():
            assert all(map(torch.equal, run.model.parameters(), last))
        assert same(weights(run.model), live)


def test_a_cycle_longer_than_what_is_left_is_an_error(trainer):
    with pytest.raises(RuntimeError, match="SWA never acted in 12 steps"):
        trainer([SWA(cycle=4, start=0.75)]).fit()
