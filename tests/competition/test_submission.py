import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.submission import (
    check_submission,
    compare_submissions,
    label_rates,
    leave_submission,
    make_submission,
    suspicious,
    write_submission,
)
from kagglekit.competition.task import Task, read_submission

TEST_IDS = ["007", "12", 'a,"b"']
SAMPLE_IDS = ["12", 'a,"b"', "007"]


def make_task(kind, form, classes, submission, labels=("label",), metric="accuracy"):
    files = {"train": "train.csv", "test": "test.csv", "sample_submission": "sample_submission.csv"}
    return Task(
        kind, "id", ["text"], list(labels), list(classes), form, submission, metric, None, ".", files, "utf-8", "0"
    )


def make_sample(task):
    return pd.DataFrame({name: SAMPLE_IDS if name == task.id else ["0"] * 3 for name in task.submission})


PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]], dtype=np.float32)
CASES = {
    "label": (
        make_task("multiclass", "label", ["x", "y, z", "é"], ["id", "label"]),
        PROBS,
        {"label": ["é", "y, z", "x"]},
    ),
    "number as class": (
        make_task("binary", "label", ["0", "1"], ["id", "label"]),
        PROBS[:, :2],
        {"label": ["0", "1", "0"]},
    ),
    "ordinal": (
        make_task("ordinal", "label", ["1", "2", "3"], ["id", "stars"], metric="qwk"),
        np.array([[-0.7], [1.4], [5.0]]),
        {"stars": ["2", "3", "1"]},
    ),
    "probability": (
        make_task("binary", "probability", ["n", "y"], ["id", "target"], metric="roc_auc"),
        np.array([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]]),
        {"target": [0.4, 0.1, 0.7]},
    ),
    "value": (
        make_task("regression", "label", [], ["id", "score"], ["score"], "rmse"),
        np.array([[1.5], [-2], [3]]),
        {"score": [-2, 3, 1.5]},
    ),
    "columns of classes": (
        make_task("multiclass", "columns", ["a", "b", "c"], ["id", "c", "a", "b"], metric="log_loss"),
        PROBS,
        {"c": [0.8, 0.3, 0.1], "a": [0.1, 0.2, 0.7], "b": [0.1, 0.5, 0.2]},
    ),
    "columns of labels": (
        make_task("multilabel", "columns", [], ["id", "mild", "hot"], ["hot", "mild"], "roc_auc"),
        PROBS[:, :2],
        {"mild": [0.1, 0.5, 0.2], "hot": [0.1, 0.2, 0.7]},
    ),
    "decisions": (
        make_task("multilabel", "columns", [], ["id", "mild", "hot"], ["hot", "mild"], "f1_macro"),
        PROBS[:, :2],
        {"mild": [0, 1, 0], "hot": [0, 0, 1]},
    ),
    "classes under other names": (
        replace(
            make_task("multiclass", "label", ["hate", "none", "rude"], ["id", "label"]),
            mapping={"hate": "2", "none": "0", "rude": "1"},
        ),
        PROBS,
        {"label": ["1", "0", "2"]},
    ),
    "columns under other names": (
        replace(
            make_task("multiclass", "columns", ["a", "b", "c"], ["id", "p_b", "p_a", "p_c"], metric="log_loss"),
            mapping={"a": "p_a", "b": "p_b", "c": "p_c"},
        ),
        PROBS,
        {"p_b": [0.1, 0.5, 0.2], "p_a": [0.1, 0.2, 0.7], "p_c": [0.8, 0.3, 0.1]},
    ),
    "columns in capitals": (
        replace(
            make_task("multilabel", "columns", [], ["id", "HOT", "Mild"], ["hot", "mild"], "roc_auc"),
            renamed={"sample_submission": {"HOT": "hot", "Mild": "mild"}},
        ),
        PROBS[:, :2],
        {"HOT": [0.1, 0.2, 0.7], "Mild": [0.1, 0.5, 0.2]},
    ),
    "the two likeliest": (
        replace(make_task("multiclass", "top2", ["x", "y", "z"], ["id", "tags"], metric="map@2"), joiner=" "),
        PROBS,
        {"tags": ["z x", "y z", "x y"]},
    ),
    "several labels in a cell": (
        replace(make_task("multilabel", "list", [], ["id", "tags"], ["hot", "mild", "raw"]), joiner=","),
        np.array([[0.7, 0.6, 0.1], [0.1, 0.1, 0.8], [0.2, 0.4, 0.3]]),
        {"tags": ["raw", "mild", "hot,mild"]},  # one at least
    ),
    "no label in a cell": (
        replace(
            make_task("multilabel", "list", [], ["id", "tags"], ["hot", "mild", "raw"]),
            joiner="list",
            may_be_empty=True,
        ),
        np.array([[0.7, 0.6, 0.1], [0.1, 0.1, 0.8], [0.2, 0.4, 0.3]]),
        {"tags": ['["raw"]', "[]", '["hot", "mild"]']},
    ),
    "a list as Python writes it": (
        replace(make_task("multilabel", "list", [], ["id", "tags"], ["hot", "mild"]), joiner="python"),
        np.array([[0.7, 0.6], [0.1, 0.8], [0.6, 0.4]]),
        {"tags": ["['mild']", "['hot']", "['hot', 'mild']"]},
    ),
    "values inside the range of train": (
        replace(make_task("regression", "label", [], ["id", "score"], ["score"], "rmse"), bounds=[[-1.0, 2.0]]),
        np.array([[1.5], [-2], [3]]),
        {"score": [-1, 2, 1.5]},
    ),
    "columns of targets": (
        make_task("regression", "columns", [], ["two", "id", "one"], ["one", "two"], "mcrmse"),
        np.array([[1, 10], [2, 20], [3, 30]]),
        {"two": [20, 30, 10], "one": [2, 3, 1]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_submission_has_the_samples_form_row_for_row(name, tmp_path):
    task, predictions, expected = CASES[name]
    sample = make_sample(task)
    frame = make_submission(task, sample, TEST_IDS, predictions)
    assert list(frame.columns) == task.submission and frame["id"].tolist() == SAMPLE_IDS
    for column, values in expected.items():
        if isinstance(values[0], str):
            assert frame[column].tolist() == values
        else:
            assert np.allclose(frame[column], values)
    report = check_submission(frame, sample, task)
    assert list(report.columns) == ["check", "result"]
    first = ["columns", "rows", "ids", *(["filled in"] if not task.may_be_empty else [])]
    assert report["check"].tolist()[: len(first)] == first
    path = write_submission(frame, tmp_path / "submission.csv")
    back = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert back["id"].tolist() == SAMPLE_IDS
    assert check_submission(back, sample, task).equals(report)  # the file passes too


@pytest.mark.parametrize("kernel", [True, False])
def test_in_a_kernel_a_submission_stands_at_once_where_it_counts(tmp_path, monkeypatch, kernel):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path if kernel else tmp_path / "none"))
    frame = pd.DataFrame({"id": ["1"], "label": ["x"]})
    assert leave_submission(frame, "base", CASES["label"][0], "work") == tmp_path / "work" / "submission.base.csv"
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.csv")}
    places = ["work/submission.base.csv", "work/submission.csv", *["submission.csv"] * kernel]
    assert found == dict.fromkeys(places, "id,label\n1,x\n")


def test_a_submission_is_divided_as_the_sample_is(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path / "none"))
    task = replace(CASES["label"][0], reading={"sample_delimiter": ";"})
    path = leave_submission(pd.DataFrame({"id": ["1"], "label": ["x, y"]}), "base", task, tmp_path)
    assert path.read_text() == "id;label\n1;x, y\n"
    assert read_submission(task, path).to_numpy().tolist() == [["1", "x, y"]]


@pytest.mark.parametrize("header", [True, False])
def test_without_ids_rows_go_by_order_and_without_a_header_none_is_written(tmp_path, header):
    task = replace(CASES["label"][0], id="", submission=["label"], header=header)
    sample = pd.DataFrame({"label": ["x"] * 3})
    frame = make_submission(task, sample, TEST_IDS, PROBS)
    check_submission(frame, sample, task)
    written = write_submission(frame, tmp_path / "submission.csv", header=header).read_text(encoding="utf-8")
    assert written == "label\n" * header + 'x\né\n"y, z"\n'
    with pytest.raises(ValueError, match=r"sample_submission\.csv has 2 rows and no ids, and test 3 rows"):
        make_submission(task, sample[:2], TEST_IDS, PROBS)


def test_nothing_is_submitted_while_it_is_not_clear_what_to_write():
    task = replace(CASES["label"][0], unclear="say mapping=")
    with pytest.raises(ValueError, match="no submission can be written: say mapping="):
        make_submission(task, make_sample(task), TEST_IDS, PROBS)


SUSPICIOUS = [
    ("label", [0, 1, 2], PROBS, [], []),
    ("label", [0, 1, 2], PROBS[[0, 0, 1]], [], ["'y, z' is predicted for no row of test, and 33.3% of train have it"]),
    ("label", [0] * 9 + [1, 2], PROBS[[0, 0, 0]], [2], [
        r"only the folds \[0, 1\] predicted: \[2\] are not finished",
        "'x' is 0.7 in every row", "'y, z' is 0.2 in every row", "'é' is 0.1 in every row",
    ]),
    ("columns of classes", [0, 1, 2], PROBS[[0, 0, 1]], [], []),
    ("decisions", [[1, 0], [0, 1]], PROBS[:, :2], [], []),
    ("decisions", [[1, 0], [0, 1]], PROBS[:, :2] / 2, [], [
        "'hot' is predicted for no row", "'mild' is predicted for no row"
    ]),
    ("columns of labels", [[1, 0], [0, 1]], PROBS[:, :2] / 2, [], []),
    ("values inside the range of train", [[-1.0], [2.0]], np.array([[1.5], [-2], [3]]), [], [
        "'score': 67% of the rows were outside of -1 to 2, and are cut to it"
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "labels", "predictions", "lacking", "cautions"), SUSPICIOUS)
def test_predictions_that_look_wrong_are_said(name, labels, predictions, lacking, cautions):
    found = suspicious(CASES[name][0], np.array(labels), predictions, [0, 1], lacking)
    assert len(found) == len(cautions) and all(map(re.match, cautions, found)), found


COMPARED = [  # name in CASES, changes of its submission, what is told of it: rows and share that differ, correlation
    ("label", {"label": ["é", "x", "x"]}, {"rows that differ": 1, "share": 1 / 3}),
    ("ordinal", {"stars": ["1", "1", "1"]}, {"rows that differ": 2, "share": 2 / 3}),
    ("probability", {"target": [0.6, 0.9, 0.3]}, {"rows that differ": 3, "share": 1.0, "correlation": -1.0}),
    ("value", {"score": [2, -3, -1.5]}, {"correlation": -1.0}),
    ("columns of classes", {"c": [0.8, 0.3, 0.8], "b": [0.1, 0.5, 0.1], "a": [0.1, 0.2, 0.1]}, {"rows that differ": 1}),
    ("columns of labels", {"mild": [0.9, 0.5, 0.2]}, {"rows that differ": 1}),
    ("several labels in a cell", {"tags": ["raw", "hot", "mild"]}, {"rows that differ": 2}),
]


@pytest.mark.parametrize(("name", "changes", "told"), COMPARED)
def test_two_submissions_are_compared_by_their_labels_and_numbers(name, changes, told):
    task, predictions, _ = CASES[name]
    frame = make_submission(task, make_sample(task), TEST_IDS, predictions)
    other = frame.assign(**changes).astype(str)  # as it is read from a file
    others = {"short": other[:2], "swapped": other[::-1].reset_index(drop=True), "named": other.add_suffix("s")}
    others |= (
        {"words": other.assign(**dict.fromkeys(task.targets, "x"))} if task.form in ("columns", "probability") else {}
    )
    found = compare_submissions(task, frame, {"other": other, **others})
    assert list(found.index) == ["other"] and ("rows that differ" in found) == (task.kind != "regression")
    assert {key: found.loc["other", key] for key in told} == pytest.approx(told)


def test_a_submission_is_written_as_text_in_utf_8(tmp_path):
    task, predictions, _ = CASES["label"]
    frame = make_submission(task, make_sample(task), TEST_IDS, predictions)
    written = write_submission(frame, tmp_path / "new" / "submission.csv").read_bytes()
    assert written == 'id,label\n12,é\n"a,""b""","y, z"\n007,x\n'.encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["submission.csv"]


def test_probabilities_are_written_short(tmp_path):
    task, predictions, _ = CASES["columns of classes"]
    frame = make_submission(task, make_sample(task), TEST_IDS, predictions)
    assert "12,0.8,0.1,0.1\n" in write_submission(frame, tmp_path / "s.csv").read_text()


def test_what_cannot_be_submitted_is_named():
    task, predictions, _ = CASES["label"]
    with pytest.raises(
        ValueError, match=r"the shape \(3, 2\): 3 rows of test and the columns x, y, z, é need \(3, 3\)"
    ):
        make_submission(task, make_sample(task), TEST_IDS, predictions[:, :2])
    with pytest.raises(ValueError, match=r"sample_submission.csv: data row 3 \(id '007'\) has no prediction: 1 such"):
        make_submission(task, make_sample(task), ["7", *TEST_IDS[1:]], predictions)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (
            "label",
            lambda f: f.rename(columns={"label": "class"}),
            "the columns id, class, and the sample submission id, label",
        ),
        ("label", lambda f: f[:2], "has 2 rows, and the sample submission 3"),
        ("label", lambda f: f[::-1].reset_index(drop=True), r"data row 1 \(id '12'\): column 'id' holds '007'"),
        (
            "label",
            lambda f: f.assign(label=["x", None, "x"]),
            r"data row 2 .*: column 'label' holds (None|nan), expected a value",
        ),
        (
            "label",
            lambda f: f.assign(label=["x", "x", "X"]),
            r"data row 3 .*: column 'label' holds 'X', expected one of x, y, z, é",
        ),
        ("value", lambda f: f.assign(score=[1, np.nan, 2]), "data row 2 .* column 'score' holds nan"),
        ("value", lambda f: f.assign(score=[1, 2, np.inf]), "column 'score' holds inf, expected finite"),
        ("value", lambda f: f.assign(score=["1", "2", "three"]), "column 'score' holds 'three', expected finite"),
        ("probability", lambda f: f.assign(target=[0.1, 1.2, -1]), r"holds 1.2, expected 0 to 1 \(2 such rows\)"),
        ("columns of labels", lambda f: f.assign(hot=[0.1, -0.1, 0]), "column 'hot' holds -0.1, expected 0 to 1"),
        ("columns of classes", lambda f: f.assign(c=[0.8, 0.9, 0.1]), "expected a row of probabilities with the sum 1"),
    ],
)
def test_a_check_that_fails_names_the_first_bad_row(name, spoil, message):
    task, predictions, _ = CASES[name]
    sample = make_sample(task)
    with pytest.raises(ValueError, match=message):
        check_submission(spoil(make_submission(task, sample, TEST_IDS, predictions)), sample, task)


def test_label_rates_compare_train_with_what_is_predicted():
    rates = label_rates(CASES["label"][0], np.array([0, 0, 1, 2]), PROBS)
    assert rates.index.tolist() == ["x", "y, z", "é"] and rates.columns.name == "share of rows"
    assert rates["train"].tolist() == [0.5, 0.25, 0.25]
    assert np.allclose(rates["predicted"], 1 / 3) and np.allclose(rates["mean probability"], PROBS.mean(axis=0))


def test_label_rates_of_ordered_classes_and_of_several_labels():
    rates = label_rates(CASES["ordinal"][0], np.array([0, 1, 1, 1]), np.array([[0.2], [1.9]]))
    assert rates.to_dict("list") == {"train": [0.25, 0.75, 0.0], "predicted": [0.5, 0.0, 0.5]}
    rates = label_rates(CASES["decisions"][0], np.array([[1.0, 0.0], [1.0, 1.0]]), PROBS[:, :2])
    assert rates.index.tolist() == ["hot", "mild"] and rates["train"].tolist() == [1.0, 0.5]
    assert np.allclose(rates["predicted"], 1 / 3)


def test_label_rates_of_numbers_are_quartiles_per_target():
    rates = label_rates(CASES["value"][0], np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    assert rates["train"].tolist() == [1, 1, 0, 0.5, 1, 1.5, 2] and rates["predicted"].tolist() == [1, 0, 1, 1, 1, 1, 1]
    assert rates.index[0] == "mean" and rates.columns.name == "score"
    several = label_rates(CASES["columns of targets"][0], np.array([[0.0, 5.0], [2.0, 7.0]]), np.ones((3, 2)))
    assert several.loc["one: median", "train"] == 1 and several.loc["two: maximum", "train"] == 7
