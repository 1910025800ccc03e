"""Leaks of columns: how much of the score each column carries, and which column groups rows as train and test are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from kagglekit.competition.columns import has_few_values, possible_groups
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.task import Task, read_test, read_train, shared_columns
from kagglekit.data.folds import assign_folds, join_groups
from kagglekit.data.minhash import find_words
from kagglekit.options import check_range
from kagglekit.progress import track
from kagglekit.scoring.bootstrap import bootstrap_scores, interval
from kagglekit.scoring.metrics import CLASSES, is_higher_better, score

ROWS = 10_000  # of a larger table, drawn at random: more cost time and say the same
WORDS = 20_000  # words of a column, at most
BINS = 10  # a number is read as one of so many equal parts, so that a linear model sees any form


@dataclass(frozen=True)
class Cells:
    """Cells as written, name -> (rows,), of columns that train and test share.

    telling: of train, those whose effect on the score is worth measuring: every column, the text, and the first words
    of the text where these are the same in many rows; empty where there is nothing but a text. train, test: of columns
    that could be a group, as their values repeat.
    """

    telling: dict[str, list[str]]
    train: dict[str, list[str]]
    test: dict[str, list[str]]


def read_cells(task: Task) -> Cells:
    """The cells of a task's files."""
    names = shared_columns(task)
    train, test = read_train(task, names), read_test(task, names)
    telling = {name: train[name].tolist() for name in names if train[name].nunique() > 1}
    if len(task.text) == 1:
        first, rest = split_prefix(train["text"])
        tagged = has_few_values(pd.Series(first)) and len(set(first)) > 1
        parts = {f"{task.text[0]}, first words": first, f"{task.text[0]}, the rest": rest}
        telling = (parts if tagged else {task.text[0]: train["text"].tolist()}) | telling
    groups = possible_groups(train[names], test[names], (), train["text"])
    tables = [{name: table[name].tolist() for name in groups if name in test} for table in (train, test)]
    return Cells(telling if len(telling) > 1 else {}, *tables)


def split_prefix(texts: Sequence[str], words: int = 2) -> tuple[list[str], list[str]]:
    """The first words of each text, and the rest: a tag such as "[reddit]" or a dateline often stands there."""
    parts = [text.split(maxsplit=words) for text in texts]
    return [" ".join(part[:words]) for part in parts], [" ".join(part[words:]) for part in parts]


def column_effects(
    metric: str,
    kind: str,
    labels: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    folds: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> pd.DataFrame:
    """What a quick linear model scores with all columns, without each of them, and with each alone.

    labels: as from `encode_labels`. columns: name -> (rows,) cells as written, texts among them; a number is read as
    one of ten equal parts, any other cell as its words and as a whole. folds: (rows,), -1 is never validated.
    groups: (rows,): the bootstrap draws groups. Logistic regression or ridge on TF-IDF; of more than 10,000 rows, as
    many are drawn. Returns a row for each column, the most telling first: alone and without (scores), share_alone (of
    what all columns gain over a constant prediction, the column alone gains), gain (of all columns over all but this
    one; positive: it helps), low and high (95 % interval of the gain, by a bootstrap of out-of-fold predictions).
    `attrs` holds the scores "all" and "constant". A few seconds for 2,000 texts and five columns.
    """
    names, draw = list(columns), np.random.default_rng(seed)
    check_range("columns", names, len(names) > 0, "at least one")
    rows = np.flatnonzero(folds >= 0)
    rows = np.sort(draw.choice(rows, ROWS, replace=False)) if len(rows) > ROWS else rows
    labels, folds, groups = labels[rows], folds[rows], np.asarray(groups)[rows]
    matrices = {name: _vectorize([columns[name][row] for row in rows]) for name in names}
    sets = [names, [], *([other for other in names if other != name] for name in names), *([name] for name in names)]
    empty = csr_matrix((len(rows), 1), dtype=np.float32)
    inputs = [hstack([matrices[name] for name in some], format="csr") if some else empty for some in sets]
    predictions = [_out_of_fold(kind, x, labels, folds) for x in track(inputs, "columns", "set")]
    draws = bootstrap_scores(metric, labels, predictions, groups, seed=seed)
    point = np.array([score(metric, labels, some) for some in predictions])
    sign, units = 1 if is_higher_better(metric) else -1, len(np.unique(groups))
    found = []
    for number, name in enumerate(names):
        without, alone = 2 + number, 2 + len(names) + number
        low, high = interval(sign * (draws[:, 0] - draws[:, without]), units)
        span = point[0] - point[1]
        share = (point[alone] - point[1]) / span if sign * span > 0 else np.nan
        found.append((name, point[alone], point[without], share, sign * (point[0] - point[without]), low, high))
    table = pd.DataFrame(found, columns=["column", "alone", "without", "share_alone", "gain", "low", "high"])
    table = table.sort_values("share_alone", ascending=False, ignore_index=True)
    table.attrs |= {"all": float(point[0]), "constant": float(point[1])}
    return table


def group_effects(
    train: Mapping[str, Sequence[str]],
    test: Mapping[str, Sequence[str]],
    labels: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> pd.DataFrame:
    """Which column, as `group`, makes validation rows meet new values as often as the rows of test do.

    train, test: name -> cells of columns whose values repeat. labels, folds, groups: (rows of train,), the present
    folds and the rows that they keep together, such as copies. Returns a row for each column: values, in_test (share of
    test rows with a value that train has too), in_folds (the same of validation rows and their training rows, in the
    present folds), and distance (how far such shares are from those of test, as a mean over the columns, when folds are
    grouped by this one; NaN: fewer values than folds). The row "(folds as they are)" has the distance of the present
    folds: name a group that is much nearer to test.
    """
    n_folds, names = int(folds.max()) + 1, list(train)
    codes = {name: pd.factorize(pd.Series([*train[name], *test[name]]))[0] for name in names}
    ours = {name: codes[name][: len(folds)] for name in names}
    in_test = {name: float(np.isin(codes[name][len(folds) :], ours[name]).mean()) for name in names}
    now = {name: _share_seen(ours[name], folds) for name in names}

    def distance(split: np.ndarray) -> float:
        return float(np.mean([abs(_share_seen(ours[name], split) - in_test[name]) for name in names]))

    found = []
    for name in names:
        together = join_groups(groups, ours[name])
        enough = len(np.unique(together)) >= n_folds
        apart = distance(assign_folds(labels, together, n_folds, seed)) if enough else np.nan
        found.append((name, len(np.unique(ours[name])), in_test[name], now[name], apart))
    table = pd.DataFrame(found, columns=["column", "values", "in_test", "in_folds", "distance"])
    table.loc[len(table)] = ("(folds as they are)", len(np.unique(groups)), np.nan, np.nan, distance(folds))
    return table.sort_values("distance", ignore_index=True)


def _share_seen(codes: np.ndarray, folds: np.ndarray) -> float:
    """The share of validation rows whose value some training row of their fold has."""
    cells = pd.crosstab(codes, folds)
    seen = cells.sum(axis=1).to_numpy()[:, None] > cells.to_numpy()
    validated = cells.columns.to_numpy() >= 0
    counts = cells.to_numpy()[:, validated]
    return float((counts * seen[:, validated]).sum() / counts.sum())


def _vectorize(cells: list[str]) -> csr_matrix:
    """The cells of a column as TF-IDF (rows, terms), or one column of zeros where no term is in two rows."""
    if (numbers := are_numbers(cells)).mean() > 0.5:
        values = np.array([float(cell) if number else np.nan for cell, number in zip(cells, numbers, strict=True)])
        parts = pd.qcut(pd.Series(values).rank(), BINS, labels=False, duplicates="drop")
        terms = [[f"part {part}"] if part == part else ["none"] for part in parts]
    else:
        terms = [[*find_words(cell), cell.strip()] for cell in cells]
    vectorizer = TfidfVectorizer(analyzer=lambda row: row, sublinear_tf=True, min_df=2, max_features=WORDS)
    try:
        return csr_matrix(vectorizer.fit_transform(terms), dtype=np.float32)
    except ValueError:  # all cells differ, so that nothing can be learned from them
        return csr_matrix((len(cells), 1), dtype=np.float32)


def _out_of_fold(kind: str, x: csr_matrix, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predictions (rows, columns) of a linear model for the rows of each fold, fitted on the other folds."""
    columns = int(labels.max()) + 1 if kind in CLASSES else labels.reshape(len(labels), -1).shape[1]
    found = np.empty((len(labels), columns))
    for fold in np.unique(folds):
        learned, unseen = folds != fold, folds == fold
        if kind in CLASSES:
            found[unseen] = _probabilities(x[learned], labels[learned], x[unseen], columns)
        elif kind == "multilabel":
            each = [_probabilities(x[learned], label[learned].astype(int), x[unseen], 2)[:, 1] for label in labels.T]
            found[unseen] = np.column_stack(each)
        else:
            targets = labels.reshape(len(labels), -1).astype(np.float64)
            model = Ridge(solver="sparse_cg").fit(x[learned], targets[learned])
            found[unseen] = model.predict(x[unseen]).reshape(unseen.sum(), -1)
    return found


def _probabilities(x: csr_matrix, y: np.ndarray, unseen: csr_matrix, columns: int) -> np.ndarray:
    """Class probabilities (rows, columns); a class that `y` lacks has 0."""
    found = np.zeros((unseen.shape[0], columns))
    if len(np.unique(y)) < 2:
        found[:, y[0]] = 1.0
        return found
    model = LogisticRegression(max_iter=100, tol=1e-3).fit(x, y)
    found[:, model.classes_] = model.predict_proba(unseen)
    return found
