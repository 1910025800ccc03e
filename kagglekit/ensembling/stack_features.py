"""Features of a second-level model: base predictions, the other rows of the document, and measures of the text."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from kagglekit.competition.guess import UNSPACED
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.features import Features, check_number_column
from kagglekit.ensembling.ensembler import StackInput

SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1: float32 says little beyond


def to_evidence(predictions: np.ndarray, kind: str) -> np.ndarray:
    """Predictions (..., k) on the scale on which independent evidence adds up: (..., columns).

    binary: the log-odds of the second class, one column. multiclass: log-probabilities less their mean over the classes
    (the centred log-ratio, Aitchison, 1982). multilabel: the log-odds of each label. Values stay what they are.
    """
    if kind not in ("binary", "multiclass", "multilabel"):
        return np.asarray(predictions, dtype=np.float64)
    logs = np.log(np.clip(predictions, SMALLEST, 1))
    if kind == "binary":
        return logs[..., 1:] - logs[..., :1]
    if kind == "multiclass":
        return logs - logs.mean(axis=-1, keepdims=True)
    return logs - np.log(np.clip(1 - np.asarray(predictions, dtype=np.float64), SMALLEST, 1))


def from_evidence(evidence: np.ndarray, kind: str) -> np.ndarray:
    """The way back from `to_evidence`: predictions (n, k), probabilities whose rows sum to 1 for classes."""
    if kind == "binary":
        return expit(np.concatenate([-evidence, evidence], axis=1))
    if kind == "multiclass":
        return softmax(evidence, axis=1)
    return expit(evidence) if kind == "multilabel" else evidence


def make_features(inputs: StackInput, aggregates: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The features of a second-level model (n, features), and the mean of the runs (n, columns), both as evidence.

    Features: each run, their mean, `document_aggregates` of the mean (where there are documents, and unless
    `aggregates` is False), and meta; NaN where a row is alone in its document.
    """
    evidence = to_evidence(inputs.predictions, inputs.kind)  # (runs, n, columns)
    mean = evidence.mean(axis=0)
    parts = [*evidence, mean]
    if aggregates and inputs.documents is not None:
        parts.append(document_aggregates(mean, inputs.documents))
    if inputs.meta is not None:
        parts.append(inputs.meta)
    return np.concatenate(parts, axis=1), mean


def document_aggregates(values: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Mean, min, max, standard deviation of `values` (n, k) over the OTHER rows of each row's document: (n, 4 k + 2).

    Then the logarithm of the document's rows, and 1 for a lone row, which has NaN in the first 4 k columns. Make the
    document the group of the folds: where folds split a document, the fitted rows see more of it than the predicted
    ones. No label is looked at.
    """
    values = np.asarray(values, dtype=np.float64)
    codes = pd.factorize(np.asarray(documents))[0]
    sizes = np.bincount(codes)[codes]
    others = np.where(sizes > 1, sizes - 1, np.nan)
    columns = []
    for column in values.T:
        center = np.bincount(codes, column) / np.bincount(codes)
        away = column - center[codes]  # from the mean of the document
        mean = -away / others  # of the others, from there
        squares = np.bincount(codes, away**2)[codes] - away**2
        spread = np.sqrt(np.maximum(squares / others - mean**2, 0))
        columns += [center[codes] + mean, _least_of_others(column, codes), -_least_of_others(-column, codes), spread]
    return np.column_stack([*columns, np.log(sizes), sizes == 1]).astype(np.float64)


def _least_of_others(column: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The least value of the other rows of each row's document, NaN for a lone row."""
    ranks = pd.Series(column).groupby(codes).rank(method="first").to_numpy()
    least, second = (pd.Series(column[ranks == k], index=codes[ranks == k]).reindex(codes).to_numpy() for k in (1, 2))
    return np.where(ranks == 1, second, least)


def _count_words(text: str) -> int:
    """Words between spaces; in scripts without spaces two characters count as a word."""
    return len(text.split()) + len(UNSPACED.findall(text)) // 2


def _share_of_punctuation(text: str) -> float:
    return sum(unicodedata.category(sign).startswith("P") for sign in text) / max(1, len(text))


MEASURES = {
    "characters": lambda text: np.log1p(len(text)),
    "words": lambda text: np.log1p(_count_words(text)),
    "lines": lambda text: np.log1p(text.strip().count("\n") + 1),
    "punctuation": _share_of_punctuation,
}  # measures of a text: lengths as logarithms, punctuation as a share of the characters


def read_meta(names: Sequence[str], train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Features of the rows for a second-level model: float64 (rows of train, f) and (rows of test, f).

    names: columns of numbers that train and test share, or else "characters", "words", "lines", "punctuation" of the
    text. train, test: tables as from `read_train`, all text. Features have mean 0 and standard deviation 1 over train,
    and are 0 where missing ("", "NA", "nan" ...); for a column with gaps in train another one, behind all, has 1 there.
    Raises ValueError that names the column, and the first row that holds no number.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise ValueError(f"meta={names}: name each only once")
    if not names:
        return np.zeros((len(train), 0)), np.zeros((len(test), 0))
    for name in names:
        if (name in train.columns) != (name in test.columns):
            has, lacks = ("train", "test") if name in train.columns else ("test", "train")
            raise ValueError(f"meta: {has} has the column {name!r} and {lacks} has not: name one that both have")
    tables = [
        pd.DataFrame({name: _read_column(name, table, file) for name in names}, dtype=object)
        for table, file in ((train, "train"), (test, "test"))
    ]
    learned = Features.fit(tables[0], numbers=names)
    return tuple(learned.transform(table)["numbers"].astype(np.float64) for table in tables)


def _read_column(name: str, table: pd.DataFrame, file: str) -> list[str]:
    """A column of numbers as written, or a measure of the text written likewise."""
    if name not in table.columns:
        if name in MEASURES and "text" in table.columns:
            return [repr(float(MEASURES[name](text.replace(SEPARATOR, "\n")))) for text in table["text"]]
        raise ValueError(
            f"meta: {file} has no column {name!r}. Name one of {', '.join(MEASURES)}, or a column of numbers that "
            f"train and test have; {file} has {', '.join(map(str, table.columns))}"
        )
    cells = table[name].astype(str)
    check_number_column(cells, f"meta: {file}", table.get("id"), "leave the column out")
    return cells.tolist()
