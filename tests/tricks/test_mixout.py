import pytest
import torch

from kagglekit.model.surgery import find_layers, freeze
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.mixout import Mixout, mixed, mixout, trained_linears
from kagglekit.tricks.rdrop import RDrop


@pytest.fixture
def moved(classifier):
    """moved(**options): a model away from its pretrained weights, and a trick that knows these."""

    def make(probability=0.5, **options):
        model, trick = classifier(**options), Mixout(probability)
        trick.on_train_begin(None, None, None, model=model)
        torch.manual_seed(7)
        for linear in trained_linears(model.backbone):
            linear.weight.data += 0.1 * torch.randn_like(linear.weight)
        return model, trick

    return make


def step_of(compute, model):
    """Forward and backward."""

    def step(inputs):
        model.train()
        loss, _ = compute(model)(inputs)
        loss.backward()
        return loss.detach()

    return step


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


def test_probability_zero_is_plain_training_bit_for_bit(fitted, weights, same):
    mixing, plain = fitted([Mixout(0.0)], "mixout", dropout=0.1), fitted(folder="plain", dropout=0.1)
    assert same(weights(mixing.model), weights(plain.model))


def test_on_the_pretrained_weights_it_changes_no_value(classifier, batch, compute):
    model = classifier().train()
    linears = trained_linears(model.backbone)
    with mixed(linears, [linear.weight.detach().clone() for linear in linears], 0.5):
        mixing = compute(model)(batch)[0]
    assert torch.equal(mixing, compute(model)(batch)[0])


def test_the_gradient_is_that_of_the_mixed_weights(moved, batch, compute):
    """Through all layers: each linear layer uses its mixture in the forward and in the backward pass."""
    model, trick = moved(0.4)
    torch.manual_seed(3)
    trick.training_step(step_of(compute, model), model, batch)
    by_hand, _ = moved(0.4)
    kept = []
    torch.manual_seed(3)
    for linear, source in zip(trained_linears(by_hand.backbone), trick.pretrained_, strict=True):  # in order of use
        draw = mixout(linear.weight.detach(), source, 0.4)
        kept.append(draw != source)
        linear.weight.data = draw
    step_of(compute, by_hand)(batch)
    linears = zip(trained_linears(model.backbone), trained_linears(by_hand.backbone), kept, strict=True)
    for ours, theirs, stayed in linears:
        assert torch.allclose(ours.weight.grad, theirs.weight.grad * stayed / 0.6, rtol=1e-4, atol=1e-7)
    table = (m.get_input_embeddings().weight.grad for m in (model, by_hand))
    assert torch.allclose(*table, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("breaks", [False, True])
def test_nothing_is_left_behind_also_after_an_exception(moved, batch, compute, weights, same, breaks):
    model, trick = moved()
    before, parameters = weights(model), list(model.parameters())
    inputs = {name: tensor.clone() for name, tensor in batch.items()}

    def step(inputs):
        compute(model)(inputs)[0].backward()
        assert list(model.state_dict()) == list(before)
        if breaks:
            raise InterruptedError

    if breaks:
        with pytest.raises(InterruptedError):
            trick.training_step(step, model, batch)
    else:
        trick.training_step(step, model, batch)
    assert same(weights(model), before) and same(batch, inputs)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert not any("forward" in vars(module) for module in model.modules())


def test_evaluation_within_the_step_has_the_plain_weights(moved, batch, compute):
    model, trick = moved()
    plain = compute(model.eval())(batch)[0]
    with mixed(trained_linears(model.backbone), trick.pretrained_, trick.probability):
        assert torch.equal(compute(model)(batch)[0], plain)
        assert not torch.equal(compute(model.train())(batch)[0], plain)


@pytest.mark.parametrize("probability", [0.3, 0.7])
def test_it_pulls_towards_the_pretrained_weights_as_the_paper_says(probability):
    """A squared loss is higher by p / (1 - p) times the squared distance, each weight times the square of its input."""
    torch.manual_seed(0)
    inputs, weight, pretrained = torch.randn(16, 5), torch.randn(5), torch.randn(5)
    linear = torch.nn.Linear(5, 20_000, bias=False)  # as many draws of the same five weights
    linear.weight.data = weight.expand(20_000, 5).clone()
    with mixed([linear], [pretrained.expand(20_000, 5)], probability):
        loss = linear(inputs).square().mean()
    pull = probability / (1 - probability) * ((weight - pretrained) ** 2 * inputs.square().mean(dim=0)).sum()
    assert loss.item() == pytest.approx(((inputs @ weight).square().mean() + pull).item(), rel=0.03)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_every_architecture_is_mixed_in_all_linear_layers(moved, backbones, batch, compute, name):
    model, trick = moved(folder=backbones[name])
    layers = [m for m in find_layers(model.backbone).modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) <= len(trick.pretrained_)
    trick.training_step(step_of(compute, model), model, batch)
    for linear in layers:
        assert (linear.weight.grad == 0).float().mean() > 0.2


def test_two_passes_of_one_step_are_mixed_anew(trainer):
    receipts = trainer([Mixout(0.5), RDrop(doubled=False)], dropout=0.0).fit()
    assert receipts["RDrop"]["mean disagreement"] > 0  # without any other noise


def test_what_is_computed_again_for_the_backward_pass_is_mixed_the_same(moved, batch, compute):
    gradients = []
    for checkpointing in (False, True):
        model, trick = moved(dropout=0.1)
        if checkpointing:
            model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(3)
        trick.training_step(step_of(compute, model), model, batch)
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(*gradients, strict=True))


def test_frozen_layers_are_left_alone(moved, classifier, batch, compute):
    model = classifier()
    freeze(model.backbone, layers=1)
    trick = Mixout()
    trick.on_train_begin(None, None, None, model=model)
    assert (
        len(trick.pretrained_) == len([m for m in find_layers(model.backbone)[1].modules() if hasattr(m, "bias")]) - 2
    )
    trick.training_step(step_of(compute, model), model, batch)
    model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="none is trained: leave Mixout out"):
        trick.training_step(step_of(compute, model), model, batch)


@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("stop", [3, 8])
def test_stopped_and_resumed_is_never_stopped(trainer, weights, same, start, stop):
    straight = trainer([Mixout(0.5, start=start)], "straight", dropout=0.1)
    receipts = straight.fit()
    trainer([Mixout(0.5, start=start)], stop=stop, dropout=0.1).train()
    resumed = trainer([Mixout(0.5, start=start)], dropout=0.1)
    assert resumed.fit() == receipts
    assert same(weights(straight.model), weights(resumed.model))
    assert all(map(torch.equal, straight.tricks[0].pretrained_, resumed.tricks[0].pretrained_))


def test_pretrained_is_what_training_began_with_also_after_a_late_start(trainer, classifier):
    late = Mixout(start=0.5)
    trainer([late]).fit()
    assert all(map(torch.equal, late.pretrained_, [m.weight for m in trained_linears(classifier().backbone)]))


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (1, "bf16"), (4, "bf16")])
@pytest.mark.parametrize("order", [1, -1])
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


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_out_of_range_is_an_error(probability):
    with pytest.raises(
        ValueError, match=f"Mixout: probability={probability} is out of range: it must be from 0 to below 1"
    ):
        Mixout(probability).check()
