"""Words, lengths and columns that go with the labels."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.show.by_class import (
    WordCounts,
    class_words,
    classes_by_column,
    compare_words,
    count_words,
    describe_lengths_by_class,
    label_groups,
    lengths_by_class,
)

TEXTS = ["a good film tonight", "a good fun film", "a bad film", "a bad and boring film", "a boring film"] * 20
LABELS = np.array([1, 1, 0, 0, 0] * 20)
GROUPS = label_groups("binary", LABELS, ["neg", "pos"])


@pytest.mark.parametrize(
    ("kind", "labels", "names", "sizes"),
    [
        ("multiclass", [0, 2, 2], ["a", "b", "c"], {"a": 1, "c": 2}),
        ("ordinal", [1, 1, 0], ["1", "2"], {"1": 1, "2": 2}),
        ("multilabel", [[1, 0], [1, 1], [0, 0]], ["x", "y"], {"x": 2, "y": 1}),
        ("regression", [[float(n)] for n in range(10)], ["s"], {f"{n} to {n + 1}": 2 for n in range(0, 10, 2)}),
        ("regression", [[1.0], [2], [2], [2], [2], [3]], ["s"], {"1": 1, "2 to 3": 5}),
        ("regression", [[n, 0 if n < 9 else 1] for n in range(10)], ["s", "t"], {"high s": 2, "high t": 1}),
        (
            "multiclass",
            [*range(30), 29],
            [f"c{n}" for n in range(30)],
            {f"c{n}": 1 + (n == 29) for n in [*range(19), 29]},
        ),
    ],
)
def test_groups_are_classes_labels_or_fifths(kind, labels, names, sizes):
    labels = np.array(labels, dtype=np.float32 if kind in ("regression", "multilabel") else np.int64)
    found = label_groups(kind, labels, names)
    assert {name: int(rows.sum()) for name, rows in found.items()} == sizes


def test_words_that_speak_for_a_class_come_with_their_shares():
    table, _ = compare_words(TEXTS, ["a film"], GROUPS)
    assert table["words"].to_dict() == {
        "neg": "bad (67% : 0%), boring (67% : 0%), and (33% : 0%)",
        "pos": "good (100% : 0%), tonight (50% : 0%), fun (50% : 0%)",
    }
    assert table["texts"].to_dict() == {"neg": 60, "pos": 40}


def test_labels_drawn_at_random_have_hardly_a_word():
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice([f"w{n}" for n in range(200)], 8)) for _ in range(400)]
    counts = count_words(texts)
    found = [len(class_words(counts, {"x": random.random(400) < 0.5})) for _ in range(10)]
    assert sum(found) <= 3  # of 200 words each, one in 700 is three standard errors away


def test_chinese_words_are_two_characters_and_columns_are_apart():
    counts = count_words(["很好吃", "不好", "a\x1fb"])
    assert isinstance(counts, WordCounts) and sorted(counts.words) == ["不好", "好吃", "很好"]
    assert sorted(count_words(["the cat\x1fdog"]).words) == ["cat", "dog", "the"]


def test_new_words_are_told_against_those_of_a_random_part_of_train():
    _, usual = compare_words(TEXTS, TEXTS[:10], GROUPS)
    assert usual.startswith("0.0% of the words of test texts are in no text of train, as is usual: 0.0% of those")
    _, more = compare_words(TEXTS, ["an excellent film"] * 9 + ["a film"], GROUPS)
    assert more.startswith("62.1% of the words of test texts are in no text of train, more than usual")
    assert "The most frequent ones: an, excellent." in more


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (
            np.where(LABELS, 50, 10),
            "Length says much of the label: the median text has 50 tokens for 'pos' and 10 for ",
        ),
        (np.arange(100) % 7, "Length says next to nothing of the label"),
    ],
)
def test_what_length_says_is_told_in_words(lengths, words):
    assert describe_lengths_by_class(lengths, GROUPS).startswith(words)
    ax = lengths_by_class(lengths, GROUPS).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["neg", "pos"]


def test_labels_by_the_values_of_a_column_that_goes_with_them():
    columns = {"site": ["x", "x", "y", "y", ""] * 20, "noise": ["u", "v"] * 50, "id": [str(n) for n in range(100)]}
    table, words = classes_by_column(columns, GROUPS)
    expected = pd.MultiIndex.from_tuples([("site", "x"), ("site", "y"), ("site", "(empty)")], names=["column", "value"])
    assert table.index.equals(expected) and table["rows"].tolist() == [40, 40, 20]
    assert table["pos"].tolist() == [1, 0, 0] and table.attrs["percent"] == ["neg", "pos"]
    assert words.startswith("Labels go with 'site' strongly.")
    table, words = classes_by_column({"noise": columns["noise"]}, GROUPS)
    assert table is None and words == "No label is more frequent with some values of 'noise' than with others."
    assert classes_by_column({"id": columns["id"]}, GROUPS) == (None, "")
