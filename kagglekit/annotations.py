"""Types as annotations say them: whether a value fits one, and the value that a text of the command line stands for."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

TYPES = {"bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict, "None": type(None)}
WORDS = {"true": True, "false": False, "none": None, "null": None}


class Twice(ValueError):
    """A key stands twice in a dict of the command line."""


def read_text(text: str, annotation: str) -> Any:
    """The value that a text of the command line stands for where an annotation says what is taken; what fits nothing
    comes back as it reads, for a check to name.

    `2e-5` is a number; a text stays as it is where one is taken; `true`, `false`, `none` and `null` count in any case
    where a bool or None is taken; lists and dicts are written as in Python or as in JSON. Where a list is taken, `a,b`
    has two items and `a` is one; names with commas need the brackets and quotes: `["a,b"]`.
    Raises Twice for a dict that has a key twice.
    """
    read = [WORDS[text.lower()]] if text.lower() in WORDS else []
    for reader in (_read_python, _read_json):
        try:
            read.append(reader(text))
        except Twice:
            raise
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    read = [value for value in read if not isinstance(value, str)]
    several = None if any(isinstance(value, (list, dict)) for value in read) else _read_list(text, annotation)
    tried = [*read, text]
    if several is not None:
        tried.insert(0 if len(several) > 1 or text.startswith("[") else len(tried), several)
    return next((value for value in tried if accepts(annotation, value)), (read or [text])[0])


def _read_list(text: str, annotation: str) -> list | None:
    """`a,b`, and `[a, b]`, which a shell leaves of `["a", "b"]`; None where no list is taken, or an item is empty."""
    items = [text[5:-1] for text in _alternatives(ast.parse(annotation, mode="eval").body) if text.startswith("list[")]
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    parts = [part.strip() for part in inside.split(",")] if inside.strip() else []
    return [read_text(part, items[0]) for part in parts] if items and all(parts) else None


def _alternatives(kind: ast.expr) -> list[str]:
    if isinstance(kind, ast.BinOp):
        return [*_alternatives(kind.left), *_alternatives(kind.right)]
    return [ast.unparse(kind)]


def _read_python(text: str) -> Any:
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _refuse_twice([key.value for key in node.keys if isinstance(key, ast.Constant)])
    return ast.literal_eval(tree)


def _read_json(text: str) -> Any:
    def make(pairs):
        _refuse_twice([key for key, _ in pairs])
        return dict(pairs)

    return json.JSONDecoder(object_pairs_hook=make).decode(text)


def _refuse_twice(names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise Twice(f"{twice[0]!r} stands there twice: say it once")


def example(name: str, annotation: str, text: Any) -> str:
    """How a list or a dict is written on the command line: ", such as folds=0,1"; "" for other types.

    text: what was given in its place; a name alone for a dict of dicts is the key that was meant.
    """
    first = _alternatives(ast.parse(annotation, mode="eval").body)[0]
    if first.startswith("list[list"):
        return f", in quotes: {name}='[[\"a\", 0.5], ...]'"
    if first.startswith("list"):
        return f", such as {name}={'0,1' if first == 'list[int]' else 'a,b'}"
    if first == "bool":
        return ": true or false"
    if not first.startswith("dict"):
        return ""
    key = re.search(r"\w+", text) if isinstance(text, str) and first.startswith("dict[str, dict") else None
    return f", in quotes: {name}='{{\"{key[0] if key else 'key'}\": {'{}' if key else '...'}}}'"


def accepts(annotation: str, value) -> bool:
    """Whether `value` is plain data, and of the type that an annotation describes as text: "list[str] | None"."""
    return is_plain(value) and fits(value, ast.parse(annotation, mode="eval").body)


def fits(value, kind: ast.expr) -> bool:
    """Whether `value` is of the type that an annotation describes (unions, Optional, Literal, list[...], dict[...])."""
    match kind:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(quoted)):
            return fits(value, ast.parse(quoted, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return fits(value, left) or fits(value, right)
        case ast.Name(id="Any"):
            return True
        case ast.Name(id=name) if name in TYPES:
            return isinstance(value, TYPES[name]) and (name == "bool" or not isinstance(value, bool))
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(fits(v, item) for v in value)
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, item])):
            return isinstance(value, dict) and all(fits(k, key) and fits(v, item) for k, v in value.items())
        case ast.Subscript(value=ast.Name(id="Optional"), slice=item):
            return value is None or fits(value, item)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=items):
            allowed = ast.literal_eval(items)
            allowed = allowed if isinstance(allowed, tuple) else (allowed,)
            return any(value == a and type(value) is type(a) for a in allowed)
    raise ValueError(
        f"the annotation {ast.unparse(kind)!r} is not understood: use {', '.join(TYPES)}, list[...], | or Literal"
    )


def is_plain(value) -> bool:
    """Whether `value` reaches a notebook as it is: None, bool, int, float, str; lists, and dicts by text, of these."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))
