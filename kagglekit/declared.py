"""Declarations that are read from source: names, knobs and traits of tricks, methods, learners: no torch is loaded.

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
FILLED_IN = {  # what the notebooks fill in themselves: of a masking, of what trains its scorer, of a learner
    "masking": ("mask_id", "vocabulary", "special_ids", "probability", "words", "scorer", "start"),
    "scorer": ("rule", "seed", "save_seconds", "budget"),
    "learner": ("task", "train", "test", "backbone", "cache"),
}


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
def read_methods() -> dict[str, Declared]:
    """The methods, calibrations and thresholds of 4_ensemble: name -> what the class declares that makes it."""
    made = {}
    for node in ast.parse((LIBRARY / "ensembling/methods.py").read_text(encoding="utf-8")).body:
        match node:  # METHODS = {"mean": Method(pools.Mean), "vote": Method(partial(pools.Vote, weighted=True)), ...}
            case ast.Assign(value=ast.Dict(keys=keys, values=[ast.Call(func=ast.Name(id="Method")), *_] as values)):
                for key, value in zip(keys, values, strict=True):
                    maker = value.args[0].args[0] if isinstance(value.args[0], ast.Call) else value.args[0]
                    made[key.value] = maker.attr if isinstance(maker, ast.Attribute) else maker.id
    classes = _read_classes(set(made.values()), sorted((LIBRARY / "ensembling").glob("*.py")))
    for owner, found in classes.items():
        ours = [one for one in found.knobs.values() if not one.name.endswith("_") and one.default is not MISSING]
        classes[owner] = Declared(
            {one.name: replace(one, type=one.type.replace("Sequence", "list")) for one in ours}, {}
        )
    return {name: classes[owner] for name, owner in made.items()}


@cache
def read_learner(name: str) -> Declared:
    """The options of a learner that does not fine-tune, frozen or setfit, as its class declares them."""
    owner = {"frozen": "Frozen", "setfit": "SetFit"}[name]
    return _without(_read_classes([owner], [LIBRARY / f"learners/{name}.py"])[owner].knobs, "learner")


@cache
def read_masking(name: str) -> Declared:
    """The options of a masking of 2_pretrain, those of what trains its scorer among them."""
    owner = "SelectiveMasking" if name == "entropy" else f"{name.title().replace('_', '')}Masking"
    found = _without(_read_classes([owner], [LIBRARY / "pretraining/masking.py"])[owner].knobs, "masking")
    if owner != "SelectiveMasking":
        return found
    nodes = ast.parse((LIBRARY / "pretraining/selective.py").read_text(encoding="utf-8")).body
    (maker,) = [node.args for node in nodes if getattr(node, "name", "") == "train_token_scorer"]
    given = zip(maker.kwonlyargs, maker.kw_defaults, strict=True)
    knobs = {one.arg: replace(_read_knob(one.arg, value), type=ast.unparse(one.annotation)) for one, value in given}
    return Declared(_without(knobs, "scorer").knobs | found.knobs, {})


def _without(knobs: Mapping[str, Knob], filled_in: str) -> Declared:
    return Declared({name: one for name, one in knobs.items() if name not in FILLED_IN[filled_in]}, {})


@cache
def read_names(file: str, *variables: str) -> tuple[str, ...]:
    """The names in catalogues of a file of the library: keys of a dict, names in a tuple, or of what is made there."""
    found = {}
    for node in ast.parse((LIBRARY / file).read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in variables:
            found[target.id] = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts
    listed = (one.args[0] if isinstance(one, ast.Call) else one for name in variables for one in found[name])
    return tuple(getattr(one, "id", getattr(one, "value", "")) for one in listed)


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
            made = MAKERS[maker](*map(_literal, given), **{one.arg: _literal(one.value) for one in options})
            default = made.default if made.default_factory is MISSING else made.default_factory()
            return Knob(name, "Any", default, **made.metadata)
    return Knob(name, "Any", _literal(value))


def _literal(value: ast.expr) -> Any:
    """What an expression says; MISSING where that is known only when it is run."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return MISSING


def check_contents(parameter: str, what: str, recipe: Mapping[str, Any], known: Mapping[str, Declared]) -> None:
    """Raise ValueError unless a recipe, name -> options, has names that are known, and options that these take.

    parameter: such as "tricks". what: one of them, in words: "trick".
    """
    for name, options in recipe.items():
        if name not in known:
            meant = did_you_mean(name, known)
            every = f"{meant} There are" if meant else "; there are"
            raise ValueError(f"{parameter}: there is no {what} {name!r}{every} {', '.join(known)}")
        check_options(f"{parameter}: {name}", options, known[name].knobs)


def check_tricks(recipe: Mapping[str, Any]) -> None:
    """Raise ValueError for tricks that are not in the catalogue, and for options that they do not take."""
    check_contents("tricks", "trick", recipe, read_tricks())


def check_augmenters(recipe: Mapping[str, Any]) -> None:
    """The same for augmenters."""
    check_contents("augment", "augmenter", recipe, read_augmenters())


def check_methods(recipe: Mapping[str, Any]) -> None:
    """The same for the methods of 4_ensemble."""
    check_contents("options", "method", recipe, read_methods())


def check_options(owner: str, options: Any, knobs: Mapping[str, Knob]) -> None:
    """Raise ValueError unless options are a dict of some of these knobs, of their types and in their ranges, and of all
    that have no default. owner: whose they are, such as "tricks: FGM"."""
    if not isinstance(options, dict):
        raise ValueError(f"{owner} takes {', '.join(knobs)} as a dict, not {options!r}: {{}} leaves the defaults")
    check_names(options, knobs, owner)
    for option, one in knobs.items():
        if option in options:
            one.check(options[option], owner)
        elif one.default is MISSING:
            raise ValueError(f"{owner} needs {option}: it has no default")
