"""The weights of linear and log pools, against scipy's general solvers and against what is known of an optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, linprog, minimize
from scipy.special import softmax
from sklearn.metrics import log_loss

from kagglekit.ensembling.convex_weights import (
    class_loss,
    fit_weights,
    gram,
    log_pool_loss,
    minimise,
    pool_loss,
)
from kagglekit.ensembling.pools import log_pool, weighted_mean
from tests.scoring.examples import CHANCES, COLUMNS, KINDS, make_rows

LOSSES = [*((pool_loss, kind) for kind in KINDS), *((log_pool_loss, kind) for kind in CHANCES)]
losses = pytest.mark.parametrize(("make", "kind"), LOSSES)


def make_runs(kind, seed=0, skills=(2.0, 1.5, 0.5, 1.0), n=200):
    return make_rows(kind, n, skills, seed)


def solve_by_scipy(loss, start, bounds=None):
    """The lowest loss that SLSQP finds, from start (bases, columns); without bounds the columns sum to 1."""
    shape, sums = np.shape(start), []
    if bounds is None:
        sums = [{"type": "eq", "fun": lambda w: w.reshape(shape).sum(axis=0) - 1}]
    found = minimize(
        lambda w: loss(w.reshape(shape))[0], np.ravel(start), jac=lambda w: loss(w.reshape(shape))[1].ravel(),
        method="SLSQP", bounds=bounds or [(0, 1)] * np.size(start), constraints=sums,
        options={"ftol": 1e-12, "maxiter": 1000},
    )  # fmt: skip
    return found.fun


def fitted(make, bases, labels, kind, **options):
    return fit_weights(bases, labels, kind, log=make is log_pool_loss, **options)


@pytest.mark.parametrize(("make", "kind", "metric"), [*((*loss, "") for loss in LOSSES), (pool_loss, "ordinal", "mae")])
def test_gradient_and_second_derivatives_are_those_of_the_loss(make, kind, metric):
    loss, weights = make(*make_runs(kind), kind, *([metric] * bool(metric))), np.array([0.1, 0.4, 0.3, 0.2])
    assert np.allclose(loss(weights)[1], approx_fprime(weights, lambda w: loss(w)[0], 1e-7), atol=1e-5)
    assert np.allclose(loss(weights)[2], approx_fprime(weights, lambda w: loss(w)[1], 1e-7), atol=1e-4)


@pytest.mark.parametrize("log", [False, True])
def test_the_curvature_per_class_is_twice_the_expected_one(log):
    bases, _ = make_runs("multiclass", n=50)
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 3).T
    labels = np.arange(50) % 3
    loss = class_loss(bases, labels, log)
    numerical = approx_fprime(weights.ravel(), lambda w: loss(w.reshape(4, 3))[0], 1e-7).reshape(4, 3)
    assert np.allclose(loss(weights)[1], numerical, atol=1e-5)
    # By hand: the mean outer product of the gradients of single rows, over the classes that the pool itself expects.
    pooled = log_pool(bases, weights, "multiclass") if log else weighted_mean(bases, weights)
    pooled, expected = pooled / pooled.sum(axis=1, keepdims=True), np.zeros((12, 12))
    for row in range(50):
        for k in range(3):
            slope = class_loss(bases[:, [row]], np.array([k]), log)(weights)[1].T.ravel()
            expected += pooled[row, k] * np.outer(slope, slope) / 50
    curves = loss(weights)[2]
    assert np.allclose(curves, [2 * expected[k : k + 4, k : k + 4] for k in (0, 4, 8)])
    whole = np.zeros((12, 12))
    for k in range(3):
        whole[4 * k : 4 * k + 4, 4 * k : 4 * k + 4] = curves[k]
    assert np.linalg.eigvalsh(whole - expected).min() > -1e-12  # never too flat


def test_gram_is_the_weighted_mean_of_outer_products_over_many_chunks():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(3, 20_000)), rng.random(20_000)
    assert np.allclose(gram(features, weights), np.cov(features, aweights=weights, ddof=0) * weights.mean(), atol=1e-3)
    assert np.allclose(gram(features, weights), features * weights @ features.T / 20_000)


def test_the_losses_are_log_loss_and_squared_and_absolute_error():
    weights = np.array([0.7, 0.3])
    for kind in CHANCES:
        bases, labels = make_runs(kind, skills=(1, 2))
        for make, pooled in ((pool_loss, weighted_mean(bases, weights)), (log_pool_loss, None)):
            pooled = log_pool(bases, weights, kind) if pooled is None else pooled
            expected = log_loss(labels, pooled) if kind != "multilabel" else log_loss(labels.ravel(), pooled.ravel())
            assert make(bases, labels, kind)(weights)[0] == pytest.approx(expected, abs=1e-9)
    bases, labels = np.array([[[1.0], [2.0]], [[3.0], [2.0]]]), np.array([0, 2])
    assert pool_loss(bases, labels, "ordinal")(weights)[0] == pytest.approx((1.6**2 + 0) / 2)
    assert pool_loss(bases, labels, "ordinal", "mae")(weights)[0] == pytest.approx(0.8, abs=0.01)
    # With RMSE all targets are in one unit, with R2 each is in its own.
    bases, labels = np.array([[[1.0, 0.0], [0.0, 0.0]]]), np.array([[0.0, 0.0], [0.0, 100.0]])
    assert pool_loss(bases, labels, "regression", "rmse")(np.ones(1))[0] == pytest.approx(10001 / labels.var() / 4)


@losses
def test_no_general_solver_finds_better_weights(make, kind):
    for seed in range(3):
        bases, labels = make_runs(kind, seed)
        loss = make(bases, labels, kind)
        found = fitted(make, bases, labels, kind)
        assert loss(found)[0] <= solve_by_scipy(loss, np.full(4, 0.25)) + 1e-8
        assert found.min() >= 0 and found.sum() == pytest.approx(1)


@losses
def test_at_the_fitted_weights_no_run_would_lower_the_loss(make, kind):
    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 999), st.lists(st.floats(0, 4), min_size=1, max_size=6), st.integers(2, 60))
    def check(seed, skills, n):
        bases, labels = make_runs(kind, seed, skills, n)
        loss = make(bases, labels, kind)
        found = fitted(make, bases, labels, kind)
        value, slope, _ = loss(found)
        assert found.min() >= 0 and found.sum() == pytest.approx(1)
        assert slope @ found - slope.min() < 1e-4 * max(value, 1)  # how much better any weights could be, at most
        count = len(bases)
        assert value <= min(loss(each)[0] for each in [*np.eye(count), np.full(count, 1 / count)]) + 1e-12

    check()


@pytest.mark.parametrize("log", [False, True])
def test_weights_per_class_are_the_best_that_a_general_solver_finds_and_better_than_shared_ones(log):
    make = log_pool_loss if log else pool_loss
    bases, labels = make_runs("multiclass", n=300, skills=(0.5, 0.5, 0.5, 0.5))
    for k in range(3):  # the column of a class is good in one run
        bases[k, :, k] = np.where(labels == k, 0.8, 0.1) * np.random.default_rng(k).uniform(0.5, 1.2, 300)
        bases[k] /= bases[k].sum(axis=1, keepdims=True)
    loss = class_loss(bases, labels, log)
    found, shared = (fitted(make, bases, labels, "multiclass", per_column=each) for each in (True, False))
    assert np.allclose(found.sum(axis=0), 1) and found.shape == (4, 3) and found.min() >= 0
    same = np.repeat(shared[:, None], 3, axis=1)
    assert loss(same)[0] == pytest.approx(make(bases, labels, "multiclass")(shared)[0], abs=1e-6)
    assert loss(found)[0] < loss(same)[0] - 1e-4
    assert loss(found)[0] <= solve_by_scipy(loss, same) + 1e-5


@pytest.mark.parametrize(("make", "kind"), [(pool_loss, "multilabel"), (log_pool_loss, "multilabel")])
def test_weights_per_label_are_those_of_each_label_alone(make, kind):
    bases, labels = make_runs(kind)
    found = fitted(make, bases, labels, kind, per_column=True)
    alone = [fitted(make, bases[:, :, [k]], labels[:, [k]], kind) for k in range(3)]
    assert np.array_equal(found, np.stack(alone, axis=1))


@pytest.mark.parametrize("kind", CHANCES)
def test_a_free_sum_is_the_best_that_a_general_solver_finds_among_weights_of_any_sum(kind):
    bases, labels = make_runs(kind)
    loss, found = log_pool_loss(bases, labels, kind), fit_weights(bases, labels, kind, sharpen=True, log=True)
    assert loss(found)[0] <= solve_by_scipy(loss, np.full(4, 0.25), bounds=[(0, 50)] * 4) + 1e-8
    assert loss(found)[0] < loss(fit_weights(bases, labels, kind, log=True))[0] and found.min() >= 0


def test_a_free_sum_recovers_a_temperature():
    rng = np.random.default_rng(0)
    probs = softmax(2 * rng.normal(size=(20_000, 3)), axis=1)
    labels = (probs.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    unsure = np.sqrt(probs) / np.sqrt(probs).sum(axis=1, keepdims=True)
    assert fit_weights([unsure], labels, "multiclass", sharpen=True, log=True)[0] == pytest.approx(2, abs=0.05)
    assert fit_weights([probs], labels, "multiclass", sharpen=True, log=True)[0] == pytest.approx(1, abs=0.03)
    assert fit_weights([unsure], labels, "multiclass", log=True) == [1]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_two_regressions_get_the_weights_of_the_closed_form(offset):
    rng = np.random.default_rng(0)
    labels = offset + rng.normal(0, 1000, (500, 1))
    one, two = rng.normal(0, 10, (500, 1)), rng.normal(0, 20, (500, 1))
    expected = ((two * (two - one)).sum() / ((two - one) ** 2).sum()).item()
    assert fit_weights([labels + one, labels + two], labels, "regression")[0] == pytest.approx(expected, abs=1e-3)


def test_the_absolute_error_is_as_low_as_linear_programming_gets_it():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(300, 1))
    errors = rng.standard_t(2, size=(4, 300)) * np.array([[0.3], [0.5], [0.6], [2.0]])
    bases = labels + errors[:, :, None]
    # Weights and a bound u for each row's absolute error: -u <= errors' w <= u, the mean of u as low as can be.
    bound = np.vstack([np.hstack([sign * errors.T, -np.eye(300)]) for sign in (1, -1)])
    cost = np.concatenate([np.zeros(4), np.full(300, 1 / 300)])
    sums = np.concatenate([np.ones(4), np.zeros(300)])[None]
    lowest = linprog(cost, bound, np.zeros(600), sums, [1.0]).fun
    found = {metric: fit_weights(bases, labels, "regression", metric) for metric in ("mae", "rmse")}
    error = {metric: np.abs(weights @ errors).mean() for metric, weights in found.items()}
    assert lowest <= error["mae"] < lowest + 1e-3 and error["mae"] < error["rmse"]


@losses
def test_a_useless_run_gets_no_weight(make, kind):
    bases, labels = make_runs(kind, skills=(0.0, 2.0, 2.0), n=5000)
    assert fitted(make, bases, labels, kind)[0] < 0.02


def test_equal_runs_share_the_weight_and_zero_probabilities_are_survived():
    sure = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    labels = np.array([0, 1, 0, 0])  # the third is given no probability at all
    for log in (False, True):
        assert np.allclose(fit_weights([sure, sure, sure], labels, "binary", log=log), 1 / 3)
    weights = fit_weights([sure, np.full((4, 2), 0.5)], labels, "binary")
    assert weights[0] == pytest.approx(0.5, abs=1e-3)  # (1 + w)^3 (1 - w) / 16 is highest at w = 1/2
    bases, labels = make_runs("multiclass", skills=(1.0, 2.0))
    twice = fit_weights(bases[[0, 1, 1]], labels, "multiclass")
    assert twice[1] == pytest.approx(twice[2], abs=1e-6)
    assert twice[0] == pytest.approx(fit_weights(bases, labels, "multiclass")[0], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_members_without_an_error_are_handled(kind):
    _, labels = make_runs(kind, n=40)
    truth = np.eye(COLUMNS[kind])[labels] if kind in ("binary", "multiclass") else labels.reshape(40, -1)
    for log in (False, True) if kind in CHANCES else (False,):
        assert np.allclose(fit_weights([truth, truth], labels, kind, log=log), 0.5)


def test_a_start_at_the_optimum_is_kept_bit_for_bit():
    bases, labels = make_runs("multiclass")
    loss, found = pool_loss(bases, labels, "multiclass"), fit_weights(bases, labels, "multiclass")
    assert np.array_equal(minimise(loss, found), found)


def test_values_have_no_log_pool():
    bases, labels = make_runs("ordinal")
    with pytest.raises(ValueError, match="one of probabilities: values have no log pool"):
        fit_weights(bases, labels, "ordinal", log=True)
