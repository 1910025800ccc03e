"""Texts that come more than once: within train, within test, and across the two."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def normalise(text: str) -> str:
    """The text without what makes copies look different: upper case (by casefold) and runs of white space."""
    return " ".join(text.casefold().split())


def identical_groups(texts: Sequence[str]) -> np.ndarray:
    """A group number per text, equal for texts that are identical after `normalise`; int64 (n,).

    Numbers count from 0 in order of first appearance. Empty texts say nothing about each other: each is its own group.
    """
    numbers: dict = {}
    keys = (normalise(text) or row for row, text in enumerate(texts))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def duplicate_summary(
    train_texts: Sequence[str], test_texts: Sequence[str], labels: np.ndarray | None = None
) -> pd.DataFrame:
    """Where identical texts are: one line each for train, test, across both, and, given train's `labels`, for sets of
    identical texts whose labels differ.

    Columns: `sets` of identical texts, `rows` in them, `share` of all rows of train (of test, where rows of test are
    counted), and the beginning of one such text as an `example`.
    """
    texts = pd.Series([*train_texts, *test_texts], dtype=object)
    size = len(train_texts)
    groups = identical_groups(texts)
    train, test = pd.Series(groups[:size]), pd.Series(groups[size:], index=range(size, len(texts)))
    found = {
        "within train": (train[train.duplicated(keep=False)], train),
        "within test": (test[test.duplicated(keep=False)], test),
        "test rows that are in train": (test[test.isin(train)], test),
    }
    if labels is not None:
        codes = pd.Series(list(map(tuple, np.asarray(labels).reshape(size, -1).tolist())), dtype=object)
        different = pd.factorize(codes)[0]
        conflicts = train[pd.Series(different).groupby(train).transform("nunique") > 1]
        found["within train, labels differ"] = (conflicts, train)
    return pd.DataFrame(
        {
            name: {
                "sets": rows.nunique(),
                "rows": len(rows),
                "share": len(rows) / max(len(table), 1),
                "example": " ".join(texts[rows.index[0]].split())[:60] if len(rows) else "",
            }
            for name, (rows, table) in found.items()
        }
    ).T.astype({"sets": int, "rows": int, "share": float})
