"""Rules that infer the task from a competition's three tables. Each returns what it found and the reason."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from kagglekit.scoring.metrics import find_metric

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
NAMES = re.compile(r"(?i:(.*[\W_])?(id|code|class|category|intent))|.*[a-z](I[dD]|Code|Class|Category)")
ORDERED = re.compile(r"rating|score|stars|grade|level|quality|relevance|severity", re.IGNORECASE)


def are_numbers(values: Iterable[str]) -> np.ndarray:
    """Which values are written as finite decimal numbers ("1", "-2.5", "1e5"; not "", "nan", "1_000"); bool (n,)."""
    return np.array([NUMBER.fullmatch(value) is not None for value in values], dtype=bool)


def guess_kind(
    train: pd.DataFrame, labels: list[str], sample: pd.DataFrame, targets: list[str], metric: str | None
) -> tuple[str, str]:
    """From the labels' values and names, the sample submission's placeholders, and the metric where it was given."""
    kinds = find_metric(metric).kinds if metric else ()
    if len(labels) > 1:
        words = [label for label in labels if not are_numbers(set(train[label])).any()]
        if words:
            raise ValueError(
                f"columns {', '.join(labels[:9])} of train hold several labels, {words[0]!r} of them in words: one "
                f"work folder predicts one. Say labels={words[0]!r} with a sample= of the id and this column, and so "
                "for each in a folder of its own; tasks= of 3_train learns them in one model"
            )
        binary = (float(v) in (0, 1) for label in labels for v in set(train[label]) if are_numbers([v]).all())
        if kinds != ("regression",) and all(binary):
            return "multilabel", "several columns of 0 and 1"
        return "regression", "several columns of numbers"
    values = set(train[labels[0]])
    count = len(values)
    classes = "binary" if count == 2 else "multiclass"
    if len(targets) > 1:
        classes = "binary" if len(targets) == 2 else "multiclass"
        return classes, "the sample submission has a column for each class"
    if max(20, len(train) / 2) < count and not are_numbers(values).any():
        raise ValueError(
            f"column {labels[0]!r} of train holds {count:,} different values in {len(train):,} rows: these are no "
            "classes, but texts (such as a span or an answer). Say labels= another column, or kind='multiclass'"
        )
    if count == 1 or not are_numbers(values).all():
        return classes, f"{count} distinct values, not all numbers"
    if kinds == ("regression",):
        return "regression", f"numbers, and metric={metric!r}"
    numbers = np.sort([float(value) for value in values])
    whole = (numbers % 1 == 0).all()
    if count == 2 and whole:
        return "binary", "2 distinct values"
    if kinds and "ordinal" not in kinds and count <= max(20, len(train) / 20):
        return classes, f"{count} distinct numbers, and metric={metric!r}"
    if kinds and find_metric(metric).ordered:
        return "ordinal", f"numbers, and metric={metric!r}"
    placeholders = sample[targets[0]]
    shown = placeholders[are_numbers(placeholders)]
    fraction = next((v for v in shown if float(v) % 1), None)
    if whole and fraction:
        return "regression", f"{count} distinct numbers, and the sample submission holds {fraction}"
    if whole and numbers[0] < 0 < numbers[-1] and len(shown) and all("." in value for value in shown):
        reason = f"numbers on both sides of 0, and the sample submission writes {shown.iloc[0]}"
        return "regression", f"{reason}; kind='multiclass' would make them classes"
    even = np.allclose(np.diff(numbers), numbers[1] - numbers[0])
    if even and 3 <= count <= 20 and ORDERED.search(labels[0]):
        return "ordinal", f"{count} equally spaced numbers, and {labels[0]!r} suggests an order"
    if not whole:
        return "regression", "numbers with fractions"
    if count > max(20, len(train) / 20) and NAMES.fullmatch(labels[0]) and count <= len(train) / 2:
        return classes, f"{count} distinct whole numbers, and {labels[0]!r} is called a code; kind='regression' if not"
    if count > max(20, len(train) / 20):
        return "regression", f"{count} distinct whole numbers in {len(train):,} rows"
    return "multiclass", f"{count} distinct whole numbers in {len(train):,} rows"


def guess_classes(values: Iterable[str], columns: list[str]) -> tuple[list[str], str]:
    """The names that the sample's columns have, in their order; else numbers by size and words by alphabet."""
    values = set(values)
    if len(columns) > 1:
        return columns, "the columns of the sample submission, in its order"
    if are_numbers(values).all():
        return sorted(values, key=float), "in numeric order"
    return sorted(values), "in alphabetical order"


def guess_metric(kind: str, form: str, labels: list[str]) -> tuple[str, str]:
    """The usual metric of the kind and the form, of those that there are."""
    if kind == "regression":
        return ("mcrmse", "usual for several numbers") if len(labels) > 1 else ("rmse", "usual for a number")
    if kind == "ordinal":
        return "qwk", "usual for ordered classes"
    if form == "list":
        return "f1_samples", "usual for several labels in one cell"
    if form.startswith("top") and kind != "binary":
        return f"map@{form[3:]}", "usual for several names in one cell"
    if kind == "multilabel" or form == "probability":
        return "roc_auc", f"usual for {'several labels' if kind == 'multilabel' else 'a probability'}"
    return ("log_loss", "usual for a column per class") if form == "columns" else ("accuracy", "usual for a label")


def find_booleans(train: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """The words for true and false in several columns, as "1" and "0"; empty where there are other words."""
    words = {value for column in columns for value in set(train[column]) if not are_numbers([value]).all()}
    if len(columns) < 2 or not {word.strip().casefold() for word in words} <= {"true", "false"}:
        return {}
    return {word: "1" if word.strip().casefold() == "true" else "0" for word in words}


def find_spellings(values: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Labels that differ from another by case, blanks, or the writing of a number: each, and the most usual one, or the
    one that is among the `known`."""
    counts, groups, known = pd.Series(list(values)).value_counts(), {}, set(known)
    for value in sorted(counts.index):
        number = are_numbers([value]).all()
        groups.setdefault(float(value) if number else " ".join(value.casefold().split()), []).append(value)
    found = {}
    for group in groups.values():
        main = max(group, key=lambda value: (value in known, counts[value]))
        found |= {value: main for value in group if value != main}
    return found
