import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from kagglekit.ensembling.base import StackInput
from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.threshold_search import bootstrap_rows
from kagglekit.ensembling.thresholds import ClassThresholds, CutPoints
from kagglekit.scoring.metrics import score


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
