import csv
import gzip
import json
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.competition.read import READERS, find_table, read_table

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


WRITERS = {  # a new kind in READERS needs an example here
    ".csv": write_csv,
    ".tsv": lambda path, table: write_csv(path, table, delimiter="\t"),
    ".parquet": lambda path, table: pd.DataFrame(table[1:], columns=table[0]).to_parquet(path),
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".json": write_json_lines,
}


@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
@pytest.mark.parametrize("kind", READERS)
def test_odd_text_survives_in_every_kind_of_file_packed_or_not(tmp_path, kind, packed):
    table = [["id", "text"], *([str(n), text] for n, text in enumerate(ODD))]
    plain = tmp_path / f"train{kind}"
    WRITERS[kind](plain, table)
    path = plain.with_name(f"{plain.name}{packed}")
    if packed == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, plain.name)
            archive.writestr("__MACOSX/._train.csv", "x")
    assert rows(read_table(path)) == table
    if packed:
        plain.unlink()
    assert find_table(tmp_path, "train") == path


@pytest.mark.parametrize("name", ["train.xlsx", "train.feather", "train.xlsx.gz", "train", "train.gz"])
def test_a_kind_that_nobody_registered_is_an_error_that_names_the_file_and_the_kinds(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"id": 1}') if name.endswith(".gz") else b'{"id": 1}')
    with pytest.raises(ValueError) as raised:
        read_table(path)
    assert str(raised.value) == (
        f"{path} is no table that can be read: its name should end with .csv, .tsv, .parquet, .jsonl, .ndjson, .json, "
        "also with .gz or .zip"
    )
    assert all(kind in str(raised.value) for kind in READERS)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} has no table named train\* \(\.csv, \.tsv"):
        find_table(tmp_path, "train")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("a,;\"'\0\r\n\t ")), min_size=1))
def test_a_table_written_as_csv_reads_as_the_same_table(tmp_path_factory, cells):
    path = write_csv(tmp_path_factory.mktemp("csv") / "t.csv", [("a", "b"), *cells])
    assert rows(read_table(path))[1:] == [list(row) for row in cells]


def test_a_megabyte_in_one_cell_survives(tmp_path):
    text = 'é"\n' * 350_000
    table = read_table(write_csv(tmp_path / "t.csv", [["text", "n"], [text, "1"], ["b", "2"]]))
    assert table["text"][0] == text and table["n"].tolist() == ["1", "2"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert rows(read_table(written(tmp_path / "t.csv", "id,x\n1,2\n", "utf-8-sig"))) == [["id", "x"], ["1", "2"]]
    assert rows(read_table(written(tmp_path / "u.csv", "id,x\n1,é\n", "utf-16"), "utf-16")) == [["id", "x"], ["1", "é"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(tmp_path, end):
    assert rows(read_table(written(tmp_path / "t.csv", end.join(["id,x", "1,a", ""])))) == [["id", "x"], ["1", "a"]]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_the_delimiter_is_read_off_the_header(tmp_path, delimiter):
    text = f"id{delimiter}x\n\n1{delimiter}'a b'\n"
    assert rows(read_table(written(tmp_path / "t.csv", text))) == [["id", "x"], ["1", "'a b'"]]


def test_other_encodings_are_read_with_the_parameter(tmp_path):
    path = written(tmp_path / "t.csv", "id,x\n1,价格\n", "gb18030")
    assert read_table(path, encoding="gb18030")["x"][0] == "价格"


def test_bytes_that_are_not_utf8_name_file_byte_line_and_parameter(tmp_path):
    path = written(tmp_path / "t.csv", "id,x\n1,a\n2,£5\n", "cp1252")
    with pytest.raises(ValueError, match=r"t\.csv: byte 0xa3 at offset 11 \(line 3\) is not utf-8.*encoding='cp1252'"):
        read_table(path)
    with pytest.raises(ValueError, match="encoding='utf-16'"):
        read_table(written(tmp_path / "u.csv", "id,x\n1,2\n", "utf-16"))
    with pytest.raises(ValueError, match="encoding='latin-x' is not known"):
        read_table(path, encoding="latin-x")


def test_missing_values_of_parquet_and_json_are_empty_text(tmp_path):
    pd.DataFrame({"id": [1, 2], "x": ["a", None], "y": [0.5, None]}).to_parquet(tmp_path / "t.parquet")
    assert rows(read_table(tmp_path / "t.parquet")) == [["id", "x", "y"], ["1", "a", "0.5"], ["2", "", ""]]
    path = written(tmp_path / "t.jsonl", '{"id": 7.10, "x": null}\n' + '{"y": true, "id": "07"}\n\n')
    assert rows(read_table(path)) == [["id", "x", "y"], ["7.10", "", ""], ["07", "", "true"]]


def test_half_an_emoji_in_json_becomes_the_replacement_character(tmp_path):
    assert read_table(written(tmp_path / "t.jsonl", '{"x": "a\\ud83d"}'))["x"][0] == "a\ufffd"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", r"t\.csv is empty \(0 bytes\)"),
        ("t.csv", "\n\n", "it has no header"),
        ("t.csv", "id,x\n", "has a header and no rows"),
        ("t.jsonl", "\n", "has a header and no rows"),
        ("t.csv", "id,x,id\n1,2,3\n", "column 'id' is named twice"),
        ("t.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', "line 2: a key is named twice"),
        ("t.csv", 'id,x\n1,"a\nb"\n2,b,c\n', r"line 4: the row has 3 cells and the header has 2; a cell with a comma"),
        ("t.tsv", "id\tx\n1\n", r"line 2: the row has 1 cells and the header has 2; a cell with a tab"),
        ("t.csv", 'id,x\n1,a\n2,"b\n3,c\n', "line 3: a quote opens in this row and never closes"),
        ("t.csv", "id,x\n1,a\rb\n", "line 2: a cell holds a carriage return"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "line 2: every line must be one JSON object"),
        ("t.jsonl", '[\n{"a": 1}\n]', "line 1: this is no JSON .* one object a line"),
        ("t.jsonl", '{"a": [1]}\n', "line 1: column 'a' holds a list"),
        ("t.parquet", "x", "no readable parquet file"),
        ("t.csv.gz", "x", "cannot be unpacked"),
        ("t.zip", "x", "cannot be unpacked"),
    ],
)
def test_a_bad_table_is_an_error_that_says_where(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(written(tmp_path / name, text))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.csv does not exist"):
        read_table(tmp_path / "no.csv")


def test_a_zip_of_two_tables_and_a_list_column_are_errors(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
        archive.writestr("b.csv", "x\n1\n")
    with pytest.raises(ValueError, match=r"should hold one table and holds 2 files: a\.csv, b\.csv"):
        read_table(tmp_path / "t.zip")
    pd.DataFrame({"x": [[1]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="column 'x' holds list"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["sample_submission.csv", "sampleSubmission.csv.zip", "Sample-Submission_v2.parquet"])
def test_a_table_is_found_by_the_beginning_of_its_name(tmp_path, name):
    for file in (name, "train.csv", ".sample_submission.csv.12.part", "sample_submission.txt"):
        (tmp_path / file).write_text("x")
    assert find_table(tmp_path, "sample_submission").name == name


def test_the_exact_name_wins_and_otherwise_two_are_an_error(tmp_path):
    (tmp_path / "test_a.csv").write_text("x")
    (tmp_path / "Test_labels.csv").write_text("x")
    with pytest.raises(ValueError, match=r"more than one test\*: Test_labels\.csv, test_a\.csv"):
        find_table(tmp_path, "test")
    (tmp_path / "test.csv").write_text("x")
    assert find_table(tmp_path, "test").name == "test.csv"


def test_a_table_that_is_not_there_is_an_error_that_lists_the_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"no table named train\*.*it holds notes\.txt"):
        find_table(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_table(tmp_path / "nowhere", "train")
