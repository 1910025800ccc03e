"""Columns that give the label away are found, and the column by which train and test were divided."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.data.column_leaks import column_effects, group_effects, read_cells, split_prefix
from kagglekit.data.folds import assign_folds


@pytest.fixture(scope="module")
def rows():
    """400 rows: the text says the label to three in four, `place` says it always, `day` says nothing."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    said = np.where(random.random(400) < 0.75, labels, 1 - labels)
    texts = [
        f"the {['bad', 'good'][one]} film of {word}"
        for one, word in zip(said, random.integers(0, 50, 400), strict=True)
    ]
    columns = {
        "text": texts,
        "place": [f"p{2 * random.integers(5) + label}" for label in labels],
        "day": [str(day) for day in random.integers(1, 29, 400)],
    }
    groups = np.arange(400)
    return labels, columns, assign_folds(labels, groups, 4), groups


def test_a_column_that_says_the_label_predicts_it_alone_and_the_others_do_not(rows):
    labels, columns, folds, groups = rows
    table = column_effects("accuracy", "binary", labels, columns, folds, groups).set_index("column")
    assert table.index[0] == "place"
    assert table.loc["place", "alone"] == 1.0 and table.loc["place", "share_alone"] == pytest.approx(1.0)
    assert table.loc["text", "alone"] == pytest.approx(0.75, abs=0.05)
    assert table.loc["place", "gain"] == pytest.approx(1 - table.loc["place", "without"])
    assert 0.2 < table.loc["place", "low"] < table.loc["place", "gain"] < table.loc["place", "high"] < 0.4
    assert table.loc["day", "low"] <= 0 <= table.loc["day", "high"]
    assert table.attrs["all"] == 1.0 and table.attrs["constant"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_numbers_and_several_labels_have_their_columns_measured_too(rows, kind):
    labels, columns, folds, groups = rows
    number = np.random.default_rng(1).normal(size=400)
    truth = np.column_stack([number, labels]).astype(np.float32)
    truth = np.column_stack([number > 0, labels]).astype(np.float32) if kind == "multilabel" else truth
    metric = "rmse" if kind == "regression" else "roc_auc"
    table = column_effects(metric, kind, truth, columns | {"number": [f"{one:.3f}" for one in number]}, folds, groups)
    table = table.set_index("column")
    assert table.loc["number", "low"] > 0 and table.loc["place", "low"] > 0
    assert abs(table.loc["day", "gain"]) < 0.1 * table.loc["number", "gain"]


def test_a_gain_is_positive_where_lower_is_better_too(rows):
    labels, columns, folds, groups = rows
    table = column_effects("log_loss", "binary", labels, columns, folds, groups).set_index("column")
    assert table.loc["place", "gain"] > 0.1 and table.loc["place", "without"] > table.attrs["all"]


def test_the_first_words_of_a_text_are_a_column_of_their_own():
    assert split_prefix(["[a] x  y z", "one", ""]) == (["[a] x", "one", ""], ["y z", "", ""])


def test_the_column_by_which_test_was_cut_off_makes_folds_most_like_test():
    random = np.random.default_rng(0)
    prompts, users = random.integers(0, 20, 600), random.integers(0, 30, 600)
    held = prompts >= 15
    table = pd.DataFrame({"prompt": prompts.astype(str), "user": users.astype(str)})
    train, test = table[~held], table[held]
    labels = random.integers(0, 2, len(train))
    groups = np.arange(len(train))
    found = group_effects(train, test, labels, assign_folds(labels, groups, 5), groups).set_index("column")
    assert found.index[0] == "prompt"
    assert found.loc["prompt", "in_test"] == 0 and found.loc["prompt", "in_folds"] == 1.0
    assert found.loc["user", "in_test"] > 0.9
    assert found.loc["prompt", "distance"] < 0.05 and found.loc["(folds as they are)", "distance"] > 0.45


def test_columns_and_tagged_texts_of_a_task_are_read_for_it(tmp_path):
    rows = [
        (f"{tag} film {number}", tag[1], str(number % 40)) for number, tag in enumerate(["[a] the", "[b] the"] * 60)
    ]
    table = pd.DataFrame(rows, columns=["text", "label", "writer"]).assign(id=range(120))
    table.to_csv(tmp_path / "train.csv", index=False)
    table.drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
    table[["id", "label"]].to_csv(tmp_path / "sample_submission.csv", index=False)
    cells = read_cells(infer(tmp_path, text="text")[0])
    assert list(cells.telling) == ["text, first words", "text, the rest", "writer"]
    assert cells.telling["text, first words"][:2] == ["[a] the", "[b] the"]
    assert list(cells.train) == list(cells.test) == ["writer"]
    table.drop(columns="writer").assign(text="one film").to_csv(tmp_path / "train.csv", index=False)
    assert read_cells(infer(tmp_path, text="text")[0]).telling == {}
