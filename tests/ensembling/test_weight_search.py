"""Hill climbing and the search for weights: never worse than where they begin, and as good as the plainest loop."""

import importlib.util
import sys

import numpy as np
import pytest

from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.weight_search import HillClimbing, Search, combine, draw_bags
from kagglekit.scoring.metrics import is_higher_better, score
from tests.benchmarks.ensembles import budget_table, measure
from tests.benchmarks.ensembles import make_inputs as make_benchmark
from tests.scoring.examples import METRIC, OWN, PAIRS, make_rows

HAS_OPTUNA = importlib.util.find_spec("optuna") is not None
kinds = pytest.mark.parametrize("kind", METRIC)
every_pair = pytest.mark.parametrize(("metric", "kind"), PAIRS)
methods = pytest.mark.parametrize(
    "method",
    ["nelder-mead", pytest.param("optuna", marks=pytest.mark.skipif(not HAS_OPTUNA, reason="optuna is not there"))],
)


def make(kind, m=12, n=300, metric=None, noise=(1, 3)):
    """Runs that know ever less, and the labels."""
    predictions, labels = make_rows(kind, n, 1 / np.linspace(*noise, m))
    return StackInput(predictions, kind, metric or METRIC[kind]), labels


def gain(inputs, labels, predictions):
    return score(inputs.metric, labels, predictions) * (1 if is_higher_better(inputs.metric) else -1)


def climb(inputs, labels, **knobs):
    return HillClimbing(**knobs).fit(inputs, labels, np.zeros(len(labels), dtype=int))


def search(inputs, labels, **knobs):
    return Search(**knobs).fit(inputs, labels, np.zeros(len(labels), dtype=int))


def slow_climb(inputs, labels, steps):
    """Caruana's greedy choice, in the plainest way."""
    alone = [gain(inputs, labels, each) for each in inputs.predictions]
    chosen, best = [int(np.argmax(alone))], max(alone)
    for _ in range(steps):
        tried = [
            gain(inputs, labels, inputs.predictions[[*chosen, m]].mean(axis=0)) for m in range(len(inputs.predictions))
        ]
        if max(tried) <= best:
            break
        best = max(tried)
        chosen.append(int(np.argmax(tried)))
    return np.bincount(chosen, minlength=len(alone)) / len(chosen)


@kinds
def test_a_climb_from_the_best_run_is_the_plain_greedy_choice(kind):
    inputs, labels = make(kind, m=6)
    found = climb(inputs, labels, bag_share=1.0, start=1, patience=1).weights_
    assert np.allclose(found, slow_climb(inputs, labels, 100))


@every_pair
def test_one_climb_over_all_is_never_worse_than_the_best_run(metric, kind):
    inputs, labels = make(kind, m=6, n=80, metric=metric)
    best = max(gain(inputs, labels, each) for each in inputs.predictions)
    for start in (1, 3):
        found = climb(inputs, labels, bag_share=1.0, start=start)
        assert found.weights_.sum() == pytest.approx(1) and found.weights_.min() >= 0
        assert gain(inputs, labels, found.predict(inputs)) >= best - 1e-12


@kinds
def test_bagged_climbs_beat_the_equal_mean_of_unequal_runs(kind):
    inputs, labels = make(kind, n=1000)
    found = climb(inputs, labels)
    assert found.weights_.sum() == pytest.approx(1)
    assert gain(inputs, labels, found.predict(inputs)) > gain(inputs, labels, inputs.predictions.mean(axis=0))


@kinds
def test_a_useless_run_gets_no_weight(kind):
    inputs, labels = make(kind, m=12, n=1000, noise=(0.3, 1))
    useless = inputs.predictions[:2, np.random.default_rng(0).permutation(1000)]
    found = climb(StackInput(np.concatenate([useless, inputs.predictions]), kind, inputs.metric), labels)
    assert found.weights_[:2].max() < 0.02


def test_even_of_two_runs_the_useless_one_gets_no_weight():
    inputs, labels = make("multiclass", m=1, n=1000)
    useless = np.full_like(inputs.predictions, 1 / 3)
    for metric in ("accuracy", "roc_auc", "f1_macro"):
        found = climb(StackInput(np.concatenate([useless, inputs.predictions]), "multiclass", metric), labels)
        assert found.weights_[0] < 0.02


@kinds
def test_the_order_of_the_runs_does_not_matter(kind):
    inputs, labels = make(kind, m=12)
    order = np.random.default_rng(0).permutation(12)
    one, other = climb(inputs, labels), climb(StackInput(inputs.predictions[order], kind, inputs.metric), labels)
    assert np.allclose(one.weights_[order], other.weights_)


def test_no_steps_give_the_mean_of_the_best_few():
    inputs, labels = make("multiclass")
    first = climb(inputs, labels, steps=0, start=1, bag_share=1.0)
    assert first.weights_.tolist() == [1.0] + [0.0] * 11  # the first has the least noise
    means = [gain(inputs, labels, inputs.predictions[:k].mean(axis=0)) for k in (1, 2, 3)]
    few = climb(inputs, labels, steps=0, start=3, bag_share=1.0)
    size = 1 + int(np.argmax(means))
    assert np.allclose(few.weights_, [1 / size] * size + [0.0] * (12 - size))


def test_an_infinite_tolerance_is_no_steps():
    inputs, labels = make("binary")
    assert np.array_equal(climb(inputs, labels, tolerance=np.inf).weights_, climb(inputs, labels, steps=0).weights_)


def test_more_patience_is_never_worse_on_the_fitted_rows():
    inputs, labels = make("ordinal", metric="accuracy")
    gains = [
        gain(inputs, labels, climb(inputs, labels, bag_share=1.0, patience=p).predict(inputs))
        for p in (1, 2, 5, 20, 100)
    ]
    assert gains == sorted(gains) and gains[0] < gains[-1]


def test_bags_see_a_part_of_the_runs_each():
    inputs, labels = make("regression", m=12)
    found = climb(inputs, labels, bags=1, bag_share=0.5)
    assert 1 <= np.count_nonzero(found.weights_) <= 6
    assert np.count_nonzero(climb(inputs, labels, bags=1, bag_share=0.01).weights_) <= 5
    assert not np.array_equal(found.weights_, climb(inputs, labels, bags=1, bag_share=0.5, seed=1).weights_)
    assert np.array_equal(found.weights_, climb(inputs, labels, bags=1, bag_share=0.5).weights_)


@pytest.mark.parametrize(("count", "size", "bags"), [(12, 6, 5), (35, 18, 7), (7, 5, 1), (6, 5, 20)])
def test_every_run_is_in_equally_many_bags(count, size, bags):
    drawn = draw_bags(count, size, bags, np.random.default_rng(0))
    assert all(len(set(bag)) == size and np.all(np.diff(bag) > 0) for bag in drawn)
    seen = np.bincount(np.concatenate(drawn), minlength=count)
    assert seen.max() - seen.min() <= 1 and len(drawn) == bags


def test_a_metric_of_the_user_is_climbed_in_its_own_direction():
    inputs, labels = make("multiclass", m=6, metric=OWN)
    found = climb(inputs, labels, steps=10, bag_share=1.0)
    assert score(OWN, labels, found.predict(inputs)) < min(score(OWN, labels, each) for each in inputs.predictions)


@pytest.mark.parametrize(
    ("ensembler", "words"),
    [
        (HillClimbing(steps=-1), "steps=-1 is out of range: it must be 0 or more"),
        (HillClimbing(bags=0), "bags=0 is out of range: it must be 1 or more"),
        (HillClimbing(bag_share=0.0), "bag_share=0.0 is out of range: it must be above 0 and at most 1"),
        (HillClimbing(start=0), "start=0 is out of range: it must be 1 or more"),
        (HillClimbing(patience=0), "patience=0 is out of range: it must be 1 or more"),
        (HillClimbing(tolerance=-0.1), "tolerance=-0.1 is out of range: it must be 0 or more"),
        (Search(method="powell"), "method='powell' is out of range: it must be one of nelder-mead, optuna"),
        (Search(trials=0), "trials=0 is out of range: it must be 1 or more"),
        (Search(restarts=0), "restarts=0 is out of range"),
        (Search(restarts=9, trials=5), "restarts=9 is out of range: it must be 1 or more, and at most trials"),
    ],
    ids=repr,
)
def test_knobs_out_of_range_are_refused(ensembler, words):
    inputs, labels = make("binary", m=2)
    with pytest.raises(ValueError, match=words):
        ensembler.fit(inputs, labels, labels)


def test_the_benchmark_times_an_ensembler_against_its_budget():
    inputs, labels = make_benchmark("accuracy", members=3, rows=60)
    assert inputs.predictions.shape == (3, 60, 3) and len(labels) == 60
    seconds, won = measure(HillClimbing(steps=2), inputs, labels)
    assert seconds > 0 and won >= 0
    text, over = budget_table([("HillClimbing", "accuracy", 30.0, 60.0, 0.1), ("LogPool", "log_loss", 20.0, 10.0, 0.1)])
    assert over == ["LogPool, log_loss"] and "| LogPool | log_loss | 20.0 | 10 | 2.00 |" in text


@pytest.mark.parametrize("per_column", [False, True])
@every_pair
def test_the_weights_are_never_worse_than_the_equal_mean(metric, kind, per_column):
    inputs, labels = make(kind, m=4, n=80, metric=metric)
    found = search(inputs, labels, trials=30, per_column=per_column)
    assert np.allclose(found.weights_.sum(axis=0), 1) and found.weights_.min() > 0
    assert found.weights_.shape == ((4, inputs.predictions.shape[2]) if per_column else (4,))
    assert gain(inputs, labels, found.predict(inputs)) >= gain(inputs, labels, inputs.predictions.mean(axis=0)) - 1e-12


@methods
def test_one_trial_is_the_equal_mean(method):
    inputs, labels = make("multiclass")
    found = search(inputs, labels, method=method, trials=1)
    assert np.allclose(found.predict(inputs), inputs.predictions.mean(axis=0))


@methods
def test_a_search_finds_better_weights_the_same_each_time_and_says_nothing(method, capsys):
    inputs, labels = make("multiclass", m=4, n=500, metric="f1_macro")
    found = search(inputs, labels, method=method, trials=40, restarts=2)
    assert gain(inputs, labels, found.predict(inputs)) > gain(inputs, labels, inputs.predictions.mean(axis=0))
    assert np.array_equal(found.weights_, search(inputs, labels, method=method, trials=40, restarts=2).weights_)
    assert capsys.readouterr() == ("", "")


def test_two_regressions_get_the_weights_of_the_closed_form():
    rng = np.random.default_rng(0)
    truth, one, two = rng.normal(size=(500, 1)), rng.normal(0, 1, (500, 1)), rng.normal(0, 2, (500, 1))
    expected = (two * (two - one)).sum() / ((two - one) ** 2).sum()
    inputs = StackInput(np.stack([truth + one, truth + two]), "regression", "rmse")
    assert search(inputs, truth, trials=200).weights_[0] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("kind", METRIC)
def test_a_useless_run_gets_little_weight(kind):
    inputs, labels = make(kind, m=2, n=1000, noise=(0.3, 0.5))
    useless = inputs.predictions[:1, np.random.default_rng(0).permutation(1000)]
    found = search(StackInput(np.concatenate([useless, inputs.predictions]), kind, inputs.metric), labels, trials=200)
    assert found.weights_[0] < 0.1


def test_members_that_know_one_target_each_are_weighted_by_column():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(400, 2))
    noise = rng.normal(size=(2, 400, 2)) * np.array([[[0.2, 3.0]], [[3.0, 0.2]]])
    inputs = StackInput(labels + noise, "regression", "mcrmse")
    shared, parted = search(inputs, labels, trials=200), search(inputs, labels, trials=200, per_column=True)
    assert np.diag(parted.weights_).min() > 0.9
    assert gain(inputs, labels, parted.predict(inputs)) > gain(inputs, labels, shared.predict(inputs)) + 0.5


def test_class_probabilities_sum_to_one_with_weights_per_class():
    inputs, labels = make("multiclass", m=3)
    found = search(inputs, labels, trials=60, per_column=True)
    assert np.allclose(found.predict(inputs).sum(axis=1), 1) and np.ptp(found.weights_, axis=1).max() > 0.01
    equal = np.full((3, 3), 1 / 3)
    assert np.allclose(combine(inputs.predictions, equal, "multiclass"), inputs.predictions.mean(axis=0))


def test_restarts_go_on_from_the_best_weights():
    inputs, labels = make("multiclass", m=4)
    once, again = search(inputs, labels, trials=40), search(inputs, labels, trials=80, restarts=2)
    assert gain(inputs, labels, again.predict(inputs)) >= gain(inputs, labels, once.predict(inputs))


def test_a_metric_of_the_user_is_searched_in_its_own_direction():
    inputs, labels = make("multiclass", m=3, metric=OWN)
    found = search(inputs, labels, trials=40)
    assert score(OWN, labels, found.predict(inputs)) < score(OWN, labels, inputs.predictions.mean(axis=0))


def test_optuna_speaks_as_loudly_as_before():
    optuna = pytest.importorskip("optuna")
    inputs, labels = make("binary", m=2)
    before = optuna.logging.get_verbosity()
    search(inputs, labels, method="optuna", trials=2)
    assert optuna.logging.get_verbosity() == before


def test_a_missing_optuna_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    inputs, labels = make("binary", m=2)
    with pytest.raises(ModuleNotFoundError, match=r"pip install optuna, or choose method='nelder-mead'"):
        search(inputs, labels, method="optuna")
