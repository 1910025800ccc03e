"""Vectors from files: document vectors by id, and word vectors (word2vec, GloVe, fastText) by token."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from tokenizers import decoders

from kagglekit.files import reading, resolve

ROW_NUMBERS = ("", "Unnamed: 0", "__index_level_0__")  # how pandas writes an index


def read_document_vectors(file: str | Path, ids: Sequence[str]) -> np.ndarray:
    """Document vectors in the order of `ids`, float32 (ids, width); other documents of the file are left out.

    file: parquet or CSV (also .gz), with a column "id" and either a column per number or, in parquet, one column of
    lists. The ids of a train file without an id column are row1, row2 ...
    Raises FileNotFoundError, and ValueError for an id that is missing or there twice, a column that is no number, lists
    of different lengths, and numbers that are not finite.
    """
    path, ids = resolve(file), list(ids)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    table = _read_arrow(path)
    if "id" not in table.column_names:
        raise ValueError(f"{path} has no column 'id'; it has {', '.join(table.column_names[:9])}")
    known = pd.Index(table["id"].cast(pa.large_string()).to_pylist())
    if not known.is_unique:
        raise ValueError(f"{path}: column 'id' holds {known[known.duplicated()][0]!r} twice; ids must differ")
    rows = known.get_indexer(ids)
    if (rows < 0).any():
        first = ids[int((rows < 0).argmax())]
        raise ValueError(f"{path} has no vector of id {first!r} ({(rows < 0).sum():,} such ids of {len(rows):,})")
    vectors = _numbers(path, table.drop_columns(["id"]).take(pa.array(rows)))
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise ValueError(f"{path}: the vector of id {ids[int(bad.argmax())]!r} has a number that is not finite")
    return vectors


def _read_arrow(path: Path) -> pa.Table:
    with reading(path):
        if path.suffix.lower() == ".parquet":
            return pa.parquet.ParquetFile(path).read()
        if path.name.lower().endswith((".csv", ".csv.gz")):
            return pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types={"id": pa.string()}))
    raise ValueError(f"{path} is neither parquet nor CSV: write ids and vectors with DataFrame.to_parquet")


def _numbers(path: Path, table: pa.Table) -> np.ndarray:
    """All columns as float32 (rows, width)."""
    if table.num_columns == 1 and pa.types.is_nested(table.schema.types[0]):
        lengths = pc.list_value_length(table.column(0)).unique().to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise ValueError(f"{path}: column {table.column_names[0]!r} holds lists of different lengths, or none")
        return pc.list_flatten(table.column(0)).to_numpy().astype(np.float32).reshape(-1, lengths[0])
    index = [name for name in table.column_names if name in ROW_NUMBERS]
    if index:
        raise ValueError(f"{path}: column {index[0]!r} holds row numbers: write the file with index=False")
    vectors = np.empty((table.num_rows, table.num_columns), dtype=np.float32)
    for k, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise ValueError(f"{path}: column {name!r} holds {column.type}, which is no number: leave it out")
        vectors[:, k] = column.to_numpy()
    return vectors


def read_word_vectors(file: str | Path, tokenizer) -> np.ndarray:
    """Word vectors for the tokens of a tokenizer, float32 (vocabulary, width); zeros for tokens that the file lacks and
    for special tokens.

    file: text in the format of word2vec, GloVe and fastText, a word and its numbers on each line, with or without a
    first line of two counts; also .gz. A token is looked up without word-piece marks (##, Ġ, ▁), then in lower case.
    The file is read line by line, so memory is that of the result.
    Raises FileNotFoundError, and ValueError that names the line of a wrong width or number, or when no token is found.
    """
    path, (as_is, lowered) = resolve(file), _words_of(tokenizer)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    found = np.zeros(1 + max(tokenizer.get_vocab().values()), dtype=np.int8)  # 1: in lower case, 2: as written
    table = None
    for number, word, fields in _word_lines(path):
        same = [one for one in as_is.get(word, ()) if found[one] < 2]
        other = [one for one in lowered.get(word, ()) if found[one] < 1]
        if not same and not other:
            continue
        try:
            vector = np.array([float(field) for field in fields.split()], dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        if not np.isfinite(vector).all():
            raise ValueError(f"{path}, line {number}: the vector of {word!r} has a number that is not finite")
        table = np.zeros((len(found), len(vector)), dtype=np.float32) if table is None else table
        table[same + other] = vector
        found[same], found[other] = 2, 1
    if table is None:
        raise ValueError(f"{path} has no word that is a token of this backbone: is it of another language?")
    return table


def _words_of(tokenizer) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Word -> ids of its tokens, and word -> ids of the tokens that are this word only in lower case."""
    as_is, lowered, vocabulary, special = {}, {}, tokenizer.get_vocab(), set(tokenizer.all_special_ids)
    bytewise = decoders.ByteLevel() if any(token.startswith("Ġ") for token in vocabulary) else None
    for token, number in vocabulary.items():
        word = (bytewise.decode([token]) if bytewise else token.removeprefix("##").removeprefix("▁")).strip()
        if word and number not in special:
            as_is.setdefault(word, []).append(number)
            if word.lower() != word:
                lowered.setdefault(word.lower(), []).append(number)
    return as_is, lowered


def _word_lines(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """Line number, word and the text of its numbers; every line has as many numbers as the first one."""
    width = 0
    with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as stream:
        for number, line in enumerate(_lines(path, stream), 1):
            line = line.rstrip()
            spaces = line.count(b" ")
            if number == 1 and spaces == 1 and line.replace(b" ", b"").isdigit():
                width = int(line.split()[1])  # the first line: number of words, numbers of each
                continue
            width = width or spaces
            word, *numbers = line.split(b" ", 1) if spaces == width else line.rsplit(b" ", width)
            several = spaces > width and not _is_number(word.split(b" ")[-1])  # spaces in a word: GloVe has a few
            if spaces == width > 0 or several:
                yield number, word.decode("utf-8", "replace"), b" ".join(numbers)
            elif line:
                expected = f"{width} are expected" if width else "a word and its numbers are expected"
                raise ValueError(f"{path}, line {number}: there are {spaces} numbers where {expected}")


def _lines(path: Path, stream) -> Iterator[bytes]:
    with reading(path):
        yield from stream


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
