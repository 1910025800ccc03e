"""The interface of an augmenter: texts in, the same texts in other words out.

Examples whose texts are told in other words at some visits: augmentation on the fly.
"""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens, join_tokens


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


class AugmentedExamples(Examples):
    """The same rows, a share of them changed anew in every epoch.

    texts: of each row. retell: f(texts, seed) -> their tokens, changed. share: of the rows, at each visit; 0 changes
    none, 1 all. What becomes of a row depends on its number, the epoch and `seed` alone: a run that was cut off and
    goes on sees what it would have seen.
    """

    def __init__(
        self,
        examples: Examples,
        texts: Sequence[str],
        retell: Callable[[list[str], int], Tokens],
        share: float,
        seed: int,
    ):
        super().__init__(examples.tokens, examples.pad_id, beside=examples.arrays)
        self.texts = list(texts)
        self.retell = retell
        self.share = share
        self.seed = seed

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        batch = super().__getitems__(rows)
        draws = [np.random.default_rng([self.seed, self.epoch, row]).random() for row in rows]
        changed = {place for place, draw in enumerate(draws) if draw < self.share}
        if not changed:
            return batch
        told = iter(self.retell([self.texts[rows[place]] for place in sorted(changed)], self.seed + self.epoch))
        tokens = [next(told) if k in changed else as_it_was for k, as_it_was in enumerate(self.tokens[rows])]
        return batch | join_tokens(tokens).pad(self.pad_id)
