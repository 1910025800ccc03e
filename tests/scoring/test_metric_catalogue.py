"""Every metric of the catalogue, and one without a fast form: whatever scores fast gives what `score` gives."""

from dataclasses import replace

import numpy as np
import pytest

from kagglekit.scoring.bootstrap import _scorer
from kagglekit.scoring.counts import Counts, f1_macro
from kagglekit.scoring.metrics import CLASSES, METRICS, find_metric, make_scorer, prepare, score
from tests.scoring.examples import DECIDING, OWN, PAIRS, make_labels, make_predictions, make_rows

SLOW = [("formless", kind) for kind in CLASSES] + [(OWN, "multiclass")]
every_pair = pytest.mark.parametrize(("metric", "kind"), [*PAIRS, *SLOW])


@pytest.fixture(autouse=True)
def formless(monkeypatch):
    """An entry of the catalogue that has no fast form."""
    monkeypatch.setitem(METRICS, "formless", replace(METRICS["balanced_accuracy"], from_counts=None))


def both(metric, predictions, labels):
    """The scores by the scorer, and those of `score`."""
    scorer = make_scorer(metric, labels, predictions.shape[2])
    fast = scorer.sign * scorer.gains(scorer.view(predictions))
    return fast, np.array([score(metric, labels, each) for each in predictions])


@every_pair
@pytest.mark.parametrize("skill", [0.3, 2, 100])
def test_a_fast_score_is_the_score(metric, kind, skill):
    fast, slow = both(metric, *make_rows(kind, skills=[skill] * 4))
    assert np.allclose(fast, slow, rtol=1e-9, atol=1e-12)


@every_pair
def test_a_fast_score_of_ties_and_of_hard_predictions_is_the_score(metric, kind):
    predictions, labels = make_rows(kind, seed=1)
    hard = np.eye(predictions.shape[2])[predictions.argmax(axis=2)] if kind in CLASSES else predictions.round(1)
    constant = np.full_like(hard, 1 / hard.shape[2] if kind in CLASSES else 0.5)
    predictions = np.concatenate([hard, constant[:1], (hard[:1] + hard[1:2]) / 2])
    fast, slow = both(metric, predictions.astype(np.float32), labels)
    assert np.allclose(fast, slow, rtol=1e-6, atol=1e-7 if metric == "log_loss" else 1e-12)


@every_pair
def test_a_fast_score_of_few_rows_and_lacking_classes_is_the_score(metric, kind):
    rng = np.random.default_rng(2)
    labels = make_labels(kind, rng, n=12)
    if kind in ("multiclass", "ordinal"):
        labels = np.minimum(labels, 1)  # the last class is never true, and sometimes chosen
    elif kind in ("multilabel", "regression"):
        labels[:, 0] = 0.0  # no row has the first label; a target that is constant
    fast, slow = both(metric, make_predictions(kind, labels, rng, [1.0] * 20), labels)
    assert np.allclose(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", [name for name, kind in DECIDING if kind == "multiclass"])
def test_a_fast_score_is_the_score_where_all_rows_are_of_one_class_or_classes_lack(metric):
    rng = np.random.default_rng(0)
    pairs = [rng.integers(4, size=(2, 30)), rng.integers(2, size=(2, 30))]
    for labels, decisions in [*pairs, (np.zeros(30, int), np.full(30, 2)), (np.ones(30, int),) * 2]:
        fast, slow = both(metric, np.eye(5)[decisions][None], labels)
        assert np.allclose(fast, slow, rtol=1e-12)


@every_pair
def test_means_of_views_score_as_means_of_predictions(metric, kind):
    predictions, labels = make_rows(kind, seed=3)
    scorer = make_scorer(metric, labels, predictions.shape[2])
    views = scorer.view(predictions)
    fast = scorer.gains(views, views[0] + views[1], 3)
    slow = [score(metric, labels, (predictions[0] + predictions[1] + each) / 3) for each in predictions]
    assert np.allclose(scorer.sign * fast, slow, rtol=1e-9, atol=1e-12)


@every_pair
@pytest.mark.parametrize("groups", [60, 20])
def test_the_score_of_a_bootstrap_sample_is_the_score_of_its_rows_and_a_group_is_drawn_whole(metric, kind, groups):
    (predictions,), labels = make_rows(kind, 60, skills=[1.0])
    predictions = predictions.round(1 if kind == "multilabel" else 9).astype(np.float32)  # with ties
    if kind == "ordinal":  # the highest label is in every sample: it bounds what is decided
        labels[0] = 4
    counts = np.random.default_rng(1).multinomial(groups, np.full(groups, 1 / groups), size=8).astype(float)
    counts[:, 0] += 1
    counts[0] = 1  # all rows, once
    unit = np.arange(60) // (60 // groups)
    measure = find_metric(metric)
    found = _scorer(measure, *prepare(measure, labels, predictions), unit)(counts)
    drawn = [np.repeat(np.arange(60), row.astype(int)[unit]) for row in counts]
    expected = [score(metric, labels[rows], predictions[rows]) for rows in drawn]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_label_that_no_row_has_counts_as_zero_and_a_class_does_not_count():
    two = np.array([2.0, 0.0])
    assert f1_macro(Counts.of_classes(two, two, two, np.zeros(2))) == 1
    assert f1_macro(Counts(two, two, two, 2.0, 2.0, multilabel=True)) == 0.5


def test_many_rows_are_scored_in_blocks_and_few_at_once_with_the_same_result(monkeypatch):
    predictions, labels = make_rows("multiclass", skills=[1.0] * 7, seed=4)
    at_once, _ = both("f1_macro", predictions, labels)
    monkeypatch.setattr("kagglekit.scoring.metrics.BLOCK", 1200)  # two models
    assert np.array_equal(both("f1_macro", predictions, labels)[0], at_once)


def test_a_function_of_the_user_is_called_with_what_score_gives_it():
    predictions, labels = make_rows("multiclass", seed=5)
    fast, slow = both(OWN, predictions, labels)
    assert np.array_equal(fast, slow) and make_scorer(OWN, labels, 3).sign == -1


def test_predictions_that_cannot_be_scored_are_refused():
    with pytest.raises(ValueError, match="roc_auc is not defined: these 4 rows are all of one class"):
        make_scorer("roc_auc", np.zeros(4, dtype=int), 2)
    predictions = np.full((2, 4, 2), 0.5)
    predictions[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="1 predictions are not finite numbers, the first in row 2"):
        make_scorer("accuracy", np.array([0, 1, 0, 1]), 2).view(predictions)
