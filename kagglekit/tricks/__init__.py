"""The catalogue: one trick, one file. In a notebook a recipe is data: `{"FGM": {"epsilon": 0.5}, "EMA": {}}`."""

from typing import Any

from kagglekit.declared import check_contents, read_tricks
from kagglekit.tricks.awp import AWP
from kagglekit.tricks.checkpoint_soup import CheckpointSoup
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.freelb import FreeLB
from kagglekit.tricks.mixout import Mixout
from kagglekit.tricks.mixup import Mixup
from kagglekit.tricks.neftune import NEFTune
from kagglekit.tricks.pgd import PGD
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.supcon import SupCon
from kagglekit.tricks.swa import SWA
from kagglekit.tricks.token_masking import TokenMasking
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.unfreezing import GradualUnfreezing

ADVERSARIAL = (FGM, PGD, FreeLB, AWP)
AVERAGES = (EMA, SWA, CheckpointSoup)
REGULARISERS = (RDrop, SupCon, Mixup, Mixout, NEFTune, TokenMasking, GradualUnfreezing)
TRICKS: dict[str, type[Trick]] = {trick.__name__: trick for trick in (*ADVERSARIAL, *AVERAGES, *REGULARISERS)}
__all__ = [*TRICKS, "TRICKS", "make_tricks"]


def make_tricks(recipe: dict[str, dict[str, Any]]) -> list[Trick]:
    """Build the tricks of a recipe, name -> knobs, in its order: the first is the outermost.

    Raises ValueError for an unknown trick or knob, and says which there are, and for a knob out of range.
    """
    check_contents("tricks", "trick", recipe, read_tricks())
    tricks = [TRICKS[name](**options) for name, options in recipe.items()]
    for trick in tricks:
        trick.check()
    return tricks
