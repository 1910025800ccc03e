"""Duplicates: identical and near-duplicate texts within train, within test, and across the two."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from kagglekit.competition.checks import listed
from kagglekit.competition.task import Task
from kagglekit.competition.text_columns import SEPARATOR, is_empty, show_columns
from kagglekit.data.minhash import Hashes, jaccard, near_pairs
from kagglekit.options import check_range

EXCERPT = 60  # characters of a text in a table
COMPARED = 200  # texts of a cluster that are compared with its first one


def normalise(text: str) -> str:
    """The text in lower case (casefold), with single spaces: equal for texts that count as identical. The separator of
    columns is a word; a text of empty columns is empty."""
    text = "" if is_empty(text) else text.replace(SEPARATOR, f" {SEPARATOR} ")
    return " ".join(text.casefold().split())


def identical_groups(texts: Sequence[str]) -> np.ndarray:
    """A group number per text, equal for texts that are identical after `normalise`; int64 (n,), from 0 in order of
    appearance. Each empty text is its own group."""
    keys = [normalise(text) or row for row, text in enumerate(texts)]
    return pd.factorize(pd.Series(keys, dtype=object))[0].astype(np.int64)


def near_duplicate_groups(texts: Sequence[str], threshold: float = 0.8, seed: int = 0) -> np.ndarray:
    """A group number per text, equal for texts that differ in a few words only; int64 (n,), numbered as in
    `identical_groups`.

    threshold: the share of three-word runs that two texts must have in common (Jaccard). 1: identical texts only; 0.8:
    two of 60 words may differ; 0.5: six. Groups are chains: each text is near to some other, not to all. An empty text
    is near to none. seed: of MinHash; another one changes one in a thousand of the pairs just at the threshold.
    100,000 texts of 60 words take 10 to 20 seconds on one core (tests/benchmarks/near_duplicates.py).
    Raises ModuleNotFoundError without datasketch, unless threshold=1.
    """
    check_range("threshold", threshold, 0.3 <= threshold <= 1, "0.3 to 1 (near_duplicates likewise, or 0 for none)")
    groups = identical_groups(texts)
    if threshold == 1 or not len(groups):
        return groups
    first = np.unique(groups, return_index=True)[1]  # the first text of each group
    pairs = near_pairs([normalise(texts[row]) for row in first], threshold, seed)
    links = coo_matrix((np.ones(len(pairs), dtype=bool), pairs.T), shape=(len(first), len(first)))
    return pd.factorize(connected_components(links, directed=False)[1][groups])[0].astype(np.int64)


def count_range(counts: Collection[int]) -> str:
    """Counts of several folds in words: "3", or "3 to 1,200"."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def duplicate_summary(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """How many texts are identical: a line for train, for test, for test rows that are in train, and, given train's
    `labels`, for identical texts whose labels differ. Given `groups` (rows of train, then of test) from
    `near_duplicate_groups`, the same lines again as "nearly: ..."; these count identical texts too.

    Columns: `sets` of texts, `rows` in them, `share` of all rows of train (or of test), and an
    `example`.
    """
    texts = [*train_texts, *test_texts]
    lines = _count(texts, len(train_texts), labels, identical_groups(texts))
    if groups is not None:
        _check_groups(groups, len(texts), "rows of train and test")
        near = _count(texts, len(train_texts), labels, np.asarray(groups))
        lines |= {f"nearly: {name}": line for name, line in near.items()}
    table = pd.DataFrame(lines).T.astype({"sets": int, "rows": int, "share": float})
    table.attrs["percent"] = ["share"]
    return table


def show_clusters(texts: Sequence[str], groups: np.ndarray, ids: Sequence[str], n: int = 10) -> pd.DataFrame:
    """The `n` clusters of near-duplicates whose texts are least alike, to check whether they are copies; a line each.

    Columns: group, rows, wordings (different texts after `normalise`), likeness (Jaccard of the first text and the one
    least like it; 200 texts of a large cluster are compared), first and other (excerpts from where these two begin to
    differ), and ids (the first five).
    """
    _check_groups(groups, len(texts), "texts")
    texts, ids, hashes, lines = list(texts), list(ids), Hashes(), []
    clusters = pd.Series(range(len(texts))).groupby(np.asarray(groups)).indices.values()
    for rows in sorted((rows for rows in clusters if len(rows) > 1), key=len, reverse=True):
        wordings = {normalise(texts[row]): row for row in rows[::-1]}  # the first row of each
        first, *others = sorted(wordings.values())
        likeness = {row: jaccard(texts[first], texts[row], hashes) for row in others[:COMPARED]}
        last = min(likeness, key=likeness.get, default=rows[1])
        line = {"group": groups[first], "rows": len(rows), "wordings": len(wordings)}
        line |= {"likeness": likeness.get(last, 1.0), **_excerpts(texts[first], texts[last])}
        lines.append(line | {"ids": listed([ids[row] for row in rows], 5)})
    lines.sort(key=lambda line: line["likeness"])
    return pd.DataFrame(lines[:n], columns=["group", "rows", "wordings", "likeness", "first", "other", "ids"])


def conflicting_labels(
    task: Task, train: pd.DataFrame, labels: np.ndarray, groups: np.ndarray, tolerance: float = 0.0
) -> pd.DataFrame:
    """Rows of train with (nearly) the same text and different labels: one is wrong, or the text does not decide it.
    A line per row, cluster by cluster, the largest first: columns group, id, the labels as written, text.

    train: as from `read_train`; labels: as from `encode_labels`; groups: (rows of train,). tolerance: numbers (ordinal:
    class indices) that differ by no more count as equal, 0: every difference counts; not for classes and multilabel.
    """
    check_range("tolerance", tolerance, tolerance >= 0, "0 or more")
    if tolerance and task.kind not in ("ordinal", "regression"):
        raise ValueError(f"tolerance={tolerance} is for numbers: the task is {task.kind}, use tolerance=0")
    _check_groups(groups, len(train), "rows of train")
    groups, sizes = pd.Series(np.asarray(groups)), pd.Series(np.asarray(groups)).groupby(groups).transform("size")
    rows = np.flatnonzero(_differ(labels, groups, tolerance))
    order = rows[np.lexsort((rows, groups[rows], -sizes[rows]))]
    found = train[["id", *task.labels, "text"]].iloc[order].reset_index(drop=True)
    found["text"] = found["text"].map(show_columns)
    found.insert(0, "group", groups[order].to_numpy(), allow_duplicates=True)
    return found


def _differ(labels: np.ndarray, groups: pd.Series, tolerance: float = 0.0) -> np.ndarray:
    """Whether the labels of a row's group differ in any column by more than `tolerance`; bool (n,)."""
    by_group = pd.DataFrame(np.asarray(labels).reshape(len(groups), -1)).groupby(groups.to_numpy())
    return (by_group.transform("max") - by_group.transform("min") > tolerance).any(axis=1).to_numpy()


def _count(texts: list[str], size: int, labels: np.ndarray | None, groups: np.ndarray) -> dict[str, dict]:
    """The lines of `duplicate_summary`; the first `size` texts are train's."""
    train, test = pd.Series(groups[:size]), pd.Series(groups[size:], index=range(size, len(texts)))
    found = {
        "within train": (train[train.duplicated(keep=False)], train),
        "within test": (test[test.duplicated(keep=False)], test),
        "test rows that are in train": (test[test.isin(train)], test),
    }
    if labels is not None:
        found["within train, labels differ"] = (train[_differ(labels, train)], train)
    return {
        name: {
            "sets": rows.nunique(),
            "rows": len(rows),
            "share": len(rows) / max(len(table), 1),
            "example": " ".join(show_columns(texts[rows.index[0]]).split()) if len(rows) else "",
        }
        for name, (rows, table) in found.items()
    }


def _excerpts(first: str, other: str) -> dict[str, str]:
    """Both texts from shortly before they begin to differ, or from the beginning if they do not."""
    first, other = (" ".join(show_columns(text).split()) for text in (first, other))
    same = next((k for k, (a, b) in enumerate(zip(first, other, strict=False)) if a.casefold() != b.casefold()), None)
    if same is None:
        same = 0 if len(first) == len(other) else min(len(first), len(other))
    start = max(same - EXCERPT // 3, 0)
    return {
        name: "…" * (start > 0) + text[start : start + EXCERPT] + "…" * (len(text) > start + EXCERPT)
        for name, text in (("first", first), ("other", other))
    }


def _check_groups(groups: np.ndarray, rows: int, what: str) -> None:
    if np.shape(groups) != (rows,):
        raise ValueError(f"groups has the shape {np.shape(groups)}, not one number for each of the {rows} {what}")
