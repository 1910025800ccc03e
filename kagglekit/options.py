"""Knobs: each is one field of a dataclass, with its type, default, range, meaning, and what it names.

    @documented
    @dataclass(frozen=True)
    class Recipe(Knobs):
        warmup: float = knob(0.1, "share of the steps in which the rate rises", least=0, below=1)

The parameter cells of notebooks, the checks before a run, what is packed for Kaggle, a run's parents and the manual
(`python -m pydoc kagglekit.training.recipe`) are all read from these fields. This module imports nothing heavy.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from importlib import import_module
from operator import ge, gt, le, lt
from typing import Any, ClassVar

from kagglekit.annotations import accepts

SHORT = 60  # letters of a rule, up to which it stands before what may have been meant
SEEDS = 4_000_000_000  # the largest seed: numpy takes below 2**32, and a fold adds its number
RENAMED = {"beside": "features", "cut": "truncation", "try_rates": "find_learning_rate"}  # names of version 0.1
RENAMED_SINCE = {"pattern": "template", "candidates": "methods"}  # of 1_eda and 4_ensemble: 3_train has such knobs too
SINCE_0_5 = {"pooling": ("mean", "auto"), "checkpointing": (False, None)}  # defaults of version 0.4 and of today


def check_range(name: str, value, fits: bool, rule: str) -> None:
    """Raise ValueError that names a parameter, what it got and the rule, unless it `fits`."""
    if not fits:
        raise ValueError(f"{name}={value!r} is out of range: it must be {rule}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`: did you mean epochs?`, or nothing when no known name is close; letters count in any case."""
    cases = {one.casefold(): one for one in known}
    likeness = {one: difflib.SequenceMatcher(None, name.casefold(), one).ratio() for one in cases}
    close = difflib.get_close_matches(name.casefold(), cases, cutoff=0.6)
    close = [cases[one] for one in close if likeness[one] > likeness[close[0]] - 0.15]
    return f": did you mean {' or '.join(close)}?" if close else ""


def knob(default: Any, words: str, *, kw_only: bool = False, **about: Any) -> Any:
    """A field of a dataclass of `Knobs`. words: what it does, the comment in a parameter cell. about: what else is
    known of it, see `Knob`. kw_only: it is given by name alone."""
    made = {"default_factory": type(default)} if isinstance(default, (list, dict)) else {"default": default}
    return field(**made, kw_only=kw_only, metadata={"words": words, **about})


def share(start: float = 0.0) -> Any:
    """The knob `start` that every trick has."""
    return knob(start, "share of all steps before it begins; 0: from the first step on", least=0, below=1, kw_only=True)


@dataclass(frozen=True)
class Knob:
    """A knob as its field describes it. type: its annotation as text, such as "float | None".

    choices: the texts that it may be; of a list, each item; of a dict, each key, or, of dict[str, str], each value.
    above, least, below, most: of a number, which is finite, or of each in a list; None fits where the type takes it.
    names: what its texts name: "run" (of 2_pretrain, 3_train or 4_ensemble; several joined by +), "file" (or a folder),
    "model" (a folder, or a name of the catalogue or the hub) or "column" (of train); of a dict, key -> one of these,
    where "*" stands for the options, or the list, below each key. unless: a knob with which they name none of these.
    options: of a dict, the dataclass of knobs that it stands for, as "module:class", which may be of a room above.
    contents: the function that raises ValueError for what a dict may not hold, likewise. only: what other knobs must be
    for it to have an effect: name -> True (set), False (empty, or 0) or a tuple of values. shown: the heading below
    which a parameter cell has it; "": it goes into `recipe`.
    """

    name: str
    type: str
    default: Any
    words: str = ""
    choices: tuple[str, ...] = ()
    names: str | dict[str, str] = ""
    options: str = ""
    contents: str = ""
    only: Mapping[str, Any] = field(default_factory=dict)
    unless: str = ""
    shown: str = ""
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    @property
    def rule(self) -> str:
        """What fits, in words: "above 0 and below 1", "one of head, tail"; "" where only the type counts."""
        low = f"above {self.above}" if self.above is not None else ""
        if self.least is not None:
            low = f"from {self.least}" if (self.below, self.most) != (None, None) else f"{self.least} or more"
        high = f"below {self.below}" if self.below is not None else ""
        if self.most is not None:
            high = f"{self.most}" if self.least is not None else f"at most {self.most}"
        join = " to " if self.least is not None else ", and " if self.most is not None else " and "
        number = join.join(filter(None, [low, high]))
        listed = ", ".join(name or '""' for name in self.choices)
        if number and listed:
            return f"{number}, or {listed}"
        return number or (f"one of {listed}" if listed else "")

    @property
    def kinds(self) -> set[str]:
        """What its texts name: "run", "file", "model", "column"; empty for a knob that names nothing."""
        if self.options:
            return {kind for one in knobs_of(self.inner).values() for kind in one.kinds}
        names = self.names.values() if isinstance(self.names, dict) else filter(None, [self.names])
        return {kind for name in names for kind in name.split(" or ")}

    @property
    def inner(self) -> type:
        """The dataclass of `options`."""
        return find_named(self.options)

    def fits(self, value: Any) -> bool:
        """Whether a number is in range, or a text among the choices; anything else fits."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            bounds = (self.above, gt), (self.least, ge), (self.below, lt), (self.most, le)
            held = [holds(value, bound) for bound, holds in bounds if bound is not None]
            return not held or (all(held) and -math.inf < value < math.inf)
        return not self.choices or not isinstance(value, str) or value in self.choices

    def check(self, value: Any, owner: str = "") -> None:
        """Raise ValueError for a value of another type, out of range or not among the choices. owner: the parameter
        that it stands in, if any, such as "pseudo"."""
        name = f"{owner}: {self.name}" if owner else self.name
        check_range(name, value, accepts(self.type, value), self.type)
        texts = isinstance(value, dict) and "dict[str, str]" in self.type
        ones = list(value.values()) if texts else value
        for one in ones if isinstance(ones, (list, dict)) else [ones]:
            meant = did_you_mean(one, self.choices) if isinstance(one, str) else ""
            if meant and len(self.rule) > SHORT and not self.fits(one):
                raise ValueError(f"{name}={one!r} is out of range{meant}")
            check_range(name, one, self.fits(one), f"{self.rule}{meant}")
        if self.options and value:
            self.inner(**value)
        if self.contents and value:
            try:
                find_named(self.contents)(value)
            except ValueError as error:
                raise ValueError(f"{owner}: {error}" if owner else str(error)) from None

    def why_idle(self, values: Mapping[str, Any]) -> str:
        """Why it has no effect among the values of other knobs, and what to do; "" where it has one, see `only`."""
        for name, needed in self.only.items():
            if name not in values:
                continue
            value = values[name]
            if needed is True and not value:
                return f"without {name}: leave it out, or set {name}"
            if needed is False and value:
                return f"with {name}={value!r}: leave it out"
            if not isinstance(needed, bool) and value not in needed:
                return f"with {name}={value!r}: leave it out, or set {name} to {' or '.join(map(str, needed))}"
        return ""

    def __str__(self):
        return f"{self.name}: {self.type} = {self.default!r}"


def find_named(place: str) -> Any:
    """What "module:name" stands for."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


@cache
def knobs_of(*kinds: type) -> dict[str, Knob]:
    """The knobs of dataclasses, by name, in order."""
    found = {}
    for one in (one for kind in kinds for one in fields(kind)):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        found[one.name] = Knob(one.name, one.type, default, **one.metadata)
    return found


class Knobs:
    """What a dataclass of knobs has in common: it checks names, types, ranges and choices when one is made.

    owner: the parameter that its knobs stand in, such as "pseudo"; errors begin with it.
    """

    owner: ClassVar[str] = ""

    def __new__(cls, *args, **given):
        check_names(given, knobs_of(cls), cls.owner or cls.__name__)
        return super().__new__(cls)

    def __post_init__(self):
        for one in knobs_of(type(self)).values():
            one.check(getattr(self, one.name), self.owner)
        check_idle([type(self)], vars(self), self.owner)

    @classmethod
    def idle(cls, values: Mapping[str, Any], known: Mapping[str, Knob]) -> dict[str, str]:
        """Knobs that have no effect among these values -> why, and what to do.

        known: the knobs of all dataclasses that the values are of. A knob that is left at its default is never one.
        """
        changed = [one for one in knobs_of(cls).values() if values.get(one.name, one.default) != one.default]
        return {one.name: why for one in changed if (why := one.why_idle(values))}

    def as_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]):
        """The knobs among other values, such as a recipe of params.json, of this version or of 0.1; those that are
        lacking have their defaults."""
        values, known = current_names(values), knobs_of(cls)
        given = {name: values[name] for name in known if name in values}
        idle = cls.idle({one.name: one.default for one in known.values()} | given, known)
        return cls(**{name: value for name, value in given.items() if name not in idle})


def make_knobs(*kinds: type, shown: Mapping[str, Any], rest: Mapping[str, Any]) -> list[Any]:
    """Dataclasses of knobs from the parameters of a notebook: those that its cell shows, and the rest by name.

    Raises ValueError for a name that none of them has, and for one of `rest` that the cell shows too.
    """
    known = knobs_of(*kinds)
    check_names([*shown, *rest], known, "the notebook")
    if twice := [name for name in rest if name in shown]:
        raise ValueError(f"recipe: {twice[0]} stands in the parameter cell: set it there")
    given = {**shown, **rest}
    made = [kind(**{name: given[name] for name in knobs_of(kind) if name in given}) for kind in kinds]
    check_idle(kinds, {name: value for one in made for name, value in vars(one).items()})
    return made


def check_idle(kinds: Sequence[type], values: Mapping[str, Any], owner: str = "") -> None:
    """Raise ValueError for a knob that has no effect among the others, see `Knobs.idle`."""
    for name, why in find_idle(kinds, values).items():
        raise ValueError(f"{owner and f'{owner}: '}{name}={values[name]!r} has no effect {why}")


def find_idle(kinds: Sequence[type], values: Mapping[str, Any]) -> dict[str, str]:
    """Knobs of these dataclasses that have no effect among the values of all -> why, and what to do."""
    known = knobs_of(*kinds)
    return {name: why for kind in kinds for name, why in kind.idle(values, known).items()}


def check_names(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise ValueError for a name that `owner` does not have: with its new name, or what is close."""
    for name in given:
        if name not in known:
            meant = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            raise ValueError(explain_renamed(name, known) or f"{owner} has no knob {name!r}{meant}")


def explain_renamed(name: str, known: Iterable[str]) -> str:
    """What a knob of an earlier version is called now; "" for any other name."""
    new = (RENAMED | RENAMED_SINCE).get(name)
    return f"{name} is now called {new}" if new in known else ""


def current_names(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of params.json with the names of this version, also within `learner_options`, and what was a default of
    version 0.4 as it is called now: a recipe of fine-tuning has no `tuning` there."""
    found = {RENAMED.get(name, name): value for name, value in recipe.items()}
    if "epochs" in found and "tuning" not in found:
        found |= {name: now for name, (was, now) in SINCE_0_5.items() if name in found and found[name] == was}
    if found.get("learner_options"):
        found["learner_options"] = current_names(found["learner_options"])
    return found


def named(knobs: Iterable[Knob], values: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """What `values` of knobs name of a kind ("run", "file", "model" or "column"), each with the knob that names it:
    ("pseudo: teacher", "base"). A knob of a "run or file" names a file where it has the ending of one."""
    found = []
    for one in knobs:
        value = None if values.get(one.unless) else values.get(one.name)
        if one.options:
            inner = named(knobs_of(one.inner).values(), value or {}, kind)
            found += [(f"{one.name}: {label}", name) for label, name in inner]
            continue
        for key, what in one.names.items() if isinstance(one.names, dict) else [("", one.names)]:
            if kind not in what.split(" or ") or not value:
                continue
            if key == "*":
                lists = {name: each.values() if isinstance(each, dict) else each for name, each in value.items()}
                pairs = [(f"{one.name}: {name}", text) for name, each in lists.items() for text in each]
            else:
                pairs = [(f"{one.name}: {key}", value.get(key, ""))] if key else [(one.name, value)]
            for label, texts in pairs:
                fitting = [text for text in _texts(texts, kind) if text]
                fitting = [text for text in fitting if what == kind or names_file(text) == (kind == "file")]
                found += [(label, text) for text in fitting]
    return found


def names_file(text: str) -> bool:
    """Whether a name is that of a table, and not of a run."""
    return text.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".parquet", ".jsonl", ".json"))


def _texts(value: Any, kind: str) -> list[str]:
    """The texts that a value holds, also in lists of lists; of runs those that are joined by +."""
    if isinstance(value, str):
        return [part.strip() for part in value.split("+")] if kind == "run" else [value]
    return [text for one in value for text in _texts(one, kind)] if isinstance(value, (list, dict)) else []


def documented(kind: type) -> type:
    """Add a line for each knob to the docstring of a dataclass: what `python -m pydoc` shows is its manual."""
    lines = [kind.__doc__ or "", ""]
    for one in knobs_of(kind).values():
        lines += [f"    {one}", f"        {one.words}{f' ({one.rule})' if one.rule else ''}"]
    kind.__doc__ = "\n".join(lines)
    return kind
