import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from kagglekit.tricks.rdrop import RDrop, disagreement

LINKS = ["softmax", "expectation", "sigmoid", "corn", "cumulative", "identity", "unit"]
BOTH = pytest.mark.parametrize("doubled", [False, True], ids=["two-passes", "doubled"])


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
def test_one_doubled_batch_is_two_passes_when_they_drop_the_same(classifier, batch, compute, gradients, near, rows):
    inputs, results = {name: tensor[:rows] for name, tensor in batch.items()}, []
    for doubled in (False, True):
        model = classifier().train()
        dropouts = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)]
        for seed, name in enumerate(dropouts):
            model.set_submodule(name, GivenDropout(rows, seed))
        trick = RDrop(2.0, doubled)
        loss, outputs = trick.compute_loss(compute(model), model, inputs)
        loss.backward()
        results.append((loss.detach(), trick.disagreement_, outputs["logits"].detach(), *gradients(model)))
    assert results[0][1] > 1e-6
    assert [two.shape for two in results[0]] == [one.shape for one in results[1]] and near(*results)


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
def test_a_model_without_dropout_is_an_error(trainer, doubled):
    with pytest.raises(ValueError, match=r"no dropout. Set dropout=0.1, or leave RDrop out"):
        trainer([RDrop(doubled=doubled)], dropout=0.0).fit()
