import gzip
import zipfile

import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.pretraining.corpora import read_corpus
from kagglekit.runs.identity import _files

LINES = "first line\nsecond\n\n \nthird\u2028same\r\nfourth"


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of each kind, one of them in a folder below, and one that is no text."""
    table = pd.DataFrame({"id": ["1", "2", "3"], "text": ["one", " ", "NA"], "title": ["A", "B", ""]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    table.to_parquet(tmp_path / "c.parquet")
    (tmp_path / "deep").mkdir()
    table.to_json(tmp_path / "deep" / "d.jsonl", orient="records", lines=True)
    (tmp_path / "e.txt").write_text(LINES, encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("not this", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize("name", ["a.csv", "b.tsv", "c.parquet", "deep/d.jsonl"])
def test_a_column_of_each_kind_of_table_is_read_and_what_is_empty_left_out(folder, name):
    assert read_corpus([str(folder / name)]) == ["one", "NA"]


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("line", ["first line", "second", "third\u2028same", "fourth"]),
        ("paragraph", ["first line\nsecond", "third\u2028same\nfourth"]),
        ("file", [LINES.replace("\r\n", "\n")]),
    ],
)
def test_plain_text_is_cut_into_lines_or_paragraphs_or_not_at_all(folder, split, texts):
    assert read_corpus([str(folder / "e.txt")], split=split) == texts


def test_a_folder_is_all_its_files_of_text_by_name_and_several_names_stand_in_their_order(folder):
    found = read_corpus([str(folder)])
    assert found == ["one", "NA"] * 4 + ["first line", "second", "third\u2028same", "fourth"]
    assert read_corpus([str(folder / "e.txt"), str(folder / "a.csv")])[-2:] == ["one", "NA"]
    assert read_corpus([]) == []


def test_two_columns_are_joined_as_the_text_of_a_task_is_unless_one_has_such_a_name(folder):
    assert read_corpus([str(folder / "a.csv")], column="title+text") == ["A\ufdd0one", "B\ufdd0 ", "\ufdd0NA"]
    pd.DataFrame({"a+b": ["whole"], "a": ["part"]}).to_csv(folder / "odd.csv", index=False)
    assert read_corpus([str(folder / "odd.csv")], column="a+b") == ["whole"]


def test_packed_files_are_unpacked(folder):
    (folder / "f.txt.gz").write_bytes(gzip.compress("packed\ntoo".encode("utf-16")))
    assert read_corpus([str(folder / "f.txt.gz")], encoding="utf-16") == ["packed", "too"]
    for name, inside in (("g.zip", "e.txt"), ("h.csv.zip", "a.csv")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.write(folder / inside, inside)
        assert read_corpus([str(folder / name)]) == read_corpus([str(folder / inside)])


def test_errors_name_the_file_and_what_is_wrong_with_it(folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv does not exist"):
        read_corpus([str(folder / "nowhere.csv")])
    with pytest.raises(ValueError, match=r"a.csv has no column 'body': it has id, text, title"):
        read_corpus([str(folder)], column="body")
    with pytest.raises(ValueError, match=r"picture.png is no table"):
        read_corpus([str(folder / "picture.png")])
    (folder / "wrong.txt").write_bytes("né".encode("cp1252"))
    with pytest.raises(ValueError, match=r"wrong.txt: byte 0xe9 .* is not utf-8"):
        read_corpus([str(folder / "wrong.txt")])
    (folder / "blank.txt").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"blank.txt holds nothing but white space"):
        read_corpus([str(folder / "blank.txt")])
    with pytest.raises(ValueError, match="split='word'"):
        read_corpus([], split="word")
    (folder / "none").mkdir()
    with pytest.raises(ValueError, match="none holds no file of text"):
        read_corpus([str(folder / "none")])


def test_a_work_folder_is_the_texts_of_train_and_test_as_its_task_reads_them(tmp_path):
    """Whatever the columns are called there; its runs are no text, and its text is no other when a run is added."""
    (tmp_path / "data").mkdir()
    for name, more in (("train", {"mood": list("abab")}), ("test", {})):
        table = pd.DataFrame(
            {"key": [f"{name}{n}" for n in range(4)], "review": [f"{name} {n} is it" for n in range(4)]}
        )
        table.assign(**more).to_csv(tmp_path / "data" / f"{name}.csv", index=False)
    infer(tmp_path / "data")[0].save(tmp_path / "work")
    (tmp_path / "more.txt").write_text("one more")
    names = [str(tmp_path / "work"), str(tmp_path / "more.txt")]
    assert read_corpus(names) == [f"{name} {n} is it" for name in ("train", "test") for n in range(4)] + ["one more"]
    before = list(_files(names))
    (tmp_path / "work" / "base").mkdir()
    (tmp_path / "work" / "base" / "score.json").write_text("{}")
    assert (
        list(_files(names))
        == before
        == [*(tmp_path / "data" / f"{n}.csv" for n in ("train", "test")), tmp_path / "more.txt"]
    )
    with pytest.raises(ValueError, match="column 'text'"):
        read_corpus([str(tmp_path / "data")])
