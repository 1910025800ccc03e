"""Tables to look at: examples of each class, and the rows that a run got most wrong."""

import numpy as np
import pandas as pd

from kagglekit.metrics import CLASSES
from kagglekit.submission import decide
from kagglekit.task import Task


def shorten(text: str, characters: int = 160) -> str:
    """A text on one line, cut in the middle."""
    text = " ".join(text.split())
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} ... {text[-half:]}"


def show_examples(train: pd.DataFrame, task: Task, lengths: np.ndarray) -> pd.DataFrame:
    """The shortest, a middling and the longest text of each class; of the least, middle and highest targets otherwise.

    lengths: tokens of each row of train.
    """
    shown, order = [], np.argsort(lengths, kind="stable")
    label = task.labels[0]
    if task.classes:
        picks = {name: order[(train[label].to_numpy() == name)[order]] for name in task.classes}
    elif task.kind == "multilabel":
        picks = {name: order[(train[name].astype(float).to_numpy() == 1)[order]] for name in task.labels}
    else:
        ranked = train[label].astype(float).argsort(kind="stable").to_numpy()
        tenths = {name: ranked[part] for name, part in _ranges(len(ranked)).items()}
        picks = {f"{name} {label}": rows[np.argsort(lengths[rows], kind="stable")] for name, rows in tenths.items()}
    for name, found in picks.items():
        for size, place in zip(("shortest", "middle", "longest"), (0, len(found) // 2, -1), strict=True):
            if len(found):
                row = found[place]
                shown.append((name, size, lengths[row], train["id"].iloc[row], shorten(train["text"].iloc[row])))
    return pd.DataFrame(shown, columns=["class", "text is", "tokens", "id", "text"]).set_index(["class", "text is"])


def _ranges(n: int) -> dict[str, slice]:
    """The lowest, middling and highest tenth of `n` sorted rows."""
    tenth = max(1, n // 10)
    return {
        "lowest": slice(tenth),
        "middle": slice(n // 2 - tenth // 2, n // 2 + tenth),
        "highest": slice(n - tenth, n),
    }


def row_losses(task: Task, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How wrong each row is (rows,): minus log of the true class's probability, mean of these over labels, or the mean
    absolute error over targets, each in units of its standard deviation."""
    predictions = predictions.astype(np.float64)
    if task.kind in CLASSES:
        return -np.log(predictions[np.arange(len(labels)), labels].clip(1e-12))
    if task.kind == "multilabel":
        return -np.log(np.where(labels == 1, predictions, 1 - predictions).clip(1e-12)).mean(axis=1)
    labels = labels.reshape(predictions.shape)
    return (np.abs(labels - predictions) / np.maximum(labels.std(axis=0), 1e-12)).mean(axis=1)


def worst_rows(
    task: Task, train: pd.DataFrame, labels: np.ndarray, predictions: np.ndarray, n: int = 15
) -> pd.DataFrame:
    """The `n` rows with the highest `row_losses`: id, label, what was predicted, the loss, and the text."""
    losses = row_losses(task, labels, predictions)
    worst = np.argsort(-losses, kind="stable")[:n]
    table = train.iloc[worst][["id", *task.labels]].reset_index(drop=True)
    if task.kind in CLASSES:
        best = predictions[worst].argmax(axis=1)
        sure = predictions[worst].max(axis=1)
        table["predicted"] = [f"{task.classes[k]} ({prob:.2f})" for k, prob in zip(best, sure, strict=True)]
    elif task.kind == "ordinal":
        table["predicted"] = [
            f"{task.classes[k]} ({value:.2f} of 0 to {len(task.classes) - 1})"
            for k, value in zip(decide(task, predictions[worst]), predictions[worst, 0], strict=True)
        ]
    else:
        for k, name in enumerate(task.columns):
            table[f"{name}, predicted"] = predictions[worst, k].round(3)
    return table.assign(loss=losses[worst].round(2), text=[shorten(text) for text in train["text"].iloc[worst]])
