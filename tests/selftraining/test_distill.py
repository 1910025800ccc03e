import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens
from kagglekit.device import checkpoint_activations
from kagglekit.selftraining.distillation_loss import (
    Distillation,
    distribution_distance,
    hidden_distance,
    layer_states,
    row_weights,
)
from kagglekit.training.predict import predict
from kagglekit.tricks import FGM, Mixup, RDrop

ARCHITECTURES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]


@pytest.fixture
def taught(trainer):
    """taught(tricks, **options): a trainer whose batches bring a teacher that is nearly sure of the next class."""

    def make(tricks, folder="run", kind="multiclass", **options):
        run = trainer(tricks, folder, kind=kind, **options)
        labels = np.arange(24) % 3
        run.train_dataset.arrays["teacher"] = (0.85 * np.eye(3)[labels] + 0.05).astype(np.float32)
        return run

    return make


@pytest.fixture
def other(classifier):
    """A teacher with other weights than the student begins with."""
    model = classifier(seed=5)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.fixture
def live(other, tmp_path):
    """The folder of that teacher."""
    other.save(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture
def probs():
    return torch.rand(8, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_the_loss_is_a_mixture_of_its_own_and_the_distance(classifier, batch, compute, probs):
    model = classifier()
    own, outputs = compute(model)(batch)
    trick = Distillation(0.3, "kl", 2.0)
    loss, ours = trick.compute_loss(compute(model), model, {**batch, "teacher": probs})
    apart = distribution_distance(outputs["logits"], probs, "softmax", "kl", 2.0).mean()
    assert torch.allclose(loss, 0.7 * own + 0.3 * apart) and torch.equal(ours["logits"], outputs["logits"])


def test_hidden_states_of_the_live_teacher_are_added(classifier, batch, compute, probs, live):
    model, trick = classifier(), Distillation(0.0, hidden=0.5, teacher=live)
    trick.on_train_begin(None, None, None, model=model)
    with layer_states(model.backbone) as ours, layer_states(trick.live.backbone) as theirs:
        own, _ = compute(model)(batch)
        trick.live(batch["attention_mask"], input_ids=batch["input_ids"])
    assert len(ours) == len(theirs) == 2
    expected = own + 0.5 * hidden_distance(ours, theirs, batch["attention_mask"], torch.ones(8))
    loss, _ = trick.compute_loss(compute(model), model, {**batch, "teacher": probs})
    assert torch.allclose(loss, expected) and loss > own + 0.01


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_states_of_every_architecture_are_found_and_hooks_go_away(classifier, backbones, batch, compute, name):
    model = classifier(folder=backbones[name])
    with layer_states(model.backbone) as states:
        compute(model)(batch)
    assert [state.shape for state in states] == [(*batch["input_ids"].shape, 16)] * 2
    assert all(state.requires_grad for state in states)
    assert not any(module._forward_hooks for module in model.modules())


def test_activations_that_are_computed_again_have_the_same_gradients(classifier, batch, compute, probs, live):
    found = []
    for again in (False, True):
        model, trick = classifier().train(), Distillation(hidden=1.0, teacher=live)
        if again:
            checkpoint_activations(model.backbone)
        trick.on_train_begin(None, None, None, model=model)
        trick.compute_loss(compute(model), model, {**batch, "teacher": probs})[0].backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_rows_with_weights_count_by_them_and_logits_of_other_targets_do_not(classifier, compute, batch, probs):
    model = classifier(auxiliary=[("identity", 1)])
    labels = torch.cat([F.one_hot(batch["labels"], 3).float(), torch.zeros(8, 1)], dim=1)  # of both targets
    weights = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    assert torch.equal(row_weights(labels, 4), torch.ones(8))
    assert torch.equal(row_weights(torch.cat([labels, weights[:, None]], dim=1), 4), weights)

    def unweighted(inputs):
        outputs = model(inputs["attention_mask"], input_ids=inputs["input_ids"])
        return torch.zeros(()), outputs

    inputs = {**batch, "labels": torch.cat([labels, weights[:, None]], dim=1), "teacher": probs}
    loss, outputs = Distillation(1.0).compute_loss(unweighted, model, inputs)
    first = distribution_distance(outputs["logits"][:1, :3], probs[:1], "softmax")
    assert torch.allclose(loss, first.sum() / 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_distillation_with_weight_zero_is_plain_training(taught, trainer, weights, same, precision):
    options = {"dropout": 0.1, "precision": precision}
    ours = taught([Distillation(0.0)], **options)
    ours.fit()
    plain = trainer([], "plain", **options)
    plain.fit()
    assert same(weights(ours.model), weights(plain.model))


def test_hidden_zero_is_distillation_without_a_live_teacher(taught, weights, same, live):
    ours, plain = taught([Distillation(0.5, hidden=0.0, teacher=live)]), taught([Distillation(0.5)], "plain")
    assert ours.fit() == plain.fit() and same(weights(ours.model), weights(plain.model))


def test_inputs_teacher_modes_and_random_state_are_as_before(
    classifier, batch, compute, probs, live, other, weights, same
):
    model, inputs = classifier(dropout=0.3).train(), {**batch, "teacher": probs}
    trick, before = Distillation(hidden=1.0, teacher=live), dict(inputs)
    state = torch.get_rng_state()
    trick.on_train_begin(None, None, None, model=model)
    assert torch.equal(torch.get_rng_state(), state)
    loss, _ = trick.compute_loss(compute(model), model, inputs)
    loss.backward()
    assert same(inputs, before) and model.training and not trick.live.training
    assert same(weights(trick.live), weights(other))
    assert all(p.grad is None and not p.requires_grad for p in trick.live.parameters())
    assert all(p.grad is not None for p in model.backbone.encoder.parameters())
    with pytest.raises(KeyError):
        trick.compute_loss(compute(model), model, {"teacher": probs, "input_ids": batch["input_ids"]})
    assert not any(module._forward_hooks for module in model.modules())
    trick.on_train_end(None, None, None)
    assert trick.live is None


def test_a_student_learns_from_soft_labels_where_hard_ones_are_noise(trainer, examples):
    data, accuracy = examples(rows=48), {}
    truth, noise = data.arrays["labels"], np.random.default_rng(0).integers(0, 3, 48)
    heard = (0.7 * np.eye(3)[truth] + 0.1).astype(np.float32)
    for weight in (0.0, 0.9):
        run = trainer([Distillation(weight, temperature=2.0)], f"weight{weight}", epochs=8)
        run.train_dataset = Examples(data.tokens, 0, noise, {"teacher": heard})
        run.fit()
        unseen = np.random.default_rng(1).integers(5, 30, (200, 4)).astype(np.int32)
        unseen[:, 0], unseen[:, -1] = 2, 3
        predicted = predict(run.model, Examples(Tokens(unseen.ravel(), np.full(200, 4)), 0), "fp32").argmax(axis=1)
        accuracy[weight] = np.mean(predicted == unseen[:, 1] % 3)
    assert accuracy[0.9] > accuracy[0.0] + 0.25


def test_the_states_of_the_student_come_nearer_to_those_of_the_teacher(taught, live):
    apart = {}
    for hidden in (1e-9, 1.0):
        run = taught([Distillation(0.5, hidden=hidden, teacher=live)], f"hidden{hidden}", epochs=4)
        apart[hidden] = run.fit()["Distillation"]["mean distance of states"]
    assert apart[1.0] < 0.7 * apart[1e-9]


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_kinds_learn_from_a_teacher_too(trainer, kind):
    run = trainer([Distillation(1.0)], kind=kind, epochs=12)
    theirs = np.random.default_rng(0).random((24, 3)).astype(np.float32)
    run.train_dataset.arrays["teacher"] = theirs
    run.fit()
    predicted = predict(run.model, Examples(run.train_dataset.tokens, 0), "fp32")
    assert ((predicted - theirs) ** 2).mean() < 0.7 * ((theirs.mean(axis=0) - theirs) ** 2).mean()


@pytest.mark.parametrize("doubled", [False, True], ids=["two-passes", "doubled"])
def test_rdrop_around_it_has_both_halves_learn_from_the_teacher(classifier, batch, compute, probs, live, doubled):
    model, trick = classifier(), Distillation(0.4, hidden=0.3, teacher=live)
    trick.on_train_begin(None, None, None, model=model)
    inputs = {**batch, "teacher": probs}
    alone, _ = trick.compute_loss(compute(model), model, inputs)
    both, _ = RDrop(1.0, doubled).compute_loss(lambda x: trick.compute_loss(compute(model), model, x), model, inputs)
    assert torch.allclose(both, alone, rtol=1e-4)  # without dropout both passes are equal


def test_it_composes_with_other_tricks(taught, live):
    tricks = [FGM(), Mixup(), RDrop(), Distillation(0.5, hidden=0.1, teacher=live)]
    receipts = taught(tricks, dropout=0.1, accumulation=2, precision="bf16").fit()
    assert receipts["Distillation"]["steps"] == 24 and receipts["Distillation"]["mean distance from the teacher"] > 0


@pytest.mark.parametrize("options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"])
def test_stopped_and_resumed_is_never_stopped(taught, weights, same, live, options):
    make = lambda: [RDrop(), Distillation(0.5, "kl", 2.0, 0.1, live)]  # noqa: E731
    straight = taught(make(), "straight", dropout=0.1, **options)
    receipts = straight.fit()
    taught(make(), dropout=0.1, stop=4, **options).train()
    resumed = taught(make(), dropout=0.1, **options)
    assert resumed.fit() == receipts and receipts["Distillation"]["steps"] == 12
    assert same(weights(straight.model), weights(resumed.model))


def test_it_is_built_again_from_its_own_words():
    trick = Distillation(0.3, "kl", 2.0)
    assert vars(eval(repr(trick))) == vars(trick)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": 1.5}, "weight=1.5 is out of range: it must be from 0 to 1"),
        ({"loss": "l1"}, "loss='l1' is out of range: it must be empty, or of cross_entropy, kl, cosine, mse"),
        ({"temperature": 0}, "temperature=0 is out of range: it must be above 0"),
        ({"temperature": 2.0, "loss": "cosine"}, "temperature=2.0 is of loss='kl', not of 'cosine'"),
        ({"hidden": 0.5}, "hidden=0.5 needs the folder of a model"),
    ],
)
def test_a_knob_out_of_range_is_an_error(options, words):
    with pytest.raises(ValueError, match=words):
        Distillation(**options).check()


def test_a_loss_of_probabilities_is_an_error_for_values(trainer):
    run = trainer([Distillation(0.5, "kl")], kind="regression")
    with pytest.raises(ValueError, match=r"loss='kl' is of probabilities, and this task has values: set 'mse'"):
        run.fit()
