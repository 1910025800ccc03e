"""Candidates: classes that a group never has in the training rows are not predicted; of any learner of tables.

Half of the leading solutions of Kaggle's MAP (2025), where each question has a few of 65 misconceptions, did so. A
fine-tuned model masks its logits by itself, and keeps the classes of each group with its weights (`FeatureScaler`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.features import Candidates, keep_allowed
from kagglekit.runs.folder import Fitted

SEEN, FEW = 0.99, 0.5  # at least this share of labels is among the candidates, which are at most this share of classes


@dataclass
class KnownClasses:
    """A learner whose predictions keep the classes that a row's group has among the training rows of the fold.

    train, test: its tables, with the column. An unseen group can have every class.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    column: str
    learner: Any

    @property
    def settings(self) -> dict[str, Any]:
        return getattr(self.learner, "settings", {})

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int, **begin: Any) -> Fitted:
        """Fit and predict; labels of `train_rows` alone say which classes a group has."""
        fitted, learned = (
            self.learner.fit(train_rows, valid_rows, folder, seed=seed, **begin),
            self.train.iloc[train_rows],
        )
        known = Candidates.fit(learned, self.column, encode_labels(self.task, learned), len(self.task.classes))
        oof = keep_allowed(fitted.oof, known.allowed(self.train.iloc[valid_rows]))
        return replace(fitted, oof=oof, test=keep_allowed(fitted.test, known.allowed(self.test)))


def describe_candidates(columns: Mapping[str, Sequence[str]], labels: np.ndarray, classes: Sequence[str]) -> str:
    """Which of these columns of train have groups of few classes each, in a sentence; empty where none has.

    Groups of half of the rows, drawn at random, are compared with the labels of the others, so that a column of many
    small groups, which have few classes by chance, is none.
    """
    half, found = np.random.default_rng(0).permutation(len(labels)) % 2 == 0, []
    for name, column in columns.items() if len(classes) > 2 and labels.ndim == 1 else ():
        table = pd.DataFrame({name: list(column)})
        allowed = Candidates.fit(table[half], name, labels[half], len(classes)).allowed(table[~half])
        known = table[name][~half].isin(set(table[name][half])).to_numpy()
        if known.mean() < 0.5 or allowed[known].mean() > FEW:
            continue
        if allowed[known, labels[~half][known]].mean() >= SEEN:
            found.append(f"{name} ({allowed[known].sum(axis=1).mean():.1f} of {len(classes)} classes in a group)")
    if not found:
        return ""
    first = found[0].split(" (")[0]
    return f"Groups with few classes: {', '.join(found)}; candidates={first} in 3_train predicts no others."
