import importlib.util
import sys

import numpy as np
import pytest
from test_hill_climbing import METRIC, gain, make

from kagglekit.ensembling.base import StackInput
from kagglekit.ensembling.search import Search, combine
from kagglekit.scoring.metrics import score
from tests.scoring.examples import OWN, PAIRS

HAS_OPTUNA = importlib.util.find_spec("optuna") is not None
methods = pytest.mark.parametrize(
    "method",
    ["nelder-mead", pytest.param("optuna", marks=pytest.mark.skipif(not HAS_OPTUNA, reason="optuna is not there"))],
)


def fit(inputs, labels, **knobs):
    return Search(**knobs).fit(inputs, labels, np.zeros(len(labels), dtype=int))


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(("metric", "kind"), PAIRS)
def test_the_weights_are_never_worse_than_the_equal_mean(metric, kind, per_column):
    inputs, labels = make(kind, m=4, n=80, metric=metric)
    found = fit(inputs, labels, trials=30, per_column=per_column)
    assert np.allclose(found.weights_.sum(axis=0), 1) and found.weights_.min() > 0
    assert found.weights_.shape == ((4, inputs.predictions.shape[2]) if per_column else (4,))
    assert gain(inputs, labels, found.predict(inputs)) >= gain(inputs, labels, inputs.predictions.mean(axis=0)) - 1e-12


@methods
def test_one_trial_is_the_equal_mean(method):
    inputs, labels = make("multiclass")
    found = fit(inputs, labels, method=method, trials=1)
    assert np.allclose(found.predict(inputs), inputs.predictions.mean(axis=0))


@methods
def test_a_search_finds_better_weights_the_same_each_time_and_says_nothing(method, capsys):
    inputs, labels = make("multiclass", m=4, n=500, metric="f1_macro")
    found = fit(inputs, labels, method=method, trials=40, restarts=2)
    assert gain(inputs, labels, found.predict(inputs)) > gain(inputs, labels, inputs.predictions.mean(axis=0))
    assert np.array_equal(found.weights_, fit(inputs, labels, method=method, trials=40, restarts=2).weights_)
    assert capsys.readouterr() == ("", "")


def test_two_regressions_get_the_weights_of_the_closed_form():
    rng = np.random.default_rng(0)
    truth, one, two = rng.normal(size=(500, 1)), rng.normal(0, 1, (500, 1)), rng.normal(0, 2, (500, 1))
    expected = (two * (two - one)).sum() / ((two - one) ** 2).sum()
    inputs = StackInput(np.stack([truth + one, truth + two]), "regression", "rmse")
    assert fit(inputs, truth, trials=200).weights_[0] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("kind", METRIC)
def test_a_useless_member_gets_little_weight(kind):
    inputs, labels = make(kind, m=2, n=1000, noise=(0.3, 0.5))
    useless = inputs.predictions[:1, np.random.default_rng(0).permutation(1000)]
    found = fit(StackInput(np.concatenate([useless, inputs.predictions]), kind, inputs.metric), labels, trials=200)
    assert found.weights_[0] < 0.1


def test_members_that_know_one_target_each_are_told_apart_by_column():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(400, 2))
    noise = rng.normal(size=(2, 400, 2)) * np.array([[[0.2, 3.0]], [[3.0, 0.2]]])
    inputs = StackInput(labels + noise, "regression", "mcrmse")
    shared, parted = fit(inputs, labels, trials=200), fit(inputs, labels, trials=200, per_column=True)
    assert np.diag(parted.weights_).min() > 0.9
    assert gain(inputs, labels, parted.predict(inputs)) > gain(inputs, labels, shared.predict(inputs)) + 0.5


def test_class_probabilities_sum_to_one_with_weights_per_class():
    inputs, labels = make("multiclass", m=3)
    found = fit(inputs, labels, trials=60, per_column=True)
    assert np.allclose(found.predict(inputs).sum(axis=1), 1) and np.ptp(found.weights_, axis=1).max() > 0.01
    equal = np.full((3, 3), 1 / 3)
    assert np.allclose(combine(inputs.predictions, equal, "multiclass"), inputs.predictions.mean(axis=0))


def test_restarts_go_on_from_the_best_weights():
    inputs, labels = make("multiclass", m=4)
    once, again = fit(inputs, labels, trials=40), fit(inputs, labels, trials=80, restarts=2)
    assert gain(inputs, labels, again.predict(inputs)) >= gain(inputs, labels, once.predict(inputs))


def test_a_metric_of_the_user_is_searched_in_its_own_direction():
    inputs, labels = make("multiclass", m=3, metric=OWN)
    found = fit(inputs, labels, trials=40)
    assert score(OWN, labels, found.predict(inputs)) < score(OWN, labels, inputs.predictions.mean(axis=0))


@pytest.mark.parametrize("per_column", [False, True])
def test_one_member_stays_what_it_is(per_column):
    inputs, labels = make("multiclass", m=1)
    assert np.allclose(fit(inputs, labels, per_column=per_column).predict(inputs), inputs.predictions[0])


def test_optuna_speaks_as_loudly_as_before():
    optuna = pytest.importorskip("optuna")
    inputs, labels = make("binary", m=2)
    before = optuna.logging.get_verbosity()
    fit(inputs, labels, method="optuna", trials=2)
    assert optuna.logging.get_verbosity() == before


def test_a_missing_optuna_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    inputs, labels = make("binary", m=2)
    with pytest.raises(ModuleNotFoundError, match=r"pip install optuna, or choose method='nelder-mead'"):
        fit(inputs, labels, method="optuna")


def test_knobs_out_of_range_are_refused():
    inputs, labels = make("binary", m=2)
    for knobs, words in (
        ({"method": "powell"}, "method='powell' is out of range: it must be one of nelder-mead, optuna"),
        ({"trials": 0}, "trials=0 is out of range: it must be 1 or more"),
        ({"restarts": 0}, "restarts=0 is out of range"),
        ({"restarts": 9, "trials": 5}, "restarts=9 is out of range: it must be 1 or more, and at most trials"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(inputs, labels, **knobs)


def test_repr_rebuilds_it():
    search = Search(method="optuna", trials=5, per_column=True)
    assert vars(eval(repr(search))) == vars(search)
