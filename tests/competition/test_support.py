"""Labelled examples in columns of train and test, as rows of their own."""

import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.labelled import read_labelled
from kagglekit.competition.support import read_support, write_support

SUPPORT = {"positive": ["good_1", "good_2"], "negative": ["bad_1"]}
TRAIN = {
    "row": ["a", "b", "c", "d"],
    "body": ["buy it now", "see a doctor", "what a goal", "cook it slowly"],
    "rule": ["no adverts", "no adverts", "no advice", "no advice"],
    "good_1": ["cheap shoes", "cheap shoes", "take a pill", "take a pill"],
    "good_2": ["a sale today", "", "  ", "sleep more, he said"],
    "bad_1": ["nice film", "nice film", "cheap shoes", "well played"],
    "violation": [1, 0, 0, 1],
}
TEST = {name: cells[2:] for name, cells in TRAIN.items() if name != "violation"}


@pytest.fixture
def make_task(tmp_path):
    """make_task(changes of columns of train, settings): the task of a small competition with rules."""

    def make(change=(), **settings):
        train = pd.DataFrame({**TRAIN, **dict(change)})
        train.to_csv(tmp_path / "train.csv", index=False)
        test = pd.DataFrame(TEST).assign(row=["x", "y"])
        test.to_csv(tmp_path / "test.csv", index=False)
        test[["row"]].assign(violation=0.5).to_csv(tmp_path / "sample_submission.csv", index=False)
        return infer(tmp_path, **{"text": ["rule", "body"], "group": "rule", "labels": "violation"} | settings)[0]

    return make


def test_each_example_is_a_row_in_the_place_of_the_text_that_varies_most(make_task):
    rows = read_support(make_task(template="{rule}: {body}", text=None), SUPPORT, what="train")
    found = dict(zip(rows["id"], zip(rows["text"], rows["violation"], rows["group"], strict=True), strict=True))
    assert found == {
        "a:good_1": ("no adverts: cheap shoes", "1", "no adverts"),
        "a:good_2": ("no adverts: a sale today", "1", "no adverts"),
        "a:bad_1": ("no adverts: nice film", "0", "no adverts"),
        "c:good_1": ("no advice: take a pill", "1", "no advice"),
        "d:good_2": ("no advice: sleep more, he said", "1", "no advice"),
        "c:bad_1": ("no advice: cheap shoes", "0", "no advice"),
        "d:bad_1": ("no advice: well played", "0", "no advice"),
    }


def test_examples_of_some_rows_alone(make_task):
    rows = read_support(make_task(), {"1": ["good_2"]}, "rule", "train", {"d", "a"})
    assert rows["id"].tolist() == ["a:good_2", "d:good_2"]
    assert rows["text"].tolist() == ["a sale today\ufdd0buy it now", "sleep more, he said\ufdd0cook it slowly"]


def test_the_file_of_all_examples_is_one_of_labelled_rows(make_task, tmp_path):
    task = make_task()
    assert write_support(task, SUPPORT, tmp_path / "support.csv") == 7  # those of test are in train already
    rows = read_labelled(task, tmp_path / "support.csv")
    assert rows["id"].tolist()[:2] == ["a:good_1", "c:good_1"] and set(rows["violation"]) == {"0", "1"}
    assert rows["group"].tolist()[:2] == ["no adverts", "no advice"]


@pytest.mark.parametrize(
    ("support", "how", "words"),
    [
        ({"positive": ["good"]}, {}, "train.csv has no column 'good': did you mean good_2"),
        ({"violates": ["good_1"]}, {}, "'violates' is none of the classes 0, 1"),
        ({"positive": ["good_1"]}, {"column": "title"}, "column='title' is none of the text columns rule, body"),
        ({"positive": ["good_1"], "negative": ["good_1"]}, {}, "the column 'good_1' is named twice"),
        ({"positive": ["bad_1"], "negative": ["copy"]}, {}, "each example of train stands under two classes"),
        ({"positive": ["empty"]}, {}, "hold no example"),
    ],
)
def test_what_is_no_example_is_told(make_task, support, how, words):
    columns = {"copy": TRAIN["bad_1"], "empty": [" "] * 4}
    with pytest.raises(ValueError, match=words):
        read_support(make_task(columns.items()), support, what="train", **how)


def test_rows_without_examples_have_none(make_task):
    assert read_support(make_task(), {"positive": ["good_2"]}, what="train", ids={"b"}).empty


def test_examples_under_two_classes_of_a_group_are_left_out(make_task, tmp_path, capsys):
    both = {
        "good_2": ["nice film", "", "nice film", "sleep more, he said"]
    }  # bad in the first group, fine in the other
    task = make_task(both.items())
    rows = read_support(task, SUPPORT, what="train").set_index("id")["violation"]
    assert rows.to_dict() == {
        "a:good_1": "1", "c:good_1": "1", "c:good_2": "1", "d:good_2": "1", "c:bad_1": "0", "d:bad_1": "0",
    }  # fmt: skip
    assert (
        "2 examples of train stand under two classes, and are left out, such as 'a:good_2'" in capsys.readouterr().out
    )
    assert write_support(task, SUPPORT, tmp_path / "support.csv") == 6
    assert "nice film" in (written := (tmp_path / "support.csv").read_text()) and "nice film,no adverts" not in written


def test_values_have_no_examples_of_classes(make_task):
    shares = {"violation": [0.75, 0.25, 0.5, 1.0]}
    with pytest.raises(ValueError, match="of the classes of one column, and the labels were made from violation"):
        read_support(make_task(shares.items(), kind="binary"), SUPPORT)
    with pytest.raises(ValueError, match="the labels are regression"):
        read_support(make_task({"violation": [0.5, 2.25, 1.75, 9.5]}.items(), kind="regression"), SUPPORT)
