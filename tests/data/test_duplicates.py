import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from kagglekit.data.duplicates import (
    conflicting_labels,
    duplicate_summary,
    identical_groups,
    near_duplicate_groups,
    normalise,
    show_clusters,
)
from kagglekit.data.minhash import jaccard
from kagglekit.samples import write_sample

needs_datasketch = pytest.mark.skipif(find_spec("datasketch") is None, reason="datasketch is not installed")


def test_case_and_white_space_do_not_make_a_text_different():
    assert normalise(" Die\tSTRASSE \n") == normalise("die straße")
    assert normalise("a b") != normalise("ab")


def test_groups_are_numbered_in_order_of_appearance():
    assert identical_groups(["b", "a", "B ", "c", "a"]).tolist() == [0, 1, 0, 2, 1]


def test_each_empty_text_is_its_own_group():
    assert identical_groups(["", "x", " \n", ""]).tolist() == [0, 1, 2, 3]


def test_odd_texts_are_texts():
    texts = ["\x00", "😀", "שלום", "1", "\x00"]
    assert identical_groups(texts).tolist() == [0, 1, 2, 3, 0]


def test_summary_counts_sets_and_rows_within_and_across():
    train, test = ["a", "A", "b", "c", "", "c ", "d"], ["c", "C", "e", "", "d"]
    summary = duplicate_summary(train, test, labels=np.array([0, 1, 0, 1, 0, 1, 1]))
    assert summary[["sets", "rows"]].to_dict("index") == {
        "within train": {"sets": 2, "rows": 4},
        "within test": {"sets": 1, "rows": 2},
        "test rows that are in train": {"sets": 2, "rows": 3},
        "within train, labels differ": {"sets": 1, "rows": 2},
    }
    assert np.allclose(summary["share"], [4 / 7, 2 / 5, 3 / 5, 2 / 7])
    assert summary["example"].tolist() == ["a", "c", "c", "a"]


def test_labels_of_several_columns_conflict_when_any_differs():
    labels = np.array([[0, 1], [0, 1], [1, 1], [0, 1]], dtype=np.float32)
    summary = duplicate_summary(["a", "a", "b", "b"], [], labels)
    assert summary.loc["within train, labels differ", "rows"] == 2
    assert summary.loc["within test", "share"] == 0


def test_summary_without_duplicates_has_zeros():
    summary = duplicate_summary(["a", "b"], ["c"])
    assert summary["rows"].tolist() == [0, 0, 0] and summary["example"].tolist() == ["", "", ""]


def words(n, seed):
    return " ".join(f"w{k}" for k in np.random.default_rng(seed).integers(0, 5000, n))


@needs_datasketch
def test_planted_near_copies_are_found_and_other_texts_are_not():
    texts = [words(60, seed) for seed in range(80)]
    copies = [text.replace(text.split()[30], "other").upper() + " !!!" for text in texts[:30]]
    groups = near_duplicate_groups([*texts, *copies])
    assert groups.tolist() == [*range(80), *range(30)] and groups.dtype == np.int64


@needs_datasketch
def test_identical_texts_stay_together_and_empty_ones_apart():
    texts = ["", "Ok", "ok ", "!!!", "?!", "", "no", "I love it", "I love it!", "I LOVE  it"]
    assert near_duplicate_groups(texts, 0.6).tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7, 6]


@needs_datasketch
def test_chinese_copies_are_found_by_character():
    text = "今天天气很好我们一起去公园散步然后回家吃饭看电视睡觉明天还要上班"
    other = "机器学习是人工智能的一个分支它研究计算机怎样模拟人的学习行为"
    assert near_duplicate_groups([text, other, text.replace("公", "花") + "。"], 0.6).tolist() == [0, 1, 0]


@needs_datasketch
def test_a_chain_is_one_group_through_near_texts_only():
    chain = words(60, 0).split()
    texts = []
    for place in (5, 20, 35, 50):
        chain[place] = "other"
        texts.append(" ".join(chain))
    assert near_duplicate_groups(texts, 0.8).tolist() == [0, 0, 0, 0]
    assert near_duplicate_groups([texts[0], texts[3]], 0.8).tolist() == [0, 1]


@needs_datasketch
def test_the_news_that_bbc_printed_twice_are_found(tmp_path):
    task, _ = infer(write_sample("bbc", tmp_path, rows=600))
    train = read_train(task)
    groups = near_duplicate_groups(train["text"], 0.8)
    titles = train["text"].str.split().str[:8].str.join(" ")
    assert len(np.unique(groups)) < len(np.unique(identical_groups(train["text"])))
    assert (titles.groupby(groups).nunique() == 1).mean() > 0.99
    assert len(conflicting_labels(task, train, encode_labels(task, train), groups)) == 0


def test_threshold_one_is_identical_groups_and_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    texts = ["b", "a", "B ", "c", "", "a", ""]
    assert (near_duplicate_groups(texts, 1) == identical_groups(texts)).all()
    assert near_duplicate_groups([], 0.8).shape == (0,)
    with pytest.raises(ModuleNotFoundError, match="pip install datasketch"):
        near_duplicate_groups(texts, 0.8)
    for threshold in (0, 0.2, 1.1):
        with pytest.raises(ValueError, match="threshold"):
            near_duplicate_groups(texts, threshold)


def test_summary_counts_near_copies_beside_identical_ones():
    train, test = ["a", "A", "b", "c"], ["c", "d"]
    summary = duplicate_summary(train, test, np.array([0, 0, 1, 1]), groups=np.array([0, 0, 0, 1, 1, 1]))
    assert summary["rows"].tolist() == [2, 0, 1, 0, 3, 2, 2, 3]
    assert summary.index[4:].tolist() == [f"nearly: {name}" for name in summary.index[:4]]
    with pytest.raises(ValueError, match="6 rows of train and test"):
        duplicate_summary(train, test, groups=np.zeros(4))


def test_clusters_are_shown_where_their_texts_begin_to_differ():
    long = words(30, 0)
    texts = ["x", long + " one end", "y", "z z z", long + " another end", "Z z  z", "z Z z"]
    groups = np.array([0, 1, 2, 3, 1, 3, 3])
    table = show_clusters(texts, groups, list("abcdefg"))
    assert table["ids"].tolist() == ["b, e", "d, f, g"]
    assert table["wordings"].tolist() == [2, 1] and table["rows"].tolist() == [2, 3]
    assert table["likeness"].tolist() == [jaccard(texts[1], texts[4]), 1.0]
    assert table["first"][0].endswith("one end") and table["other"][0].endswith("another end")
    assert len(show_clusters(texts, groups, list("abcdefg"), n=1)) == 1
    assert list(show_clusters(["a"], np.zeros(1), ["1"])) == list(table)


def test_conflicting_labels_lists_each_row_of_a_cluster_that_disagrees(task):
    rows = {"id": list("abcdefg"), "text": ["x", "y", "x", "y", "z", "z", "z"], "label": list("1112233")}
    train, groups = pd.DataFrame(rows), np.array([5, 6, 5, 6, 2, 2, 2])
    labels = train["label"].astype(int).to_numpy() - 1
    found = conflicting_labels(task("ordinal"), train, labels, groups)
    assert found["id"].tolist() == ["e", "f", "g", "b", "d"] and list(found) == ["group", "id", "label", "text"]
    assert conflicting_labels(task("ordinal"), train, labels, groups, tolerance=1).empty
    assert len(conflicting_labels(task("regression"), train, labels * 0.4, groups, tolerance=0.3)) == 5
    with pytest.raises(ValueError, match="use tolerance=0"):
        conflicting_labels(task("multiclass"), train, labels, groups, tolerance=1)
    with pytest.raises(ValueError, match="7 rows of train"):
        conflicting_labels(task("multiclass"), train, labels, groups[:3])


def test_labels_of_any_column_conflict(task):
    train = pd.DataFrame({"id": list("abcd"), "text": ["x"] * 4, "x": list("1111"), "y": list("0010")})
    labels = train[["x", "y"]].astype(np.float32).to_numpy()
    found = conflicting_labels(task("multilabel"), train, labels, np.array([0, 0, 1, 1]))
    assert found["id"].tolist() == ["c", "d"]
