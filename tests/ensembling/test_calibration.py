import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kagglekit.ensembling.calibration import (
    Beta,
    Isotonic,
    LinearCalibration,
    Temperature,
    VectorScaling,
    fit_logistic,
    fit_softmax,
)
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.scoring.metrics import score
from kagglekit.show.reliability import expected_calibration_error, reliability_table

ALL = [Temperature(), VectorScaling(), Beta(), Isotonic()]
OFF = [Temperature(np.inf), VectorScaling(np.inf), Beta(np.inf), Isotonic(np.inf)]
KINDS = ["binary", "multiclass", "multilabel"]


def planted(kind, n=4000, seed=0):
    """True probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        probs = expit(rng.normal(size=(n, 3)) * 1.5 - 1)
        return probs, (rng.random((n, 3)) < probs).astype(np.float32)
    logits = rng.normal(size=(n, 2 if kind == "binary" else 4)) * 1.3
    return softmax(logits, axis=1), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def sharpen(probs, kind, power):
    return expit(logit(probs) * power) if kind == "multilabel" else softmax(np.log(probs) * power, axis=1)


def inputs(probs, kind, metric="log_loss"):
    return StackInput(np.asarray(probs)[None], kind, metric)


def corrected(method, probs, labels, kind):
    here = inputs(probs, kind)
    return method.fresh().fit(here, labels, np.zeros(len(labels), dtype=int)).predict(here)


def calibration_error(truth, probs, kind):
    return expected_calibration_error(reliability_table(truth, probs, kind))


def class_by_class(truth, probs, kind):
    """The mean of the calibration errors of each class, or label, against the others."""
    hits = truth == 1 if kind == "multilabel" else truth[:, None] == np.arange(probs.shape[1])
    pairs = zip(hits.T.astype(int), probs.T, strict=True)
    return np.mean([calibration_error(hit, np.stack([1 - p, p], axis=1), "binary") for hit, p in pairs])


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_temperature_is_found(kind):
    probs, labels = planted(kind, 20_000)
    method = Temperature().fit(inputs(sharpen(probs, kind, 2.5), kind), labels, np.zeros(len(labels)))
    assert np.allclose(method.temperature_, 2.5, atol=0.2)
    assert np.shape(method.temperature_) == ((3,) if kind == "multilabel" else ())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ALL, ids=repr)
def test_over_confident_probabilities_are_corrected_on_other_rows_too(method, kind):
    (probs, labels), (other, truth) = planted(kind), planted(kind, seed=1)
    method = method.fresh().fit(inputs(sharpen(probs, kind, 3), kind), labels, np.zeros(len(labels)))
    before = sharpen(other, kind, 3)
    after = method.predict(inputs(before, kind))
    assert score("log_loss", truth, after) < score("log_loss", truth, before) - 0.05
    assert score("log_loss", truth, after) < score("log_loss", truth, other) + 0.02  # nearly the best there is
    for errors_of in (calibration_error, class_by_class):
        errors = [errors_of(truth, p, kind) for p in (before, after)]
        assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ALL, ids=repr)
def test_probabilities_stay_probabilities_and_what_is_right_stays_nearly_as_it_is(method, kind):
    probs, labels = planted(kind)
    after = corrected(method, probs, labels, kind)
    assert after.shape == probs.shape and after.dtype == np.float64 and after.min() >= 0 and after.max() <= 1
    if kind != "multilabel":
        assert np.allclose(after.sum(axis=1), 1)
    assert np.abs(after - probs).mean() < (0.03 if isinstance(method, Isotonic) else 0.015)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", OFF, ids=repr)
def test_an_infinite_penalty_or_smoothing_leaves_all_as_it_is(method, kind):
    probs, labels = planted(kind, 300)
    assert np.array_equal(corrected(method, sharpen(probs, kind, 2), labels, kind), sharpen(probs, kind, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ALL, ids=repr)
def test_zeros_ones_and_absent_classes_are_handled(method, kind):
    probs, labels = planted(kind, 60)
    hard = np.rint(probs) if kind == "multilabel" else np.eye(probs.shape[1])[probs.argmax(axis=1)]
    few = labels * [1, 1, 0] if kind == "multilabel" else np.zeros_like(labels)  # the last label, the other classes
    for truth in (labels, few):
        after = corrected(method, hard, truth, kind)
        assert np.isfinite(after).all() and after.min() >= 0 and after.max() <= 1
        assert kind == "multilabel" or np.allclose(after.sum(axis=1), 1)


def test_the_order_of_classes_survives_a_temperature_and_inputs_survive_all():
    probs, labels = planted("multiclass", 500)
    before = probs.copy()
    assert np.array_equal(corrected(Temperature(), probs, labels, "multiclass").argsort(), probs.argsort())
    for method in ALL:
        corrected(method, probs, labels, "multiclass")
    assert np.array_equal(probs, before)


def test_vector_scaling_corrects_a_class_that_is_given_too_often_and_temperature_cannot():
    probs, labels = planted("multiclass")
    tilted = probs * [4, 1, 1, 1]
    tilted /= tilted.sum(axis=1, keepdims=True)
    vector, temperature = (
        corrected(method, tilted, labels, "multiclass") for method in (VectorScaling(), Temperature())
    )
    losses = [score("log_loss", labels, after) for after in (vector, temperature)]
    assert losses[0] < score("log_loss", labels, probs) + 0.002 < losses[1] - 0.05


def test_without_penalty_two_classes_are_platt_scaling_as_in_scikit_learn():
    probs, labels = planted("binary", 1000)
    probs = sharpen(probs, "binary", 2)
    features = logit(probs[:, 1:])
    platt = LogisticRegression(C=1e10, tol=1e-8).fit(features, labels).predict_proba(features)
    assert np.allclose(corrected(VectorScaling(penalty=0), probs, labels, "binary"), platt, atol=1e-4)


def test_beta_recovers_its_three_numbers():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    truth = rng.random(len(p)) < expit(0.5 * np.log(p) - 2 * np.log1p(-p) + 0.3)
    curve = Beta().fit(inputs(np.stack([1 - p, p], 1), "binary"), truth.astype(int), np.zeros(len(p))).curves_[1]
    assert np.allclose(curve, [0.5, 2, 0.3], atol=0.12)


def test_isotonic_without_smoothing_is_that_of_scikit_learn_and_with_it_rises_but_never_reaches_the_ends():
    probs, labels = planted("binary", 500)
    plain = IsotonicRegression(y_min=0, y_max=1).fit_transform(probs[:, 1], labels)
    assert np.allclose(corrected(Isotonic(smoothing=0), probs, labels, "binary")[:, 1], plain)
    assert plain.min() == 0 and plain.max() == 1
    smooth = corrected(Isotonic(), probs, labels, "binary")[:, 1]
    assert 0 < smooth.min() < smooth.max() < 1 and (np.diff(smooth[probs[:, 1].argsort()]) >= -1e-12).all()


def test_the_optimum_is_that_of_a_search_without_gradients():
    probs, labels = planted("multiclass", 200)
    logits, p = np.log(probs), probs[:, 1]

    def loss(at):
        away = at - np.repeat([1, 0], 4)
        logs = log_softmax(logits * at[:4] + at[4:], axis=1)
        return (-logs[np.arange(200), labels].sum() + away @ away / 2) / 200

    assert np.allclose(np.concatenate(fit_softmax(logits, labels, 1.0, True)), minimize(loss, np.ones(8)).x, atol=1e-3)
    features, truth = np.stack([np.log(p), -np.log1p(-p), np.ones(200)], axis=1), labels == 1

    def column_loss(at):
        away = at - [1, 1, 0]
        return (-np.log(np.where(truth, expit(features @ at), 1 - expit(features @ at))).sum() + away @ away) / 200

    assert np.allclose(fit_logistic(features, truth, [1, 1, 0], 2.0, 2), minimize(column_loss, [1, 1, 0]).x, atol=1e-3)


@pytest.mark.parametrize("columns", [1, 2])
def test_values_are_set_right_by_a_line(columns):
    truth = np.random.default_rng(0).normal(size=(300, columns)).astype(np.float32)
    kind = "regression" if columns == 2 else "ordinal"
    unsure = 3 + 0.4 * truth
    here, labels = inputs(unsure, kind), truth if columns == 2 else truth[:, 0]
    fit = lambda penalty: LinearCalibration(penalty).fit(here, labels, np.zeros(300)).predict(here)  # noqa: E731
    assert np.allclose(fit(0), truth, atol=1e-5) and np.allclose(fit(1e12), unsure) and np.allclose(fit(np.inf), unsure)
    assert np.mean((fit(300) - truth) ** 2) < np.mean((unsure - truth) ** 2)
    constant = inputs(np.full((300, columns), 2.0), kind)
    shifted = LinearCalibration(0).fit(constant, labels, np.zeros(300)).predict(constant)
    assert np.allclose(shifted, truth.mean(axis=0), atol=1e-5)


def test_what_does_not_fit_is_refused_in_words():
    probs, labels = planted("binary", 50)
    with pytest.raises(
        ValueError, match="Temperature is for binary, multiclass, multilabel: it does not fit kind='ordinal'"
    ):
        Temperature().fit(inputs(probs[:, :1], "ordinal"), labels, labels)
    with pytest.raises(ValueError, match="LinearCalibration is for ordinal, regression"):
        LinearCalibration().fit(inputs(probs, "binary"), labels, labels)
    with pytest.raises(ValueError, match="Beta corrects one prediction, and there are 2: combine them first"):
        Beta().fit(StackInput(np.stack([probs, probs]), "binary", "log_loss"), labels, labels)
    for method in (Beta(-1), Temperature(-1), VectorScaling(-1), Isotonic(-1), LinearCalibration(-1)):
        kind = "regression" if isinstance(method, LinearCalibration) else "multiclass"
        with pytest.raises(ValueError, match="=-1 is out of range: it must be 0 or more"):
            method.fit(inputs(probs, kind), probs if kind == "regression" else labels, labels)


@pytest.mark.parametrize("method", [*ALL, LinearCalibration(2.0), Isotonic(0.5)], ids=repr)
def test_the_line_that_builds_it_rebuilds_it_and_fresh_forgets(method):
    assert vars(eval(repr(method))) == vars(method)
    values = isinstance(method, LinearCalibration)
    probs, labels = planted("binary", 80)
    fitted = method.fresh().fit(
        inputs(probs, "regression" if values else "binary"), probs if values else labels, labels
    )
    assert any(name.endswith("_") for name in vars(fitted)) and vars(fitted.fresh()) == vars(method)
