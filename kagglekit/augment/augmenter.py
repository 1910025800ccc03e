"""The interface of an augmenter (texts in, rewritten texts out), and examples that are augmented on the fly."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens, join_tokens


class Augmenter(ABC):
    """Rewrite texts of training rows; labels stay. Never for rows that are scored.

    Each augmenter is a dataclass of its knobs, so its repr builds it again; what is loaded at the first call is kept
    under names that end in `_`. The result for a text depends on the text, the knobs and `seed` alone, not on the texts
    next to it, and no global random numbers are drawn.
    """

    @abstractmethod
    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """The same number of texts, in the same order; another seed gives others."""

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise ValueError for a knob out of range."""


def random_of(seed: int, text: str) -> np.random.Generator:
    """The random numbers of one text under a seed."""
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]
    return np.random.default_rng([seed, int.from_bytes(key, "little")])


class AugmentedExamples(Examples):
    """Augmentation on the fly: a share of the rows is augmented again in every epoch.

    texts: of each row. augment: f(texts, seed) -> their tokens, augmented. share: of the rows, at each visit; 0 changes
    none, 1 all. The result depends on row number, epoch and `seed` alone: a resumed run sees the same texts.
    """

    def __init__(
        self,
        examples: Examples,
        texts: Sequence[str],
        augment: Callable[[list[str], int], Tokens],
        share: float,
        seed: int,
    ):
        super().__init__(examples.tokens, examples.pad_id, features=examples.arrays)
        self.texts, self.augment, self.share, self.seed = list(texts), augment, share, seed

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        batch = super().__getitems__(rows)
        draws = [np.random.default_rng([self.seed, self.epoch, row]).random() for row in rows]
        changed = [place for place, draw in enumerate(draws) if draw < self.share]
        if not changed:
            return batch
        augmented = self.augment([self.texts[rows[place]] for place in changed], self.seed + self.epoch)
        tokens = list(self.tokens[rows])
        for place, ids in zip(changed, augmented, strict=True):
            tokens[place] = ids
        return batch | join_tokens(tokens).pad(self.pad_id)
