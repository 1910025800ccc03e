"""Which encoding a file is written in: its mark decides, then UTF-8, then what was given or guessed."""

import gzip
import zipfile

import pytest

from kagglekit.competition.formats.encodings import find_encoding, unpack
from kagglekit.competition.read import read_table

TEXTS = {
    "cp1252": "Le café était très agréable, à Noël “déjà” où naïve",
    "cp1250": "Zażółć gęślą jaźń, bardzo dobry film, świetna obsługa, źdźbło",
    "cp1251": "Это очень хороший фильм, мне не понравилось обслуживание",
    "gb18030": "这部电影非常好看，服务员的态度太差了，房间很干净",
    "big5": "這部電影非常好看，服務態度很差，房間很乾淨",
    "cp932": "この映画はとても面白かったです。サービスが悪い",
    "cp949": "이 영화는 정말 재미있었다. 서비스가 나빴다. 방은 깨끗했다",
    "cp1256": "هذا الفيلم جميل جدا والخدمة سيئة",
}


def written(tmp_path, text, encoding, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_is_guessed_and_told(tmp_path, encoding):
    text = TEXTS[encoding]
    path = written(tmp_path, f"id,x\n1,{text}\n2,plain\n".replace(", ", " "), encoding)
    notes = []
    assert read_table(path, None, notes=notes)["x"][0] == text.replace(", ", " ")
    assert notes == [("encoding of t.csv", encoding, "a guess; encoding= says another")]


def test_few_bytes_are_taken_for_the_most_usual_encoding_that_fits(tmp_path):
    assert read_table(written(tmp_path, "id,价格\n1,0\n", "gb18030"), None).columns[1] == "价格"
    assert read_table(written(tmp_path, "id,x\n1,It’s £5\n", "cp1252"), None)["x"][0] == "It’s £5"


@pytest.mark.parametrize("given", ["utf-8", "gb18030", "cp1252", "utf-16", None])
@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides_whatever_was_given(tmp_path, mark, given):
    table = read_table(written(tmp_path, "id,x\n1,é价\n2,b\n", mark), given)
    assert table.to_dict("list") == {"id": ["1", "2"], "x": ["é价", "b"]}


@pytest.mark.parametrize("given", ["gb18030", "cp1252", "utf-16-le"])
def test_a_file_in_utf8_is_read_as_that_beside_files_of_another_encoding(tmp_path, given):
    assert read_table(written(tmp_path, "id,x\n1,价格很好\n", "utf-8"), given)["x"][0] == "价格很好"


def test_utf16_without_a_mark_is_seen_by_its_zeros(tmp_path):
    for encoding in ("utf-16-le", "utf-16-be"):
        path = written(tmp_path, "id,x\n1,abc é\n", encoding)
        assert read_table(path, None)["x"][0] == read_table(path, encoding)["x"][0] == "abc é"
        with pytest.raises(ValueError, match=f"perhaps encoding='{encoding}'|column"):
            read_table(path, "ascii")


def test_a_few_damaged_bytes_in_utf8_are_an_error_with_the_line_and_no_guess(tmp_path):
    data = ("id,x\n" + "1,价格很好\n" * 9).encode() + b"2,\xa35\n"
    with pytest.raises(ValueError, match=r"byte 0xa3 at offset 142 \(line 11\) is not UTF-8, though the rest is"):
        find_encoding(tmp_path / "t.csv", data, None)
    assert find_encoding(tmp_path / "t.csv", data, "latin-1").encoding == "latin-1"


def test_bytes_that_are_not_of_the_given_encoding_name_line_and_one_that_fits(tmp_path):
    path = written(tmp_path, "id,x\n1,a\n2,£5\n", "cp1252")
    with pytest.raises(ValueError, match=r"t\.csv: byte 0xa3 at offset 11 \(line 3\) is not utf-8.*encoding='cp1252'"):
        read_table(path)
    with pytest.raises(ValueError, match="encoding='latin-x' is not known"):
        read_table(path, encoding="latin-x")


def test_a_packed_file_is_unpacked_whatever_its_name_says(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(gzip.compress(b"id,x\n1,a\n"))
    assert unpack(path) == ("train.csv", b"id,x\n1,a\n") and read_table(path)["x"][0] == "a"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.csv", "id,x\n1,b\n")
        archive.writestr("readme.md", "of train")
    assert read_table(path)["x"][0] == "b"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(ValueError, match=r"is a file of Excel.* save the sheet as CSV UTF-8"):
        read_table(path)
