import pytest
import torch
from transformers import TrainerState

from kagglekit.tricks.ema import EMA, warmed_up


@pytest.fixture
def averaged(trainer, snapshots):
    """averaged(decay, start, warmup): the trick and the trainer after 12 steps, the weights before and after each."""

    def make(decay, start=0.0, warmup=False, **options):
        ema, seen = EMA(decay, warmup, start=start), snapshots()
        run = trainer([ema], f"ema{decay}", callbacks=[seen], **options)
        run.fit()
        return ema, run, seen.steps

    return make


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 6), (0.51, 7), (0.8, 10)])
def test_the_average_is_the_recursion_of_the_paper(averaged, start, first):
    ema, _, steps = averaged(0.8, start)
    expected = steps[first]  # the weights before the first step on which it acts
    for weights in steps[first + 1 :]:
        expected = [0.8 * average + 0.2 * weight for average, weight in zip(expected, weights, strict=True)]
    assert ema.steps_ == 12 - first
    assert all(map(torch.allclose, ema.average_, expected))


def test_with_warmup_the_decay_rises_to_its_own(averaged):
    decays = [min(0.3, (1 + step) / (10 + step)) for step in range(12)]
    assert decays[:4] == [0.1, 2 / 11, 0.25, 0.3] and [warmed_up(0.3, step) for step in range(12)] == decays
    ema, _, steps = averaged(0.3, warmup=True)
    expected = steps[0]
    for decay, weights in zip(decays, steps[1:], strict=True):
        expected = [decay * average + (1 - decay) * weight for average, weight in zip(expected, weights, strict=True)]
    assert all(map(torch.allclose, ema.average_, expected))


def test_warmup_brings_an_early_average_nearer_to_the_last_weights(averaged):
    distances = []
    for warmup in (True, False):
        ema, run, _ = averaged(0.99, warmup=warmup)
        distances.append(ema.receipt(run.model)["distance of average to last weights"])
    assert distances[0] < distances[1]


def test_ema_with_decay_one_stands_still(averaged):
    ema, _, steps = averaged(1.0, 0.5)
    assert all(map(torch.equal, ema.average_, steps[6]))


def test_evaluation_sees_the_average_and_before_the_start_the_live_weights(trainer, snapshots):
    ema, seen = EMA(0.9, start=0.5), []

    def evaluation(model):
        weights = [parameter.clone() for parameter in model.parameters()]
        seen.append((weights, [average.clone() for average in ema.average_]))
        return {"score": 0.0}

    live = snapshots()
    trainer([ema], evaluation=evaluation, evaluate_every=4, callbacks=[live]).fit()
    (before, none), *others = seen
    assert none == [] and all(map(torch.equal, before, live.steps[4]))
    for (weights, average), step in zip(others, (8, 12), strict=True):
        assert all(map(torch.equal, weights, average))
        assert not torch.equal(weights[0], live.steps[step][0])


def test_only_trained_weights_are_averaged(classifier):
    model = classifier()
    model.backbone.requires_grad_(False)
    ema = EMA(0.5, start=0)
    ema.on_step_begin(None, TrainerState(max_steps=2), None, model=model)
    assert len(ema.average_) == 2  # the head's weight and bias


def test_its_state_survives_saving_also_before_it_began():
    for ema in (EMA(), EMA(0.5, start=0)):
        if ema.start == 0:
            ema.average_, ema.steps_ = [torch.randn(3), torch.randn(2, 2)], 4
        other = EMA()
        other.load_state_dict(ema.state_dict())
        assert other.steps_ == ema.steps_ and all(map(torch.equal, other.average_, ema.average_))
        assert len(other.average_) == len(ema.average_)
