"""Which predictions become labels, which labels, and how good they are: pure functions, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglekit.selftraining.pseudo_labels import (
    agreement,
    are_right,
    choose_rows,
    confidence,
    estimate,
    find_groups,
    group_names,
    make_labels,
)
from kagglekit.selftraining.selftraining_knobs import SelfTrainingOptions

PROBS = np.array([[0.95, 0.05, 0], [0.6, 0.4, 0], [0, 0.92, 0.08], [0.99, 0, 0.01], [0.1, 0, 0.9]], np.float32)
SEVERAL = np.array([[0.95, 0.02], [0.97, 0.6], [0.1, 0.04], [0.93, 0.99]], np.float32)
VALUES = np.array([[1.4], [-0.7], [2.6], [0.2]], np.float32)
probs = st.integers(1, 30).flatmap(lambda n: st.lists(st.integers(0, 99), min_size=3 * n, max_size=3 * n))


def test_rows_are_kept_from_the_threshold_on():
    assert choose_rows(PROBS, "multiclass", 0.9).tolist() == [0, 2, 3, 4]
    assert choose_rows(PROBS, "multiclass", 0.0).tolist() == [0, 1, 2, 3, 4]
    assert choose_rows(PROBS, "multiclass", 1.0).tolist() == []


def test_of_each_class_the_surest_rows_are_kept():
    assert choose_rows(PROBS, "multiclass", 0.5, top=1).tolist() == [2, 3, 4]
    assert choose_rows(PROBS, "multiclass", 0.91, top=1).tolist() == [2, 3]
    assert choose_rows(PROBS[[0, 0, 0]], "multiclass", 0.5, top=2).tolist() == [0, 1]  # equally sure: the first


def test_of_several_labels_each_must_be_sure():
    assert confidence(SEVERAL, "multilabel").tolist() == pytest.approx([0.95, 0.6, 0.9, 0.93])
    assert choose_rows(SEVERAL, "multilabel", 0.9).tolist() == [0, 2, 3]
    assert find_groups(SEVERAL, "multilabel").astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert group_names("multilabel", ["x", "y"]) == ["x", "y", "(none)"]
    assert choose_rows(SEVERAL, "multilabel", 0.0, top=1).tolist() == [0, 2, 3]  # the surest x, none, y


def test_values_do_not_say_how_sure_they_are_and_all_are_kept():
    for kind in ("regression", "ordinal"):
        assert choose_rows(VALUES, kind, 0.0).tolist() == [0, 1, 2, 3]
        assert find_groups(VALUES, kind).shape == (4, 1) and group_names(kind, ["y"]) == ["all"]


def test_rows_that_were_not_asked_are_not_kept():
    guess = PROBS.copy()
    guess[3] = np.nan
    assert choose_rows(guess, "multiclass", 0.0).tolist() == [0, 1, 2, 4]
    assert choose_rows(guess, "multiclass", 0.5, top=1).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("predictions", "kind", "soft", "labels", "dtype"),
    [
        (PROBS, "multiclass", False, [0, 0, 1, 0, 2], np.int64),
        (PROBS, "multiclass", True, PROBS.tolist(), np.float32),
        (SEVERAL, "multilabel", False, [[1, 0], [1, 1], [0, 0], [1, 1]], np.float32),
        (SEVERAL, "multilabel", True, SEVERAL.tolist(), np.float32),
        (VALUES, "regression", False, VALUES.tolist(), np.float32),
        (VALUES, "regression", True, VALUES.tolist(), np.float32),
        (VALUES, "ordinal", False, [1, 0, 2, 0], np.int64),
    ],
)
def test_predictions_become_labels_of_the_kind(predictions, kind, soft, labels, dtype):
    made = make_labels(predictions, kind, classes=3, soft=soft)
    assert made.tolist() == labels and made.dtype == dtype


def test_the_estimated_precision_is_the_share_of_right_labels():
    truth = np.array([0, 1, 1, 2, 2])
    assert are_right(PROBS, truth, "multiclass", 3).tolist() == [1, 0, 1, 0, 1]
    told = estimate(PROBS, truth, "multiclass", 3)
    assert told["estimated precision"] == pytest.approx(0.6) and told["from rows"] == 5
    assert told["standard error"] == pytest.approx(np.sqrt(0.6 * 0.4 / 5))
    several = estimate(SEVERAL, np.array([[1, 0], [1, 0], [0, 0], [0, 0]]), "multilabel", 0)
    assert several["estimated precision"] == pytest.approx(5 / 8)
    assert estimate(PROBS[:0], truth[:0], "multiclass", 3)["estimated precision"] is None


def test_of_values_the_error_is_estimated():
    told = estimate(VALUES, VALUES[:, 0] + np.array([1, -1, 1, -1], np.float32), "regression", 0)
    assert told["estimated error"] == pytest.approx(1) and told["standard error"] == pytest.approx(0, abs=1e-6)
    random = np.random.default_rng(0)
    errors = random.normal(0, 2, (400, 1))
    told = estimate(errors, np.zeros(400), "regression", 0)
    again = [np.sqrt((random.choice(errors[:, 0], 400) ** 2).mean()) for _ in range(400)]  # bootstrap
    assert told["standard error"] == pytest.approx(np.std(again), rel=0.15)


def test_agreement_is_the_share_of_equal_labels_of_rows_that_both_have():
    other = PROBS[:, [1, 0, 2]]
    assert agreement(PROBS, PROBS, "multiclass", 3) == 1
    assert agreement(PROBS, other, "multiclass", 3) == pytest.approx(1 / 5)
    other[4] = np.nan
    assert agreement(PROBS, other, "multiclass", 3) == 0
    assert agreement(VALUES, 3 * VALUES + 1, "regression", 0) == pytest.approx(1)
    assert agreement(VALUES, 0 * VALUES, "regression", 0) is None
    assert agreement(PROBS[:0], PROBS[:0], "multiclass", 3) is None


@given(probs, st.integers(0, 5), st.floats(0, 1))
def test_what_is_chosen_is_sure_and_no_class_is_above_the_top(numbers, top, threshold):
    predictions = np.array(numbers, dtype=np.float64).reshape(-1, 3) + 1
    predictions /= predictions.sum(axis=1, keepdims=True)
    rows = choose_rows(predictions, "multiclass", threshold, top)
    everything = choose_rows(predictions, "multiclass", threshold)
    assert set(rows) <= set(everything) and (confidence(predictions[rows], "multiclass") >= threshold).all()
    counts = find_groups(predictions[rows], "multiclass").sum(axis=0)
    whole = find_groups(predictions[everything], "multiclass").sum(axis=0)
    assert counts.tolist() == (np.minimum(whole, top) if top else whole).tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tresh": 0.9}, "pseudo has no knob 'tresh': did you mean threshold"),
        ({"labels": "firm"}, "pseudo: labels='firm' is out of range: it must be one of hard, soft, ust"),
        ({"threshold": 1.1}, "pseudo: threshold=1.1 is out of range: it must be from 0 to 1"),
        ({"weight": "sure"}, "pseudo: weight='sure' .* 0 or more, or confidence"),
        ({"weight": -1}, "pseudo: weight=-1"),
        ({"rounds": 0}, "pseudo: rounds=0 is out of range: it must be 1 or more"),
        ({"test": False}, "there is nothing to label: set test=True, or name files in unlabelled"),
        ({"passes": 5}, "passes is a knob of labels='ust', and labels='hard'"),
        ({"labels": "ust"}, "ust draws rows of each class: say how many, such as top=100"),
        ({"labels": "ust", "top": 9, "threshold": 0.9}, "ust draws rows by BALD, not by threshold=0.9"),
        ({"labels": "ust", "top": 9, "weight": "confidence"}, "ust has weights of its own"),
        ({"labels": "ust", "top": 9, "passes": 1}, "pseudo: passes=1 is out of range: it must be 2 or more"),
        ({"labels": "ust", "top": 9, "dropout": 1.0}, "pseudo: dropout=1.0 .* above 0 and below 1"),
    ],
)
def test_a_knob_out_of_range_or_without_use_is_an_error(options, words):
    with pytest.raises(ValueError, match=words):
        SelfTrainingOptions(**options)


def test_knobs_of_probabilities_are_refused_for_values():
    for options in ({"threshold": 0.5}, {"weight": "confidence"}):
        with pytest.raises(ValueError, match="do not say how sure they are: leave them out, or set labels='ust'"):
            SelfTrainingOptions(**options).check_kind("regression")
    with pytest.raises(ValueError, match="top=5 takes the surest rows"):
        SelfTrainingOptions(top=5).check_kind("regression")
    with pytest.raises(ValueError, match="labels='soft' does not fit"):
        SelfTrainingOptions(labels="soft").check_kind("ordinal")
    SelfTrainingOptions(labels="ust", top=5).check_kind("regression")
    assert [SelfTrainingOptions().least(kind) for kind in ("binary", "multilabel", "regression")] == [0.9, 0.9, 0.0]
    assert (
        SelfTrainingOptions(threshold=0.0).least("binary")
        == 0
        == SelfTrainingOptions(labels="ust", top=5).least("binary")
    )
