"""Cross-validation folds: stratified, by group (a group is never split), or as a time-series split."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold

from kagglekit.data.stratify import spread_labels
from kagglekit.options import check_range


def join_groups(*columns: Sequence) -> np.ndarray:
    """Union of groupings: rows that share a group in any column share one in the result, also over several steps.

    columns: a group per row each (n,), such as an author column or `identical_groups(texts)`; a missing one (None, NaN,
    "") joins nothing. Returns int64 (n,), numbered from 0 in order of appearance.
    """
    size, offset, left, right = len(columns[0]), len(columns[0]), [], []
    for column in columns:
        values = pd.Series(column, dtype=object)
        codes = pd.factorize(values.mask(values == ""))[0]  # -1 where missing
        left.append(np.flatnonzero(codes >= 0))
        right.append(codes[codes >= 0] + offset)
        offset += codes.max(initial=-1) + 1
    left, right = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(offset, offset))  # rows, then groups
    return pd.factorize(connected_components(graph, directed=False)[1][:size])[0].astype(np.int64)


def keep_together(copies: np.ndarray, group: Sequence | None, n_splits: int) -> tuple[np.ndarray, str]:
    """The groups of rows that share a fold, int64 (n,), and a caution, or "": of copies of a text, and of a group.

    Copies may chain everything to a few groups, fewer than folds need: then they are left apart, and it is said.
    """
    joined = join_groups(copies, *([] if group is None else [group]))
    count = len(np.unique(joined))
    if count >= n_splits:
        return joined, ""
    apart = join_groups(np.arange(len(copies)), *([] if group is None else [group]))
    what = "texts of train are copies of each other" if group is None else "copies of texts join the groups of train"
    return apart, (
        f"CAUTION: {what}, so that {count} sets of rows could be kept together, and n_folds={n_splits} needs as many: "
        "copies are in different folds, and scores are too good by what a model remembers of them"
    )


def assign_folds(
    labels: np.ndarray,
    groups: Sequence | None = None,
    n_splits: int = 5,
    seed: int = 0,
    times: Sequence | None = None,
) -> np.ndarray:
    """The fold of each row, 0 to n_splits - 1; int64 (n,). No group is split, and labels are balanced over the folds.

    labels: classes, int (n,); numbers, float (n,) or (n, targets), stratified by ten ranges of equal size; or several
    labels, 0/1 (n, labels), balanced one by one and in pairs. groups: (n,) the group of each row, None for no groups.
    times: (n,) numbers or dates, see `read_times`; None: folds are random, by `seed`. With times it is a time-series
    split: n_splits + 1 consecutive blocks of equal size, labels not balanced. The first is fold -1, which every model
    trains on and none is validated on; the model of a fold trains on earlier rows only, see `training_rows`.
    38,000 rows with groups take a second. Classes with fewer rows or groups than folds are balanced together, and some
    folds lack them. Raises ValueError for fewer rows or groups than folds, and for times that cannot be read.
    """
    labels = np.asarray(labels)
    groups = np.arange(len(labels)) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_groups = len(np.unique(groups))
    if n_splits < 2:
        raise ValueError(f"n_folds={n_splits}: it takes at least 2 folds to have rows that a model has not seen")
    if n_groups < n_splits:
        what = "rows" if n_groups == len(groups) else "groups"
        advice = "; near_duplicates=0 or another group= would part rows that share one" if what == "groups" else ""
        raise ValueError(f"train has {n_groups} {what}: n_folds={n_splits} needs as many{advice}")
    if times is not None:
        return time_blocks(times, groups, n_splits + 1) - 1
    if labels.ndim == 1 and labels.dtype.kind != "f":
        strata = _pool_rare(labels, groups, n_splits)
    elif is_multilabel(labels):
        return spread_labels(labels, groups, n_splits, seed)
    else:
        strata = _rank_bins(labels.reshape(len(labels), -1), n_splits)
    fewest = np.unique(strata, return_counts=True)[1].min()
    if n_groups < len(groups) or fewest < n_splits:  # more even than StratifiedGroupKFold, and faster
        return spread_labels(strata[:, None] == np.unique(strata), groups, n_splits, seed)
    folds = np.empty(len(labels), dtype=np.int64)
    for fold, (_, rows) in enumerate(StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(strata, strata)):
        folds[rows] = fold
    return folds


def repeated_folds(
    labels: np.ndarray,
    groups: Sequence | None = None,
    n_splits: int = 5,
    repeats: int = 3,
    seed: int = 0,
    times: Sequence | None = None,
) -> np.ndarray:
    """Several random splits, to see how much a score depends on the split; int64 (n, repeats).

    Column r is `assign_folds` with the seed `seed + r`. Splits are independent: runs of one say nothing about the folds
    of another. With `times` there is only one split, so repeats must be 1.
    """
    check_range("repeats", repeats, repeats >= 1, "at least 1")
    check_range("repeats", repeats, repeats == 1 or times is None, "1 where folds go by time: there is but one split")
    return np.column_stack([assign_folds(labels, groups, n_splits, seed + r, times) for r in range(repeats)])


def is_multilabel(labels: np.ndarray) -> bool:
    """Whether labels are several 0/1 labels (n, labels), rather than classes or numbers."""
    return labels.ndim == 2 and labels.shape[1] > 1 and bool(np.isin(labels, (0, 1)).all())


def _pool_rare(labels: np.ndarray, groups: np.ndarray, n_splits: int) -> np.ndarray:
    """A stratum per row, int64 (n,): its class, and for classes with fewer rows or groups than folds one together."""
    strata = np.unique(labels, return_inverse=True)[1]
    sizes = pd.DataFrame({"stratum": strata, "group": groups}).groupby("stratum")["group"].nunique().to_numpy()
    rare = np.isin(strata, np.flatnonzero(sizes < n_splits))
    return np.unique(np.where(rare, -1, strata), return_inverse=True)[1]


def _rank_bins(values: np.ndarray, n_splits: int) -> np.ndarray:
    """A stratum per row, int64 (n,), for numbers (n, targets): ten ranges of equal size of the mean rank; equal values
    go together, and a range with fewer rows than folds joins the largest one."""
    ranks = np.mean([rankdata(column) for column in values.T], axis=0)
    bins = min(10, max(1, len(values) // (2 * n_splits)))
    strata = np.floor((rankdata(ranks) - 0.5) / len(values) * bins).astype(np.int64)
    counts = np.bincount(strata)
    return np.where(counts[strata] < n_splits, counts.argmax(), strata)


def fold_report(
    labels: np.ndarray, folds: np.ndarray, names: Sequence[str], groups: Sequence | None = None
) -> pd.DataFrame:
    """A line per fold: `rows`, `groups` if given, then the rows of each class or label, or the mean of each target.

    labels: as in `assign_folds`. names: the classes for int labels, the labels or targets otherwise. Fold -1 is the
    first block of a time-series split, which every model trains on.
    """
    values, counted = _columns(labels, names)
    index, rows = np.unique(folds, return_counts=True)
    sums = np.array([values[folds == fold].sum(axis=0, dtype=np.float64) for fold in index])
    frame = pd.DataFrame(sums.astype(np.int64) if counted else sums / rows[:, None], index, list(names))
    if groups is not None:
        own = pd.Series(pd.factorize(np.asarray(groups))[0]).groupby(folds).nunique().to_numpy()
        frame.insert(0, "groups", own, allow_duplicates=True)
    frame.insert(0, "rows", rows, allow_duplicates=True)
    return frame.rename_axis("fold")


def describe_balance(labels: np.ndarray, folds: np.ndarray, names: Sequence[str]) -> str:
    """How balanced the folds are, in two or three sentences: sizes, largest difference, classes that a fold lacks.

    The largest difference is between the share of a class or label in a fold and in all rows; for targets between
    means, in standard deviations. Fold -1 is called the first block. Arguments as in `fold_report`.
    """
    (values, counted), (numbers, rows) = _columns(labels, names), np.unique(folds, return_counts=True)
    values = values.astype(np.float64)
    means = np.array([values[folds == fold].mean(axis=0) for fold in numbers])  # (folds, columns)
    called = [f"fold {number}" if number >= 0 else "the first block" for number in numbers]
    kept, first = rows[numbers >= 0], rows[numbers < 0].sum()
    before = f", after {first:,} rows that are only trained on" if first else ""
    overall, scale = values.mean(axis=0), 1.0 if counted else np.maximum(values.std(axis=0), 1e-12)
    fold, column = np.unravel_index((np.abs(means - overall) / scale).argmax(), means.shape)
    here, all_ = means[fold, column], overall[column]
    if counted:
        largest = f"{names[column]!r} has {here:.1%} of {called[fold]} and {all_:.1%} of all rows"
    else:
        far = abs(here - all_) / scale[column]
        largest = f"the mean of {names[column]!r} is {here:.4g} in {called[fold]} and {all_:.4g} in all rows"
        largest += f" ({far:.2f} standard deviations)"
    sizes = " to ".join(f"{size:,}" for size in np.unique([kept.min(), kept.max()]))
    lines = [f"{len(kept)} folds of {sizes} rows{before}. The largest difference: {largest}."]
    for call, mean in zip(called, means, strict=True) if counted else ():
        if lacking := [repr(name) for name, share in zip(names, mean, strict=True) if share == 0]:
            lines.append(f"{call[0].upper()}{call[1:]} has no row with {', '.join(lacking)}.")
    return " ".join(lines)


def _columns(labels: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Labels as a column per class, label or target, and whether they are counted."""
    labels = np.asarray(labels)
    if labels.ndim == 1 and labels.dtype.kind != "f":
        return labels[:, None] == np.arange(len(names)), True
    return labels.reshape(len(labels), -1), is_multilabel(labels)


def time_blocks(times: Sequence, groups: np.ndarray, n_blocks: int) -> np.ndarray:
    """The block of each row in time, 0 (earliest) to n_blocks - 1, int64 (n,); blocks are as equal as possible.

    times: (n,), see `read_times`. groups: (n,) numbers from 0. A group belongs to the block of its last row, so no row
    of an earlier block is later than the end of a group in a later one. Equal times share a block. Raises ValueError
    for fewer different times than blocks.
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
    """Dense ranks of times from 0, int64 (n,), equal where the times are equal.

    times: numbers (also as text), or dates: ISO 8601, or all in one other format; day first only where month first is
    impossible. Time zones count. Raises ValueError that names a row whose time is missing or cannot be read.
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
            warnings.simplefilter("error", UserWarning)  # a format that pandas would guess row by row
            try:
                dates = pd.to_datetime(column, utc=True, **form)
            except (ValueError, OverflowError, UserWarning):
                continue
        return np.unique(dates.to_numpy(), return_inverse=True)[1].astype(np.int64)
    bad = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601").isna() & ~np.isfinite(numbers)
    row = bad.to_numpy().argmax()
    raise ValueError(
        f"the times of train are neither numbers nor dates in one format: row {row + 1} has {column[row]!r}. Write "
        "them as 2024-01-31, or 2024-01-31 12:00"
    )
