import math

import pytest
import torch
from transformers import TrainerCallback

from kagglekit.model.weight_averages import average_weights
from kagglekit.tricks.checkpoint_soup import CheckpointSoup
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM

SCORES = [0.1, 0.5, 0.3, 0.5, 0.2, 0.4]  # at steps 2, 4, 6, 8, 10 and 12


@pytest.fixture
def cooked(scored):
    """cooked(soup, ...): a trainer after 12 steps with an evaluation every 2 of them, and the weights that each saw."""

    def make(*recipe, scores=SCORES, higher=True, folder="run", **options):
        seen = []
        run = scored(recipe, folder, lambda step: scores[step // 2 - 1], seen, **options)
        run.args.greater_is_better = higher
        run.fit()
        return run, seen

    return make


def near(run, shown, mean):
    """Whether the weights that are saved are this mean."""
    return all(torch.allclose(shown(run)[name], mean[name], atol=1e-6) for name in mean)


def test_without_scores_it_is_an_error(trainer):
    with pytest.raises(RuntimeError, match="CheckpointSoup never acted"):
        trainer([CheckpointSoup()], evaluation=lambda model: {"score": math.nan}, evaluate_every=2).fit()


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
def test_the_soup_is_the_mean_of_the_weights_with_the_best_scores(cooked, shown, keep, start, higher, members):
    run, seen = cooked(CheckpointSoup(keep, start=start), higher=higher)
    assert near(run, shown, average_weights([seen[number] for number in members]))
    receipt = run.tricks[0].receipt(run.model)
    assert receipt == {
        "steps": 6 if start == 0 else 4,
        "members": len(members),
        "mean score of members": pytest.approx(sum(SCORES[number] for number in members) / len(members)),
    }


def test_keeping_one_is_the_best_checkpoint(cooked, shown):
    run, seen = cooked(CheckpointSoup(1, start=0))
    assert all(torch.equal(shown(run)[name], weight) for name, weight in seen[3].items())


def test_training_and_its_evaluations_are_those_without_it(cooked, weights, same, logged):
    soup, plain = cooked(CheckpointSoup(), dropout=0.1), cooked(folder="plain", dropout=0.1)
    assert same(weights(soup[0].model), weights(plain[0].model))
    assert all(same(one, other) for one, other in zip(soup[1], plain[1], strict=True))
    assert logged(soup[0], "eval_score") == SCORES


def test_the_last_step_is_a_candidate_also_where_no_evaluation_was_due(trainer):
    seen = []

    def evaluation(model):
        seen.append(run.state.global_step)
        return {"score": 0.0}

    run = trainer([CheckpointSoup(start=0)], evaluation=evaluation, evaluate_every=5)
    run.args.greater_is_better = True
    assert run.fit()["CheckpointSoup"]["members"] == 3 and seen == [5, 10, 12]


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (2, "bf16")])
def test_with_accumulation_and_bf16_and_beside_fgm(cooked, shown, accumulation, precision):
    options = {"accumulation": accumulation, "precision": precision, "epochs": 4}
    run, seen = cooked(FGM(), CheckpointSoup(2, start=0), **options)
    mean = average_weights([seen[1], seen[3]])
    assert near(run, shown, mean)
    assert all(tensor.dtype == torch.float32 for tensor in mean.values())


@pytest.mark.parametrize("order", [1, -1])
def test_beside_ema_it_averages_the_averages(cooked, shown, order):
    run, seen = cooked(*[EMA(0.9, start=0), CheckpointSoup(2, start=0)][::order])
    mean = average_weights([seen[1], seen[3]])  # what was evaluated: averages
    assert all(torch.equal(shown(run)[name], mean[name]) for name in mean)
    _, live = cooked(folder="plain")
    assert not torch.equal(seen[3]["head.weight"], live[3]["head.weight"])


def test_evaluations_without_a_score_do_not_count(cooked, shown):
    run, seen = cooked(CheckpointSoup(9, start=0), scores=[0.1, math.nan, 0.2, math.nan, math.nan, 0.3])
    assert run.tricks[0].receipt(run.model)["members"] == 3
    mean = average_weights([seen[0], seen[2], seen[5]])
    assert all(torch.equal(shown(run)[name], mean[name]) for name in mean)


def test_training_that_ends_early_has_its_soup(cooked, shown):
    class Enough(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 7

    run, seen = cooked(CheckpointSoup(2, start=0), callbacks=[Enough()])
    mean = average_weights([seen[1], seen[2]])
    assert near(run, shown, mean)
