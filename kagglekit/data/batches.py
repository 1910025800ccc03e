"""Which rows go into which batch: grouped by length under a token budget, and still shuffled."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import Dataset

from kagglekit.data.chunks import Chunks
from kagglekit.data.tokens import Tokens


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int = 0, pool: int = 16
) -> list[np.ndarray]:
    """The batches of one epoch: every row once, about as many tokens in each batch.

    The rows are shuffled and dealt into pools of `pool` batches; each pool is sorted by length and cut into batches of
    equal token counts, and the batches are shuffled. A batch has `batch_size` rows on average: more where texts are
    short, fewer where they are long, so that memory and time per step hardly change. The number of batches depends on
    `len(lengths)` and `batch_size` alone. `pool=1` is plain shuffling without grouping by length; a large one pads
    least, but the same rows meet again in every epoch.

    lengths: tokens of each row. Returns arrays of row numbers.
    """
    random = np.random.default_rng([seed, epoch])
    n_batches = -(-len(lengths) // batch_size)
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
    """Cut sorted `rows` into `n` batches, none empty, of about the same number of tokens."""
    middle = np.cumsum(lengths) - lengths / 2
    cuts = np.searchsorted(middle, lengths.sum() * np.arange(1, n) / n)
    cuts = np.maximum(cuts, np.arange(1, n))  # at least one row each, from the left ...
    cuts = np.minimum(cuts, len(rows) - n + np.arange(1, n))  # ... and from the right
    return np.split(rows, np.maximum.accumulate(cuts))


def prediction_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Rows by length, longest first, in batches of at most `tokens` padded tokens (a longer row stands alone)."""
    batches, batch = [], []
    for row in np.argsort(-lengths, kind="stable"):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            batches.append(np.array(batch))
            batch = []
        batch.append(row)
    return [*batches, np.array(batch)] if batch else batches


class EpochSampler:
    """A batch sampler for `DataLoader`: `training_batches` of the epoch that `epoch()` names when iteration starts.

    Of `processes` that train together each has all the batches, and of each batch every `processes`-th row, from row
    number `process` on. A batch with fewer rows than processes gives one row to each, some to several.
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
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.process = process
        self.processes = processes
        self.drop_last = False

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in training_batches(self.lengths, self.batch_size, self.seed, self.epoch()):
            yield rows[self.process % len(rows) :: self.processes].tolist()


class Examples(Dataset):
    """Tokens, and labels if there are any, as a dataset that hands out whole padded batches.

    tokens: `Tokens`, or `Chunks` of long texts. labels: (rows,) int64 or (rows, outputs) float32. beside: name -> array
    with a row for each text, of what else the model reads. epoch: that of the batches which are asked for; the sampler
    says so, for examples that change.
    """

    epoch: int = 0

    def __init__(
        self,
        tokens: Tokens | Chunks,
        pad_id: int,
        labels: np.ndarray | None = None,
        beside: Mapping[str, np.ndarray] | None = None,
    ):
        self.tokens = tokens
        self.pad_id = pad_id
        self.arrays = {**(beside or {}), **({} if labels is None else {"labels": labels})}

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        batch = self.tokens[rows].pad(self.pad_id)
        return batch | {name: torch.from_numpy(array[rows]) for name, array in self.arrays.items()}
