"""Ways to read the rows of a CSV: what quotes and backslashes mean. Each reads a whole file, or says where it ends."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from kagglekit.competition.formats.encodings import Text

NAMES = {"\t": "a tab", "|": "a bar", ";": "a semicolon", ",": "a comma"}  # rarest in prose first
ENCLOSED = re.compile(r'"((?:[^"]|"")*)"')
LONE = re.compile(r"\\(?![\"\\,;|\t\r\n])")  # a backslash that escapes nothing

csv.field_size_limit(2**31 - 1)  # a cell may hold a book


class Misread(ValueError):
    """The file does not fit a way of reading: the line where the row begins, why, and what to do.

    Line 0: nothing in the file speaks for this way.
    """

    def __init__(self, line: int, why: str, advice: str = ""):
        super().__init__(f"{why}; {advice}")
        self.line, self.why = line, why


@dataclass
class Rows:
    """What one way of reading found.

    several: (first line, last line, row) of each row over several lines. mended: lines with quotes that neither open
    nor close a cell, where they were kept as text.
    """

    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    several: list[tuple[int, int, list[str]]] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)


def _enclosed(
    text: Text, delimiter: str, more: int, lines: Callable[[], Iterable[str]] | None = None, careful=False, **options
) -> Rows:
    """Quotes enclose cells, and are doubled in them. The csv module keeps NUL bytes, and knows the lines of a row.

    careful: a line whose quotes neither open nor close a cell is read as text; slower.
    """
    found, last, start, width = Rows(), [""], 1, 0
    lines = lines or text.lines
    reader = csv.reader(_remember(lines(), last) if careful else lines(), delimiter=delimiter, strict=True, **options)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if not careful:
                return _enclosed(text, delimiter, more, lines, careful=True, **options)
            row = [_unquote(cell) for cell in last[0].rstrip("\r\n").split(delimiter)]
            if len(row) != width or reader.line_num != start or "new-line" in str(error) or "unexp" in str(error):
                raise _explain(str(error), start, reader.line_num, delimiter) from error
            found.mended.append(start)
        if not row:
            pass
        elif not found.header:
            found.header, width = row, len(row) + more
        elif len(row) != width:
            raise _ragged(start, row, found.header, delimiter, not found.rows)
        else:
            found.rows.append(row)
            if reader.line_num != start:
                found.several.append((start, reader.line_num, row))
        start = reader.line_num + 1
    if not found.header:
        raise ValueError(f"{text.path} is empty: it has no header")
    return found


def _plain(text: Text, delimiter: str, more: int) -> Rows:
    """Quotes mean nothing, and each line is a row."""
    found, width = Rows(), 0
    for number, line in enumerate(text.lines(), 1):
        line = line.removesuffix("\n").removesuffix("\r")
        if not line:
            continue
        row = line.split(delimiter)
        if not found.header:
            found.header, width = row, len(row) + more
        elif len(row) != width:
            raise _ragged(number, row, found.header, delimiter, not found.rows)
        else:
            found.rows.append(row)
    return found


def _escaped(text: Text, delimiter: str, more: int, sign: str, **options) -> Rows:
    """A backslash before `sign` makes it text. Where some backslash escapes nothing, all others are text too."""
    whole = text.whole
    if "\\" + sign not in whole:
        raise Misread(0, f"no backslash stands before {sign}")
    alone = re.compile(r"\\(?!" + re.escape(sign) + ")") if LONE.search(whole.replace("\\\\", "")) else None
    lines = (lambda: (alone.sub(r"\\\\", line) for line in text.lines())) if alone else text.lines
    return _enclosed(text, delimiter, more, lines, escapechar="\\", **options)


def _returns(text: Text, delimiter: str, more: int) -> Rows:
    if not any("\r" in line.rstrip("\r\n") for line in text.lines()):
        raise Misread(0, "no carriage return ends a line")
    return _enclosed(text, delimiter, more, lambda: text.lines(""))


def _blanks(text: Text, delimiter: str, more: int) -> Rows:
    """A blank stands behind each delimiter, and is no part of the cell."""
    if f'{delimiter} "' not in text.whole:
        raise Misread(0, "no quote stands behind a blank")
    return _enclosed(text, delimiter, more, skipinitialspace=True)


ENCLOSING, PLAIN = "enclose cells", "mean nothing"
WAYS: dict[str, Callable[[Text, str, int], Rows]] = {
    ENCLOSING: _enclosed,
    "enclose cells, behind a blank": _blanks,
    "enclose cells, and a carriage return ends a line": _returns,
    "enclose cells, and a backslash stands before those inside": lambda t, d, m: _escaped(t, d, m, '"'),
    PLAIN: _plain,
    "mean nothing, and a backslash stands before delimiters inside": lambda t, d, m: _escaped(
        t, d, m, d, quoting=csv.QUOTE_NONE
    ),
}


def _remember(lines: Iterable[str], last: list[str]) -> Iterator[str]:
    for line in lines:
        last[0] = line
        yield line


def _unquote(cell: str) -> str:
    enclosed = ENCLOSED.fullmatch(cell)
    return enclosed[1].replace('""', '"') if enclosed else cell


def _explain(error: str, start: int, line: int, delimiter: str) -> Misread:
    if "new-line" in error:
        return Misread(start, "a cell holds a carriage return (\\r) and no quotes", "put the cell in quotes")
    if "unexpected end" in error:
        return Misread(start, "a quote opens in this row and never closes", "close or double it")
    where = "in the middle of the cell" if line == start else f"in the middle of line {line}"
    return Misread(start, f"a quote opens in this row and closes {where}", "double the quotes inside a cell")


def _ragged(line: int, row: list[str], header: list[str], delimiter: str, first: bool) -> Misread:
    advice = f"a cell with {NAMES.get(delimiter, repr(delimiter))} or a line break inside must stand in quotes"
    advice = "if the first line is a title, delete it" if first and len(row) > len(header) else advice
    return Misread(line, f"the row has {len(row)} cells and the header has {len(header)}", advice)
