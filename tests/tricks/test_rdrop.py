import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from kagglekit.tricks.rdrop import RDrop, disagreement
from kagglekit.tricks.trick import Trick

LINKS = ["softmax", "expectation", "sigmoid", "corn", "cumulative", "identity", "unit"]
BOTH = pytest.mark.parametrize("doubled", [False, True], ids=["two-passes", "doubled"])


class MeanOfTwo(Trick):
    """Without the disagreement: the mean of two passes, or the loss of every row twice."""

    def __init__(self, doubled):
        self.doubled = doubled

    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        if self.doubled:
            return compute({name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in inputs.items()})
        loss, outputs = compute(inputs)
        return (loss + compute(inputs)[0]) / 2, outputs


class GivenDropout(torch.nn.Module):
    """Dropout that can be known: what it drops in the first and in the second pass over `rows` rows is given."""

    p = 0.0  # that of attention, which only reads this

    def __init__(self, rows, seed):
        super().__init__()
        self.rows, self.seed, self.view = rows, seed, 0

    def forward(self, hidden):
        masks = []
        for _ in range(len(hidden) // self.rows):
            generator = torch.Generator().manual_seed(2 * self.seed + self.view)
            masks.append((torch.rand((self.rows, *hidden.shape[1:]), generator=generator) > 0.3) / 0.7)
            self.view = (self.view + 1) % 2
        return hidden * torch.cat(masks)


@pytest.fixture
def logits():
    return torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("link", ["softmax", "expectation"])
def test_disagreement_of_classes_is_both_divergences(logits, link):
    p, q = Categorical(logits=logits[0]), Categorical(logits=logits[1])
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean()
    assert disagreement(*logits, link).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("link", ["sigmoid", "corn", "cumulative"])
def test_disagreement_of_labels_or_levels_is_both_divergences_of_each(logits, link):
    p, q = Bernoulli(logits=logits[0]), Bernoulli(logits=logits[1])
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean()
    assert disagreement(*logits, link).item() == pytest.approx(expected.item(), rel=1e-5)


def test_disagreement_of_values_is_twice_the_squared_difference(logits):
    p, q = logits
    assert disagreement(p, q, "identity").item() == pytest.approx(2 * ((p - q) ** 2).mean().item())
    assert disagreement(p, q, "unit").item() == pytest.approx(2 * ((p.sigmoid() - q.sigmoid()) ** 2).mean().item())


@pytest.mark.parametrize("link", LINKS)
def test_disagreement_is_symmetric_and_zero_for_equal_passes(logits, link):
    p, q = logits
    assert disagreement(p, q, link) > 0
    assert torch.allclose(disagreement(p, q, link), disagreement(q, p, link))
    assert disagreement(p, p.clone(), link) == 0


@pytest.mark.parametrize("link", LINKS)
def test_the_gradient_of_disagreement_pulls_the_passes_together(logits, link):
    p, q = (pass_.clone().requires_grad_() for pass_ in logits)
    disagreement(p, q, link).backward()
    assert disagreement(p - 0.1 * p.grad, q - 0.1 * q.grad, link) < disagreement(p, q, link)


def test_the_loss_is_the_mean_of_both_and_half_alpha_of_the_disagreement(classifier, batch, compute):
    model = classifier(dropout=0.3).train()
    torch.manual_seed(1)
    loss, outputs = RDrop(3.0, doubled=False).compute_loss(compute(model), model, batch)
    torch.manual_seed(1)
    (first, one), (second, other) = compute(model)(batch), compute(model)(batch)
    apart = disagreement(one["logits"], other["logits"], "softmax")
    assert loss.item() == pytest.approx(((first + second) / 2 + 1.5 * apart).item(), rel=1e-6)
    assert torch.equal(outputs["logits"], one["logits"]) and not torch.equal(one["logits"], other["logits"])


@pytest.mark.parametrize("rows", [8, 1])
def test_one_doubled_batch_is_two_passes_when_they_drop_the_same(classifier, batch, compute, rows):
    inputs, results = {name: tensor[:rows] for name, tensor in batch.items()}, []
    for doubled in (False, True):
        model = classifier().train()
        dropouts = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)]
        for seed, name in enumerate(dropouts):
            model.set_submodule(name, GivenDropout(rows, seed))
        trick = RDrop(2.0, doubled)
        loss, outputs = trick.compute_loss(compute(model), model, inputs)
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append((loss.detach(), trick.disagreement_, outputs["logits"].detach(), *gradients))
    assert results[0][1] > 1e-6
    for two, one in zip(*results, strict=True):
        assert two.shape == one.shape and torch.allclose(two, one, rtol=1e-4, atol=1e-6)


def test_everything_about_a_row_is_doubled_with_it():
    model = torch.nn.Module()
    model.blocks = [("softmax", 3)]
    inputs = {"input_ids": torch.arange(8).view(2, 2, 2), "attention_mask": torch.ones(2, 2, 2, dtype=torch.int64)}
    inputs |= {"features": torch.randn(2, 3), "labels": torch.randn(2, 3)}
    seen = {}

    def compute(inputs):
        seen.update(inputs)
        return torch.tensor(0.0), {"logits": torch.arange(12.0).view(4, 3), "pooled": torch.randn(4, 5)}

    _, outputs = RDrop(doubled=True).compute_loss(compute, model, inputs)
    for name, tensor in inputs.items():
        assert torch.equal(seen[name][:2], tensor) and torch.equal(seen[name][2:], tensor)
    assert outputs["logits"].tolist() == [[0, 1, 2], [3, 4, 5]] and outputs["pooled"].shape == (2, 5)


@BOTH
def test_each_target_disagrees_in_its_own_way_and_they_add_up(logits, doubled):
    model, passes = torch.nn.Module(), list(logits)
    model.blocks = [("softmax", 2), ("identity", 1)]

    def compute(inputs):
        return torch.tensor(0.0), {"logits": torch.cat(passes) if doubled else passes.pop(0)}

    inputs = {"attention_mask": torch.ones(5, 1), "labels": torch.zeros(5)}
    loss, _ = RDrop(2.0, doubled).compute_loss(compute, model, inputs)
    (p, q), (a, b) = ([half[:, columns] for half in logits] for columns in (slice(2), slice(2, 3)))
    assert loss.item() == pytest.approx((disagreement(p, q, "softmax") + 2 * F.mse_loss(a, b)).item())


@BOTH
def test_rdrop_with_zero_alpha_is_the_mean_of_two_passes(fitted, weights, same, doubled):
    ours, two = fitted([RDrop(0.0, doubled)], "rdrop", dropout=0.1), fitted([MeanOfTwo(doubled)], "two", dropout=0.1)
    assert same(weights(ours.model), weights(two.model))


@BOTH
def test_weights_inputs_and_mode_are_as_before_also_after_an_exception(
    classifier, batch, compute, weights, same, doubled
):
    model, inputs = classifier(dropout=0.3).train(), {name: tensor.clone() for name, tensor in batch.items()}
    before = weights(model)
    RDrop(doubled=doubled).compute_loss(compute(model), model, batch)
    with pytest.raises(KeyError):
        RDrop(doubled=doubled).compute_loss(compute(model), model, {n: t for n, t in batch.items() if n != "input_ids"})
    assert same(weights(model), before) and same(batch, inputs) and model.training


@BOTH
def test_rdrop_lowers_disagreement(fitted, batch, compute, doubled):
    apart = {}
    for alpha in (0.0, 20.0):
        run = fitted([RDrop(alpha, doubled)], f"alpha{alpha}", dropout=0.2, epochs=12)
        run.model.train()
        torch.manual_seed(0)
        with torch.no_grad():
            passes = [compute(run.model)(batch)[1]["logits"] for _ in range(40)]
        pairs = zip(passes[::2], passes[1::2], strict=True)
        apart[alpha] = sum(disagreement(p, q, "softmax") for p, q in pairs) / 20
    assert apart[20.0] < 0.5 * apart[0.0]


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_kinds_train_with_it(trainer, kind, logged):
    run = trainer([RDrop(1.0)], kind=kind, dropout=0.1, epochs=6)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


@BOTH
def test_the_receipt_has_the_mean_disagreement(trainer, doubled):
    receipt = trainer([RDrop(doubled=doubled)], dropout=0.1).fit()["RDrop"]
    assert receipt["steps"] == 12 and 0 < receipt["mean disagreement"] < 1


@BOTH
def test_a_model_without_dropout_is_an_error(trainer, doubled):
    with pytest.raises(ValueError, match=r"no dropout. Set dropout=0.1, or leave RDrop out"):
        trainer([RDrop(doubled=doubled)], dropout=0.0).fit()


def test_a_negative_alpha_is_an_error():
    with pytest.raises(ValueError, match=r"RDrop: alpha=-1.0 is out of range: it must be 0 or more"):
        RDrop(-1.0).check()


@BOTH
@pytest.mark.parametrize("options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"])
def test_stopped_and_resumed_is_never_stopped(trainer, weights, same, doubled, options):
    straight = trainer([RDrop(2.0, doubled)], "straight", dropout=0.1, **options)
    receipts = straight.fit()
    trainer([RDrop(2.0, doubled)], dropout=0.1, stop=4, **options).train()
    resumed = trainer([RDrop(2.0, doubled)], dropout=0.1, **options)
    assert resumed.fit() == receipts and receipts["RDrop"]["steps"] == 12
    assert same(weights(straight.model), weights(resumed.model))
