import re

import numpy as np
import pytest

from kagglekit.ensembling.base import StackInput
from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline, cross_fit
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS, BlendPlan
from kagglekit.scoring.metrics import CLASSES, METRICS, is_higher_better, score
from tests.scoring.examples import make_rows

METRIC = {"binary": "f1_macro", "multiclass": "accuracy", "multilabel": "f1_macro", "ordinal": "qwk"}
METRIC |= {"regression": "rmse"}
QUICK = {"nelder_mead": {"trials": 20}, "optuna": {"trials": 5}, "boosting": {"strengths": [1.0]}}
QUICK |= {name: {"bags": 2} for name in ("hill_climbing", "classes", "labels", "cuts")}


def make_inputs(kind, n=90):
    """Three runs, the first best, and folds."""
    predictions, labels = make_rows(kind, n, (3.0, 2.0, 1.5))
    return StackInput(predictions, kind, METRIC[kind]), labels, np.arange(n) % 3


def check_predictions(found, inputs):
    assert found.shape == inputs.predictions.shape[1:] and np.isfinite(found).all()
    if inputs.kind in CLASSES:
        assert np.allclose(found.sum(axis=1), 1) and found.min() >= 0
    if inputs.kind == "multilabel":
        assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, method in METHODS.items() for kind in method.kinds])
def test_every_method_predicts_rows_of_every_kind_that_it_fits(name, kind):
    inputs, labels, folds = make_inputs(kind)
    plan = BlendPlan(kind, METRIC[kind], name, options={name: QUICK[name]} if name in QUICK else {})
    found = plan.ensembler().fit(inputs, labels, folds).predict(inputs)
    check_predictions(found, inputs)
    scores = [score(METRIC[kind], labels, some) for some in (found, *inputs.predictions)]
    scores = scores if is_higher_better(METRIC[kind]) else [-value for value in scores]
    assert scores[0] > min(scores[1:])


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
def test_what_does_not_exist_or_fit_is_told_in_words(kind, knobs, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        BlendPlan(kind, METRIC[kind], **knobs)


def test_thresholds_are_only_tried_where_the_metric_takes_decisions():
    assert BlendPlan("binary", "roc_auc", thresholds="auto").rule == ""
    assert BlendPlan("binary", "f1_macro", thresholds="auto").rule == "classes"
    assert BlendPlan("multiclass", "qwk", thresholds="auto").rule == "cuts"
    assert BlendPlan("multilabel", "f1_micro", thresholds="auto").rule == "labels"
    assert BlendPlan("multilabel", "f1_micro", thresholds="top").rule == "top"
    assert BlendPlan("regression", "rmse", thresholds="auto").rule == ""
