"""The interface of an augmenter: texts in, the same texts in other words out."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Augmenter(ABC):
    """Write texts in other words, for training rows only: labels stay, and what is measured must be what people wrote.

    A constructor stores its arguments under their own names and does nothing else; what is loaded at the first call
    ends in `_`. The result of a text hangs on the text, the knobs and `seed` alone, not on those beside it, and no
    global random number is drawn.
    """

    @abstractmethod
    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """As many texts, in the same order; another seed gives others."""

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise ValueError for a knob out of range."""

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def random_of(seed: int, text: str) -> np.random.Generator:
    """The random numbers of one text under a seed."""
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]
    return np.random.default_rng([seed, int.from_bytes(key, "little")])
