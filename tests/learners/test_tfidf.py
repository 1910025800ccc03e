import numpy as np
import pytest

from kagglekit.learners.tfidf import Baseline
from kagglekit.scoring.metrics import score


@pytest.fixture
def fold(task, tables, tmp_path):
    """fold(kind): the baseline on 160 rows, and what it predicts for the last 40 of them."""

    def make(kind, seed=0, **options):
        what = task(kind, **options)
        baseline = Baseline(what, *tables(what, rows=160))
        return baseline, baseline.fit(np.arange(120), np.arange(120, 160), tmp_path / "fold0", seed)

    return make


def test_it_learns(fold):
    baseline, fitted = fold("binary")
    assert score("roc_auc", baseline.labels[120:], fitted.oof) > 0.8
    baseline, fitted = fold("regression")
    truth = baseline.labels[120:]
    assert score("rmse", truth, fitted.oof) < 0.8 * truth.std()
    assert abs(fitted.oof.mean() - 100) < 10  # in the units of the target


def test_several_regressions_have_a_column_each(fold):
    baseline, fitted = fold("regression", labels=["x", "y"])
    assert baseline.labels.shape == (160, 2) and fitted.oof.shape == (40, 2)
    assert score("pearson", baseline.labels[120:, :1], fitted.oof[:, :1]) > 0.5


def test_a_class_that_the_training_rows_lack_has_probability_zero(fold, tmp_path):
    baseline, _ = fold("multiclass")
    rows = np.flatnonzero(baseline.labels != 1)
    fitted = baseline.fit(rows, np.flatnonzero(baseline.labels == 1), tmp_path, 0)
    assert (fitted.oof[:, 1] == 0).all() and np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("counts", [(5, 0, 0), (5, 1, 5), (4, 2, 2)])
def test_rare_and_single_classes_still_give_probabilities(fold, tmp_path, counts):
    baseline, _ = fold("multiclass")
    rows = np.concatenate([np.flatnonzero(baseline.labels == k)[:n] for k, n in enumerate(counts)])
    fitted = baseline.fit(rows, np.arange(10), tmp_path, 0)
    assert np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)
    assert all((fitted.oof[:, k] == 0).all() for k, n in enumerate(counts) if n == 0)
    if 1 in counts:  # the others are learned all the same
        assert np.allclose(fitted.oof[:, counts.index(1)], 1 / sum(counts)) and fitted.oof[:, 0].std() > 0


def test_empty_texts_are_predicted_too(task, tables, tmp_path):
    what = task("multiclass")
    train, test = tables(what, rows=160)
    train.loc[[3, 130], "text"] = ""
    test["text"] = ""
    fitted = Baseline(what, train, test).fit(np.arange(120), np.arange(120, 160), tmp_path, 0)
    assert np.isfinite(fitted.oof).all() and len(np.unique(fitted.test, axis=0)) == 1
