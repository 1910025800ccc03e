"""Tables as HTML: sides, digits, cuts, and what is left out."""

import re

import numpy as np
import pandas as pd
import pytest

from kagglekit.show.tables import format_numbers, render, shorten


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1490.0, 2], ["1,490", "2"]),
        ([0.97718, 0.5], ["0.9772", "0.5000"]),
        ([0.5, 0.25], ["0.50", "0.25"]),
        ([251.456, 3], ["251.5", "3.0"]),
        ([2e-5, 0.3], ["2e-05", "0.3"]),
        ([-6.36, -10.3333], ["-6.36", "-10.33"]),
        ([1234567.89], ["1,234,568"]),
        ([-0.0, np.nan, 1], ["0", "", "1"]),
        ([np.inf, 1.5], ["inf", "1.5"]),
        ([None, pd.NA], ["", ""]),
    ],
)
def test_numbers_have_as_many_digits_as_the_largest_needs(values, texts):
    assert format_numbers(values) == texts


def test_scores_keep_their_zeros():
    assert format_numbers([0.48, 0.5], fixed=True) == ["0.4800", "0.5000"]
    assert cells(pd.DataFrame({"score": [0.48]}))[1] == [("td", "right", 1, "0.4800")]


@pytest.mark.parametrize(
    ("name", "values", "texts"),
    [
        ("y", ["0.3333333333333333", "1", ""], ["0.3333", "1", ""]),
        ("y", ["-1234567.12345678", "0.00012345678"], ["-1234567", "0.0001235"]),
        ("y", ["1.50"], ["1.50"]),
        ("id", ["0.12345678", "1"], ["0.12345678", "1"]),
        ("id", [1234567, 2**50], ["1234567", "1125899906842624"]),
        ("group", [1234567.0, np.nan], ["1234567", ""]),
    ],
)
def test_long_decimals_of_a_file_are_rounded_and_ids_are_not(name, values, texts):
    shown = cells(pd.DataFrame({name: values, "text": "x"}))
    assert [row[0][3] for row in shown[1:]] == texts


def test_shares_are_percent():
    assert format_numbers([0.0711, 0, 1, np.nan, 0.00004], percent=True) == ["7.1 %", "0 %", "100 %", "", "0.0 %"]


def cells(table):
    """(tag, side, rows that it spans, text) of each cell, row by row."""
    return [
        [(tag, side, int(rows or 1), text) for tag, side, rows, text in re.findall(PATTERN, row)]
        for row in re.findall("<tr>(.*?)</tr>", render(table), re.DOTALL)
    ]


PATTERN = r'<(t[hd]) style="text-align: (\w+);[^"]*"(?: rowspan="(\d+)")?(?: title="[^"]*")?>(.*?)</t'


def test_text_stands_left_and_numbers_right():
    table = pd.DataFrame(
        {"id": ["7", "10"], "text": ["a<b", "c"], "n": [1490, 2], "share": [0.5, 0.25], "no": ["", ""]}
    )
    table.attrs["percent"] = ["share"]
    assert cells(table) == [
        [("th", "left", 1, "id"), ("th", "left", 1, "text"), ("th", "right", 1, "n"), ("th", "right", 1, "share")],
        [
            ("td", "left", 1, "7"),
            ("td", "left", 1, "a&lt;b"),
            ("td", "right", 1, "1,490"),
            ("td", "right", 1, "50.0 %"),
        ],
        [("td", "left", 1, "10"), ("td", "left", 1, "c"), ("td", "right", 1, "2"), ("td", "right", 1, "25.0 %")],
    ]


def test_equal_neighbours_of_an_index_share_a_cell():
    index = pd.MultiIndex.from_tuples([("a", "x"), ("a", "x"), ("b", "x")], names=["class", "text is"])
    shown = cells(pd.DataFrame({"tokens": [1, 2, 3]}, index=index))
    assert shown[0] == [("th", "left", 1, "class"), ("th", "left", 1, "text is"), ("th", "right", 1, "tokens")]
    assert shown[1][0] == ("th", "left", 2, "a") and [len(row) for row in shown] == [3, 3, 2, 3]
    assert shown[3][:2] == [("th", "left", 1, "b"), ("th", "left", 1, "x")]


def test_long_texts_are_cut_and_whole_on_hover():
    text = "word \n" * 100 + '"end"'
    page = render(pd.DataFrame({"text": [text]}))
    assert shorten(text) == "word " * 31 + "word…" and f">{shorten(text)}</td>" in page
    assert 'title="' + "word \n" * 100 + '&quot;end&quot;"' in page
    assert 'title="' not in render(pd.DataFrame({"text": ["short…"]}))


def test_long_tables_say_how_long_they_are():
    page = render(pd.DataFrame({f"c{k}": range(1000) for k in range(30)}))
    assert page.count("<tr>") == 61 and page.endswith("<p>… 1,000 rows, 6 more columns</p>")


def test_columns_of_two_levels_and_dates():
    table = pd.DataFrame({("a", "mean"): [1.5], ("a", "n"): [2], "day": [pd.Timestamp("2026-11-28")]})
    assert [cell[3] for cell in cells(table)[0]][:2] == ["a, mean", "a, n"]
    assert [cell[3] for cell in cells(table)[1]] == ["1.5", "2", "2026-11-28 00:00:00"]


def test_series_and_values_of_any_type():
    assert cells(pd.Series({"a": [1, "b"], "c": True}, name="value").rename_axis("knob"))[1:] == [
        [("th", "left", 1, "a"), ("td", "left", 1, "1, b")],
        [("th", "left", 1, "c"), ("td", "left", 1, "yes")],
    ]
