"""The catalogue of methods, and the properties that all of them have."""

import re
from dataclasses import replace

import numpy as np
import pytest

from kagglekit.ensembling import cascade, pools, stack, weight_search
from kagglekit.ensembling.cascade import Cascade
from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline, cross_fit
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS, BlendPlan
from kagglekit.ensembling.pools import LogPool, PowerMean, Vote
from kagglekit.ensembling.stack import Stack
from kagglekit.ensembling.weight_search import Search
from kagglekit.scoring.metrics import CLASSES, METRICS, is_higher_better, score
from tests.scoring.examples import CHANCES, KINDS, make_rows
from tests.scoring.examples import METRIC as SMOOTH

METRIC = {"binary": "f1_macro", "multiclass": "accuracy", "multilabel": "f1_macro", "ordinal": "qwk"}
METRIC |= {"regression": "rmse"}
QUICK = {"nelder_mead": {"trials": 20}, "optuna": {"trials": 5}, "boosting": {"strengths": [1.0]}}
QUICK |= {name: {"bags": 2} for name in ("hill_climbing", "classes", "labels", "cuts")}


WAYS = [(method.make(**QUICK.get(name, {})), kind) for name, method in METHODS.items() for kind in method.kinds]
WAYS += [(way, kind) for way in (PowerMean(3.0), PowerMean(-1), LogPool(True, True)) for kind in CHANCES]
WAYS += [(Search(trials=20, per_column=True), kind) for kind in KINDS]
every = pytest.mark.parametrize(("way", "kind"), WAYS, ids=str)


def make_inputs(kind, n=90, skills=(3.0, 2.0, 1.5), seed=0, metric=METRIC):
    """Runs, the first best, and folds."""
    predictions, labels = make_rows(kind, n, skills, seed)
    return StackInput(predictions, kind, metric[kind]), labels, np.arange(n) % 3


def fit(way, inputs, labels, folds):
    return way.fresh().fit(inputs, labels, folds)


def check_predictions(found, inputs):
    assert found.shape == inputs.predictions.shape[1:] and found.dtype == np.float64 and np.isfinite(found).all()
    if inputs.kind in CLASSES:
        assert np.allclose(found.sum(axis=1), 1)
    if inputs.kind in CHANCES:
        assert found.min() >= 0 and found.max() <= 1


@every
def test_every_method_predicts_rows_of_every_kind_that_it_fits(way, kind):
    inputs, labels, folds = make_inputs(kind)
    found = fit(way, inputs, labels, folds).predict(inputs)
    check_predictions(found, inputs)
    scores = [score(METRIC[kind], labels, some) for some in (found, *inputs.predictions)]
    scores = scores if is_higher_better(METRIC[kind]) else [-value for value in scores]
    assert scores[0] > min(scores[1:])


@every
def test_an_ensemble_of_one_run_is_that_run(way, kind):
    inputs, labels, folds = make_inputs(kind, skills=[1.0], metric=SMOOTH)
    found, alone = fit(way, inputs, labels, folds).predict(inputs), inputs.predictions[0]
    if isinstance(way, Vote) and kind in CHANCES:  # a vote keeps the decision only
        same = np.argmax if kind != "multilabel" else lambda probs, axis: probs >= 0.5
        assert np.array_equal(same(found, axis=1), same(alone, axis=1))
    elif not isinstance(way, Stack) and not getattr(way, "sharpen", False):  # these correct a single run too
        assert np.allclose(found, alone, atol=1e-6)


@every
def test_the_order_of_runs_does_not_matter(way, kind):
    if isinstance(way, (Search, Cascade)) or getattr(way, "model", "") == "boosting":
        return  # where a search goes, which of two equal splits a tree takes, and which run reads all rows
    inputs, labels, folds = make_inputs(kind, 120, (2.0, 1.0, 0.5), metric=SMOOTH)
    turned = replace(inputs, predictions=inputs.predictions[::-1])
    one, other = (fit(way, some, labels, folds).predict(some) for some in (inputs, turned))
    assert np.allclose(one, other, atol=1e-3)


@every
def test_the_prediction_of_a_row_does_not_depend_on_the_other_rows(way, kind):
    if isinstance(way, Cascade):
        return  # it reads a share of the rows, which are many
    (inputs, labels, folds), (new, *_) = (make_inputs(kind, seed=seed, metric=SMOOTH) for seed in (0, 1))
    fitted = fit(way, inputs, labels, folds)
    alone = np.concatenate([fitted.predict(new[[row]]) for row in range(20)])
    assert np.allclose(fitted.predict(new)[:20], alone, atol=1e-12)


@every
def test_probabilities_stay_probabilities_also_at_0_and_1(way, kind):
    inputs, labels, folds = make_inputs(kind, 120, metric=SMOOTH)
    if kind in CHANCES:
        first = inputs.predictions[0, :60]
        first[:] = first == first.max(axis=1, keepdims=True)
        inputs.predictions[1, :40] = np.roll(first[:40], 1, axis=1)
    check_predictions(cross_fit(way, inputs, labels, folds), inputs)


@every
def test_its_repr_rebuilds_it_and_a_fresh_one_has_learned_nothing(way, kind):
    inputs, labels, folds = make_inputs(kind, metric=SMOOTH)
    fitted = fit(way, inputs, labels, folds)
    again = fit(
        eval(repr(fitted), vars(pools) | vars(weight_search) | vars(stack) | vars(cascade)), inputs, labels, folds
    )
    assert np.array_equal(again.predict(inputs), fitted.predict(inputs))
    assert not [name for name in vars(fitted.fresh()) if name.endswith("_")] and fitted.fresh().weights_ is None
    if (weights := fitted.weights_) is not None:
        assert weights.shape in ((3,), inputs.predictions.shape[::2]) and weights.min() >= 0
        assert getattr(way, "sharpen", False) or np.allclose(weights.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, way in (CALIBRATIONS | THRESHOLDS).items() for kind in way.kinds]
)
def test_every_correction_follows_a_mean(name, kind):
    inputs, labels, folds = make_inputs(kind)
    metric = "qwk" if name == "cuts" else METRIC[kind]
    inputs = StackInput(inputs.predictions, kind, metric)
    switch = {"calibrate": name} if name in CALIBRATIONS else {"thresholds": name}
    plan = BlendPlan(kind, metric, "mean", options={name: QUICK[name]} if name in QUICK else {}, **switch)
    ensembler = plan.ensembler()
    assert isinstance(ensembler, Pipeline) and len(ensembler.corrections) == 1
    check_predictions(ensembler.fit(inputs, labels, folds).predict(inputs), inputs)


@pytest.mark.parametrize("kind", METRIC)
def test_auto_chooses_from_plain_ways_and_from_their_thresholds(kind):
    plan = BlendPlan(kind, METRIC[kind], thresholds="auto")
    names = list(plan.candidates_made())
    assert names[0] == "best" and "mean" in names and "weights" in names and "hill_climbing" in names
    assert any(" + " in name for name in names) == METRICS[METRIC[kind]].decides
    assert ("weights_per_column" in names) == (kind in ("multilabel", "regression"))
    assert isinstance(plan.ensembler(), EnsembleChoice)
    assert "hill_climbing" not in BlendPlan(kind, METRIC[kind], candidates=["mean", "weights"]).candidates_made()


def test_a_plan_as_a_whole_is_cross_fitted():
    inputs, labels, folds = make_inputs("multiclass")
    plan = BlendPlan(
        "multiclass", "accuracy", candidates=["mean", "weights"], thresholds="auto", options={"classes": {}}
    )
    other = labels.copy()
    other[folds == 0] = np.roll(labels[folds == 0], 1)
    one, two = (cross_fit(plan.ensembler(), inputs, some, folds) for some in (labels, other))
    assert np.array_equal(one[folds == 0], two[folds == 0])  # its own labels have no say
    check_predictions(one, inputs)


@pytest.mark.parametrize(
    ("kind", "knobs", "words"),
    [
        ("binary", {"method": "best_of"}, "method='best_of' is out of range: it must be auto or one of best, mean"),
        ("regression", {"method": "geometric"}, "it must be one that fits a regression task: best, mean, rank"),
        ("binary", {"method": "mean", "candidates": ["mean"]}, "candidates=['mean'] is out of range: it must be empty"),
        ("binary", {"calibrate": "linear"}, "it must be empty, or for a binary task temperature, vector"),
        ("binary", {"thresholds": "labels"}, "thresholds='labels' is out of range: it must be empty, or for a binary"),
        ("binary", {"options": {"climbing": {}}}, "options='climbing' is out of range: it must be one of best, mean"),
        ("binary", {"options": {"rank": {"step": 3}}}, "options: rank does not take {'step': 3}"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_in_words(kind, knobs, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        BlendPlan(kind, METRIC[kind], **knobs)


def test_thresholds_are_only_tried_where_the_metric_takes_decisions():
    assert BlendPlan("binary", "roc_auc", thresholds="auto").rule == ""
    assert BlendPlan("binary", "f1_macro", thresholds="auto").rule == "classes"
    assert BlendPlan("multiclass", "qwk", thresholds="auto").rule == "cuts"
    assert BlendPlan("multilabel", "f1_micro", thresholds="auto").rule == "labels"
    assert BlendPlan("multilabel", "f1_micro", thresholds="top").rule == "top"
    assert BlendPlan("regression", "rmse", thresholds="auto").rule == ""
