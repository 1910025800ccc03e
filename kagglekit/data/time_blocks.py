"""Folds by time: blocks of rows that follow each other, so that a model can be asked about what came after it."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd


def time_blocks(times: Sequence, groups: np.ndarray, n_blocks: int) -> np.ndarray:
    """The block of each row, 0 (earliest) to n_blocks - 1, int64 (n,): blocks of rows in time, as equal as can be.

    times: (n,), see `read_times`. groups: (n,) numbers from 0; a group lies in one block, that of its last row, so that
    no row of an earlier block is later than the block's first group has ended. Rows of equal time lie in one block.
    Raises ValueError for fewer different times than blocks.
    """
    last = np.full(groups.max() + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, groups, read_times(times))
    moments, moment = np.unique(last[groups], return_inverse=True)
    if len(moments) < n_blocks:
        raise ValueError(
            f"the times of train have {len(moments)} different values (of a group the last one counts), and "
            f"{n_blocks} blocks in time need as many: set n_folds lower, or take a finer column"
        )
    until = np.bincount(moment).cumsum()  # rows up to each moment
    ends = np.array([np.abs(until - len(moment) * k / n_blocks).argmin() + 1 for k in range(1, n_blocks)], dtype=int)
    for k in range(len(ends)):  # no block is empty, also where many rows share a time
        ends[k] = np.clip(ends[k], ends[k - 1] + 1 if k else 1, len(moments) - (n_blocks - 1 - k))
    return np.searchsorted(ends, moment.reshape(-1), side="right").astype(np.int64)


def read_times(times: Sequence) -> np.ndarray:
    """Numbers that order rows in time, int64 (n,): dense ranks from 0, equal where the times are equal.

    times: numbers (as text too), or dates: ISO 8601, or all in one other form; the day comes first only where the month
    cannot. Zones are minded. Raises ValueError that names a row which is missing or cannot be read.
    """
    column = pd.Series(list(times), dtype=object)
    missing = column.isna() | (column.astype(str).str.strip() == "")
    if missing.any():
        raise ValueError(
            f"the time of row {missing.to_numpy().argmax() + 1} of train is missing ({missing.sum()} of {len(column)} "
            "are): fill them in, or leave the rows out"
        )
    numbers = pd.to_numeric(column, errors="coerce")
    if np.isfinite(numbers).all():
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    for form in ({"format": "ISO8601"}, {}, {"dayfirst": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a form that pandas would have to guess row by row
            try:
                dates = pd.to_datetime(column, utc=True, **form)
            except (ValueError, OverflowError, UserWarning):
                continue
        return np.unique(dates.to_numpy(), return_inverse=True)[1].astype(np.int64)
    bad = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601").isna() & ~np.isfinite(numbers)
    row = bad.to_numpy().argmax()
    raise ValueError(
        f"the times of train are neither numbers nor dates of one form: row {row + 1} has {column[row]!r}. Write them "
        "as 2024-01-31, or 2024-01-31 12:00"
    )
