"""Extra rows: read as train is, never a copy of what a fold is validated on, and measured with their interval."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.runs.tables import Run, write_predictions
from kagglekit.training.extra_files import WITHOUT, ExtraFiles, compare, describe_gain, measure_extra, tag_texts
from kagglekit.training.recipe import Recipe

LONG = [f"the {word} was {word} and it is as {word} as no other film of {word} people {word}" for word in "abcdefghij"]
FORMS = {  # labels of ten rows of train, the column of the sample, and options of 1_eda
    "classes": ({"label": ["good", "bad"] * 5}, {"label": "bad"}, {}),
    "numbers": ({"label": [f"{n}.5" for n in range(10)]}, {"label": "0"}, {"kind": "regression"}),
    "several": ({"x": ["0", "1"] * 5, "y": ["1"] * 4 + ["0"] * 6}, {"x": "0", "y": "0"}, {}),
    "list": ({"tags": ["x y", "x", "y", "x y", "y", "x"] + ["x"] * 4}, {"x": "0", "y": "0"}, {}),
    "one of": ({"x": ["0", "1"] * 5, "y": ["1", "0"] * 5}, {"x": "0.5", "y": "0.5"}, {}),
}


@pytest.fixture
def compete(tmp_path):
    """compete(form, **more columns of train): a task of ten rows; its folder is tmp_path."""

    def make(form="classes", more=None, **given):
        labels, sample, options = FORMS[form]
        train = pd.DataFrame({"id": [str(n) for n in range(10)], "text": LONG, **labels, **(more or {})})
        train.to_csv(tmp_path / "train.csv", index=False)
        test = pd.DataFrame({"id": ["7", "8"], "text": ["a text of test that is no copy", "a text of test, by itself"]})
        test.to_csv(tmp_path / "test.csv", index=False)
        test[["id"]].assign(**sample).to_csv(tmp_path / "sample_submission.csv", index=False)
        return infer(tmp_path, **options | given)[0]

    return make


def write(folder, name="more.csv", **columns):
    pd.DataFrame(columns).to_csv(folder / name, index=False)
    return str(folder / name)


def read(task, files, recipe=None, **options):
    recipe = recipe or Recipe()
    return ExtraFiles.read(task, read_train(task, recipe.train_columns), read_test(task), files, recipe, **options)


@pytest.mark.parametrize(
    ("form", "columns", "labels"),
    [
        ("classes", {"Label ": ["bad", "good"]}, ["bad", "good"]),
        ("numbers", {"label": ["3", "-1e2"]}, ["3", "-1e2"]),
        ("several", {"x": ["1", "0"], "y": ["1", "1"]}, ["1", "0"]),
        ("list", {"tags": ["y", "y x"]}, ["0", "1"]),
        ("one of", {"x": ["0", "1"], "y": ["1", "0"]}, ["y", "x"]),
    ],
)
def test_rows_come_behind_train_with_labels_as_train_has_them(compete, tmp_path, form, columns, labels, capsys):
    task = compete(form)
    extra = read(task, write(tmp_path, TEXT=["new one", LONG[3]], **columns))
    assert extra.own == 10 and extra.train["id"].tolist()[10:] == ["more.csv:row1", "more.csv:row2"]
    assert extra.train["text"].tolist()[10:] == ["new one", LONG[3]]
    assert extra.train[task.labels[0]].tolist()[10:] == labels
    assert extra.train.iloc[:10].equals(read_train(task)) and (extra.weights == 1).all()
    assert "2 rows of more.csv, learned and never validated on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "columns", "words"),
    [
        ("classes", {"text": ["a", "b"], "mark": ["bad", "bad"]}, "has no column 'label', the labels: it has text, m"),
        ("classes", {"body": ["a", "b"], "label": ["bad", "bad"]}, "has no column 'text', the text: it has body, lab"),
        ("classes", {"text": ["a", "b"], "label": ["bad", "so-so"]}, "'label' holds 'so-so' in data row 2, which is n"),
        ("classes", {"text": ["a", "b"], "label": ["bad", ""]}, "'label' holds '' in data row 2, which is no label"),
        ("numbers", {"text": ["a", "b"], "label": ["1", "two"]}, "'label' holds 'two' in data row 2, and the labels"),
        ("several", {"text": ["a", "b"], "x": ["1", "1"], "y": ["1", "2"]}, "'y' holds '2' in data row 2, and the la"),
        ("several", {"text": ["a", "b"], "x": ["1", "1"]}, "has no column 'y', the labels"),
        ("list", {"text": ["a", "b"], "tags": ["x", "x z"]}, "'tags' holds 'x z' in data row 2, and the labels of tr"),
        ("one of", {"text": ["a", "b"], "x": ["1", "q"], "y": ["0", "1"]}, "'x' holds 'q' in data row 2, and the labe"),
        ("classes", {"text": [], "label": []}, "no"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_column_and_row(compete, tmp_path, form, columns, words):
    task = compete(form)
    with pytest.raises(ValueError, match=r"more\.csv") as error:
        read(task, write(tmp_path, **columns))
    assert words in str(error.value)


def test_rows_without_a_label_are_left_out_where_those_of_train_are(compete, tmp_path):
    labels = FORMS["classes"][0]["label"]
    task = compete(more={"label": [*labels[:9], ""]}, drop_unlabelled=True)
    extra = read(task, write(tmp_path, text=["p", "q", "r"], label=["bad", "", "good"]))
    assert extra.own == 9 and extra.train["text"].tolist()[9:] == ["p", "r"]


def test_copies_and_groups_of_validation_rows_are_left_out_of_that_fold_alone(compete, tmp_path, capsys):
    task = compete(more={"author": [f"w{n // 2}" for n in range(10)]}, group="author")
    texts = [LONG[4].upper() + " !", "new", "newer", "a text of test that is NO copy"]
    extra = read(task, write(tmp_path, text=texts, label=["bad"] * 4, author=["z", "w2", "", "z"]))
    assert "1 of them are (nearly) texts of test" in capsys.readouterr().out
    assert extra.rows(np.array([4])).tolist() == [12, 13]
    assert extra.left_out(np.array([4])) == {
        "(nearly) texts of validation rows": 1,
        "of groups of validation rows": 1,
    }
    assert extra.rows(np.array([0, 9])).tolist() == [10, 11, 12, 13] and not extra.left_out(np.array([0, 9]))
    told = extra.describe_left_out([np.array([4]), np.array([0, 9])])
    assert told.startswith("extra: rows that a fold does not learn: 0 to ") and "of validation rows" in told
    assert extra.describe_left_out([np.array([0, 9])]) == ""


def test_columns_that_the_recipe_reads_must_be_there_and_a_template_does_not_make_all_rows_copies(compete, tmp_path):
    task = compete(more={"stars": ["1"] * 10})
    with pytest.raises(ValueError, match=r"more.csv has no column 'stars', which the model reads"):
        read(task, write(tmp_path, text=["a"], label=["bad"]), Recipe(auxiliary={"stars": 1.0}))
    words = "Say in a word whether what follows here was written by one who liked the film or not at all: {text}"
    extra = read(compete(template=words), write(tmp_path, text=["xyzzy"], label=["bad"]))
    assert extra.rows(np.arange(10)).tolist() == [10] and extra.train["text"].iloc[10].endswith("at all: xyzzy")


def test_texts_begin_with_their_source_and_test_with_that_of_train(compete, tmp_path):
    files = [write(tmp_path, text=["p", "q"], label=["bad"] * 2, source=["web", " "])]
    files.append(write(tmp_path, "old.v2.csv", text=["r"], label=["bad"]))
    extra = read(compete(), files, prefix=True, weight=0.5)
    assert extra.train["text"].tolist()[10:] == ["web: p", "more: q", "old: r"]
    assert (
        extra.train["text"][0] == "own: " + LONG[0] and extra.test["text"][0] == "own: a text of test that is no copy"
    )
    assert extra.weights.tolist() == [1] * 10 + [0.5] * 3
    assert tag_texts(pd.DataFrame({"text": ["p"]}))["text"].tolist() == ["own: p"]


@pytest.mark.parametrize(
    ("with_", "without", "verdict"), [(0.9, 0.6, "helps"), (0.6, 0.9, "hurts"), (0.8, 0.795, "cannot tell")]
)
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_gain_has_the_sign_and_the_word_that_its_interval_gives(metric, with_, without, verdict):
    random, labels = np.random.default_rng(0), np.arange(400) % 2

    def predict(right):
        said = np.where(random.permutation(400) < 400 * right, labels, 1 - labels)
        return np.where(np.eye(2)[said] > 0, 0.8, 0.2)

    found = compare(metric, labels, predict(with_), predict(without))
    low, high = found["interval"]
    assert found["verdict"] == verdict and low < found["gain"] < high
    assert (found["gain"] > 0) == ((found["with"] > found["without"]) == (metric == "accuracy"))
    assert describe_gain(metric, found).startswith("extra rows")


def test_groups_are_drawn_whole_and_folds_without_the_check_do_not_count(tmp_path, task):
    labels, ids = np.arange(40) % 2, [str(n) for n in range(40)]
    oof = pd.DataFrame({"id": ids, "fold": [0] * 20 + [1] * 20, "no": 0.4, "yes": 0.6})
    run = Run("r", tmp_path, ["no", "yes"], oof, np.arange(40), {0: None, 1: None}, [])
    assert measure_extra(run, task("binary"), labels) == {}
    found = np.where(np.eye(2)[labels[20:]] > 0, 0.9, 0.1)
    (tmp_path / "fold1").mkdir()
    write_predictions(tmp_path / "fold1" / WITHOUT, ids[:19:-1], found[::-1], ["no", "yes"], 1)
    gain = measure_extra(run, task("binary"), labels, np.arange(40) // 4)
    assert gain["folds"] == [1] and (gain["with"], gain["without"], gain["verdict"]) == (0.5, 1.0, "hurts")


def test_a_file_that_is_not_there_is_named_with_its_parameter(compete, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"extra: .*gone\.csv does not exist"):
        read(compete(), [write(tmp_path, text=["a"], label=["bad"]), str(tmp_path / "gone.csv")])
