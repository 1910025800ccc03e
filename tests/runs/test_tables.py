import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.runs.tables import (
    first_difference,
    hash_folds,
    list_runs,
    read_folds,
    read_predictions,
    read_run,
    training_rows,
    write_folds,
    write_predictions,
    write_table,
)

TASK = SimpleNamespace(columns=["no", "yes"])
IDS = ["007", "12", "x y", "3"]
FOLDS = pd.DataFrame({"id": IDS, "fold": [0, 1, 0, 1]})
TEST_IDS = ["t1", "t2", "t3"]


def write_run(work, name="base", folds=(0, 1)):
    for k in folds:
        rows = FOLDS["id"][FOLDS["fold"] == k].tolist()
        probs = np.column_stack([np.full(len(rows), 0.25 + k / 2), np.full(len(rows), 0.75 - k / 2)])
        write_predictions(work / name / f"fold{k}" / "oof.parquet", rows, probs, TASK.columns, fold=k)
        write_predictions(work / name / f"fold{k}" / "test.parquet", TEST_IDS, np.full((3, 2), 0.5 + k), TASK.columns)


def test_predictions_come_back_as_they_were_written(tmp_path):
    probs = np.array([[0.1, 0.9], [1 / 3, 2 / 3]])
    write_predictions(tmp_path / "new" / "oof.parquet", ["007", "ü"], probs, ["a", "b"], fold=3)
    table = read_predictions(tmp_path / "new" / "oof.parquet")
    assert list(table.columns) == ["id", "fold", "a", "b"]
    assert table["id"].tolist() == ["007", "ü"] and table["fold"].tolist() == [3, 3]
    assert table["a"].dtype == np.float32 and np.array_equal(table[["a", "b"]].to_numpy(), probs.astype(np.float32))
    assert os.listdir(tmp_path / "new") == ["oof.parquet"]


def test_classes_called_id_and_fold_do_not_hide_the_ids(tmp_path):
    write_predictions(tmp_path / "oof.parquet", ["1"], [[0.1, 0.2, 0.7]], ["en", "id", "fold"], fold=0)
    table = read_predictions(tmp_path / "oof.parquet")
    assert list(table.columns) == ["id", "fold", "en", "id (class)", "fold (class)"]
    assert table["id"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (["a", "b"], [[1.0], [2.0]], r"the shape \(2, 1\), and 2 ids with 2 columns \(no, yes\) need \(2, 2\)"),
        (["a", "b"], [[1, 0], [np.nan, 1]], "1 of 2 rows hold NaN or infinity, the first is id 'b', column 'no'"),
        (["a", "b"], [[1, 1e40], [0, 1]], "the first is id 'a', column 'yes'"),
        (["a", "a"], [[1, 0], [0, 1]], "id 'a' comes twice"),
    ],
)
def test_bad_predictions_are_not_written(tmp_path, ids, values, message):
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore"):
        write_predictions(tmp_path / "oof.parquet", ids, np.array(values), TASK.columns)
    assert os.listdir(tmp_path) == []


def test_a_run_is_read_in_the_order_of_train(tmp_path):
    write_run(tmp_path)
    run = read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)
    assert run.oof["id"].tolist() == IDS and run.oof["fold"].tolist() == [0, 1, 0, 1]
    assert np.array_equal(run.oof_array, np.array([[0.25, 0.75], [0.75, 0.25]] * 2, dtype=np.float32))
    assert run.folds == [0, 1] and run.rows.tolist() == [0, 1, 2, 3]
    assert np.array_equal(run.test_mean, np.ones((3, 2), dtype=np.float32)) and run.test_mean.dtype == np.float32


def test_a_run_with_one_finished_fold_has_the_rows_of_that_fold(tmp_path):
    write_run(tmp_path, folds=[1])
    run = read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)
    assert run.oof["id"].tolist() == ["12", "3"] and run.rows.tolist() == [1, 3] and list(run.tests) == [1]


def test_a_fold_without_its_test_table_is_not_finished(tmp_path):
    write_run(tmp_path)
    (tmp_path / "base" / "fold1" / "test.parquet").unlink()
    assert read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS).folds == [0]
    shutil.rmtree(tmp_path / "base" / "fold0")
    with pytest.raises(FileNotFoundError, match="run='base' has no finished fold"):
        read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)


def test_a_run_that_does_not_exist_is_named_with_those_that_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="Runs there: none with a finished fold"):
        read_run(tmp_path, "bass", TASK, FOLDS, TEST_IDS)
    write_run(tmp_path)
    write_run(tmp_path, "tfidf")
    (tmp_path / "mlm" / "model").mkdir(parents=True)
    assert list_runs(tmp_path) == ["base", "tfidf"]
    with pytest.raises(FileNotFoundError, match=r"run='bass' does not exist in .*Runs there: base, tfidf"):
        read_run(tmp_path, "bass", TASK, FOLDS, TEST_IDS)


@pytest.mark.parametrize(
    ("task", "folds", "test_ids", "message"),
    [
        (
            TASK,
            FOLDS.assign(fold=[0, 0, 1, 1]),
            TEST_IDS,
            "other folds than folds.parquet: row 2 has id 'x y', expected '12'",
        ),
        (TASK, FOLDS.assign(fold=[0, 0, 0, 0]), TEST_IDS, "it has fold 1, and folds.parquet has 0 to 0"),
        (TASK, FOLDS[:3], TEST_IDS, "2 rows, expected 1"),
        (TASK, FOLDS, ["t1", "t2"], "made for another test file: 3 rows, expected 2"),
        (TASK, FOLDS, ["t1", "t3", "t2"], "row 2 has id 't2', expected 't3'"),
        (
            SimpleNamespace(columns=["no", "maybe"]),
            FOLDS,
            TEST_IDS,
            "has the columns id, fold, no, yes and the task needs",
        ),
    ],
)
def test_a_run_that_does_not_fit_says_where_and_what_to_do(tmp_path, task, folds, test_ids, message):
    write_run(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read_run(tmp_path, "base", task, folds, test_ids)
    assert "Train it again" in str(error.value) and "another name" in str(error.value)


def test_a_broken_table_is_named(tmp_path):
    write_run(tmp_path)
    (tmp_path / "base" / "fold1" / "oof.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(ValueError, match=r"fold1/oof.parquet is not a predictions table"):
        read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)


def test_folds_come_back_and_belong_to_their_train_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="run 1_eda first"):
        read_folds(tmp_path, IDS)
    write_folds(tmp_path, IDS, FOLDS["fold"].to_numpy())
    own = {"group": [0, 1, 2, 3], "forward": [False] * 4}
    assert read_folds(tmp_path, IDS).to_dict("list") == FOLDS.to_dict("list") | own
    with pytest.raises(ValueError, match="another train file: row 1 has id '007', expected '7'"):
        read_folds(tmp_path, ["7", *IDS[1:]])


def test_equal_lists_have_no_first_difference():
    assert first_difference(["a", "b"], ["a", "b"]) == ""
    assert first_difference(["a"], ["a", "b"]) == "1 rows, expected 2"


def test_groups_and_the_direction_in_time_come_back_with_the_folds(tmp_path):
    write_folds(tmp_path, IDS, np.array([-1, 0, 0, 1]), groups=np.array([5, 7, 7, 2]), forward=True)
    table = read_folds(tmp_path, IDS)
    assert table["group"].tolist() == [5, 7, 7, 2] and table["group"].dtype == np.int64
    assert table["forward"].tolist() == [True] * 4 and table["forward"].dtype == bool


def test_folds_that_split_a_group_or_have_nothing_before_the_first_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="group 7 lies in several folds"):
        write_folds(tmp_path, IDS, np.array([0, 0, 1, 1]), groups=np.array([5, 7, 7, 2]))
    with pytest.raises(ValueError, match="forward folds begin with fold -1"):
        write_folds(tmp_path, IDS, np.array([0, 0, 1, 1]), forward=True)
    assert os.listdir(tmp_path) == []


def test_folds_of_an_older_version_are_read_and_stay_while_there_are_runs(tmp_path):
    FOLDS.to_parquet(tmp_path / "folds.parquet")
    before = (tmp_path / "folds.parquet").read_bytes()
    table = read_folds(tmp_path, IDS)
    assert table["group"].tolist() == [0, 1, 2, 3] and not table["forward"].any()
    write_run(tmp_path)
    folds = FOLDS["fold"].to_numpy()
    write_folds(tmp_path, IDS, folds, groups=np.array([0, 1, 0, 1]))
    assert (tmp_path / "folds.parquet").read_bytes() == before
    for other in ({"folds": 1 - folds}, {"folds": folds - 1, "forward": True}):
        with pytest.raises(ValueError, match=r"has runs of other folds \(base\)"):
            write_folds(tmp_path, IDS, **other)
    shutil.rmtree(tmp_path / "base")
    write_folds(tmp_path, IDS, folds, groups=np.array([0, 1, 0, 1]))
    assert read_folds(tmp_path, IDS)["group"].tolist() == [0, 1, 0, 1]


def test_other_groups_or_another_direction_are_other_folds_to_runs(tmp_path):
    folds = np.array([-1, 0, 0, 1])
    write_folds(tmp_path, IDS, folds)
    write_run(tmp_path)
    write_folds(tmp_path, IDS, folds)
    for changed in ({"forward": True}, {"groups": np.array([0, 1, 1, 2])}):
        with pytest.raises(ValueError, match="has runs of other folds"):
            write_folds(tmp_path, IDS, folds, **changed)


def test_a_model_learns_from_all_other_folds_or_forward_from_earlier_ones(tmp_path):
    folds = np.array([1, -1, 0, 2, 1])
    table = pd.DataFrame({"id": list("abcde"), "fold": folds, "forward": False})
    assert [training_rows(table, fold).tolist() for fold in (0, 1, 2)] == [[0, 1, 3, 4], [1, 2, 3], [0, 1, 2, 4]]
    assert training_rows(table[["id", "fold"]], 1).tolist() == [1, 2, 3]
    forward = table.assign(forward=True)
    assert [training_rows(forward, fold).tolist() for fold in (0, 1, 2)] == [[1], [1, 2], [0, 1, 2, 4]]
    for fold in (-1, 3):
        with pytest.raises(ValueError, match=f"fold {fold} is not in folds.parquet: it has 0 to 2"):
            training_rows(table, fold)


def test_rows_that_are_never_validated_have_no_predictions_in_a_run(tmp_path):
    table = FOLDS.assign(fold=[0, 1, -1, 1])
    for fold, ids in ((0, ["007"]), (1, ["12", "3"])):
        place = tmp_path / "base" / f"fold{fold}"
        write_predictions(place / "oof.parquet", ids, np.full((len(ids), 2), 0.5), TASK.columns, fold=fold)
        write_predictions(place / "test.parquet", TEST_IDS, np.full((3, 2), 0.5), TASK.columns)
    run = read_run(tmp_path, "base", TASK, table, TEST_IDS)
    assert run.rows.tolist() == [0, 1, 3] and run.folds == [0, 1] and run.oof["fold"].tolist() == [0, 1, 1]


def write_told_run(work, fold_of=FOLDS, name="base", **told):
    """The same run, whose tables say by which folds they were made."""
    write_run(work, name)
    for k in (0, 1):
        lineage = {"run": name, "fold": k, "folds": hash_folds(fold_of), "saw": f"all folds but {k}", **told}
        for file in (work / name / f"fold{k}").glob("*.parquet"):
            write_table(file, read_predictions(file), lineage)


def test_a_run_whose_tables_tell_the_same_folds_is_read_under_any_name(tmp_path):
    write_told_run(tmp_path)
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    for folds in (FOLDS, FOLDS.assign(group=[0, 1, 2, 3], forward=False)):
        assert read_run(tmp_path, "copy", TASK, folds, TEST_IDS).folds == [0, 1]


@pytest.mark.parametrize("folds", [FOLDS.assign(forward=True), FOLDS.assign(fold=[0, 1, 0, 1]).replace("3", "03")])
def test_a_run_whose_tables_tell_other_folds_is_refused_also_where_its_rows_fit(tmp_path, folds):
    write_told_run(tmp_path, folds)
    with pytest.raises(
        ValueError, match=r"fold0/oof.parquet was made with other folds than folds.parquet has now: its"
    ):
        read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)
    write_run(tmp_path, "older")  # says nothing
    assert read_run(tmp_path, "older", TASK, FOLDS, TEST_IDS).folds == [0, 1]


def test_a_test_table_of_another_fold_is_refused(tmp_path):
    write_told_run(tmp_path)
    shutil.copy(tmp_path / "base" / "fold1" / "test.parquet", tmp_path / "base" / "fold0" / "test.parquet")
    with pytest.raises(
        ValueError, match=r"fold0/test.parquet holds predictions by the model of fold 1. Train it again"
    ):
        read_run(tmp_path, "base", TASK, FOLDS, TEST_IDS)
