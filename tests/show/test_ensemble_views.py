import numpy as np
import pytest

from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan, find_single
from kagglekit.ensembling.pools import LinearPool, Mean
from kagglekit.show.ensembles import compare, optimism, show_methods


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    labels, folds = rng.integers(2, size=90), np.arange(90) % 3
    probs = 1 / (1 + np.exp(-(labels - 0.5) * [[3], [2], [0]] - rng.normal(size=(3, 90))))
    inputs = StackInput(np.stack([1 - probs, probs], axis=-1), "binary", "log_loss")
    table = compare({"mean": Mean(), "weights": LinearPool()}, inputs, labels, folds)
    assert table.loc["weights", "cross_fitted"] == make_estimate(LinearPool(), inputs, labels, folds).cross_fitted
    return table


def test_each_way_has_its_three_numbers_and_interval(table):
    assert table.index.tolist() == ["mean", "weights"] and table.loc["mean", "gap"] == 0
    assert table.loc["weights", "cross_fitted"] - table.loc["weights", "in_sample"] == pytest.approx(
        table["gap"].iloc[1]
    )
    assert (table["low"] < table["cross_fitted"]).all() and (table["cross_fitted"] < table["high"]).all()


def test_the_picture_has_the_best_on_top_and_tells_both_scores(table):
    axes = optimism(table, "log_loss").axes[0]
    best = table["cross_fitted"].idxmin()
    assert axes.get_yticklabels()[0].get_text() == best
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    words = [text.get_text() for text in axes.texts]
    assert words[0] == f"{table.loc[best, 'cross_fitted']:.4f}, {table.loc[best, 'gap']:+.4f}"
    assert "lower is better" in axes.get_xlabel()


def test_every_method_and_what_follows_it_is_explained():
    plan = BlendPlan("multiclass", "accuracy", candidates=["mean", "hill_climbing"], thresholds="auto")
    table = show_methods(plan)
    assert list(table.index) == ["mean", "hill_climbing", "+ classes"]
    assert "factor for each class" in table.loc["+ classes", "what it does"]
    assert table.loc["mean"].tolist() == [
        "The mean. Nothing is learned, so nothing is overfitted: often hard to beat.",
        "Mean()",
    ]
    assert "+ classes" not in show_methods(BlendPlan("multiclass", "log_loss", thresholds="auto")).index


@pytest.mark.parametrize("kind", ["binary", "multilabel", "ordinal", "regression"])
def test_of_a_single_run_no_two_methods_are_the_same(kind):
    """Pools of one run are that run, so that only it and models on top of it are tried."""
    rng, columns = np.random.default_rng(0), {"binary": 2, "multilabel": 3}.get(kind, 1)
    probs = rng.dirichlet(np.ones(columns + (kind != "binary")), size=(1, 60))[:, :, :columns]
    labels = rng.integers(2, size=(60, columns)).astype(np.float32)
    labels = labels[:, 0].astype(int) if kind in ("binary", "ordinal") else labels
    metric = "log_loss" if kind in ("binary", "multilabel") else "rmse"
    methods = BlendPlan(kind, metric, candidates=find_single(kind)).candidates_made()
    found = compare(methods, StackInput(probs, kind, metric), labels, np.arange(60) % 3)
    assert list(found.index) == find_single(kind) and len(found) == 2 and found["cross_fitted"].is_unique
