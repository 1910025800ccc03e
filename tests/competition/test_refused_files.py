"""Files and settings that do not fit are errors that name the file, the row and what to do."""

from dataclasses import replace

import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from tests.competition.shapes import TEXTS, competition, found, repeated


def test_labels_that_cannot_be_encoded_are_named(tmp_path):
    task = found(competition(tmp_path))
    train = read_train(task).replace({"label": {"b": "c"}})
    with pytest.raises(
        ValueError, match=r"column 'label' holds 'c' in data row 2 \(id '001'\), .* one of the classes a, b"
    ):
        encode_labels(task, train)
    numbers = replace(task, kind="regression", classes=[])
    with pytest.raises(ValueError, match=r"holds 'a' in data row 1 .* not a number"):
        encode_labels(numbers, train)


BAD_FILES = [
    ({"train": {"id": ["1", "", "3", "4"]}}, r"train\.csv: data row 2 has no value in the id column 'id'"),
    (
        {"train": {"id": ["1", "2", "3", "2"]}},
        r"train\.csv: column 'id' holds '2' in data rows 2 and 4; ids must differ \(1",
    ),
    (
        {"train": {"id": list("1123"), "text": ["a b", "a b", "c", "d"]}},
        "Write each text once, with the label that most",
    ),
    ({"train": {"id": list("1123")}}, r"holds '1' in data rows 1 and 2; .* A row is a text here"),
    (
        {"columns": {"id": ["7_a", "7_b", "8_a", "9_a"], "label": ["a"] * 4}},
        "for each label; pandas.melt makes this form",
    ),
    ({"test": {"id": ["7", "8", "8"]}}, r"test\.csv: column 'id' holds '8' in data rows 2 and 3"),
    ({"test": {"id": ["7", "", "9"]}}, r"test\.csv: data row 2 has no value in the id column"),
    (
        {"test": {"id": ["7", "10", "9"]}},
        r"sample_submission\.csv: data row 2 \(id '8'\) is not in column 'id' of test\.csv",
    ),
    ({"test": {"id": ["07", "8", "9"]}}, r"sample_submission\.csv: data row 1 \(id '7'\) is not in .* the same way"),
    (
        {"columns": {"id": ["7", "9", "9"], "label": ["a"] * 3}},
        r"sample_submission\.csv: column 'id' holds '9' in data rows 2 and 3",
    ),
    (
        {"test": {"id": None, "key": ["7", "8", "10"]}},
        r"test\.csv has no column 'id' \(id\); it has text, key\. Say id=",
    ),
    (
        {"labels": {"label": ["a", "", "b", ""]}},
        r"train\.csv: column 'label' has no value in data row 2 \(id '001'\) \(2 such",
    ),
    ({"labels": {"label": ["a", "a", "a", "a"]}}, r"train\.csv: column 'label' is 'a' in every row"),
    ({"labels": {"label": ["1", "1.0", "2", "3"]}, "sample": "1"}, "writes the same number in two ways"),
    (
        {"labels": {}},
        "which column holds the labels.* asks for label; train has no column that test has not. Say labels=",
    ),
    (
        {"labels": {"tone": list("abab")}, "train": {"other": list("wxyz")}, "columns": {"target": ["?"] * 3}},
        r"which column holds the labels.* asks for target; train has tone, other and test has not",
    ),
    (
        {"labels": {"x": ["1", "2", "3", "4"], "y": ["1", "2", "word", "4"]}, "columns": {"x": [0] * 3, "y": [0] * 3}},
        r"train\.csv: column 'y' holds 'word' in data row 3 \(id '002'\), and kind='regression' wants a number",
    ),
    ({"train": {"text": ["1", "2", "3", "4"]}}, "train and test share no column of text: .* Say text="),
]


def values(bad, rows=60):
    """A column of numbers, of which the eighth is another cell."""
    return [bad if row == 7 else f"{row / 7:.3f}" for row in range(rows)]


LEAVE = r"leave such rows out with drop_unlabelled=True"
BAD_LABELS = [
    *(
        (
            repeated(["good", "bad", word]),
            f"holds '{word}' in data row 3 .id '002'., which is no label .20 such.*{LEAVE}",
        )
        for word in ("nan", "N/A", "NULL", "NaN", "NA", "null", " nan ")
    ),
    (repeated(["good", "bad", "  "]), f"'label' has no value in data row 3 .*{LEAVE}$"),
    (values("N/A"), rf"holds 'N/A' in data row 8 \(id '007'\), which is no label .*{LEAVE}$"),
    (values("inf"), r"holds 'inf' in data row 8 \(id '007'\), and the other rows hold numbers"),
    (values("1.5x"), r"holds '1\.5x' in data row 8 \(id '007'\), and the other rows hold numbers"),
    (values("1e60"), r"holds '1e60' in data row 8 \(id '007'\), and no label is larger than 1e\+15"),
    (["1.0"] * 4, "column 'label' is '1.0' in every row"),
    (['{"a": 1}', '{"a": 2}'] * 2, "in data row 1 .id '000'., which is an object and no label"),
]


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS)
def test_labels_that_are_none_are_errors_that_name_the_row(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        infer(competition(tmp_path, {"label": labels}))


@pytest.mark.parametrize(("change", "message"), BAD_FILES)
def test_files_that_do_not_agree_are_errors_that_name_the_row(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        infer(competition(tmp_path, **change))


BAD_SETTINGS = [
    ({"id": "key"}, r"test\.csv has no column 'key'"),
    ({"labels": "target"}, r"labels='target' is no column of train\.csv; it has id, text, label, n"),
    ({"labels": "id"}, r"labels=\['id'\] of train\.csv: 'id' stands for another column"),
    ({"group": "author"}, r"group='author' is no column of train\.csv"),
    ({"group": "gap"}, r"train\.csv: column 'gap' has no value in data row 3 \(id '002'\)"),
    ({"text": "body"}, r"text='body' is no column of train\.csv"),
    ({"text": ["text", "label"]}, r"text='label' is no column of test\.csv"),
    ({"text": "blank"}, r"train\.csv: the text column 'blank' is empty in every row"),
    ({"kind": "words"}, "kind='words' is out of range: it must be one of binary"),
    ({"kind": "binary"}, r"kind='binary' wants 2 classes, and column 'label' of train\.csv has 3 \(a, b, c\)"),
    (
        {"kind": "regression"},
        r"column 'label' holds 'a' in data row 1 \(id '000'\), and kind='regression' wants a number",
    ),
    ({"kind": "ordinal"}, "kind='ordinal' wants a number .* say classes= in their order"),
    ({"kind": "multilabel"}, "kind='multilabel' needs several label columns of 0 and 1, and there is one: 'label'"),
    ({"kind": "multiclass", "labels": ["label", "n"]}, "kind='multiclass' has one label column, and labels= names 2"),
    (
        {"classes": ["a", "b"]},
        r"column 'label' holds 'c' in data row 3 \(id '002'\), which is none of the classes a, b",
    ),
    ({"classes": ["a", "b", "c", "d"]}, r"class 'd' has no row in column 'label' of train\.csv"),
    ({"classes": ["a", "b", "c", "c"]}, "class 'c' is named twice"),
    ({"labels": "n", "kind": "regression", "classes": ["1"]}, "classes= does not go with kind='regression'"),
    ({"form": "table"}, "form='table' is not known: did you mean label"),
    ({"form": "probability"}, "form='probability' is for kind='binary', and this is multiclass"),
    (
        {"form": "columns"},
        r"sample_submission\.csv has the columns label besides the id, and kind='multiclass' asks for a, b",
    ),
    ({"labels": ["label2", "label3"]}, "form='label' submits one label, and there are label2, label3: say form='list'"),
    ({"metric": "rmse"}, "metric='rmse' does not fit kind='multiclass'"),
    ({"metric": "acc"}, "metric='acc' is not known"),
]


@pytest.mark.parametrize(("given", "message"), BAD_SETTINGS)
def test_settings_that_do_not_fit_are_errors_that_say_why(tmp_path, given, message):
    more = {"n": ["1", "2", "3", "4"], "gap": ["x", "y", "", "z"], "blank": [""] * 4}
    more |= {"label2": list("1010"), "label3": list("0110")}
    folder = competition(
        tmp_path, {"label": ["a", "b", "c", "a"]}, train=more, test={"n": ["1", "2", "3"], "blank": [""] * 3}
    )
    with pytest.raises(ValueError, match=message):
        infer(folder, **given)


def test_a_missing_or_second_file_is_an_error(tmp_path):
    folder = competition(tmp_path)
    (folder / "train_2.csv").write_bytes((folder / "train.csv").read_bytes())
    assert found(folder).files["train"] == "train.csv"
    (folder / "train.csv").rename(folder / "train_1.csv")
    with pytest.raises(
        ValueError, match=r"2 files that could be train: train_1\.csv, train_2\.csv\. Say which: train="
    ):
        infer(folder)
    assert found(folder, train="train_2.csv").files["train"] == "train_2.csv"
    with pytest.raises(
        FileNotFoundError, match=r"has no file 'train\.csv' \(train=\); it holds .*train_1\.csv, train_2\.csv"
    ):
        infer(folder, train="train.csv")


def test_a_sample_of_ids_alone_is_an_error(tmp_path):
    folder = competition(tmp_path)
    (folder / "sample_submission.csv").write_text("id\n7\n8\n9\n")
    with pytest.raises(ValueError, match=r"sample_submission\.csv has only the id column 'id'"):
        infer(folder)


def test_another_encoding_is_asked_for_and_remembered(tmp_path):
    folder = competition(tmp_path, train={"text": ["prix £5 à Paris", *TEXTS[1:]]})
    path = folder / "train.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))
    with pytest.raises(ValueError, match=r"train\.csv: byte 0xa3 .* encoding='cp1252'"):
        infer(folder, encoding="utf-8")
    for said in ({}, {"encoding": "cp1252"}):
        task, findings = infer(folder, **said)
        assert task.encoding == "cp1252" and read_train(task)["text"][0] == "prix £5 à Paris"
        assert ("encoding of train.csv" in set(findings["what"])) == (not said)
    with pytest.raises(ValueError, match="TaskSettings has no knob 'lables': did you mean labels"):
        infer(folder, lables="red")
