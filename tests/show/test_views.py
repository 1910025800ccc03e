"""Tables to look at."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.show.texts import row_losses, shorten, show_examples, worst_rows

TASK = SimpleNamespace(kind="multiclass", classes=["a", "b"], labels=["y"], columns=["a", "b"])
TRAIN = pd.DataFrame({"id": list("pqrstu"), "text": ["x " * n for n in (5, 1, 9, 2, 7, 3)], "y": list("aababb")})
LENGTHS = np.array([5, 1, 9, 2, 7, 3])


def test_examples_are_the_shortest_the_middle_and_the_longest_of_each_class():
    table = show_examples(TRAIN, TASK, LENGTHS)
    assert table.loc["a", "tokens"].tolist() == [1, 2, 5]
    assert table.loc["b", "id"].tolist() == ["u", "t", "r"]


def test_examples_of_a_regression_are_its_lowest_middle_and_highest_targets():
    task = SimpleNamespace(kind="regression", classes=[], labels=["y"], columns=["y"])
    train = TRAIN.assign(y=["3", "-1", "10", "0", "2", "1"])
    table = show_examples(train, task, LENGTHS)
    assert table.loc["lowest y", "id"].unique().tolist() == ["q"]
    assert table.loc["highest y", "id"].unique().tolist() == ["r"]


def test_the_worst_rows_are_those_with_the_highest_loss():
    labels = np.array([0, 0, 1, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [0.99, 0.01], [0.5, 0.5]])
    table = worst_rows(TASK, TRAIN, labels, probs, n=2)
    assert table["id"].tolist() == ["t", "q"]
    assert table["predicted"].tolist() == ["a (0.99)", "b (0.90)"]
    assert table["loss"].tolist() == pytest.approx([4.61, 2.3])


def test_losses_of_several_labels_and_of_targets():
    several = SimpleNamespace(kind="multilabel")
    assert row_losses(several, np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])) == pytest.approx([np.log(2)])
    target = SimpleNamespace(kind="regression")
    assert row_losses(target, np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]])) == pytest.approx([0, 2])


def test_a_long_text_is_cut_in_the_middle_and_kept_on_one_line():
    assert shorten("a\nb") == "a b"
    assert shorten("x" * 500, 10) == "xxxxx ... xxxxx"
