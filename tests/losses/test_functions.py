import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch.nn import functional as F

from kagglekit.losses import functions as formulas
from kagglekit.losses.catalogue import LOSSES

RANDOM = np.random.default_rng(0)
LOGITS = torch.tensor(RANDOM.normal(size=(7, 4)), dtype=torch.float32)
CLASSES = torch.tensor(RANDOM.integers(0, 4, 7))
LABELS = torch.tensor(RANDOM.integers(0, 2, (7, 4)), dtype=torch.float32)
VALUES = torch.tensor(RANDOM.normal(size=(7, 4)), dtype=torch.float32)
SHARES = torch.tensor(RANDOM.random((7, 4)), dtype=torch.float32)
LEVELS = (CLASSES[:, None] > torch.arange(4)).float()
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.0])
CASES = {  # name -> (function, targets of LOGITS)
    "cross_entropy": (formulas.cross_entropy, CLASSES),
    "bce": (formulas.bce, LABELS),
    "focal": (formulas.focal, CLASSES),
    "focal_bce": (formulas.focal_bce, LABELS),
    "soft_f1": (formulas.soft_f1, CLASSES),
    "soft_f1_bce": (formulas.soft_f1_bce, LABELS),
    "squared_error": (formulas.squared_error, VALUES),
    "smooth_l1": (formulas.smooth_l1, VALUES),
    "bce_scaled": (formulas.bce_scaled, SHARES),
    "pearson": (formulas.pearson, VALUES),
    "ranking": (formulas.ranking, VALUES),
    "corn": (formulas.corn, LEVELS),
    "cumulative": (formulas.cumulative, LEVELS),
}
OF_CLASSES = ("cross_entropy", "focal", "soft_f1")


def near(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(wanted), atol=tolerance, rtol=tolerance, check_dtype=False
    )


def of_logits(loss, logits, targets, **options):
    """The loss, and its gradient by the logits."""
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets, **options)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def test_every_function_of_the_catalogue_is_tested():
    entries = [entry for kinds in LOSSES.values() for entry in kinds.values()]
    assert {entry.function for entry in entries} == {function for function, _ in CASES.values()}


# against references


def test_cross_entropy_is_minus_the_log_probability():
    probs = LOGITS.softmax(1)
    near(formulas.cross_entropy(LOGITS, CLASSES), np.mean([-math.log(probs[i, c]) for i, c in enumerate(CLASSES)]))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_cross_entropy_of_class_numbers_is_that_of_torch(class_weights, label_smoothing):
    wanted = F.cross_entropy(LOGITS, CLASSES, weight=class_weights, label_smoothing=label_smoothing)
    near(formulas.cross_entropy(LOGITS, CLASSES, class_weights, label_smoothing), wanted)


def test_soft_cross_entropy_has_the_gradient_of_kullback_leibler():
    probs = VALUES.softmax(1)
    _, found = of_logits(formulas.cross_entropy, LOGITS, probs)
    _, wanted = of_logits(lambda x, y: F.kl_div(x.log_softmax(1), y, reduction="batchmean"), LOGITS, probs)
    near(found, wanted)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_bce_is_the_mean_over_rows_and_labels(label_smoothing):
    probs, total = LOGITS.sigmoid(), 0
    for p, t, w in zip(probs.flatten(), LABELS.flatten(), WEIGHTS.repeat(7), strict=True):
        t = t * (1 - label_smoothing) + 0.5 * label_smoothing
        total -= w * t * p.log() + (1 - t) * (1 - p).log()
    near(formulas.bce(LOGITS, LABELS, WEIGHTS, label_smoothing), total / 28)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_counts_hard_rows_more(gamma):
    p = LOGITS.softmax(1)[torch.arange(7), CLASSES]
    near(formulas.focal(LOGITS, CLASSES, gamma), (-((1 - p) ** gamma) * p.log()).mean())
    weights = WEIGHTS[CLASSES]
    near(
        formulas.focal(LOGITS, CLASSES, gamma, WEIGHTS),
        (-weights * (1 - p) ** gamma * p.log()).sum() / weights.sum(),
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_bce_counts_hard_labels_more(gamma):
    p = torch.where(LABELS == 1, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    weights = torch.where(LABELS == 1, WEIGHTS, 1)
    near(formulas.focal_bce(LOGITS, LABELS, gamma, WEIGHTS), (-weights * (1 - p) ** gamma * p.log()).mean())


@pytest.mark.parametrize("name", ["soft_f1", "soft_f1_bce"])
def test_soft_f1_counts_probabilities(name):
    loss, targets = CASES[name]
    probs = LOGITS.softmax(1) if name == "soft_f1" else LOGITS.sigmoid()
    truth, scores = F.one_hot(targets, 4) if name == "soft_f1" else targets, []
    for k in range(4):
        tp = sum(probs[i, k] * truth[i, k] for i in range(7))
        fp = sum(probs[i, k] * (1 - truth[i, k]) for i in range(7))
        fn = sum((1 - probs[i, k]) * truth[i, k] for i in range(7))
        scores.append(2 * tp / (2 * tp + fp + fn))
    near(loss(LOGITS, targets), 1 - sum(scores) / 4)


def test_soft_f1_of_sure_predictions_is_macro_f1():
    guesses = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    wanted = f1_score(CLASSES, guesses, average="macro")
    near(formulas.soft_f1(60 * F.one_hot(guesses, 4).float(), CLASSES), 1 - wanted)


def test_squared_and_absolute_errors():
    errors = (LOGITS - VALUES).abs()
    near(formulas.squared_error(LOGITS, VALUES), errors.square().mean())
    near(formulas.squared_error(LOGITS[:, :1], VALUES[:, 0]), errors[:, 0].square().mean())
    for beta in (0.5, 1.0):
        small = errors < beta
        wanted = torch.where(small, errors**2 / (2 * beta), errors - beta / 2).mean()
        near(formulas.smooth_l1(LOGITS, VALUES, beta), wanted)


def test_bce_scaled_is_lowest_where_the_sigmoid_is_the_target():
    wanted = -(SHARES * LOGITS.sigmoid().log() + (1 - SHARES) * (1 - LOGITS.sigmoid()).log()).mean()
    near(formulas.bce_scaled(LOGITS, SHARES), wanted)
    _, gradient = of_logits(formulas.bce_scaled, SHARES.logit(), SHARES)
    near(gradient, torch.zeros(7, 4), 1e-7)


def test_pearson_is_that_of_numpy():
    wanted = np.mean([np.corrcoef(LOGITS[:, k], VALUES[:, k])[0, 1] for k in range(4)])
    near(formulas.pearson(LOGITS, VALUES), 1 - wanted)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_pearson_does_not_see_level_and_spread(scale, shift):
    near(formulas.pearson(LOGITS * scale + shift, VALUES), formulas.pearson(LOGITS, VALUES), 1e-3)
    near(formulas.pearson(VALUES * scale + shift, VALUES), 0.0, 1e-3)
    near(formulas.pearson(-VALUES * scale + shift, VALUES), 2.0, 1e-3)


@settings(max_examples=30, deadline=None)
@given(ranks=st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_ranking_goes_through_the_pairs(ranks):
    n = len(ranks)
    pairs = [(i, j) for i in range(n) for j in range(n) if ranks[i] > ranks[j]]
    losses = [math.log1p(math.exp(LOGITS[j, 0] - LOGITS[i, 0])) for i, j in pairs]
    targets = torch.tensor(ranks, dtype=torch.float32)[:, None]
    near(formulas.ranking(LOGITS[:n, :1], targets), np.mean(losses or [0.0]))


def test_ranking_is_a_mean_over_columns():
    near(
        formulas.ranking(LOGITS, VALUES),
        torch.stack([formulas.ranking(LOGITS[:, [k]], VALUES[:, [k]]) for k in range(4)]).mean(),
    )


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_corn_goes_through_the_conditional_subsets(labels):
    total = count = 0
    for k in range(4):
        for i, label in enumerate(labels):
            if label > k - 1:
                p = LOGITS[i, k].sigmoid().item()
                total -= math.log(p if label > k else 1 - p)
                count += 1
    levels = (torch.tensor(labels)[:, None] > torch.arange(4)).float()
    near(formulas.corn(LOGITS[: len(labels)], levels), total / count)


def test_cumulative_goes_through_all_levels():
    p = LOGITS.sigmoid()
    wanted = [-math.log(p[i, k] if c > k else 1 - p[i, k]) for i, c in enumerate(CLASSES) for k in range(4)]
    near(formulas.cumulative(LOGITS, LEVELS), np.mean(wanted))


# off positions


def test_focal_with_gamma_zero_is_cross_entropy():
    for weights in (None, WEIGHTS):
        near(formulas.focal(LOGITS, CLASSES, 0.0, weights), formulas.cross_entropy(LOGITS, CLASSES, weights))
        near(formulas.focal_bce(LOGITS, LABELS, 0.0, weights), formulas.bce(LOGITS, LABELS, weights))


def test_weights_of_one_and_no_smoothing_are_plain():
    ones = torch.ones(4)
    near(formulas.cross_entropy(LOGITS, CLASSES, ones), F.cross_entropy(LOGITS, CLASSES))
    near(formulas.focal(LOGITS, CLASSES, 2.0, ones), formulas.focal(LOGITS, CLASSES))
    assert torch.equal(formulas.cross_entropy(LOGITS, CLASSES), F.cross_entropy(LOGITS, CLASSES))
    assert torch.equal(formulas.bce(LOGITS, LABELS), F.binary_cross_entropy_with_logits(LOGITS, LABELS))
    assert torch.equal(formulas.bce(LOGITS, LABELS, ones), F.binary_cross_entropy_with_logits(LOGITS, LABELS))


def test_smooth_l1_with_extreme_beta_is_absolute_or_squared_error():
    near(formulas.smooth_l1(LOGITS, VALUES, 0.0), F.l1_loss(LOGITS, VALUES))
    near(formulas.smooth_l1(LOGITS, VALUES, 100.0) * 200, F.mse_loss(LOGITS, VALUES))


# soft targets


@pytest.mark.parametrize("name", OF_CLASSES)
def test_soft_targets_of_one_class_are_that_class(name):
    hard, soft = (of_logits(CASES[name][0], LOGITS, t) for t in (CLASSES, F.one_hot(CLASSES, 4).float()))
    near(soft[0], hard[0])
    near(soft[1], hard[1])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}])
def test_soft_targets_of_one_class_are_that_class_also_with_class_weights(options):
    one_hot = F.one_hot(CLASSES, 4).float()
    near(
        formulas.cross_entropy(LOGITS, one_hot, WEIGHTS, **options),
        formulas.cross_entropy(LOGITS, CLASSES, WEIGHTS, **options),
    )
    near(formulas.focal(LOGITS, one_hot, 2.0, WEIGHTS), formulas.focal(LOGITS, CLASSES, 2.0, WEIGHTS))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["cross_entropy", "bce", "focal", "focal_bce", "cumulative"])
def test_the_loss_of_mixed_targets_is_the_mixture_of_losses(name, share):
    loss, targets = CASES[name]
    targets = F.one_hot(targets, 4).float() if name in OF_CLASSES else targets
    others = targets.flip(0)
    mixture = share * loss(LOGITS, targets) + (1 - share) * loss(LOGITS, others)
    near(loss(LOGITS, share * targets + (1 - share) * others), mixture)


def test_soft_levels_weigh_the_rows_of_corn():
    levels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    mixed = 0.25 * levels + 0.75 * levels.flip(0)
    a, b = LOGITS[:2, 0].sigmoid(), LOGITS[:2, 1].sigmoid()
    share = mixed[:, 0]
    total = -(share * a.log() + (1 - share) * (1 - a).log() + share * b.log()).sum()
    near(formulas.corn(LOGITS[:2, :2], mixed), total / (2 + share.sum()))


# extremes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_value_and_gradient_are_finite(name, dtype, rows, size):
    loss, targets = CASES[name]
    for logits in (size * LOGITS, size * LOGITS.sign()):
        value, gradient = of_logits(loss, logits[:rows].to(dtype), targets[:rows])
        assert value.dtype == torch.float32 and value.shape == () and torch.isfinite(value)
        assert gradient.dtype == dtype and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_mixed_precision_computes_in_float32(name):
    loss, targets = CASES[name]
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(LOGITS, targets)
    near(found, loss(LOGITS, targets), 1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("name", ["focal", "focal_bce"])
def test_focal_is_finite_where_the_model_is_sure(name, gamma):
    loss, targets = CASES[name]
    truth = F.one_hot(targets, 4).float() if name == "focal" else targets
    for sure in (1e4, 17.0, -17.0, -1e4):
        value, gradient = of_logits(loss, sure * (2 * truth - 1), targets, gamma=gamma)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_batch_of_rows_that_weigh_nothing_is_finite(name):
    value, gradient = of_logits(CASES[name][0], LOGITS[:2], torch.tensor([3, 3]), class_weights=WEIGHTS)
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("constant, rows", [(0.0, 5), (0.1, 5), (1e4, 5), (0.1, 1)])
def test_pearson_of_constant_predictions_is_one_without_gradient(constant, rows):
    logits = torch.full((rows, 1), constant)
    value, gradient = of_logits(formulas.pearson, logits, VALUES[:rows, :1])
    assert value == 1 and not gradient.any()


def test_pearson_of_constant_targets_is_one_without_gradient():
    value, gradient = of_logits(formulas.pearson, LOGITS, torch.full((7, 4), 0.1))
    assert value == 1 and not gradient.any()


def test_ranking_without_pairs_is_zero_without_gradient():
    value, gradient = of_logits(formulas.ranking, LOGITS, torch.ones(7, 4))
    assert value == 0 and not gradient.any()


def test_soft_f1_without_any_positive_is_one():
    value, gradient = of_logits(formulas.soft_f1_bce, torch.full((3, 2), -1e4), torch.zeros(3, 2))
    assert value == 1 and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_left_as_they_were(name):
    loss, targets = CASES[name]
    before, logits = targets.clone(), LOGITS.clone()
    loss(LOGITS, targets)
    assert torch.equal(LOGITS, logits) and torch.equal(targets, before)


# the sign of the effect


def test_label_smoothing_makes_sure_predictions_cost_more():
    sure = 20 * F.one_hot(CLASSES, 4).float()
    assert formulas.cross_entropy(sure, CLASSES, label_smoothing=0.1) > formulas.cross_entropy(sure, CLASSES) + 1
    assert formulas.bce(20 * LABELS - 10, LABELS, label_smoothing=0.1) > formulas.bce(20 * LABELS - 10, LABELS) + 0.1


def test_focal_lets_easy_rows_count_less_than_hard_ones():
    easy, hard = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    zero = torch.tensor([0])
    by_gamma = [formulas.focal(hard, zero, g) / formulas.focal(easy, zero, g) for g in (0.0, 1.0, 2.0)]
    assert by_gamma[0] < by_gamma[1] < by_gamma[2]
