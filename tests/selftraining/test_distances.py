import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from kagglekit.selftraining.distillation_loss import (
    LOSSES,
    distribution_distance,
    hidden_distance,
    soften,
    value_distance,
)

LINKS = pytest.mark.parametrize("link", ["softmax", "sigmoid"])


@pytest.fixture
def logits():
    """Of a student and of a teacher."""
    return (2 * torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))).unbind()


def predictions(logits, link):
    return logits.softmax(-1) if link == "softmax" else logits.sigmoid()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_kl_is_the_divergence_of_both_at_the_temperature_times_its_square(logits, temperature):
    student, teacher = logits
    soft = Categorical(logits=teacher / temperature)
    expected = temperature**2 * kl_divergence(soft, Categorical(logits=student / temperature))
    ours = distribution_distance(student, teacher.softmax(-1), "softmax", "kl", temperature)
    assert ours.shape == (6,) and torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_labels_are_each_a_distribution_and_their_mean_counts(logits, temperature):
    student, teacher = logits
    p, q = (Bernoulli(logits=x / temperature) for x in (teacher, student))
    ours = distribution_distance(student, teacher.sigmoid(), "sigmoid", "kl", temperature)
    assert torch.allclose(ours, temperature**2 * kl_divergence(p, q).mean(-1), atol=1e-5)


def test_cross_entropy_is_that_of_torch_with_soft_labels(logits):
    student, teacher = logits
    ours = distribution_distance(student, teacher.softmax(-1), "softmax", "cross_entropy")
    assert torch.allclose(ours, F.cross_entropy(student, teacher.softmax(-1), reduction="none"), atol=1e-6)
    ours = distribution_distance(student, teacher.sigmoid(), "sigmoid", "cross_entropy")
    each = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")
    assert torch.allclose(ours, each.mean(-1), atol=1e-6)


def test_cosine_and_squared_difference_are_of_probabilities(logits):
    p, q = (x.softmax(-1) for x in logits)
    cosine = distribution_distance(logits[0], q, "softmax", "cosine")
    assert torch.allclose(cosine, 1 - (p * q).sum(-1) / (p.norm(dim=-1) * q.norm(dim=-1)), atol=1e-6)
    squared = distribution_distance(logits[0], q, "softmax", "mse")
    assert torch.allclose(squared, ((p - q) ** 2).mean(-1), atol=1e-6)


@LINKS
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_each_loss_leads_to_the_teacher(logits, link, loss):
    student, teacher = logits[0].clone().requires_grad_(), predictions(logits[1], link)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(distribution_distance(student, teacher, link, loss).sum(), student)
        student = (student - 5 * gradient).detach().requires_grad_()
    before, after = (distribution_distance(x, teacher, link, "kl").mean() for x in (logits[0], student))
    assert after < 0.1 * before


@LINKS
def test_cross_entropy_and_kl_have_the_same_gradients(logits, link):
    teacher, gradients = predictions(logits[1], link), []
    for loss in ("cross_entropy", "kl"):
        student = logits[0].clone().requires_grad_()
        distribution_distance(student, teacher, link, loss).sum().backward()
        gradients.append(student.grad)
    assert torch.allclose(*gradients, atol=1e-6)


@LINKS
@pytest.mark.parametrize("loss", LOSSES)
def test_a_teacher_that_is_sure_and_logits_without_measure_give_finite_losses(link, loss):
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    student = torch.tensor([[-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    each = distribution_distance(student, teacher, link, loss, 2.0 if loss == "kl" else 1.0)
    each.sum().backward()
    assert each.isfinite().all() and student.grad.isfinite().all()


def test_a_high_temperature_evens_out_and_a_low_one_sharpens():
    probs = torch.tensor([[0.7, 0.2, 0.1]])
    assert torch.allclose(soften(probs, "softmax", 1.0)[0, 0], probs[0])
    assert torch.allclose(soften(probs, "softmax", 1e6)[0, 0], torch.full((3,), 1 / 3), atol=1e-4)
    assert soften(probs, "softmax", 0.1)[0, 0, 0] > 0.999


@pytest.mark.parametrize("link", ["identity", "unit"])
def test_values_differ_in_units_of_their_scale(logits, link):
    center, scale = torch.tensor([10.0, 0.0, -5.0]), torch.tensor([2.0, 1.0, 0.5])
    student, teacher = logits[0], logits[1] * scale + center
    inside = student if link == "identity" else student.sigmoid()
    expected = ((inside - logits[1]) ** 2).mean(-1)
    assert torch.allclose(value_distance(student, teacher, link, center, scale), expected, atol=1e-4)


@pytest.mark.parametrize("link", ["corn", "cumulative", "expectation"])
def test_of_ordered_classes_the_expected_ones_differ(logits, link):
    probs = {"expectation": logits[0].softmax(-1) @ torch.arange(3.0), "cumulative": logits[0].sigmoid().sum(-1)}
    probs["corn"] = logits[0].sigmoid().cumprod(-1).sum(-1)
    ours = value_distance(logits[0], torch.full((6, 1), 1.5), link, torch.zeros(3), torch.ones(3))
    assert torch.allclose(ours, (probs[link] - 1.5) ** 2, atol=1e-5)


def test_hidden_states_are_compared_on_real_tokens_at_equal_distances():
    ours, theirs = torch.randn(2, 3, 4, 5), torch.randn(4, 3, 4, 5)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    real = mask.bool()
    expected = (((ours[0] - theirs[1])[real] ** 2).mean() + ((ours[1] - theirs[3])[real] ** 2).mean()) / 2
    assert torch.allclose(hidden_distance(list(ours), list(theirs), mask, torch.ones(3)), expected)
    first = hidden_distance(list(ours), list(theirs), mask, torch.tensor([1.0, 0.0, 0.0]))
    alone = hidden_distance(list(ours[:, :1]), list(theirs[:, :1]), mask[:1], torch.ones(1))
    assert torch.allclose(first, alone * 4 / 7)
