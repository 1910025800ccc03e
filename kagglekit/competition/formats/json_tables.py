"""JSON as a table: objects one a line, in an array or by column; lists of words become text, objects become columns."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from json.decoder import WHITESPACE

from kagglekit.competition.formats.encodings import Text

COLUMNS = 2000
TABLE = "kagglekit reads one object a line, an array of objects, or an object of columns"


class Number(str):
    """A number as it is written."""


# An object is a tuple of (key, value), so that a key that is named twice is seen
decoder = json.JSONDecoder(
    object_pairs_hook=tuple,
    parse_int=Number,
    parse_float=Number,
    parse_constant=lambda name: None if name == "NaN" else Number(name),
)


def read_json_table(text: Text) -> tuple[list[str], list[list[str]], list[tuple[str, str, str]]]:
    """Header (the keys in order of appearance), columns, and what was made of lists and objects.

    A missing key is "". A list of words becomes a text, divided by blanks, or by ", " where an item of its column has
    blanks or commas; an object becomes the columns `key.name`; anything deeper stays JSON. Raises ValueError that names
    the line, or the number of the object in an array.
    """
    header: dict[str, None] = {}
    rows = []
    lists: dict[str, list[int]] = {}
    objects: set[str] = set()
    for where, record in _records(text):
        if not isinstance(record, tuple):
            raise ValueError(f"{text.path}, {where}: every one must be a JSON object {{...}}; {TABLE}")
        row = dict(_flat(record, f"{text.path}, {where}", objects))
        for key, value in row.items():
            if isinstance(value, list):
                lists.setdefault(key, []).append(len(rows))
        header.update(dict.fromkeys(row))
        if len(header) > COLUMNS:
            raise ValueError(
                f"{text.path}: its objects have more than {COLUMNS:,} keys; make a list of each such object"
            )
        rows.append(row)
    notes = [(f"{key!r} in {text.path.name}", f"columns {key}.*", "its cells are objects") for key in sorted(objects)]
    for key, places in lists.items():
        divider = join_lists([rows[place][key] for place in places])
        for place in places:
            rows[place][key] = as_text(rows[place][key], divider)
        notes.append((f"{key!r} in {text.path.name}", *describe_lists(len(places), divider)))
    return list(header), [[as_text(row.get(key)) for row in rows] for key in header], notes


def join_lists(cells: list[list]) -> str:
    """What joins the items of a column's lists: a blank between words, ", " between items with blanks or commas, and ""
    for lists of other things, which stay JSON."""
    items = [item for cell in cells for item in cell]
    if any(isinstance(item, (list, tuple, dict)) for item in items):
        return ""
    return ", " if any(isinstance(item, str) and re.search(r"[\s,]", item.strip()) for item in items) else " "


def describe_lists(count: int, divider: str) -> tuple[str, str]:
    """What is told of a column whose cells are lists: found, reason."""
    made = f"text, items divided by {divider!r}" if divider else "kept as JSON"
    return made, f"lists{'' if divider else ' of lists or objects'} in {count:,} of its cells"


def as_text(value, divider: str = "") -> str:
    """A value of JSON as a cell. A lone surrogate, which no file can hold, becomes U+FFFD."""
    if isinstance(value, list) and divider:
        value = divider.join(as_text(item) for item in value)
    elif isinstance(value, (list, tuple, dict)):
        value = _write(value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _write(value) -> str:
    """JSON of a value, its numbers as they were."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_write(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _flat(record: tuple, where: str, objects: set[str], before: str = "") -> Iterator[tuple[str, object]]:
    """Keys and values of an object, those of objects in it as `key.name`."""
    keys = [key for key, _ in record]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{where}: a key is named twice ({next(key for key in keys if keys.count(key) > 1)!r})")
    for key, value in record:
        if isinstance(value, tuple) and value:
            objects.add(before + key)
            yield from _flat(value, where, objects, f"{before}{key}.")
        else:
            yield before + key, value if value != () else None


def _records(text: Text) -> Iterator[tuple[str, object]]:
    """Each object with its place."""
    lines = ((number, line) for number, line in enumerate(text.lines(), 1) if line.strip())
    first = list(islice(lines, 2))
    if not first:
        return
    opening = first[0][1].strip()
    if len(first) > 1 and not opening.startswith("[") and (opening.endswith("}") or not opening.startswith("{")):
        yield from _each_line(text)
        return
    whole = text.whole
    try:
        value = decoder.decode(whole)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and whole.lstrip().startswith("{"):
            yield from _one_after_another(text, whole)
            return
        if opening.startswith("[") and error.msg == "Extra data":
            raise ValueError(f"{text.path}, line 1: every line must be one JSON object {{...}}; {TABLE}") from error
        raise ValueError(f"{text.path}, line {error.lineno}: this is no JSON ({error.msg}); {TABLE}") from error
    if isinstance(value, tuple):
        value = _by_column(text, dict(value))
    for number, record in enumerate(value, 1):
        yield f"object {number}", record


def _each_line(text: Text) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.lines(), 1):  # str.splitlines also splits at U+2028
        if line.strip():
            try:
                yield f"line {number}", decoder.decode(line)
            except ValueError as error:
                raise ValueError(
                    f"{text.path}, line {number}: this is no JSON ({error}); write one object a line"
                ) from error


def _one_after_another(text: Text, whole: str) -> Iterator[tuple[str, object]]:
    """Objects over several lines each, without an array around them."""
    place = WHITESPACE.match(whole).end()
    while place < len(whole):
        line = whole.count("\n", 0, place) + 1
        try:
            record, place = decoder.raw_decode(whole, place)
        except json.JSONDecodeError as error:
            raise ValueError(f"{text.path}, line {error.lineno}: this is no JSON ({error.msg}); {TABLE}") from error
        place = WHITESPACE.match(whole, place).end()
        yield f"line {line}", record


def _by_column(text: Text, value: dict) -> list[tuple]:
    """The rows of an object of columns: lists of one length, or objects with the same keys, as pandas writes them; or
    of one list of objects under any key, and columns beside data."""
    if {"columns", "data"} <= set(value) and isinstance(value["data"], list):
        return [tuple(zip(value["columns"], row, strict=True)) for row in value["data"]]
    inner = list(value.values())
    objects = [one for one in inner if isinstance(one, list) and one and all(isinstance(row, tuple) for row in one)]
    if len(objects) == 1:
        return objects[0]
    if inner and all(isinstance(one, list) for one in inner) and len({len(one) for one in inner}) == 1:
        return [tuple(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    if inner and all(isinstance(one, tuple) and one for one in inner):
        keys = [key for key, _ in inner[0]]
        if all([key for key, _ in one] == keys for one in inner) and all(key.isdecimal() for key in keys):
            return [
                tuple(zip(value, row, strict=True)) for row in zip(*([v for _, v in one] for one in inner), strict=True)
            ]
        name = "key" if any(key == "id" for one in inner for key, _ in one) else "id"
        return [((name, key), *one) for key, one in value.items()]
    return [tuple(value.items())]
