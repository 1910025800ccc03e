import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kagglekit.files import Damaged
from kagglekit.files.parquet import read_metadata, read_parquet, write_parquet

FRAME = pd.DataFrame(
    {"id": ["a", "b", "ü"], "fold": [0, 1, 1], "forward": [True, False, True], "yes": np.float32([0.25, 1e-9, 1])}
    | {"vector": [[1.0, 2.0], [3.0], []]}
)
WORDS = {"run": "base", "saw": "all folds but 1", "chosen": []}


def test_what_is_read_is_what_was_written_whatever_byte_is_flipped(tmp_path):
    path = tmp_path / "oof.parquet"
    write_parquet(path, FRAME, WORDS)
    pd.testing.assert_frame_equal(read_parquet(path), pd.read_parquet(path))
    data, table, named = path.read_bytes(), read_parquet(path), 0
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            pd.testing.assert_frame_equal(read_parquet(path), table)
            assert read_metadata(path) == WORDS
        except Damaged as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            named += 1
    assert named > 0.6 * len(data) / 5  # the rest is statistics, the name of the program, offsets of no use
    for cut in (b"", data[: len(data) // 2], data[:-1], b"PAR1", bytes(len(data))):
        path.write_bytes(cut)
        for read in (read_parquet, read_metadata):
            with pytest.raises(Damaged, match=f"^{path} is "):
                read(path)


def test_a_table_that_was_changed_is_named_and_one_that_somebody_wrote_is_not(tmp_path):
    path = tmp_path / "oof.parquet"
    write_parquet(path, FRAME, WORDS)
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "fold", [[0, 0, 1]]), path)
    with pytest.raises(Damaged, match="is cut, or was changed after it was written, by a fault of the disk or by hand"):
        read_parquet(path)
    pq.write_table(table, path, compression="zstd", row_group_size=1)  # other bytes, the same table
    assert read_metadata(path) == WORDS
    table.to_pandas().assign(fold=0).to_parquet(path)  # pandas drops the checksum with the metadata
    assert read_parquet(path)["fold"].tolist() == [0, 0, 0] and read_metadata(path) == {}


def test_a_folder_named_as_a_partition_adds_no_column(tmp_path):
    (tmp_path / "lr=3e-5").mkdir()
    write_parquet(tmp_path / "lr=3e-5" / "a.parquet", FRAME)
    assert list(read_parquet(tmp_path / "lr=3e-5" / "a.parquet").columns) == list(FRAME.columns)
