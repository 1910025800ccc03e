"""Metrics from counts of rows are those of the rows themselves."""

import numpy as np
import pytest

from kagglekit.scoring import counts as decision_scores
from kagglekit.scoring.metrics import score

FOUND = {
    "accuracy": decision_scores.accuracy,
    "f1_macro": decision_scores.f1_of_classes,
    "mcc": decision_scores.mcc,
    "qwk": decision_scores.qwk,
}


def count(labels, decisions, classes, metric):
    true, chosen = (np.bincount(some, minlength=classes).astype(float) for some in (labels, decisions))
    right = np.bincount(labels[labels == decisions], minlength=classes)
    return true, chosen, np.sum((labels - decisions) ** 2.0) if metric == "qwk" else right


@pytest.mark.parametrize("metric", FOUND)
def test_the_score_of_counts_is_that_of_the_rows_also_where_classes_lack(metric):
    rng = np.random.default_rng(0)
    pairs = [rng.integers(4, size=(2, 30)) for _ in range(5)]
    pairs += [(pairs[0][0] % 2, pairs[0][1] % 2), (np.zeros(30, int), np.full(30, 2)), (np.ones(30, int),) * 2]
    counted = [np.stack(each) for each in zip(*(count(*pair, 5, metric) for pair in pairs), strict=True)]
    wanted = [score(metric, labels, np.eye(5)[decisions]) for labels, decisions in pairs]
    assert np.allclose(FOUND[metric](*counted), wanted, rtol=1e-12)  # all at once


def test_a_label_that_nobody_has_counts_as_zero_and_a_class_does_not_count():
    true, chosen, right = np.array([2.0, 0.0]), np.array([2.0, 0.0]), np.array([2.0, 0.0])
    assert decision_scores.f1_of_classes(true, chosen, right) == 1
    assert decision_scores.f1_of_labels(true, chosen, right) == 0.5
