import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.folds import assign_folds, fold_report, join_groups


def counts(labels, folds):
    return np.array([np.bincount(labels[folds == k], minlength=labels.max() + 1) for k in range(folds.max() + 1)])


@st.composite
def rows(draw):
    """Labels with at least n_splits single-row groups each, and more rows in groups of any labels."""
    n_splits = draw(st.integers(2, 5))
    singles = np.repeat(np.arange(draw(st.integers(2, 4))), draw(st.integers(n_splits, 12)))
    more = draw(st.lists(st.tuples(st.integers(0, singles.max()), st.integers(0, 9)), max_size=40))
    labels = np.concatenate([singles, np.array([label for label, _ in more], dtype=np.int64)])
    groups = np.concatenate([np.arange(len(singles)) + 10, np.array([group for _, group in more], dtype=np.int64)])
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(len(labels))
    return labels[order], groups[order], n_splits, draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(rows())
def test_no_group_is_split_and_every_class_is_in_every_fold(case):
    labels, groups, n_splits, seed = case
    folds = assign_folds(labels, groups, n_splits, seed)
    assert sorted(set(folds)) == list(range(n_splits))
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert counts(labels, folds).min() >= 1
    assert np.array_equal(folds, assign_folds(labels, groups, n_splits, seed))


def test_folds_without_groups_have_equal_shares_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 30, 7]))
    folds = assign_folds(labels, n_splits=5)
    assert (counts(labels, folds) >= [10, 6, 1]).all() and (counts(labels, folds) <= [10, 6, 2]).all()
    assert np.array_equal(folds, assign_folds(labels, np.arange(87), 5))
    assert not np.array_equal(folds, assign_folds(labels, n_splits=5, seed=1))


def test_class_names_and_text_groups_give_the_same_folds_as_numbers():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 60), rng.integers(0, 40, 60)
    words = np.array(["a", "b", "c"])[labels]
    assert np.array_equal(assign_folds(labels, groups), assign_folds(words, [f"author {g}" for g in groups]))


@pytest.mark.parametrize(
    ("labels", "groups", "n_splits", "message"),
    [
        ([0] * 9 + [1] * 3, None, 5, "class 'rare' has 3 rows, and n_folds=5 needs at least 5: set n_folds=3"),
        ([0] * 9 + [1], None, 2, "class 'rare' has 1 rows, and n_folds=2 needs at least 2: remove or merge it"),
        ([0] * 9 + [1] * 6, [*range(9), *[9, 10, 11] * 2], 5, "class 'rare' has 3 groups of rows"),
        ([0] * 9, None, 1, "n_folds=1: it takes at least 2"),
        ([0] * 9, [1, 2, 3] * 3, 4, "train has 3 groups: n_folds=4"),
    ],
)
def test_what_cannot_be_split_is_named(labels, groups, n_splits, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(np.array(labels), groups, n_splits, names=["common", "rare"])


@pytest.mark.parametrize("columns", [1, 3])
def test_numbers_are_spread_alike_over_the_folds(columns):
    values = np.random.default_rng(0).lognormal(size=(1000, 1)) * np.ones(columns)
    folds = assign_folds(values.astype(np.float32))
    means = fold_report(values, folds, list("abc")[:columns])["a"]
    assert np.bincount(folds).tolist() == [200] * 5
    assert means.std() < 0.05 < values.std() / 10  # at random the means' spread would be about std / sqrt(200) = 0.15


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_rare_values_of_a_number_are_spread_over_the_folds(common):
    values = np.full(200, common, dtype=np.float32)
    values[:10] = 1 - common
    assert np.bincount(assign_folds(values)[:10]).tolist() == [2] * 5


def test_constant_and_few_numbers_can_be_split():
    assert np.bincount(assign_folds(np.ones(20, dtype=np.float32))).tolist() == [4] * 5
    assert sorted(assign_folds(np.array([0.5, 2.0, 9.0]), n_splits=3)) == [0, 1, 2]


def test_rare_combinations_of_labels_are_spread_by_their_rarest_label():
    rng = np.random.default_rng(0)
    labels = np.zeros((400, 12), dtype=np.float32)
    labels[:, 0] = rng.random(400) < 0.5
    labels[:10, 1] = 1
    labels[np.arange(10), np.arange(2, 12)] = 1  # label 1 never comes twice with the same others
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = assign_folds(labels)
    report = fold_report(labels, folds, [f"label {k}" for k in range(12)])
    assert report["label 1"].min() >= 1
    assert np.ptp(report["label 0"]) <= 4 and np.bincount(folds).tolist() == [80] * 5


def test_38_000_rows_with_groups_are_split_in_seconds():
    rng = np.random.default_rng(0)
    labels, groups = rng.choice(10, 38_000, p=[0.55] + [0.05] * 9), np.arange(38_000)
    groups[rng.choice(38_000, 1_000, replace=False)] = rng.integers(0, 38_000, 1_000)
    begin = time.process_time()
    folds = assign_folds(labels, groups, names=list("abcdefghij"))
    assert time.process_time() - begin < 15
    assert np.ptp(counts(labels, folds), axis=0).max() <= 3
    assert np.ptp(np.bincount(folds)) <= 10


def test_joined_groups_hold_whatever_hangs_together():
    authors, texts = ["ann", "bob", "ann", "cy", "bob", "dee"], [0, 1, 2, 2, 3, 4]
    assert join_groups(authors, texts).tolist() == [0, 1, 0, 0, 1, 2]
    assert join_groups(texts).tolist() == texts


def test_missing_groups_join_nothing():
    assert join_groups(["", "a", None, "", "a", np.nan]).tolist() == [0, 1, 2, 3, 1, 4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcdefg")), min_size=1, max_size=20))
def test_joined_groups_are_the_finest_that_split_no_column(pairs):
    joined = join_groups(*zip(*pairs, strict=True))
    for left, first in zip(pairs, joined, strict=True):
        for right, second in zip(pairs, joined, strict=True):
            if left[0] == right[0] or left[1] == right[1]:
                assert first == second
    before, reached = set(), {0}  # the rows of the first group, step by step
    while reached != before:
        before, numbers, letters = reached, {pairs[row][0] for row in reached}, {pairs[row][1] for row in reached}
        reached = {row for row, (number, letter) in enumerate(pairs) if number in numbers or letter in letters}
    assert set(np.flatnonzero(joined == 0)) == reached


def test_report_counts_rows_and_classes_of_each_fold():
    report = fold_report(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), ["a", "b", "c"])
    assert report.to_dict("list") == {"rows": [2, 2], "a": [1, 0], "b": [1, 1], "c": [0, 1]}
    assert report.index.name == "fold"
    values = fold_report(np.array([[1.0], [2.0], [4.0]]), np.array([0, 0, 1]), ["grade"])
    assert values.to_dict("list") == {"rows": [2, 1], "grade": [1.5, 4.0]}
