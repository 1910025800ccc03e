"""Style of all tables: text stands left, numbers are rounded, long texts end with "…" and are whole on hover."""

import html
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

CUT = 160  # characters of a cell
HOVER = 3000  # characters that it shows on hover
ROWS, COLUMNS = 60, 24  # of a table, at most
DIGITS = 4  # of the largest number of a column
NUMBER = re.compile(r"[-+±~]?\s?[\d,.]+(?:e[-+]?\d+)?(?:\s?%)?|")  # a text that is written as a number, or none
DECIMAL = re.compile(r"-?\d+(?:\.\d+)?|")  # a number, as files have it; rounded where it has more places than
PLACES = 6
PLAIN = ("id", "ids", "group", "fold", "seed")  # numbers that are names: no commas
STYLE = {"left": "text-align: left; vertical-align: top", "right": "text-align: right; vertical-align: top"}


def style_tables() -> None:
    """Show every table of this notebook in the style of `render`; outside a notebook nothing changes."""
    with suppress(ImportError):
        from IPython import get_ipython

        if shell := get_ipython():
            pd.set_option("display.max_colwidth", CUT)  # of the plain text behind the table
            for kind in (pd.DataFrame, pd.Series):
                shell.display_formatter.formatters["text/html"].for_type(kind, render)


def render(table: pd.DataFrame | pd.Series) -> str:
    """A table as HTML; text left, numbers right. Long texts are cut to `CUT` characters, or to those in
    `table.attrs["characters"]`, long tables to `ROWS` rows.

    Numbers have commas between thousands, and as many digits as the largest of their column needs. Columns that are
    named in `table.attrs["percent"]` hold shares. An index of row numbers is left out, and so are columns without any
    value.
    """
    table = table.to_frame() if isinstance(table, pd.Series) else table
    percent, characters = table.attrs.get("percent", ()), table.attrs.get("characters", CUT)
    rows, hidden = len(table), max(table.shape[1] - COLUMNS, 0)
    table = table.iloc[:ROWS, :COLUMNS]
    cells = [_column(name, table.iloc[:, k], name in percent) for k, name in enumerate(table.columns)]
    heads = [*_index_columns(table.index), *(cell for cell in cells if any(cell[1]))]
    lines = ["<tr>" + "".join(_cell("th", name, side) for name, _, side, _ in heads) + "</tr>"]
    body = []
    for row in range(len(table)):
        shown = ((tag, values[row], side, spans[row]) for _, values, side, (tag, spans) in heads if spans[row])
        parts = [_cell(*cell, characters) for cell in shown]
        body.append(f"<tr>{''.join(parts)}</tr>")
    more = [f"{rows:,} rows"] * (rows > ROWS) + [f"{hidden} more columns"] * (hidden > 0)
    note = f"<p>… {', '.join(more)}</p>" if more else ""
    return f'<table class="dataframe"><thead>{"".join(lines)}</thead><tbody>{"".join(body)}</tbody></table>{note}'


def format_numbers(values: Iterable[float], percent: bool = False, fixed: bool = False) -> list[str]:
    """Numbers of one column as texts: as many digits as the largest needs, and "" for those that are missing.

    1490.0 is "1,490", 0.97718 is "0.9772"; one that would be 0 keeps a digit: "2e-05". percent: 0.0711 is "7.1 %".
    fixed: zeros at the end stay, as in 0.4800.
    """
    numbers = np.array([np.nan if pd.isna(value) else float(value) for value in values])
    finite = np.abs(numbers[np.isfinite(numbers)])
    if percent:
        return ["" if math.isnan(v) else f"{100 * v:.{0 if v in (0, 1) else 1}f} %" for v in numbers]
    if not len(finite) or (finite == np.rint(finite)).all():
        places = 0
    else:
        places = int(np.clip(DIGITS - 1 - math.floor(math.log10(finite.max())), 0, DIGITS))
        while not fixed and places > 1 and (np.round(finite, places) == np.round(finite, places - 1)).all():
            places -= 1

    def one(value: float) -> str:
        if math.isnan(value):
            return ""
        text = f"{value or 0.0:,.{places}f}"
        return f"{value:.1g}" if value and not float(text.replace(",", "")) else text

    return list(map(one, numbers))


def shorten(text: Any, characters: int = CUT) -> str:
    """A text on one line, cut where it is longer than `characters`, with "…" at its end."""
    text = " ".join(str(text).split())
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _column(name: Any, column: pd.Series, percent: bool) -> tuple[str, list[Any], str, tuple[str, list[int]]]:
    """Name, texts, side, and for each row the tag and how many rows it spans."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and name in PLAIN:
        values = ["" if pd.isna(value) else f"{value:.16g}" for value in column]
    elif numeric:
        values = format_numbers(column, percent, fixed="score" in str(name))
    else:
        values = [_write(value) for value in column]
    long = not numeric and any(len(value.partition(".")[2]) > PLACES for value in values)
    if long and name not in PLAIN and all(map(DECIMAL.fullmatch, values)):
        digits = [max(DIGITS, len(value.partition(".")[0].lstrip("-"))) for value in values]
        values = [value and f"{float(value):.{some}g}" for value, some in zip(values, digits, strict=True)]
    right = numeric or (name not in PLAIN and all(NUMBER.fullmatch(value) for value in values))
    title = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
    return title, values, "right" if right else "left", ("td", [1] * len(values))


def _write(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating, int, np.integer)):
        return format_numbers([value])[0]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_write, value))
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)


def _index_columns(index: pd.Index) -> list[tuple[str, list[Any], str, tuple[str, list[int]]]]:
    """The levels of an index as columns, equal neighbours in one cell; none for plain row numbers."""
    if isinstance(index, pd.RangeIndex) and index.name is None:
        return []
    found, starts = [], np.zeros(len(index), dtype=bool)
    for level in range(index.nlevels):
        values = [str(value) for value in index.get_level_values(level)]
        starts = starts | np.array([k == 0 or value != values[k - 1] for k, value in enumerate(values)], dtype=bool)
        if level == index.nlevels - 1:
            starts = np.ones(len(index), dtype=bool)
        begin = np.append(np.flatnonzero(starts), len(index))
        spans = np.zeros(len(index), dtype=int)
        spans[begin[:-1]] = np.diff(begin)
        name = "" if index.names[level] is None else str(index.names[level])
        found.append((name, values, "left", ("th", spans.tolist())))
    return found


def _cell(tag: str, value: str, side: str, rows: int = 1, characters: int = CUT) -> str:
    short = shorten(value, characters)
    whole = f' title="{html.escape(value[:HOVER])}"' if short.endswith("…") and short != value else ""
    span = f' rowspan="{rows}"' if rows > 1 else ""
    wrap = "; white-space: nowrap" if len(short) <= 24 else "; min-width: 16em" if len(short) > 60 else ""
    return f'<{tag} style="{STYLE[side]}{wrap}"{span}{whole}>{html.escape(short)}</{tag}>'
