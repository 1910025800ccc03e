"""TF-IDF of words and characters with a linear model: the baseline; seconds, and often hard to beat on long texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from kagglekit.competition.task import Task, encode_labels
from kagglekit.competition.text_columns import split_columns
from kagglekit.runs.folder import Fitted
from kagglekit.scoring.metrics import CLASSES


def find_features(texts: Sequence[str], rare: int) -> csr_matrix:
    """TF-IDF of word 1-2-grams and character 1-4-grams of at least `rare` texts: (texts, terms) float32.

    Texts of several columns have those of the whole text, those of each column, since a word may mean something else in
    it, and the cosine of each two columns, which a linear model could not find.
    """
    rows = [split_columns(text) for text in texts]
    vectorizer = _vectorizer(rare)
    whole = csr_matrix(vectorizer.fit_transform(["\n".join(row) for row in rows]).astype(np.float32))
    if len(rows[0]) == 1:
        return whole
    parts, columns = [whole], list(zip(*rows, strict=True))
    for column in columns:
        try:
            parts.append(_vectorizer(rare).fit_transform(column))
        except ValueError:  # no term is in `rare` of its cells
            continue
    vectors = [normalize(vectorizer.transform(column)) for column in columns]
    parts += [csr_matrix(a.multiply(b).sum(axis=1)) for a, b in combinations(vectors, 2)]
    return csr_matrix(hstack(parts).astype(np.float32))


def _vectorizer(rare: int) -> FeatureUnion:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rare, max_df=0.5)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=rare)
    return FeatureUnion([("words", words), ("characters", characters)])


@dataclass
class Baseline:
    """Word 1-2-grams and character 1-4-grams; a linear SVM with calibrated probabilities, or ridge regression.

    The vocabulary and its weights come from the texts of train and test, without labels; of several columns see
    `find_features`. The strength of the regularisation is cross-validated within the training rows of each fold, and so
    are the margins that sigmoids turn into probabilities (Platt, 1999).
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    strengths: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    inner_folds: int = 3

    def __post_init__(self):
        self.labels = encode_labels(self.task, self.train)
        everything = find_features([*self.train["text"], *self.test["text"]], 2 if len(self.train) < 20_000 else 5)
        self.rows, self.test_rows = everything[: len(self.train)], everything[len(self.train) :]

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int) -> Fitted:
        """Fit and predict; no model is kept."""
        x, y = self.rows[train_rows], self.labels[train_rows]
        unseen = (self.rows[valid_rows], self.test_rows)
        if self.task.kind in CLASSES:
            return Fitted(*self._probabilities(x, y, unseen, seed, np.arange(len(self.task.columns))))
        if self.task.kind == "multilabel":
            columns = [self._probabilities(x, label, unseen, seed, np.arange(2)) for label in y.T.astype(int)]
            return Fitted(*(np.column_stack([c[i][:, 1] for c in columns]) for i in range(2)))
        inner = KFold(self.inner_folds, shuffle=True, random_state=seed)
        grid = {"alpha": [1 / c for c in self.strengths]}
        model = GridSearchCV(Ridge(solver="sparse_cg"), grid, cv=inner, scoring="neg_mean_squared_error")
        model.fit(x, y.reshape(len(y), -1).astype(np.float64))
        return Fitted(*(model.predict(rows).reshape(rows.shape[0], -1).astype(np.float32) for rows in unseen))

    def _probabilities(self, x, y, unseen, seed, classes) -> list[np.ndarray]:
        """Class probabilities (rows, classes) of each matrix in `unseen`; a class that `y` lacks gets 0, and one with a
        single row, from which nothing is learned, its share."""
        counts = np.bincount(y, minlength=len(classes))
        common = np.flatnonzero(counts > 1)
        known = np.isin(y, common) if len(common) > 1 else np.full(len(y), True)
        x, y = x[known], y[known]
        if len(common) < 2:
            model = DummyClassifier(strategy="prior").fit(x, y)
        else:
            inner = StratifiedKFold(min(self.inner_folds, counts[common].min()), shuffle=True, random_state=seed)
            svm = LinearSVC(tol=1e-2, random_state=seed)  # a finer tolerance takes twice as long for the same
            search = GridSearchCV(svm, {"C": list(self.strengths)}, cv=inner, refit=False).fit(x, y)
            svm.set_params(**search.best_params_)
            model = CalibratedClassifierCV(svm, cv=inner, ensemble=False).fit(x, y)
        full = [np.tile((counts / len(known)).astype(np.float32), (rows.shape[0], 1)) for rows in unseen]
        for probs, rows in zip(full, unseen, strict=True):
            probs[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(rows) * known.mean()
        return full
