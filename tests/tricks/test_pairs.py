"""Tricks beside each other: every pair in both orders, and all of them at once."""

import itertools

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from trick_cases import CASES

from kagglekit.tricks import ADVERSARIAL, make_tricks

OPTIONS = {name: case.usual for name, case in CASES.items()}
STEP, LOSS, BESIDE = ({n for n, case in CASES.items() if case.seam == seam} for seam in ("step", "loss", "beside"))
PLAIN = {}  # trained once
PAIRS = list(itertools.combinations(OPTIONS, 2))
WITH_SEVERAL = {  # trick -> others that it learns with, outside and inside of all of them
    "TokenMasking": ["FGM", "FreeLB", "RDrop"],
    "Mixup": ["FreeLB", "RDrop", "TokenMasking"],
    "NEFTune": ["FreeLB", "Mixup", "RDrop"],
    "SupCon": ["Mixup", "NEFTune", "RDrop"],
}


def expected_steps(order, batches, steps, evaluations):
    """How often each trick of a recipe acts, from the first step on, over so many batches, steps and evaluations."""
    counts = {"EMA": steps, "SWA": steps, "CheckpointSoup": evaluations, "GradualUnfreezing": -(-steps // 2)}
    for place, name in enumerate(order):
        outside = order[:place] if name in STEP else order if name in LOSS else ()
        counts.setdefault(name, batches * int(np.prod([CASES[other].passes for other in outside])))
    return {name: counts[name] for name in order}


class OnlyTheOptimizer(TrainerCallback):
    """Sees to it that the optimizer alone changes the weights: what tricks and evaluations do leaves no trace."""

    weights = None

    def look(self, model):
        now = [parameter.detach().clone() for parameter in model.parameters()]
        assert self.weights is None or all(map(torch.equal, self.weights, now))
        self.weights = now

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.look(model)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.look(model)
        self.weights = None

    def on_step_end(self, args, state, control, model=None, **kwargs):
        assert self.weights is None
        self.look(model)


@pytest.fixture
def together(trainer):
    """together(names, folder, ...): a trainer with these tricks of the catalogue, evaluated every 3 steps."""

    def make(names, folder="run", options=OPTIONS, **knobs):
        made = make_tricks({name: options.get(name, {}) for name in names})
        knobs = {"dropout": 0.1, "epochs": 1, "evaluate_every": 3, "callbacks": [OnlyTheOptimizer()], **knobs}
        return trainer(made, folder, evaluation=lambda model: {"score": model.head.bias[0].item()}, **knobs)

    return make


@pytest.fixture
def plain(fitted, logged, weights):
    """plain(): the gradient norms and the weights of plain training."""

    def make():
        if not PLAIN:
            run = fitted([], "plain")
            PLAIN.update(norms=logged(run, "grad_norm"), weights=weights(run.model))
        return PLAIN

    return make


@pytest.fixture
def fitted(together):
    """fitted(...): such a trainer after its training; each starts from the same random state."""

    def make(*args, **options):
        run = together(*args, **options)
        run.train()
        return run

    return make


def _is_quick(module):
    """Whether the model itself, and no trick, gave a module another forward."""
    return module.forward.func.__module__.startswith("kagglekit.model.")


def hooks(model):
    """Whatever a trick could have left in a model."""
    modules = list(model.modules())
    left = [hook for module in modules for hook in (*module._forward_hooks, *module._forward_pre_hooks)]
    return left + [module for module in model.backbone.modules() if "forward" in vars(module) and not _is_quick(module)]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_all_pairs_compose_in_both_orders(together, pair, logged, weights, same):
    trained = []
    for order in (pair, pair[::-1]):
        run = together(order, f"{order}", epochs=0.5)
        receipts = run.fit()
        assert {name: receipts[name]["steps"] for name in order} == expected_steps(order, 3, 3, 1)
        assert np.isfinite(logged(run, "loss")).all()
        assert all(np.isfinite(figure) for name in order for figure in receipts[name].values())
        trained.append(weights(run.model))
        assert not hooks(run.model) and all(parameter.requires_grad for parameter in run.model.parameters())
        with run.evaluating():
            assert all(tensor.isfinite().all() for tensor in run.model.state_dict().values())
        assert same(weights(run.model), trained[-1])
    if CASES[pair[0]].seam != CASES[pair[1]].seam:
        assert same(*trained)  # only tricks at one seam have an order


@pytest.mark.parametrize("pair", [*zip(list(OPTIONS)[::2], list(OPTIONS)[1::2], strict=True)], ids="-".join)
def test_a_model_with_two_tricks_learns(together, pair, logged):
    run = together(pair, epochs=4)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < sum(losses[:6])


@pytest.mark.parametrize(("order", "options"), [(1, {}), (-1, {"accumulation": 2, "precision": "bf16"})])
@pytest.mark.parametrize("name", WITH_SEVERAL)
def test_a_model_with_several_tricks_learns(together, name, order, options, logged):
    run = together([name, *WITH_SEVERAL[name]][::order], epochs=6, **options)
    receipts = run.fit()
    assert all(receipts[name]["steps"] > 0 for name in (name, *WITH_SEVERAL[name]))
    losses = np.array(logged(run, "loss"))
    assert np.isfinite(losses).all() and losses[-6:].mean() < losses[:6].mean()


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_an_average_leaves_what_others_train_alone(fitted, name, weights, same):
    alone, both = fitted(["FGM"], "alone"), fitted([name, "FGM"], "both")
    assert same(weights(alone.model), weights(both.model))


@pytest.mark.parametrize(
    ("order", "precision", "accumulation"), [(1, "fp32", 1), (-1, "fp32", 2), (1, "bf16", 2), (-1, "bf16", 1)]
)
def test_all_at_once_compose(together, precision, accumulation, order, logged):
    names = list(OPTIONS)[::order]
    run = together(names, precision=precision, accumulation=accumulation)
    receipts, steps = run.fit(), 6 // accumulation
    counts = {name: receipts[name]["steps"] for name in names}
    assert counts == expected_steps(names, 6, steps, steps // 3)
    assert np.isfinite(logged(run, "loss")).all() and not hooks(run.model)


def test_all_switched_off_are_plain_training(fitted, weights, same):
    off = {
        "EMA": {"decay": 0.0},
        "FreeLB": {"steps": 1, "magnitude": 0.0},
        "GradualUnfreezing": {"until": 0.0},
        "Mixout": {"probability": 0.0},
        "Mixup": {"alpha": 0.0},
        "NEFTune": {"alpha": 0.0},
        "SWA": {"rate": 0.0},
        "SupCon": {"weight": 0.0},
        "TokenMasking": {"probability": 0.0},
    }
    assert same(*(weights(fitted(names, f"{len(names)}", off).model) for names in (list(off), [])))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("precision", "accumulation"), [("fp32", 2), ("bf16", 4)])
def test_accumulation_and_mixed_precision_work(together, name, precision, accumulation, logged):
    run = together([name], precision=precision, accumulation=accumulation, epochs=2, evaluate_every=2)
    receipt, steps = run.fit()[name], run.state.max_steps
    assert steps == {1: 12, 2: 6, 4: 4}[accumulation]
    assert receipt["steps"] == expected_steps([name], 12, steps, steps // 2)[name]
    losses = logged(run, "loss")
    assert np.isfinite(losses).all() and min(losses[-2:]) < losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())


@pytest.mark.parametrize("start", [0.0, 0.5, 0.51])
@pytest.mark.parametrize("name", [name for name in OPTIONS if name in STEP | LOSS])
def test_a_late_start_is_plain_training_until_then(fitted, plain, name, start, logged):
    strong = {"TokenMasking": {"probability": 0.5}, "Mixup": {"alpha": 10.0}}
    late = fitted([name], "late", {name: {**OPTIONS[name], **strong.get(name, {}), "start": start}})
    norms = np.array([logged(late, "grad_norm"), plain()["norms"]])
    begin = {0.0: 0, 0.5: 3, 0.51: 4}[start]
    assert late.tricks[0].steps_ == 6 - begin
    assert (norms[0] == norms[1])[:begin].all() and norms[0, begin] != norms[1, begin]


@pytest.mark.parametrize(("start", "every", "steps"), [(0.34, 2, [3, 5]), (0.0, 4, [0, 4]), (0.51, 9, [4])])
@pytest.mark.parametrize("name", [trick.__name__ for trick in ADVERSARIAL])
def test_an_attack_on_every_so_many_steps_leaves_the_others_alone(
    together, plain, monkeypatch, name, start, every, steps, logged
):
    run, acted = together([name], options={name: {**OPTIONS[name], "start": start, "every": every}}), []
    attack = run.tricks[0].training_step
    note = lambda *given: (acted.append(run.state.global_step), attack(*given))[1]  # noqa: E731
    monkeypatch.setattr(run.tricks[0], "training_step", note)
    run.fit()
    norms = np.array([logged(run, "grad_norm"), plain()["norms"]])
    assert acted == steps and run.tricks[0].steps_ == len(steps)
    assert (norms[0] == norms[1])[: steps[0]].all() and norms[0, steps[0]] != norms[1, steps[0]]


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_averages_that_start_late_hold_the_weights_from_then_on_and_leave_training_alone(
    fitted, plain, name, weights, same
):
    for start, steps in ((0.0, 6), (0.5, 3), (0.51, 2), (0.9, 1 if name == "CheckpointSoup" else 0)):
        run = fitted([name], f"{start}", {name: {"start": start}}, evaluate_every=1)
        extra = int(name == "CheckpointSoup" and 0 < start < 0.9)  # the evaluation at that step counts
        assert run.tricks[0].steps_ == steps + extra
        assert same(weights(run.model), plain()["weights"])


def test_unfreezing_that_starts_late_is_plain_training_until_then(fitted, plain, logged):
    late = fitted(["GradualUnfreezing"], "late", {"GradualUnfreezing": {"start": 0.5, "until": 0.9}})
    assert late.tricks[0].steps_ == 3
    norms = np.array([logged(late, "grad_norm"), plain()["norms"]])
    assert (norms[0] == norms[1])[:4].all() and norms[0, 4] != norms[1, 4]  # gradients are dropped after the norm


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "CheckpointSoup"])
def test_a_trick_that_never_acted_is_an_error(together, name):
    late = {"start": 0.99, **({"until": 0.995} if name == "GradualUnfreezing" else {})}
    with pytest.raises(RuntimeError, match=f"{name} never acted in 6 steps: let it start earlier, or leave it out"):
        together([name], options={name: late}).fit()


def test_fgm_outside_attacks_the_rdrop_loss_in_either_order(fitted, weights, same):
    runs = [fitted(names, f"{names}", epochs=2) for names in (["FGM", "RDrop"], ["RDrop", "FGM"])]
    assert runs[0].tricks[1].steps_ == runs[1].tricks[0].steps_ == 24  # in both of FGM's passes
    assert same(*(weights(run.model) for run in runs))
