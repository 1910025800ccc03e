"""What 1_eda says of labels, lengths and copies."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.data.duplicates import duplicate_summary
from kagglekit.show.verdicts import (
    describe_conflicts,
    describe_copies,
    describe_labels,
    describe_lengths,
    describe_test_lengths,
)


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("multiclass", [0] * 30 + [1] * 20, "The classes are balanced: the largest has 1.5 times the texts of"),
        (
            "binary",
            [0] * 90 + [1] * 15,
            "not balanced: 'a' has 6 times the texts of 'b', and a model that always says so",
        ),
        ("binary", [0] * 95 + [1] * 5, "is right in 95.0% of the rows. 'b' is rare, with fewer than 10 texts"),
        (
            "multilabel",
            [[1, 0]] * 20 + [[0, 0]] * 70 + [[1, 1]] * 10,
            "'a' is the most frequent label, in 30.0% of the",
        ),
        (
            "multilabel",
            [[1, 0]] * 20 + [[0, 0]] * 70 + [[1, 1]] * 10,
            "'b' the rarest, in 10.0%. 70% of the texts have no",
        ),
        ("regression", [[1], [2], [3]] * 9, "'a' has 3 values: kind=ordinal may fit."),
        ("regression", [[n * 1.0] for n in range(50)] + [[900.0]], "'a' has a long tail"),
    ],
)
def test_labels(kind, labels, words):
    names = ["a", "b"][: 1 if kind == "regression" else 2]
    assert words in describe_labels(kind, np.array(labels), names)


def test_numbers_without_anything_to_say():
    assert describe_labels("regression", np.arange(50.0).reshape(-1, 1), ["a"]) == ""


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([20] * 99 + [9], "All texts fit in 32 tokens: set max_length=32, and nothing is cut."),
        ([20] * 100, "All texts have 20 tokens: set max_length=20, and nothing is cut."),
        (
            [200] * 95 + [400] * 5,
            "95.0% of the texts fit in 256 tokens: max_length=256 cuts 5.0% of them. The default of",
        ),
        ([200] * 95 + [400] * 5, "The default of 3_train, 192, cuts 100% of the texts."),
        ([50] * 97 + [150] * 3, "97.0% of the texts fit in 64 tokens: max_length=64 cuts 3.0% of them."),
        (
            [1000] * 50 + [100] * 50,
            "The texts are long: 95 % of them fit in 1,000 tokens, and max_length=512 cuts 50% of",
        ),
    ],
)
def test_lengths(lengths, words):
    assert words in describe_lengths(np.array(lengths))


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (
            [68] * 99 + [46],
            [46] * 40,
            "test are shorter: the median has 46 tokens, that of train 68 (KS distance 0.99)",
        ),
        (range(100), range(50, 150), "test are longer: the median has 100 tokens, that of train 50 (KS distance 0.50)"),
        (range(100), range(3, 103), "Texts of test are as long as those of train: the median has 52 tokens, that of "),
        ([5, 9], [100], "as long as those of train"),  # too few to tell
        ([18] * 60 + [19] * 40, [18] * 90 + [19] * 110, "as long as those of train: the median has 19 tokens, that of"),
        (
            [20] * 30 + [25] * 100 + [30] * 30,
            [10] * 50 + [25] * 100 + [90] * 50,
            "of other lengths: nine in ten have 10 to 90 tokens, those of train 20 to 30 (KS distance 0.25)",
        ),
    ],
)
def test_lengths_of_test(train, test, words):
    assert words in describe_test_lengths(np.array(train), np.array(test))


def test_copies():
    train, test = ["one text", "One  text", "other", "third"], ["third", "fourth"]
    assert describe_copies(duplicate_summary(train, test)) == (
        "Copies within train: 2 rows (50.0%), which share a fold. Rows of test with a copy in train: 1 (50.0%). Their "
        "labels stand there: the score on test will be much better than the local one, which holds for the others."
    )
    few = describe_copies(duplicate_summary(train, ["third", *"abcdefghij"]))
    assert few.endswith(
        "1 (9.1%). Their labels stand there: the score on test will be a little better than the local "
        "one, which holds for the others."
    )
    groups = np.array([0, 0, 1, 1, 2, 3])
    assert describe_copies(duplicate_summary(train, test, groups=groups)) == (
        "Copies, or nearly, within train: 4 rows (100.0%), which share a fold."
    )
    only = describe_copies(duplicate_summary(["a"], ["b", "b"]))
    assert only == "Copies within test: 2 rows (100.0%); none is in train."
    assert describe_copies(duplicate_summary(["a"], ["b"])) == "No text of train or test comes twice."
    assert describe_conflicts(pd.DataFrame(), 5) == ""
    assert describe_conflicts(pd.DataFrame({"id": ["1", "2"]}), 50).startswith(
        "2 rows of train (4.0%) have copies with"
    )
