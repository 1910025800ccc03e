import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.metrics import log_loss, roc_auc_score

from kagglekit.ensembling.blend import (
    METHODS,
    blend_runs,
    correlation,
    fit_weights,
    mean,
    pool_loss,
    rank_mean,
    vote,
    weighted_mean,
)
from kagglekit.tables import Run, read_run, write_predictions

KINDS = ("binary", "multiclass", "multilabel", "ordinal", "regression")
N, N_TEST, FOLDS = 60, 20, 3
COLUMNS = {"binary": 2, "multiclass": 3, "multilabel": 3, "ordinal": 1, "regression": 2}


def make_labels(kind, rng, n=N):
    if kind in ("multilabel", "regression"):
        values = rng.random((n, COLUMNS[kind]))
        return (values if kind == "regression" else values < 0.4).astype(np.float32)
    return rng.integers(0, {"binary": 2, "multiclass": 3, "ordinal": 5}[kind], n)


def make_member(kind, labels, rng, skill):
    """Predictions that know the labels, by `skill`."""
    if kind in ("binary", "multiclass"):
        logits = skill * np.eye(COLUMNS[kind])[labels] + rng.normal(size=(len(labels), COLUMNS[kind]))
        return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    noise = rng.normal(size=(len(labels), COLUMNS[kind]))
    if kind == "multilabel":
        return (1 / (1 + np.exp(-skill * (labels - 0.5) - noise))).astype(np.float32)
    return (labels.reshape(noise.shape) + noise / max(skill, 1e-3)).astype(np.float32)


def make_runs(kind, seed=0, skills=(2.0, 1.5, 0.5), folds=FOLDS):
    rng = np.random.default_rng(seed)
    labels, test_labels = make_labels(kind, rng), make_labels(kind, rng, N_TEST)
    names, fold_of = [f"c{k}" for k in range(COLUMNS[kind])], np.arange(N) % FOLDS
    runs = []
    for number, skill in enumerate(skills):
        oof = pd.DataFrame(make_member(kind, labels, rng, skill), columns=names)
        oof.insert(0, "id", [f"{row:03}" for row in range(N)])
        oof.insert(1, "fold", fold_of)
        rows = np.flatnonzero(fold_of < folds)
        tests = {k: make_member(kind, test_labels, rng, skill) for k in range(folds)}
        ids = [f"t{row}" for row in range(N_TEST)]
        runs.append(Run(f"run{number}", None, names, oof.iloc[rows].reset_index(drop=True), rows, tests, ids))
    return runs, labels


kinds, methods = pytest.mark.parametrize("kind", KINDS), pytest.mark.parametrize("method", METHODS)


@kinds
@methods
def test_a_blend_of_one_run_is_that_run(kind, method):
    (run,), labels = make_runs(kind, skills=[1.0])
    blend = blend_runs([run], labels, kind, method)
    if method == "vote" and kind in ("binary", "multiclass", "multilabel"):  # a vote keeps the decision only
        chosen = np.argmax if kind != "multilabel" else lambda probs, axis: probs > 0.5
        assert np.array_equal(chosen(blend.oof_array, axis=1), chosen(run.oof_array, axis=1))
        return
    assert np.allclose(blend.oof_array, run.oof_array, atol=1e-6)
    assert all(np.allclose(blend.tests[k], run.tests[k], atol=1e-6) for k in range(FOLDS))
    assert blend.weights == {k: [1.0] for k in range(FOLDS)}


@kinds
@methods
def test_the_order_of_runs_does_not_matter(kind, method):
    runs, labels = make_runs(kind)
    one, other = blend_runs(runs, labels, kind, method), blend_runs(runs[::-1], labels, kind, method)
    assert np.allclose(one.oof_array, other.oof_array, atol=1e-3 if method == "weights" else 1e-6)
    assert np.allclose(one.test_mean, other.test_mean, atol=1e-3 if method == "weights" else 1e-6)
    assert np.allclose(one.weights[0], other.weights[0][::-1], atol=1e-3)


@kinds
@methods
def test_blended_probabilities_are_probabilities(kind, method):
    runs, labels = make_runs(kind)
    blend = blend_runs(runs, labels, kind, method)
    for table in (blend.oof_array, *blend.tests.values()):
        assert table.dtype == np.float32 and np.isfinite(table).all()
        if kind in ("binary", "multiclass"):
            assert np.allclose(table.sum(axis=1), 1, atol=1e-6)
        if kind in ("binary", "multiclass", "multilabel"):
            assert table.min() >= 0 and table.max() <= 1


@kinds
def test_weights_sum_to_one_and_are_not_negative(kind):
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 999), st.lists(st.floats(0, 4), min_size=1, max_size=6))
    def check(seed, skills):
        runs, labels = make_runs(kind, seed, skills)
        weights = fit_weights([run.oof_array for run in runs], labels, kind)
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1)

    check()


@kinds
def test_the_gradient_is_that_of_the_loss(kind):
    runs, labels = make_runs(kind)
    loss, weights = pool_loss([run.oof_array for run in runs], labels, kind), np.array([0.2, 0.5, 0.3])
    numerical = approx_fprime(weights, lambda w: loss(w)[0], 1e-7)
    assert np.allclose(loss(weights)[1], numerical, atol=1e-5)


def test_the_loss_is_log_loss_and_squared_error():
    weights = np.array([0.7, 0.3])
    runs, labels = make_runs("multiclass", skills=(1, 2))
    members = [run.oof_array.astype(np.float64) for run in runs]
    pooled = 0.7 * members[0] + 0.3 * members[1]
    pooled /= pooled.sum(axis=1, keepdims=True)
    assert pool_loss(members, labels, "multiclass")(weights)[0] == pytest.approx(log_loss(labels, pooled), abs=1e-6)
    runs, labels = make_runs("multilabel", skills=(1, 2))
    members = [run.oof_array.astype(np.float64) for run in runs]
    pooled = 0.7 * members[0] + 0.3 * members[1]
    each = [log_loss(labels[:, k], pooled[:, k]) for k in range(3)]
    assert pool_loss(members, labels, "multilabel")(weights)[0] == pytest.approx(np.mean(each), abs=1e-6)
    members, labels = [np.array([[1.0], [2.0]]), np.array([[3.0], [2.0]])], np.array([0, 2])
    assert pool_loss(members, labels, "ordinal")(weights)[0] == pytest.approx(((1.6 - 0) ** 2 + 0) / 2)


@kinds
def test_the_fitted_pool_is_never_worse_than_the_best_member_or_the_mean(kind):
    for seed in range(10):
        runs, labels = make_runs(kind, seed)
        members = [run.oof_array for run in runs]
        loss = pool_loss(members, labels, kind)
        best = min(loss(weights)[0] for weights in [*np.eye(3), np.full(3, 1 / 3)])
        assert loss(fit_weights(members, labels, kind))[0] <= best + 1e-12


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_two_regressions_get_the_weights_of_the_closed_form(offset):
    rng = np.random.default_rng(0)
    labels = offset + rng.normal(0, 1000, (500, 1))
    one, two = rng.normal(0, 10, (500, 1)), rng.normal(0, 20, (500, 1))
    expected = ((two * (two - one)).sum() / ((two - one) ** 2).sum()).item()
    assert fit_weights([labels + one, labels + two], labels, "regression")[0] == pytest.approx(expected, abs=1e-3)


@kinds
def test_a_useless_member_gets_no_weight(kind):
    rng = np.random.default_rng(0)
    labels = make_labels(kind, rng, 2000)
    good, noise = make_member(kind, labels, rng, 3.0), make_member(kind, labels, rng, 0.0)
    assert fit_weights([noise, good], labels, kind)[0] < 0.05


def test_equal_members_share_the_weight_and_zero_probabilities_are_survived():
    sure = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    labels = np.array([0, 1, 0, 0])  # the third is given no probability at all
    assert np.allclose(fit_weights([sure, sure, sure], labels, "binary"), 1 / 3)
    weights = fit_weights([sure, np.full((4, 2), 0.5)], labels, "binary")
    assert np.isfinite(weights).all() and 0.1 < weights[1] < 1  # (1 + w)^3 (1 - w) / 16 is highest at w = 1/2
    assert weights[0] == pytest.approx(0.5, abs=1e-3)


@kinds
def test_the_labels_of_a_fold_have_no_say_in_its_weights(kind):
    runs, labels = make_runs(kind)
    other = labels.copy()
    other[::FOLDS] = np.roll(labels[::FOLDS], 1, axis=0)  # those of fold 0
    one, two = (blend_runs(runs, some, kind, "weights") for some in (labels, other))
    assert one.weights[0] == two.weights[0] and np.array_equal(one.tests[0], two.tests[0])
    assert np.array_equal(one.oof_array[::FOLDS], two.oof_array[::FOLDS])
    assert one.weights[1] != two.weights[1]


def test_a_folds_test_table_is_blended_with_its_own_weights():
    runs, labels = make_runs("multiclass")
    blend = blend_runs(runs, labels, "multiclass", "weights")
    for k in range(FOLDS):
        assert np.array_equal(blend.tests[k], weighted_mean([run.tests[k] for run in runs], blend.weights[k]))
    assert blend.members == ["run0", "run1", "run2"] and blend.test_ids == runs[0].test_ids


def test_rank_mean_has_the_order_of_the_ranks_and_the_spread_of_the_members():
    bold, timid = np.array([0.0, 0.2, 0.8, 1.0]), np.array([0.52, 0.48, 0.50, 0.54])
    members = [np.column_stack([1 - p, p]) for p in (bold, timid)]
    pooled = rank_mean(members, "binary")[:, 1]
    # ranks 1 2 3 4 and 3 1 2 4: means 2, 1.5, 2.5, 4; mean levels 0.24, 0.35, 0.66, 0.77
    assert np.allclose(pooled, [0.35, 0.295, 0.505, 0.77])
    labels = np.array([0, 0, 1, 1])
    assert roc_auc_score(labels, pooled) == 1


def test_rank_mean_keeps_a_rare_class_rare():
    rng = np.random.default_rng(0)
    labels = (rng.random(1000) < 0.05).astype(int)
    members = [make_member("binary", labels, rng, 3.0) for _ in range(3)]
    members = [m * [0.9, 0.1] / (m * [0.9, 0.1]).sum(axis=1, keepdims=True) for m in members]
    assert (rank_mean(members, "binary")[:, 1] > 0.5).mean() < 0.1


def test_votes_are_shares_and_a_tie_goes_to_the_more_probable():
    members = [np.array([[0.6, 0.4]]), np.array([[0.6, 0.4]]), np.array([[0.1, 0.9]])]
    assert np.allclose(vote(members, "binary"), [[2 / 3, 1 / 3]], atol=1e-3)
    assert vote(members[1:], "binary").argmax() == 1
    assert np.allclose(vote(members, "multilabel"), [[2 / 3, 1 / 3]], atol=1e-3)
    assert vote(members[1:], "multilabel")[0, 0] < 0.5 < vote(members[1:], "multilabel")[0, 1]
    assert vote([np.array([[v]]) for v in (1.0, 2.0, 9.0)], "regression").tolist() == [[2.0]]


def test_mean_is_the_mean():
    assert np.allclose(mean([np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2))]), 2 / 3)


def test_runs_that_cannot_be_blended_are_named():
    runs, labels = make_runs("binary")
    short, _ = make_runs("binary", folds=1)
    with pytest.raises(ValueError, match=r"different finished folds: 'run1' lacks \[1, 2\]"):
        blend_runs([runs[0], short[1]], labels, "binary")
    with pytest.raises(ValueError, match="only fold 0 is finished: train another fold, or use method='mean'"):
        blend_runs(short, labels, "binary", "weights")
    with pytest.raises(ValueError, match="each only once"):
        blend_runs([runs[0], runs[0]], labels, "binary")
    with pytest.raises(ValueError, match="at least one run"):
        blend_runs([], labels, "binary")
    with pytest.raises(ValueError, match="method='best': choose one of mean, rank, vote, weights"):
        blend_runs(runs, labels, "binary", "best")
    with pytest.raises(ValueError, match="do not belong to the same task"):
        blend_runs([runs[0], make_runs("multiclass")[0][1]], labels, "binary")


def test_one_finished_fold_can_be_blended_without_weights():
    runs, labels = make_runs("binary", folds=1)
    blend = blend_runs(runs, labels, "binary", "mean")
    assert blend.oof["fold"].tolist() == [0] * 20 and np.array_equal(blend.rows, np.arange(0, N, FOLDS))


def test_a_saved_blend_is_a_run(tmp_path):
    runs, labels = make_runs("multiclass")
    task = SimpleNamespace(columns=runs[0].columns)
    blend = blend_runs(runs, labels, "multiclass", "weights")
    assert blend.save(tmp_path, "blend", task) == tmp_path / "blend"
    read = read_run(tmp_path, "blend", task, blend.oof[["id", "fold"]], blend.test_ids)
    assert np.array_equal(read.oof_array, blend.oof_array) and read.oof["id"].tolist() == blend.oof["id"].tolist()
    assert all(np.array_equal(read.tests[k], blend.tests[k]) for k in range(FOLDS))
    told = json.loads((tmp_path / "blend" / "weights.json").read_text())
    assert told["method"] == "weights" and told["weights"]["2"] == dict(
        zip(blend.members, blend.weights[2], strict=True)
    )
    again = blend_runs([read, *runs], labels, "multiclass", "mean")  # blends nest
    assert again.members[0] == "blend"


def test_saving_again_leaves_nothing_of_the_older_blend(tmp_path):
    runs, labels = make_runs("binary")
    task = SimpleNamespace(columns=runs[0].columns)
    blend_runs(runs, labels, "binary").save(tmp_path, "blend", task)
    blend_runs(make_runs("binary", folds=1)[0], labels, "binary").save(tmp_path, "blend", task)
    assert sorted(path.name for path in (tmp_path / "blend").iterdir()) == ["fold0", "weights.json"]


def test_a_blend_never_overwrites_a_trained_run(tmp_path):
    runs, labels = make_runs("binary")
    task = SimpleNamespace(columns=runs[0].columns)
    write_predictions(tmp_path / "base" / "fold0" / "oof.parquet", ["a"], np.array([[0.5, 0.5]]), task.columns, fold=0)
    for name in ("base", "run1"):  # one that is there, one of the members
        with pytest.raises(ValueError, match=f"run='{name}' is a trained run, or one of the members"):
            blend_runs(runs, labels, "binary").save(tmp_path, name, task)


def test_correlation_is_pearson_of_predictions_or_of_errors():
    runs, labels = make_runs("multiclass")
    table = correlation(runs)
    assert list(table.columns) == ["run0", "run1", "run2"] and np.allclose(np.diag(table), 1)
    flat = [run.oof_array.ravel() for run in runs]
    assert table.loc["run0", "run1"] == pytest.approx(np.corrcoef(flat[0], flat[1])[0, 1], abs=1e-6)
    wrong = [run.oof_array.ravel() - np.eye(3)[labels].ravel() for run in runs]
    errors = correlation(runs, labels, "multiclass")
    assert errors.loc["run0", "run1"] == pytest.approx(np.corrcoef(wrong[0], wrong[1])[0, 1], abs=1e-6)
    for kind in ("ordinal", "regression", "multilabel"):
        runs, labels = make_runs(kind)
        assert np.isfinite(correlation(runs, labels, kind).to_numpy()).all()
