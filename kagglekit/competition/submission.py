"""submission.csv from test predictions: in the form of the sample submission, and checked against it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import name_row
from kagglekit.competition.formats.label_lists import divider_of, join_labels, split_labels
from kagglekit.competition.forms import names_of
from kagglekit.competition.mounts import mount_root
from kagglekit.files import replacing, resolve
from kagglekit.scoring.metrics import CLASSES, METRICS


def make_submission(task, sample: pd.DataFrame, test_ids: Sequence[str], predictions: np.ndarray) -> pd.DataFrame:
    """The predictions (rows of test, columns) with the columns and the row order of the sample submission.

    Form "label": the class as the task's mapping or train writes it (the nearest one for an ordinal task), or the value
    of a regression, within the task's bounds. "probability": that of `task.classes[1]`. "columns": a probability or
    value for each; for multilabel 0 or 1 where the metric takes decisions (accuracy, F1). "list": the labels from 0.5
    on in one cell, and the likeliest where train has no row without. "top3": the three likeliest classes in one cell.
    Raises ValueError for an id of the sample without a prediction, and while the task is not clear.
    """
    predictions = np.asarray(predictions)
    if predictions.shape != (len(test_ids), len(task.columns)):
        raise ValueError(
            f"the predictions have the shape {predictions.shape}: {len(test_ids)} rows of test and the columns "
            f"{', '.join(task.columns)} need {(len(test_ids), len(task.columns))}"
        )
    if task.unclear:
        raise ValueError(f"no submission can be written: {task.unclear}")
    file, id, targets = task.files.get("sample_submission", "the sample submission"), task.sample_id, task.targets
    if task.id:
        rows = pd.Index(test_ids).get_indexer(sample[id])
        if (rows < 0).any():
            raise ValueError(
                f"{file}: {name_row(int(rows.argmin()), sample[id])} has no prediction: "
                f"{(rows < 0).sum():,} such ids are not in test"
            )
        predictions = predictions[rows]
    elif len(sample) != len(test_ids):
        raise ValueError(
            f"{file} has {len(sample):,} rows and no ids, and test {len(test_ids):,} rows: they go by order"
        )
    if task.bounds:
        predictions = np.clip(predictions, *np.array(task.bounds, dtype=predictions.dtype).T)
    written = [task.mapping.get(name, name) for name in task.classes or task.labels]
    if task.form == "columns":
        if _submits_decisions(task):
            predictions = (predictions >= 0.5).astype(np.int64)
        names = task.renamed.get("sample_submission", {})
        order = [written.index(column if column in written else names[column]) for column in targets]
        values = {column: predictions[:, place] for column, place in zip(targets, order, strict=True)}
    elif task.form == "probability":
        values = {targets[0]: predictions[:, 1]}
    elif task.kind == "regression":
        values = {targets[0]: predictions[:, 0]}
    elif task.form == "label":
        values = {targets[0]: np.array(written, dtype=object)[decide(task, predictions)]}
    else:
        values = {targets[0]: [join_labels(names, task.joiner) for names in _name_classes(task, predictions, written)]}
    copied = {column: sample[column].to_numpy() for column in task.submission if column not in targets}
    return pd.DataFrame(copied | values)[task.submission]


def _submits_decisions(task) -> bool:
    """Whether the columns of several labels are 0 or 1, and no probabilities."""
    metric = METRICS.get(task.metric.partition("_by:")[0])
    return task.kind == "multilabel" and metric is not None and bool(metric.decides)


def _name_classes(task, predictions: np.ndarray, written: Sequence[str]) -> list[list[str]]:
    """What a cell of the forms "list" and "top3" names, row by row, the likeliest first in the latter."""
    best = np.argsort(-predictions, axis=1, kind="stable")
    if names_of(task.form):
        return [[written[place] for place in row] for row in best[:, : names_of(task.form)]]
    chosen = predictions >= 0.5
    if not task.may_be_empty:
        chosen[np.arange(len(chosen)), best[:, 0]] = True
    return [[written[place] for place in np.flatnonzero(row)] for row in chosen]


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
    targets, written = task.targets, [task.mapping.get(name, name) for name in task.classes or task.labels]
    ids = sample[task.sample_id] if task.sample_id else None
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

    if task.sample_id:
        same = frame[task.sample_id].to_numpy(dtype=object) == ids.to_numpy(dtype=object)
        check("ids", same, task.sample_id, "those of the sample, in its order")
    for column in targets if not task.may_be_empty else []:
        check("filled in", frame[column].notna() & (frame[column].astype(str) != ""), column, "a value")
    if task.form == "label" and task.kind != "regression":
        check("classes", frame[targets[0]].isin(written), targets[0], f"one of {', '.join(written)}")
    elif task.form == "list" or names_of(task.form):
        cells = [split_labels(str(cell), divider_of(task.joiner)) for cell in frame[targets[0]]]
        good = [names is not None and set(names) <= set(written) and len(set(names)) == len(names) for names in cells]
        check("names", good, targets[0], f"some of {', '.join(written)}, each once")
        if count := names_of(task.form):
            check("count", [len(names) == count for names in cells], targets[0], f"{count} names")
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


def write_submission(frame: pd.DataFrame, path: str | Path, header: bool = True, sep=",", decimal=".") -> Path:
    """Write the submission as CSV (UTF-8, no index), whole or not at all; the rest: `Task.csv`. Returns the path."""
    with replacing(path) as part:
        frame.to_csv(part, index=False, header=header, sep=sep, decimal=decimal, encoding="utf-8", lineterminator="\n")
    return Path(path)


def leave_submission(frame: pd.DataFrame, run: str, task, work: str | Path) -> Path:
    """Write a run's submission.RUN.csv, which is returned, and submission.csv; in a kernel also the one that counts, in
    the working directory: whatever ends the kernel later, a valid submission is there."""
    work = resolve(work)
    places = [work, resolve(".")] if mount_root().is_dir() else [work]
    for target in (work / f"submission.{run}.csv", *(place / "submission.csv" for place in places)):
        write_submission(frame, target, **task.csv)
    return work / f"submission.{run}.csv"


def compare_submissions(task, frame: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How a submission differs from others: a row for each of `others`, by name.

    Columns: `rows that differ` in their label (of probabilities the likeliest, or those from 0.5 on) and their `share`,
    but for a regression; `correlation` of numbers, the mean over the columns. frame, others: in the form of the sample,
    in its order; others with other rows, or another form, have no line.
    """
    table: dict[str, dict[str, float]] = {}
    rows = [name for name in frame.columns if name not in task.targets]
    for name, other in others.items():
        if list(other.columns) != list(frame.columns) or not other[rows].astype(str).equals(frame[rows].astype(str)):
            continue
        with suppress(ValueError):  # a text where a number belongs
            found: dict[str, float] = {}
            if task.kind != "regression":
                differs = (_submitted_labels(task, frame) != _submitted_labels(task, other)).any(axis=1)
                found |= {"rows that differ": int(differs.sum()), "share": differs.mean()}
            if task.kind == "regression" or task.form in ("columns", "probability"):
                ours, theirs = (each[task.targets].astype(np.float64) for each in (frame, other))
                found["correlation"] = ours.corrwith(theirs).mean()
            table[name] = found
    found = pd.DataFrame.from_dict(table, orient="index").rename_axis("submission")
    found.attrs["percent"] = ("share",)
    return found


def _submitted_labels(task, frame: pd.DataFrame) -> np.ndarray:
    """The labels that a submission comes to, (rows, k): as written, the likeliest, or those from 0.5 on."""
    if task.form not in ("columns", "probability"):
        return frame[task.targets].astype(str).to_numpy(dtype=object)
    numbers = frame[task.targets].astype(np.float64).to_numpy()
    return numbers.argmax(axis=1)[:, None] if task.form == "columns" and task.kind in CLASSES else numbers >= 0.5


def suspicious(
    task, labels: np.ndarray, predictions: np.ndarray, folds: Sequence[int], lacking: Sequence[int]
) -> list[str]:
    """What in the predictions for test is probably wrong, a sentence each.

    labels, predictions: as in `label_rates`. folds: those whose models predicted; lacking: those that did not.
    """
    found = [f"only the folds {list(folds)} predicted: {list(lacking)} are not finished"] if len(lacking) else []
    for column, values in zip(task.columns, predictions.T, strict=True) if len(predictions) > 1 else ():
        if np.ptp(values) == 0:
            found.append(f"{column!r} is {values[0]:g} in every row of test")
    if task.kind == "regression":
        for label, (low, high), values in zip(task.labels, task.bounds, predictions.T, strict=False):
            if share := np.mean((values < low) | (values > high)):
                found.append(
                    f"{label!r}: {share:.0%} of the rows were outside of {low:g} to {high:g}, and are cut to it"
                )
        return found
    rates = label_rates(task, labels, predictions)
    never = rates[(rates["predicted"] == 0) & (rates["train"] * len(predictions) >= 1)]
    decided = task.form not in ("columns", "probability") or _submits_decisions(task)
    for name, rate in never["train"].items() if decided else ():
        found.append(f"{name!r} is predicted for no row of test, and {rate:.1%} of train have it")
    return found


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
