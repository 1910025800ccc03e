import inspect
import itertools

import numpy as np
import pytest
import torch

from kagglekit import tricks
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.training.trick import Trick
from kagglekit.tricks import EMA, FGM, RDrop, make_tricks

NAMES = sorted(set(tricks.__all__) - {"make_tricks"})
PAIRS = list(itertools.permutations(NAMES, 2))


def numbers(trick):
    """Another value for each knob."""
    return {name: 0.25 for name in inspect.signature(trick).parameters}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [dict, numbers], ids=["defaults", "others"])
def test_repr_is_the_line_that_builds_it(name, options):
    trick = getattr(tricks, name)
    made = trick(**(options(trick) if options is numbers else {}))
    again = eval(repr(made), vars(tricks))
    assert type(again) is trick and repr(again) == repr(made)
    assert {knob: getattr(again, knob) for knob in inspect.signature(trick).parameters} == {
        knob: getattr(made, knob) for knob in inspect.signature(trick).parameters
    }


def test_masking_has_such_a_repr_too():
    masking = DynamicMasking(4, 30, [0, 2, 3], 0.2)
    assert repr(masking) == "DynamicMasking(mask_id=4, vocabulary=30, special_ids=[0, 2, 3], probability=0.2)"


@pytest.mark.parametrize("name", NAMES)
def test_every_knob_has_a_default_and_every_trick_can_start_late(name):
    knobs = inspect.signature(getattr(tricks, name)).parameters
    assert "start" in knobs and all(isinstance(knob.default, float) for knob in knobs.values())
    assert issubclass(getattr(tricks, name), Trick)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_all_pairs_compose_in_both_orders(trainer, pair, logged):
    run = trainer([getattr(tricks, name)() for name in pair], dropout=0.1, epochs=4)
    receipts = run.fit()
    assert all(receipts[name]["steps"] > 0 for name in pair)
    losses = logged(run, "loss")
    assert np.isfinite(losses).all() and sum(losses[-6:]) < sum(losses[:6])


def test_fgm_outside_attacks_the_rdrop_loss_in_either_order(fitted, weights, same):
    one, other = ([FGM(), RDrop()], [RDrop(), FGM()])
    models = [fitted(tricks, f"{tricks}", dropout=0.1).model for tricks in (one, other)]
    assert one[1].steps_ == other[0].steps_ == 24  # in both of FGM's passes
    assert same(*map(weights, models))  # they hold different seams


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("precision", "accumulation"), [("fp32", 2), ("fp32", 4), ("bf16", 1), ("bf16", 4)])
def test_accumulation_and_mixed_precision_work(trainer, name, precision, accumulation, logged):
    trick = getattr(tricks, name)(start=0.0)
    run = trainer([trick], dropout=0.1, precision=precision, accumulation=accumulation, epochs=4)
    receipt = run.fit()[name]
    assert receipt["steps"] == (run.state.max_steps if name == "EMA" else 24)  # EMA acts once a step of the optimizer
    losses = logged(run, "loss")
    assert np.isfinite(losses).all() and min(losses[-2:]) < losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())


@pytest.mark.parametrize("start", [0.0, 0.25, 0.5, 0.51])
@pytest.mark.parametrize("name", ["FGM", "RDrop"])
def test_a_late_start_is_plain_training_until_then(fitted, name, start, logged):
    trick = getattr(tricks, name)(start=start)
    late, plain = fitted([trick], "late", dropout=0.1), fitted(folder="plain", dropout=0.1)
    norms = np.array([logged(run, "grad_norm") for run in (late, plain)])
    steps = trick.steps_
    assert steps == 12 - np.ceil(12 * start)
    assert (norms[0] == norms[1])[: 12 - steps].all() and norms[0, 12 - steps] != norms[1, 12 - steps]


def test_a_late_average_begins_with_the_weights_at_that_share_of_the_steps(trainer):
    for start, steps in ((0.0, 12), (0.25, 10), (0.5, 7), (0.51, 6)):
        assert trainer([EMA(start=start)], f"start{start}").fit()["EMA"]["steps"] == steps


@pytest.mark.parametrize("name", ["FGM", "RDrop"])
def test_a_trick_that_never_acted_is_an_error(trainer, name):
    with pytest.raises(RuntimeError, match=f"{name} never acted in 6 steps: let it start earlier, or leave it out"):
        trainer([getattr(tricks, name)(start=0.99)], dropout=0.1, epochs=1).fit()


def test_a_recipe_becomes_tricks_in_its_order():
    made = make_tricks({"RDrop": {}, "FGM": {"epsilon": 0.5, "start": 0.1}})
    assert repr(made) == "[RDrop(alpha=1.0, start=0.0), FGM(epsilon=0.5, start=0.1)]"
    assert make_tricks({}) == []


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"PGD": {}}, "no trick 'PGD'; there are EMA, FGM, RDrop"),
        ({"make_tricks": {}}, "no trick 'make_tricks'"),
        ({"inspect": {}}, "no trick 'inspect'"),
        ({"FGM": {"eps": 1.0}}, r"FGM takes \(epsilon: float = 1.0, start: float = 0.0\), not {'eps': 1.0}"),
        ({"EMA": None}, "EMA takes .* not None"),
        ({"EMA": {"start": 1.0}}, "EMA: start=1.0 is out of range: it must be the share of steps before"),
        ({"EMA": {"start": -0.1}}, "from 0 to below 1"),
        ({"RDrop": {"alpha": "1"}}, "RDrop has alpha='1': it must be a number"),
        ({"RDrop": {"start": None}}, "RDrop has start=None: it must be a number"),
    ],
)
def test_a_wrong_recipe_is_a_clear_error(recipe, words):
    with pytest.raises(ValueError, match=words):
        make_tricks(recipe)
