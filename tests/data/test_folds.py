import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.folds import (
    assign_folds,
    describe_balance,
    fold_report,
    join_groups,
    keep_together,
    read_times,
    repeated_folds,
    time_blocks,
)


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


@pytest.mark.parametrize("rare", [[1], [1, 2], [1] * 4, [1] * 3 + [2] * 4, [*range(1, 9)], [1] * 4 + [2] * 2])
@pytest.mark.parametrize("grouped", [False, True])
def test_classes_with_fewer_rows_than_folds_are_spread_as_far_as_they_go(rare, grouped):
    labels = np.array([0] * 20 + rare)
    groups = [*range(10), *range(10), *range(10, 10 + len(rare))] if grouped else None
    folds = assign_folds(labels, groups, 5)
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 2 and (np.abs(counts(np.minimum(labels, 1), folds)[:, 0] - 4) <= 1).all()
    together = np.bincount(folds[20:], minlength=5)  # those that are rare, as one class
    assert together.max() - together.min() <= 1


@pytest.mark.parametrize(
    ("labels", "groups", "n_splits", "message"),
    [
        ([0] * 9, None, 1, "n_folds=1: it takes at least 2"),
        ([0] * 9, [1, 2, 3] * 3, 4, "train has 3 groups: n_folds=4 needs as many; near_duplicates=0 or another group="),
    ],
)
def test_what_cannot_be_split_is_named(labels, groups, n_splits, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(np.array(labels), groups, n_splits)


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
    folds = assign_folds(labels, groups)
    assert time.process_time() - begin < 15
    assert np.ptp(counts(labels, folds), axis=0).max() <= 3
    assert np.ptp(np.bincount(folds)) <= 10


def test_joined_groups_hold_whatever_belongs_together():
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


def test_report_counts_groups_where_they_are_given():
    report = fold_report(np.array([0, 1, 1, 0]), np.array([-1, 0, 0, 0]), ["a", "b"], ["x", "y", "y", "z"])
    assert report.to_dict("list") == {"rows": [1, 3], "groups": [1, 2], "a": [1, 1], "b": [0, 2]}
    assert report.index.tolist() == [-1, 0]


def test_balance_is_described_in_words():
    labels, folds = np.array([0, 0, 0, 1, 0, 0, 1, 1]), np.repeat([0, 1], 4)
    assert describe_balance(labels, folds, ["no", "yes"]) == (
        "2 folds of 4 rows. The largest difference: 'no' has 75.0% of fold 0 and 62.5% of all rows."
    )
    assert describe_balance(labels, np.repeat([0, 1, 2], [3, 3, 2]), ["no", "yes"]).endswith(
        "Fold 0 has no row with 'yes'. Fold 2 has no row with 'no'."
    )
    assert describe_balance(labels, np.array([-1, -1, -1, 0, 0, 0, 1, 1]), ["no", "yes"]) == (
        "2 folds of 2 to 3 rows, after 3 rows that are only trained on. The largest difference: 'no' has 0.0% of "
        "fold 1 and 62.5% of all rows. The first block has no row with 'yes'. Fold 1 has no row with 'no'."
    )
    values = np.array([[1.0], [3.0], [1.0], [7.0]], dtype=np.float32)
    assert "the mean of 'grade' is 2 in fold 0 and 3 in all rows (0.41 standard" in describe_balance(
        values, np.array([0, 0, 1, 1]), ["grade"]
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_numbers_in_groups_are_spread_alike_too(grouped):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 100, 1000) if grouped else np.arange(1000)
    values = (rng.lognormal(size=1000) + (rng.normal(size=100)[groups] if grouped else 0)).astype(np.float32)
    folds = assign_folds(values, groups)
    spread = np.std([values[folds == fold].mean() for fold in range(5)])
    random = [rng.permutation(np.arange(groups.max() + 1) % 5)[groups] for _ in range(20)]
    at_random = np.mean([np.std([values[other == fold].mean() for fold in range(5)]) for other in random])
    assert spread < at_random / 2
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


def test_repeated_folds_are_different_splits_of_which_the_first_is_the_usual_one():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 200), rng.integers(0, 120, 200)
    folds = repeated_folds(labels, groups, 4, repeats=3, seed=5)
    assert folds.shape == (200, 3) and np.array_equal(folds[:, 0], assign_folds(labels, groups, 4, seed=5))
    assert np.array_equal(folds, repeated_folds(labels, groups, 4, repeats=3, seed=5))
    for column in folds.T:
        assert all(len(set(column[groups == group])) == 1 for group in set(groups))
    together = [column[:, None] == column for column in folds.T]  # which rows share a fold, whatever its number
    assert not any(np.array_equal(together[a], together[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert np.array_equal(repeated_folds(labels, groups, 4, repeats=1), assign_folds(labels, groups, 4)[:, None])
    with pytest.raises(ValueError, match="repeats=0 is out of range"):
        repeated_folds(labels, groups, repeats=0)


def test_folds_by_time_are_one_split_and_no_repeats():
    labels, times = np.arange(12) % 2, np.arange(12)[::-1]
    folds = repeated_folds(labels, None, 3, repeats=1, times=times)
    assert np.array_equal(folds[:, 0], assign_folds(labels, None, 3, times=times)) and folds.min() == -1
    with pytest.raises(ValueError, match="repeats=2 is out of range: it must be 1 where folds go by time"):
        repeated_folds(labels, None, 3, repeats=2, times=times)


def test_folds_by_time_are_consecutive_blocks_of_equal_size():
    times = np.random.default_rng(0).permutation(600)
    folds = assign_folds(np.zeros(600, dtype=np.int64), n_splits=5, times=times)
    assert sorted(set(folds)) == list(range(-1, 5)) and np.bincount(folds + 1).tolist() == [100] * 6
    assert np.array_equal(np.sort(folds), folds[np.argsort(times)])
    assert np.array_equal(folds + 1, time_blocks(times, np.arange(600), 6))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 25)), min_size=8, max_size=60), st.integers(2, 6))
def test_no_row_of_an_earlier_block_is_later_than_the_end_of_a_group_in_a_later_one(pairs, n_blocks):
    times, groups = (np.array(column) for column in zip(*pairs, strict=True))
    groups = np.unique(groups, return_inverse=True)[1]
    ends = np.array([times[groups == group].max() for group in range(groups.max() + 1)])[groups]
    if len(set(ends)) < n_blocks:
        with pytest.raises(ValueError, match=f"and {n_blocks} blocks in time need as many"):
            time_blocks(times, groups, n_blocks)
        return
    blocks = time_blocks(times, groups, n_blocks)
    assert sorted(set(blocks)) == list(range(n_blocks))
    assert all(len(set(blocks[groups == group])) == 1 for group in set(groups))
    for block in range(1, n_blocks):
        assert times[blocks < block].max() < ends[blocks >= block].min()


@pytest.mark.parametrize(
    "times",
    [
        [3, 1, 2, 2],
        ["30", "9", "10", "10.0"],
        ["2024-01-10", "2023-12-31 23:59:59", "2024-01-09T08:00", "2024-01-09 08:00:00"],
        ["2024-03-01T00:00+00:00", "2024-01-01T00:00+00:00", "2024-02-01T02:00+02:00", "2024-02-01T00:00Z"],
        ["1/3/2024", "1/1/2024", "1/2/2024", "1/2/2024"],
        ["02/03/2024", "31/01/2024", "01/03/2024", "01/03/2024"],
        ["March 3, 2024", "January 30, 2024", "February 9, 2024", "February 9, 2024"],
        [np.datetime64("2024-03-01"), np.datetime64("2024-01-01"), *[np.datetime64("2024-02-01")] * 2],
    ],
)
def test_numbers_and_dates_as_text_are_put_in_order(times):
    assert read_times(times).tolist() == [2, 0, 1, 1]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["1", "", "3"], r"the time of row 2 of train is missing \(1 of 3 are\)"),
        (["1", "2", None], "the time of row 3 of train is missing"),
        ([1.0, np.nan, np.inf], "the time of row 2"),
        (["2024-01-01", "soon", "2024-01-03"], "neither numbers nor dates in one format: row 2 has 'soon'"),
    ],
)
def test_times_that_cannot_be_read_are_named_by_row(times, message):
    with pytest.raises(ValueError, match=message):
        read_times(times)


def test_by_time_a_class_may_be_missing_in_a_fold_and_is_named():
    labels = np.repeat([0, 1], [25, 5])
    folds = assign_folds(labels, n_splits=5, times=np.arange(30))
    assert describe_balance(labels, folds, ["old", "new"]).endswith("Fold 4 has no row with 'old'.")


def test_a_day_is_never_split():
    days = np.repeat(np.arange(10), [1, 30, 2, 2, 30, 5, 10, 10, 5, 5])
    folds = assign_folds(np.zeros(100, dtype=np.int64), n_splits=3, times=days)
    assert all(len(set(folds[days == day])) == 1 for day in range(10)) and sorted(set(folds)) == [-1, 0, 1, 2]


def test_copies_that_join_all_rows_are_left_apart_with_a_caution():
    group = ["a", "a", "b", "b", "c", "c"]
    assert keep_together(np.array([0, 1, 2, 3, 4, 4]), group, 3)[0].tolist() == [0, 0, 1, 1, 2, 2]
    groups, caution = keep_together(np.array([0, 1, 1, 2, 2, 0]), group, 2)
    assert groups.tolist() == [0, 0, 1, 1, 2, 2] and caution.startswith("CAUTION: copies of texts join the groups")
    groups, caution = keep_together(np.zeros(4, dtype=int), None, 2)
    assert groups.tolist() == [0, 1, 2, 3] and "n_folds=2 needs as many" in caution
    assert keep_together(np.array([0, 0, 1, 2]), None, 3)[0].tolist() == [0, 0, 1, 2]
