import bz2
import csv
import gzip
import json
import lzma
import zipfile

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.competition.find_files import find_table
from kagglekit.competition.read import READERS, read_table

ODD = ["007", "NA", "1e5", "", "nan", "😀🏳️‍🌈", "a\0b", "\0", "שלום عليكم", 'say "so", he said']
ODD += ["two\nlines\r\nand\rthree", "\u2028x"]


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def rows(table):
    return [list(table.columns), *table.to_numpy().tolist()]


def write_csv(path, table, **options):
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL, **options).writerows(table)
    return path


def write_json_lines(path, table):
    records = (dict(zip(table[0], row, strict=True)) for row in table[1:])
    return written(path, "".join(json.dumps(record) + "\n" for record in records))


def write_stream(path, table):
    """As the library datasets saves it."""
    made = pa.table(dict(zip(table[0], map(list, zip(*table[1:], strict=True)), strict=True)))
    with pa.ipc.new_stream(path, made.schema) as writer:
        writer.write_table(made)
    return path


WRITERS = {  # a new kind in READERS needs an example here
    ".csv": write_csv,
    ".tsv": lambda path, table: write_csv(path, table, delimiter="\t"),
    ".tab": lambda path, table: write_csv(path, table, delimiter="\t"),
    ".psv": lambda path, table: write_csv(path, table, delimiter="|"),
    ".dat": lambda path, table: write_csv(path, table, delimiter=";"),
    ".txt": write_csv,
    ".parquet": lambda path, table: pd.DataFrame(table[1:], columns=table[0]).to_parquet(path),
    ".feather": lambda path, table: pd.DataFrame(table[1:], columns=table[0]).to_feather(path),
    ".arrow": write_stream,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".json": write_json_lines,
}


@pytest.mark.parametrize("packed", ["", ".gz", ".zip", ".bz2", ".xz"])
@pytest.mark.parametrize("kind", READERS)
def test_odd_text_survives_in_every_kind_of_file_packed_or_not(tmp_path, kind, packed):
    table = [["id", "text"], *([str(n), text] for n, text in enumerate(ODD))]
    plain = tmp_path / f"train{kind}"
    WRITERS[kind](plain, table)
    path = plain.with_name(f"{plain.name}{packed}")
    if packed == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif packed in (".bz2", ".xz"):
        path.write_bytes({".bz2": bz2, ".xz": lzma}[packed].compress(plain.read_bytes()))
    elif packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, plain.name)
            archive.writestr("__MACOSX/._train.csv", "x")
    assert rows(read_table(path)) == table
    if packed:
        plain.unlink()
    assert find_table(tmp_path, "train") == path


@pytest.mark.parametrize("name", ["train.xlsx", "train.arff", "train.xlsx.gz", "train", "train.gz"])
def test_a_kind_that_nobody_registered_is_an_error_that_names_the_file_and_the_kinds(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"id": 1}') if name.endswith(".gz") else b'{"id": 1}')
    with pytest.raises(ValueError) as raised:
        read_table(path)
    assert str(raised.value).startswith(
        f"{path} is no table that can be read: its name should end with {', '.join(READERS)}, "
        "also with .gz, .zip, .bz2, .xz"
    )
    assert ("save the sheet as CSV UTF-8" in str(raised.value)) == ("xlsx" in name)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} has no table named train\* \(\.csv, \.tsv.* say train="):
        find_table(tmp_path, "train")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("a,;\"'\0\r\n\t ")), min_size=1))
def test_a_table_written_as_csv_reads_as_the_same_table(tmp_path_factory, cells):
    path = write_csv(tmp_path_factory.mktemp("csv") / "t.csv", [("a", "b"), *cells])
    filled = [list(row) for row in cells if any(map(str.strip, row))]  # blank rows are left out, and told
    if filled:
        assert rows(read_table(path))[1:] == filled


def test_a_megabyte_in_one_cell_survives(tmp_path):
    text = 'é"\n' * 350_000
    table = read_table(write_csv(tmp_path / "t.csv", [["text", "n"], [text, "1"], ["b", "2"]]))
    assert table["text"][0] == text and table["n"].tolist() == ["1", "2"]


@pytest.mark.parametrize("ids", [[5, 6, 7], [7, 9, 8], ["a", "b", "c"]])
def test_the_index_of_a_parquet_file_is_a_column(tmp_path, ids):
    pd.DataFrame({"id": ids, "x": ["p", "q", "r"]}).set_index("id").to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table["id"].tolist() == [str(one) for one in ids] and table["x"].tolist() == ["p", "q", "r"]
    pd.DataFrame({"x": ["p", "q"]}).to_parquet(tmp_path / "n.parquet")
    assert rows(read_table(tmp_path / "n.parquet")) == [["x"], ["p"], ["q"]]


def test_missing_values_of_parquet_and_json_are_empty_text(tmp_path):
    pd.DataFrame({"id": [1, 2], "x": ["a", None], "y": [0.5, None]}).to_parquet(tmp_path / "t.parquet")
    assert rows(read_table(tmp_path / "t.parquet")) == [["id", "x", "y"], ["1", "a", "0.5"], ["2", "", ""]]
    path = written(tmp_path / "t.jsonl", '{"id": 7.10, "x": null}\n' + '{"y": true, "id": "07"}\n\n')
    assert rows(read_table(path)) == [["id", "x", "y"], ["7.10", "", ""], ["07", "", "true"]]


def test_the_header_again_within_a_file_is_left_out_and_told(tmp_path):
    notes = []
    table = read_table(written(tmp_path / "t.csv", "id,x\n1,a\nid,x\n2,x\nid,x\n"), notes=notes)
    assert rows(table) == [["id", "x"], ["1", "a"], ["2", "x"]]
    assert notes == [("t.csv", "2 rows left out", "they are the header again, as in joined files")]
    assert rows(read_table(written(tmp_path / "one.csv", "x\na\nx\n"))) == [["x"], ["a"], ["x"]]


def test_what_a_txt_holds_says_how_it_is_read(tmp_path):
    fast = written(tmp_path / "t.txt", "__label__salt __label__rice_dish How  long, for rice?\n\n__label__x\n")
    assert rows(read_table(fast)) == [["label", "text"], ["salt rice_dish", "How  long, for rice?"], ["x", ""]]
    for text in ('{"id": 1, "x": "a,b"}\n{"id": 2, "x": "c"}\n', '[{"id": 1, "x": "a,b"}, {"id": 2, "x": "c"}]'):
        assert rows(read_table(written(tmp_path / "j.txt", text))) == [["id", "x"], ["1", "a,b"], ["2", "c"]]
    assert rows(read_table(written(tmp_path / "p.txt", "[id]\tx\n1\ta\n"))) == [["[id]", "x"], ["1", "a"]]


def test_half_an_emoji_in_json_becomes_the_replacement_character(tmp_path):
    assert read_table(written(tmp_path / "t.jsonl", '{"x": "a\\ud83d"}'))["x"][0] == "a\ufffd"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", r"t\.csv is empty \(0 bytes\)"),
        ("t.csv", "\n\n", "it has no header"),
        ("t.csv", "id,x\n", "has a header and no rows"),
        ("t.jsonl", "\n", "has a header and no rows"),
        ("t.csv", "id,x,id\n1,2,3\n", "column 'id' is named twice in the header; rename one"),
        (
            "t.csv",
            "a.json,0,0\n1,2,3\n",
            "column '0' is named twice .* the first line is a row, it seems: put names above",
        ),
        ("t.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', "line 2: a key is named twice"),
        ("t.csv", 'id,x\n1,"a\nb"\n2,b,c\n', r"line 4: the row has 3 cells and the header has 2; a cell with a comma"),
        ("t.tsv", "id\tx\n1\n", r"line 2: the row has 1 cells and the header has 2; a cell with a tab"),
        ("t.csv", 'id,x\n1,a\n2,"b\nthree,cc\n', "line 3: a quote opens in this row and never closes"),
        ("t.csv", 'id,x\n1,a\rb\n2,"c\nd"\n', "line 2: a cell holds a carriage return"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "line 2: every one must be a JSON object"),
        ("t.json", '[\n{"a": 1},\n{"a" 1}\n]', "line 3: this is no JSON .* one object a line, an array"),
        ("t.json", '[{"a": 1}, [2]]', "object 2: every one must be a JSON object"),
        ("t.csv", "<!DOCTYPE html>\n<p>", "is a web page: fetch the file again"),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        ("t.parquet", "x", "is damaged .*: fetch it again"),
        ("t.csv.gz", "x", "is damaged .*: fetch it again"),
        ("t.zip", "x", "is damaged .*: fetch it again"),
    ],
)
def test_a_bad_table_is_an_error_that_says_where(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(written(tmp_path / name, text))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.csv does not exist"):
        read_table(tmp_path / "no.csv")


def test_a_zip_of_two_tables_is_an_error_that_says_how_to_unpack_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
        archive.writestr("b.csv", "x\n1\n")
    with pytest.raises(ValueError, match=r"holds 2 files: a\.csv, b\.csv.*python -m zipfile -e t\.zip"):
        read_table(tmp_path / "t.zip")
