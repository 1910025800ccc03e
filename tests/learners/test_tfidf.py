import numpy as np
import pytest

from kagglekit.learners.tfidf import Baseline
from kagglekit.scoring.metrics import score

KINDS = ["binary", "multiclass", "multilabel", "regression", "ordinal"]


@pytest.fixture
def fold(task, tables, tmp_path):
    """fold(kind): the baseline on 160 rows, and what it predicts for the last 40 of them."""

    def make(kind, seed=0, **options):
        what = task(kind, **options)
        baseline = Baseline(what, *tables(what, rows=160))
        return baseline, baseline.fit(np.arange(120), np.arange(120, 160), tmp_path / "fold0", seed)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_columns_and_leaves_no_folder(fold, kind, tmp_path):
    _, fitted = fold(kind)
    columns = {"binary": 2, "multiclass": 3, "multilabel": 2, "regression": 1, "ordinal": 1}[kind]
    assert fitted.oof.shape == (40, columns) and fitted.test.shape == (7, columns)
    assert fitted.oof.dtype == fitted.test.dtype == np.float32
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    assert not list(tmp_path.iterdir())
    if kind in ("binary", "multiclass"):
        assert np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)
    if kind == "multilabel":
        assert ((fitted.oof >= 0) & (fitted.oof <= 1)).all()


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


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_the_same_seed_gives_the_same_predictions(fold, kind):
    first, second = fold(kind)[1], fold(kind)[1]
    assert np.array_equal(first.oof, second.oof) and np.array_equal(first.test, second.test)


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


def test_labels_of_the_rows_to_predict_are_not_looked_at(task, tables, tmp_path):
    what = task("binary")
    train, test = tables(what, rows=160)
    spoiled = train.copy()
    spoiled.loc[120:, "label"] = "no"
    fits = [Baseline(what, t, test).fit(np.arange(120), np.arange(120, 160), tmp_path, 0) for t in (train, spoiled)]
    assert np.array_equal(fits[0].oof, fits[1].oof)


def test_empty_texts_are_predicted_too(task, tables, tmp_path):
    what = task("multiclass")
    train, test = tables(what, rows=160)
    train.loc[[3, 130], "text"] = ""
    test["text"] = ""
    fitted = Baseline(what, train, test).fit(np.arange(120), np.arange(120, 160), tmp_path, 0)
    assert np.isfinite(fitted.oof).all() and len(np.unique(fitted.test, axis=0)) == 1
