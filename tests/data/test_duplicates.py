import numpy as np

from kagglekit.data.duplicates import duplicate_summary, identical_groups, normalise


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
