"""What cannot be found in a folder is an error that says which parameter names it, or what to make of the files."""

import io
import zipfile

import pytest

from kagglekit.competition.infer import infer
from tests.competition.folders import BARE, PROMPTED, PROMPTS, TEST, TEST_IDS, TRAIN, written


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("train.csv", "x\n1\n")
        opened.writestr("test.csv", "x\n1\n")
    return stream.getvalue()


WRONG = [
    (
        {"a-train.csv": TRAIN, "b-train.csv": TRAIN, "test.csv": TEST},
        {},
        r"could be train: a-train\.csv, b-train\.csv\. Say which: train=",
    ),
    (
        {"train.csv": TRAIN, "dev.csv": TEST},
        {},
        r"no table named test\* .*say test= the name of that file; it holds dev\.csv",
    ),
    ({"train.xlsx": "PK", "test.csv": TEST}, {}, r"train\.xlsx is not read: save the sheet as CSV UTF-8 beside it"),
    ({"train.csv": TRAIN, "test.csv": TEST}, {"train": "/etc/hostname"}, r"train='/etc/hostname' is not in .*"),
    ({"train.sqlite": "x", "test.csv": TEST}, {}, r"train\.sqlite is not read: write its table with pandas\.read_sql"),
    ({"training_text": "ID,Text\n0||a\n", "test_text": "x"}, {}, r"training_text is not read: give its name an ending"),
    (
        {"data.csv": {**TRAIN, "split": ["train", "Test"] * 6}},
        {},
        "rows to predict, those of which 'split' says so, into",
    ),
    ({"data.csv": TRAIN}, {}, r"Train and test are two files: write the rows to predict, .*, into test\.csv"),
    ({"train.arff": "@data", "test.csv": TEST}, {}, r"train\.arff is not read: write it as a table, train\.csv"),
    (
        {"train.csv": TRAIN, "public_test.csv": TEST, "private_test.csv": {**TEST, "id": list("wxyz")}},
        {},
        r"2 files that could be test: private_test\.csv, public_test\.csv\. Say which",
    ),
    (
        {f"{role}/{name}.txt": "x y z" for role in ("train", "test") for name in ("sents", "topics")},
        {},
        r"train and test in .* hold files of the same names \(sents\.txt, topics\.txt\), which are no texts with ids",
    ),
    (
        {
            "train.csv": {**BARE, "note": [1, 2] * 6},
            "test.csv": {"id": TEST_IDS, "note": [3] * 4},
            "notes.csv": {"note": [1, 2], "about": ["write of a day", "write of a night"]},
        },
        {},
        r"share no column of text: .* numeric or empty\. notes\.csv: 'note' in test has values that are not there",
    ),
    (
        {
            "train.csv": {**BARE, "first": [f"s{n}" for n in range(12)]},
            "test.csv": {"id": TEST_IDS, "first": ["s1", "s2", "s3", "s4"]},
            "sentences.csv": {"sid": [f"s{n}" for n in range(12)], "sentence": TRAIN["text"]},
        },
        {},
        "train has no text, and sentences.csv has it: 'first' of train and test names its rows, by 'sid'",
    ),
    (
        {"x_train.csv": {"text": TRAIN["text"]}, "y_train.csv": {"label": TRAIN["label"]}, "x_test.csv": TEST},
        {},
        r"train has no column .*\. y_train\.csv has label, and as many rows as train: if they are labels in its order",
    ),
    ({"train.csv.tar.gz": "x", "test.csv": TEST}, {}, r"train\.csv\.tar\.gz is not read: unpack it"),
    ({"train-00001-of-00003.csv": TRAIN, "test.csv": TEST}, {}, r"holds 1 of the 3 parts of train-00001-of-00003\.csv"),
    ({"all.zip": archive()}, {}, r"all\.zip holds train\.csv: unpack it: python -m zipfile -e .*all\.zip"),
    (
        {"train/pos/1.txt": "good", "test.csv": TEST},
        {},
        r"train is a folder without tables: make train\.csv of it",
    ),
    ({"train.csv": TRAIN, "test.csv": TEST}, {"sample": "x.csv"}, r"has no file 'x\.csv' \(sample=\); it holds"),
    (
        {"train.csv": {**TRAIN, "target": TRAIN["label"]}, "test.csv": TEST},
        {},
        r"no sample submission .* train has label, target .*: say labels=",
    ),
    ({"train.csv": TRAIN, "runs/x/task.json": "{}", "runs/x/base/fold0/test.csv": TEST}, {}, r"no table named test\*"),
    (
        {"train.csv": PROMPTED[0], "test.csv": PROMPTED[1], "p.csv": PROMPTS},
        {"join": {"p.csv": "prompt"}},
        r"join: 'prompt' in data row 1 of test is 'p3', which p\.csv has not \(4 such rows\)",
    ),
    (
        {"train.csv": TRAIN, "test.csv": TEST, "p.csv": PROMPTS},
        {"join": {"p.csv": "prompt"}},
        "join: train has no column 'prompt'",
    ),
    (
        {"train.csv": TRAIN, "test.csv": TEST, "p.csv": PROMPTS},
        {"join": {"p.csv": "x"}},
        r"p\.csv has no column 'x'; it has prompt, about",
    ),
    ({"train.csv": TRAIN, "test.csv": TEST}, {"join": {"p.csv": "x"}}, r"has no file 'p\.csv'"),
    (
        {"train.csv": PROMPTED[0], "test.csv": PROMPTED[1], "p.csv": {"prompt": ["p1", "p1"], "about": ["x", "y"]}},
        {"join": {"p.csv": "prompt"}},
        r"p\.csv has several rows with prompt='p1'",
    ),
]


@pytest.mark.parametrize(("files", "given", "message"), WRONG)
def test_what_cannot_be_found_is_an_error_that_says_the_parameter(tmp_path, files, given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        infer(written(tmp_path, files), **given)
