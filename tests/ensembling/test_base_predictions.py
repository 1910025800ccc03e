import shlex

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, load_task, read_train
from kagglekit.ensembling.base_predictions import read_file_predictions, read_run_predictions, training_command
from kagglekit.ensembling.blend import make_stack_input
from kagglekit.files import delete_folder, write_json
from kagglekit.running.arguments import check_parameters, parse_arguments, read_arguments
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.record import RunRecord, read_repeats
from kagglekit.runs.tables import write_folds

FOLDS = np.arange(12) % 3


@pytest.fixture
def work(tmp_path):
    """A competition of twelve rows in four documents with two runs, "good" and "fair"."""
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    train = pd.DataFrame({"id": range(12), "text": [f"text {k}, says" for k in range(12)], "label": ["a", "b"] * 6})
    train["author"], train["age"] = [f"author {k}" for k in FOLDS], np.arange(12) * 2.5
    test = train[:4].drop(columns="label").assign(id=range(100, 104))
    train.to_csv(data / "train.csv", index=False)
    test.to_csv(data / "test.csv", index=False)
    pd.DataFrame({"id": test["id"], "a": 0.5, "b": 0.5}).to_csv(data / "sample_submission.csv", index=False)
    task, _ = infer(data, group="author", text="text")
    task.save(work)
    write_folds(work, train["id"].astype(str), FOLDS, FOLDS)
    truth = np.eye(2)[encode_labels(task, read_train(task))]
    for name, share in (("good", 0.8), ("fair", 0.4)):
        folder, made_up = open_run(work, name, {"backbone": "tiny"}), share * truth + (1 - share) / 2
        for k in range(3):
            made = Fitted(made_up[k == FOLDS], np.full((4, 2), 0.5))
            save_fold(folder, k, made, train["id"].astype(str)[k == FOLDS], test["id"].astype(str), task)
    return work


def test_all_trained_runs_are_taken_with_what_is_known_of_their_rows(work):
    found = read_run_predictions(work, meta=["words", "age"])
    assert [run.name for run in found.runs] == ["fair", "good"] and found.cautions == []
    assert found.labels.tolist() == [0, 1] * 6 and found.train["id"].tolist() == [str(k) for k in range(12)]
    assert np.array_equal(found.features.groups, FOLDS) and found.features.meta.shape == (12, 2)
    assert found.features.documents.tolist() == [f"author {k}" for k in FOLDS]
    assert found.features.test_documents.tolist() == ["author 0", "author 1", "author 2", "author 0"]
    assert found.features.test_meta[:, 1] == pytest.approx(found.features.meta[:4, 1])  # in units of train
    assert [run.name for run in read_run_predictions(work, ["good"]).runs] == ["good"]
    assert read_run_predictions(work).features.meta is None


def test_runs_that_lack_folds_are_left_out_with_the_command_that_trains_them(work):
    options = {"classifier": "svm", "max_length": 64, "pooling": "cls"}
    recipes = {
        "fgm": {"backbone": "minilm", "epochs": 1.0, "tricks": {"FGM": {"epsilon": 0.5}}, "seed": 3, "pooling": "mean"},
        "vectors": {"backbone": "minilm", "learner": "frozen", "learner_options": options},
    }
    for name, recipe in recipes.items():
        made = Fitted(np.full((4, 2), 0.5), np.full((4, 2), 0.5))
        train, test = ([str(k) for k in ids] for ids in (np.flatnonzero(FOLDS == 1), range(100, 104)))
        save_fold(open_run(work, name, recipe), 1, made, train, test, load_task(work))
    found = read_run_predictions(work)
    assert [run.name for run in found.runs] == ["fair", "good"] and len(found.cautions) == 2
    assert "fgm is left out: it has the folds [1] of [0, 1, 2]" in found.cautions[0]
    notebook, given = find_notebook("3_train"), {}
    for caution in found.cautions:
        words = shlex.split(caution.split(":\n")[1])
        assert words[:4] == ["python", "-m", "kagglekit.run", "3_train"]
        values = parse_arguments(notebook, read_parameters(notebook), read_arguments(words[4:]))
        given[values.pop("run")] = values
    assert given["fgm"] == {"work": str(work), "epochs": 1.0, "tricks": {"FGM": {"epsilon": 0.5}}, "seed": 3}
    more = {"learner_options": {"classifier": "svm"}, "max_length": 64, "pooling": "cls"}
    assert given["vectors"] == {"work": str(work), "learner": "frozen", **more}
    with pytest.raises(ValueError, match="'fgm' lacks"):
        make_stack_input(read_run_predictions(work, ["fair", "fgm"]).runs, "binary")
    for name in ("fair", "good"):
        delete_folder(work / name, "params.json")
    assert [run.name for run in read_run_predictions(work).runs] == ["fgm", "vectors"]  # the same folds


COMMANDS = [  # the recipe in params.json, and what the command says beside work and run
    ({"backbone": "tfidf", "start": "", "clean": ["html"], "seed": 0}, {"backbone": "tfidf", "clean": ["html"]}),
    (
        {
            "backbone": "minilm",
            "start": "",
            "soup_of": ["a", "b"],
            "soup": "greedy",
            "max_length": 32,
            "pooling": "cls",
        },
        {"backbone": "soup", "soup_of": ["a", "b"], "soup": "greedy"},
    ),
    (
        {"backbone": "minilm", "learner": "setfit", "learner_options": {"epochs": 2.0, "max_length": 64}},
        {"learner": "setfit", "learner_options": {"epochs": 2.0}, "max_length": 64},
    ),
    ({"backbone": "minilm", "dropout": None, "start": "mlm"}, {"dropout": None, "start": "mlm"}),
]


@pytest.mark.parametrize(("recipe", "said"), COMMANDS)
def test_the_command_that_trains_the_rest_of_a_run_is_read_as_it_was_made(recipe, said, tmp_path):
    record, notebook = RunRecord(tmp_path / "run", {tmp_path / "run" / "params.json": {"recipe": recipe}}), "3_train"
    known = read_parameters(find_notebook(notebook))
    given = parse_arguments(find_notebook(notebook), known, read_arguments(shlex.split(training_command(record))[4:]))
    assert check_parameters(notebook, known, given) and given == {"work": str(tmp_path), "run": "run", **said}


def test_without_the_group_in_test_there_are_no_documents(work):
    test = work.parent / "data" / "test.csv"
    pd.read_csv(test).drop(columns="author").to_csv(test, index=False)
    task, _ = infer(work.parent / "data", group="author", text="text")
    write_json(work / "task.json", vars(task))
    assert read_run_predictions(work).features.documents is None


def test_imported_files_come_with_a_caution(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        table = pd.DataFrame({"id": range(40), "p": rng.random(40), "label": np.arange(40) % 2})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    found = read_file_predictions(tmp_path)
    assert [run.name for run in found.runs] == ["one", "two"] and len(found.labels) == len(found.train) == 40
    assert "cannot be checked" in found.cautions[0] and "metric" in found.findings["what"].tolist()
    assert [run.name for run in read_file_predictions(tmp_path, runs=["two"]).runs] == ["two"]
    with pytest.raises(ValueError, match=r"runs='three' is out of range: it must be one of the models in .*: one, two"):
        read_file_predictions(tmp_path, runs=["three"])


def test_the_error_of_a_score_is_larger_where_rows_belong_together(work):
    found = read_run_predictions(work, ["fair"])
    predictions = found.runs[0]
    predictions.oof.loc[predictions.oof["fold"] == 0, ["a", "b"]] = [[0.9, 0.1]]
    scores = [score_run(predictions, found.task, found.labels, groups) for groups in (None, found.features.groups)]
    assert scores[0]["score"] == scores[1]["score"] and scores[0]["standard_error"] != scores[1]["standard_error"]


def test_the_scores_of_other_splits_stand_side_by_side(tmp_path):
    for place, value in (("bbc", 0.8), ("bbc.2", 0.9), ("bbc.3", 0.7), ("bbc.old", 0.1)):
        write_json(tmp_path / place / "base" / "score.json", {"score": value, "standard_error": 0.01})
    found = read_repeats(tmp_path / "bbc", "base")
    assert found.index.tolist() == ["bbc", "bbc.2", "bbc.3"] and found["score"].tolist() == [0.8, 0.9, 0.7]
    assert read_repeats(tmp_path / "bbc", "nothing").empty


def test_a_time_series_split_comes_with_a_caution(work):
    (work / "folds.parquet").unlink()
    for run in ("good", "fair"):
        for k in range(3):
            for name in ("oof", "test"):
                table = pd.read_parquet(work / run / f"fold{k}" / f"{name}.parquet")
                table.to_parquet(work / run / f"fold{k}" / f"{name}.parquet")  # without its lineage
    folds = pd.DataFrame({"id": [str(k) for k in range(12)], "fold": FOLDS, "group": FOLDS, "forward": True})
    folds.to_parquet(work / "folds.parquet", index=False)
    assert "later ones too" in read_run_predictions(work).cautions[0]


def test_other_splits_are_in_the_order_of_their_numbers_and_nothing_else_is_one(tmp_path):
    for name in ("bbc", "bbc.2", "bbc.10", "bbc.2024-01"):
        write_json(tmp_path / name / "blend" / "score.json", {"score": 0.5, "standard_error": 0.1})
    assert read_repeats(tmp_path / "bbc", "blend").index.tolist() == ["bbc", "bbc.2", "bbc.10"]
