import numpy as np
import pytest

from kagglekit.ensembling.base import StackInput
from kagglekit.ensembling.search import HillClimbing, draw_bags
from kagglekit.scoring.metrics import is_higher_better, score
from tests.benchmarks.ensembles import budget_table, make_inputs, measure
from tests.scoring.examples import OWN, PAIRS, make_rows

METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "multilabel": "f1_macro", "ordinal": "qwk"}
METRIC |= {"regression": "rmse"}
kinds = pytest.mark.parametrize("kind", METRIC)


def make(kind, m=12, n=300, seed=0, metric=None, noise=(1, 3)):
    """A inputs of members that know ever less, and its labels."""
    labels, predictions = make_rows(kind, n, np.linspace(*noise, m), seed)
    return StackInput(predictions, kind, metric or METRIC[kind]), labels


def gain(inputs, labels, predictions):
    return score(inputs.metric, labels, predictions) * (1 if is_higher_better(inputs.metric) else -1)


def fit(inputs, labels, **knobs):
    return HillClimbing(**knobs).fit(inputs, labels, np.zeros(len(labels), dtype=int))


def slow_climb(inputs, labels, steps):
    """Caruana's greedy choice, in the plainest way."""
    alone = [gain(inputs, labels, member) for member in inputs.predictions]
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
def test_a_climb_from_the_best_member_is_the_plain_greedy_choice(kind):
    inputs, labels = make(kind, m=6)
    found = fit(inputs, labels, bag_share=1.0, start=1, patience=1).weights_
    assert np.allclose(found, slow_climb(inputs, labels, 100))


@pytest.mark.parametrize(("metric", "kind"), PAIRS)
def test_one_climb_over_all_is_never_worse_than_the_best_member(metric, kind):
    inputs, labels = make(kind, m=6, n=80, metric=metric)
    best = max(gain(inputs, labels, member) for member in inputs.predictions)
    for start in (1, 3):
        found = fit(inputs, labels, bag_share=1.0, start=start)
        assert found.weights_.sum() == pytest.approx(1) and found.weights_.min() >= 0
        assert gain(inputs, labels, found.predict(inputs)) >= best - 1e-12


@kinds
def test_bagged_climbs_beat_the_equal_mean_of_unequal_members(kind):
    inputs, labels = make(kind, n=1000)
    found = fit(inputs, labels)
    assert found.weights_.sum() == pytest.approx(1)
    assert gain(inputs, labels, found.predict(inputs)) > gain(inputs, labels, inputs.predictions.mean(axis=0))


@kinds
def test_a_useless_member_gets_no_weight(kind):
    inputs, labels = make(kind, m=12, n=1000, noise=(0.3, 1))
    useless = inputs.predictions[:2, np.random.default_rng(0).permutation(1000)]
    found = fit(StackInput(np.concatenate([useless, inputs.predictions]), kind, inputs.metric), labels)
    assert found.weights_[:2].max() < 0.02


def test_even_of_two_members_the_useless_one_gets_no_weight():
    inputs, labels = make("multiclass", m=1, n=1000)
    useless = np.full_like(inputs.predictions, 1 / 3)
    for metric in ("accuracy", "roc_auc", "f1_macro"):
        found = fit(StackInput(np.concatenate([useless, inputs.predictions]), "multiclass", metric), labels)
        assert found.weights_[0] < 0.02


@kinds
def test_the_order_of_the_members_does_not_matter(kind):
    inputs, labels = make(kind, m=12)
    order = np.random.default_rng(0).permutation(12)
    one, other = fit(inputs, labels), fit(StackInput(inputs.predictions[order], kind, inputs.metric), labels)
    assert np.allclose(one.weights_[order], other.weights_)


def test_no_steps_give_the_mean_of_the_best_few():
    inputs, labels = make("multiclass")
    first = fit(inputs, labels, steps=0, start=1, bag_share=1.0)
    assert first.weights_.tolist() == [1.0] + [0.0] * 11  # the first has the least noise
    means = [gain(inputs, labels, inputs.predictions[:k].mean(axis=0)) for k in (1, 2, 3)]
    few = fit(inputs, labels, steps=0, start=3, bag_share=1.0)
    size = 1 + int(np.argmax(means))
    assert np.allclose(few.weights_, [1 / size] * size + [0.0] * (12 - size))


def test_an_infinite_tolerance_is_no_steps():
    inputs, labels = make("binary")
    assert np.array_equal(fit(inputs, labels, tolerance=np.inf).weights_, fit(inputs, labels, steps=0).weights_)


def test_more_patience_is_never_worse_on_the_fitted_rows():
    inputs, labels = make("ordinal", metric="accuracy")
    gains = [
        gain(inputs, labels, fit(inputs, labels, bag_share=1.0, patience=p).predict(inputs)) for p in (1, 2, 5, 20, 100)
    ]
    assert gains == sorted(gains) and gains[0] < gains[-1]


def test_bags_see_a_part_of_the_members_each():
    inputs, labels = make("regression", m=12)
    found = fit(inputs, labels, bags=1, bag_share=0.5)
    assert 1 <= np.count_nonzero(found.weights_) <= 6
    assert np.count_nonzero(fit(inputs, labels, bags=1, bag_share=0.01).weights_) <= 5
    assert not np.array_equal(found.weights_, fit(inputs, labels, bags=1, bag_share=0.5, seed=1).weights_)
    assert np.array_equal(found.weights_, fit(inputs, labels, bags=1, bag_share=0.5).weights_)


@pytest.mark.parametrize(("count", "size", "bags"), [(12, 6, 5), (35, 18, 7), (7, 5, 1), (6, 5, 20)])
def test_every_member_is_in_equally_many_bags(count, size, bags):
    drawn = draw_bags(count, size, bags, np.random.default_rng(0))
    assert all(len(set(bag)) == size and np.all(np.diff(bag) > 0) for bag in drawn)
    seen = np.bincount(np.concatenate(drawn), minlength=count)
    assert seen.max() - seen.min() <= 1 and len(drawn) == bags


def test_a_metric_of_the_user_is_climbed_in_its_own_direction():
    inputs, labels = make("multiclass", m=6, metric=OWN)
    found = fit(inputs, labels, steps=10, bag_share=1.0)
    assert score(OWN, labels, found.predict(inputs)) < min(score(OWN, labels, member) for member in inputs.predictions)


def test_one_member_stays_what_it_is():
    inputs, labels = make("multiclass", m=1)
    assert np.array_equal(fit(inputs, labels).predict(inputs), inputs.predictions[0])


def test_a_fresh_one_has_the_knobs_alone_and_repr_rebuilds_it():
    inputs, labels = make("binary")
    found = fit(inputs, labels, steps=7)
    assert found.fresh().weights_ is None and found.weights_ is not None
    assert vars(eval(repr(found.fresh()))) == vars(found.fresh())


@pytest.mark.parametrize(
    ("knob", "value", "rule"),
    [
        ("steps", -1, "0 or more"),
        ("bags", 0, "1 or more"),
        ("bag_share", 0.0, "above 0 and at most 1"),
        ("start", 0, "1 or more"),
        ("patience", 0, "1 or more"),
        ("tolerance", -0.1, "0 or more"),
    ],
)
def test_knobs_out_of_range_are_refused(knob, value, rule):
    inputs, labels = make("binary")
    with pytest.raises(ValueError, match=f"{knob}={value} is out of range: it must be {rule}"):
        fit(inputs, labels, **{knob: value})


def test_the_benchmark_times_an_ensembler_against_its_budget():
    inputs, labels = make_inputs("accuracy", members=3, rows=60)
    assert inputs.predictions.shape == (3, 60, 3) and len(labels) == 60
    seconds, won = measure(HillClimbing(steps=2), inputs, labels)
    assert seconds > 0 and won >= 0
    text, over = budget_table([("HillClimbing", "accuracy", 30.0, 60.0, 0.1), ("LogPool", "log_loss", 20.0, 10.0, 0.1)])
    assert over == ["LogPool, log_loss"] and "| LogPool | log_loss | 20.0 | 10 | 2.00 |" in text
