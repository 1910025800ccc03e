"""TF-IDF of words and characters with a linear model: the baseline; seconds, and often hard to beat on long texts."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from kagglekit.competition.task import Task, encode_labels
from kagglekit.competition.text_columns import split_columns
from kagglekit.progress import track
from kagglekit.runs.folder import Fitted
from kagglekit.scoring.metrics import CLASSES

START = 0.3  # the strength that is tried first
MANY = 20_000  # rows, from which on two inner folds say enough, and terms of fewer than five texts too little


def find_features(texts: Sequence[str], rare: int) -> csr_matrix:
    """TF-IDF of word 1-2-grams and character 1-4-grams of at least `rare` texts: (texts, terms) float32.

    Where most words are of one character, such as numbers or segmented Chinese, these count too. Where no term is in so
    many texts all count, and texts without any sign have a column of ones. Texts of several columns have the terms of
    the whole text, those of each column, since a word may mean something else in it, and the cosine of each two
    columns, which a linear model could not find.
    """
    rows = [split_columns(text) for text in texts]
    vectorizers, whole = _vectorize(["\n".join(row) for row in rows], rare)
    if len(rows[0]) == 1:
        return whole
    columns = list(zip(*rows, strict=True))
    parts = [whole, *(_vectorize(column, rare)[1] for column in columns)]
    vectors = [normalize(hstack([one.transform(column) for one in vectorizers])) for column in columns if vectorizers]
    parts += [csr_matrix(a.multiply(b).sum(axis=1)) for a, b in combinations(vectors, 2)]
    return csr_matrix(hstack(parts).astype(np.float32))


def _vectorize(texts: Sequence[str], rare: int) -> tuple[list[TfidfVectorizer], csr_matrix]:
    """What counts the terms of the texts, and the matrix that it gives."""
    lengths = [len(word) for text in texts[:: max(1, len(texts) // 1000)] for word in re.findall(r"\w+", text)]
    least = 1 if lengths and np.median(lengths) < 2 else 2
    fitted, parts = [], []
    for min_df in dict.fromkeys((rare, 1)):
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=min_df, max_df=0.5)
        words.set_params(token_pattern=rf"(?u)\b\w{{{least},}}\b")
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=min_df)
        for one in track((words, characters), "counting terms of words and characters", "part"):
            with suppress(ValueError):  # no terms are left, such as of emoji the words
                parts.append(one.fit_transform(texts))
                fitted.append(one)
        if parts:
            return fitted, csr_matrix(hstack(parts).astype(np.float32))
    return [], csr_matrix(np.ones((len(texts), 1), dtype=np.float32))


@dataclass
class Baseline:
    """Word 1-2-grams and character 1-4-grams; a linear SVM with calibrated probabilities, or ridge regression.

    The vocabulary and its weights come from the texts of train and test, without labels; of several columns see
    `find_features`. The strength of the regularisation is cross-validated within the training rows of each fold, and so
    are the margins that sigmoids turn into probabilities (Platt, 1999). strengths: tried from START on, see
    `choose_strength`. inner_folds: two where there are more than 20,000 rows.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    strengths: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    inner_folds: int = 3

    def __post_init__(self):
        self.labels, many = encode_labels(self.task, self.train), len(self.train) > MANY
        self.inner_folds = 2 if many else self.inner_folds
        everything = find_features([*self.train["text"], *self.test["text"]], 5 if many else 2)
        self.rows, self.test_rows = everything[: len(self.train)], everything[len(self.train) :]

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, seed: int) -> Fitted:
        """Fit and predict; no model is kept."""
        x, y = self.rows[train_rows], self.labels[train_rows]
        unseen = (self.rows[valid_rows], self.test_rows)
        if self.task.kind in CLASSES:
            return Fitted(*self._probabilities(x, y, unseen, seed, np.arange(len(self.task.columns))))
        if self.task.kind == "multilabel":
            each = track(y.T.astype(int), "", "label")
            columns = [self._probabilities(x, label, unseen, seed, np.arange(2)) for label in each]
            return Fitted(*(np.column_stack([c[i][:, 1] for c in columns]) for i in range(2)))
        inner = KFold(max(2, min(self.inner_folds, len(y))), shuffle=True, random_state=seed)
        y = y.reshape(len(y), -1).astype(np.float64)

        def ridge(strength: float) -> Ridge:
            return Ridge(alpha=1 / strength, solver="sparse_cg")

        def worth(strength: float) -> float:
            return cross_val_score(ridge(strength), x, y, cv=inner, scoring="neg_mean_squared_error").mean()

        strength = (
            choose_strength(worth, self.strengths) if len(y) > 1 else START
        )  # of a single row nothing is left out
        model = ridge(strength).fit(x, y)
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
            model = CalibratedSVM(seed, inner, self.strengths).fit(x, y)
        full = [np.tile((counts / len(known)).astype(np.float32), (rows.shape[0], 1)) for rows in unseen]
        for probs, rows in zip(full, unseen, strict=True):
            probs[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(rows) * known.mean()
        return full


@dataclass
class CalibratedSVM:
    """A linear SVM of the best strength, with calibrated probabilities: what `CalibratedClassifierCV(cv=inner,
    ensemble=False)` gives, but the margins that it would compute again are those by which the strength was chosen.

    inner: splits, such as a `StratifiedKFold`, in which every class is known.
    """

    seed: int
    inner: StratifiedKFold
    strengths: Sequence[float]

    def fit(self, x: csr_matrix, y: np.ndarray) -> "CalibratedSVM":
        svm = LinearSVC(tol=1e-2, random_state=self.seed)  # a finer tolerance takes twice as long for the same
        self.classes_, margins = np.unique(y), {}

        def worth(strength: float) -> float:
            model = clone(svm).set_params(C=strength)
            margins[strength] = found = cross_val_predict(model, x, y, cv=self.inner, method="decision_function")
            right = Margins(self.classes_).predict(_columns(found)) == y
            return float(np.mean([right[rows].mean() for _, rows in self.inner.split(x, y)]))

        strength = choose_strength(worth, self.strengths)
        self.svm_ = svm.set_params(C=strength).fit(x, y)
        known = CalibratedClassifierCV(Margins(self.classes_), cv=self.inner, ensemble=False)
        self.calibration_ = known.fit(_columns(margins[strength]), y)
        return self

    def predict_proba(self, x: csr_matrix) -> np.ndarray:
        return self.calibration_.predict_proba(_columns(self.svm_.decision_function(x)))


class Margins(ClassifierMixin, BaseEstimator):
    """A classifier whose rows are margins already."""

    def __init__(self, classes: np.ndarray):
        self.classes = self.classes_ = classes

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Margins":
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] if x.shape[1] == 1 else x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.classes_[x.argmax(axis=1) if x.shape[1] > 1 else (x[:, 0] > 0).astype(int)]


def _columns(margins: np.ndarray) -> np.ndarray:
    return margins.reshape(len(margins), -1)


def choose_strength(worth: Callable[[float], float], strengths: Sequence[float]) -> float:
    """The strength that is worth most: from START upwards while it is not worse than the best, else downwards.

    A model takes the longer the larger its strength, and on many noisy texts the largest ones are never best.
    """
    found = {START: worth(START)}
    ways = [sorted(s for s in strengths if s > START), sorted((s for s in strengths if s < START), reverse=True)]
    for way in ways:
        for strength in way if max(found.values()) == found[START] else ():
            found[strength] = worth(strength)
            if found[strength] < max(found.values()):
                break
    return max(found, key=found.get)
