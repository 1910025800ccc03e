"""Label noise: labels that are probably wrong, because a model that never saw the row is confident of another."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.read import read_table
from kagglekit.competition.task import Task
from kagglekit.competition.text_columns import show_columns
from kagglekit.files import replacing, shorten
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

START = 100  # characters of a text in suspects.csv
NORMAL = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


def suspect_labels(kind: str, labels: np.ndarray, predictions: np.ndarray, outlier: float = 3.0) -> pd.DataFrame:
    """Labels to review, the most suspect first, by out-of-fold predictions.

    labels: as from `encode_labels`; predictions: (n, columns), of models that did not train on the row. Returns a line
    per label: row (number), column (of a label or target; 0 where there is one), label, suggested, score.

    binary, multiclass: confident learning (Northcutt et al., 2021). A class is confident in a row where its probability
    reaches its mean over the rows labelled so; a label is suspect when the likeliest confident class is another, and
    the likeliest class is too. A class on which the model is never sure is not suspect as a whole. score: the largest
    probability minus that of the label, 0 to 1. multilabel: the same for each label, 1 or 0.
    ordinal, regression: outliers, by residuals in standard deviations, robustly estimated from the median absolute
    deviation. score: how many, from `outlier` on (0: all rows); suggested: the prediction, for ordinal the nearest
    class when it is another.

    With a tenth of the labels of BBC News flipped, TF-IDF with logistic regression suspects 112 of 1,490 rows: 96 % of
    them rightly, 71 % of those flipped; with none flipped, one row. Where classes are hard to tell apart, hard texts
    are suspect too: read them, and do not drop rows from validation. Raises ValueError for predictions that do not
    match the labels or are not finite.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions, dtype=np.float64)
    _check(kind, labels, predictions, outlier)
    if kind in CLASSES:
        found = [_suspect_classes(labels, predictions)]
    elif kind == "multilabel":
        columns = zip(labels.reshape(len(labels), -1).T.astype(np.int64), predictions.T, strict=True)
        found = [_suspect_classes(given, np.column_stack([1 - probs, probs])) for given, probs in columns]
    else:
        columns = zip(labels.reshape(len(labels), -1).T, predictions.T, strict=True)
        found = [_suspect_values(given, values, outlier, kind == "ordinal") for given, values in columns]
    table = pd.concat([part.assign(column=number) for number, part in enumerate(found)], ignore_index=True)
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return table[["row", "column", "label", "suggested", "score"]]


def show_suspects(
    task: Task, train: pd.DataFrame, labels: np.ndarray, predictions: np.ndarray, n: int = 20
) -> pd.DataFrame:
    """The `n` most suspect labels of train with their texts, see `suspect_labels`: columns id, column (of several
    labels or targets), label, suggested, score, text.

    train: as from `read_train`; labels, predictions: of its rows.
    """
    if not len(train) == len(labels) == len(predictions):
        raise ValueError(
            f"train has {len(train)} rows, labels {len(labels)} and predictions {len(predictions)}: give the same rows"
        )
    found = suspect_labels(task.kind, labels, predictions).head(n).copy()
    if task.classes:
        for column in ("label", "suggested"):
            found[column] = np.array(task.classes, dtype=object)[found[column].astype(int)]
    rows = train.iloc[found["row"]].reset_index(drop=True)
    found.insert(0, "id", rows["id"])
    found["column"] = np.array(task.labels, dtype=object)[found["column"]]
    found["text"] = rows["text"].map(show_columns)
    return found.drop(columns=["row", "column"] if len(task.labels) == 1 else ["row"])


def write_suspects(
    path: Path,
    task: Task,
    train: pd.DataFrame,
    labels: np.ndarray,
    predictions: np.ndarray,
    fixes: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Write every suspect label, the most suspect first, as a CSV to edit; what was done, and what to do, in words.

    Columns: id, column (of several labels or targets), text (its beginning), label, predicted, confidence (probability
    of what is predicted; of numbers: `deviations`, how many standard deviations away), and `fix`: empty, or what the
    run has learned. With a byte order mark, so that spreadsheets read it as UTF-8. A file in which other fixes are
    filled in stays as it is. fixes: (id, column) -> fix; those of rows that are no suspects stand at the end, so that
    the file takes the place of the one that they are from. Others as for `show_suspects`; read back by `fixes.Fixes`.
    """
    fixes = dict(fixes or {})
    rows = path.is_file() and b"\n" in path.read_bytes().strip()  # a run without suspects has a header alone
    if rows and "fix" in (there := read_table(path)):
        filled = there[there["fix"].str.strip() != ""]
        if set(zip(filled["id"], filled["fix"], strict=True)) - {(id, fix) for (id, _), fix in fixes.items()}:
            return f"{shorten(path)} has {len(filled):,} fixes and stays as it is."
    found = suspect_labels(task.kind, labels, predictions)
    table, rows = show_suspects(task, train, labels, predictions, len(found)), found["row"].to_numpy()
    named = {"suggested": "predicted", "score": "deviations"}
    if task.kind in (*CLASSES, "multilabel"):
        named["score"] = "confidence"
        wanted = found["column"] if task.kind == "multilabel" else found["suggested"].astype(int)
        probs = predictions[rows, wanted]
        table["score"] = probs if task.kind in CLASSES else np.where(found["suggested"] == 1, probs, 1 - probs)
    if not task.classes:
        table[["label", "suggested"]] = table[["label", "suggested"]].map("{:.6g}".format)
    columns = table["column"] if "column" in table else task.labels * len(table)
    fix = [fixes.pop(key, "") for key in zip(table["id"], columns, strict=True)]
    table = table.assign(score=table["score"].round(3), fix=fix)
    texts = dict(zip(train["id"], train["text"], strict=True))
    others = [(id, column, show_columns(texts.get(id, "")), fix) for (id, column), fix in fixes.items()]
    table = pd.concat([table, pd.DataFrame(others, columns=["id", "column", "text", "fix"])]).rename(columns=named)
    table["text"] = [" ".join(text.split())[:START] for text in table["text"]]
    kept = ["id", "column", "text", "label", "predicted", named["score"], "fix"]
    with replacing(path) as part:
        table[kept if len(task.labels) > 1 else [name for name in kept if name != "column"]].to_csv(
            part, index=False, encoding="utf-8-sig"
        )
    if not len(found):
        return "No label looks wrong."
    return (
        f"{len(found):,} labels in {len(train):,} rows look wrong: {shorten(path)}. Where one is, write the right "
        f"label, or drop, into its column fix, and train a run of another name with fixes={shorten(path)}"
    )


def confident_classes(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest confident class of each row, and whether it has one; (n,) each. Northcutt et al. (2021), eq. 1."""
    counts = np.bincount(labels, minlength=probs.shape[1])
    sums = np.bincount(labels, probs[np.arange(len(labels)), labels], minlength=probs.shape[1])
    thresholds = np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    above = probs >= thresholds - 1e-6  # rounding, where a class has one probability
    return np.where(above, probs, -1).argmax(axis=1), above.any(axis=1)


def _suspect_classes(labels: np.ndarray, probs: np.ndarray) -> pd.DataFrame:
    classes, confident = confident_classes(labels, probs)
    score = probs.max(axis=1) - probs[np.arange(len(labels)), labels]
    rows = np.flatnonzero(confident & (classes != labels) & (probs.argmax(axis=1) != labels))
    return pd.DataFrame({"row": rows, "label": labels[rows], "suggested": classes[rows], "score": score[rows]})


def _suspect_values(labels: np.ndarray, values: np.ndarray, outlier: float, classes: bool) -> pd.DataFrame:
    residuals = labels - values
    away = np.abs(residuals - np.median(residuals))
    scale = NORMAL * np.median(away) or NORMAL * away.mean() or 1.0  # 0 where more than half are equal
    suggested = np.clip(np.rint(values), 0, labels.max()) if classes else values
    rows = np.flatnonzero((away / scale >= outlier) & (~classes | (suggested != labels)))
    score = away[rows] / scale
    return pd.DataFrame({"row": rows, "label": labels[rows], "suggested": suggested[rows], "score": score})


def _check(kind: str, labels: np.ndarray, predictions: np.ndarray, outlier: float) -> None:
    kinds = (*CLASSES, "multilabel", "ordinal", "regression")
    check_range("kind", kind, kind in kinds, f"one of {', '.join(kinds)}")
    check_range("outlier", outlier, outlier >= 0, "0 or more")
    fits = predictions.ndim == 2 and len(labels) == len(predictions) > 0
    if fits and kind in CLASSES:
        fits = labels.ndim == 1 and labels.min() >= 0 and labels.max() < predictions.shape[1]
    elif fits:
        fits = labels.size == predictions.size and (labels.ndim == 1 or kind != "ordinal")
    if not fits:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} do not fit a {kind} task")
    if not np.isfinite(predictions).all():
        row = int(np.flatnonzero(~np.isfinite(predictions).all(axis=1))[0])
        raise ValueError(f"row {row} has no prediction, or one that is no number: give the rows that have one")
