"""The catalogue: one trick, one file. In a notebook a recipe is data: `{"FGM": {"epsilon": 0.5}, "EMA": {}}`."""

import inspect
from typing import Any

from kagglekit.training.trick import Trick
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.rdrop import RDrop

__all__ = ["EMA", "FGM", "RDrop", "make_tricks"]


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
            if isinstance(knobs.parameters[option].default, float) and not isinstance(value, int | float):
                raise ValueError(f"tricks: {name} has {option}={value!r}: it must be a number")
        tricks.append(trick(**options))
        if not 0 <= tricks[-1].start < 1:
            raise ValueError(
                f"tricks: {name} has start={tricks[-1].start}: it is the share of steps before, from 0 to below 1"
            )
    return tricks
