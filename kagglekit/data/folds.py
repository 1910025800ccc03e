"""Which rows are validated together: stratified folds that never split a group."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold


def join_groups(*columns: Sequence) -> np.ndarray:
    """Groups that hold together whatever any of the groupings holds together; int64 (n,), numbered from 0 in order.

    Each of `columns` (n,) names a group per row, as an author column and `identical_groups(texts)` do. Rows that share
    a name in any column end in the same group, also over several steps. A missing name (None, NaN, "") joins nothing.
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


def assign_folds(
    labels: np.ndarray,
    groups: Sequence | None = None,
    n_splits: int = 5,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """The fold of each row, 0 to n_splits - 1; int64 (n,). A group lies in one fold, and the folds' labels are alike.

    `labels`: classes, int (n,); numbers, float (n,) or (n, targets), which are cut into ten ranges of equal size; or
    several labels, 0/1 (n, labels), whose combinations are balanced. `groups` (n,) names the group of each row, and
    None stands for no groups. `names` are the classes' names, for errors. 38,000 rows with groups take about 5 seconds.
    Raises ValueError for a class with fewer rows or fewer groups than folds.
    """
    labels = np.asarray(labels)
    groups = np.arange(len(labels)) if groups is None else pd.factorize(np.asarray(groups))[0]
    single = len(np.unique(groups)) == len(groups)
    if n_splits < 2:
        raise ValueError(f"n_folds={n_splits}: it takes at least 2 folds to have rows that a model has not seen")
    if len(np.unique(groups)) < n_splits:
        raise ValueError(
            f"train has {len(np.unique(groups))} {'rows' if single else 'groups'}: n_folds={n_splits} needs as many"
        )
    if labels.ndim == 1 and labels.dtype.kind != "f":
        strata = labels
        check_classes(labels, groups, n_splits, names)
    else:
        strata = make_strata(labels.reshape(len(labels), -1), n_splits)
    if single:
        splits = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(strata, strata)
    else:  # shuffled here: with shuffle=True scikit-learn 1.6 mixes up which labels belong to which group
        groups = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
        splits = StratifiedGroupKFold(n_splits).split(strata, strata, groups)
    folds = np.full(len(labels), -1, dtype=np.int64)
    for fold, (_, rows) in enumerate(splits):
        folds[rows] = fold
    return folds


def check_classes(labels: np.ndarray, groups: np.ndarray, n_splits: int, names: Sequence[str] | None = None) -> None:
    """Raise ValueError naming the class with the fewest rows, or else groups, where they are fewer than the folds."""
    frame = pd.DataFrame({"label": labels, "group": groups}).groupby("label")["group"]
    for what, counts in (("rows", frame.size()), ("groups of rows", frame.nunique())):
        if counts.min() < n_splits:
            label, least = counts.idxmin(), counts.min()
            fewer = f"set n_folds={least}" if least > 1 else "remove or merge it"
            raise ValueError(
                f"class {str(label if names is None else names[label])!r} has {least} {what}, and n_folds={n_splits} "
                f"needs at least {n_splits}: {fewer}, or add rows of that class"
            )


def make_strata(labels: np.ndarray, n_splits: int) -> np.ndarray:
    """A stratum per row, int64 (n,), for labels (n, k) that are no classes; each has at least `n_splits` rows.

    Several 0/1 labels: the combination; a rare one counts as its rarest label that is not rare itself. Numbers: ten
    ranges of equal size of the mean rank, equal values together. What is then still rare joins the largest stratum.
    """
    if labels.shape[1] > 1 and np.isin(labels, (0, 1)).all():
        strata = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
        rows = labels.sum(axis=0)
        rows = np.where((labels == 1) & (rows >= n_splits), rows, np.inf)  # (n, k), of the row's own labels
        rarest = np.where(np.isfinite(rows).any(axis=1), rows.argmin(axis=1), labels.shape[1]) + strata.max() + 1
        strata = np.where(np.bincount(strata)[strata] < n_splits, rarest, strata)
    else:
        ranks = np.mean([rankdata(column) for column in labels.T], axis=0)
        bins = min(10, max(1, len(labels) // (2 * n_splits)))
        strata = np.floor((rankdata(ranks) - 0.5) / len(labels) * bins).astype(np.int64)
    counts = np.bincount(strata)
    return np.where(counts[strata] < n_splits, counts.argmax(), strata)


def fold_report(labels: np.ndarray, folds: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """What is in each fold: its `rows`, then per class or label the number of rows, per target the mean.

    `labels` as in `assign_folds`; `names` are the classes for int labels, the labels or targets otherwise.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1 and labels.dtype.kind != "f":
        values, counted = labels[:, None] == np.arange(len(names)), True
    else:
        values = labels.reshape(len(labels), -1)
        counted = values.shape[1] > 1 and np.isin(values, (0, 1)).all()
    index = pd.Index(np.unique(folds), name="fold")
    sums = np.array([values[folds == fold].sum(axis=0, dtype=np.float64) for fold in index])
    rows = np.array([(folds == fold).sum() for fold in index])
    frame = pd.DataFrame(sums.astype(np.int64) if counted else sums / rows[:, None], index=index, columns=list(names))
    frame.insert(0, "rows", rows, allow_duplicates=True)
    return frame
