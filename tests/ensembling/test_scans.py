import numpy as np
import pytest

from kagglekit.ensembling.threshold_search import cut_places, label_scores_along, scores_along
from kagglekit.scoring.metrics import score

CLASS_METRICS = ["accuracy", "f1_macro", "f1_micro", "mcc", "qwk"]
LABEL_METRICS = ["accuracy", "f1_macro", "f1_micro"]


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
        assert np.allclose(scores_along(metric, labels, start, order, then), wanted, atol=1e-12)


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
        assert np.allclose(label_scores_along(metric, labels, given, column, order), wanted, atol=1e-12)


def test_equal_levels_are_never_parted():
    counts, places = cut_places(np.array([1.0, 1.0, 2.0, 4.0, 4.0]))
    assert counts.tolist() == [0, 2, 3, 5] and places.tolist() == [0.5, 1.5, 3, 4.5]
