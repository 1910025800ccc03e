"""What a table says of itself stays with it, and pandas does not notice."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import write_json
from kagglekit.runs.lineage import table_metadata
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import (
    goes_forward,
    hash_folds,
    read_metadata,
    read_predictions,
    write_folds,
    write_predictions,
    write_table,
)

FOLDS = pd.DataFrame({"id": ["007", "ü", "3", "4"], "fold": [0, 1, 0, 1]})


def test_a_table_keeps_what_it_says_of_itself_and_pandas_reads_it(tmp_path):
    lineage = {"run": "bäse", "fold": 1, "from": ["other"]}
    write_predictions(tmp_path / "oof.parquet", ["007", "ü"], [[0.1, 0.9], [0.5, 0.5]], ["a", "b"], 1, lineage)
    assert read_metadata(tmp_path / "oof.parquet") == lineage
    write_predictions(tmp_path / "plain.parquet", ["007", "ü"], [[0.1, 0.9], [0.5, 0.5]], ["a", "b"], 1)
    assert read_metadata(tmp_path / "plain.parquet") == {}
    tables = [pd.read_parquet(tmp_path / "oof.parquet"), read_predictions(tmp_path / "plain.parquet")]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(tables[1], pd.read_parquet(_as_pandas_writes(tables[1], tmp_path)))


def _as_pandas_writes(table, folder):
    table.to_parquet(folder / "pandas.parquet", index=False)
    assert read_metadata(folder / "pandas.parquet") == {}
    return folder / "pandas.parquet"


def test_the_same_table_is_the_same_file(tmp_path):
    """Files are hashed to tell whether a run changed."""
    for name, words in (("a", {"run": "x", "fold": 1}), ("b", {"fold": 1, "run": "x"})):
        write_table(tmp_path / name, FOLDS, words)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "oof.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(ValueError, match=r"oof.parquet is not a parquet table: delete it"):
        read_metadata(tmp_path / "oof.parquet")


def test_folds_are_equal_where_every_model_saw_the_same_rows():
    same = FOLDS.assign(group=[5, 5, 1, 2], forward=False)
    assert hash_folds(same) == hash_folds(FOLDS) == hash_folds(FOLDS.astype({"fold": "int8"}))
    others = [
        FOLDS.assign(fold=[1, 0, 1, 0]),
        FOLDS.assign(id=["7", "ü", "3", "4"]),
        FOLDS[::-1],
        FOLDS[:3],
        FOLDS.assign(forward=True),
    ]
    assert len({hash_folds(folds) for folds in [FOLDS, *others]}) == 6
    assert goes_forward(others[-1]) and not goes_forward(FOLDS) and not goes_forward(same)


def test_the_tables_of_a_run_say_what_its_models_saw_and_grew_from(tmp_path):
    work = tmp_path / "work"
    write_json(work / "task.json", {"fingerprint": "ours"})
    write_folds(work, FOLDS["id"], FOLDS["fold"].to_numpy())
    write_json(work / "first" / "params.json", {"recipe": {"keep_best": True}})
    write_json(tmp_path / "far" / "other" / "params.json", {"recipe": {}})
    start = f"first+{tmp_path / 'far' / 'other'}"
    write_json(work / "base" / "params.json", {"recipe": {"start": start}})
    write_json(work / "blend" / "weights.json", {"members": ["base"]})
    told = table_metadata(RunRecord(work / "blend"), 1)
    assert told == {
        "run": "blend",
        "fold": 1,
        "folds": hash_folds(FOLDS),
        "saw": "all folds but 1",
        "fingerprint": "ours",
        "from": ["base", "first", "far/other"],
        "crossed": [],
        "chosen": ["first"],
    }
    assert table_metadata(RunRecord(work / "blend"), 1, test=True) == told
    write_json(work / "soup" / "params.json", {"recipe": {"soup": "folds", "soup_of": ["base"]}})
    write_json(work / "blend" / "weights.json", {"members": ["base", "soup"]})
    assert table_metadata(RunRecord(work / "blend"), 1)["saw"] == "all folds but 1"
    assert table_metadata(RunRecord(work / "blend"), 1, test=True)["saw"] == "all folds"
    assert "folds" not in table_metadata(RunRecord(tmp_path / "elsewhere" / "run"), 0)


def test_where_folds_go_forward_a_model_saw_what_was_before(tmp_path):
    write_folds(tmp_path, FOLDS["id"], np.array([-1, 0, 1, 2]), forward=True)
    assert table_metadata(RunRecord(tmp_path / "run"), 2)["saw"] == "folds before 2"
