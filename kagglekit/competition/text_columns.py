"""Several text columns as one text: a character between them that no text has, at which everything else splits.

A table's `text` stays one string. Cleaners and augmenters change column by column, tokenizers put their own separator
there, duplicates and TF-IDF tell ("metal kettle", "lid") from ("metal", "kettle lid").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import Formatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # knobs are checked before a kernel starts
    import pandas as pd

SEPARATOR = "\ufdd0"  # a noncharacter of Unicode: for internal use, never part of a text
SHOWN = "⏐"  # in its place, where people read


def read_template(template: str, what: str = "template") -> list[tuple[str, str | None]]:
    """A template over columns, such as "Rule: {rule} Post: {body}", as pairs of literal text and the column behind it.

    A brace itself is written {{ or }}. what: the parameter. Raises ValueError for a lone brace, for anything in braces
    but a name, and for a template without one.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{what}={template!r}: {error}; write a brace itself as {{{{ or }}}}") from None
    for _, name, *more in pieces:
        if name == "" or any(more):
            raise ValueError(f"{what}={template!r}: between braces stands the name of a column and nothing else")
    if not any(name for _, name, *_ in pieces):
        raise ValueError(f"{what}={template!r} names no column: write one in braces, such as {{body}}")
    return [(literal, name) for literal, name, *_ in pieces]


def template_columns(pattern: str, what: str = "template") -> list[str]:
    """The columns that a template names, each once, in its order; raises ValueError as `read_template` does."""
    return list(dict.fromkeys(name for _, name in read_template(pattern, what) if name))


def rename_template(pattern: str, name: Callable[[str], str]) -> str:
    """The template with other names of columns."""
    escaped = ((text.replace("{", "{{").replace("}", "}}"), column) for text, column in read_template(pattern))
    return "".join(text + (f"{{{name(column)}}}" if column else "") for text, column in escaped)


def join_columns(
    table: pd.DataFrame, columns: Sequence[str], separator: str = SEPARATOR, pattern: str | None = None
) -> list[str]:
    """The text of each row: its columns, empty ones too, with `SEPARATOR` between them; or a template, filled.

    A cell that contains the separator itself has U+FFFD there, as for a character that could not be read. separator:
    "\\n" is how tasks of version 0.2 join: by line breaks, without empty columns.
    """
    cells = {column: [cell.replace(SEPARATOR, "\ufffd") for cell in table[column]] for column in columns}
    rows = zip(*(cells[column] for column in columns), strict=True)
    if pattern:
        pieces = [(literal, columns.index(name) if name else None) for literal, name in read_template(pattern)]
        fill = ((literal + (row[at] if at is not None else "") for literal, at in pieces) for row in rows)
        return ["".join(parts) for parts in fill]
    if separator != SEPARATOR:
        rows = ([cell for cell in row if cell.strip()] for row in rows)
    return [separator.join(row) for row in rows]


def split_columns(text: str) -> list[str]:
    """The columns of a text; one that was never joined is its only column."""
    return text.split(SEPARATOR)


def is_empty(text: str) -> bool:
    """Whether no column has anything but white space."""
    return not text.replace(SEPARATOR, "").strip()


def show_columns(text: str) -> str:
    """The text for people to read."""
    return text.replace(SEPARATOR, f" {SHOWN} ")


def change_columns(texts: Sequence[str], change: Callable[[list[str]], Sequence[str]]) -> list[str]:
    """`change(texts)`, given each column of each text as a text of its own."""
    texts = list(texts)
    if not any(SEPARATOR in text for text in texts):
        return list(change(texts))
    rows = [split_columns(text) for text in texts]
    changed = iter(change([column for row in rows for column in row]))
    return [SEPARATOR.join(next(changed).replace(SEPARATOR, "\ufffd") for _ in row) for row in rows]


def swap_columns(text: str, first: int, second: int) -> str:
    """The text with two of its columns, by number, exchanged."""
    row = split_columns(text)
    row[first], row[second] = row[second], row[first]
    return SEPARATOR.join(row)
