"""Cross-fitting: no row has a say in what predicts it, at any depth."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.base import Ensembler, Level
from kagglekit.ensembling.crossfit import Chain, Choice, cross_fit, divide, fit_by_fold


class Share(Ensembler):
    """Says for every row how often each class was among the labels it was fitted on, `times` over; keeps the rows."""

    def __init__(self, times=1.0):
        self.times = times

    def fit(self, level, labels, folds):
        self.rows_ = set(level.meta[:, 0].astype(int).tolist())
        share = (np.bincount(labels, minlength=2) + 1e-9) ** self.times
        self.share_ = share / share.sum()
        return self

    def predict(self, level):
        assert not self.rows_ & set(level.meta[:, 0].astype(int).tolist()), "it predicts a row that it was fitted on"
        return np.tile(self.share_, (len(level), 1))


class First(Ensembler):
    """The first member; one that is told to peek knows the labels of its own rows by heart."""

    def __init__(self, peek=False):
        self.peek = peek

    def fit(self, level, labels, folds):
        self.known_ = dict(zip(level.meta[:, 0].tolist(), labels.tolist(), strict=True))
        self.seen_ = level.members[0]
        return self

    def predict(self, level):
        found = level.members[0].copy()
        for row, number in enumerate(level.meta[:, 0]):
            if self.peek and number in self.known_:
                found[row] = np.eye(2)[self.known_[number]]
        return found


def make_level(n=60, skill=1.0, seed=0, members=2, groups=None, metric="log_loss"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    odds = skill * (2 * labels - 1) + rng.normal(size=(members, n))
    probs = 1 / (1 + np.exp(-odds))
    meta = np.arange(n)[:, None].astype(float)
    return Level(np.stack([1 - probs, probs], axis=-1), "binary", metric, groups, None, meta), labels, np.arange(n) % 5


def test_each_fold_is_predicted_by_what_was_fitted_on_the_others():
    level, labels, folds = make_level()
    found = cross_fit(Share(), level, labels, folds)
    for fold in range(5):
        assert np.allclose(found[folds == fold, 1], labels[folds != fold].mean())
    assert set(fit_by_fold(Share(), level, labels, folds)) == set(range(5))


@pytest.mark.parametrize(
    "make", [Share, lambda: Chain(First(), Share()), lambda: Choice({"a": Share(), "b": Share(2)})]
)
def test_the_labels_of_a_fold_have_no_say_in_its_predictions(make):
    level, labels, folds = make_level()
    other = np.where(folds == 2, 0, labels)
    one, two = cross_fit(make(), level, labels, folds), cross_fit(make(), level, other, folds)
    assert np.array_equal(one[folds == 2], two[folds == 2])
    assert not np.array_equal(one[folds != 2], two[folds != 2])


def test_the_ensembler_that_is_given_stays_as_it_is():
    level, labels, folds = make_level()
    for ensembler in (Share(), Chain(First(), Share()), Choice({"a": Share()})):
        before = repr(ensembler)
        cross_fit(ensembler, level, labels, folds)
        assert not [name for name in vars(ensembler) if name.endswith("_")] and repr(ensembler) == before
        again = eval(before)
        assert repr(again) == before and type(again) is type(ensembler)


def test_rows_of_a_single_fold_are_divided_into_five_by_groups():
    level, labels, _ = make_level(groups=np.arange(60) // 4)
    parts = divide(level, np.full(60, 3))
    assert sorted(np.bincount(parts)) == [12] * 5 and np.array_equal(parts, divide(level, np.full(60, 3)))
    assert (pd.Series(parts).groupby(level.groups).nunique() == 1).all()
    assert np.isfinite(cross_fit(Share(), level, labels, np.full(60, 3))).all()
    two, _, _ = make_level(6, groups=np.repeat([0, 1], 3))
    assert len(np.unique(divide(two, np.zeros(6, dtype=int)))) == 2
    with pytest.raises(ValueError, match="the 3 rows of fold 0 all belong together"):
        divide(two[:3], np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="all 60 rows are of fold 3"):
        fit_by_fold(Share(), level, labels, np.full(60, 3))


def test_a_fold_below_zero_is_learned_from_and_never_predicted():
    level, labels, folds = make_level()
    found = cross_fit(Share(), level, labels, folds - 1)
    assert np.isnan(found[folds == 0]).all() and np.allclose(found[folds == 1, 1], labels[folds != 1].mean())
    chain = Chain(First(), Share()).fit(level, labels, folds - 1)
    assert chain.fitted_[1].share_[1] == pytest.approx(labels[folds > 0].mean())
    assert Choice({"a": First(), "b": Share()}).fit(level, labels, folds - 1).chosen_ == "a"
    with pytest.raises(ValueError, match="none of the 60 rows has a fold"):
        cross_fit(Share(), level, labels, np.full(60, -1))


def test_a_correction_never_sees_what_a_combination_says_of_its_own_rows():
    level, labels, folds = make_level()
    chain = Chain(First(peek=True), First()).fit(level, labels, folds)
    assert np.array_equal(chain.fitted_[1].seen_, level.members[0])  # not the labels that it knows by heart
    assert np.array_equal(chain.fitted_[0].predict(level), np.eye(2)[labels])


def test_a_chain_without_corrections_is_its_combination():
    level, labels, folds = make_level()
    assert np.array_equal(cross_fit(Chain(First()), level, labels, folds), level.members[0])


def test_corrections_follow_each_other():
    level, labels, folds = make_level()
    chain = Chain(First(), First(), Share(2)).fit(level, labels, folds)
    other, _, _ = make_level()
    other.meta[:] += 1000
    assert np.allclose(chain.predict(other)[:, 1], chain.fitted_[2].share_[1])


def test_a_choice_takes_the_simplest_within_one_standard_error():
    level, labels, folds = make_level(400, members=2)
    both = np.stack([0.5 * level.members[0] + 0.25, level.members[0]])
    better = Level(both, "binary", "log_loss", meta=level.meta)

    class Second(First):
        def predict(self, level):
            return level.members[1]

    candidates = {"first": First(), "second": Second()}
    choice = Choice(candidates).fit(better, labels, folds)
    assert choice.chosen_ == "second" and choice.table_["chosen"].tolist() == [False, True]
    row = choice.table_.loc["first"]
    assert row["difference"] > row["standard_error"] > 0 and choice.table_.loc["second", "difference"] == 0
    assert Choice(candidates, errors=1e6).fit(better, labels, folds).chosen_ == "first"
    slightly = Level(
        np.stack([level.members[0], level.members[0] * 0.99 + 0.005]), "binary", "log_loss", meta=level.meta
    )
    scores = Choice(candidates).fit(slightly, labels, folds).table_["score"]
    best = scores.idxmin()
    assert Choice(candidates, errors=0).fit(slightly, labels, folds).chosen_ == best
    same = {"one": First(), "two": First()}
    assert Choice(same, errors=0).fit(level, labels, folds).chosen_ == "one"  # a tie goes to the simpler


def test_a_choice_does_not_fall_for_one_that_knows_its_own_rows():
    level, labels, folds = make_level()
    choice = Choice({"honest": First(), "by heart": First(peek=True)}, errors=0).fit(level, labels, folds)
    assert choice.chosen_ == "honest"  # cross-fitted they are the same
    with pytest.raises(ValueError, match=r"candidates=\[\] is out of range"):
        Choice({}).fit(level, labels, folds)
    with pytest.raises(ValueError, match="errors=-1 is out of range"):
        Choice({"a": First()}, errors=-1).fit(level, labels, folds)


def test_the_choice_within_one_error_counts_groups_not_rows():
    level, labels, folds = make_level(50, members=1, seed=3)
    copies = np.repeat(np.arange(50), 8)
    many = Level(level.members[:, copies], "binary", "log_loss", copies, None, np.arange(400.0)[:, None])

    class Tempered(First):
        def predict(self, level):
            return 0.5 * level.members[0] + 0.25

    errors = [
        Choice({"a": First(), "b": Tempered()}).fit(some, labels[copies], folds[copies]).table_["standard_error"].max()
        for some in (many, Level(many.members, "binary", "log_loss", None, None, many.meta))
    ]
    assert errors[0] > 2 * errors[1]
