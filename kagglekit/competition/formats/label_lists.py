"""Several labels in one cell: what divides them, how they are read, and written again as the sample writes them."""

import ast
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pandas as pd

from kagglekit.competition.guess import are_numbers

SEPARATORS = {";": "semicolons", "|": "bars", ",": "commas", "、": "、", "，": "，", "\n": "line breaks", "\t": "tabs"}
SEPARATORS |= {"/": "slashes", "+": "plus signs", " ": "blanks", "list": "brackets, as a list"}
PARTS_OF_NAMES = " /+"  # dividers that names of one class have too
BRACKETS = {"[": "]", "(": ")", "{": "}"}
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'", re.DOTALL)
STYLES = {"list": '[", "]', "python": "[', ']"}  # brackets, quotes, and what stands between two labels


def find_separator(column: pd.Series, targets: Iterable[str]) -> str:
    """What divides several labels within a cell, one of `SEPARATORS`; "" where a cell is one label.

    Labels are no more than their combinations, and divided by blanks, slashes or plus signs they are fewer, and mostly
    stand alone too, as words of a name do not; all of them may be columns of the sample submission instead.
    """
    cells = column[column.str.strip() != ""].value_counts()
    lists = [split_labels(cell, "list") is not None for cell in cells.index]
    if sum(lists) > len(lists) / 2:
        return "list" if all(lists) else ""
    for sep in (one for one in SEPARATORS if one != "list"):
        written = [split_labels(cell, sep) for cell in cells.index]
        rows = [frozenset(row) for row in written]
        labels = frozenset().union(*rows)
        several = sum(count for row, count in zip(rows, cells, strict=True) if len(row) > 1)
        numbers = sep in ",，" and are_numbers(labels).all() and not labels <= set(targets)
        if several < 2 or len(labels) > cells.sum() / 2 or (numbers and not _list_numbers(written)):
            continue
        alone = {label for row in rows if len(row) == 1 for label in row}
        named = sep in PARTS_OF_NAMES and (len(labels) == len(set(rows)) or len(alone) < 0.8 * len(labels))
        named = named and not all(label.startswith("#") for label in labels)
        if labels <= set(targets) or (len(labels) <= len(set(rows)) and not named):
            return sep
    return ""


def _list_numbers(rows: list[list[str]]) -> bool:
    """Whether numbers divided by commas are labels, and neither decimals (3,7) nor thousands (1,500,000).

    What follows a comma is a number like those at the start, and more than one is; in pairs the smaller one goes first,
    and none is twice in a cell. Half points (1,5 2,5 3) have one number behind, tenths (4,8) have some that stand only
    there.
    """
    first, behind = {row[0] for row in rows if row}, {part for row in rows for part in row[1:]}
    plain = all(part.isdecimal() and part == str(int(part)) for part in first | behind)
    if max(map(len, rows), default=0) > 2:
        return plain and (behind <= first or any(len(part) != 3 for part in behind))
    return plain and len(behind) > 1 and behind <= first and all(int(row[0]) < int(row[-1]) for row in rows if row[1:])


def split_labels(cell: str, sep: str) -> list[str] | None:
    """The labels of a cell; None where it should be a list in brackets and is none.

    Lists are those of JSON and Python, sets, arrays as numpy writes them (['a' 'b'], [0 2]) and databases ({a,b}).
    """
    if sep != "list":
        return [part.strip() for part in cell.split(None if sep == " " else sep) if part.strip()]
    cell = cell.strip()
    if not cell:
        return []
    inside = cell[1:-1].strip()
    if BRACKETS.get(cell[0]) != cell[-1]:
        return None
    if quoted := QUOTED.findall(inside):
        return [_read(one) for one in quoted] if re.fullmatch(r"[\s,]*", QUOTED.sub("", inside)) else None
    if re.search(r"[\[\](){}:'\"]", inside):
        return None
    parts = [part.strip() for part in inside.split(",") if part.strip()]
    words = inside.split()
    parts = words if len(parts) == 1 and are_numbers(words).all() else parts
    return parts if cell[0] != "(" or are_numbers(parts).all() else None


def _read(quoted: str) -> str:
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return read(quoted).strip()
    return quoted[1:-1].strip()


def find_joiner(sample: Iterable[str], train: Iterable[str], names: Iterable[str], default: str) -> str:
    """What stands between the labels of a cell of the sample, or of train where the sample shows one alone: a divider
    with its blanks; "list" or "python" for such a list; or brackets, quotes and divider (`{","}`); else default.

    names: the labels, by which a divider is known from the signs of their names.
    """
    both = [[cell.strip() for cell in cells if cell.strip()] for cells in (sample, train)]
    lists = [cells for cells in both if cells and all(split_labels(cell, "list") is not None for cell in cells)]
    if lists and lists[0] is (both[0] or both[1]):
        cell, *others = (max(cells, key=lambda cell: len(split_labels(cell, "list"))) for cells in lists)
        quote = next((sign for sign in ('"', "'") if cell[1:].lstrip()[:1] in ("]", sign)), "")
        several = [one[1:-1] for one in (cell, *others) if len(split_labels(one, "list")) > 1]
        between = next((sign for one in several for sign in (", ", ",", " ") if sign in one), ", ")
        style = f"{cell[0]}{quote}{between}{quote}{cell[-1]}"
        return next((name for name, usual in STYLES.items() if usual == style), style)
    for cells in both:
        found = [sep for sep in SEPARATORS if any(sep in cell for cell in cells)]
        known = [sep for sep in found if {one for cell in cells for one in split_labels(cell, sep)} <= {*names}]
        for sep in [*known, *(sep for sep in found if sep == default != " "), *found][:1]:
            shown = (re.search(rf"\S(\s*{re.escape(sep)}+\s*)\S", cell) for cell in cells)
            return next((match[1] for match in shown if match), sep)
    return default


def divider_of(joiner: str) -> str:
    """The `sep` of `split_labels` that reads what `join_labels` writes."""
    return "list" if joiner in STYLES or joiner[:1] in (*BRACKETS,) else joiner


def join_labels(labels: Sequence[str], joiner: str) -> str:
    """Labels as one cell, see `find_joiner`."""
    if divider_of(joiner) != "list":
        return joiner.join(labels)
    style = STYLES.get(joiner, joiner)
    quote = {'"': lambda label: json.dumps(label, ensure_ascii=False), "'": repr}.get(style[1:2], str)
    return style[0] + style[1:-1].strip("'\"").join(map(quote, labels)) + style[-1]
