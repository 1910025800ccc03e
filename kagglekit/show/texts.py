"""Tables of texts: examples, worst rows, and what each cleaner changes."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.submission import decide
from kagglekit.competition.task import Task
from kagglekit.competition.text_columns import SEPARATOR, SHOWN, show_columns
from kagglekit.data.clean import CLEANERS, EXTRAS, check_cleaners, clean_texts, is_installed
from kagglekit.scoring.metrics import CLASSES

MOST = 5  # texts that are kept as examples of a cleaner


def shorten(text: str, characters: int = 160) -> str:
    """A text on one line, without its middle where it is long."""
    text = " ".join(show_columns(text).split())
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} ... {text[-half:]}"


def or_nothing(table: pd.DataFrame) -> pd.DataFrame | None:
    """The table, or None where it is empty: a notebook then shows nothing."""
    return table if len(table) else None


def show_examples(train: pd.DataFrame, task: Task, lengths: np.ndarray) -> pd.DataFrame:
    """The shortest, a median-length and the longest text of each class; for targets of the lowest, middle and highest.

    lengths: tokens of each row of train.
    """
    shown, order, label = [], np.argsort(lengths, kind="stable"), task.labels[0]
    if task.classes:
        rows = {name: order[(train[label].to_numpy() == name)[order]] for name in task.classes}
    elif task.kind == "multilabel":
        rows = {name: order[(train[name].astype(float).to_numpy() == 1)[order]] for name in task.labels}
    else:
        ranked, n = train[label].astype(float).argsort(kind="stable").to_numpy(), len(train)
        tenth = max(1, n // 10)
        middle = ranked[n // 2 - tenth // 2 : n // 2 + tenth]
        tenths = {"lowest": ranked[:tenth], "middle": middle, "highest": ranked[n - tenth :]}
        rows = {f"{name} {label}": some[np.argsort(lengths[some], kind="stable")] for name, some in tenths.items()}
    for name, found in rows.items():
        for size, place in zip(("shortest", "middle", "longest"), (0, len(found) // 2, -1), strict=True):
            if len(found):
                row = found[place]
                shown.append((name, size, lengths[row], train["id"].iloc[row], show_columns(train["text"].iloc[row])))
    return pd.DataFrame(shown, columns=["class", "text is", "tokens", "id", "text"]).set_index(["class", "text is"])


def row_losses(task: Task, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The loss of each row (rows,): minus log of the true class's probability, its mean over labels, or the mean
    absolute error over targets, each in units of its standard deviation."""
    predictions = predictions.astype(np.float64)
    if task.kind in CLASSES:
        return -np.log(predictions[np.arange(len(labels)), labels].clip(1e-12))
    if task.kind == "multilabel":
        return -np.log(np.where(labels == 1, predictions, 1 - predictions).clip(1e-12)).mean(axis=1)
    labels = labels.reshape(predictions.shape)
    return (np.abs(labels - predictions) / np.maximum(labels.std(axis=0), 1e-12)).mean(axis=1)


def most_wrong(task: Task, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The column of the predictions that is most wrong in each row (rows,): of classes the predicted one, of targets by
    errors in units of their standard deviation."""
    if task.classes:
        return predictions.argmax(axis=1)
    truth = np.asarray(labels).reshape(predictions.shape)
    scale = np.maximum(truth.std(axis=0), 1e-12) if task.kind == "regression" else 1.0
    return (np.abs(truth - predictions) / scale).argmax(axis=1)


def worst_rows(
    task: Task, train: pd.DataFrame, labels: np.ndarray, predictions: np.ndarray, n: int = 15
) -> pd.DataFrame:
    """The `n` rows with the highest `row_losses`: id, label, prediction, loss and text. Of several labels or targets
    the most wrong one, and which labels the row has."""
    losses = row_losses(task, labels, predictions)
    worst = np.argsort(-losses, kind="stable")[:n]
    table = train.iloc[worst][["id", *(task.labels if task.classes else ())]].reset_index(drop=True)
    columns, predictions, labels = most_wrong(task, labels, predictions)[worst], predictions[worst], labels[worst]
    if task.classes:
        names = [task.classes[k] for k in decide(task, predictions)]
        sure = predictions.max(axis=1)
        scale = f" of 0 to {len(task.classes) - 1}" if task.kind == "ordinal" else ""
        table["predicted"] = [f"{name} ({value:.2f}{scale})" for name, value in zip(names, sure, strict=True)]
    else:
        truth, places = np.reshape(labels, predictions.shape), (np.arange(len(worst)), columns)
        if task.kind == "multilabel":
            table["labels"] = [", ".join(np.array(task.labels)[row == 1]) or "none" for row in truth]
        if len(task.labels) > 1:
            table["most wrong"] = np.array(task.labels)[columns]
        table["true" if len(task.labels) > 1 else task.labels[0]] = truth[places].round(4)
        table["predicted"] = predictions[places].round(4)
    return table.assign(loss=losses[worst].round(2), text=[show_columns(text) for text in train["text"].iloc[worst]])


def count_changes(texts: Sequence[str]) -> pd.DataFrame:
    """How many texts each cleaner changes, by itself; a line for every cleaner, also for those not installed.

    Columns: `texts` that change, their `share` of all, `characters` added (below 0: removed) per changed text, and what
    to `install` first. In `attrs`, for `show_cleaning`: "examples", a few changed texts of each cleaner, in pairs.
    """
    table, examples = {}, {}
    for name in CLEANERS:
        if is_installed(name):
            pairs = [pair for pair in zip(texts, clean_texts(texts, [name]), strict=True) if pair[0] != pair[1]]
            added = sum(len(after) - len(text) for text, after in pairs) / max(len(pairs), 1)
            table[name] = (len(pairs), len(pairs) / max(len(texts), 1), added, "")
            examples[name] = pairs[:MOST]
        else:
            table[name] = (pd.NA, float("nan"), float("nan"), f"pip install {EXTRAS[name]}")
    columns = ["texts", "share", "characters", "install"]
    counted = pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("cleaner")
    counted.attrs |= {"examples": examples, "percent": ["share"]}
    return counted


def show_cleaning(
    texts: Sequence[str],
    names: Sequence[str] = (),
    n: int = 2,
    characters: int = 120,
    counted: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`n` texts (at most 5) before and after each cleaner, around the first change, and how many texts it changes.

    names: applied one after another, as in training; empty: every installed cleaner by itself, as `counted`, a table of
    `count_changes`, has them; None: it is made of `texts`. Cleaners that change no text have no line. Invisible
    characters are written as \\u200b, each of several spaces as ␣, omissions as ...
    """
    check_cleaners(names)
    rows, now = [], list(texts)
    for name in names:
        after = clean_texts(now, [name])
        changed = [pair for pair in zip(now, after, strict=True) if pair[0] != pair[1]]
        rows += [(name, len(changed), *_around_change(*pair, characters)) for pair in changed[:n]]
        now = after
    if not names:
        counted = count_changes(now) if counted is None else counted
        for name, pairs in counted.attrs["examples"].items():
            rows += [(name, counted.loc[name, "texts"], *_around_change(*pair, characters)) for pair in pairs[:n]]
    index = ["cleaner", "texts changed"]
    return pd.DataFrame(rows, columns=[*index, "before", "after"]).set_index(index)


def _around_change(before: str, after: str, characters: int) -> list[str]:
    """Both texts from a little before the first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = max(first - characters // 3, 0)
    return [_visible(text, start, start + characters) for text in (before, after)]


def _visible(text: str, start: int, stop: int) -> str:
    text = text.replace(SEPARATOR, SHOWN)
    ends = re.sub("^ +| +$| {2,}", lambda spaces: "␣" * len(spaces[0]), text)[start:stop]  # as long as `text`
    shown = "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in ends)
    return f"{'... ' if start else ''}{shown}{' ...' if stop < len(text) else ''}"
