"""Drift between train and test (adversarial validation): can a model tell them apart, and by which words?"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from kagglekit.competition.text_columns import show_columns
from kagglekit.data.minhash import find_words
from kagglekit.options import check_range

LEVEL = 95  # %, of the interval
DRAWS = 500
CLOSE, FAR = 0.6, 0.8  # ROC AUC: below is hardly a difference, above a large one
UNSURE = 0.65  # an interval from chance to beyond it says nothing
STRENGTH = 1.0  # of the model (C)
WORDS = 50_000  # words and pairs of words, at most


@dataclass(frozen=True)
class Drift:
    """How well a model tells train and test apart.

    auc: ROC AUC, 0.5 is chance, 1 is perfect; low, high: its 95 % interval. words: the strongest first, with columns
    word, speaks_for (train or test), weight (its part of the difference in log-odds between a mean test row and a mean
    train row), in_train and in_test (share of rows that contain it). train_probs, test_probs: (rows,) probability of
    being a test row, by a model that saw neither the row nor its group, with train and test weighted equally.
    """

    auc: float
    low: float
    high: float
    words: pd.DataFrame = field(repr=False)
    train_probs: np.ndarray = field(repr=False)
    test_probs: np.ndarray = field(repr=False)

    @property
    def verdict(self) -> str:
        """The conclusion from the interval, in a sentence."""
        figures = f"ROC AUC {self.auc:.3f}, {LEVEL} % interval {self.low:.3f} to {self.high:.3f}"
        if self.low <= 0.5 and self.high > UNSURE:
            return f"A model cannot tell train and test apart ({figures}), but so few rows could hide a difference."
        if self.low <= 0.5:
            return f"A model cannot tell train and test apart ({figures}): local scores should hold on test."
        if self.auc < CLOSE:
            return f"A model hardly tells train and test apart ({figures}): look at the words, and trust local scores."
        if self.auc < FAR:
            return f"Train and test differ ({figures}): look at the words; a local score may not hold on test."
        return f"Train and test are very different ({figures}): a local score says little about test."

    def most_like_test(self, train: pd.DataFrame, n: int = 20) -> pd.DataFrame:
        """The rows of train that look most like test: columns id, probability and text."""
        if len(train) != len(self.train_probs):
            raise ValueError(
                f"train has {len(train)} rows, and {len(self.train_probs)} were compared with test: give the same rows"
            )
        rows = np.argsort(-self.train_probs, kind="stable")[:n]
        found = pd.DataFrame({"id": train["id"].to_numpy()[rows], "probability": self.train_probs[rows]})
        return found.assign(text=[show_columns(text) for text in train["text"].to_numpy()[rows]])


def adversarial_validation(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    groups: np.ndarray | None = None,
    n_splits: int = 5,
    seed: int = 0,
) -> Drift | None:
    """Train a model to predict which rows are test rows, and score it on rows that it did not see.

    TF-IDF of words and word pairs with logistic regression, cross-validated. groups: (rows of train, then test), from
    `near_duplicate_groups`: copies stay in one fold, or the model would know half of them already; None: every row by
    itself. n_splits: 2 or more; more folds take longer and train on more rows. ROC AUC is computed within folds and
    averaged, as scores of different models cannot be compared. The interval is a percentile bootstrap over groups,
    widened by sqrt(1 + k / (k - 1)), 1.5 for 5 folds, because the k models share training rows (Nadeau and Bengio,
    2003): of 300 random splits of BBC News, 287 had 0.5 in it; without the factor, four in five.
    100,000 rows of 60 words take about a minute. None where no word is in two texts. Raises ValueError when train or
    test have too few groups.
    """
    check_range("n_splits", n_splits, n_splits >= 2, "2 or more")
    texts, is_test = [*train_texts, *test_texts], np.arange(len(train_texts) + len(test_texts)) >= len(train_texts)
    groups = np.arange(len(texts)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if groups.shape != is_test.shape:
        raise ValueError(f"groups has {len(groups)} rows, train and test have {len(texts)}: one number for each")
    for name, part in (("train", groups[~is_test]), ("test", groups[is_test])):
        if len(np.unique(part)) < n_splits:
            raise ValueError(
                f"{name} has {len(np.unique(part))} different texts or groups, too few for n_splits={n_splits}"
            )
    names, rows = _find_features(texts)
    if not len(names):
        return None
    splits = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed).split(rows, is_test, groups)
    probs, folds = np.empty(len(texts)), np.empty(len(texts), dtype=np.int64)
    for fold, (learned, unseen) in enumerate(splits):
        probs[unseen], folds[unseen] = _fit(rows[learned], is_test[learned]).predict_proba(rows[unseen])[:, 1], fold
    draws = bootstrap_auc(is_test, probs, folds, groups, seed)
    ends = np.percentile(draws[1:], [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    low, high = np.clip(draws[0] + np.sqrt(1 + n_splits / (n_splits - 1)) * (ends - draws[0]), 0, 1)
    words = _weigh_words(names, rows, is_test, _fit(rows, is_test).coef_[0])
    return Drift(float(draws[0]), float(low), float(high), words, probs[~is_test], probs[is_test])


def bootstrap_auc(
    labels: np.ndarray, probs: np.ndarray, folds: np.ndarray, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """ROC AUC within folds, bootstrapped by group: float64 (1 + 500,), the first without resampling.

    labels: bool (n,); groups: (n,), 0 to the number of groups. Folds are weighted by their pairs of a true and a false
    row.
    """
    random, size = np.random.default_rng(seed), groups.max() + 1
    ranks = [(rows, np.unique(probs[rows], return_inverse=True)[1]) for rows in map(folds.__eq__, np.unique(folds))]

    def auc(times: np.ndarray) -> float:
        """times: (groups,), how often each was drawn. Unlike sklearn's, fast enough for 500 draws."""
        won = pairs = 0.0
        for rows, rank in ranks:
            weight, true = times[groups[rows]], labels[rows]
            positive = np.bincount(rank, weight * true)
            negative = np.bincount(rank, weight * ~true)
            won += positive @ (np.cumsum(negative) - negative / 2)  # a tie is half a win
            pairs += positive.sum() * negative.sum()
        return won / pairs if pairs else 0.5  # few groups: none of test may be drawn

    drawn = (np.bincount(random.integers(0, size, size), minlength=size) for _ in range(DRAWS))
    return np.array([auc(np.ones(size)), *map(auc, drawn)])


def _find_features(texts: list[str]) -> tuple[np.ndarray, csr_matrix]:
    """The names of the words and pairs of words (terms,), sorted, and their TF-IDF (texts, terms), as
    `TfidfVectorizer(min_df=rare, max_features=WORDS)` has them; it would keep and sort every pair, also rare ones."""
    numbers = defaultdict()
    numbers.default_factory = numbers.__len__
    words = [np.fromiter(map(numbers.__getitem__, find_words(text)), dtype=np.int64) for text in texts]
    flat, owners = np.concatenate(words), np.repeat(np.arange(len(texts)), list(map(len, words)))
    inside = owners[1:] == owners[:-1]
    pairs = (flat[:-1] + 1) * len(numbers) + flat[1:]  # words are the codes below, pairs those from len(numbers)
    codes, terms = np.unique(np.concatenate([flat, pairs[inside]]), return_inverse=True)
    owners = np.concatenate([owners, owners[1:][inside]])
    counts = csr_matrix((np.ones(len(owners), np.float32), (owners, terms)), (len(texts), len(codes)))
    counts.sum_duplicates()
    kept = np.flatnonzero(counts.getnnz(axis=0) >= (2 if len(texts) < 20_000 else 5))
    if not len(kept):
        return np.array([]), counts
    words = np.array([*numbers], dtype=object)
    first, second = np.divmod(codes[kept], len(numbers))
    names = np.where(first > 0, words[first - 1] + " " + words[second], words[second])
    order = np.argsort(names)
    names, counts = names[order], counts[:, kept[order]]
    most = np.sort((-np.asarray(counts.sum(axis=0)).ravel()).argsort()[:WORDS])
    return names[most], TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, most])


def _fit(rows: csr_matrix, is_test: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300).fit(rows, is_test)


def _weigh_words(names: np.ndarray, rows: csr_matrix, is_test: np.ndarray, slopes: np.ndarray) -> pd.DataFrame:
    train, test = rows[~is_test], rows[is_test]
    means = [np.asarray(part.mean(axis=0)).ravel() for part in (train, test)]
    weights = slopes * (means[1] - means[0])
    order = np.argsort(-weights, kind="stable")
    shares = [part.getnnz(axis=0)[order] / part.shape[0] for part in (train, test)]
    words = {
        "word": [" ".join(show_columns(name).split()) for name in names[order]],
        "speaks_for": np.where(slopes[order] > 0, "test", "train"),
        "weight": weights[order],
    }
    table = pd.DataFrame({**words, "in_train": shares[0], "in_test": shares[1]})
    table.attrs["percent"] = ["in_train", "in_test"]
    return table
