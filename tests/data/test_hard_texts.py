"""Texts that must survive from the file to the submission: emoji, NUL, right to left, 1 MB, quotes, newlines."""

import csv

import numpy as np
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.submission import check_submission, make_submission, write_submission
from kagglekit.competition.task import encode_labels, read_sample, read_test, read_train
from kagglekit.data.duplicates import identical_groups
from kagglekit.data.folds import assign_folds
from kagglekit.data.tokens import tokenize
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.show.texts import show_examples

HARD = {
    "emoji": "great 👍🏽 family 👨‍👩‍👧 flag 🇩🇪 of the day",
    "NUL": "zero\x00byte in the middle of it",
    "right to left": "שלום עולם, مرحبا بالعالم \u202eabc\u202c",
    "1 MB": "a very long text indeed " * 43_000,
    "quotes": 'he said "no, ""never""" and, \'left\'',
    "newlines": "first line\nsecond line\r\n\r\nlast line",
    "empty": "",
    "only spaces": "  \t ",
    "not a character": "a lone replacement \ufffd and \uffff",
}


@pytest.fixture
def competition(tmp_path):
    """30 plain rows of two classes, and every hard text in train and in test."""
    texts = [f"word{i} good plain text about topic {i % 2}" for i in range(30)] + list(HARD.values())
    tables = {
        "train": [("id", "text", "label"), *((f"{i:03}", t, "ab"[i % 2]) for i, t in enumerate(texts))],
        "test": [("id", "text"), *((f"t{i}", t) for i, t in enumerate(HARD.values()))],
        "sample_submission": [("id", "label"), *((f"t{i}", "a") for i in reversed(range(len(HARD))))],
    }
    for name, rows in tables.items():
        with open(tmp_path / f"{name}.csv", "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return tmp_path


def test_hard_texts_go_from_the_file_to_the_submission_unharmed(competition):
    task, findings = infer(competition)
    train, test = read_train(task), read_test(task)
    assert test["text"].tolist() == [text if text.strip() else "" for text in HARD.values()]
    assert train["id"].iloc[0] == "000"
    assert findings.set_index("what").loc["empty texts in test", "found"] == "2 of 9"

    tokens = tokenize(train["text"], load_tokenizer(find_backbone("minilm")), 64)
    assert tokens.lengths.min() >= 2 and tokens.lengths.max() == 64
    labels = encode_labels(task, train)
    folds = assign_folds(labels, identical_groups(train["text"]), 3)
    fitted = Baseline(task, train, test).fit(np.flatnonzero(folds), np.flatnonzero(folds == 0), competition, 0)
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    assert len(show_examples(train, task, tokens.lengths)) == 6

    sample = read_sample(task)
    submission = make_submission(task, sample, test["id"], fitted.test)
    check_submission(submission, sample, task)
    path = write_submission(submission, competition / "submission.csv")
    assert path.read_text().splitlines()[1].startswith("t8,")
