"""Every trick can be off, leaves no trace, has its effect and a receipt, and goes on exactly after a stop."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from trick_cases import CASES

from kagglekit.training.trainer import history
from kagglekit.tricks import ADVERSARIAL, AVERAGES, EMA, TRICKS, RDrop

BF16 = {"accumulation": 4, "precision": "bf16"}
ACTING = [name for name, case in CASES.items() if case.seam in ("step", "loss")]
ATTACKS, AVERAGING = [trick.__name__ for trick in ADVERSARIAL], [trick.__name__ for trick in AVERAGES]
RESUMED = [(name, knobs, stop, {}) for name, case in CASES.items() for knobs, stop in case.resumed]
RESUMED += [(name, knobs, 2, BF16) for place, (name, knobs, stop, _) in enumerate(RESUMED)
            if stop <= 4 and (name, knobs) not in [one[:2] for one in RESUMED[:place]]]  # fmt: skip
CHANGING = [("Mixup", {"alpha": 1.0, "layer": layer}) for layer in (0, 1, -1)]  # what layers are given, as they run
CHANGING += [("NEFTune", {"alpha": 20.0}), ("Mixout", {"probability": 0.4}), ("FreeLB", {"magnitude": 0.3})]
OFF = [(name, off, options) for name, case in CASES.items() for off in case.off for options in ({}, BF16)]
OFF = [one for one in OFF if one[0] != "FreeLB" or one[1][0]["steps"] == 1 or one[2] == {}]  # means of sums are rounded
TRAINED = {}  # runs that others are compared with


def entries(what):
    cases = [(name, one) for name, case in CASES.items() for one in getattr(case, what)]
    return pytest.mark.parametrize(("name", what), cases, ids=[f"{n}-{name}" for n, (name, _) in enumerate(cases)])


def made(name, knobs=()):
    """A trick at work from the first step on."""
    return TRICKS[name](**{**CASES[name].usual, **dict(knobs)})


def _is_quick(module):
    """Whether the model itself, and no trick, gave a module another forward."""
    return module.forward.func.__module__.startswith(("kagglekit.model.", "kagglekit.decoders."))


def hooks(model):
    """Whatever a trick could have left in a model."""
    modules = list(model.modules())
    left = [hook for module in modules for hook in (*module._forward_hooks, *module._forward_pre_hooks)]
    return left + [module for module in modules if "forward" in vars(module) and not _is_quick(module)]


def test_every_trick_has_an_entry():
    assert set(CASES) == set(TRICKS)
    assert all(case.off and case.effects and case.resumed for case in CASES.values())


@pytest.mark.parametrize(("name", "off", "options"), OFF)
def test_the_off_position_is_a_baseline_that_can_be_written_down(
    scored, trainer, baselines, weights, same, shown, logged, name, off, options
):
    knobs, baseline = off
    options = {**options, "dropout": 0.0 if (name, baseline) == ("PGD", "twice") else 0.1}
    key = f"{baseline} {options}"
    if key not in TRAINED:
        plain = trainer(baselines[baseline], "plain", **options)
        plain.train()
        TRAINED[key] = weights(plain.model), logged(plain, "learning_rate")
    run = scored([TRICKS[name](**knobs)], **options)
    run.train()
    assert same(weights(run.model), TRAINED[key][0]) and same(shown(run), TRAINED[key][0])
    assert logged(run, "learning_rate") == TRAINED[key][1]


@pytest.mark.parametrize(
    ("name", "pass_"), [(name, n) for name in ACTING for n in range(CASES[name].passes + 1)], ids=lambda v: f"{v}"
)
def test_nothing_is_left_behind_also_after_an_exception_in_any_pass(
    classifier, batch, compute, stepping, weights, same, name, pass_
):
    model, trick, calls = classifier().train(), made(name), []
    before, parameters, state = weights(model), list(model.parameters()), torch.get_rng_state()
    inputs = {key: tensor.clone() for key, tensor in batch.items()}

    def inner(inputs):
        calls.append(1)
        assert list(model.state_dict()) == list(before)
        return compute(model)(inputs) if len(calls) != pass_ else 1 / 0

    trick.on_train_begin(None, None, None, model=model)
    step = stepping(model, loss=partial(trick.compute_loss, inner, model))
    if pass_:
        with pytest.raises(ZeroDivisionError):
            trick.training_step(step, model, batch)
    else:
        trick.training_step(step, model, batch)
    assert len(calls) == (pass_ or CASES[name].passes)
    assert same(weights(model), before) and same(batch, inputs) and model.training and not hooks(model)
    assert all(parameter.requires_grad for parameter in parameters)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert CASES[name].draws or torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", AVERAGING)
def test_weights_come_back_after_evaluating_also_after_an_exception(scored, weights, same, shown, name):
    run = scored([made(name)])
    run.fit()
    live, state = weights(run.model), torch.get_rng_state()
    assert not same(shown(run), live) and same(weights(run.model), live)
    with pytest.raises(KeyError), run.evaluating():
        raise KeyError
    assert same(weights(run.model), live) and torch.equal(torch.get_rng_state(), state)


@entries("effects")
def test_the_effect_has_the_right_sign(kit, name, effects):
    values = effects(kit)
    assert values == sorted(set(values))


@entries("receipts")
def test_the_receipt_says_what_it_did(scored, name, receipts):
    knobs, expected = receipts
    receipt = scored([made(name, knobs)], dropout=0.1).fit()[name]
    assert receipt.keys() == expected.keys()
    assert all(low <= receipt[figure] <= high for figure, (low, high) in expected.items())


@pytest.mark.parametrize(("name", "knobs", "stop", "options"), RESUMED)
def test_stopped_and_resumed_is_never_stopped(scored, weights, same, shown, name, knobs, stop, options):
    def run(folder, stop=None):
        return scored([made(name, knobs)], folder, lambda step: step * 7 % 5, dropout=0.1, stop=stop, **options)

    def outcome(run):
        return weights(run.model), {f"shown {key}": tensor for key, tensor in shown(run).items()}

    key = f"resumed {name} {knobs} {options}"
    if key not in TRAINED:
        straight = run("straight")
        TRAINED[key] = straight.fit(), outcome(straight), history(straight.state.log_history), straight.tricks[0]
    run("run", stop).train()
    resumed = run("run")
    receipts, trained, steps, trick = TRAINED[key]
    assert resumed.fit() == receipts and history(resumed.state.log_history) == steps
    assert all(map(same, outcome(resumed), trained))
    assert same(resumed.tricks[0].state_dict(), trick.state_dict())


@pytest.mark.parametrize(
    ("order", "options"), [(1, {}), (-1, {"accumulation": 2}), (1, {"precision": "bf16"})], ids=str
)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_trains_beside_others_and_goes_on_after_a_stop(trainer, weights, same, logged, name, order, options):
    def run(folder, stop=None):
        return trainer([made(name), RDrop(), EMA(0.9)][::order], folder, dropout=0.1, stop=stop, **options)

    straight = run("straight")
    receipts, losses = straight.fit(), logged(straight, "loss")
    assert sum(losses[-3:]) < sum(losses[:3]) and min(receipts[name].values()) > 0
    run("run", 4).train()
    resumed = run("run")
    assert resumed.fit() == receipts and same(weights(straight.model), weights(resumed.model))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_scale_of_the_loss_does_not_matter(classifier, batch, stepping, gradients, near, name):
    models = classifier(), classifier()
    for model, scale in zip(models, (1.0, 2.0**16), strict=True):
        torch.manual_seed(0)
        made(name).training_step(stepping(model, scale), model, batch)
    one, other = map(gradients, models)
    assert near(one, [gradient / 2**16 for gradient in other], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_waits_for_the_device(name):
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 1)).to("meta")  # has no values to wait for
    model.get_input_embeddings = lambda: model[0]

    def step(inputs):
        loss = model(inputs).sum()
        loss.backward()
        return loss.detach()

    trick = TRICKS[name](magnitude=0.0) if name == "FreeLB" else TRICKS[name]()
    trick.training_step(step, model, torch.zeros(2, 3, dtype=torch.long, device="meta"))


@pytest.mark.parametrize("name", ["FGM", "PGD"])
def test_frozen_embeddings_are_moved_too_and_stay_as_they_are(classifier, batch, stepping, weights, same, name):
    free, model = classifier(), classifier()
    made(name).training_step(free_step := stepping(free), free, batch)
    model.head.requires_grad_(False)
    (table := model.get_input_embeddings()).requires_grad_(False)
    before = weights(model)
    made(name).training_step(step := stepping(model), model, batch)
    assert step.losses == free_step.losses and step.losses[-1] > step.losses[0]
    assert same(weights(model), before) and not table.weight.requires_grad
    assert table.weight.grad is None and model.head.weight.grad is None


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable")  # its new name is younger than 5.0
@pytest.mark.parametrize("whole", [False, True], ids=["layers", "model"])
@pytest.mark.parametrize(("name", "knobs"), CHANGING)
def test_layers_that_are_computed_again_for_the_backward_pass_are_changed_in_the_same_way(
    classifier, batch, compute, stepping, gradients, near, name, knobs, whole
):
    found = []
    for again in (False, True):
        model, trick = classifier(dropout=0.1).train(), made(name, knobs)
        trick.on_train_begin(None, None, None, model=model)
        torch.manual_seed(3)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)  # away from the pretrained weights
        forward = compute(model)
        if again and not whole:
            model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        loss = partial(checkpoint, forward, use_reentrant=False) if again and whole else forward
        trick.training_step(stepping(model, loss=loss), model, batch)
        found.append(gradients(model))
    assert near(*found, atol=1e-7)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
@pytest.mark.parametrize("name", ["Mixup", "RDrop"])
def test_other_kinds_train_with_tricks_that_look_at_labels_or_logits(trainer, logged, name, kind):
    run = trainer([made(name)], kind=kind, dropout=0.1, epochs=6)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
