"""What supervised SimCSE takes for alike: texts of one class, or pairs of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kagglekit.competition.read import read_table
from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Chunks, Tokens


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with classes, or pairs; one or the other.

    texts, labels: (rows,) classes, or (rows, outputs), where equal rows are one class; of the training rows of one
    fold. pairs: all of them (text, partner), or all (text, partner, hard negative): a text that looks like the first
    and does not mean the same.
    Raises ValueError for both at once and for none, labels that do not fit the texts, and pairs of unequal sizes.
    """

    texts: Sequence[str] = ()
    labels: np.ndarray | None = None
    pairs: Sequence[tuple[str, ...]] = ()

    def __post_init__(self):
        if bool(len(self.texts)) == bool(len(self.pairs)):
            raise ValueError("supervised SimCSE learns from texts with labels, or from pairs: give one of the two")
        if len(self.texts) and (self.labels is None or len(self.labels) != len(self.texts)):
            raise ValueError(f"{len(self.texts)} texts need as many labels, one each")
        if {len(pair) for pair in self.pairs} not in (set(), {2}, {3}):
            raise ValueError("pairs must all be (text, partner), or all (text, partner, hard negative)")

    def classes(self) -> np.ndarray:
        """The class number of each text, or of each pair that of its first text: (rows,) int64."""
        if len(self.texts):
            return np.unique(np.asarray(self.labels), axis=0, return_inverse=True)[1].reshape(-1)
        return np.unique([pair[0] for pair in self.pairs], return_inverse=True)[1].reshape(-1)


def read_pairs(path: str | Path, encoding: str = "utf-8") -> LabelledTexts:
    """Pairs from a table with the columns anchor and positive, and negative where there are hard negatives.

    Raises ValueError that names the column that is not there, or the first row with an empty text (from 1).
    """
    table = read_table(path, encoding)
    for name in ("anchor", "positive"):
        if name not in table:
            raise ValueError(f"{path} has no column {name!r}: it has {', '.join(table.columns)}")
    columns = [name for name in ("anchor", "positive", "negative") if name in table]
    for name in columns:
        empty = np.flatnonzero(table[name].str.strip() == "")
        if len(empty):
            raise ValueError(f"{path}: column {name!r} is empty in row {empty[0] + 1}: fill it, or leave the row out")
    return LabelledTexts(pairs=list(table[columns].itertuples(index=False, name=None)))


class ClassPairs(Examples):
    """Each text with a partner of its class, another one in every epoch; `seed`, the epoch and the row decide which.

    tokens, classes: of all rows (rows,); a text that is the only one of its class is left out.
    Raises ValueError when no two texts have the same class.
    """

    def __init__(self, tokens: Tokens, pad_id: int, classes: np.ndarray, seed: int):
        _, classes, counts = np.unique(classes, return_inverse=True, return_counts=True)
        kept = counts[classes] > 1
        if not kept.any():
            raise ValueError("no two texts have the same label: simcse_supervised needs classes with several texts")
        super().__init__(tokens[kept], pad_id, np.unique(classes[kept], return_inverse=True)[1].astype(np.int64))
        self.seed = seed
        labels = self.arrays["labels"]
        self.counts = np.bincount(labels)
        self.starts = np.cumsum(self.counts) - self.counts
        self.order = np.argsort(labels, kind="stable")  # class by class
        self.places = np.argsort(self.order)  # of each row in it

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        shown = [text for row in rows for text in (row, self.partner(row))]
        labels = torch.from_numpy(self.arrays["labels"][rows])
        return {**Chunks(self.tokens[shown], np.full(len(rows), 2)).pad(self.pad_id), "labels": labels}

    def partner(self, row: int) -> int:
        """The row that goes with a row in this epoch."""
        label = self.arrays["labels"][row]
        start, count = self.starts[label], self.counts[label]
        step = np.random.default_rng([self.seed, self.epoch, row]).integers(1, count)
        return int(self.order[start + (self.places[row] - start + step) % count])
