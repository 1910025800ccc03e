import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from kagglekit.data.folds import assign_folds, describe_balance, fold_report
from kagglekit.data.stratify import count_labels, imbalance, improve, share_out, spread_labels


def correlated_labels(n, width, seed=0):
    """Labels of shares 10 % down to 0.5 % that like to come together, as in comments that are toxic in several ways."""
    rng = np.random.default_rng(seed)
    scores = 0.7 * rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, width))
    cuts = [np.quantile(scores[:, k], 1 - share) for k, share in enumerate(np.geomspace(0.1, 0.005, width))]
    return (scores > cuts).astype(np.float32)


def label_deviation(labels, folds):
    """The mean over folds and labels of |share in the fold - share in all rows|; 0 is perfect."""
    shares = np.array([labels[folds == fold].mean(axis=0) for fold in np.unique(folds)])
    return np.abs(shares - labels.mean(axis=0)).mean()


def pair_columns(labels):
    return np.column_stack([labels[:, a] * labels[:, b] for a in range(labels.shape[1]) for b in range(a)])


def random_folds(groups, n_splits, draws=20):
    rng = np.random.default_rng(0)
    return [rng.permutation(np.arange(groups.max() + 1) % n_splits)[groups] for _ in range(draws)]


@st.composite
def rows(draw):
    """Rows of any kind of task in groups of any sizes, at least as many as folds."""
    n_splits, n = draw(st.integers(2, 5)), draw(st.integers(30, 120))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    groups = rng.integers(0, draw(st.integers(n_splits, 40)), n)
    groups = np.unique(np.r_[groups, np.arange(n_splits)], return_inverse=True)[1]
    n = len(groups)
    shares = rng.uniform(0.01, 0.5, draw(st.integers(2, 6)))
    kind = draw(st.sampled_from(["multilabel", "regression", "targets", "multilabel by group"]))
    if kind == "multilabel":
        labels = (rng.random((n, len(shares))) < shares).astype(np.float32)
    elif kind == "multilabel by group":  # the labels of a group are alike: the hardest to share out
        labels = (rng.random((groups.max() + 1, len(shares))) < shares)[groups].astype(np.float32)
    else:
        labels = rng.lognormal(size=(n, 1 if kind == "regression" else 3)).astype(np.float32)
    return labels, groups, n_splits, draw(st.integers(0, 99))


@settings(max_examples=40, deadline=None)
@given(rows())
def test_no_scheme_splits_a_group_or_leaves_a_fold_empty(case):
    labels, groups, n_splits, seed = case
    times = np.random.default_rng(seed).permutation(len(groups))
    drawn = [assign_folds(labels, groups, n_splits, seed), assign_folds(labels, None, n_splits, seed)]
    if len(set(groups)) > n_splits:
        drawn.append(assign_folds(labels, groups, n_splits, seed, times=times) + 1)
    for number, folds in enumerate(drawn):
        assert sorted(set(folds.tolist())) == list(range(n_splits + (number == 2)))
        if number != 1:
            assert pd.Series(folds).groupby(groups).nunique().max() == 1
    assert np.array_equal(drawn[0], assign_folds(labels, groups, n_splits, seed))


@settings(max_examples=40, deadline=None)
@given(rows())
def test_folds_are_never_less_even_than_random_ones(case):
    labels, groups, n_splits, seed = case
    if not np.isin(labels, (0, 1)).all():
        labels = (labels[:, :1] > np.quantile(labels[:, :1], [0.25, 0.5, 0.75])).astype(np.float32)
    counts, weights = count_labels(labels, groups), np.r_[np.ones(labels.shape[1]), labels.shape[1]]

    def uneven(folds):  # of a group's rows any is its fold
        return imbalance(counts, folds[np.unique(groups, return_index=True)[1]], n_splits, weights)

    ours = spread_labels(labels, groups, n_splits, seed)
    assert uneven(ours) <= np.median([uneven(folds) for folds in random_folds(groups, n_splits)]) + 1e-9


@pytest.mark.parametrize(
    ("n_groups", "times_better", "n_of_random"), [(4000, 10, 20), (400, 10, 20), (40, 2, 20), (12, 1.1, 5)]
)
def test_labels_are_shared_out_many_times_more_evenly_than_at_random(n_groups, times_better, n_of_random):
    labels, groups = correlated_labels(4000, 6), np.random.default_rng(1).permutation(4000) % n_groups
    folds = assign_folds(labels, groups)
    random = [label_deviation(labels, other) for other in random_folds(groups, 5, n_of_random)]
    assert label_deviation(labels, folds) < np.mean(random) / times_better
    assert np.ptp(np.bincount(folds)) <= 4000 / n_groups + 5  # rows, in a group at most


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize(("several", "share"), [(True, 0.7), (False, 0.6)])
def test_labels_and_classes_of_large_groups_are_more_even_than_by_scikit_learn(several, share):
    rng = np.random.default_rng(0)
    labels = correlated_labels(4000, 6) if several else rng.choice(4, 3000, p=[0.6, 0.25, 0.1, 0.05])
    groups = rng.integers(0, 40, len(labels))
    classes = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    theirs, table = np.empty(len(labels), dtype=int), labels if several else np.eye(4)[labels]
    for fold, (_, rows) in enumerate(StratifiedGroupKFold(5).split(classes, classes, groups)):
        theirs[rows] = fold
    assert label_deviation(table, assign_folds(labels, groups)) < share * label_deviation(table, theirs)


def test_single_rows_are_as_even_as_by_the_iterative_stratification_of_iterstrat():
    stratifiers = pytest.importorskip("iterstrat.ml_stratifiers", reason="pip install iterative-stratification")
    labels = correlated_labels(2000, 8)
    theirs = np.empty(2000, dtype=int)
    splits = stratifiers.MultilabelStratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)
    for fold, (_, rows) in enumerate(splits):
        theirs[rows] = fold
    ours = assign_folds(labels)
    assert label_deviation(labels, ours) <= label_deviation(labels, theirs) + 1e-9
    pairs = pair_columns(labels)
    assert label_deviation(pairs, ours) < label_deviation(pairs, theirs)  # which balances no pairs


def test_pairs_of_labels_are_balanced_where_groups_are_many():
    labels = correlated_labels(5000, 5)
    groups, rng = np.arange(5000), np.random.default_rng(0)
    plain = share_out(count_labels(labels, groups), 5, rng)
    paired = spread_labels(labels, groups, 5)
    assert label_deviation(pair_columns(labels), paired) < label_deviation(pair_columns(labels), plain) / 2
    assert label_deviation(labels, paired) <= label_deviation(labels, plain) * 1.05


@pytest.mark.parametrize("groups_of_it", [1, 3, 5])
def test_a_label_in_few_groups_is_spread_as_far_as_it_can_be_and_named(groups_of_it):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 4)
    labels = np.zeros((200, 3), dtype=np.float32)
    labels[:, 0] = rng.random(200) < 0.4
    labels[groups < 20, 1] = 1
    labels[np.isin(groups, rng.choice(50, groups_of_it, replace=False)), 2] = 1
    folds, names = assign_folds(labels, groups), ["common", "half", "rare"]
    report = fold_report(labels, folds, names, groups)
    assert (report["rare"] > 0).sum() == groups_of_it
    assert list(report.columns) == ["rows", "groups", *names] and report["groups"].sum() == 50
    assert describe_balance(labels, folds, names).count("has no row with 'rare'.") == 5 - groups_of_it


def test_no_steps_leave_all_groups_and_steps_only_lower_the_imbalance():
    labels, groups = correlated_labels(600, 4), np.random.default_rng(0).integers(0, 30, 600)
    counts, weights = count_labels(labels, groups), np.array([1.0, 1, 1, 1, 4])
    folds = np.arange(30) % 4
    assert np.array_equal(improve(counts, folds, 4, weights, steps=0), folds)
    values = [imbalance(counts, improve(counts, folds, 4, weights, steps), 4, weights) for steps in range(6)]
    assert all(after < before for before, after in pairwise(values))
    assert np.array_equal(folds, np.arange(30) % 4)


def test_counts_hold_labels_pairs_and_rows_of_each_group():
    labels = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=np.float32)
    counts = count_labels(labels, np.array([0, 1, 1, 0]), pairs=5)
    assert counts.tolist() == [[1, 1, 0, 1, 0, 2], [1, 2, 1, 1, 1, 2]]  # labels 0 to 2, pairs 0-1 and 1-2, rows
    assert count_labels(labels, np.arange(4)).shape == (4, 4)


def test_rows_without_any_label_are_shared_out_by_number():
    assert np.bincount(spread_labels(np.zeros((23, 2)), np.arange(23), 5)).tolist().count(5) == 3


def test_as_many_groups_as_folds_are_one_each():
    labels = np.repeat([[1, 0], [0, 1], [0, 1]], [8, 1, 1], axis=0).astype(np.float32)
    assert sorted(spread_labels(labels, np.repeat([0, 1, 2], [8, 1, 1]), 3)[[0, 8, 9]]) == [0, 1, 2]


def test_38_000_rows_with_labels_and_groups_are_split_in_a_second():
    labels, groups = correlated_labels(38_000, 6), np.random.default_rng(0).integers(0, 20_000, 38_000)
    begin = time.process_time()
    folds = assign_folds(labels, groups)
    assert time.process_time() - begin < 5
    assert label_deviation(labels, folds) < 2e-4
