"""CSV and TSV: what divides cells and what quotes mean, decided by counting; a file is read whole, or not at all."""

import csv
import re
from collections.abc import Callable, Sized
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from kagglekit.competition.formats.csv_ways import ENCLOSED, ENCLOSING, NAMES, PLAIN, WAYS, Misread, Rows
from kagglekit.competition.formats.encodings import Text

ALONE = "\x1f"  # divides nothing: a file of one column
SOME = 200  # rows that show the delimiter
MANY = 10  # lines in one cell that could all be rows
ABOVE = 20  # lines above a header, at most
SEP = re.compile(r"sep=(.)\s*")  # the line that Excel reads
COMMENT = re.compile(r"#+\s|//|%\s")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def read_csv(
    text: Text, own: str, delimiter: str | None = None, quotes: bool | None = None
) -> tuple[list[str], list[list[str]], list[tuple[str, str, str]]]:
    """Header, rows, and what was guessed: (what, found, reason).

    own: the delimiter that the file's name promises. delimiter, quotes: as given; None decides by counting. Usually
    quotes enclose cells, and each row has the header's cells. Where that does not hold, or would make one cell of lines
    that look like rows, other ways are tried (`WAYS`). Raises ValueError that names the line.
    """
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ValueError(f"delimiter={delimiter!r} must be one character, such as ';' or a tab")
    text, titles = _skip_titles(text, delimiter)
    said = SEP.match(titles)
    divider, more = find_delimiter(text, own, delimiter or (said and said[1]))
    try:
        name, rows, problem = _read(text, divider, own, quotes)
        more = 0
    except ValueError as error:
        if not more:
            raise
        try:
            name, rows, problem = _read(text, divider, own, quotes, more)
        except ValueError:
            raise error from None
    notes, file = _delimiter_note(text, own, divider), text.path.name
    if shown := " ".join(SEP.sub("", titles).split()):
        notes.append((f"title of {file}", shown[:40], f"left out: the header is line {text.above + 1}"))
    if name != ENCLOSING:
        reason = f"else, in line {problem.line}, {problem.why}" if problem else "given, or as in train"
        notes.append((f"quotes in {file}", name, f"each row has the cells of the header; {reason}"))
    if rows.mended:
        reason = f"in {count(rows.mended, 'line')}, first line {rows.mended[0]}, they neither open nor close a cell"
        notes.append((f"quotes in {file}", "kept as text", reason))
    if more and any(row[-1] for row in rows.rows):
        rows.header.insert(0, "")
        notes.append(
            (f"header of {file}", "one name short", "each row has one cell more; the first column is named ''")
        )
    elif more:
        rows.header.append("")
    return rows.header, rows.rows, notes


def _read(text: Text, divider: str, own: str, quotes: bool | None, more: int = 0) -> tuple[str, Rows, Misread | None]:
    """The way that fits, its rows, and what spoke against the usual one. more: cells that the header lacks."""
    if quotes is False and _header(text).startswith('"'):
        quotes = None  # of text alone
    ways = {name: way for name, way in WAYS.items() if quotes is not False or name == PLAIN} | WAYS
    best, problem, strict = None, None, False
    for name, way in ways.items():
        if name == PLAIN and divider == ALONE and own != "\t" and quotes is None:
            continue  # lines of one column always fit
        try:
            rows = way(text, divider, more)
        except Misread as error:
            strict = strict or problem is None
            problem = (
                error if problem is None or (error.line and problem.line == 1 and "\\r" in problem.why) else problem
            )
            continue
        if name == PLAIN and quotes is None and divider != "\t" and not any(_shapes(rows)):
            continue  # lines that agree in the number of their commas alone
        doubt, serious = _doubt(text, rows, divider) if name == ENCLOSING and quotes is None else (None, False)
        if doubt is None:
            return name, rows, problem
        best, problem, strict = (name, rows), doubt, serious
    if best is None or strict:
        raise ValueError(f"{text.path}, line {problem.line}: {problem}")
    return *best, problem


def count(things: Sized, name: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _header(text: Text) -> str:
    return next((line for line in text.lines() if line.strip()), "").lstrip()


# The delimiter


def find_delimiter(text: Text, own: str, given: str | None = None) -> tuple[str, int]:
    """The delimiter, and 1 where every row has one cell more than the header, as R writes row names, else 0.

    It divides the header and most of the first 200 rows into as many cells; of several the one with the most cells,
    then the rarest in prose. `ALONE` where none does.
    """
    lines = list(islice((line for line in text.lines() if line.strip()), SOME))
    if len(lines) < 2 and "\r" in "".join(lines).strip():
        lines = list(islice((line for line in text.lines("") if line.strip()), SOME))
    header = lines[0] if lines else ""
    found = {one: _share(lines, one) for one in ([given] if given and given in header else NAMES) if one in header}
    if given in found:
        return given, found[given][2]
    share, _, more, best = max(((*score, one) for one, score in found.items()), key=_rank, default=(0, 0, 0, ALONE))
    if share:
        return best, more
    return (own, 0) if own in found else (ALONE, 0)


def _skip_titles(text: Text, given: str | None) -> tuple[Text, str]:
    """The text without what stands above its header, and that: a title, comments, names over several columns, `sep=;`.

    Those have more or fewer cells than the rows, blank ones, or begin as comments do. The header is a line of names, as
    many as most rows have cells, no number; and where not all above are comments, some name fits no cell of its column.
    """
    lines = [(n, line) for n, line in enumerate(islice(text.lines(), SOME + ABOVE)) if line.strip()]
    header = start = int(len(lines) > 1 and SEP.fullmatch(lines[0][1]) is not None)
    for place, (_, line) in enumerate(lines[start:ABOVE], start):
        below = [line for _, line in lines[place:]]
        rows = max((_rows(below, one) for one in ([given] if given else NAMES) if one in line), key=len, default=[])
        names = [cell.strip() for cell in rows[0]] if rows else []
        named = "" not in names and len({*names}) == len(names) > 1
        comments = all(COMMENT.match(above) for _, above in lines[start:place])
        if place == start and named and not COMMENT.match(line):
            break
        shapes = map(_shape, zip(*rows[1:], strict=True))
        odd = comments or any(shape and not shape(name) for name, shape in zip(names, shapes, strict=False))
        if place > start and named and odd and not any(map(NUMBER.fullmatch, names)):
            header = place
            break
    return replace(text, above=lines[header][0] if header else 0), "".join(line for _, line in lines[:header])


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    """The lines as rows, where most have as many cells as the first; else none."""
    ways = [[line.rstrip("\r\n").split(delimiter) for line in lines]]
    with suppress(csv.Error):
        ways.insert(0, [row for row in csv.reader(lines, delimiter=delimiter) if row])
    for rows in ways:
        same = [row for row in rows if len(row) == len(rows[0])]
        if len(same) > 0.9 * len(rows):
            return same
    return []


def _rank(score: tuple[float, int, int, str]) -> tuple:
    return round(score[0], 1), score[1], -list(NAMES).index(score[3])


def _share(lines: list[str], delimiter: str) -> tuple[float, int, int]:
    """The share of lines with the cells of the header, their number, and 1 where all have one more than the header."""
    ways, escape = [], "\\" if any('\\"' in line for line in lines) else None
    with suppress(csv.Error):
        ways.append([len(row) for row in csv.reader(lines, delimiter=delimiter, escapechar=escape) if row])
    ways.append([line.count(delimiter) + 1 for line in lines])
    best = (0.0, 0, 0)
    for first, *rest in ways:
        short = rest and set(rest) == {first + 1} and (ways[0] == [first, *rest])
        for more in (0, 1) if short else (0,):
            share = sum(width == first + more for width in rest) / len(rest) if rest else 1.0
            best = (share, first, more) if share > best[0] else best
    return best


def _delimiter_note(text: Text, own: str, divider: str) -> list[tuple[str, str, str]]:
    if divider == own:
        return []
    what, name = f"delimiter of {text.path.name}", NAMES.get(divider, repr(divider))
    if divider != ALONE:
        return [(what, name, "it divides the header and the rows into as many cells; delimiter= says another")]
    first = next((line for line in text.lines() if own in line), None)
    return [(what, "none: one column", f"the header has none; {NAMES[own]} is part of the text")] if first else []


# Doubts about quotes that enclose cells


def _doubt(text: Text, found: Rows, delimiter: str) -> tuple[Misread | None, bool]:
    """Why quotes might mean nothing after all, and whether the rows cannot be taken as they are."""
    if _header(text).startswith('"'):
        return None, False  # a header in quotes
    shapes = None
    for start, end, row in found.several:
        joined = delimiter.join(row)
        if joined.count(delimiter, 0, joined.find("\n")) != len(row) - 1:
            continue
        lines = joined.split("\n")
        if any(line.count(delimiter) != len(row) - 1 for line in lines):
            continue
        shapes = shapes if shapes is not None else _shapes(found)
        known = [(i, shape) for i, shape in enumerate(shapes) if shape] if len(row) > 1 else []
        if known and not all(shape(line.split(delimiter)[i]) for line in lines[1:] for i, shape in known):
            continue
        if known or len(lines) >= MANY or (delimiter == "\t" and len(row) > 1):
            why = f"a quote that opens in this row closes in line {end}, and the lines between look like rows"
            return Misread(start, why, "close it in its line, or say quotes=True if they are one cell"), bool(
                known
            ) or len(lines) >= MANY
    if found.mended:
        return Misread(found.mended[0], "a quote neither opens nor closes a cell"), False
    needless = _needless(text, found) if delimiter == "\t" and not found.several else 0
    return (
        (Misread(needless, "quotes enclose a cell that needs none, and others of its column have none"), False)
        if (needless)
        else (None, False)
    )


def _shapes(found: Rows) -> list[Callable[[str], bool] | None]:
    """For each column what its cells have in common: numbers, one length without blanks, or few values; else None."""
    over = {id(row) for _, _, row in found.several}
    rows = [row for row in islice(found.rows, 5000) if id(row) not in over]
    return [_shape([row[i] for row in rows]) for i in range(len(rows[0]))] if rows else []


def _shape(cells: list[str]) -> Callable[[str], bool] | None:
    values = set(cells)
    if len(cells) < 3:
        return None
    if all(NUMBER.fullmatch(value) for value in values):
        ids = values if len(values) == len(cells) else ()
        return lambda cell: NUMBER.fullmatch(cell) is not None and cell not in ids
    lengths = {len(value) for value in values}
    if len(lengths) == 1 and not any(re.search(r"\s", value) for value in values):
        return lambda cell: len(cell) in lengths and not re.search(r"\s", cell)
    return values.__contains__ if len(values) <= len(cells) / 5 else None


def _needless(text: Text, found: Rows) -> int:
    """The first line with a cell in quotes that holds no quote, in a column where other cells stand without; else 0."""
    enclosed: dict[int, list[int]] = {}
    for number, line in enumerate(text.lines(), 1):
        if '"' in line:
            for column, cell in enumerate(line.rstrip("\r\n").split("\t")):
                if ENCLOSED.fullmatch(cell):
                    if '""' in cell[1:-1]:
                        return 0
                    enclosed.setdefault(column, []).append(number)
    for column, lines in enclosed.items():
        if len(lines) < sum(row[column] != "" for row in found.rows):
            return lines[0]
    return 0
