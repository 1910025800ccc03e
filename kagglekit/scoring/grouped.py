"""Metrics by group, such as `roc_auc_by:subreddit`: the mean over the values of a column of the metric on their rows.

The groups travel with the labels: `LabelsBy` is an array of labels that knows the group of each row, and rows that are
taken from it know theirs. Everything else that is made of it is a plain array, so that groups can never be those of
other rows; a metric by group that is given plain labels is an error. A group on which the metric is not defined (ROC
AUC of one class) is left out of the mean, as in the grouped AUC of recommender systems.
"""

import numpy as np


class LabelsBy(np.ndarray):
    """Labels (n,) or (n, k), and `by` (n,): the group of each row, as numbers from 0, which `names` (groups,) tells."""

    by: np.ndarray | None = None
    names: np.ndarray | None = None

    def __new__(cls, labels: np.ndarray, groups: np.ndarray) -> "LabelsBy":
        """groups: (n,), of any values. Raises ValueError for another number of them."""
        made = np.asarray(labels).view(cls)
        made.names, made.by = np.unique(np.asarray(groups), return_inverse=True)
        made.by = made.by.ravel()
        if len(made) != len(made.by):
            raise ValueError(f"{len(made)} labels do not go with {len(made.by)} groups")
        return made

    def __getitem__(self, rows):
        found = super().__getitem__(rows)
        if not isinstance(found, LabelsBy):
            return found
        if self.by is None or isinstance(rows, tuple) or found.ndim < self.ndim:
            return np.asarray(found)
        found.by, found.names = self.by[rows], self.names
        return found

    def __array_wrap__(self, made, context=None, return_scalar=False):
        return made[()] if return_scalar else np.asarray(made)  # sums and comparisons are plain

    def __reduce__(self):
        return LabelsBy, (np.asarray(self), self.names[self.by])


def members_of(labels: np.ndarray, metric: str) -> np.ndarray:
    """Which rows are of which group, (rows, groups) bool, of labels with groups that share rows."""
    rows_by_group(labels, metric)
    return np.array([[sign == "1" for sign in name] for name in labels.names], dtype=bool)[labels.by]


def rows_by_group(labels: np.ndarray, metric: str) -> list[np.ndarray]:
    """The row numbers of each group. Raises ValueError for labels that came without groups."""
    groups = getattr(labels, "by", None)
    if groups is None:
        raise ValueError(
            f"metric={metric!r} is a mean over groups of rows, and these labels came without the column that says "
            "which rows belong together: take them from `encode_labels`, or name a metric without _by"
        )
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def mean_of_groups(values: list) -> np.ndarray:
    """The mean over the groups (first axis) without those that are NaN; NaN where all are."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
