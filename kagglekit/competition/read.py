"""Read tables (CSV, TSV, parquet, JSON lines, packed or not): every cell comes back as the text that the file holds."""

import codecs
import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

PACKED = (".gz", ".zip")
NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
END = "\0end of the file"  # read as a row of its own, unless an open quote swallows it

csv.field_size_limit(2**31 - 1)  # a cell may hold a book


def find_table(folder: str | Path, *stems: str, name: str | None = None) -> Path:
    """The one table in `folder` whose name begins with one of `stems`, ignoring case, `_`, `-` and spaces.

    A file with exactly the stem as its name wins: `test.csv` over `test_labels.csv`; `name` says which one it is.
    Raises FileNotFoundError when there is none, ValueError when there are several.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    if name:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no file {name!r}; it holds {held}")
        return folder / name
    wanted = tuple(_plain(stem) for stem in stems)
    tables = {path: _plain(_split(path.name)[0]) for path in sorted(folder.iterdir()) if _is_table(path)}
    found = [path for path, stem in tables.items() if stem.startswith(wanted)]
    found = [path for path in found if tables[path] in wanted] or found
    if len(found) == 1:
        return found[0]
    names = " or ".join(f"{stem}*" for stem in stems)
    if found:
        several = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds more than one {names}: {several}. Leave one there, or name it {stems[0]}.csv")
    raise FileNotFoundError(
        f"{folder} has no table named {names} ({', '.join(READERS)}, also with {' or '.join(PACKED)}); it holds {held}"
    )


def read_table(path: str | Path, encoding: str = "utf-8", header: bool = True) -> pd.DataFrame:
    """All columns of a table as str, nothing converted: "007", "NA" and "1e5" stay what they are.

    The kind of a file is its suffix, one of `READERS`, also inside .gz or a .zip of one file. CSV has commas, or
    semicolons or tabs where the header has no comma. A byte order mark is dropped, a missing value of parquet or JSON
    is "". Without a header the first row is data, and the columns are called 0, 1, ... Raises FileNotFoundError, and
    ValueError that names file and line: an unknown suffix, bytes that are not `encoding`, no rows, a column named
    twice, a ragged row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    name, data = unpack(path)
    kind = _split(name)[1]
    if not data:
        raise ValueError(f"{path} is empty (0 bytes)")
    if kind not in READERS:
        raise ValueError(
            f"{path} is no table that can be read: its name should end with {', '.join(READERS)}, also with "
            f"{' or '.join(PACKED)}"
        )
    names, columns = READERS[kind](path, data, encoding)
    if not header:
        names, columns = range(len(names)), [[name, *column] for name, column in zip(names, columns, strict=True)]
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: column {twice[0]!r} is named twice in the header; rename one of them")
    if not columns or not len(columns[0]):
        raise ValueError(f"{path} has a header and no rows")
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def unpack(path: Path) -> tuple[str, bytes]:
    """Name and bytes of the table in a file, which may be packed."""
    try:
        if path.suffix.lower() == ".gz":
            return path.name, gzip.decompress(path.read_bytes())
        if path.suffix.lower() != ".zip":
            return path.name, path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
            if len(names) != 1:
                raise ValueError(f"{path} should hold one table and holds {len(names)} files: {', '.join(names[:5])}")
            return Path(names[0]).name, archive.read(names[0])
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): fetch it again") from error


def decode(path: Path, data: bytes, encoding: str) -> str:
    """The text of a file's bytes, without a byte order mark. Raises ValueError that names the file and the first byte
    that is not of this encoding, or an unknown encoding."""
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        likely = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "cp1252"
        other = "" if likely == "utf-16" else ", or encoding='gb18030' for Chinese"
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: byte 0x{data[error.start]:02x} at offset {error.start} (line {line}) is not {encoding}; "
            f"say what the file is written in, perhaps encoding='{likely}'{other}"
        ) from error
    except LookupError as error:
        usual = "usual ones are utf-8, cp1252, gb18030"
        raise ValueError(f"encoding={encoding!r} is not known to Python; {usual}") from error


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _split(name: str) -> tuple[str, str]:
    """Stem and kind of a file name: "train.csv.gz" -> "train", ".csv"; the kind is "" where it is none of `READERS`."""
    stem = Path(name)
    if stem.suffix.lower() in PACKED:
        stem = stem.with_suffix("")
    kind = stem.suffix.lower()
    return (stem.stem, kind) if kind in READERS else (str(stem), "")


def _is_table(path: Path) -> bool:
    packed = path.suffix.lower() == ".zip"
    return path.is_file() and not path.name.startswith(".") and (packed or _split(path.name)[1] != "")


# Readers: (path for errors, bytes, encoding) -> header, columns


def _read_csv(path: Path, data: bytes, encoding: str, delimiter: str = "") -> tuple[list[str], list[tuple[str, ...]]]:
    """The csv module keeps NUL bytes, and knows the line that each row begins on."""
    text = decode(path, data, encoding)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # line ends of old Macintoshes
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = delimiter or ("," if "," in first else max(";\t", key=first.count))
    delimiter = delimiter if delimiter in first else ","
    reader = csv.reader(chain(io.StringIO(text, newline="\n"), ["\n", END]), delimiter=delimiter)
    header, rows, start = [], [], 1
    while True:
        try:
            row = next(reader)
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {start}: a cell holds a carriage return (\\r) and no quotes; put the cell in quotes"
            ) from error
        if row == [END]:
            break
        if row and END in row[-1]:
            raise ValueError(f"{path}, line {start}: a quote opens in this row and never closes; close or double it")
        if not header:
            header = row  # [] for blank lines before it
        elif row and len(row) != len(header):
            raise ValueError(
                f"{path}, line {start}: the row has {len(row)} cells and the header has {len(header)}; "
                f"a cell with {NAMES[delimiter]} or a line break inside must stand in quotes"
            )
        elif row:
            rows.append(row)
        start = reader.line_num + 1
    if not header:
        raise ValueError(f"{path} is empty: it has no header")
    return header, list(zip(*rows, strict=True))


def _read_tsv(path: Path, data: bytes, encoding: str) -> tuple[list[str], list[tuple[str, ...]]]:
    return _read_csv(path, data, encoding, "\t")


def _read_parquet(path: Path, data: bytes, encoding: str) -> tuple[list[str], list[list[str]]]:
    try:
        table = pa.parquet.read_table(pa.BufferReader(data))
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no readable parquet file ({error})") from error
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append([value or "" for value in column.cast(pa.large_string()).to_pylist()])
        except pa.ArrowException as error:
            raise ValueError(
                f"{path}: column {name!r} holds {column.type}, which is no text or number: leave it out"
            ) from error
    return table.column_names, columns


def _read_json_lines(path: Path, data: bytes, encoding: str) -> tuple[list[str], list[list[str]]]:
    """The header are the keys in order of appearance. A lone surrogate, which no file can hold, becomes U+FFFD."""
    header, rows = {}, []
    for line, record in enumerate(decode(path, data, encoding).split("\n"), 1):  # str.splitlines also splits at U+2028
        if not record.strip():
            continue
        try:
            pairs = json.loads(record, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: this is no JSON ({error}); write one object a line") from error
        if not isinstance(pairs, tuple) or len(dict(pairs)) < len(pairs):
            wrong = "a key is named twice" if isinstance(pairs, tuple) else "every line must be one JSON object {...}"
            raise ValueError(f"{path}, line {line}: {wrong}")
        nested = [key for key, value in pairs if isinstance(value, list | tuple)]
        if nested:
            raise ValueError(f"{path}, line {line}: column {nested[0]!r} holds a list or an object, make it text first")
        header.update(dict.fromkeys(key for key, _ in pairs))
        rows.append({key: _json_text(value) for key, value in pairs})
    return list(header), [[row.get(key, "") for row in rows] for key in header]


def _json_text(value: str | bool | None) -> str:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "" if value is None else str(value).lower()


READERS = {  # suffix -> reader: the one list of the kinds of files
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
}
