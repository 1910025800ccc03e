"""Rules that infer the task from a competition's three tables. Each returns what it found and the reason."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from kagglekit.scoring.metrics import METRICS

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
ORDERED = re.compile(r"rating|score|stars|grade|level|quality", re.IGNORECASE)
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
NO_LETTERS = re.compile(r"[\s\d!-/:-@\[-`{-~]+")


def are_numbers(values: Iterable[str]) -> np.ndarray:
    """Which values are written as finite decimal numbers ("1", "-2.5", "1e5"; not "", "nan", "1_000"); bool (n,)."""
    return np.array([NUMBER.fullmatch(value) is not None for value in values], dtype=bool)


def guess_labels(train: pd.DataFrame, test: pd.DataFrame, targets: list[str], taken: set) -> tuple[list[str], str]:
    """The sample's columns if train has them; else the train-only column that holds them; else the only such column."""
    if set(targets) <= set(train.columns):
        return targets, "in train and in the sample submission"
    only = [column for column in train.columns if column not in test.columns and column not in taken]
    holding = [column for column in only if len(targets) > 1 and set(train[column]) <= {*targets, ""}]
    if len(holding) == 1:
        return holding, "its values are the columns of the sample submission"
    if len(only) == 1:
        return only, "the only column that train has and test has not"
    found = f"train has {', '.join(only)} and test has not" if only else "train has no column that test has not"
    raise ValueError(
        f"which column holds the labels? The sample submission asks for {', '.join(targets[:9])}; {found}. Say labels="
    )


def guess_kind(
    train: pd.DataFrame, labels: list[str], sample: pd.DataFrame, targets: list[str], metric: str | None
) -> tuple[str, str]:
    """From the labels' values and names, the sample submission's placeholders, and the metric where it was given."""
    if len(labels) > 1:
        if all(float(value) in (0, 1) for label in labels for value in set(train[label]) if are_numbers([value]).all()):
            return "multilabel", "several columns of 0 and 1"
        return "regression", "several columns of numbers"
    values = set(train[labels[0]])
    count = len(values)
    classes = "binary" if count == 2 else "multiclass"
    if len(targets) > 1:
        return classes, "the sample submission has a column for each class"
    if not are_numbers(values).all():
        return classes, f"{count} distinct values, not all numbers"
    if metric in METRICS and METRICS[metric].kinds == ("regression",):
        return "regression", f"numbers, and metric={metric!r}"
    if count == 2:
        return "binary", "2 distinct values"
    if metric == "qwk":
        return "ordinal", "numbers, and metric='qwk'"
    numbers = np.sort([float(value) for value in values])
    whole = (numbers % 1 == 0).all()
    placeholders = sample[targets[0]]
    fraction = next((v for v in placeholders[are_numbers(placeholders)] if float(v) % 1), None)
    if whole and fraction:
        return "regression", f"{count} distinct numbers, and the sample submission holds {fraction}"
    even = np.allclose(np.diff(numbers), numbers[1] - numbers[0])
    if even and 3 <= count <= 20 and ORDERED.search(labels[0]):
        return "ordinal", f"{count} equally spaced numbers, and {labels[0]!r} suggests an order"
    if not whole:
        return "regression", "numbers with fractions"
    if count > max(20, len(train) / 20):
        return "regression", f"{count} distinct whole numbers in {len(train):,} rows"
    return "multiclass", f"{count} distinct whole numbers in {len(train):,} rows"


def guess_classes(values: Iterable[str], targets: list[str]) -> tuple[list[str], str]:
    """The sample's columns in their order; else numbers by size and words by alphabet."""
    values = set(values)
    if len(targets) > 1:
        return targets, "the columns of the sample submission, in its order"
    if are_numbers(values).all():
        return sorted(values, key=float), "in numeric order"
    return sorted(values), "in alphabetical order"


def guess_form(kind: str, classes: list[str], sample: pd.DataFrame, targets: list[str]) -> tuple[str, str]:
    """The form of the submission: a label (or value), a probability, or a column per class or target."""
    if len(targets) > 1:
        return "columns", f"the sample submission has {len(targets)} columns besides the id"
    if kind != "binary":
        return "label", f"one column of {'values' if kind == 'regression' else 'classes'}"
    values = set(sample[targets[0]])
    if values <= set(classes):
        advice = "say form='probability' if it wants probabilities"
        return "label", f"the sample submission holds classes ({', '.join(sorted(values))}); {advice}"
    if are_numbers(values).all():
        return "probability", f"the sample submission holds numbers such as {min(values)}, of class {classes[1]}"
    return "label", "the sample submission's values are not numbers"


def guess_metric(kind: str, form: str, labels: list[str]) -> tuple[str, str]:
    """The usual metric of the kind and the form."""
    if kind == "regression":
        return ("mcrmse", "usual for several numbers") if len(labels) > 1 else ("rmse", "usual for a number")
    if kind == "ordinal":
        return "qwk", "usual for ordered classes"
    if kind == "multilabel" or form == "probability":
        return "roc_auc", f"usual for {'several labels' if kind == 'multilabel' else 'a probability'}"
    return ("log_loss", "usual for a column per class") if form == "columns" else ("accuracy", "usual for a label")


def guess_text(train: pd.DataFrame, test: pd.DataFrame, taken: set) -> tuple[list[str], str]:
    """Columns of prose that train and test share; at least the longest that is not all numbers.

    Prose has three words or more on average (in scripts without spaces two characters count as a word), is mostly
    letters, and where it is short it does not repeat itself, as the names of categories do.
    """
    words, length = {}, {}
    for column in train.columns:
        cells = [cell for cell in train[column] if cell.strip()]
        if column in taken or column not in test.columns or are_numbers(cells).all():
            continue
        some = [cell[:2000] for cell in cells[:: max(1, len(cells) // 1000)]]
        length[column] = np.mean([len(cell) for cell in some])
        letters = np.mean([len(NO_LETTERS.sub("", cell)) / len("".join(cell.split())) for cell in some])
        category = length[column] < 60 and len(set(cells)) < len(cells) / 2
        if letters >= 0.6 and not category:
            words[column] = np.mean([len(cell.split()) + len(UNSPACED.findall(cell)) / 2 for cell in some])
    prose = [column for column, mean in words.items() if mean >= 3]
    if prose:
        return prose, "; ".join(f"{column}: {words[column]:.0f} words on average" for column in prose)
    if length:
        return [max(length, key=length.get)], "nothing reads like prose; this is the longest that is no number"
    raise ValueError("train and test share no column of text: every one besides the id is numeric or empty. Say text=")
