import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from kagglekit.training.trick import Trick
from kagglekit.tricks import RDrop
from kagglekit.tricks.rdrop import disagreement


class MeanOfTwo(Trick):
    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        loss, outputs = compute(inputs)
        return (loss + compute(inputs)[0]) / 2, outputs


@pytest.fixture
def logits():
    return torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_disagreement_of_classes_is_both_divergences(logits, kind):
    p, q = Categorical(logits=logits[0]), Categorical(logits=logits[1])
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean()
    assert disagreement(*logits, kind).item() == pytest.approx(expected.item(), rel=1e-5)


def test_disagreement_of_labels_is_both_divergences_of_each(logits):
    p, q = Bernoulli(logits=logits[0]), Bernoulli(logits=logits[1])
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean()
    assert disagreement(*logits, "multilabel").item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_disagreement_of_values_is_twice_the_squared_difference(logits, kind):
    assert disagreement(*logits, kind).item() == pytest.approx(2 * ((logits[0] - logits[1]) ** 2).mean().item())


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "ordinal"])
def test_disagreement_is_symmetric_and_zero_for_equal_passes(logits, kind):
    p, q = logits
    assert disagreement(p, q, kind) > 0
    assert torch.allclose(disagreement(p, q, kind), disagreement(q, p, kind))
    assert disagreement(p, p.clone(), kind) == 0


def test_the_loss_is_the_mean_of_both_and_half_alpha_of_the_disagreement(classifier, batch, compute):
    model = classifier(dropout=0.3).train()
    torch.manual_seed(1)
    loss, outputs = RDrop(3.0).compute_loss(compute(model), model, batch)
    torch.manual_seed(1)
    (first, one), (second, other) = compute(model)(batch), compute(model)(batch)
    apart = disagreement(one["logits"], other["logits"], "multiclass")
    assert loss.item() == pytest.approx(((first + second) / 2 + 1.5 * apart).item(), rel=1e-6)
    assert torch.equal(outputs["logits"], one["logits"]) and not torch.equal(one["logits"], other["logits"])


def test_rdrop_with_zero_alpha_is_the_mean_of_two_passes(fitted, weights, same):
    ours, two = fitted([RDrop(0.0)], "rdrop", dropout=0.1), fitted([MeanOfTwo()], "two", dropout=0.1)
    assert same(weights(ours.model), weights(two.model))


def test_weights_inputs_and_mode_are_as_before_also_after_an_exception(classifier, batch, compute, weights, same):
    model, inputs = classifier(dropout=0.3).train(), {name: tensor.clone() for name, tensor in batch.items()}
    before = weights(model)
    RDrop().compute_loss(compute(model), model, batch)
    with pytest.raises(KeyError):
        RDrop().compute_loss(compute(model), model, {"input_ids": batch["input_ids"]})
    assert same(weights(model), before) and same(batch, inputs) and model.training


def test_rdrop_lowers_disagreement(fitted, batch, compute):
    apart = {}
    for alpha in (0.0, 20.0):
        run = fitted([RDrop(alpha)], f"alpha{alpha}", dropout=0.2, epochs=6)
        run.model.train()
        torch.manual_seed(0)
        with torch.no_grad():
            passes = [compute(run.model)(batch)[1]["logits"] for _ in range(40)]
        pairs = zip(passes[::2], passes[1::2], strict=True)
        apart[alpha] = sum(disagreement(p, q, "multiclass") for p, q in pairs) / 20
    assert apart[20.0] < 0.5 * apart[0.0]


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_kinds_train_with_it(trainer, kind, logged):
    run = trainer([RDrop(1.0)], kind=kind, dropout=0.1, epochs=6)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_the_receipt_has_the_mean_disagreement(trainer):
    receipt = trainer([RDrop()], dropout=0.1).fit()["RDrop"]
    assert receipt["steps"] == 12 and 0 < receipt["mean disagreement"] < 1


def test_a_model_without_dropout_is_an_error(trainer):
    with pytest.raises(ValueError, match=r"no dropout. Set dropout=0.1, or leave RDrop out"):
        trainer([RDrop()], dropout=0.0).fit()


def test_the_gradient_of_disagreement_pulls_the_passes_together(logits):
    p, q = (pass_.clone().requires_grad_() for pass_ in logits)
    disagreement(p, q, "multiclass").backward()
    closer = disagreement(p - 0.1 * p.grad, q - 0.1 * q.grad, "multiclass")
    assert closer < disagreement(p, q, "multiclass")
