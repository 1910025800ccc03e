"""Made-up competitions, one row a shape: what must be inferred of it, and what its submission looks like.

A shape is (train, test, sample, given, expected), see `write`. expected has fields of the task, `left`: the finding
"not used", `images`: the finding of that name, `reads`: the labels of the first rows, `ids`: theirs, `writes`: the
first lines of the submission of likely predictions, `unclear`: words of it, `error`: instead of all these, the message.
"""

import re

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer, summarise
from kagglekit.competition.submission import check_submission, make_submission
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.scoring.metrics import CLASSES

ROWS, TESTS = 60, 12
TEXTS = ["the first text of all", "a second one, longer", "and this is the third", "number four comes here"]
NOUNS = ["kettle", "window", "garden", "ferry", "lamp", "market", "waiter"]


def prose(row, start="the"):
    """Eight words that no other row has."""
    return f"{start} {NOUNS[row % 7]} of the {NOUNS[row // 7 % 7]} was seen on day{row}"


def turn(*values):
    """Values that take turns, row by row."""
    return lambda row: values[row % len(values)]


def number(row):
    return f"{row * 37 % 101 / 20 - 1:.3f}"


def write(folder, train, test, sample, header=True):
    """A competition: {column: function of the row, or a value}; sample may be None. Rows of test count from 1000."""
    for name, columns, rows, shown in (
        ("train", train, range(ROWS), True),
        ("test", test, range(1000, 1000 + TESTS), True),
        ("sample_submission", sample, range(1000, 1000 + TESTS), header),
    ):
        if columns is None:
            continue
        cells = {k: [str(v(row)) for row in rows] if callable(v) else [str(v)] * len(rows) for k, v in columns.items()}
        pd.DataFrame(cells).to_csv(folder / f"{name}.csv", index=False, header=shown)


ID, TEXT = {"id": lambda row: row}, {"text": prose}
ONE = turn("a", "b", "c")
PAIR = {"first": prose, "second": lambda row: prose(row, "a")}
PARSED = {
    "tree": lambda row: f"( ( {' '.join(prose(row).split()[:3])} ) ( {' '.join(prose(row).split()[3:])} ) )",
    "parse": lambda row: f"(ROOT (S (NP (DT {prose(row).replace(' ', ') (NN ')}))))",
}
TWO = {"question": lambda row: prose(row % 20), "answer": lambda row: prose(row, "an")}
PHRASES = {"anchor": lambda row: f"{NOUNS[row % 7]} frame", "target": lambda row: f"{NOUNS[row % 7]} frame {row}x"}
NEW = {"question": lambda row: prose(row // 2, "every"), "answer": lambda row: prose(row, "an")}
PHOTOS = {"photo": lambda row: f"photos/IMG_{row}.JPG", "badge": turn("new badge.png", "old.webp")}
TOPICS = turn("news", "news sport", "", "music", "sport music", "sport")


def topics(sep):
    return lambda row: sep.join(TOPICS(row).split())


def topic_list(write):
    return lambda row: write(TOPICS(row).split())


def quoted(names):
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def one_hot(*names):
    return {name: (lambda row, place=place: int(row % len(names) == place)) for place, name in enumerate(names)}


def shares(*names):
    return {name: (lambda row, place=place: 0.5 if row % 3 == place else 0.25) for place, name in enumerate(names)}


def likely(task, rows):
    """Predictions by which the classes take turns."""
    if task.kind in CLASSES:
        wanted = np.arange(rows) % len(task.classes)
        order = (np.arange(len(task.classes)) - wanted[:, None]) % len(task.classes)  # those that follow are likelier
        probs = 2.0**-order
        return probs / probs.sum(axis=1, keepdims=True)
    places = np.arange(rows)[:, None] + np.arange(len(task.labels))
    if task.kind == "multilabel":
        return np.where(places % 3, 0.1, 0.9)
    return (places % max(1, len(task.classes))).astype(float)


def check_shape(folder, shape):
    """A shape is inferred, read and submitted as it says."""
    train, test, sample, given, expected = shape
    write(folder, train, test, sample, expected.get("header", True))
    expected = dict(expected)
    if message := expected.pop("error", None):
        with pytest.raises(ValueError, match=message):
            infer(folder, **given)
        return
    task, findings = infer(folder, **given)
    told = findings.set_index("what")["found"]
    left, reads, ids = expected.pop("left", None), expected.pop("reads", None), expected.pop("ids", None)
    writes, unclear = expected.pop("writes", None), expected.pop("unclear", "")
    assert (images := expected.pop("images", None)) is None or told["images"].tolist() == images
    assert {field: getattr(task, field) for field in expected} == expected
    assert left is None or told["not used"] == left
    assert unclear in task.unclear and bool(task.unclear) == bool(unclear) and "\n" not in summarise(task, findings)
    task.save(folder / "work")
    task = load_task(folder / "work")
    rows, tests, shown = read_train(task), read_test(task), read_sample(task)
    encode_labels(task, rows)
    found = rows[task.labels].to_numpy().tolist()
    found = [row[0] for row in found] if len(task.labels) == 1 else found
    assert reads is None or found[: len(reads)] == reads
    assert ids is None or rows["id"].tolist()[: len(ids)] == ids
    if unclear:
        with pytest.raises(ValueError, match=re.escape(unclear)):
            make_submission(task, shown, tests["id"], likely(task, len(tests)))
        return
    frame = make_submission(task, shown, tests["id"], likely(task, len(tests)))
    check_submission(frame, shown, task)
    lines = frame.to_csv(index=False, **task.csv, lineterminator="\n").split("\n")
    assert writes is None or lines[: len(writes)] == writes


def competition(folder, labels=None, sample="", train=None, test=None, columns=None):
    """A folder with four rows of train and three of test; `train`, `test`, `columns` (of the sample) set columns."""
    labels = {"label": ["a", "b", "a", "b"]} if labels is None else labels
    rows = max(4, *(len(values) for values in labels.values())) if labels else 4
    texts = [TEXTS[row % 4] for row in range(rows)]
    tables = {
        "train": {"id": [f"{row:03}" for row in range(rows)], "text": texts, **labels, **(train or {})},
        "test": {"id": ["7", "8", "9"], "text": TEXTS[:3], **(test or {})},
        "sample_submission": {"id": ["7", "8", "9"], **(columns or {next(iter(labels), "label"): [sample] * 3})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        columns = {column: values for column, values in columns.items() if values is not None}
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
    return folder


def found(folder, **given):
    return infer(folder, **given)[0]


def repeated(values, rows=60):
    return [values[row % len(values)] for row in range(rows)]
