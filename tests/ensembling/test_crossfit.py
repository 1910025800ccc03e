"""Cross-fitting: no row has a say in what predicts it, at any depth."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline, cross_fit, divide, fit_by_fold
from kagglekit.ensembling.ensembler import Ensembler, StackInput


class Share(Ensembler):
    """Says for every row how often each class was among the labels it was fitted on, `times` over; keeps the rows."""

    def __init__(self, times=1.0):
        self.times = times

    def fit(self, inputs, labels, folds):
        self.rows_ = set(inputs.meta[:, 0].astype(int).tolist())
        share = (np.bincount(labels, minlength=2) + 1e-9) ** self.times
        self.share_ = share / share.sum()
        return self

    def predict(self, inputs):
        assert not self.rows_ & set(inputs.meta[:, 0].astype(int).tolist()), "it predicts a row that it was fitted on"
        return np.tile(self.share_, (len(inputs), 1))


class First(Ensembler):
    """The first run; with `peek` it has memorised the labels of the rows it was fitted on."""

    def __init__(self, peek=False):
        self.peek = peek

    def fit(self, inputs, labels, folds):
        self.known_ = dict(zip(inputs.meta[:, 0].tolist(), labels.tolist(), strict=True))
        self.seen_ = inputs.predictions[0]
        return self

    def predict(self, inputs):
        found = inputs.predictions[0].copy()
        for row, number in enumerate(inputs.meta[:, 0]):
            if self.peek and number in self.known_:
                found[row] = np.eye(2)[self.known_[number]]
        return found


def make_inputs(n=60, skill=1.0, seed=0, members=2, groups=None, metric="log_loss"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    odds = skill * (2 * labels - 1) + rng.normal(size=(members, n))
    probs = 1 / (1 + np.exp(-odds))
    meta = np.arange(n)[:, None].astype(float)
    return (
        StackInput(np.stack([1 - probs, probs], axis=-1), "binary", metric, groups, None, meta),
        labels,
        np.arange(n) % 5,
    )


def test_each_fold_is_predicted_by_what_was_fitted_on_the_others():
    inputs, labels, folds = make_inputs()
    found = cross_fit(Share(), inputs, labels, folds)
    for fold in range(5):
        assert np.allclose(found[folds == fold, 1], labels[folds != fold].mean())
    assert set(fit_by_fold(Share(), inputs, labels, folds)) == set(range(5))


@pytest.mark.parametrize(
    "make", [Share, lambda: Pipeline(First(), Share()), lambda: EnsembleChoice({"a": Share(), "b": Share(2)})]
)
def test_the_labels_of_a_fold_are_not_used_for_its_predictions(make):
    inputs, labels, folds = make_inputs()
    other = np.where(folds == 2, 0, labels)
    one, two = cross_fit(make(), inputs, labels, folds), cross_fit(make(), inputs, other, folds)
    assert np.array_equal(one[folds == 2], two[folds == 2])
    assert not np.array_equal(one[folds != 2], two[folds != 2])


def test_the_ensembler_that_is_given_stays_as_it_is():
    inputs, labels, folds = make_inputs()
    for ensembler in (Share(), Pipeline(First(), Share()), EnsembleChoice({"a": Share()})):
        before = repr(ensembler)
        cross_fit(ensembler, inputs, labels, folds)
        assert not [name for name in vars(ensembler) if name.endswith("_")] and repr(ensembler) == before
        again = eval(before)
        assert repr(again) == before and type(again) is type(ensembler)


def test_rows_of_a_single_fold_are_divided_into_five_by_groups():
    inputs, labels, _ = make_inputs(groups=np.arange(60) // 4)
    parts = divide(inputs, np.full(60, 3))
    assert sorted(np.bincount(parts)) == [12] * 5 and np.array_equal(parts, divide(inputs, np.full(60, 3)))
    assert (pd.Series(parts).groupby(inputs.groups).nunique() == 1).all()
    assert np.isfinite(cross_fit(Share(), inputs, labels, np.full(60, 3))).all()
    two, _, _ = make_inputs(6, groups=np.repeat([0, 1], 3))
    assert len(np.unique(divide(two, np.zeros(6, dtype=int)))) == 2
    with pytest.raises(ValueError, match="the 3 rows of fold 0 are all of one group"):
        divide(two[:3], np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="all 60 rows are of fold 3"):
        fit_by_fold(Share(), inputs, labels, np.full(60, 3))


def test_a_fold_below_zero_is_learned_from_and_never_predicted():
    inputs, labels, folds = make_inputs()
    found = cross_fit(Share(), inputs, labels, folds - 1)
    assert np.isnan(found[folds == 0]).all() and np.allclose(found[folds == 1, 1], labels[folds != 1].mean())
    chain = Pipeline(First(), Share()).fit(inputs, labels, folds - 1)
    assert chain.fitted_[1].share_[1] == pytest.approx(labels[folds > 0].mean())
    assert EnsembleChoice({"a": First(), "b": Share()}).fit(inputs, labels, folds - 1).chosen_ == "a"
    with pytest.raises(ValueError, match="none of the 60 rows has a fold"):
        cross_fit(Share(), inputs, labels, np.full(60, -1))


def test_a_correction_never_sees_what_a_combination_predicts_for_its_own_rows():
    inputs, labels, folds = make_inputs()
    chain = Pipeline(First(peek=True), First()).fit(inputs, labels, folds)
    assert np.array_equal(chain.fitted_[1].seen_, inputs.predictions[0])  # not the labels that it memorised
    assert np.array_equal(chain.fitted_[0].predict(inputs), np.eye(2)[labels])


def test_a_chain_without_corrections_is_its_combination():
    inputs, labels, folds = make_inputs()
    assert np.array_equal(cross_fit(Pipeline(First()), inputs, labels, folds), inputs.predictions[0])


def test_corrections_follow_each_other():
    inputs, labels, folds = make_inputs()
    chain = Pipeline(First(), First(), Share(2)).fit(inputs, labels, folds)
    other, _, _ = make_inputs()
    other.meta[:] += 1000
    assert np.allclose(chain.predict(other)[:, 1], chain.fitted_[2].share_[1])


def test_a_choice_takes_the_simplest_within_one_standard_error():
    inputs, labels, folds = make_inputs(400, members=2)
    both = np.stack([0.5 * inputs.predictions[0] + 0.25, inputs.predictions[0]])
    better = StackInput(both, "binary", "log_loss", meta=inputs.meta)

    class Second(First):
        def predict(self, inputs):
            return inputs.predictions[1]

    candidates = {"first": First(), "second": Second()}
    choice = EnsembleChoice(candidates).fit(better, labels, folds)
    assert choice.chosen_ == "second" and choice.table_["chosen"].tolist() == [False, True]
    row = choice.table_.loc["first"]
    assert row["difference"] > row["standard_error"] > 0 and choice.table_.loc["second", "difference"] == 0
    assert EnsembleChoice(candidates, errors=1e6).fit(better, labels, folds).chosen_ == "first"
    slightly = StackInput(
        np.stack([inputs.predictions[0], inputs.predictions[0] * 0.99 + 0.005]), "binary", "log_loss", meta=inputs.meta
    )
    scores = EnsembleChoice(candidates).fit(slightly, labels, folds).table_["score"]
    best = scores.idxmin()
    assert EnsembleChoice(candidates, errors=0).fit(slightly, labels, folds).chosen_ == best
    same = {"one": First(), "two": First()}
    assert EnsembleChoice(same, errors=0).fit(inputs, labels, folds).chosen_ == "one"  # a tie goes to the simpler


def test_a_choice_does_not_fall_for_one_that_knows_its_own_rows():
    inputs, labels, folds = make_inputs()
    choice = EnsembleChoice({"honest": First(), "memorised": First(peek=True)}, errors=0).fit(inputs, labels, folds)
    assert choice.chosen_ == "honest"  # cross-fitted they are the same
    with pytest.raises(ValueError, match=r"candidates=\[\] is out of range"):
        EnsembleChoice({}).fit(inputs, labels, folds)
    with pytest.raises(ValueError, match="errors=-1 is out of range"):
        EnsembleChoice({"a": First()}, errors=-1).fit(inputs, labels, folds)


def test_the_choice_within_one_error_counts_groups_not_rows():
    inputs, labels, folds = make_inputs(50, members=1, seed=3)
    copies = np.repeat(np.arange(50), 8)
    many = StackInput(inputs.predictions[:, copies], "binary", "log_loss", copies, None, np.arange(400.0)[:, None])

    class Tempered(First):
        def predict(self, inputs):
            return 0.5 * inputs.predictions[0] + 0.25

    errors = [
        EnsembleChoice({"a": First(), "b": Tempered()})
        .fit(some, labels[copies], folds[copies])
        .table_["standard_error"]
        .max()
        for some in (many, StackInput(many.predictions, "binary", "log_loss", None, None, many.meta))
    ]
    assert errors[0] > 2 * errors[1]


class Counting(First):
    """Like `First`; notes each set of rows that one of its copies was fitted on."""

    fits: ClassVar[list] = []

    def fit(self, inputs, labels, folds):
        self.fits.append(tuple(inputs.meta[:, 0].astype(int)))
        return super().fit(inputs, labels, folds)


def test_what_is_nested_is_fitted_once_for_each_set_of_rows():
    inputs, labels, folds = make_inputs()
    Counting.fits.clear()
    choice = EnsembleChoice({"one": Counting(), "two": Counting()})
    first = cross_fit(choice, inputs, labels, folds)
    assert len(Counting.fits) == len(set(Counting.fits)) == 5 + 10  # without one fold, without two
    np.testing.assert_array_equal(cross_fit(Counting(), inputs, labels, folds), first)
    assert len(Counting.fits) == 15
    cross_fit(Counting(), inputs, 1 - labels, folds)  # other labels, other folds: fitted anew
    cross_fit(Counting(), inputs, labels, folds // 2)
    assert len(Counting.fits) == 15 + 5 + 3
    cross_fit(Counting(), make_inputs(seed=1)[0], labels, folds)
    assert len(Counting.fits) == 15 + 5 + 3 + 5
