import itertools

import numpy as np
import pytest
from scipy.special import expit, softmax

from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.thresholds import ClassThresholds, CutPoints, LabelThresholds, TopK, choose_top, place_values
from kagglekit.scoring.metrics import METRICS, score
from tests.scoring.examples import DECIDING


def planted(kind, n=400, seed=0, classes=4):
    """Predictions that are right about chances, and labels: the first class comes often, the last one rarely."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        probs = expit(rng.normal(size=(n, classes)) * 1.5 - np.arange(classes))
        return probs, (rng.random((n, classes)) < probs).astype(np.float32)
    if kind == "ordinal":  # a unsure model's values
        truth = rng.normal(size=n)
        labels = np.digitize(truth, [-1, 0, 1.2])
        return 1.5 + 0.4 * (truth + rng.normal(size=n) * 0.5)[:, None], labels
    classes = 2 if kind == "binary" else classes
    logits = rng.normal(size=(n, classes)) * 1.5 - np.arange(classes) * (1.5 if kind == "binary" else 0.7)
    return softmax(logits, axis=1), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


METHOD = {"binary": ClassThresholds(), "multiclass": ClassThresholds(), "multilabel": LabelThresholds()}
METHOD |= {"ordinal": CutPoints()}
CASES = [(kind, metric, METHOD[kind]) for metric, kind in DECIDING]
CASES += [("multiclass", name, CutPoints()) for name, metric in METRICS.items() if metric.ordered]
CASES += [("multilabel", "f1_macro", TopK())]
each_case = pytest.mark.parametrize(("kind", "metric", "method"), CASES, ids=lambda value: str(value))


def fitted(method, predictions, labels, kind, metric, groups=None):
    inputs = StackInput(predictions[None], kind, metric, groups)
    return method.fresh().fit(inputs, labels, np.arange(len(labels)) % 5), inputs


@each_case
def test_thresholds_are_never_worse_on_the_fitted_rows_and_help_where_they_should(kind, metric, method):
    predictions, labels = planted(kind)
    before = predictions.copy()
    method, inputs = fitted(method, predictions, labels, kind, metric)
    after = method.predict(inputs)
    sign = 1 if METRICS[metric].higher_is_better else -1
    gain = sign * (score(metric, labels, after) - score(metric, labels, predictions))
    assert after.shape == predictions.shape and np.array_equal(predictions, before)
    assert gain > (0.01 if metric in ("f1_macro", "qwk", "mcc") and not isinstance(method, TopK) else -1e-12)
    if kind in ("binary", "multiclass"):
        assert np.allclose(after.sum(axis=1), 1)
    if kind != "ordinal":
        assert after.min() >= 0 and after.max() <= 1
    float32 = after.astype(np.float32)  # as in a predictions table
    assert score(metric, labels, float32) == score(metric, labels, after)


@each_case
def test_off_leaves_the_predictions_as_they_are(kind, metric, method):
    predictions, labels = planted(kind)
    off = TopK(0) if isinstance(method, TopK) else type(method)(shrink=1)
    off, inputs = fitted(off, predictions, labels, kind, metric)
    assert np.array_equal(off.predict(inputs), predictions) and off.predict(inputs) is not inputs.predictions[0]


@pytest.mark.parametrize("method", [ClassThresholds(), LabelThresholds(), CutPoints()], ids=repr)
def test_the_usual_thresholds_are_the_usual_decision(method):
    kind = {ClassThresholds: "multiclass", LabelThresholds: "multilabel", CutPoints: "ordinal"}[type(method)]
    predictions, labels = planted(kind)
    usual = method._usual(predictions, labels)
    assert np.allclose(method._map(predictions, usual), predictions, atol=1e-12)


def test_perfect_predictions_need_no_thresholds():
    labels = np.arange(40) % 4
    for kind, method in (("multiclass", ClassThresholds()), ("ordinal", CutPoints())):
        predictions = np.eye(4)[labels] if kind == "multiclass" else labels[:, None].astype(float)
        method, inputs = fitted(method, predictions, labels, kind, "qwk")
        assert method.thresholds_ is None and np.array_equal(method.predict(inputs), predictions)


def test_label_thresholds_for_f1_are_the_best_of_all_thresholds():
    probs, labels = planted("multilabel", 60)
    method, inputs = fitted(LabelThresholds(bags=0), probs, labels, "multilabel", "f1_macro")
    given = probs[None] >= np.unique(probs)[:, None, None]  # (thresholds, n, labels)
    f1 = 2 * (given * labels).sum(axis=1) / (given.sum(axis=1) + labels.sum(axis=0))
    best = f1.max(axis=0)
    assert score("f1_macro", labels, method.predict(inputs)) == pytest.approx(np.mean(best), abs=1e-12)
    assert np.array_equal(method.predict(inputs) >= 0.5, probs >= method.thresholds_)


def test_two_classes_are_cut_at_the_best_place_there_is():
    probs, labels = planted("binary", 80)
    for metric in ("f1_macro", "mcc"):
        method, inputs = fitted(ClassThresholds(bags=0), probs, labels, "binary", metric)
        best = max(score(metric, labels, np.eye(2)[(probs[:, 1] >= cut).astype(int)]) for cut in probs[:, 1])
        assert score(metric, labels, method.predict(inputs)) == pytest.approx(best, abs=1e-12)


def test_cut_points_are_nearly_the_best_of_all_pairs():
    values, labels = planted("ordinal", 24)
    labels = labels.clip(max=2)
    method, inputs = fitted(CutPoints(bags=0), values, labels, "ordinal", "qwk")
    pairs = itertools.combinations(np.sort(values[:, 0]), 2)
    best = max(score("qwk", labels, np.digitize(values, pair)) for pair in pairs)
    assert best - 0.005 < score("qwk", labels, method.predict(inputs)) <= best + 1e-12


def test_cut_points_decide_by_rounding():
    cuts, values = np.array([0.2, 1.1, 1.1, 3.0]), np.linspace(-1, 5, 1001)
    moved = place_values(values, cuts)
    assert np.array_equal(np.rint(moved).clip(0, 4), np.digitize(values, cuts)) and (np.diff(moved) > -1e-12).all()
    assert np.array_equal(np.rint(moved.astype(np.float32)), np.rint(moved))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_gives_exactly_k_labels_also_of_equal_ones(k):
    probs = np.concatenate([planted("multilabel", 50)[0], np.zeros((1, 4)), np.ones((1, 4)), np.full((1, 4), 0.5)])
    after = choose_top(probs, k)
    assert ((after >= 0.5).sum(axis=1) == k).all() and after.max() <= 1 and after.min() >= 0
    assert (after[:50].argmax(axis=1) == probs[:50].argmax(axis=1)).all()


def test_top_k_finds_how_many_labels_rows_have():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 5))
    labels = ((-scores).argsort(axis=1).argsort(axis=1) < 2).astype(np.float32)
    probs = expit(scores + rng.normal(size=scores.shape) * 0.3 - 3)
    method, inputs = fitted(TopK(), probs, labels, "multilabel", "f1_micro")
    assert method.k_ == 2 and score("f1_micro", labels, method.predict(inputs)) > 0.8


def test_what_does_not_fit_is_refused_in_words():
    probs, labels = planted("multiclass", 30)
    with pytest.raises(ValueError, match="metric='log_loss' sees probabilities or values, not decisions"):
        fitted(ClassThresholds(), probs, labels, "multiclass", "log_loss")
    with pytest.raises(
        ValueError, match="ClassThresholds is for binary, multiclass: it does not fit kind='multilabel'"
    ):
        fitted(ClassThresholds(), probs, labels, "multilabel", "f1_macro")
    with pytest.raises(
        ValueError,
        match="CutPoints takes the classes of a multiclass task as a scale, which metric='f1_macro' does not",
    ):
        fitted(CutPoints(), probs, labels, "multiclass", "f1_macro")
    with pytest.raises(ValueError, match="TopK corrects one prediction, and there are 2: combine them first"):
        TopK().fit(StackInput(np.stack([probs, probs]), "multilabel", "f1_macro"), probs > 0.5, labels)
    with pytest.raises(ValueError, match="k=9 is out of range: it must be from 0 to 4"):
        fitted(TopK(9), probs, probs > 0.5, "multilabel", "f1_macro")
    for knobs in ({"bags": -1}, {"shrink": 1.5}, {"rounds": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(knobs))}=.* is out of range"):
            fitted(ClassThresholds(**knobs), probs, labels, "multiclass", "f1_macro")


@each_case
def test_the_line_that_builds_it_rebuilds_it_and_fresh_forgets(kind, metric, method):
    assert vars(eval(repr(method))) == vars(method) and metric in METRICS
    predictions, labels = planted(kind, 50)
    assert vars(fitted(method, predictions, labels, kind, metric)[0].fresh()) == vars(method)


def test_probabilities_of_exactly_0_and_1_can_be_moved_over_a_threshold():
    sure = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = np.column_stack([np.ones(5), np.zeros(5)]).astype(np.float32)
    thresholds, inputs = fitted(LabelThresholds(), sure, labels, "multilabel", "f1_micro")
    moved = thresholds.predict(inputs)
    assert np.array_equal(moved >= 0.5, labels == 1) and moved.min() >= 0 and moved.max() <= 1
