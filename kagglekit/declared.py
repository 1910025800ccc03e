"""Declarations that are read from source: names, knobs and traits of tricks and augmenters, without loading torch.

Parameters are checked before a kernel starts, within two seconds, and torch takes longer than that to import. So what a
class says of itself in literals is read from its file, as the parameter cell of a notebook is: `knob(...)`, plain
defaults of a dataclass, and traits such as `needs_dropout = True`. `tests/test_declared.py` compares both ways to read.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kagglekit.options import Knob, check_names, did_you_mean, knob, share

LIBRARY = Path(__file__).parent
MAKERS = {"knob": knob, "share": share}  # functions whose calls, with literals, make the field of a knob


@dataclass(frozen=True)
class Declared:
    """What a class declares in literals. knobs: name -> knob, of its parents too; the default is MISSING where there is
    none. traits: its other attributes, such as needs_dropout."""

    knobs: dict[str, Knob]
    traits: dict[str, Any]


@cache
def read_tricks() -> dict[str, Declared]:
    """The tricks of the catalogue: name -> what its class declares."""
    names = read_names("tricks/__init__.py", "ADVERSARIAL", "AVERAGES", "REGULARISERS")
    return _read_classes(names, sorted((LIBRARY / "tricks").glob("*.py")))


@cache
def read_augmenters() -> dict[str, Declared]:
    """The augmenters of the catalogue: name -> what its class declares."""
    return _read_classes(read_names("augment/catalogue.py", "EVERY"), sorted((LIBRARY / "augment").glob("*.py")))


@cache
def read_names(file: str, *variables: str) -> tuple[str, ...]:
    """The names in catalogues of a file of the library: keys of a dict, or names in a tuple."""
    found = {}
    for node in ast.parse((LIBRARY / file).read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in variables:
            found[target.id] = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts
    return tuple(getattr(one, "id", getattr(one, "value", "")) for name in variables for one in found[name])


def _read_classes(names: Iterable[str], files: Iterable[Path]) -> dict[str, Declared]:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    return {name: _read_class(name, classes) for name in names}


def _read_class(name: str, classes: Mapping[str, ast.ClassDef]) -> Declared:
    knobs, traits = {}, {}
    for base in classes[name].bases:
        if isinstance(base, ast.Name) and base.id in classes:
            parent = _read_class(base.id, classes)
            knobs, traits = knobs | parent.knobs, traits | parent.traits
    for node in classes[name].body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=field), annotation=kind, value=value):
                knobs[field] = replace(_read_knob(field, value), type=ast.unparse(kind))
            case ast.Assign(targets=[ast.Name(id=trait)], value=ast.Constant(value=value)):
                traits[trait] = value
    return Declared(knobs, traits)


def _read_knob(name: str, value: ast.expr | None) -> Knob:
    match value:
        case None:
            return Knob(name, "Any", MISSING)
        case ast.Call(func=ast.Name(id=maker), args=given, keywords=options) if maker in MAKERS:
            made = MAKERS[maker](
                *map(ast.literal_eval, given), **{one.arg: ast.literal_eval(one.value) for one in options}
            )
            default = made.default if made.default_factory is MISSING else made.default_factory()
            return Knob(name, "Any", default, **made.metadata)
    return Knob(name, "Any", ast.literal_eval(value))


def check_contents(parameter: str, what: str, recipe: Mapping[str, Any], known: Mapping[str, Declared]) -> None:
    """Raise ValueError unless a recipe, name -> options, has names that are known, and options that these take.

    parameter: such as "tricks". what: one of them, in words: "trick".
    """
    for name, options in recipe.items():
        if name not in known:
            meant = did_you_mean(name, known)
            every = f"{meant} There are" if meant else "; there are"
            raise ValueError(f"{parameter}: there is no {what} {name!r}{every} {', '.join(known)}")
        knobs, owner = known[name].knobs, f"{parameter}: {name}"
        if not isinstance(options, dict):
            raise ValueError(f"{owner} takes {', '.join(knobs)} as a dict, not {options!r}: {{}} leaves the defaults")
        check_names(options, knobs, owner)
        for option, one in knobs.items():
            if option in options:
                one.check(options[option], owner)
            elif one.default is MISSING:
                raise ValueError(f"{owner} needs {option}: it has no default")
