"""The proof: models of known quality, and what is said of their ensembles against what these are really worth."""

from functools import cache

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline, cross_fit, fit_by_fold
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.pools import BestSingle, LinearPool, LogPool, Mean
from kagglekit.ensembling.thresholds import ClassThresholds
from kagglekit.ensembling.weight_search import HillClimbing
from kagglekit.scoring.metrics import score

SKILLS = np.array([2.4, 2.2, 2.2, 2.0, 2.0, 1.8, 1.8, 1.6, 1.4, 1.2, 0.6, 0.0])  # the last one knows nothing
SHARES = np.array([0.6, 0.3, 0.1])
REPETITIONS, FOLDS = 100, 3


def draw(rng, rows):
    """Rows of three classes, and each model's probabilities of them; some rows are hard for all models."""
    labels = rng.choice(3, size=rows, p=SHARES)
    noise = rng.normal(size=(rows, 3)) + rng.normal(size=(len(SKILLS), rows, 3))
    odds = SKILLS[:, None, None] * np.eye(3)[labels] + noise
    probs = np.exp(odds)
    return probs / probs.sum(axis=-1, keepdims=True), labels


@cache
def others():
    """Very many other rows; of 20 times as many, the mean of the models."""
    first, *rest = (draw(np.random.default_rng([7, k]), 20_000) for k in range(21))
    return *first, [(labels, probs.mean(axis=0)) for probs, labels in rest]


def harder(metric):
    """How much harder the other rows are than 20 times as many, by the mean of the models."""
    probs, labels, rest = others()
    return np.mean([score(metric, *each) for each in rest]) - score(metric, labels, probs.mean(axis=0))


def simulate(ensembler, metric, seed, rows):
    """The estimate of an ensembler on so many rows, and what its ensembles score on all others."""
    probs, labels = draw(np.random.default_rng(seed), rows)
    inputs, folds = StackInput(probs, "multiclass", metric), np.arange(rows) % FOLDS
    fitted = fit_by_fold(ensembler, inputs, labels, folds)
    estimate = make_estimate(ensembler, inputs, labels, folds, fitted=fitted, draws=300, seed=seed)
    rest, truth, _ = others()
    rest = StackInput(rest, "multiclass", metric)
    return estimate, np.mean([score(metric, truth, one.predict(rest)) for one in fitted.values()])


def repeat(ensembler, metric, rows):
    """How often the cross-fitted interval and one around the in-sample score hold the true score, and how often and by
    how many standard errors in-sample is too good."""
    pairs = [simulate(ensembler, metric, seed, rows) for seed in range(REPETITIONS)]
    off = harder(metric)
    pairs = [(estimate, true + off) for estimate, true in pairs]
    inside = sum(estimate.low <= true <= estimate.high for estimate, true in pairs)
    optimism = [(e.in_sample - true) / e.standard_error for e, true in pairs]
    optimism = np.array(optimism) * (-1 if metric == "log_loss" else 1)
    bias = np.mean([(e.cross_fitted - true) / e.standard_error for e, true in pairs])
    return inside, (optimism > 0).mean(), optimism.mean(), bias


@pytest.mark.parametrize(
    ("ensembler", "metric"),
    [
        (HillClimbing(steps=10, bags=1), "f1_macro"),
        (LinearPool(), "log_loss"),
        (
            EnsembleChoice({"mean": Mean(), "pool": LinearPool(), "cut": Pipeline(Mean(), ClassThresholds())}),
            "accuracy",
        ),
    ],
    ids=["hill climbing", "linear pool", "choice with thresholds"],
)
def test_the_interval_holds_the_true_score_and_the_score_in_sample_is_too_good(ensembler, metric):
    inside, often, optimism, bias = repeat(ensembler, metric, rows=300)
    assert inside >= 93
    assert often > 0.6 and optimism > 0.3
    assert abs(bias) < optimism / 2 and abs(bias) < 0.3


def test_thresholds_look_too_good_where_they_were_tuned_and_not_where_they_are_cross_fitted():
    """Few rows of a rare class: in-sample the thresholds win, on other rows they lose."""
    off = harder("f1_macro")
    pairs = [simulate(Pipeline(Mean(), ClassThresholds()), "f1_macro", seed, 90) for seed in range(25)]
    pairs = [(estimate, true + off) for estimate, true in pairs]
    gaps = [estimate.gap for estimate, _ in pairs]
    assert np.mean(gaps) > 0.03 and np.mean(np.array(gaps) > 0) > 0.9
    assert abs(np.mean([estimate.cross_fitted - true for estimate, true in pairs])) < np.mean(gaps) / 2


@pytest.mark.parametrize("ensembler", [LinearPool(), LogPool(), HillClimbing()], ids=repr)
def test_a_model_that_knows_nothing_gets_no_weight_that_matters(ensembler):
    probs, labels = draw(np.random.default_rng(0), 2000)
    weights = ensembler.fit(StackInput(probs, "multiclass", "log_loss"), labels, np.arange(2000) % 5).weights_
    assert weights[-1] < 0.02 and weights.sum() == pytest.approx(1)
    assert weights[:6].sum() > 0.5


def test_copies_across_folds_make_a_model_that_memorises_look_good_and_groups_show_it():
    """Random labels, each row three times: the nearest neighbour knows those whose copies are in other folds."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 3)
    texts, labels = rng.normal(size=(100, 5))[groups], rng.integers(2, size=100)[groups]
    found = []
    for folds in (np.arange(300) % 3, groups % 3):
        probs = np.empty((300, 2))
        for fold in range(3):
            model = KNeighborsClassifier(1).fit(texts[folds != fold], labels[folds != fold])
            probs[folds == fold] = model.predict_proba(texts[folds == fold])
        inputs = StackInput(probs[None], "binary", "accuracy", groups)
        found.append(make_estimate(Mean(), inputs, labels, folds, draws=200))
    split, grouped = found
    assert split.cross_fitted == 1.0 and grouped.low < 0.5 < grouped.high


def test_inner_folds_of_a_choice_never_hold_rows_of_the_outer_fold():
    """Cross-fitted, a choice knows nothing of the labels that it is scored on: with random labels it is at chance."""
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        inputs = StackInput(draw(rng, 150)[0], "multiclass", "accuracy")
        labels = rng.integers(3, size=150)
        choice = EnsembleChoice({"best": BestSingle(), "climb": HillClimbing(steps=5, bags=1)}, errors=0, draws=2)
        scores.append(score("accuracy", labels, cross_fit(choice, inputs, labels, np.arange(150) % FOLDS)))
    assert abs(np.mean(scores) - 1 / 3) < 4 * np.sqrt(2 / 9 / 150 / 20)
