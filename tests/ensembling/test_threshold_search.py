"""The search of thresholds: exact scans for every metric of the catalogue, and the slow way for all others."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.threshold_search import bootstrap_rows, class_scan, cut_places, label_scan
from kagglekit.ensembling.thresholds import ClassThresholds, CutPoints
from kagglekit.scoring.metrics import CLASSES, METRICS, score
from tests.scoring.examples import DECIDING

SCANNED = [name for name, metric in METRICS.items() if metric.from_counts]
CLASS_METRICS = [name for name in SCANNED if {*CLASSES, "ordinal"} & {*METRICS[name].kinds}]
LABEL_METRICS = [name for name in SCANNED if "multilabel" in METRICS[name].kinds]


@pytest.mark.parametrize("metric", CLASS_METRICS)
@pytest.mark.parametrize("classes", [2, 4])
def test_the_scores_along_a_threshold_are_those_of_the_metric(metric, classes):
    rng = np.random.default_rng(1)
    truth, start = rng.integers(classes, size=(2, 25))
    for then, labels in ((0, truth), (classes - 1, truth), (1, np.zeros_like(truth))):
        order = rng.permutation(25)[:15]
        wanted = []
        for t in range(16):
            decided = start.copy()
            decided[order[:t]] = then
            wanted.append(score(metric, labels, np.eye(classes)[decided]))
        found = METRICS[metric].from_counts(class_scan(labels, start, order, then))
        assert np.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_the_scores_along_a_labels_threshold_are_those_of_the_metric(metric):
    rng = np.random.default_rng(1)
    labels, given = (rng.random((2, 20, 3)) < 0.4).astype(int)
    labels[:, 1] = 0  # a label that no row has
    for column in range(3):
        order, wanted = rng.permutation(20), []
        for t in range(21):
            there = given.copy()
            there[:, column] = 1
            there[order[:t], column] = 0
            wanted.append(score(metric, labels, there))
        found = METRICS[metric].from_counts(label_scan(labels, given, column, order))
        assert np.allclose(found, wanted, atol=1e-12)


def test_equal_levels_are_never_parted():
    counts, places = cut_places(np.array([1.0, 1.0, 2.0, 4.0, 4.0]))
    assert counts.tolist() == [0, 2, 3, 5] and places.tolist() == [0.5, 1.5, 3, 4.5]


def youden(labels, predictions) -> float:
    """A metric of the user's."""
    decided = predictions.argmax(axis=1)
    return float(np.mean(decided[labels == 1] == 1) - np.mean(decided[labels == 0] == 1))


YOUDEN = f"{__name__}:youden"


@pytest.mark.parametrize("metric", [*(name for name, kind in DECIDING if kind == "binary"), "formless", YOUDEN])
def test_the_best_cut_of_all_is_found_with_and_without_a_fast_form(metric, monkeypatch):
    """Slow scans try 25 places, here all; a metric that were scanned as another one would stop at that one's best."""
    monkeypatch.setitem(METRICS, "formless", replace(METRICS["balanced_accuracy"], from_counts=None))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = (rng.random(24) < 0.25).astype(int)
        p = 1 / (1 + np.exp(1.5 - 1.5 * labels - rng.normal(size=24)))
        probs = np.column_stack([1 - p, p])
        inputs = StackInput(probs[None], "binary", metric)
        found = score(metric, labels, ClassThresholds().fit(inputs, labels, labels).predict(inputs))
        cuts = [-1, *p]
        assert found == pytest.approx(max(score(metric, labels, np.eye(2)[(p > cut).astype(int)]) for cut in cuts))


def test_a_metric_of_ones_own_is_cut_between_the_best_places_of_a_coarse_search():
    """Of 601 places 25 are tried first; the best of all is known from the metric's twin with a fast form."""
    gaps = []
    for seed in range(5):
        probs, labels = planted(600, seed, classes=2)
        best, found = (
            score("balanced_accuracy", labels, ClassThresholds().fit(inputs, labels, labels).predict(inputs))
            for inputs in (StackInput(probs[None], "binary", name) for name in ("balanced_accuracy", YOUDEN))
        )
        gaps.append(best - found)
    assert max(gaps) < 0.012 and np.mean(gaps) < 0.004


def planted(n, seed=0, classes=4):
    """Probabilities that are right, and labels: the first class comes often, the last one rarely."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 1.5 - np.arange(classes) * 0.7
    return softmax(logits, axis=1), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def test_tuned_thresholds_look_too_good_and_bags_and_shrinkage_less_so():
    gaps = {}
    for method in (ClassThresholds(bags=0), ClassThresholds(bags=5), ClassThresholds(bags=0, shrink=0.5)):
        here = []
        for seed in range(4):
            probs, labels = planted(150, seed, classes=5)
            inputs, folds = StackInput(probs[None], "multiclass", "f1_macro"), np.arange(150) % 5
            fit = method.fresh().fit(inputs, labels, folds)
            apart = cross_fit(method, inputs, labels, folds)
            here.append(score("f1_macro", labels, fit.predict(inputs)) - score("f1_macro", labels, apart))
        gaps[repr(method)] = np.mean(here)
    plain, bagged, shrunk = gaps.values()
    assert plain > 0.03 and bagged < plain / 1.5 and shrunk < plain / 1.5


def test_bags_draw_whole_groups_and_are_the_same_each_time():
    probs, labels = planted(300)
    groups = np.arange(300) // 3
    inputs = StackInput(probs[None], "multiclass", "f1_macro", groups)
    for rows in bootstrap_rows(inputs, 3, seed=0):
        assert all(count % 3 == 0 or count == 0 for count in np.bincount(groups[rows]))
    first, second = (ClassThresholds(bags=3).fit(inputs, labels, labels).thresholds_ for _ in range(2))
    assert np.array_equal(first, second) and (first > 0).all()


def lower_is_better(labels, predictions) -> float:
    return float(np.mean(predictions.argmax(axis=1) != labels))


lower_is_better.higher_is_better = False


def own_f1(labels, predictions) -> float:
    return f1_score(
        labels, (predictions[:, 0] if predictions.shape[1] == 1 else predictions.argmax(1)).round(), average="macro"
    )


@pytest.mark.parametrize(("kind", "method"), [("multiclass", ClassThresholds(bags=0)), ("ordinal", CutPoints(bags=0))])
def test_a_metric_of_ones_own_is_tuned_for_too(kind, method):
    probs, labels = planted(100)
    predictions = probs if kind == "multiclass" else 0.6 * (probs @ np.arange(4))[:, None]
    for name in ("own_f1", *(["lower_is_better"] if kind == "multiclass" else [])):
        metric = f"{__name__}:{name}"
        inputs = StackInput(predictions[None], kind, metric)
        method = method.fresh().fit(inputs, labels, labels)
        change = score(metric, labels, method.predict(inputs)) - score(metric, labels, predictions)
        assert change > 0 if name == "own_f1" else change <= 0
