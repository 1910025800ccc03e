"""What a table of predictions says of itself: who made it, by which folds, and whose labels its maker saw.

It stands in the file beside the columns, as JSON in the metadata of the parquet schema: pandas reads the table like any
other, and the table keeps it wherever it is copied to.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kagglekit.files import replacing

KEY = b"kagglekit"
EVERYTHING = "all folds"  # of predictions whose maker saw every row of train


def seen_by(fold: int, forward: bool = False) -> str:
    """Which rows of train the model of a fold learned from, in words; forward: only those that are earlier in time."""
    return f"folds before {fold}" if forward else f"all folds but {fold}"


def goes_forward(folds: pd.DataFrame) -> bool:
    """Whether the folds of a table of folds.parquet go forward in time."""
    return bool(folds["forward"].any()) if "forward" in folds else False


def hash_folds(folds: pd.DataFrame) -> str:
    """One hash (16 hexadecimal digits) of which row is in which fold, and of whether the folds go forward in time.

    folds: `id`, `fold`, and `forward` where there is one, in the order of train; groups do not count. Equal for tables
    in which every model saw the same rows.
    """
    content = [folds["id"].astype(str).tolist(), folds["fold"].astype(int).tolist(), goes_forward(folds)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def write_table(path: str | Path, frame: pd.DataFrame, metadata: dict[str, Any] | None = None) -> None:
    """Write a table as parquet, whole or not at all, with what it says of itself; None: nothing."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if metadata is not None:
        words = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
        table = table.replace_schema_metadata({**table.schema.metadata, KEY: words})
    with replacing(path) as part:
        pq.write_table(table, part)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a table says of itself; nothing for one of an older version, or from elsewhere. Of predictions:

    run, fold: whose they are. folds: the `hash_folds` of the folds that the model was trained by. saw: from which rows
    it learned, see `seen_by`. fingerprint: of the competition's files. from: the runs that it grew from: members,
    teachers, models to start from, and what these grew from. crossed, chosen: which of these, or itself, have heard of
    the labels of the fold through out-of-fold predictions, and whose weights were chosen by scores on the fold.
    Raises FileNotFoundError, and ValueError for a file that is no parquet.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise ValueError(f"{path} is not a parquet table: delete it and make it again") from error
    return json.loads(metadata[KEY]) if KEY in metadata else {}


def check_table(path: Path, fold: int, folds: str, again: str) -> None:
    """Raise ValueError when a table of predictions says that it is of another fold, or was made by other folds.

    folds: the `hash_folds` of those of now. again: what to do about it. A table that says nothing passes.
    """
    told = read_metadata(path)
    if told.get("fold", fold) != fold:
        raise ValueError(f"{path} holds predictions by the model of fold {told['fold']}. {again}")
    if told.get("folds", folds) != folds:
        raise ValueError(
            f"{path} was made with other folds than folds.parquet has now: its model learned from "
            f"{told.get('saw', 'some')} of those, and so may have seen rows that it would be scored on. {again}"
        )
