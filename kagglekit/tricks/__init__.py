"""The catalogue: one trick, one file. In a notebook a recipe is data: `{"FGM": {"epsilon": 0.5}, "EMA": {}}`."""

import inspect
from typing import Any

from kagglekit.training.trick import Trick
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.rdrop import RDrop

__all__ = ["EMA", "FGM", "RDrop", "make_tricks"]

NAMES = {float: "number", int: "whole number", str: "name", bool: "True or False"}  # of the types of knobs


def make_tricks(recipe: dict[str, dict[str, Any]]) -> list[Trick]:
    """The objects of a recipe, name -> options, in its order: the first is the outermost.

    Raises ValueError for an unknown trick or option, and for an option out of range, and says which there are.
    """
    tricks = []
    for name, options in recipe.items():
        if name not in __all__ or name == "make_tricks":
            known = ", ".join(n for n in __all__ if n != "make_tricks")
            raise ValueError(f"tricks: there is no trick {name!r}; there are {known}")
        trick = globals()[name]
        knobs = inspect.signature(trick)
        try:
            knobs.bind(**options)
        except TypeError as error:
            raise ValueError(f"tricks: {name} takes {knobs}, not {options}: {error}") from None
        for option, value in options.items():
            kind = type(knobs.parameters[option].default)
            if not isinstance(value, {float: int | float, int: int}.get(kind, kind)):
                raise ValueError(
                    f"tricks: {name} has {option}={value!r}: it must be a {NAMES.get(kind, kind.__name__)}"
                )
        tricks.append(trick(**options))
        tricks[-1].check()
    return tricks
