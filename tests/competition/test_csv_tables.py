"""CSV and TSV as people write them: read whole, or an error with the line."""

import csv
import io

import pytest

from kagglekit.competition.formats.csv_ways import WAYS
from kagglekit.competition.read import read_table

QUOTE = '"'
PLAIN = [[str(n), f"text {n}"] for n in range(30)]


def read(tmp_path, text, name="t.csv", **how):
    """Header and rows as lists, and what was told as one text."""
    path, notes = tmp_path / name, []
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    table = read_table(path, notes=notes, **how)
    return [list(table.columns), *table.to_numpy().tolist()], "; ".join(" | ".join(note) for note in notes)


def lines(opened=None, closed=None, before="", sep=","):
    """Thirty rows `n,text n`; a quote before the text of row `opened`, another behind that of row `closed`."""
    rows = (("" if n != opened else QUOTE) + f"text {n}" + ("" if n != closed else QUOTE) for n in range(30))
    rows = (f"{n}{sep}{row}\n" for n, row in enumerate(rows))
    return f"id{sep}text\n{before}{''.join(rows)}"


def escaped(**options):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, escapechar="\\", lineterminator="\n", **options)
    writer.writerows(
        [["id", "text"], ["1", 'He said "hi", ok'], ["2", "C:\\new"], ["3", "ends \\"], ["4", "two\nlines"]]
    )
    return stream.getvalue()


DIVIDED = [
    ("t.csv", "id|text, raw|n\n1|a, b|0\n2|c|1\n", ["id", "text, raw", "n"], "a bar"),
    ("t.csv", "id;text;score\n1;a, b;0,5\n2;c;0,7\n", ["id", "text", "score"], "a semicolon"),
    ("t.csv", "id\ttext, raw\n1\ta, b\n2\tc, d\n", ["id", "text, raw"], "a tab"),
    ("t.csv", 'id,"a;b",text\n1,x;y,z\n2,x,z;z\n', ["id", "a;b", "text"], ""),
    ("t.tsv", "id,text\n1,a\n2,b\n", ["id", "text"], "a comma"),
    ("t.tsv", "text\nlamp, bright\nkettle, cold\n", ["text"], ""),
    ("t.csv", "text\nHello, world\nOne comma, again\n", ["text"], "one column"),
    ("t.csv", "sep=;\nid;text\n1;a\n2;b\n", ["id", "text"], "a semicolon"),
    ("t.txt", "label\ttext\nham\ta, b\nspam\tc\n", ["label", "text"], "a tab"),
    ("t.csv", '"text","n"\n"1","a, b","x"\n"2","c","y"\n', ["", "text", "n"], "one name short"),
    ("t.csv", "id,text\n1,a,\n2,b,\n", ["id", "text"], "left out"),
    ("t.csv", 'id, text\n1, "a, b"\n2, "c"\n', ["id", "text"], "behind a blank"),
]


TABLE = "id,text,n\n" + "".join(f"r{row},it was day {row},{row}\n" for row in range(3))
WORDS = "key,body\n" + "".join(f"r{row},it was day {row}\n" for row in (8, 9, 10))
NAMED = ["id", "text", "n"]
TITLED = [  # text, header, the title that is told
    ("Reviews, exported\n" + TABLE, NAMED, "Reviews, exported"),
    ("Reviews of May\n\n" + TABLE, NAMED, "Reviews of May"),
    ("Reviews of May,,\n,,\n" + TABLE, NAMED, "Reviews of May,, ,,"),
    ("Post,,Label\n" + TABLE, NAMED, "Post,,Label"),
    ("# by us, 2024, CC BY\n# all\n" + TABLE, NAMED, "# by us, 2024, CC BY # all"),
    ("// by us\n" + WORDS, ["key", "body"], "// by us"),
    ("sep=;\n# by us\n" + TABLE.replace(",", ";"), NAMED, "# by us"),
    ("\n" + TABLE, NAMED, ""),
    ("sep=;\nid;text;\n1;a, b;\n2;c;\n", ["id", "text"], ""),
    ("Towns\nRome, Italy\nParis, France\nLyon, France\nNice, France\nLille, France\n", ["Towns"], ""),
    ("#id,text\nr1,a b\nr2,b b\nr10,c d\n", ["#id", "text"], ""),
    (",text,n\na1,x y,1\na2,y y,2\na3,z y,3\n", ["", "text", "n"], ""),
    ("text,n,text\nx,1,x\ny,2,y\nz,3,z\n", ["text", "n"], ""),
]


@pytest.mark.parametrize(("text", "header", "title"), TITLED)
def test_what_stands_above_the_header_is_no_row_and_told(tmp_path, text, header, title):
    table, notes = read(tmp_path, text)
    assert table[0] == header and (f"title of t.csv | {title} | left out" if title else "") in notes
    assert "title of" in notes or not title
    assert len(table) == text[text.index(header[-1]) :].count("\n")


@pytest.mark.parametrize(("name", "text", "header", "told"), DIVIDED)
def test_the_delimiter_divides_header_and_rows_into_as_many_cells(tmp_path, name, text, header, told):
    table, notes = read(tmp_path, text, name)
    assert table[0] == header and len(table) == 3
    assert told in notes and bool(told) == bool(notes)


def test_a_delimiter_that_is_given_is_taken_where_the_header_has_it(tmp_path):
    text = "a,b;c\n1,2;3\n4,5;6\n"
    assert read(tmp_path, text)[0][0] == ["a,b", "c"]
    assert read(tmp_path, text, delimiter=",")[0][0] == ["a", "b;c"]
    with pytest.raises(ValueError, match="delimiter=', ' must be one character"):
        read(tmp_path, text, delimiter=", ")
    assert read(tmp_path, "a\tb,c\n1\t2,3\n", delimiter="\\t")[0][0] == ["a", "b,c"]  # as a shell gives it
    assert read(tmp_path, "id,label\n1,0\n", delimiter="\t")[0][0] == ["id", "label"]


WHOLE = [  # name, text, rows, the way that was told
    ("t.tsv", lines(3, sep="\t"), 30, "mean nothing"),  # never closes
    ("t.tsv", lines(3, 9, sep="\t"), 30, "mean nothing"),  # swallows six rows
    ("t.tsv", lines(3, 3, sep="\t"), 30, "mean nothing"),  # a text in quotes, among others without
    ("t.csv", lines(3), 30, "mean nothing"),
    ("t.csv", lines(3, 9), 30, "mean nothing"),
    ("t.csv", '"id","text"\n1,"a\n2,b"\n3,c\n', 2, ""),  # a header in quotes: cells are
    ("t.csv", lines(before='a,"one\ntwo, three"\n'), 31, ""),
    ("t.csv", lines(before='99,"as I wrote:\n1,x\n2,y"\n'), 31, ""),  # ids that are there already are no rows
    ("t.csv", lines(before='99,"Hello" she said\n98,"a, b"\n'), 32, "kept as text"),
    ("t.csv", "id,text\r1,a\r2,b\nmore\r".replace("\nmore", ""), 2, "carriage return"),
    ("t.csv", 'id,text\n1,a\r2,"b, c"\n3,d\n', 3, "carriage return"),
    ("t.tsv", "id\ttext\tn\n1\ta\rb\t1\n2\tc\t2\n", 2, "mean nothing"),
    ("t.tsv", "id\ttext\n1\ta\\\tb\n2\tc\n", 2, "before delimiters"),
    ("t.tsv", '"id"\t"text"\n"1"\t"All in quotes."\n"2"\t"x"\n', 2, ""),
    ("t.tsv", 'id\ttext\n1\t"a ""b"" c"\n2\tx\n', 2, ""),
]


@pytest.mark.parametrize(("name", "text", "rows", "told"), WHOLE)
def test_a_file_is_read_whole_whatever_its_quotes_mean(tmp_path, name, text, rows, told):
    table, notes = read(tmp_path, text, name)
    assert len(table) - 1 == rows
    assert told in notes and bool(told) == bool(notes)


def test_quotes_that_mean_nothing_are_part_of_the_text(tmp_path):
    table, notes = read(tmp_path, lines(3, 9, sep="\t"), "t.tsv")
    assert table[4:11] == [["3", '"text 3'], *PLAIN[4:9], ["9", 'text 9"']]
    assert "in line 5, a quote that opens in this row closes in line 11, and the lines between look like rows" in notes
    assert len(read(tmp_path, lines(3, 9, sep="\t"), "t.tsv", quotes=True)[0]) == 25
    assert read(tmp_path, 'id\ttext\n1\t"a"\n', "t.tsv", quotes=False)[0][1] == ["1", '"a"']
    assert read(tmp_path, '"id"\t"text"\n1\t"a"\n', "t.tsv", quotes=False)[0] == [["id", "text"], ["1", "a"]]


@pytest.mark.parametrize("options", [{"doublequote": False}, {"quoting": csv.QUOTE_NONE}])
def test_backslashes_before_quotes_and_delimiters_come_back_as_they_were(tmp_path, options):
    table, notes = read(tmp_path, escaped(**options))
    assert table[1:] == [["1", 'He said "hi", ok'], ["2", "C:\\new"], ["3", "ends \\"], ["4", "two\nlines"]]
    assert "a backslash stands before those inside" in notes


def test_a_backslash_that_escapes_nothing_is_text(tmp_path):
    table, _ = read(tmp_path, 'id,text\n1,"She said \\"hi\\", ok"\n2,"C:\\new, x"\n')
    assert table[1:] == [["1", 'She said "hi", ok'], ["2", "C:\\new, x"]]


LOST = [
    (lines(3, before='99,"a, b"\n'), "line 6: a quote opens in this row and never closes"),
    (lines(3, 9, before='99,"a\nb, c"\n'), "line 7: a quote that opens in this row closes in line 13, and the lines"),
    ('x,y\na,"b\nc,d\nee,f"\n' + 'g,"h, i"\n', None),  # nothing says that these are rows
    (
        "x,y\n" + "a b,c d\n" * 3 + 'q,"some\n' + "some, word\n" * 12 + 'end, x"\n' + 'g,"h, i"\n',
        "line 5: a quote that opens",
    ),
    ('id,text\n1,a\n2,"b\nthree,cc\n', "line 3: a quote opens in this row and never closes"),
    ('text\n"Hello\nGood, day\n', "line 2: a quote opens in this row and never closes"),
    ('id,text\n1,"a" b, c\n2,"d, e"\n', "line 2: a quote opens in this row and closes in the middle of the cell"),
    ('id,text\n1,"a\nb "c", d"\n2,"d, e"\n', "line 2: a quote opens in this row and closes in the middle of line 3"),
    ("id,text\n1,a\n2,b,c\n3,d\n", "line 3: the row has 3 cells and the header has 2; a cell with a comma"),
    (
        "Title, of us\n\n" + lines() + "1,2,3\n",
        "line 34: the row has 3 cells and the header has 2; a cell with a comma",
    ),
    ("A, B\nx,y,z\nq,r,s\nt,u\n", "line 2: the row has 3 cells .* has 2; if the first line is a title, delete it"),
]


@pytest.mark.parametrize(("text", "message"), LOST)
def test_what_cannot_be_told_is_an_error_with_the_line(tmp_path, text, message):
    if message is None:
        assert len(read(tmp_path, text)[0]) == 3
        return
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


BLANK = [
    (
        "id,text\n1,a\n2,b\n,\n , \n",
        [["id", "text"], ["1", "a"], ["2", "b"]],
        "2 rows left out | at the end",
    ),
    (
        "id,text\n1,a\n,\n2,b\n\n",
        [["id", "text"], ["1", "a"], ["2", "b"]],
        "1 row left out | the first is data row 2",
    ),
    ("id,text,,\n1,a,,\n", [["id", "text"], ["1", "a"]], "column 4 of t.csv | left out"),
    (",id,text\n0,x,a\n1,y,b\n", [["", "id", "text"], ["0", "x", "a"], ["1", "y", "b"]], "an index that pandas wrote"),
    (",,text\n0,1,a\n", [["", "column 2", "text"], ["0", "1", "a"]], "called 'column 2'"),
    ("id,text,id\n1,a,1\n", [["id", "text"], ["1", "a"]], "read once"),
]


@pytest.mark.parametrize(("text", "rows", "told"), BLANK)
def test_blank_rows_and_columns_without_a_name_are_told(tmp_path, text, rows, told):
    table, notes = read(tmp_path, text)
    assert table == rows
    assert all(part.split(" .* ")[0] in notes for part in told.split(" | "))


def test_every_way_of_reading_has_its_example():
    told = {name for name in WAYS if any(part in name for *_, part in [*DIVIDED, *WHOLE] if part)}
    assert set(WAYS) - told <= {"enclose cells", "enclose cells, and a backslash stands before those inside"}
