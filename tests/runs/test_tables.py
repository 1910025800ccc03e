"""Tables of predictions, their metadata, and folds: written, read back, and refused where they do not fit."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import write_json
from kagglekit.runs.leaks import table_metadata
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import (
    first_difference,
    goes_forward,
    hash_folds,
    list_runs,
    read_folds,
    read_metadata,
    read_parquet,
    read_run,
    training_rows,
    write_folds,
    write_parquet,
    write_predictions,
)

TASK = SimpleNamespace(columns=["no", "yes"])
IDS = ["007", "12", "x y", "3"]
FOLDS = pd.DataFrame({"id": IDS, "fold": [0, 1, 0, 1]})
TEST_IDS = ["t1", "t2", "t3"]


def write_run(work, name="base", folds=(0, 1), by=None):
    """A run; by: the folds that its tables record."""
    for k in folds:
        rows = FOLDS["id"][FOLDS["fold"] == k].tolist()
        probs = np.column_stack([np.full(len(rows), 0.25 + k / 2), np.full(len(rows), 0.75 - k / 2)])
        told = (
            {"run": name, "fold": k, "folds": hash_folds(by), "saw": f"all folds but {k}"} if by is not None else None
        )
        write_predictions(work / name / f"fold{k}" / "oof.parquet", rows, probs, TASK.columns, k, told)
        tests = np.full((3, 2), 0.5 + k)
        write_predictions(work / name / f"fold{k}" / "test.parquet", TEST_IDS, tests, TASK.columns, metadata=told)


def read(work, name="base", task=TASK, folds=FOLDS, test_ids=TEST_IDS):
    return read_run(work, name, task, folds, test_ids)


def test_predictions_come_back_as_they_were_written(tmp_path):
    probs = np.array([[0.1, 0.9], [1 / 3, 2 / 3]])
    write_predictions(tmp_path / "new" / "oof.parquet", ["007", "ü"], probs, ["a", "b"], fold=3)
    table = read_parquet(tmp_path / "new" / "oof.parquet")
    assert list(table.columns) == ["id", "fold", "a", "b"]
    assert table["id"].tolist() == ["007", "ü"] and table["fold"].tolist() == [3, 3]
    assert table["a"].dtype == np.float32 and np.array_equal(table[["a", "b"]].to_numpy(), probs.astype(np.float32))
    assert os.listdir(tmp_path / "new") == ["oof.parquet"]


def test_classes_called_id_and_fold_do_not_hide_the_ids(tmp_path):
    write_predictions(tmp_path / "oof.parquet", ["1"], [[0.1, 0.2, 0.7]], ["en", "id", "fold"], fold=0)
    table = read_parquet(tmp_path / "oof.parquet")
    assert list(table.columns) == ["id", "fold", "en", "id (class)", "fold (class)"] and table["id"].tolist() == ["1"]


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
    run = read(tmp_path)
    assert run.oof["id"].tolist() == IDS and run.oof["fold"].tolist() == [0, 1, 0, 1]
    assert np.array_equal(run.oof_array, np.array([[0.25, 0.75], [0.75, 0.25]] * 2, dtype=np.float32))
    assert run.folds == [0, 1] and run.rows.tolist() == [0, 1, 2, 3]
    assert np.array_equal(run.test_mean, np.ones((3, 2), dtype=np.float32)) and run.test_mean.dtype == np.float32


def test_a_run_has_the_rows_of_its_finished_folds(tmp_path):
    """A fold without its test table is not finished; rows of fold -1 are never validated."""
    write_run(tmp_path)
    table = FOLDS.assign(fold=[0, 1, -1, 1])
    write_predictions(tmp_path / "base" / "fold0" / "oof.parquet", ["007"], [[0.5, 0.5]], TASK.columns, fold=0)
    run = read(tmp_path, folds=table)
    assert run.rows.tolist() == [0, 1, 3] and run.folds == [0, 1] and run.oof["fold"].tolist() == [0, 1, 1]
    (tmp_path / "base" / "fold0" / "test.parquet").unlink()
    run = read(tmp_path)
    assert run.oof["id"].tolist() == ["12", "3"] and run.rows.tolist() == [1, 3] and list(run.tests) == [1]
    (tmp_path / "base" / "fold1" / "test.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="run='base' has no finished fold"):
        read(tmp_path)


def test_a_run_that_does_not_exist_is_named_with_those_that_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="Runs there: none with a finished fold"):
        read(tmp_path, "bass")
    write_run(tmp_path), write_run(tmp_path, "tfidf")
    (tmp_path / "mlm" / "model").mkdir(parents=True)
    assert list_runs(tmp_path) == ["base", "tfidf"]
    with pytest.raises(FileNotFoundError, match=r"run='bass' does not exist in .*Runs there: base, tfidf"):
        read(tmp_path, "bass")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"folds": FOLDS.assign(fold=[0, 0, 1, 1])}, "folds than folds.parquet: row 2 has id 'x y', expected '12'"),
        ({"folds": FOLDS.assign(fold=[0, 0, 0, 0])}, "it has fold 1, and folds.parquet has 0 to 0"),
        ({"folds": FOLDS[:3]}, "2 rows, expected 1"),
        ({"test_ids": ["t1", "t2"]}, "made for another test file: 3 rows, expected 2"),
        ({"test_ids": ["t1", "t3", "t2"]}, "row 2 has id 't2', expected 't3'"),
        ({"task": SimpleNamespace(columns=["no", "maybe"])}, "has the columns id, fold, no, yes and the task needs"),
    ],
)
def test_a_run_that_does_not_fit_says_where_and_what_to_do(tmp_path, other, message):
    write_run(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, **other)
    assert "Train it again" in str(error.value) and "another name" in str(error.value)


def test_a_broken_table_is_named(tmp_path):
    write_run(tmp_path)
    broken = tmp_path / "base" / "fold1" / "oof.parquet"
    broken.write_bytes(b"PAR1 no longer")
    with pytest.raises(ValueError, match=r"fold1/oof.parquet is damaged .*: fetch it again"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"oof.parquet is damaged"):
        read_metadata(broken)


def test_a_run_whose_tables_record_the_same_folds_is_read_under_any_name(tmp_path):
    write_run(tmp_path, by=FOLDS)
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    for folds in (FOLDS, FOLDS.assign(group=[0, 1, 2, 3], forward=False)):
        assert read(tmp_path, "copy", folds=folds).folds == [0, 1]


@pytest.mark.parametrize("by", [FOLDS.assign(forward=True), FOLDS.assign(fold=[0, 1, 0, 1]).replace("3", "03")])
def test_a_run_whose_tables_record_other_folds_is_refused_also_where_its_rows_fit(tmp_path, by):
    write_run(tmp_path, by=by)
    words = r"fold0/oof.parquet was made with other folds than folds.parquet has now: its"
    with pytest.raises(ValueError, match=words):
        read(tmp_path)
    write_run(tmp_path, "older")  # records nothing
    assert read(tmp_path, "older").folds == [0, 1]


def test_a_test_table_of_another_fold_is_refused(tmp_path):
    write_run(tmp_path, by=FOLDS)
    shutil.copy(tmp_path / "base" / "fold1" / "test.parquet", tmp_path / "base" / "fold0" / "test.parquet")
    words = r"fold0/test.parquet holds predictions by the model of fold 1. Train it again"
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


def test_a_table_keeps_its_metadata_and_pandas_reads_it(tmp_path):
    metadata, made = {"run": "bäse", "fold": 1, "from": ["other"]}, (["007", "ü"], [[0.1, 0.9], [0.5, 0.5]], ["a", "b"])
    write_predictions(tmp_path / "oof.parquet", *made, 1, metadata)
    write_predictions(tmp_path / "plain.parquet", *made, 1)
    tables = [pd.read_parquet(tmp_path / "oof.parquet"), read_parquet(tmp_path / "plain.parquet")]
    tables[1].to_parquet(tmp_path / "pandas.parquet", index=False)
    found = [read_metadata(tmp_path / f"{name}.parquet") for name in ("oof", "plain", "pandas")]
    assert found == [metadata, {}, {}]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(tables[1], pd.read_parquet(tmp_path / "pandas.parquet"))


def test_the_same_table_is_the_same_file(tmp_path):
    """Files are hashed to tell whether a run changed."""
    for name, words in (("a", {"run": "x", "fold": 1}), ("b", {"fold": 1, "run": "x"})):
        write_parquet(tmp_path / name, FOLDS, words)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_tables_of_a_run_record_what_its_models_saw_and_were_made_from(tmp_path):
    work = tmp_path / "work"
    write_json(work / "task.json", {"fingerprint": "ours"})
    write_folds(work, FOLDS["id"], FOLDS["fold"].to_numpy())
    write_json(work / "first" / "params.json", {"recipe": {"keep_best": True}})
    write_json(tmp_path / "far" / "other" / "params.json", {"recipe": {}})
    start = f"first+{tmp_path / 'far' / 'other'}"
    write_json(work / "base" / "params.json", {"recipe": {"start": start}})
    write_json(work / "blend" / "weights.json", {"members": ["base"]})
    expected = {"run": "blend", "fold": 1, "folds": hash_folds(FOLDS), "saw": "all folds but 1", "fingerprint": "ours"}
    expected |= {"from": ["base", "first", "far/other"], "crossed": [], "chosen": ["first"]}
    for test in (False, True):
        assert table_metadata(RunRecord(work / "blend"), 1, test) == expected
    write_json(work / "soup" / "params.json", {"recipe": {"soup": "folds", "soup_of": ["base"]}})
    write_json(work / "blend" / "weights.json", {"members": ["base", "soup"]})
    saw = [table_metadata(RunRecord(work / "blend"), 1, test)["saw"] for test in (False, True)]
    assert saw == ["all folds but 1", "all folds"]
    assert "folds" not in table_metadata(RunRecord(tmp_path / "elsewhere" / "run"), 0)


def test_folds_come_back_and_belong_to_their_train_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="run 1_eda first"):
        read_folds(tmp_path, IDS)
    write_folds(tmp_path, IDS, FOLDS["fold"].to_numpy())
    own = {"group": [0, 1, 2, 3], "forward": [False] * 4}
    assert read_folds(tmp_path, IDS).to_dict("list") == FOLDS.to_dict("list") | own
    with pytest.raises(ValueError, match="another train file: row 1 has id '007', expected '7'"):
        read_folds(tmp_path, ["7", *IDS[1:]])
    assert (
        first_difference(["a", "b"], ["a", "b"]) == "" and first_difference(["a"], ["a", "b"]) == "1 rows, expected 2"
    )


def test_groups_and_the_direction_in_time_come_back_with_the_folds(tmp_path):
    write_folds(tmp_path, IDS, np.array([-1, 0, 0, 1]), groups=np.array([5, 7, 7, 2]), forward=True)
    table = read_folds(tmp_path, IDS)
    assert table["group"].tolist() == [5, 7, 7, 2] and table["group"].dtype == np.int64
    assert table["forward"].tolist() == [True] * 4 and table["forward"].dtype == bool
    assert table_metadata(RunRecord(tmp_path / "run"), 2)["saw"] == "folds before 2"


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


def test_folds_are_equal_where_every_model_saw_the_same_rows():
    same = FOLDS.assign(group=[5, 5, 1, 2], forward=False)
    assert hash_folds(same) == hash_folds(FOLDS) == hash_folds(FOLDS.astype({"fold": "int8"}))
    others = [
        FOLDS.assign(fold=[1, 0, 1, 0]),
        FOLDS.assign(id=["7", "12", "x y", "3"]),
        FOLDS[::-1],
        FOLDS[:3],
        FOLDS.assign(forward=True),
    ]
    assert len({hash_folds(folds) for folds in [FOLDS, *others]}) == 6
    assert goes_forward(others[-1]) and not goes_forward(FOLDS) and not goes_forward(same)
