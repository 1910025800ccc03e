import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kagglekit.scoring.bootstrap import standard_error
from kagglekit.scoring.check import check_metric
from kagglekit.scoring.metrics import CLASSES, is_higher_better, score
from tests.scoring.examples import PAIRS, make_rows

RNG = np.random.default_rng(0)
every_pair = pytest.mark.parametrize(("name", "kind"), PAIRS)


def example(kind, rows=400):
    """Labels and predictions that know something of them."""
    (predictions,), labels = make_rows(kind, rows, skills=[1.5])
    if kind == "multilabel":
        labels[labels.sum(axis=1) == 0, 0] = 1  # a row without labels counts 0 where rows are averaged
    return labels, predictions.astype(np.float32)


def perfect(kind, labels):
    return np.eye(labels.max() + 1)[labels] if kind in CLASSES else labels.reshape(len(labels), -1)


@every_pair
def test_perfect_predictions_have_the_best_score_and_others_a_worse_one(name, kind):
    labels, predictions = example(kind)
    best, other = score(name, labels, perfect(kind, labels)), score(name, labels, predictions)
    assert best == pytest.approx(1.0 if is_higher_better(name) else 0.0, abs=1e-9)
    assert (best > other) is is_higher_better(name)
    assert isinstance(other, float)


@every_pair
def test_the_order_of_the_rows_does_not_matter(name, kind):
    labels, predictions = example(kind)
    order = RNG.permutation(len(labels))
    assert score(name, labels[order], predictions[order]) == pytest.approx(score(name, labels, predictions), abs=1e-6)


def test_several_labels_are_decided_at_one_half():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    probs = np.array([[0.5, 0.4], [0.4, 0.6], [0.9, 0.2], [0.1, 0.49]], np.float32)
    assert score("accuracy", labels, probs) == 0.75  # every label of a row right
    assert score("f1_micro", labels, probs) == pytest.approx(6 / 7)
    assert score("roc_auc", labels, probs) == pytest.approx((1.0 + 0.5) / 2)


def test_ordinal_values_are_rounded_and_clipped():
    labels = np.array([0, 1, 2, 2])
    values = np.array([[-3.0], [1.4], [1.6], [9.0]])
    assert score("accuracy", labels, values) == score("qwk", labels, values) == 1.0
    assert score("accuracy", labels, values[:, 0]) == 1.0


def test_qwk_counts_the_distance_to_a_class_that_is_not_there():
    labels, values = np.array([0, 0, 3, 3]), np.array([0, 3, 3, 3])
    weights = (np.arange(4)[:, None] - np.arange(4)) ** 2
    observed = np.zeros((4, 4))
    np.add.at(observed, (labels, values), 1)
    expected = np.outer(observed.sum(1), observed.sum(0)) / 4
    assert score("qwk", labels, values) == pytest.approx(1 - (weights * observed).sum() / (weights * expected).sum())


def test_a_fold_that_lacks_a_class_still_has_a_score():
    labels, probs = example("multiclass")
    some = labels < 2
    expected = np.mean([sk.roc_auc_score(labels[some] == k, probs[some, k]) for k in (0, 1)])
    assert score("roc_auc", labels[some], probs[some]) == pytest.approx(expected)
    assert np.isfinite(score("log_loss", labels[some], probs[some]))
    one = labels == 0
    assert score("log_loss", labels[one], probs[one]) == pytest.approx(-np.log(probs[one, 0]).mean(), rel=1e-5)
    assert score("mcc", labels[one], np.eye(3)[labels[one]]) == 0.0
    assert score("qwk", labels[one], np.eye(3)[labels[one]]) == 0.0
    with pytest.raises(ValueError, match=r"roc_auc is not defined: these .* rows are all of one class"):
        score("roc_auc", labels[one], probs[one])


def test_the_standard_error_of_mae_is_that_of_a_mean():
    labels, values = (some[:, :1] for some in example("regression", rows=2000))
    assert standard_error("mae", labels, values) == pytest.approx(
        np.abs(labels - values).std() / np.sqrt(2000), rel=0.15
    )


@every_pair
def test_every_metric_has_a_standard_error_that_a_seed_repeats(name, kind):
    labels, predictions = example(kind, rows=40)
    assert 0 < standard_error(name, labels, predictions, n=20) == standard_error(name, labels, predictions, n=20) < 1


def test_resamples_that_miss_a_class_are_tolerated():
    labels, probs = np.array([0] * 30 + [1]), np.linspace([0.9, 0.1], [0.1, 0.9], 31)
    assert standard_error("roc_auc", labels, probs) < 0.2
    assert standard_error("f1_macro", labels, probs) > 0
    with pytest.raises(ValueError, match="has no standard error on these 30 rows"):
        standard_error("roc_auc", labels[:30], probs[:30])


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 6), st.integers(2, 50), st.integers(0, 10**6))
def test_the_fast_bootstrap_agrees_with_drawing_rows(classes, rows, seed):
    rng = np.random.default_rng(seed)
    labels, probs = rng.integers(classes, size=rows), rng.random((rows, classes))
    fast = standard_error("accuracy", labels, probs, n=600)
    accuracy = score("accuracy", labels, probs)
    assert fast == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / rows), rel=0.2, abs=1e-9)


def cost(labels, predictions):
    return float(len(labels) + predictions.shape[1])


cost.higher_is_better = False
not_callable = 1


def fraction_right(labels, decisions):
    return np.mean(labels == decisions)


fraction_right.wants_labels = True


def flat(labels, predictions):
    return predictions[:, 0] * 0.0


def spoil(labels, predictions):
    predictions *= 0
    return 0.5


def needs_one(labels):
    return 0.0


def words(labels, predictions):
    return {"score": 0.5}


def test_any_function_of_labels_and_predictions_is_a_metric():
    labels, probs = example("multiclass")
    assert score(f"{__name__}:cost", labels, probs) == 403.0
    assert not is_higher_better(f"{__name__}:cost")
    assert is_higher_better("sklearn.metrics:r2_score")
    assert standard_error(f"{__name__}:cost", labels, probs, n=5) == 0.0
    check_metric(f"{__name__}:cost", "ordinal")


def test_a_metric_that_is_unknown_or_does_not_fit_says_which_do():
    with pytest.raises(
        ValueError, match=r"metric='acc' is not known: did you mean accuracy.* use one of accuracy, balanced"
    ):
        check_metric("acc", "binary")
    with pytest.raises(
        ValueError, match=r"metric='rmse' does not fit kind='ordinal': it is for regression\. Choose one of acc"
    ):
        check_metric("rmse", "ordinal")
    with pytest.raises(ValueError, match="cannot be imported: No module named 'no_such'"):
        score("no_such:f", [0], [0])
    with pytest.raises(ValueError, match=r"cannot be imported.*no_such"):
        check_metric("math:no_such", "binary")
    with pytest.raises(ValueError, match="is int, not a function"):
        check_metric(f"{__name__}:not_callable", "binary")


def test_predictions_that_are_not_finite_or_too_few_are_errors():
    with pytest.raises(ValueError, match=r"1 predictions are not finite numbers, the first in row 1"):
        score("rmse", np.zeros((2, 1)), np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match="2 labels do not go with 3 predictions"):
        score("rmse", np.zeros((2, 1)), np.zeros((3, 1)))


def no_number(labels, predictions):
    return float("nan")


def test_a_function_that_wants_labels_is_called_with_decisions():
    own = f"{__name__}:fraction_right"
    for kind in ("binary", "multiclass", "ordinal"):
        labels, predictions = example(kind)
        assert score(own, labels, predictions) == score("accuracy", labels, predictions)
        assert standard_error(own, labels, predictions, n=5) == standard_error("accuracy", labels, predictions, n=5)
        check_metric(own, kind, labels, predictions.shape[1])
    with pytest.raises(ValueError, match="wants_labels=True, and a regression has no classes"):
        check_metric(own, "regression")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "ordinal", "regression"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests.scoring.test_metrics:needs_one", "failed: TypeError: needs_one() takes 1 positional argument but 2"),
        ("tests.scoring.test_metrics:no_number", "gave nan: it must be a finite number"),
        ("tests.scoring.test_metrics:flat", "values, not one number"),
        ("tests.scoring.test_metrics:words", "gave {'score': 0.5}, which is no number"),
        ("tests.scoring.test_metrics:spoil", "changed them: work on a copy"),
        ("math:log", "failed: TypeError"),
    ],
)
def test_a_function_is_tried_on_a_few_rows_when_it_is_named(name, words, kind):
    labels, predictions = example(kind)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        check_metric(name, kind, labels, predictions.shape[1])
    assert f"metric='{name}' was tried on " in str(error.value)


def test_a_function_that_needs_every_class_is_tried_on_rows_of_every_class():
    labels = np.repeat([0, 3, 1, 4, 2], 20)
    check_metric(f"{__name__}:every_class", "multiclass", labels, 5)
    check_metric("sklearn.metrics:roc_auc_score", "multilabel", np.eye(3)[labels % 3], 3)
    with pytest.raises(ValueError, match=r"on 3 rows, with labels int64 \(3,\) and probabilities float32 \(3, 2\)"):
        check_metric("sklearn.metrics:matthews_corrcoef", "binary", np.array([0, 0, 0, 1]), 2)


def every_class(labels, predictions):
    return sk.roc_auc_score(labels, predictions, multi_class="ovr")


def test_a_metric_that_gives_no_number_is_an_error_in_words():
    with pytest.raises(ValueError, match="no_number is nan on these 2 rows, and cannot be compared"):
        score(f"{__name__}:no_number", np.array([0, 1]), np.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("metric", "labels", "predictions", "expected"),
    [
        ("rmsle", [0.0, 1.0, 3.0], [[1.0], [3.0], [-2.0]], np.log(2) * np.sqrt((1 + 1 + 4) / 3)),
        ("rmsle", [[0.0, 1.0], [1.0, 3.0]], [[1.0, 3.0], [3.0, 3.0]], np.log(2) * (1 + np.sqrt(1 / 2)) / 2),
        ("f0.5", [1, 1, 1, 0], [[0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], 1.25 * 1 / (0.25 * 3 + 2)),
        ("f2", [1, 1, 1, 0], [[0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], 5 * 1 / (4 * 3 + 2)),
        ("hamming", [[1.0, 0, 0], [0, 1.0, 1.0]], [[0.9, 0.9, 0.1], [0.1, 0.2, 0.8]], 2 / 6),
    ],
)
def test_values_worked_out_by_hand(metric, labels, predictions, expected):
    assert score(metric, np.array(labels), np.array(predictions)) == pytest.approx(expected)


def test_labels_below_zero_are_refused_for_rmsle():
    with pytest.raises(ValueError, match=r"rmsle is of labels from 0 on, and the smallest is -2: use rmse or mae"):
        check_metric("rmsle", "regression", np.array([[1.0], [-2.0]]), 1)
