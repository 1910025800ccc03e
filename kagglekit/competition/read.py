"""Read tables (CSV, TSV, parquet, Arrow, JSON, packed or not): every cell comes back as the text in the file."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from kagglekit.competition.formats.csv_tables import NUMBER, count, read_csv
from kagglekit.competition.formats.encodings import PACKED, Text, find_encoding, unpack
from kagglekit.competition.formats.json_tables import as_text, describe_lists, join_lists, read_json_table
from kagglekit.files import reading

WRONG = {  # first bytes of a file that is no table, whatever its name says
    b"<!doctype": "is a web page: fetch the file again, logged in",
    b"<html": "is a web page: fetch the file again, logged in",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file: run `git lfs pull`",
    b"\xd0\xcf\x11\xe0": "is a file of Excel, and not read: save the sheet as CSV UTF-8 in its place",
}
ELSEWHERE = {  # endings of tables that are not read, and what to do
    ".xlsx": "save the sheet as CSV UTF-8 beside it",
    ".xls": "save the sheet as CSV UTF-8 beside it",
    ".ods": "save the sheet as CSV UTF-8 beside it",
    ".sqlite": "write its table with pandas.read_sql(...).to_csv(...)",
    ".db": "write its table with pandas.read_sql(...).to_csv(...)",
    ".xml": "write it with pandas.read_xml(...).to_csv(...)",
    **dict.fromkeys((".7z", ".rar", ".tar", ".tgz"), "unpack it"),
    ".pkl": "write it with pandas.read_pickle(...).to_parquet(...), if you trust it",
}
ARROW = (".parquet", ".arrow", ".feather")
FASTTEXT = re.compile(r"\s*((?:__label__\S*(?:\s+|$))*)(.*?)\s*", re.DOTALL)  # labels and text of a line
PART = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")
SPARK = re.compile(r"part-\d{5}\b.*?(\.\w+)")  # a part of a folder that Spark wrote
NAMELESS = re.compile(r"\s*|Unnamed: \d+")  # names of a column without a name, and of one that pandas wrote again
Note = tuple[str, str, str]  # what, found, reason: a row of the findings


def read_table(
    path: str | Path,
    encoding: str | None = "utf-8",
    delimiter: str | None = None,
    quotes: bool | None = None,
    notes: list[Note] | None = None,
    header: bool = True,
) -> pd.DataFrame:
    """All columns of a table as str, nothing converted: "007", "NA" and "1e5" stay what they are.

    The kind of a file is its suffix, one of `READERS`, also inside .gz or a .zip of one file. encoding: see
    `find_encoding`; None is a guess. delimiter, quotes: of CSV, see `read_csv`; None decides by counting. A missing
    value of parquet or JSON is "". Rows and nameless columns without any value are left out. notes: takes what was
    guessed or left out. Without a header the first row is data, and the columns are called 0, 1, ...
    Raises FileNotFoundError, and ValueError that names file and line: an unknown suffix, bytes of another encoding, no
    rows, a column named twice, a ragged row.
    """
    path, notes = Path(path), [] if notes is None else notes
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    name, data = unpack(path)
    kind = split_name(name)[1] or split_name(path.name)[1]
    if not data:
        raise ValueError(f"{path} is empty (0 bytes)")
    wrong = next((why for mark, why in WRONG.items() if data[:40].lstrip().lower().startswith(mark)), None)
    if wrong:
        raise ValueError(f"{path} {wrong}")
    if kind not in READERS:
        advice = ELSEWHERE.get(Path(name.removesuffix(".gz")).suffix.lower())
        raise ValueError(
            f"{path} is no table that can be read: its name should end with {', '.join(READERS)}, also with "
            f"{', '.join(PACKED)}" + (f"; {advice}" if advice else "")
        )
    if kind in ARROW:
        names, columns = _read_arrow(path, data, notes)
    else:
        text = find_encoding(path, data, encoding)
        del data
        if text.guessed:
            notes.append((f"encoding of {path.name}", text.encoding, "a guess; encoding= says another"))
        names, columns = READERS[kind](text, delimiter, quotes, notes)
    if not header:
        return pd.DataFrame(
            {place: [name, *column] for place, (name, column) in enumerate(zip(names, columns, strict=True))}
        )
    return _checked(path, names, columns, notes)


def split_name(name: str) -> tuple[str, str]:
    """Stem and kind of a file name: "train.csv.gz" -> "train", ".csv"; the kind is "" where it is none of `READERS`."""
    stem = Path(name)
    if stem.suffix.lower() in PACKED:
        stem = stem.with_suffix("")
    kind = stem.suffix.lower()
    return (stem.stem, kind) if kind in READERS else (str(stem), "")


def parts_of(path: Path) -> list[Path]:
    """The files of a table that is written in parts, train-00000-of-00002.parquet or train/part-00000.csv, by any of
    them; else the path alone. Raises FileNotFoundError where some are missing."""
    named = PART.fullmatch(path.name)
    if kind := SPARK.fullmatch(path.name):
        return sorted(path.parent.glob(f"part-?????*{kind[1]}"))
    if not named:
        return [path]
    found = sorted(path.parent.glob(f"{named[1]}-?????-of-{named[2]}{named[3]}"))
    if len(found) != int(named[2]):
        raise FileNotFoundError(
            f"{path.parent} holds {len(found)} of the {int(named[2])} parts of {path.name}: add them"
        )
    return found


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table, or of an archive."""
    packed = path.suffix.lower() == ".zip"
    return path.is_file() and not path.name.startswith(".") and (packed or split_name(path.name)[1] != "")


def _checked(path: Path, header: list[str], columns: list, notes: list[Note]) -> pd.DataFrame:
    """The columns as a table. Left out are nameless columns without any value, and copies of a column; told is a first
    column without a name."""
    first = enumerate(columns[0]) if len(columns) > 1 else ()
    again = [row for row, cell in first if cell == header[0] and [column[row] for column in columns] == header]
    if again:
        why = "they are the header again, as in joined files"
        notes.append((path.name, f"{count(again, 'row')} left out", why))
        gone = set(again)
        columns = [[cell for row, cell in enumerate(column) if row not in gone] for column in columns]
    named: dict[str, list[str]] = {}
    for place, (name, column) in enumerate(zip(header, columns, strict=True), 1):
        if not name.strip() and len(header) > 1 and not any(column):
            notes.append((f"column {place} of {path.name}", "left out", "it has neither a name nor a value"))
            continue
        if not name.strip() and len(header) > 1:
            name = "" if place == 1 else f"column {place}"
            why = (
                "an index that pandas wrote, most likely; it is neither text nor a label" if place == 1 else "as it is"
            )
            notes.append((f"column {place} of {path.name}", f"has no name, called {name!r}", why))
        elif NAMELESS.fullmatch(name):
            notes.append(
                (f"{name!r} of {path.name}", "has no name of its own", "an index that pandas wrote, most likely")
            )
        if name in named and list(named[name]) == list(column):
            notes.append((f"{name!r} of {path.name}", "read once", "two columns have this name and the same values"))
        elif name in named:
            row = NUMBER.fullmatch(name) is not None
            why = "the first line is a row, it seems: put names above it" if row else "rename one of them"
            raise ValueError(f"{path}: column {name!r} is named twice in the header; {why}")
        else:
            named[name] = column
    if not columns or not len(columns[0]):
        raise ValueError(f"{path} has a header and no rows")
    return pd.DataFrame(named, dtype=object)  # isin and loops over cells of dtype str take ten times as long


# Readers of text: (text, delimiter, quotes, notes) -> header, columns


def _read_csv(text: Text, delimiter: str | None, quotes: bool | None, notes: list[Note], own: str = ","):
    header, rows, told = read_csv(text, own, delimiter, quotes)
    notes += told
    blank = [] if len(header) == 1 else [place for place, row in enumerate(rows) if not _filled(row)]
    if blank:
        first = f"the first is data row {blank[0] + 1}" + (
            ", the last at the end" if blank[-1] == len(rows) - 1 else ""
        )
        notes.append((text.path.name, f"{count(blank, 'row')} left out", f"they hold no value; {first}"))
        gone = set(blank)
        rows = [row for place, row in enumerate(rows) if place not in gone]
    return header, list(zip(*rows, strict=True)) or [[] for _ in header]


def _filled(row: list[str]) -> bool:
    return bool(row[0].strip()) or any(map(str.strip, row))


def _read_tsv(text: Text, delimiter: str | None, quotes: bool | None, notes: list[Note]):
    return _read_csv(text, delimiter, quotes, notes, "\t")


def _read_txt(text: Text, delimiter: str | None, quotes: bool | None, notes: list[Note]):
    """CSV; JSON where the first line begins so; or lines of fastText, `__label__x __label__y text`."""
    first = next((line.strip() for line in text.lines() if line.strip()), "")
    if re.match(r'\{\s*("|$)|\[\s*(\{|$)', first):
        return _read_json(text, delimiter, quotes, notes)
    if not first.startswith("__label__"):
        return _read_csv(text, delimiter, quotes, notes)
    rows = [FASTTEXT.fullmatch(line) for line in text.lines() if line.strip()]
    notes.append((text.path.name, "columns label and text", "its lines are those of fastText, __label__x ..."))
    labels = [" ".join(row[1].replace("__label__", "").split()) for row in rows]
    return ["label", "text"], [labels, [row[2] for row in rows]]


def _read_json(text: Text, delimiter: str | None, quotes: bool | None, notes: list[Note]):
    header, columns, told = read_json_table(text)
    notes += told
    return header, columns


def _read_arrow(path: Path, data: bytes, notes: list[Note]) -> tuple[list[str], list[list[str]]]:
    """Parquet, and Arrow as a file (.feather) or as a stream (of the library datasets): the first bytes say which."""
    source, opened = pa.BufferReader(data), {b"ARRO": pa.ipc.open_file, b"\xff" * 4: pa.ipc.open_stream}
    with reading(path):
        table = opened[data[:4]](source).read_all() if data[:4] in opened else pa.parquet.read_table(source)
        about = (table.schema.pandas_metadata or {}).get("index_columns", [])
        for one in (one for one in about if isinstance(one, dict) and one["name"]):  # an index of 1, 2, 3: not a column
            index = range(one["start"], one["stop"], one["step"])
            table = table.add_column(0, one["name"], pa.array(index, pa.int64()))
        while any(pa.types.is_struct(column.type) for column in table.columns):
            table = table.flatten()
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append([value or "" for value in column.cast(pa.large_string()).to_pylist()])
        except pa.ArrowException:
            cells = column.to_pylist()
            lists = [cell for cell in cells if isinstance(cell, list)]
            if len(lists) + cells.count(None) < len(cells):
                raise ValueError(
                    f"{path}: column {name!r} holds {column.type}, which is no text or number: leave it out"
                ) from None
            divider = join_lists(lists)
            columns.append([as_text(cell, divider) for cell in cells])
            notes.append((f"{name!r} in {path.name}", *describe_lists(len(lists), divider)))
    return table.column_names, columns


READERS = {  # suffix -> reader: the one list of the kinds of files
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    **dict.fromkeys(ARROW, _read_arrow),
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".tab": _read_tsv,
    ".psv": _read_csv,
    ".dat": _read_csv,
    ".txt": _read_txt,
}
