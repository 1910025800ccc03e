"""JSON in the forms that people and pandas write, and cells that are lists and objects."""

import json

import pandas as pd
import pytest

from kagglekit.competition.read import read_table

FRAME = pd.DataFrame({"id": ["1", "2"], "text": ["a, b", "c\u2028d"]})
ROWS = [["id", "text"], ["1", "a, b"], ["2", "c\u2028d"]]
RECORDS = FRAME.to_dict("records")
FORMS = {
    "lines": "\n".join(map(json.dumps, RECORDS)),
    "an array on one line": json.dumps(RECORDS),
    "an indented array": "\n " + json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "indented objects, one after another": "\n".join(json.dumps(record, indent=1) for record in RECORDS) + "\n\n",
    "columns, as pandas writes them": FRAME.to_json(),
    "indented columns": FRAME.to_json(indent=2),
    "columns of lists": json.dumps(FRAME.to_dict("list")),
    "columns beside data": FRAME.to_json(orient="split"),
    "objects by id": FRAME.set_index("id").to_json(orient="index").replace('"1"', '"x1"').replace('"2"', '"x2"'),
    "an array under a name": json.dumps({"version": "1.0", "data": RECORDS}),
}


def read(tmp_path, text, name="t.json"):
    path, notes = tmp_path / name, []
    path.write_text(text, encoding="utf-8", newline="")
    table = read_table(path, notes=notes)
    return [list(table.columns), *table.to_numpy().tolist()], "; ".join(" | ".join(note) for note in notes)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_json_is_the_same_table(tmp_path, form):
    table, notes = read(tmp_path, FORMS[form])
    if form == "objects by id":
        table = [[cell.removeprefix("x") for cell in row] for row in table]
    assert table == ROWS and not notes


CELLS = [
    ([["a", "b"], ["c"], []], ["a b", "c", ""], "divided by ' '"),
    ([["olive oil", "salt"], ["salt"], "thyme"], ["olive oil, salt", "salt", "thyme"], "divided by ', '"),
    ([[1, 2.50], [True, None], None], ["1 2.50", "true ", ""], "divided by ' '"),
    ([[["a"], 1], [{"b": "é"}], []], ['[["a"], 1]', '[{"b": "é"}]', "[]"], "kept as JSON"),
]


@pytest.mark.parametrize(("cells", "texts", "told"), CELLS)
def test_lists_of_words_become_text_and_are_told(tmp_path, cells, texts, told):
    text = (
        json.dumps([{"id": n, "x": cell} for n, cell in enumerate(cells)])
        .replace("2.5,", "2.50,")
        .replace("2.5]", "2.50]")
    )
    table, notes = read(tmp_path, text)
    assert [row[1] for row in table[1:]] == texts
    assert told in notes and "'x' in t.json" in notes


def test_lists_and_structs_of_parquet_become_the_same_text(tmp_path):
    frame = pd.DataFrame(
        {"x": [["a", "b c"], None], "n": [[1], [2, 3]], "o": [{"k": 1, "l": "a"}, {"k": 2, "l": None}]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.to_dict("list") == {"x": ["a, b c", ""], "n": ["1", "2 3"], "o.k": ["1", "2"], "o.l": ["a", ""]}


def test_objects_become_columns_and_a_missing_number_is_empty(tmp_path):
    table, notes = read(
        tmp_path,
        '{"id": 1, "user": {"name": "x", "at": {"n": 01.0}}}\n'.replace("01.0", "1.0") + '{"id": NaN, "user": {}}',
    )
    assert table == [["id", "user.name", "user.at.n", "user"], ["1", "x", "1.0", ""], ["", "", "", ""]]
    assert "columns user.*" in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": 2', r"t\.json, line 2: this is no JSON"),
        ('{"a": 1}\n{"a": \n', r"t\.json, line 2: this is no JSON"),
        ('{\n"a": 1\n}\n{\n"a" 1}', r"t\.json, line 5: this is no JSON"),
        ('[{"a": 1}, 2]', "object 2: every one must be a JSON object"),
        ('[{"a": 1, "a": 2}]', "object 1: a key is named twice"),
        ("[" + ",".join(f'{{"k{n}": 1}}' for n in range(2100)) + "]", "its objects have more than 2,000 keys"),
    ],
)
def test_json_that_is_no_table_is_an_error_that_says_where(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
