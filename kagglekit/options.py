"""Knobs and the values they may have."""

import ast

TYPES = {"bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict, "None": type(None)}


def check_range(name: str, value, fits: bool, rule: str) -> None:
    """Raise ValueError that names a parameter, what it got and the rule, unless it `fits`."""
    if not fits:
        raise ValueError(f"{name}={value!r} is out of range: it must be {rule}")


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
