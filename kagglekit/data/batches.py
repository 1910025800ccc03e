"""Batches: rows grouped by length under a token budget, and still shuffled."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from kagglekit.data.chunks import Chunks
from kagglekit.data.tokens import Tokens


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int = 0, pool: int = 16, batches: int | None = None
) -> list[np.ndarray]:
    """The batches of one epoch: every row once, about the same number of tokens in each batch.

    Rows are shuffled and dealt into pools of `pool` batches; each pool is sorted by length and split into batches of
    equal token counts, and the batches are shuffled. A batch has `batch_size` rows on average: more where texts are
    short, fewer where they are long, so that memory and time per step hardly vary. The number of batches depends on
    `len(lengths)` and `batch_size` alone. `pool=1` is plain shuffling; a large pool pads least, but the same rows meet
    again in every epoch.

    lengths: tokens of each row. batches: their number, in place of `batch_size`. Returns arrays of row numbers.
    """
    random = np.random.default_rng([seed, epoch])
    n_batches = batches or -(-len(lengths) // batch_size)
    n_pools = -(-n_batches // pool)
    batches = []
    shares = np.diff(np.linspace(0, n_batches, n_pools + 1).round().astype(int))  # batches of each pool
    starts = np.round(np.cumsum([0, *shares]) * len(lengths) / n_batches).astype(int)
    order = random.permutation(len(lengths))
    for share, start, stop in zip(shares, starts[:-1], starts[1:], strict=True):
        rows = order[start:stop]
        rows = rows[np.argsort(lengths[rows], kind="stable")]  # equal lengths stay shuffled
        batches += _equal_tokens(rows, lengths[rows], share) if pool > 1 else np.array_split(order[start:stop], share)
    return [batches[i] for i in random.permutation(n_batches)]


def _equal_tokens(rows: np.ndarray, lengths: np.ndarray, n: int) -> list[np.ndarray]:
    """Split sorted `rows` into `n` batches, none empty, of about the same number of tokens."""
    middle = np.cumsum(lengths) - lengths / 2
    ends = np.searchsorted(middle, lengths.sum() * np.arange(1, n) / n)
    ends = np.maximum(ends, np.arange(1, n))  # at least one row each, from the left ...
    ends = np.minimum(ends, len(rows) - n + np.arange(1, n))  # ... and from the right
    return np.split(rows, np.maximum.accumulate(ends))


def prediction_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Rows by length, longest first, in batches of at most `tokens` padded tokens (a longer row is a batch alone)."""
    batches, batch = [], []
    for row in np.argsort(-lengths, kind="stable"):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            batches.append(np.array(batch))
            batch = []
        batch.append(row)
    return [*batches, np.array(batch)] if batch else batches


class EpochSampler:
    """A batch sampler for `DataLoader`: `training_batches` of the epoch that `epoch()` returns when iteration starts.

    When several processes train together, each sees all batches, and of each batch every `processes`-th row, starting
    at row `process`. A batch with fewer rows than processes gives one row to each, some rows to several.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
        process: int = 0,
        processes: int = 1,
    ):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch
        self.process, self.processes = process, processes
        self.drop_last = False

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, whole."""
        return training_batches(self.lengths, self.batch_size, self.seed, epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batches(self.epoch()):
            yield rows[self.process % len(rows) :: self.processes].tolist()


class Examples(Dataset):
    """Tokens, labels and features as a dataset that returns whole padded batches.

    labels: (rows,) int64 or (rows, outputs) float32. features: name -> array with a row for each text, other inputs of
    the model. epoch: set by the sampler, for examples that change from epoch to epoch. other: the same rows in the
    other order of two text columns, whose prediction k is number `exchange[k]` of these; None: there is no other.
    """

    epoch: int = 0
    sampler: Callable[..., EpochSampler] = EpochSampler
    other: "Examples | None" = None
    exchange: Sequence[int] = ()

    def __init__(
        self,
        tokens: Tokens | Chunks,
        pad_id: int,
        labels: np.ndarray | None = None,
        features: Mapping[str, np.ndarray] | None = None,
    ):
        self.tokens = tokens
        self.pad_id = pad_id
        self.arrays = {**(features or {}), **({} if labels is None else {"labels": labels})}

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        batch = self.tokens[rows].pad(self.pad_id)
        return batch | {name: torch.from_numpy(array[rows]) for name, array in self.arrays.items()}


class EitherOrder(Examples):
    """Rows that are read in one of two orders, drawn at each visit: row r of `examples`, or the row half of them later.

    The draw depends on row, epoch and `seed` alone: a resumed run sees the same orders.
    """

    def __init__(self, examples: Examples, seed: int):
        self.examples, self.seed, self.half = examples, seed, len(examples) // 2
        super().__init__(examples.tokens[np.arange(self.half)], examples.pad_id)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        self.examples.epoch = self.epoch
        draws = [np.random.default_rng([self.seed, self.epoch, row, self.half]).random() < 0.5 for row in rows]
        return self.examples.__getitems__([row + self.half * draw for row, draw in zip(rows, draws, strict=True)])
