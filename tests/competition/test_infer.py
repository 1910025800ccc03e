"""What is inferred of small files: the kind of task, its classes, columns of text, and the form of a submission."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.competition.guess import are_numbers
from kagglekit.competition.infer import infer
from kagglekit.competition.labels import MISSING, SIGNS
from kagglekit.competition.task import encode_labels, read_train
from tests.competition.shapes import TEXTS, competition, found, repeated


@pytest.mark.parametrize(
    ("labels", "sample", "kind", "classes", "form", "metric"),
    [
        (["b", "a", "b", "a"], "a", "binary", ["a", "b"], "label", "accuracy"),
        (["1", "0", "1", "0"], "0", "binary", ["0", "1"], "label", "accuracy"),
        (["1", "0", "1", "0"], "0.5", "binary", ["0", "1"], "probability", "roc_auc"),
        (["no", "yes", "no", "yes"], "0", "binary", ["no", "yes"], "label", "accuracy"),
        (["no", "yes", "no", "yes"], "0.0", "binary", ["no", "yes"], "probability", "roc_auc"),
        (["no", "yes", "no", "yes"], "0.3", "binary", ["no", "yes"], "probability", "roc_auc"),
        (["x", "z", "y", "x"], "x", "multiclass", ["x", "y", "z"], "label", "accuracy"),
        (["10", "9", "100", "9"], "9", "multiclass", ["9", "10", "100"], "label", "accuracy"),
        (["0.1", "0.25", "3", "4"], "0", "regression", [], "label", "rmse"),
        (["1", "2", "3", "5"], "1.5", "regression", [], "label", "rmse"),
        ([str(n * n) for n in range(30)], "0", "regression", [], "label", "rmse"),
        (
            repeated([str(n) for n in range(30)], 900),
            "0",
            "multiclass",
            [str(n) for n in range(30)],
            "label",
            "accuracy",
        ),
    ],
)
def test_kind_classes_form_and_metric_follow_from_labels_and_placeholder(
    tmp_path, labels, sample, kind, classes, form, metric
):
    task = found(competition(tmp_path, {"label": labels}, sample))
    assert (task.kind, task.classes, task.form, task.metric) == (kind, classes, form, metric)
    assert task.columns == (classes if kind in ("binary", "multiclass") else ["label"])


@pytest.mark.parametrize("name", ["star_rating", "Score", "stars", "grade", "level", "Quality"])
def test_equally_spaced_numbers_with_the_name_of_an_order_are_ordinal(tmp_path, name):
    task = found(competition(tmp_path, {name: repeated(["5", "1", "3"])}, "3"))
    assert (task.kind, task.classes, task.form, task.metric) == ("ordinal", ["1", "3", "5"], "label", "qwk")
    assert task.columns == [name]
    assert found(competition(tmp_path, {name: repeated(["0", "0.25", "0.5"])}, "0")).kind == "ordinal"
    assert found(competition(tmp_path, {name: repeated(["1", "2", "4"])}, "1")).kind == "multiclass"
    assert found(competition(tmp_path, {name: repeated(["1", "2", "3"])}, "2.5")).kind == "regression"


def test_a_metric_that_is_given_helps_to_find_the_kind(tmp_path):
    folder = competition(tmp_path, {"label": repeated(["1", "2", "3"])}, "1")
    assert found(folder).kind == "multiclass"
    assert found(folder, metric="pearson").kind == "regression"
    assert found(folder, metric="qwk").kind == "ordinal"


def test_a_column_per_class_gives_the_classes_in_the_samples_order(tmp_path):
    columns = {"EAP": [0.3] * 3, "MWS": [0.3] * 3, "HPL": [0.4] * 3}
    task = found(competition(tmp_path, {"author": ["HPL", "EAP", "MWS", "EAP"]}, columns=columns))
    assert (task.kind, task.labels, task.form, task.metric) == ("multiclass", ["author"], "columns", "log_loss")
    assert task.classes == task.columns == ["EAP", "MWS", "HPL"]


def test_several_columns_of_0_and_1_are_multilabel(tmp_path):
    labels = {"toxic": ["0", "1", "0", "0"], "insult": ["1", "1", "0", "0"]}
    task = found(competition(tmp_path, labels, columns={"insult": [0.5] * 3, "toxic": [0.5] * 3}))
    assert (task.kind, task.labels, task.classes, task.form) == ("multilabel", ["insult", "toxic"], [], "columns")
    assert (task.metric, task.columns) == ("roc_auc", ["insult", "toxic"])
    assert encode_labels(task, read_train(task)).tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]


def test_several_columns_of_numbers_are_regressions(tmp_path):
    labels = {"cohesion": ["1.0", "2.5", "3", "4"], "syntax": ["2", "2", "3.5", "1e0"]}
    task = found(competition(tmp_path, labels, columns={"cohesion": [3.0] * 3, "syntax": [3.0] * 3}))
    assert (task.kind, task.form, task.metric) == ("regression", "columns", "mcrmse")
    encoded = encode_labels(task, read_train(task))
    assert encoded.dtype == np.float32 and encoded.tolist() == [[1, 2], [2.5, 2], [3, 3.5], [4, 1]]


def test_the_only_column_that_test_lacks_is_the_label_whatever_the_sample_calls_it(tmp_path):
    task = found(competition(tmp_path, columns={"prediction": ["a"] * 3}))
    assert (task.labels, task.submission) == (["label"], ["id", "prediction"])


def test_text_columns_are_prose_and_neither_ids_numbers_dates_nor_categories(tmp_path):
    rows = range(60)
    both = {
        "title": lambda n: f"some title {n}",
        "count": lambda n: str(n * 1.5),
        "date": lambda n: f"December {n % 28}, 2012",
        "user": lambda n: f"{n:08x}-8f2a-4e11-9b53-{n:012x}",
        "condition": lambda n: ["Birth Control Of Some Kind", "Pain", "Migraine in the Morning"][n % 3],
        "empty": lambda n: "",
    }
    train = {name: [cell(n) for n in rows] for name, cell in both.items()}
    test = {name: [cell(n) for n in range(3)] for name, cell in both.items()}
    train["text"] = [f"{TEXTS[n % 4]} {n}" for n in rows]
    train["note"] = ["only in train, and read by nobody"] * 60
    folder = competition(tmp_path, {"label": repeated(["a", "b"])}, train=train, test=test)
    assert found(folder, labels="label").text == ["text", "title"]


def test_chinese_has_no_spaces_and_is_prose_all_the_same(tmp_path):
    texts = ["质量还不错，内容也好", "很后悔,不怎么样的一本书", "小熊宝宝我觉得孩子不喜欢", "千万别买"]
    task = found(competition(tmp_path, train={"text": texts, "brand": list("wxyz")}, test={"brand": list("wxy")}))
    assert task.text == ["text"]


def test_without_prose_the_longest_column_is_the_text(tmp_path):
    shared = {"text": ["cat", "dog", "mouse", "hen"], "brand": list("wxyz")}
    folder = competition(tmp_path, train=shared, test={name: cells[:3] for name, cells in shared.items()})
    task, findings = infer(folder)
    assert task.text == ["text"]
    assert "longest" in findings.set_index("what").loc["text", "reason"]


def test_every_inference_has_a_row_with_its_reason(tmp_path):
    _, findings = infer(competition(tmp_path))
    assert list(findings.columns) == ["what", "found", "reason"]
    assert findings["what"].tolist() == [
        "id", "labels", "kind", "classes", "form", "mapping", "metric", "better", "text", "group",
    ]  # fmt: skip
    assert findings["reason"].str.len().gt(0).all() and findings.isna().sum().sum() == 0


def test_what_is_given_is_taken_and_says_so(tmp_path):
    folder = competition(tmp_path, {"label": ["1", "0", "1", "0"]}, "0", train={"author": list("xyxy")})
    given = {"id": "id", "text": "text", "labels": "label", "kind": "binary", "classes": [1, 0], "form": "probability"}
    task, findings = infer(folder, **given, metric="log_loss", group="author")
    assert (task.classes, task.form, task.metric, task.group) == (["1", "0"], "probability", "log_loss", "author")
    assert (task.text, task.labels) == (["text"], ["label"])
    reasons = findings.set_index("what")["reason"]
    assert set(reasons.drop("better")) == {"given"}
    assert read_train(task).columns.tolist() == ["id", "text", "group", "label"]


def is_label(word):
    """Whether it is neither blank, a word or sign for a missing value, nor an object or a list."""
    return word.strip().casefold() not in MISSING | SIGNS and word.strip()[:1] not in ("{", "[")


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(is_label), min_size=3, unique=True
    )
)
def test_any_words_are_classes_and_encode_to_their_place(tmp_path_factory, words):
    if are_numbers(words).all():
        words = [f"w{word}" for word in words]
    folder = competition(tmp_path_factory.mktemp("words"), {"label": repeated(words, 4 * len(words))}, words[0])
    task = found(folder, label_sep="")
    train = read_train(task)
    assert sorted(words) == task.classes
    assert [task.classes[k] for k in encode_labels(task, train)] == train["label"].tolist()
