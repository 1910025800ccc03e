import numpy as np
import pytest

from kagglekit.scoring.fast_scores import FAST, make_scorer
from kagglekit.scoring.metrics import METRICS, score

PAIRS = [(name, kind) for name, metric in METRICS.items() for kind in metric.kinds]
every_pair = pytest.mark.parametrize(("metric", "kind"), PAIRS)


def make_labels(kind, rng, n=200, columns=3):
    if kind == "regression":
        return rng.normal(size=(n, columns)).astype(np.float32)
    if kind == "multilabel":
        return (rng.random((n, columns)) < 0.3).astype(np.float32)
    return rng.integers(0, 2 if kind == "binary" else columns, n)


def make_members(kind, labels, rng, m=4, noise=1.0):
    """Predictions (m, n, columns) that know the labels, less so the more noise."""
    if kind in ("binary", "multiclass"):
        logits = np.eye(2 if kind == "binary" else 3)[labels] + noise * rng.normal(size=(m, len(labels), 1))
        logits = logits + noise * rng.normal(size=logits.shape)
        return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    truth = labels.reshape(len(labels), -1)
    values = truth + noise * rng.normal(size=(m, *truth.shape))
    return 1 / (1 + np.exp(0.5 - values)) if kind == "multilabel" else values


def skewed_gain(labels, predictions):
    """A metric of the user's."""
    return float(np.mean(np.abs(predictions[:, 0] - (labels == 0)) ** 1.5))


skewed_gain.higher_is_better = False
OWN = f"{__name__}:skewed_gain"


def both(metric, labels, members):
    """The scores by the scorer, and those of `score`."""
    scorer = make_scorer(metric, labels, members.shape[2])
    fast = scorer.sign * scorer.gains(scorer.view(members))
    return fast, np.array([score(metric, labels, member) for member in members])


@every_pair
def test_a_fast_score_is_the_score(metric, kind):
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.5, 2.0):
        labels = make_labels(kind, rng)
        fast, slow = both(metric, labels, make_members(kind, labels, rng, noise=noise))
        assert np.allclose(fast, slow, rtol=1e-9, atol=1e-12)


@every_pair
def test_a_fast_score_of_ties_and_of_hard_predictions_is_the_score(metric, kind):
    rng = np.random.default_rng(1)
    labels = make_labels(kind, rng)
    members = make_members(kind, labels, rng)
    step = np.eye(members.shape[2])[members.argmax(axis=2)] if kind in ("binary", "multiclass") else members.round(1)
    half = np.full_like(step, 1 / step.shape[2] if kind in ("binary", "multiclass") else 0.5)  # a constant
    members = np.concatenate([step, half[:1], (step[:1] + step[1:2]) / 2])
    fast, slow = both(metric, labels, members.astype(np.float32))
    assert np.allclose(fast, slow, rtol=1e-6, atol=1e-7 if metric == "log_loss" else 1e-12)


@every_pair
def test_a_fast_score_of_few_rows_and_lacking_classes_is_the_score(metric, kind):
    rng = np.random.default_rng(2)
    labels = make_labels(kind, rng, n=12)
    if kind in ("multiclass", "ordinal"):
        labels = np.minimum(labels, 1)  # the last class is never true, and sometimes chosen
    elif kind in ("multilabel", "regression"):
        labels[:, 0] = 0.0  # no row has the first label; a target that is constant
    fast, slow = both(metric, labels, make_members(kind, labels, rng, m=20))
    assert np.allclose(fast, slow, rtol=1e-9, atol=1e-12)


@every_pair
def test_means_of_views_score_as_means_of_predictions(metric, kind):
    rng = np.random.default_rng(3)
    labels = make_labels(kind, rng)
    members = make_members(kind, labels, rng)
    scorer = make_scorer(metric, labels, members.shape[2])
    views = scorer.view(members)
    fast = scorer.gains(views, views[0] + views[1], 3)
    slow = [score(metric, labels, (members[0] + members[1] + member) / 3) for member in members]
    assert np.allclose(scorer.sign * fast, slow, rtol=1e-9, atol=1e-12)


def test_every_metric_has_a_fast_way():
    assert set(FAST) == set(METRICS) - {"roc_auc"}  # which is told the number of columns too


def test_many_rows_are_scored_in_blocks_and_few_at_once_with_the_same_result(monkeypatch):
    rng = np.random.default_rng(4)
    labels = make_labels("multiclass", rng)
    members = make_members("multiclass", labels, rng, m=7)
    at_once, _ = both("f1_macro", labels, members)
    monkeypatch.setattr("kagglekit.scoring.fast_scores.BLOCK", 1200)  # two members
    assert np.array_equal(both("f1_macro", labels, members)[0], at_once)


def test_a_function_of_the_user_is_called_with_what_score_gives_it():
    rng = np.random.default_rng(5)
    labels = make_labels("multiclass", rng)
    members = make_members("multiclass", labels, rng)
    fast, slow = both(OWN, labels, members)
    assert np.array_equal(fast, slow) and make_scorer(OWN, labels, 3).sign == -1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="roc_auc is not defined: these 4 rows are all of one class"):
        make_scorer("roc_auc", np.zeros(4, dtype=int), 2)
    members = np.full((2, 4, 2), 0.5)
    members[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="1 predictions are not finite numbers, the first in row 2"):
        make_scorer("accuracy", np.array([0, 1, 0, 1]), 2).view(members)
