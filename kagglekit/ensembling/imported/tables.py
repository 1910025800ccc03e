"""Tables of imported predictions: read from CSV, parquet, JSON or numpy files, and their rows named by ids."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import listed, name_row
from kagglekit.competition.columns import IDS
from kagglekit.competition.formats.encodings import PACKED
from kagglekit.competition.read import Note, read_table

ARRAYS = (".npy", ".npz")
KINDS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", *ARRAYS)  # of those that can be read: no notes, no settings
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
WORDS = {"test", "sub", "submission", "submissions"}  # in the name of a file, or of an array: predictions of test
NOISE = {"oof", "oofs", "val", "valid", "cv", "train"}  # of the labelled rows


def words_of(name: str) -> list[str]:
    """The words of a name: "OOF_deberta-v3.test" -> oof, deberta, v3, test."""
    return [word for word in re.split(r"[\W_]+", name.casefold()) if word]


def is_test(stem: str) -> bool:
    """Whether a name says that it is of test."""
    return bool(WORDS & set(words_of(stem)))


def model_key(stem: str) -> tuple[str, ...]:
    """What is left of a name without the words for test and for labelled rows: the same for both files of a model."""
    return tuple(word for word in words_of(stem) if word not in WORDS | NOISE)


def read_tables(folder: Path, notes: list[Note]) -> tuple[dict[str, pd.DataFrame], dict[str, str], list[Path]]:
    """Stem -> table, stem -> name of the file, and the files. notes: takes what was guessed or left out.

    Arrays have no ids, and columns 0, 1, ... as whole numbers. A .npz with an array for test gives two tables. Raises
    ValueError for pickles, which can run code when they are read, and for two files of one name.
    """
    tables, names, paths = {}, {}, []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.suffix.lower() in PICKLES:
            raise ValueError(
                f"{path.name} is a pickle, which can run code when it is read, so it is not read: write it again with "
                "numpy.save(...) as .npy, or with its ids as CSV or parquet, and move the pickle out of the folder"
            )
        if not (stem := _stem(path)):
            continue
        paths.append(path)
        made = _read_arrays(path, stem) if path.suffix.lower() in ARRAYS else {stem: read_table(path, notes=notes)}
        for name, table in made.items():
            if name in tables:
                raise ValueError(f"{names[name]} and {path.name} have the same name: keep one, or rename it")
            tables[name], names[name] = _without_index(table, path.name), path.name
    return tables, names, paths


def _stem(path: Path) -> str:
    """The name without its ends; "" for what is no table."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.stem if name.suffix.lower() in KINDS and not name.name.startswith(".") else ""


def _without_index(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Without a nameless first column that counts the rows, which pandas wrote."""
    if "" not in table.columns:
        return table
    if table[""].tolist() != [str(row) for row in range(len(table))]:
        raise ValueError(f"{name} has a column without a name: name it, or write it without row numbers (index=False)")
    return table.drop(columns="")


def _read_arrays(path: Path, stem: str) -> dict[str, pd.DataFrame]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path.name} is no readable array of numbers ({error}): write it again with numpy.save"
        ) from error
    ids = {name: arrays.pop(name) for name in list(arrays) if name.casefold() in ("id", "ids")}
    tests = [name for name in arrays if is_test(name)]
    others = [name for name in arrays if name not in tests]
    if len(others) != 1 or len(tests) > 1:
        raise ValueError(
            f"{path.name} holds the arrays {', '.join(arrays) or 'none'}: there must be one of predictions, and one of "
            "test at most, whose name has the word test"
        )
    made = {stem: arrays[others[0]]} | {f"{stem}.test": arrays[name] for name in tests}
    for array in made.values():
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.number) or not len(array):
            raise ValueError(
                f"{path.name} holds an array of shape {array.shape} and type {array.dtype}: predictions are numbers of "
                "shape (rows,) or (rows, columns)"
            )
    tables = {name: pd.DataFrame(array.reshape(len(array), -1).astype(np.float64)) for name, array in made.items()}
    for values in ids.values():
        if len(values) == len(tables[stem]):
            tables[stem].insert(0, "id", [str(value) for value in values])
    return tables


def index_by_id(
    tables: dict[str, pd.DataFrame], names: dict[str, str], source: str, id: str | None, notes: list[Note]
) -> dict[str, pd.DataFrame]:
    """The tables with their ids as index. id: the column; None: "id", or the one that all share and that tells rows
    apart; tables without one are in the order of `source`, the table of the labels, or all of test in one order.

    Raises ValueError for ids that are missing or come twice, and where neither ids nor the order can be used.
    """
    column = _find_id(tables, names, id, notes)
    found, bare = {}, [stem for stem, table in tables.items() if column not in table.columns]
    for stem, table in tables.items():
        if stem not in bare:
            _check_id(table, column, names[stem])
            found[stem] = table.set_index(column)
    for stem in bare:
        table, beside = tables[stem], [other for other in found if is_test(other) == is_test(stem)]
        leader = next((other for other in [source, *beside] if other in beside), None)
        ids = list(found[leader].index) if leader else [str(row) for row in range(len(table))]
        if len(ids) != len(table):
            raise ValueError(
                f"{names[stem]} has {len(table):,} rows and no column of ids, and {names[leader]} has {len(ids):,}: "
                "add the ids, or the rows that are missing, in the same order"
            )
        found[stem] = table.set_index(pd.Index(ids))
    if bare:
        shown = listed([names[stem] for stem in bare], 4)
        notes.append(("rows", "by their order", f"no ids in {shown}: check that all are in the same order"))
    return {stem: found[stem] for stem in tables}


def _find_id(tables: dict[str, pd.DataFrame], names: dict[str, str], id: str | None, notes: list[Note]) -> str:
    """The name of the column of ids; tables have it, or no ids."""
    named = {stem: table for stem, table in tables.items() if any(isinstance(name, str) for name in table.columns)}
    if id:
        for stem, table in named.items():
            if id not in table.columns:
                raise ValueError(f"id={id!r} is no column of {names[stem]}: it has {listed(table.columns)}")
        return id
    for stem, table in named.items():  # "ID" and "Id" are "id"
        alike = [name for name in table.columns if str(name).strip().casefold() == "id"]
        if len(alike) == 1:
            named[stem] = tables[stem] = table.rename(columns={alike[0]: "id"})
    having = [stem for stem, table in named.items() if "id" in table.columns]
    if len(having) == len(named):
        return "id"
    first, *others = named.values()
    shared = [name for name in first.columns if all(name in table.columns for table in others)]
    fitting = [name for name in shared if _tells_rows_apart(name, named)]
    if fitting:
        best = next((name for name in fitting if IDS.fullmatch(name)), fitting[0])
        notes.append(("id", best, "all files have it, and it tells their rows apart; id= names another"))
        return best
    if having:
        lacks = next(stem for stem in named if stem not in having)
        raise ValueError(
            f"{names[lacks]} has no column 'id', and {names[having[0]]} has: it has {listed(named[lacks].columns)}"
        )
    return "id"


def _tells_rows_apart(name: str, tables: dict[str, pd.DataFrame]) -> bool:
    """Whether a column has a value of its own in each row, and the same values in tables of the same rows."""
    columns = [(is_test(stem), table[name]) for stem, table in tables.items()]
    if any(column.duplicated().any() or (column == "").any() for _, column in columns):
        return False
    if len(columns) == 1:  # predictions could tell rows apart as well
        return bool(IDS.fullmatch(name)) or pd.to_numeric(columns[0][1], errors="coerce").isna().all()
    known = {}
    return all(column.isin(known.setdefault(test, set(column))).mean() > 0.5 for test, column in columns) and (
        len(columns) > len(known) or bool(IDS.fullmatch(name))
    )


def _check_id(table: pd.DataFrame, column: str, name: str) -> None:
    for bad, what in (
        (table[column] == "", "is empty"),
        (table[column].duplicated(), "stands in an earlier row already"),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{name}: the value of column {column!r} in {name_row(row, table[column])} {what} ({bad.sum():,} such "
                "rows): every row needs an id of its own"
            )
