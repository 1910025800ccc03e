import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve

from kagglekit.show.reliability import confidences, reliability, reliability_table
from kagglekit.show.reliability import expected_calibration_error as ece

RNG = np.random.default_rng(0)
SURE = RNG.random(3000)
LABELS = (RNG.random(3000) < SURE).astype(np.int64)
PROBS = np.stack([1 - SURE, SURE], axis=1)
TOO_SURE = np.stack([1 - expit(3 * np.log(SURE / (1 - SURE))), expit(3 * np.log(SURE / (1 - SURE)))], axis=1)


def test_the_table_is_the_calibration_curve_of_scikit_learn():
    table = reliability_table(LABELS, PROBS, "binary", bins=10)
    shares, means = calibration_curve(LABELS, SURE, n_bins=10)
    assert np.allclose(table["share"], shares) and np.allclose(table["confidence"], means)
    assert table["rows"].sum() == 3000 and table["low"].tolist() == pytest.approx(np.arange(10) / 10)


def test_the_error_is_the_mean_gap_by_hand():
    labels, probs = np.array([1, 0, 1, 1]), np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.0, 1.0]])
    by_hand = abs(3 * 0.9 - 2) / 4 + abs(0.3 - 1) / 4  # two bins: 0.9, 0.8, 1.0 with two right, and 0.3 with one
    for bins, expected in ((2, by_hand), (1, 0.0)):
        assert ece(reliability_table(labels, probs, "binary", bins)) == pytest.approx(expected)


def test_right_probabilities_have_little_error_and_sharpened_ones_much():
    assert ece(reliability_table(LABELS, PROBS, "binary")) < 0.04
    table = reliability_table(LABELS, TOO_SURE, "binary")
    assert ece(table) > 0.1 and table["gap"].iloc[0] > 0 > table["gap"].iloc[-1]  # over-confident at both ends


def test_each_kind_has_its_rows():
    probs = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    sure, right = confidences(np.array([1, 2]), probs, "multiclass")
    assert sure.tolist() == [0.5, 0.6] and right.tolist() == [True, False]
    sure, right = confidences(np.array([1, 0]), probs[:, :2], "binary")
    assert sure.tolist() == [0.5, 0.3] and right.tolist() == [True, False]
    labels = np.array([[0, 1, 0], [1, 0, 0]], dtype=np.float32)
    sure, right = confidences(labels, probs, "multilabel")
    assert sure.tolist() == probs.ravel().tolist() and right.sum() == 2


def test_what_has_no_probability_is_refused_in_words():
    with pytest.raises(ValueError, match="kind='ordinal' has values, not probabilities"):
        reliability_table(LABELS, SURE[:, None], "ordinal")
    with pytest.raises(ValueError, match="bins=0 is out of range: it must be 1 or more"):
        reliability_table(LABELS, PROBS, "binary", bins=0)
    with pytest.raises(ValueError, match="3000 labels do not go with 10 predictions"):
        reliability_table(LABELS, PROBS[:10], "binary")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_picture_shows_the_error_before_and_after(kind, tmp_path):
    labels = np.stack([1 - LABELS, LABELS], axis=1) if kind == "multilabel" else LABELS
    figure = reliability(labels, {"before $5": TOO_SURE, "after": PROBS}, kind)
    left, right = figure.axes
    named = [text.get_text() for text in left.get_legend().get_texts()]
    table = reliability_table(labels, TOO_SURE, kind)
    assert named[0] == f"before $5: ECE {ece(table):.3f}" and len(named) == 2
    assert left.get_xlabel() == right.get_xlabel() != "" and left.get_ylabel() == "share that is right"
    figure.savefig(tmp_path / "picture.png")


def test_a_picture_of_few_rows_is_drawn():
    figure = reliability(LABELS[:3], {"one": PROBS[:3]}, "binary")
    assert figure.axes[0].get_xlabel() == "probability of the second class" and all(ax.has_data() for ax in figure.axes)


def test_the_legend_does_not_lie_on_a_line_that_is_under_confident():
    labels = (np.arange(1200) % 12 != 0).astype(int)  # 92 % are right
    probs = np.linspace(0.05, 0.55, 1200)
    figure = reliability(labels, {"before": np.column_stack([1 - probs, probs])}, "binary")
    figure.canvas.draw()
    left = figure.axes[0]
    points = left.transData.transform(left.lines[1].get_xydata())
    assert not left.get_legend().get_window_extent().count_contains(points)
    plt.close(figure)
