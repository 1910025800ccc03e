import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.base_predictions import RowFeatures
from kagglekit.ensembling.blend import blend_runs, correlation, make_stack_input
from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.ensembling.pools import weighted_mean
from kagglekit.ensembling.stack import Stack
from kagglekit.runs.tables import Run, read_metadata, read_run, write_folds, write_predictions
from tests.scoring.examples import COLUMNS, KINDS, make_labels, make_predictions

METHODS = ("mean", "rank", "vote", "weights")
METRICS = {"ordinal": "qwk", "regression": "rmse"}
N, N_TEST, FOLDS = 60, 20, 3


def make_runs(kind, seed=0, skills=(2.0, 1.5, 0.5), folds=FOLDS):
    rng = np.random.default_rng(seed)
    labels, test_labels = make_labels(kind, rng, N), make_labels(kind, rng, N_TEST)
    names, fold_of = [f"c{k}" for k in range(COLUMNS[kind])], np.arange(N) % FOLDS
    runs = []
    for number, skill in enumerate(skills):
        oof = pd.DataFrame(make_predictions(kind, labels, rng, [skill])[0].astype(np.float32), columns=names)
        oof.insert(0, "id", [f"{row:03}" for row in range(N)])
        oof.insert(1, "fold", fold_of)
        rows = np.flatnonzero(fold_of < folds)
        tests = {k: make_predictions(kind, test_labels, rng, [skill])[0].astype(np.float32) for k in range(folds)}
        ids = [f"t{row}" for row in range(N_TEST)]
        runs.append(Run(f"run{number}", None, names, oof.iloc[rows].reset_index(drop=True), rows, tests, ids))
    return runs, labels


def blend_by(runs, labels, kind, method="mean", features=None):
    return blend_runs(runs, labels, BlendPlan(kind, METRICS.get(kind, "log_loss"), method), features)


kinds, methods = pytest.mark.parametrize("kind", KINDS), pytest.mark.parametrize("method", METHODS)


@kinds
@methods
def test_a_blend_is_the_cross_fitted_pool_that_its_plan_makes(kind, method):
    """So it is of one run that run, the order of runs does not matter, and probabilities stay such: see test_pools."""
    runs, labels = make_runs(kind)
    blend, inputs, folds = blend_by(runs, labels, kind, method), make_stack_input(runs, kind), np.arange(N) % FOLDS
    inputs = replace(inputs, metric=METRICS.get(kind, "log_loss"))
    pool = BlendPlan(kind, inputs.metric, method).ensembler()
    expected = (
        cross_fit(pool, inputs, labels, folds) if pool.uses_labels else pool.fit(inputs, labels, folds).predict(inputs)
    )
    assert np.array_equal(blend.oof_array, expected.astype(np.float32)) and np.isfinite(expected).all()
    for k in range(FOLDS):
        tests = replace(inputs, predictions=np.stack([run.tests[k] for run in runs]).astype(np.float64), groups=None)
        assert np.array_equal(blend.tests[k], blend.makers[k].predict(tests).astype(np.float32))
    assert set(blend.weights) == (set(range(FOLDS)) if method in ("mean", "weights") else set())


@kinds
def test_the_labels_of_a_fold_are_not_used_for_its_weights(kind):
    runs, labels = make_runs(kind)
    other = labels.copy()
    other[::FOLDS] = np.roll(labels[::FOLDS], 1, axis=0)  # those of fold 0
    one, two = (blend_by(runs, some, kind, "weights") for some in (labels, other))
    assert one.weights[0] == two.weights[0] and np.array_equal(one.tests[0], two.tests[0])
    assert np.array_equal(one.oof_array[::FOLDS], two.oof_array[::FOLDS])
    assert one.weights[1] != two.weights[1]


def test_a_folds_test_table_is_blended_with_its_own_weights():
    runs, labels = make_runs("multiclass")
    blend = blend_by(runs, labels, "multiclass", "weights")
    for k in range(FOLDS):
        expected = weighted_mean([run.tests[k] for run in runs], blend.weights[k])
        assert np.array_equal(blend.tests[k], expected.astype(np.float32))
    assert blend.runs == ["run0", "run1", "run2"] and blend.test_ids == runs[0].test_ids


def test_runs_that_cannot_be_blended_are_named():
    runs, labels = make_runs("binary")
    short, _ = make_runs("binary", folds=1)
    with pytest.raises(ValueError, match=r"different finished folds: 'run1' lacks \[1, 2\]"):
        blend_by([runs[0], short[1]], labels, "binary")
    with pytest.raises(ValueError, match="each only once"):
        blend_by([runs[0], runs[0]], labels, "binary")
    with pytest.raises(ValueError, match="at least one run"):
        blend_by([], labels, "binary")
    with pytest.raises(ValueError, match="do not belong to the same task"):
        blend_by([runs[0], make_runs("multiclass")[0][1]], labels, "binary")


def test_one_finished_fold_can_be_blended_without_weights():
    runs, labels = make_runs("binary", folds=1)
    blend = blend_by(runs, labels, "binary", "mean")
    assert blend.oof["fold"].tolist() == [0] * 20 and np.array_equal(blend.rows, np.arange(0, N, FOLDS))


def test_a_saved_blend_is_a_run(tmp_path):
    runs, labels = make_runs("multiclass")
    task = SimpleNamespace(columns=runs[0].columns)
    blend = blend_by(runs, labels, "multiclass", "weights")
    assert blend.save(tmp_path, "blend", task) == tmp_path / "blend"
    read = read_run(tmp_path, "blend", task, blend.oof[["id", "fold"]], blend.test_ids)
    assert np.array_equal(read.oof_array, blend.oof_array) and read.oof["id"].tolist() == blend.oof["id"].tolist()
    assert all(np.array_equal(read.tests[k], blend.tests[k]) for k in range(FOLDS))
    kept = json.loads((tmp_path / "blend" / "weights.json").read_text())
    assert (
        kept["plan"]["method"] == "weights"
        and kept["chosen"]["2"] == "weights"
        and kept["weights"]["2"] == dict(zip(blend.runs, blend.weights[2], strict=True))
    )
    again = blend_by([read, *runs], labels, "multiclass", "mean")  # blends nest
    assert again.runs[0] == "blend"


def test_saving_again_leaves_nothing_of_the_older_blend(tmp_path):
    runs, labels = make_runs("binary")
    task = SimpleNamespace(columns=runs[0].columns)
    blend_by(runs, labels, "binary").save(tmp_path, "blend", task)
    blend_by(make_runs("binary", folds=1)[0], labels, "binary").save(tmp_path, "blend", task)
    assert sorted(path.name for path in (tmp_path / "blend").iterdir()) == ["fold0", "weights.json"]


def test_a_blend_never_overwrites_a_trained_run(tmp_path):
    runs, labels = make_runs("binary")
    task = SimpleNamespace(columns=runs[0].columns)
    write_predictions(tmp_path / "base" / "fold0" / "oof.parquet", ["a"], np.array([[0.5, 0.5]]), task.columns, fold=0)
    for name in ("base", "run1"):  # one that is there, one of the members
        with pytest.raises(ValueError, match=f"run='{name}' is a trained run, or one of those blended"):
            blend_by(runs, labels, "binary").save(tmp_path, name, task)


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


def test_a_blend_reads_features_of_rows_and_each_fold_without_its_own_rows():
    runs, labels = make_runs("multiclass")
    rng = np.random.default_rng(0)
    features = RowFeatures(
        None, np.arange(N) // 2, rng.normal(size=(N, 1)), np.arange(N_TEST), rng.normal(size=(N_TEST, 1))
    )
    blend = blend_by(runs, labels, "multiclass", "logistic", features)
    assert blend.features == ["documents", "meta"] and blend.weights == {} and blend.weight_table().empty
    inputs, folds = make_stack_input(runs, "multiclass", "log_loss", features), np.arange(N) % FOLDS
    for k in range(FOLDS):
        fitted = Stack().fit(inputs[folds != k], labels[folds != k], folds[folds != k])
        assert np.allclose(blend.oof_array[folds == k], fitted.predict(inputs[folds == k]), atol=1e-6)


def test_auto_says_what_was_chosen_without_each_fold_and_keeps_its_weights():
    runs, labels = make_runs("multiclass")
    plan = BlendPlan("multiclass", "accuracy", candidates=["mean", "weights"])
    blend = blend_runs(runs, labels, plan).named("mine")
    assert blend.name == "mine" and set(blend.chosen) == {0, 1, 2} and set(blend.chosen.values()) <= {"mean", "weights"}
    table = blend.weight_table()
    assert table.shape == (3, 3) and np.allclose(table.sum(axis=1), 1)


def test_a_single_fold_is_divided_and_the_blend_records_what_its_test_table_knows(tmp_path):
    runs, labels = make_runs("multiclass", folds=1)
    blend = blend_by(runs, labels, "multiclass", "weights")
    other = labels.copy()
    other[blend.rows[0]] = (other[blend.rows[0]] + 1) % 3
    again = blend_by(runs, other, "multiclass", "weights")
    assert np.array_equal(again.oof_array[0], blend.oof_array[0])
    assert not np.array_equal(again.oof_array, blend.oof_array) and not np.array_equal(again.tests[0], blend.tests[0])
    assert blend.crosses and not blend_by(runs, labels, "multiclass", "mean").crosses
    assert not blend_by(make_runs("multiclass")[0], labels, "multiclass", "weights").crosses
    blend.save(tmp_path, "blend", SimpleNamespace(columns=runs[0].columns))
    assert json.loads((tmp_path / "blend" / "weights.json").read_text())["crosses"]


def test_the_stack_input_of_runs_has_their_rows_alone():
    runs, _ = make_runs("multilabel", folds=2)
    inputs = make_stack_input(runs, "multilabel", "roc_auc", RowFeatures(np.arange(N), meta=np.arange(N)[:, None]))
    assert (
        inputs.predictions.shape == (3, 40, 3) and inputs.predictions.dtype == np.float64 and inputs.documents is None
    )
    assert np.array_equal(inputs.groups, runs[0].rows) and np.array_equal(inputs.meta[:, 0], runs[0].rows)


def test_runs_without_rows_of_test_can_be_blended():
    runs, labels = make_runs("binary")
    for run in runs:
        run.tests.update({k: table[:0] for k, table in run.tests.items()})
    assert blend_by(runs, labels, "binary", "weights").tests[0].shape == (0, 2)


def test_the_tables_of_a_blend_record_what_was_seen(tmp_path):
    runs, labels = make_runs("multiclass")
    write_folds(tmp_path, runs[0].oof["id"], np.arange(N) % FOLDS)
    folder = blend_by(runs, labels, "multiclass", "weights").save(
        tmp_path, "blend", SimpleNamespace(columns=runs[0].columns)
    )
    kept = [read_metadata(folder / "fold1" / name) for name in ("oof.parquet", "test.parquet")]
    assert all(one["run"] == "blend" and one["fold"] == 1 and "all folds but 1" in one["saw"] for one in kept)
