"""submission.csv from test predictions: in the form of the sample submission, and checked against it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import name_row
from kagglekit.files import replacing
from kagglekit.scoring.metrics import CLASSES, METRICS


def make_submission(task, sample: pd.DataFrame, test_ids: Sequence[str], predictions: np.ndarray) -> pd.DataFrame:
    """The predictions (rows of test, columns) with the columns and the row order of the sample submission.

    Form "label": the class as train writes it (the nearest one for an ordinal task), or the value of a regression.
    "probability": that of `task.classes[1]`. "columns": a probability or value for each; for multilabel 0 or 1 where
    the metric takes decisions (accuracy, F1). Raises ValueError for an id of the sample without a prediction.
    """
    predictions = np.asarray(predictions)
    if predictions.shape != (len(test_ids), len(task.columns)):
        raise ValueError(
            f"the predictions have the shape {predictions.shape}: {len(test_ids)} rows of test and the columns "
            f"{', '.join(task.columns)} need {(len(test_ids), len(task.columns))}"
        )
    rows = pd.Index(test_ids).get_indexer(sample[task.id])
    if (rows < 0).any():
        raise ValueError(
            f"{task.files['sample_submission']}: {name_row(int(rows.argmin()), sample[task.id])} has no prediction: "
            f"{(rows < 0).sum():,} such ids are not in test"
        )
    predictions = predictions[rows]
    targets = [column for column in task.submission if column != task.id]
    if task.form == "columns":
        if task.kind == "multilabel" and task.metric in METRICS and METRICS[task.metric].decides:
            predictions = (predictions >= 0.5).astype(np.int64)
        values = {column: predictions[:, task.columns.index(column)] for column in targets}
    elif task.form == "probability":
        values = {targets[0]: predictions[:, 1]}
    elif task.kind == "regression":
        values = {targets[0]: predictions[:, 0]}
    else:
        values = {targets[0]: np.array(task.classes, dtype=object)[decide(task, predictions)]}
    return pd.DataFrame({task.id: sample[task.id].to_numpy(), **values})[task.submission]


def decide(task, predictions: np.ndarray) -> np.ndarray:
    """The predicted class index of each row, int64 (n,): the likeliest class, or for an ordinal task the nearest."""
    if task.kind == "ordinal":
        return np.clip(np.rint(predictions[:, 0]), 0, len(task.classes) - 1).astype(np.int64)
    return predictions.argmax(axis=1)


def check_submission(frame: pd.DataFrame, sample: pd.DataFrame, task) -> pd.DataFrame:
    """Check a submission against the sample: a table of checks and results. Raises ValueError that names the first bad
    row.

    frame: from `make_submission`, or the written file, read with all columns as str.
    """
    if list(frame.columns) != list(sample.columns):
        raise ValueError(
            f"the submission has the columns {', '.join(frame.columns)}, and the sample submission "
            f"{', '.join(sample.columns)}"
        )
    if len(frame) != len(sample):
        raise ValueError(f"the submission has {len(frame):,} rows, and the sample submission {len(sample):,}")
    ids, targets = sample[task.id], [column for column in sample.columns if column != task.id]
    results = [("columns", ", ".join(frame.columns)), ("rows", f"{len(frame):,}, as in the sample")]

    def check(name: str, good, column: str, wanted: str) -> None:
        bad = ~np.asarray(good)
        if bad.any():
            row = int(bad.argmax())
            value = frame[column].iloc[row]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise ValueError(
                f"submission, {name_row(row, ids)}: column {column!r} holds {shown}, "
                f"expected {wanted} ({bad.sum():,} such rows)"
            )
        if (name, wanted) not in results:
            results.append((name, wanted))

    same = frame[task.id].to_numpy(dtype=object) == ids.to_numpy(dtype=object)
    check("ids", same, task.id, "those of the sample, in its order")
    for column in targets:
        check("filled in", frame[column].notna() & (frame[column].astype(str) != ""), column, "a value")
    if task.form == "label" and task.kind != "regression":
        check("classes", frame[targets[0]].isin(task.classes), targets[0], f"one of {', '.join(task.classes)}")
    else:
        numbers = frame[targets].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
        for column, values in zip(targets, numbers.T, strict=True):
            check("numbers", np.isfinite(values), column, "finite")
            if task.kind in ("binary", "multiclass", "multilabel"):
                check("range", (values >= 0) & (values <= 1), column, "0 to 1")
        if task.form == "columns" and task.kind in CLASSES:
            sums = np.abs(numbers.sum(axis=1) - 1) < 1e-3
            check("sum of a row", sums, targets[0], "a row of probabilities with the sum 1")
    return pd.DataFrame(results, columns=["check", "result"])


def write_submission(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write the submission as CSV (UTF-8, no index), whole or not at all. Returns the path."""
    with replacing(path) as part:
        frame.to_csv(part, index=False, encoding="utf-8", lineterminator="\n")
    return Path(path)


def label_rates(task, labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """Labels of train against predictions for test: per class the share of rows labelled and predicted so.

    labels: (rows of train,) or (rows of train, k), from `encode_labels`; predictions: of test. Columns train and
    predicted, and the mean probability where there are probabilities. For a regression, mean, standard deviation and
    quartiles of each target. The name of the columns is the unit.
    """
    if task.kind == "regression":
        rows = ["mean", "sd", "minimum", "25 %", "median", "75 %", "maximum"]
        names = rows if len(task.labels) == 1 else [f"{label}: {row}" for label in task.labels for row in rows]
        unit, shares = ", ".join(task.labels), {"train": _describe(labels), "predicted": _describe(predictions)}
    elif task.kind == "multilabel":
        unit, names = "share of rows", task.labels
        shares = {"train": np.mean(labels, axis=0), "predicted": np.mean(predictions >= 0.5, axis=0)}
    else:
        unit, names = "share of rows", task.classes
        both = {"train": np.asarray(labels), "predicted": decide(task, predictions)}
        shares = {name: np.bincount(values, minlength=len(names)) / len(values) for name, values in both.items()}
    if task.kind in ("binary", "multiclass", "multilabel"):
        shares["mean probability"] = predictions.mean(axis=0, dtype=np.float64)
    return pd.DataFrame(shares, index=names).rename_axis(columns=unit)


def _describe(values: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and quartiles of each target, target by target."""
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1], axis=0)
    return np.stack([values.mean(axis=0), values.std(axis=0), *quartiles], axis=1).ravel()
