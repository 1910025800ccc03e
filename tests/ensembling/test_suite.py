"""A suite: the submissions of several work folders in one zip, and the mean of their scores."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import load_task
from kagglekit.ensembling.suite import describe_suite, find_parts, make_suite, suite_table, write_suite
from kagglekit.files import write_json
from kagglekit.runs.tables import hash_folds, read_folds, write_folds, write_predictions


def _plant(place, name, labels, score, sample="sample_submission.csv", run="joint", folds=(0, 1)):
    """A competition, and its work folder with a run: row n of test is of class or value n, modulo their number."""
    data, work = place / "data" / name, place / "runs" / name
    data.mkdir(parents=True)
    train = pd.DataFrame({"id": range(100, 112), "text": [f"{name} text {n}" for n in range(12)]})
    train["label"] = [labels[n % len(labels)] for n in range(12)]
    test = pd.DataFrame({"id": range(4), "text": [f"{name} test {n}" for n in range(4)]})
    answer = test[["id"]].assign(label=labels[0])
    train.to_csv(data / "train.csv", index=False), test.to_csv(data / "test.csv", index=False)
    if sample.endswith(".csv"):
        answer.to_csv(data / sample, index=False)
    else:
        answer.to_json(data / sample, orient="records", lines=sample.endswith("l"))
    infer(data)[0].save(work)
    task = load_task(work)
    write_folds(work, train["id"].astype(str), fold_of := np.arange(12) % 2)
    seen = {"folds": hash_folds(read_folds(work, train["id"].astype(str)))}
    for fold in folds:
        says = np.eye(len(task.columns))[np.arange(4) % len(task.columns)] if task.classes else np.arange(4.0)[:, None]
        ids = train["id"].astype(str)[fold_of == fold].tolist()
        own = [np.repeat(one, n, axis=0) for one, n in ((says[:1], len(ids)), (says, 1))]
        write_predictions(
            work / run / f"fold{fold}" / "test.parquet", list("0123"), own[1], task.columns, metadata=seen
        )
        write_predictions(work / run / f"fold{fold}" / "oof.parquet", ids, own[0], task.columns, fold, seen)
    write_json(work / run / "score.json", {"run": run, "metric": task.metric, "score": score, "standard_error": 0.03})
    return work


def _open(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {one.filename: archive.read(one) for one in archive.infolist()}


def test_a_suite_is_a_zip_with_a_file_a_task_and_the_mean_of_their_scores(tmp_path):
    a, b = (_plant(tmp_path, *one) for one in (("a", ["x", "y", "z"], 0.8), ("b", ["no", "yes"], 0.6)))
    parts = make_suite(a, "joint", [str(b)])
    path = write_suite(parts, a / "submission.zip")
    files = _open(path)
    assert list(files) == ["a.csv", "b.csv"]  # both samples have the same name
    found = {name: pd.read_csv(io.BytesIO(data)) for name, data in files.items()}
    assert found["a.csv"].to_dict("list") == {"id": [0, 1, 2, 3], "label": ["x", "y", "z", "x"]}
    assert found["b.csv"]["label"].tolist() == ["no", "yes", "no", "yes"]
    assert describe_suite(parts) == f"0.7000 ± {np.hypot(0.03, 0.03) / 2:.4f} out of fold, the mean of 2 tasks"
    assert suite_table(parts)["score"].tolist() == [0.8, 0.6]
    before = path.read_bytes()
    assert write_suite(make_suite(a, "joint", [str(b / "joint")]), path).read_bytes() == before


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_file_has_the_name_and_form_of_its_sample(tmp_path, ending):
    a = _plant(tmp_path, "a", ["x", "y", "z"], 0.8)
    b = _plant(tmp_path, "b", ["0", "1", "2"], 0.6, f"b_submission.{ending}", "base", [1])
    parts = make_suite(a, "joint", [str(b / "base")])
    files = _open(write_suite(parts, a / "submission.zip"))
    assert list(files) == ["sample_submission.csv", f"b_submission.{ending}"]
    text = files[f"b_submission.{ending}"].decode()
    rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
    assert rows == [{"id": n, "label": str(n % 3)} for n in range(4)]  # numbers where the sample has numbers
    assert parts[1].cautions[0].startswith("only the folds [1] predicted") and parts[0].cautions == []


def test_a_mean_of_metrics_that_go_different_ways_or_are_missing_is_none(tmp_path):
    a, b = _plant(tmp_path, "a", ["x", "y", "z"], 0.8), _plant(tmp_path, "b", list(np.linspace(-3.7, 9.1, 12)), 1.2)
    assert describe_suite(make_suite(a, "joint", [str(b)])) == (
        "no mean score: accuracy is better when it is higher, rmse when it is lower"
    )
    (b / "joint" / "score.json").unlink()
    assert describe_suite(make_suite(a, "joint", [str(b)])).startswith("no mean score: b/joint has none")


def test_a_suite_of_what_is_not_there_is_an_error_in_words(tmp_path):
    a = _plant(tmp_path, "a", ["x", "y"], 0.8)
    _plant(tmp_path, "b", ["x", "y"], 0.8), _plant(tmp_path, "c", ["x", "y"], 0.8, run="other")
    for suite, words in (
        (["gone"], "suite: .*gone is neither a work folder nor a run in one: .* has no task.json"),
        (["b/gone"], "suite: .*b has no run 'gone': name one of its runs, as .*b/NAME"),
        (["b", "b/joint"], "suite: .*b is named twice"),
        (["a"], "suite: .*a is named twice"),
        (["c"], "suite: .*c has no run 'joint': name one of its runs, as .*c/NAME"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            find_parts(a, "joint", [str(tmp_path / "runs" / name) for name in suite])
