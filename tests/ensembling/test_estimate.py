"""Three numbers, an interval, and what speaks against an ensemble."""

import json

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.blend import fit_blend
from kagglekit.ensembling.crossfit import cross_fit, fit_by_fold
from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.ensembling.pools import LinearPool, Mean
from kagglekit.runs.tables import Run
from kagglekit.scoring.metrics import score


class Nearest(Ensembler):
    """Has memorised the labels of its own rows, and predicts the mean of the runs elsewhere."""

    def fit(self, inputs, labels, folds):
        self.known_ = dict(zip(inputs.predictions[0, :, 0].tolist(), labels.tolist(), strict=True))
        return self

    def predict(self, inputs):
        found = inputs.predictions.mean(axis=0)
        for row, key in enumerate(inputs.predictions[0, :, 0].tolist()):
            if key in self.known_:
                found[row] = 0.99 * np.eye(found.shape[1])[self.known_[key]] + 0.01 / found.shape[1]
        return found


def make_inputs(n=300, skills=(2.0, 2.0, 2.0), metric="log_loss", seed=0, groups=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    odds = np.array(skills)[:, None, None] * np.eye(3)[labels] + rng.normal(size=(len(skills), n, 3))
    probs = np.exp(odds) / np.exp(odds).sum(axis=-1, keepdims=True)
    return StackInput(probs, "multiclass", metric, groups), labels, np.arange(n) % 5


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "roc_auc"])
def test_the_three_numbers_are_what_they_are_called(metric):
    inputs, labels, folds = make_inputs(metric=metric)
    estimate = make_estimate(LinearPool(), inputs, labels, folds, draws=100)
    own = LinearPool().fit(inputs, labels, folds).predict(inputs)
    assert estimate.in_sample == pytest.approx(score(metric, labels, own))
    honest = score(metric, labels, cross_fit(LinearPool(), inputs, labels, folds))
    assert estimate.cross_fitted == pytest.approx(honest) and estimate.low < honest < estimate.high
    assert abs(estimate.gap) == pytest.approx(abs(estimate.in_sample - honest))
    assert estimate.mean_score == pytest.approx(score(metric, labels, inputs.predictions.mean(axis=0)))
    assert estimate.rows == estimate.groups == 300 and estimate.members == 3


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_an_ensemble_that_memorised_its_own_rows_is_found_out(metric):
    inputs, labels, folds = make_inputs(metric=metric)
    estimate = make_estimate(Nearest(), inputs, labels, folds, draws=100)
    assert estimate.gap > 0 and estimate.in_sample == pytest.approx(1 if metric == "accuracy" else 0.0067, abs=1e-3)
    assert estimate.cross_fitted == pytest.approx(estimate.mean_score) and estimate.better_by == 0
    warnings = " ".join(estimate.warnings)
    assert "the plain mean does as well" in warnings and "the ensemble overfits its own rows" in warnings


def test_the_plain_mean_is_named_where_it_does_as_well_or_better_and_only_there():
    same, labels, folds = make_inputs()
    assert "the plain mean does as well" in make_estimate(Mean(), same, labels, folds, draws=100).warnings[0]
    inputs, labels, folds = make_inputs(1000, skills=(3.0, 0.0, 0.0, 0.0))
    estimate = make_estimate(LinearPool(), inputs, labels, folds, draws=100)
    assert estimate.better_by > 5 * estimate.better_error > 0 and estimate.warnings == []

    class Worst(Mean):
        def predict(self, inputs):
            return inputs.predictions[-1]

    assert "the plain mean does better" in make_estimate(Worst(), inputs, labels, folds, draws=100).warnings[0]
    alone = StackInput(inputs.predictions[:1], "multiclass", "log_loss")
    assert "the run as it is does as well" in make_estimate(Mean(), alone, labels, folds, draws=100).warnings[0]


def test_rows_that_belong_together_make_the_interval_wide():
    inputs, labels, folds = make_inputs(100)
    copies = np.repeat(np.arange(100), 9)
    many = StackInput(inputs.predictions[:, copies], "multiclass", "log_loss")
    rows = make_estimate(Mean(), many, labels[copies], folds[copies], draws=300)
    grouped = make_estimate(Mean(), many, labels[copies], folds[copies], groups=copies, draws=300)
    assert grouped.groups == 100 and grouped.rows == 900
    assert grouped.standard_error == pytest.approx(3 * rows.standard_error, rel=0.25)
    few = make_estimate(Mean(), many, labels[copies], folds[copies], groups=copies % 10, draws=300)
    assert "10 groups of rows are few" in " ".join(few.warnings) and "10 groups, 900 rows" in str(few)


def test_what_was_fitted_before_is_used_and_a_level_of_confidence_is_kept():
    inputs, labels, folds = make_inputs()
    fitted = fit_by_fold(LinearPool(), inputs, labels, folds)
    one, two = (make_estimate(LinearPool(), inputs, labels, folds, fitted=some, draws=100) for some in (None, fitted))
    assert one == two
    narrow = make_estimate(LinearPool(), inputs, labels, folds, fitted=fitted, draws=100, confidence=0.5)
    assert narrow.high - narrow.low < one.high - one.low and "(50 % interval" in str(narrow)
    with pytest.raises(ValueError, match="level=1 is out of range"):
        make_estimate(LinearPool(), inputs, labels, folds, draws=100, confidence=1)


def test_a_fold_below_zero_and_a_single_fold_have_an_estimate():
    inputs, labels, folds = make_inputs()
    assert make_estimate(Mean(), inputs, labels, folds - 1, draws=100).rows == 240
    single = make_estimate(LinearPool(), inputs, labels, np.zeros(300, dtype=int), draws=100)
    assert single.rows == 300 and single.in_sample <= single.cross_fitted  # log loss


def test_an_estimate_is_printed_and_kept():
    inputs, labels, folds = make_inputs(metric="accuracy")
    estimate = make_estimate(Mean(), inputs, labels, folds, draws=100)
    assert str(estimate).startswith(f"accuracy, cross-fitted {estimate.cross_fitted:.4f}  (95 % interval ")
    assert "bootstrap over 300 rows" in str(estimate) and "Note: the plain mean does as well" in str(estimate)
    kept = json.loads(json.dumps(estimate.as_dict()))
    assert kept["low"] == estimate.low and kept["warnings"] == estimate.warnings


@pytest.mark.parametrize("fold", [0, 7])
@pytest.mark.parametrize("method", ["mean", "rank", "weights"])
def test_all_rows_of_a_single_fold_are_scored_with_what_a_blend_has_fitted(method, fold):
    inputs, labels, _ = make_inputs()
    folds, plan = np.full(300, fold), BlendPlan("multiclass", "log_loss", method)
    fitted, _, _ = fit_blend([make_run(f"r{k}", inputs.predictions[k], folds) for k in range(3)], labels, plan, inputs)
    estimate = make_estimate(plan.ensembler(), inputs, labels, folds, fitted=fitted, draws=100)
    assert estimate.rows == 300 and (estimate.gap == 0) == (method != "weights")
    assert estimate == make_estimate(plan.ensembler(), inputs, labels, folds, draws=100)


def make_run(name, probs, folds):
    oof = pd.DataFrame(probs, columns=list("abc"))
    oof.insert(0, "id", np.arange(len(folds)).astype(str))
    oof.insert(1, "fold", folds)
    return Run(name, None, list("abc"), oof, np.arange(len(folds)), {int(folds[0]): probs[:0]}, [])


def test_a_score_without_any_error_has_a_warning_of_few_rows():
    labels = np.arange(40) % 2
    sure = np.eye(2)[labels]
    inputs = StackInput(np.stack([sure, sure]), "binary", "accuracy")
    found = make_estimate(Mean(), inputs, labels, np.arange(40) % 4)
    assert found.low == found.high == 1 and "errors in up to 7.5% of the rows" in " ".join(found.warnings)


def test_no_gap_is_no_gap_below_nothing_where_lower_is_better():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    probs = rng.random((2, 60))
    inputs = StackInput(np.stack([1 - probs, probs], axis=-1), "binary", "log_loss")
    found = make_estimate(Mean(), inputs, labels, np.arange(60) % 3)
    assert f"{found.gap:.4f} {found.better_by:.4f}" == "0.0000 0.0000"
