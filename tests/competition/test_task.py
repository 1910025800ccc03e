from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.competition.guess import are_numbers
from kagglekit.competition.infer import infer
from kagglekit.competition.labels import MISSING
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.files import read_json, write_json

TEXT = ["the first text of all", "a second one, longer", "and this is the third", "number four comes here"]


def competition(folder, labels=None, sample="", train=None, test=None, columns=None):
    """A folder with four rows of train and three of test; `train`, `test`, `columns` (of the sample) set columns."""
    labels = {"label": ["a", "b", "a", "b"]} if labels is None else labels
    rows = max(4, *(len(values) for values in labels.values())) if labels else 4
    texts = [TEXT[row % 4] for row in range(rows)]
    tables = {
        "train": {"id": [f"{row:03}" for row in range(rows)], "text": texts, **labels, **(train or {})},
        "test": {"id": ["7", "8", "9"], "text": TEXT[:3], **(test or {})},
        "sample_submission": {"id": ["7", "8", "9"], **(columns or {next(iter(labels), "label"): [sample] * 3})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        columns = {column: values for column, values in columns.items() if values is not None}
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
    return folder


def found(folder, **given):
    return infer(folder, **given)[0]


def repeated(values, rows=60):
    return [values[row % len(values)] for row in range(rows)]


# What the files say


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
    train["text"] = [f"{TEXT[n % 4]} {n}" for n in rows]
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
    """Whether it is neither blank, a word for a missing value, nor an object."""
    return word.strip().casefold() not in MISSING and not word.strip().startswith("{")


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


# What travels


def test_train_test_and_sample_are_read_as_text(tmp_path):
    extra = {"title": ["A title that speaks", "", "One more of them", "  "]}
    folder = competition(tmp_path, train=extra, test={"title": ["x", "", "z"]})
    task = found(folder, text=["title", "text"])
    train = read_train(task)
    assert train.columns.tolist() == ["id", "text", "label"]
    assert train["id"].tolist() == ["000", "001", "002", "003"]
    assert train["text"].tolist() == [
        f"A title that speaks{SEPARATOR}{TEXT[0]}",
        f"{SEPARATOR}{TEXT[1]}",
        f"One more of them{SEPARATOR}{TEXT[2]}",
        f"  {SEPARATOR}{TEXT[3]}",
    ]
    assert read_test(task).to_dict("list") == {
        "id": ["7", "8", "9"],
        "text": [f"x{SEPARATOR}{TEXT[0]}", f"{SEPARATOR}{TEXT[1]}", f"z{SEPARATOR}{TEXT[2]}"],
    }
    assert read_sample(task).to_dict("list") == {"id": ["7", "8", "9"], "label": ["", "", ""]}
    encoded = encode_labels(task, train)
    assert encoded.dtype == np.int64 and encoded.tolist() == [0, 1, 0, 1]


def test_columns_beside_the_text_are_read_as_they_are_written(tmp_path):
    train, test = {"stars": ["5", "", "3", "x"], "votes": ["1", "2", "3", "4"]}, {"stars": ["1", "NA", " 2"]}
    task = found(competition(tmp_path, train=train, test=test), text="text")
    assert read_train(task, ["votes", "stars"]).columns.tolist() == ["id", "text", "label", "votes", "stars"]
    assert read_train(task, ["stars"])["stars"].tolist() == ["5", "", "3", "x"]
    assert read_test(task, ["stars"]).to_dict("list")["stars"] == ["1", "NA", " 2"]
    with pytest.raises(ValueError, match=r"test\.csv has no column 'votes': it has id, text, stars"):
        read_test(task, ["votes"])
    with pytest.raises(ValueError, match=r"train\.csv has no column 'colour': it has id, text"):
        read_train(task, ["stars", "colour"])
    for name in ("id", "text", "label"):
        with pytest.raises(ValueError, match=f"column '{name}' of train.csv cannot be read again"):
            read_train(task, [name])


def test_empty_texts_are_kept_counted_and_reported(tmp_path):
    task, findings = infer(
        competition(tmp_path, train={"text": [TEXT[0], "", TEXT[1], " "]}, test={"text": ["x y z", "", "z"]})
    )
    reasons = findings.set_index("what")
    assert reasons.loc["empty texts in train", "found"] == "2 of 4"
    assert "data row 2 (id '001')" in reasons.loc["empty texts in train", "reason"]
    assert reasons.loc["empty texts in test", "found"] == "1 of 3"
    assert read_train(task)["text"].tolist() == [TEXT[0], "", TEXT[1], ""]


def test_train_without_ids_has_its_rows_numbered(tmp_path):
    task, findings = infer(competition(tmp_path, train={"id": None}))
    assert read_train(task)["id"].tolist() == ["row1", "row2", "row3", "row4"]
    assert "ids of train" in set(findings["what"])


def test_a_saved_task_is_loaded_as_it_was(tmp_path):
    task = found(competition(tmp_path / "data"))
    assert task.save(tmp_path / "work") == tmp_path / "work" / "task.json"
    assert load_task(tmp_path / "work") == task
    assert read_json(tmp_path / "work" / "task.json") == asdict(task)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["task.json"]


def test_a_work_folder_of_another_competition_is_refused_and_left_alone(tmp_path):
    work = tmp_path / "work"
    found(competition(tmp_path / "one")).save(work)
    before = (work / "task.json").read_bytes()
    other = found(competition(tmp_path / "two", sample="a"))
    with pytest.raises(ValueError, match=r"work belongs to another competition.*one\): use another work="):
        other.save(work)
    with pytest.raises(ValueError, match="belongs to another competition"):
        other.save(work, overwrite=True)
    assert (work / "task.json").read_bytes() == before


def test_other_settings_are_refused_once_there_are_runs(tmp_path):
    work, task = tmp_path / "work", found(competition(tmp_path / "data"))
    task.save(work)
    changed = replace(task, metric="f1_macro")
    changed.save(work)
    (work / "base").mkdir()
    (work / "base" / "params.json").write_text("{}")
    changed.save(work)
    with pytest.raises(
        ValueError, match=r"runs made for other settings \(base\); metric: 'f1_macro' is now 'accuracy'"
    ):
        task.save(work)
    replace(changed, data=str(tmp_path / "moved")).save(work)  # the same files elsewhere
    task.save(work, overwrite=True)
    assert load_task(work) == task


def test_loading_says_what_is_missing_or_has_changed(tmp_path):
    work = tmp_path / "work"
    with pytest.raises(FileNotFoundError, match=r"task\.json does not exist: run 1_eda first"):
        load_task(work)
    folder = competition(tmp_path / "data")
    found(folder).save(work)
    (folder / "test.csv").write_text("id,text\n7,x\n")
    with pytest.raises(ValueError, match=r"the files in .*data have changed since 1_eda"):
        load_task(work)
    (folder / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.csv is gone: put it back, or run 1_eda again"):
        load_task(work)
    (work / "task.json").write_text('{"kind": "binary"}')
    with pytest.raises(ValueError, match="another version of kagglekit"):
        load_task(work)


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


# What bad input gets


BAD_FILES = [
    ({"train": {"id": ["1", "", "3", "4"]}}, r"train\.csv: data row 2 has no value in the id column 'id'"),
    (
        {"train": {"id": ["1", "2", "3", "2"]}},
        r"train\.csv: column 'id' holds '2' in data rows 2 and 4; ids must differ \(1",
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
    ([f"{row / 7:.3f}".replace(".", ",") for row in range(60)], "holds '0,000' in data row 1 .* write 0.5, not 0,5"),
    (["1.0"] * 4, "column 'label' is '1.0' in every row"),
    (['{"a": 1}', '{"a": 2}'] * 2, "in data row 1 .id '000'., which is an object and no label"),
]


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS)
def test_labels_that_are_none_are_errors_that_name_the_row(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        infer(competition(tmp_path, {"label": labels}))


def test_a_task_of_version_0_2_opens(tmp_path):
    work, task = tmp_path / "work", found(competition(tmp_path / "data"))
    path = task.save(work)
    old = read_json(path)
    for name in ("renamed", "header", "layout", "mapping", "bounds", "unclear", "spellings", "joiner", "separator"):
        del old[name]
    write_json(path, old)
    assert load_task(work) == replace(task, joiner="", mapping={})


def test_what_only_the_submission_depends_on_may_change_while_there_are_runs(tmp_path):
    folder, work = competition(tmp_path / "data", columns={"label": ["0"] * 3}), tmp_path / "work"
    found(folder).save(work)
    (work / "base").mkdir()
    (work / "base" / "params.json").write_text("{}")
    said = found(folder, mapping={"a": 0, "b": 1})
    said.save(work)
    assert found(folder).unclear and not load_task(work).unclear and load_task(work) == said


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
    folder = competition(tmp_path, train={"text": ["prix £5 à Paris", *TEXT[1:]]})
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
