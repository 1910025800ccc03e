"""The pools one by one; the properties of all methods are in test_methods."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import gmean, hmean, rankdata
from sklearn.metrics import log_loss, roc_auc_score

from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.pools import (
    BestSingle,
    GeometricMean,
    LinearPool,
    LogPool,
    Mean,
    Median,
    PowerMean,
    Vote,
    log_pool,
    normalise,
    power_mean,
    rank_mean,
    vote,
    vote_weights,
    weighted_mean,
)
from kagglekit.scoring.metrics import score
from tests.scoring.examples import CHANCES, METRIC, VALUES, make_rows

OF_CHANCES = [GeometricMean(), PowerMean(3.0), Vote(weighted=True), LogPool(), LogPool(per_column=True, sharpen=True)]


def make_inputs(kind, skills=(2.0, 1.0, 0.5), n=120, seed=0):
    predictions, labels = make_rows(kind, n, skills, seed)
    return StackInput(predictions, kind, METRIC[kind]), labels


def fit(pool, inputs, labels):
    return pool.fresh().fit(inputs, labels, np.arange(len(inputs)) % 3)


def combine(pool, predictions, kind):
    return pool.predict(StackInput(np.asarray(predictions), kind, ""))


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("pool", OF_CHANCES, ids=repr)
def test_what_is_for_probabilities_is_refused_for_values(pool, kind):
    words = "kind=.*values have no log pool|power=.*1 in a .* task|weighted=True .*its vote is the median"
    with pytest.raises(ValueError, match=words):
        fit(pool, *make_inputs(kind))


@pytest.mark.parametrize("power", [-21, 20.5, float("nan")])
def test_a_power_beyond_twenty_is_refused(power):
    with pytest.raises(ValueError, match=r"power=.* is out of range: it must be from -20 to 20"):
        fit(PowerMean(power), *make_inputs("binary"))


@pytest.mark.parametrize(("kind", "metric"), [("binary", "roc_auc"), ("multiclass", "log_loss"), ("ordinal", "qwk")])
def test_the_best_run_is_the_best_by_the_metric_on_the_fitted_rows_alone(kind, metric):
    inputs, labels = make_inputs(kind, skills=(0.5, 3.0, 1.0), n=400)
    inputs = StackInput(inputs.predictions, kind, metric)
    assert fit(BestSingle(), inputs, labels).weights_.tolist() == [0, 1, 0]
    other = make_inputs(kind, skills=(3.0, 1.0, 0.5), seed=1)[0]
    assert np.array_equal(fit(BestSingle(), inputs, labels).predict(other), other.predictions[1])


def test_the_best_run_by_a_function_from_elsewhere():
    inputs, labels = make_inputs("ordinal", skills=(0.5, 3.0, 1.0))
    inputs = StackInput(inputs.predictions, "ordinal", "numpy:vdot")  # higher is better, where nothing else is said
    shrunk = StackInput(inputs.predictions[:, :, :] * np.array([1, 1, 9])[:, None, None], "ordinal", inputs.metric)
    assert fit(BestSingle(), shrunk, labels).weights_.tolist() == [0, 0, 1]


def test_means_of_probabilities_are_those_of_scipy_scaled():
    bases = make_inputs("multiclass")[0].predictions
    geometric = combine(GeometricMean(), bases, "multiclass")
    for ours, theirs in ((geometric, gmean(bases)), (power(bases, -1), hmean(bases))):
        assert np.allclose(ours, theirs / theirs.sum(axis=1, keepdims=True))
    assert np.array_equal(power(bases, 0), geometric)
    assert np.array_equal(power(bases, 1), combine(Mean(), bases, "multiclass"))
    assert np.allclose(power(bases, 1e-7), power(bases, 0), atol=1e-6)
    for extreme, of in ((20, bases.max(axis=0)), (-20, bases.min(axis=0))):
        assert np.allclose(power(bases, extreme), of / of.sum(axis=1, keepdims=True), atol=0.03)


def power(bases, exponent, kind="multiclass"):
    return power_mean(bases, exponent, kind)


def test_means_of_labels_treat_yes_and_no_alike():
    bases = make_inputs("multilabel")[0].predictions
    assert np.allclose(combine(GeometricMean(), bases, "multilabel"), expit(logit(bases).mean(axis=0)))
    for exponent in (-3, 0, 0.5, 1, 4):
        pooled, mirrored = power(bases, exponent, "multilabel"), power(1 - bases, exponent, "multilabel")
        assert np.allclose(pooled, 1 - mirrored)
    sure = [np.array([[0.9]]), np.array([[0.5]])]
    assert power(sure, 1, "multilabel") < power(sure, 0, "multilabel") < power(sure, -3, "multilabel")


def test_a_log_pool_sharpens_with_the_sum_of_its_weights():
    base = np.array([[0.2, 0.8]])
    assert np.allclose(log_pool([base], [2], "binary"), [[0.04 / 0.68, 0.64 / 0.68]])
    assert np.allclose(log_pool([base], [0], "binary"), 0.5)
    assert np.allclose(log_pool([base, base], np.array([[1, 1], [1, 0]]), "binary"), [[1 / 21, 20 / 21]])


def test_a_median_does_not_see_a_wild_run_and_survives_zeros():
    assert combine(Median(), [np.array([[v]]) for v in (1.0, 2.0, 900.0)], "regression").tolist() == [[2.0]]
    assert np.allclose(combine(Median(), np.eye(3)[:, None], "multiclass"), 1 / 3)  # each sure of another class
    assert np.allclose(normalise(np.array([[1.0, 3.0]]), np.ones((2, 1, 2)), "binary"), [[0.25, 0.75]])


def test_rank_mean_has_the_order_of_the_ranks_and_the_spread_of_the_runs():
    bold, unsure = np.array([0.0, 0.2, 0.8, 1.0]), np.array([0.52, 0.48, 0.50, 0.54])
    pooled = rank_mean([np.column_stack([1 - p, p]) for p in (bold, unsure)], "binary")[:, 1]
    # ranks 1 2 3 4 and 3 1 2 4: means 2, 1.5, 2.5, 4; mean levels 0.24, 0.35, 0.66, 0.77
    assert np.allclose(pooled, [0.35, 0.295, 0.505, 0.77])
    assert roc_auc_score([0, 0, 1, 1], pooled) == 1


def test_rank_mean_keeps_a_rare_class_rare():
    inputs, labels = make_inputs("binary", skills=(3.0, 2.0, 3.0), n=1000)
    rare = inputs.predictions * [0.95, 0.05]
    pooled = rank_mean(rare / rare.sum(axis=2, keepdims=True), "binary")
    assert (pooled[:, 1] > 0.5).mean() < 0.2 < labels.mean()


def test_the_ranks_are_those_of_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 8, (3, 50, 2)).astype(float)
    places = rankdata(bases, axis=1).mean(axis=0)
    levels = np.sort(bases, axis=1).mean(axis=0)
    expected = [np.interp(places[:, k], np.arange(1, 51), levels[:, k]) for k in range(2)]
    assert np.allclose(rank_mean(bases, "regression"), np.stack(expected, axis=1))


def test_new_rows_are_ranked_among_the_fitted_ones_between_them_and_beyond():
    fitted = [np.array([[0.2], [0.4]]), np.array([[0.5], [0.9]])]
    new = [np.array([[0.3], [0.1], [0.7], [1.0]]), np.array([[0.9], [0.0], [0.95], [1.0]])]
    # ranks 1.5 0.5 2.5 3 and 2 0 2.5 3: means 1.75, 0.25, 2.5, 3; levels 0, 0.35, 0.65, 1 at ranks 0 to 3
    assert np.allclose(rank_mean(new, "multilabel", fitted)[:, 0], [0.575, 0.0875, 0.825, 1])
    values = rank_mean([np.array([[-1.0], [0.5], [3.0], [9.0]])], "regression", [np.array([[0.0], [1.0], [2.0]])])
    assert np.allclose(values[:, 0], [-1, 0.5, 3, 4])  # at most the range of the fitted ones further, 0 to 2


def test_votes_are_shares_and_a_tie_goes_to_the_more_probable():
    bases = [np.array([[0.6, 0.4]]), np.array([[0.6, 0.4]]), np.array([[0.1, 0.9]])]
    assert np.allclose(vote(bases, "binary"), [[2 / 3, 1 / 3]], atol=1e-3)
    assert vote(bases[1:], "binary").argmax() == 1
    assert np.allclose(vote(bases, "multilabel"), [[2 / 3, 1 / 3]], atol=1e-3)
    assert vote(bases[1:], "multilabel")[0, 0] < 0.5 < vote(bases[1:], "multilabel")[0, 1]
    assert vote([np.array([[0.5]])], "multilabel") >= 0.5  # as metrics decide
    assert vote([np.array([[v]]) for v in (1.0, 2.0, 9.0)], "regression").tolist() == [[2.0]]
    assert np.allclose(vote(bases, "binary", np.array([0.2, 0.2, 0.6])), [[0.4, 0.6]], atol=1e-3)


def test_votes_count_by_the_log_odds_of_the_recall_less_chance():
    labels = np.arange(3000) % 3
    good = np.eye(3)[np.where(np.arange(3000) < 2400, labels, (labels + 1) % 3)]  # right in 8 of 10 rows of each class
    fair = np.eye(3)[np.where(np.arange(3000) < 1500, labels, (labels + 1) % 3)]  # in 5
    most, bad = np.eye(3)[np.zeros(3000, int)], np.eye(3)[(labels + 1) % 3]
    weights = vote_weights(np.stack([good, fair, most, bad]), labels, "multiclass")
    expected = np.array([np.log(2 * 0.8 / 0.2), np.log(2 * 0.5 / 0.5), 0, 0])
    assert np.allclose(weights, expected / expected.sum(), atol=1e-3)
    assert np.allclose(vote_weights(np.stack([most, bad]), labels, "multiclass"), 0.5)


def test_a_voter_for_the_usual_answer_of_each_label_counts_nothing():
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 3)) < [0.02, 0.5, 0.95]).astype(np.float32)
    knows = np.where(rng.random((2000, 3)) < 0.8, labels, 1 - labels)
    usual = np.tile([0.02, 0.4, 0.95], (2000, 1))
    assert np.allclose(vote_weights(np.stack([knows, usual]), labels, "multilabel"), [1, 0], atol=0.01)
    assert np.isfinite(vote_weights(np.stack([knows, usual])[:, :1], labels[:1], "multilabel")).all()


def test_linear_pools_are_weighted_means_and_rows_sum_to_one_also_per_column():
    inputs, labels = make_inputs("multiclass")
    shared, own = fit(LinearPool(), inputs, labels), fit(LinearPool(per_column=True), inputs, labels)
    assert np.array_equal(shared.predict(inputs), weighted_mean(inputs.predictions, shared.weights_))
    pooled = sum(own.weights_[m] * inputs.predictions[m] for m in range(3))
    assert np.allclose(own.predict(inputs), pooled / pooled.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("pool", [LinearPool, LogPool])
def test_in_log_loss_on_the_fitted_rows_a_pool_beats_its_runs_and_more_weights_beat_fewer(pool):
    for kind in CHANCES:
        inputs, labels = make_inputs(kind, n=300)
        plain = Mean() if pool is LinearPool else GeometricMean()
        losses = [
            score("log_loss", labels, fit(pool(per_column), inputs, labels).predict(inputs)) for per_column in (0, 1)
        ]
        others = [score("log_loss", labels, each) for each in [*inputs.predictions, plain.predict(inputs)]]
        assert losses[1] <= losses[0] <= min(others) + 1e-9


def test_members_that_are_good_at_different_labels_get_weights_of_their_own_there():
    rng = np.random.default_rng(0)
    inputs, labels = make_inputs("multilabel", skills=(4.0, 4.0), n=2000)
    for base, spoilt in ((0, 1), (1, 0)):
        inputs.predictions[base, :, spoilt] = rng.random(2000)
    for pool in (LinearPool(per_column=True), LogPool(per_column=True)):
        weights = fit(pool, inputs, labels).weights_
        assert weights[0, 0] > 0.98 and weights[1, 1] > 0.98 and 0.2 < weights[0, 2] < 0.8


def test_a_pool_of_values_with_the_metric_mae_does_not_follow_outliers():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(1000, 1)).astype(np.float32)
    errors = rng.normal(size=(2, 1000, 1)) * np.array([0.3, 1.0])[:, None, None]
    errors[0, :5] += 50  # the better one fails badly in five rows
    weights = {
        m: fit(LinearPool(), StackInput(labels + errors, "regression", m), labels).weights_ for m in ("mae", "rmse")
    }
    assert weights["mae"][0] > 0.8 > 0.5 > weights["rmse"][0]


def test_a_sharpened_log_pool_of_timid_runs_is_better_on_other_rows():
    inputs, labels = make_inputs("multiclass", skills=(1.0, 1.0, 1.0), n=2000)
    folds = np.arange(2000) % 3
    plain, sharp = (cross_fit(LogPool(sharpen=each), inputs, labels, folds) for each in (False, True))
    assert log_loss(labels, sharp) < log_loss(labels, plain)
