"""Uncertainty-aware self-training: what passes with dropout say, and which rows are drawn by it."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import nn

from kagglekit.selftraining.pseudo_labels import Prediction
from kagglekit.selftraining.ust import (
    bald,
    confidence_weights,
    draw_predictions,
    draw_rows,
    dropout_on,
    share_of_variance,
    summarise,
    variance,
)
from kagglekit.training.predict import predict

DRAWS = np.random.default_rng(0).dirichlet([1, 1, 1], size=(5, 40)).astype(np.float32)  # (passes, rows, classes)


def test_bald_is_the_mutual_information_of_label_and_pass():
    whole = scipy_entropy(DRAWS.mean(axis=0), axis=1)
    each = scipy_entropy(DRAWS, axis=2).mean(axis=0)
    assert np.allclose(bald(DRAWS, "multiclass"), whole - each, atol=1e-5)
    two = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # two passes that contradict each other fully
    assert bald(two, "binary") == pytest.approx(np.log(2)) and bald(two[:, :, :1], "multilabel") == pytest.approx(
        np.log(2)
    )


def test_passes_that_agree_tell_nothing():
    same = np.repeat(DRAWS[:1], 4, axis=0)
    for kind in ("multiclass", "multilabel", "regression"):
        assert np.allclose(bald(same, kind), 0, atol=1e-6) and np.allclose(variance(same, kind), 0, atol=1e-6)


def test_the_variance_is_that_of_the_predicted_class():
    by_hand = [DRAWS[:, row, DRAWS[:, row].mean(axis=0).argmax()].var() for row in range(40)]
    assert np.allclose(variance(DRAWS, "multiclass"), by_hand, atol=1e-6)
    assert np.allclose(variance(DRAWS, "multilabel"), DRAWS.var(axis=0).mean(axis=1), atol=1e-6)


def test_of_values_the_share_of_the_passes_in_all_variance_counts():
    values = np.array([[[0.0], [10.0]], [[2.0], [10.0]]])  # variance of passes 1 and 0, of rows 20.25
    assert share_of_variance(values) == pytest.approx([1 / 21.25, 0])
    assert np.allclose(bald(7 * values + 3, "regression"), bald(values, "regression"))  # in any unit


def test_a_row_counts_the_more_the_less_it_varies():
    variances = np.array([0.25, 0.01, 0.0001, 0.0])
    weights = confidence_weights(variances)
    assert np.allclose(weights[:3] / weights[0], np.log(variances[:3]) / np.log(0.25))
    assert weights.mean() == pytest.approx(1) and (np.diff(weights) > 0).all() and np.isfinite(weights).all()
    assert confidence_weights(np.full(3, 0.1)).tolist() == [1, 1, 1] and len(confidence_weights(np.zeros(0))) == 0


@pytest.mark.parametrize(("sample", "lower"), [("easy", True), ("hard", False)])
def test_easy_rows_are_those_on_which_the_passes_agree(sample, lower):
    guess = summarise(DRAWS, "multiclass")
    means = []
    for seed in range(200):
        rows = draw_rows(guess, "multiclass", 3, sample, seed)
        groups = np.bincount(guess.mean[rows].argmax(axis=1), minlength=3)
        assert groups.tolist() == [3, 3, 3] and (np.diff(rows) > 0).all()
        means.append(guess.uncertainty[rows].mean())
    assert (np.mean(means) < guess.uncertainty.mean()) == lower


def test_rows_are_drawn_in_proportion_to_one_minus_bald():
    uncertainty = np.array([0.0, 0.5, 0.9, 2.0], np.float32)
    guess = Prediction(np.tile(np.array([[0.9, 0.1]], np.float32), (4, 1)), uncertainty, uncertainty)
    first = np.bincount([draw_rows(guess, "binary", 1, "easy", seed)[0] for seed in range(4000)], minlength=4) / 4000
    assert np.allclose(first, np.array([1, 0.5, 0.1, 0]) / 1.6, atol=0.03)


def test_a_class_with_few_rows_gives_all_and_rows_that_were_not_asked_none():
    guess = summarise(DRAWS, "multiclass")
    guess.mean[:10] = np.nan
    rows = draw_rows(guess, "multiclass", 100, "easy", 0)
    assert rows.tolist() == list(range(10, 40))
    assert np.array_equal(draw_rows(guess, "multiclass", 4, "hard", 1), draw_rows(guess, "multiclass", 4, "hard", 1))


def test_without_dropout_every_pass_is_the_prediction(classifier, examples):
    model, rows = classifier(dropout=0.0), examples()
    with pytest.raises(ValueError, match=r'train it with dropout=0.1, or say pseudo=\{"dropout": 0.1\}'):
        draw_predictions(model, rows, "fp32", 2, 0)
    nothing = draw_predictions(model, rows, "fp32", 2, 0, dropout=1e-12)
    assert np.allclose(nothing, predict(model, rows, "fp32"), atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "deberta-v2", "distilbert"])
def test_dropout_alone_is_on_and_nothing_stays_of_it(classifier, backbones, examples, weights, same, kind):
    model = classifier(dropout=0.2, folder=backbones[kind], head_dropout=0.2, dropout_samples=4)
    model.norm = nn.BatchNorm1d(3)  # has a running mean, which prediction leaves alone
    rows, before, state = examples(), weights(model), torch.random.get_rng_state()
    model.eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyboardInterrupt), dropout_on(model, 0.5):
        assert not model.training and not model.norm.training and model.backbone.training
        assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.5}
        raise KeyboardInterrupt
    draws = draw_predictions(model, rows, "fp32", 3, seed=1)
    assert [module.training for module in model.modules()] == modes and same(weights(model), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} <= {0.0, 0.2}
    assert draws.shape == (3, 24, 3) and not np.allclose(draws[0], draws[1], atol=1e-4)
    assert np.allclose(draws.sum(axis=2), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_passes_and_another_dropout_varies_more(classifier, examples):
    model, rows = classifier(dropout=0.05), examples()
    first, again = (draw_predictions(model, rows, "fp32", 6, seed=1) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, draw_predictions(model, rows, "fp32", 6, seed=2))
    wider = draw_predictions(model, rows, "fp32", 6, seed=1, dropout=0.5)
    assert variance(wider, "multiclass").mean() > 4 * variance(first, "multiclass").mean()
