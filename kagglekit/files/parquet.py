"""Tables in parquet files, with metadata: read as they were written, or named as damaged."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kagglekit.files.reading import CHANGED, CHECKSUM, Damaged, reading
from kagglekit.files.writing import replacing

KEY, CHECK = b"kagglekit", CHECKSUM.encode()


def read_parquet(path: str | Path) -> pd.DataFrame:
    """A table, checked against the checksum that `write_parquet` wrote. Raises Damaged as `read_json` does."""
    return _read_arrow(path).to_pandas()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a table; none for one of an older version, or from elsewhere. Of predictions:

    run, fold: of the model. folds: `hash_folds` of the folds that it was trained with. saw: the rows that it learned
    from, such as "all folds but 1". fingerprint: of the competition's files. from: the run's ancestors (members,
    teachers, initial weights, and theirs). crossed, chosen: which of these, or the run itself, know labels of the fold
    from out-of-fold predictions, and have weights that were chosen by scores on the fold.
    Raises FileNotFoundError, and Damaged as `read_json` does.
    """
    metadata = _read_arrow(path).schema.metadata or {}
    with reading(path):
        return json.loads(metadata[KEY]) if KEY in metadata else {}


def write_parquet(path: str | Path, frame: pd.DataFrame, metadata: dict[str, Any] | None = None) -> None:
    """Write a table as parquet with its metadata and a checksum of both, whole or not at all."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if metadata is not None:
        words = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
        table = table.replace_schema_metadata({**table.schema.metadata, KEY: words})
    checksum = {CHECK: _hash_table(table).encode()}
    with replacing(path) as part:
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **checksum}), part)


def _read_arrow(path: str | Path) -> pa.Table:
    with reading(path):
        with pq.ParquetFile(path) as file:
            table = file.read()
        written = (table.schema.metadata or {}).get(CHECK)
        if written is not None and written.decode() != _hash_table(table):
            raise Damaged(path, CHANGED)
    return table


def _hash_table(table: pa.Table) -> str:
    """Of names, metadata and values: the bytes of a file depend on the version of pyarrow, these do not."""
    kept = {name: words for name, words in (table.schema.metadata or {}).items() if name != CHECK}
    digest = hashlib.sha256(repr((table.column_names, sorted(kept.items()))).encode())
    for column in table.columns:
        if pa.types.is_primitive(column.type) and not column.null_count:
            digest.update(str(column.type).encode())
            digest.update(column.to_numpy().tobytes())
        else:
            digest.update(json.dumps(column.to_pylist(), default=str).encode())
    return digest.hexdigest()[:16]
