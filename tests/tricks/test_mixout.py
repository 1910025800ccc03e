import pytest
import torch

from kagglekit.model.surgery import find_layers, freeze
from kagglekit.tricks import mixout as module
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.mixout import Mixout, mixed, mixout
from kagglekit.tricks.rdrop import RDrop


def trained_linears(backbone):
    """Those without adapters."""
    return module.trained_linears(backbone)[0]


@pytest.fixture
def moved(classifier):
    """moved(**options): a model in training, away from its pretrained weights, and a trick that knows these."""

    def make(probability=0.5, **options):
        model, trick = classifier(**options).train(), Mixout(probability)
        trick.on_train_begin(None, None, None, model=model)
        torch.manual_seed(7)
        for linear in trained_linears(model.backbone):
            linear.weight.data += 0.1 * torch.randn_like(linear.weight)
        return model, trick

    return make


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_mixout_is_the_formula_of_the_paper_and_so_is_its_gradient(probability):
    torch.manual_seed(0)
    weight, pretrained = torch.randn(40, 50, requires_grad=True), torch.randn(40, 50)
    mixture = mixout(weight, pretrained, probability)
    mask = (mixture == pretrained).float()
    expected = (mask * pretrained + (1 - mask) * weight - probability * pretrained) / (1 - probability)
    assert torch.allclose(mixture, expected, rtol=1e-4, atol=1e-5)
    assert mask.mean().item() == pytest.approx(probability, abs=0.03)
    mixture.sum().backward()
    assert torch.allclose(weight.grad, (1 - mask) / (1 - probability))


def test_the_expectation_is_the_weight():
    torch.manual_seed(0)
    weight, pretrained = torch.randn(4, 5), torch.randn(4, 5)
    mean = torch.stack([mixout(weight, pretrained, 0.3) for _ in range(20_000)]).mean(dim=0)
    assert torch.allclose(mean, weight, atol=0.05)


def test_on_the_pretrained_weights_it_changes_no_value(classifier, batch, compute):
    model = classifier().train()
    linears = trained_linears(model.backbone)
    with mixed(linears, [linear.weight.detach().clone() for linear in linears], 0.5):
        mixing = compute(model)(batch)[0]
    assert torch.equal(mixing, compute(model)(batch)[0])


def test_the_gradient_is_that_of_the_mixed_weights(moved, batch, stepping):
    """Through all layers: each linear layer uses its mixture in the forward and in the backward pass."""
    model, trick = moved(0.4)
    torch.manual_seed(3)
    trick.training_step(stepping(model), model, batch)
    by_hand, _ = moved(0.4)
    kept = []
    torch.manual_seed(3)
    for linear, source in zip(trained_linears(by_hand.backbone), trick.pretrained_, strict=True):  # in order of use
        draw = mixout(linear.weight.detach(), source, 0.4)
        kept.append(draw != source)
        linear.weight.data = draw
    stepping(by_hand)(batch)
    linears = zip(trained_linears(model.backbone), trained_linears(by_hand.backbone), kept, strict=True)
    for ours, theirs, stayed in linears:
        assert torch.allclose(ours.weight.grad, theirs.weight.grad * stayed / 0.6, rtol=1e-4, atol=1e-7)
    table = (m.get_input_embeddings().weight.grad for m in (model, by_hand))
    assert torch.allclose(*table, rtol=1e-4, atol=1e-7)


def test_evaluation_within_the_step_has_the_plain_weights(moved, batch, compute):
    model, trick = moved()
    plain = compute(model.eval())(batch)[0]
    with mixed(trained_linears(model.backbone), trick.pretrained_, trick.probability):
        assert torch.equal(compute(model)(batch)[0], plain)
        assert not torch.equal(compute(model.train())(batch)[0], plain)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_every_architecture_is_mixed_in_all_linear_layers(moved, backbones, batch, stepping, name):
    model, trick = moved(folder=backbones[name])
    layers = [m for m in find_layers(model.backbone).modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) <= len(trick.pretrained_)
    trick.training_step(stepping(model), model, batch)
    for linear in layers:
        assert (linear.weight.grad == 0).float().mean() > 0.2


def test_two_passes_of_one_step_are_mixed_anew(trainer):
    receipts = trainer([Mixout(0.5), RDrop(doubled=False)], dropout=0.0).fit()
    assert receipts["RDrop"]["mean disagreement"] > 0  # without any other noise


def test_frozen_layers_are_left_alone(classifier, batch, stepping):
    model = classifier()
    freeze(model.backbone, layers=1)
    trick = Mixout()
    trick.on_train_begin(None, None, None, model=model)
    assert (
        len(trick.pretrained_) == len([m for m in find_layers(model.backbone)[1].modules() if hasattr(m, "bias")]) - 2
    )
    trick.training_step(stepping(model), model, batch)
    model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="none is trained: leave Mixout out"):
        trick.training_step(stepping(model), model, batch)


def test_pretrained_is_what_training_began_with_also_after_a_late_start(trainer, classifier):
    late = Mixout(start=0.5)
    trainer([late]).fit()
    assert all(map(torch.equal, late.pretrained_, [m.weight for m in trained_linears(classifier().backbone)]))


@pytest.mark.parametrize(("order", "accumulation", "precision"), [(1, 2, "fp32"), (-1, 1, "bf16"), (1, 4, "bf16")])
def test_it_composes_with_fgm_and_ema(trainer, accumulation, precision, order, logged, weights, same):
    recipe = [Mixout(0.3), FGM(0.5), EMA(0.9)][::order]
    run = trainer(recipe, accumulation=accumulation, precision=precision, epochs=8)
    receipts = run.fit()
    assert receipts["Mixout"]["steps"] == 48 * (1 if order == 1 else 2)  # within FGM, in both of its passes
    assert receipts["Mixout"]["distance to pretrained weights"] > 0
    losses = logged(run, "loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    live = weights(run.model)
    with run.evaluating():
        assert not same(weights(run.model), live)
    assert same(weights(run.model), live)
