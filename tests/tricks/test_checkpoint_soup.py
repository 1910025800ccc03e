import math

import pytest
import torch
from transformers import TrainerCallback

from kagglekit.model.soup import average_weights
from kagglekit.tricks.checkpoint_soup import CheckpointSoup
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM

SCORES = [0.1, 0.5, 0.3, 0.5, 0.2, 0.4]  # at steps 2, 4, 6, 8, 10 and 12


@pytest.fixture
def cooked(trainer):
    """cooked(soup, ...): a trainer after 12 steps with an evaluation every 2 of them, and the weights that each saw."""

    def make(*recipe, scores=SCORES, higher=True, folder="run", stop=None, fit=True, **options):
        seen = []

        def evaluation(model):
            seen.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
            return {"score": scores[run.state.global_step // 2 - 1]}

        run = trainer(recipe, folder, evaluation=evaluation, evaluate_every=2, stop=stop, **options)
        run.args.greater_is_better = higher
        (run.fit if fit else run.train)()
        return run, seen

    return make


def shown(run):
    """The weights that are evaluated and saved."""
    with run.evaluating():
        return {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}


@pytest.mark.parametrize(
    ("keep", "start", "higher", "members"),
    [
        (1, 0.0, True, [3]),  # of equal scores the later
        (2, 0.0, True, [1, 3]),
        (3, 0.0, True, [1, 3, 5]),
        (9, 0.0, True, [0, 1, 2, 3, 4, 5]),
        (2, 0.5, True, [3, 5]),
        (2, 0.0, False, [0, 4]),
    ],
)
def test_the_soup_is_the_mean_of_the_weights_with_the_best_scores(cooked, same, keep, start, higher, members):
    run, seen = cooked(CheckpointSoup(keep, start=start), higher=higher)
    soup, mean = shown(run), average_weights([seen[number] for number in members])
    assert all(torch.allclose(soup[name], mean[name], atol=1e-6) for name in mean)
    receipt = run.tricks[0].receipt(run.model)
    assert receipt == {
        "steps": 6 if start == 0 else 4,
        "members": len(members),
        "mean score of members": pytest.approx(sum(SCORES[number] for number in members) / len(members)),
    }


def test_keeping_one_is_the_best_checkpoint(cooked, same):
    run, seen = cooked(CheckpointSoup(1, start=0))
    assert same(shown(run), seen[3])


def test_training_and_its_evaluations_are_those_without_it(cooked, weights, same, logged):
    soup, plain = cooked(CheckpointSoup(), dropout=0.1), cooked(folder="plain", dropout=0.1)
    assert same(weights(soup[0].model), weights(plain[0].model))
    assert all(same(one, other) for one, other in zip(soup[1], plain[1], strict=True))
    assert logged(soup[0], "eval_score") == SCORES


def test_weights_come_back_after_evaluating_also_after_an_exception(cooked, weights, same):
    run, _ = cooked(CheckpointSoup())
    live = weights(run.model)
    assert not torch.equal(shown(run)["head.weight"], live["head.weight"]) and same(weights(run.model), live)
    with pytest.raises(KeyError), run.evaluating():
        raise KeyError
    assert same(weights(run.model), live)


def test_the_soup_lies_between_its_members(cooked):
    run, seen = cooked(CheckpointSoup(3, start=0))
    for name, tensor in shown(run).items():
        members = torch.stack([seen[number][name] for number in (1, 3, 5)])
        assert (tensor >= members.amin(dim=0) - 1e-6).all() and (tensor <= members.amax(dim=0) + 1e-6).all()


@pytest.mark.parametrize("stop", [1, 4, 7, 10])
def test_stopped_and_resumed_is_never_stopped(cooked, same, weights, stop):
    straight, _ = cooked(CheckpointSoup(2, start=0), folder="straight", dropout=0.1)
    cooked(CheckpointSoup(2, start=0), stop=stop, dropout=0.1, fit=False)
    resumed, _ = cooked(CheckpointSoup(2, start=0), dropout=0.1)
    assert same(weights(straight.model), weights(resumed.model)) and same(shown(straight), shown(resumed))
    assert straight.tricks[0].receipt(straight.model) == resumed.tricks[0].receipt(resumed.model)


def test_the_last_step_is_a_candidate_also_where_no_evaluation_was_due(trainer):
    seen = []

    def evaluation(model):
        seen.append(run.state.global_step)
        return {"score": 0.0}

    run = trainer([CheckpointSoup(start=0)], evaluation=evaluation, evaluate_every=5)
    run.args.greater_is_better = True
    assert run.fit()["CheckpointSoup"]["members"] == 3 and seen == [5, 10, 12]


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (2, "bf16")])
def test_with_accumulation_and_bf16_and_beside_fgm(cooked, accumulation, precision):
    options = {"accumulation": accumulation, "precision": precision, "epochs": 4}
    run, seen = cooked(FGM(), CheckpointSoup(2, start=0), **options)
    mean = average_weights([seen[1], seen[3]])
    assert all(torch.allclose(tensor, mean[name], atol=1e-6) for name, tensor in shown(run).items())
    assert all(tensor.dtype == torch.float32 for tensor in mean.values())


@pytest.mark.parametrize("order", [1, -1])
def test_beside_ema_it_averages_the_averages(cooked, order):
    run, seen = cooked(*[EMA(0.9, start=0), CheckpointSoup(2, start=0)][::order])
    mean = average_weights([seen[1], seen[3]])  # what was evaluated: averages
    assert all(torch.equal(tensor, mean[name]) for name, tensor in shown(run).items())
    _, live = cooked(folder="plain")
    assert not torch.equal(seen[3]["head.weight"], live[3]["head.weight"])


def test_evaluations_without_a_score_do_not_count(cooked):
    run, seen = cooked(CheckpointSoup(9, start=0), scores=[0.1, math.nan, 0.2, math.nan, math.nan, 0.3])
    assert run.tricks[0].receipt(run.model)["members"] == 3
    mean = average_weights([seen[0], seen[2], seen[5]])
    assert all(torch.equal(tensor, mean[name]) for name, tensor in shown(run).items())


def test_training_that_ends_early_has_its_soup(cooked):
    class Enough(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 7

    run, seen = cooked(CheckpointSoup(2, start=0), callbacks=[Enough()])
    mean = average_weights([seen[1], seen[2]])
    assert all(torch.allclose(tensor, mean[name], atol=1e-6) for name, tensor in shown(run).items())


def test_without_evaluations_or_scores_it_is_an_error(trainer):
    with pytest.raises(ValueError, match="CheckpointSoup averages the weights of the best evaluations, and there are"):
        trainer([CheckpointSoup()]).fit()
    with pytest.raises(RuntimeError, match="CheckpointSoup never acted"):
        trainer([CheckpointSoup()], evaluation=lambda model: {"score": math.nan}, evaluate_every=2).fit()


@pytest.mark.parametrize(("knob", "value"), [("keep", 0), ("start", -0.1)])
def test_a_knob_out_of_range_is_an_error(knob, value):
    with pytest.raises(ValueError, match=f"CheckpointSoup: {knob}={value} is out of range"):
        CheckpointSoup(**{knob: value}).check()
