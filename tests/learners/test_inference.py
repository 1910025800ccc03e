"""New test rows predicted by stored runs: on the test rows of the training run, as they were predicted there."""

import copy
import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.__main__ import main
from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_sample, read_test, read_train
from kagglekit.ensembling.base_predictions import RowFeatures
from kagglekit.ensembling.blend import blend_runs
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import read_json, write_json
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.frozen import Frozen
from kagglekit.learners.inference import Inference
from kagglekit.learners.tfidf import Baseline
from kagglekit.running.new_rows import tabulate
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.tables import read_folds, read_run, training_rows, write_folds
from kagglekit.time_budget import STARTED, TimeBudget
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel, SavedModels, feature_columns
from kagglekit.training.recipe import Recipe

FOLDS = np.arange(40) % 2
KNOBS = {"max_length": 16, "epochs": 1, "batch_size": 10, "learning_rate": 2e-2}


class Home:
    """A work folder with a competition, as it is at home."""

    def __init__(self, folder, texts):
        self.data, self.work = folder / "data", folder / "work"
        self.write(texts)
        self.task, _ = infer(self.data, kind="multiclass")
        self.task.save(self.work)
        self.train, self.test = read_train(self.task, ["stars"]), read_test(self.task, ["stars"])
        write_folds(self.work, self.train["id"], FOLDS)
        self.folds, self.labels = read_folds(self.work, self.train["id"]), encode_labels(self.task, self.train)

    def write(self, texts):
        words, balance = texts(40)
        self.data.mkdir(parents=True)
        labels, stars = np.array(["bad", "mixed", "good"])[np.sign(balance) + 1], [str(n) for n in range(40)]
        rows = {"id": [f"a{n}" for n in range(40)], "text": words, "stars": stars, "label": labels}
        pd.DataFrame(rows).to_csv(self.data / "train.csv", index=False)
        test = pd.DataFrame({"id": [f"t{n}" for n in range(9)], "text": texts(9, seed=1)[0], "stars": stars[:9]})
        test.to_csv(self.data / "test.csv", index=False)
        test[["id"]].assign(label="bad").to_csv(self.data / "sample_submission.csv", index=False)

    def train_run(self, name, learner, recipe, folds=(0, 1), seed=3):
        if hasattr(learner, "precision"):
            learner.precision = "fp32"
        folder = open_run(self.work, name, {"seed": seed, "start": "", **recipe})
        for k in folds:
            held_out = np.flatnonzero(k == FOLDS)
            fitted = learner.fit(training_rows(self.folds, k), held_out, folder / f"fold{k}", seed=seed + k)
            save_fold(folder, k, fitted, self.train["id"].iloc[held_out], self.test["id"], self.task)

    def fine_tune(self, name, backbone, **knobs):
        recipe = Recipe(**KNOBS, **knobs)
        learner = FineTuner(self.task, self.train, self.test, backbone, recipe)
        self.train_run(name, learner, {"backbone": backbone} | recipe.as_dict())

    def read(self, name):
        return read_run(self.work, name, self.task, self.folds, self.test["id"])

    def blend(self, name, members, method, **features):
        plan = BlendPlan(self.task.kind, self.task.metric, method)
        rows = RowFeatures(self.folds["group"].to_numpy(), **features)
        blend_runs([self.read(m) for m in members], self.labels, plan, rows).save(self.work, name, self.task)

    def predict(self, name, test=None, budget=None, work=None):
        test = self.test if test is None else test
        known = (self.folds, self.train, test, self.labels)
        return Inference(work or self.work, self.task, *known, "fp32").predict(name, budget or TimeBudget())


@pytest.fixture(scope="module")
def home(texts, backbone, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"), texts)
    home.fine_tune("base", backbone, truncation="tail")
    home.fine_tune("stars", backbone, features={"numbers": ["stars"]})
    tables = (home.task, home.train, home.test)
    home.train_run("tfidf", Baseline(*tables), {"backbone": "tfidf", "clean": []})
    frozen = Frozen(*tables, backbone, max_length=12, pooling="cls")
    options = {"learner": "frozen", "clean": [], "learner_options": frozen.settings}
    home.train_run("frozen", frozen, {"backbone": backbone} | options)
    asked = TrainingRun(work=str(home.work), soup_of=["base"], soup="folds", backbone="soup")
    soup = choose_learner(asked, Recipe(), *tables, home.folds, [0, 1])
    home.train_run("soup", soup.learner, soup.settings)
    home.blend("both", ["base", "tfidf"], "weights")
    home.blend("nested", ["both", "stars", "base"], "mean")
    home.blend("cascade", ["base", "stars", "tfidf"], "cascade")
    home.blend("late", ["tfidf", "nested", "frozen"], "cascade")
    return home


@pytest.mark.parametrize("name", ["base", "stars", "tfidf", "frozen", "soup", "both", "nested", "cascade", "late"])
def test_on_the_same_test_rows_the_predictions_are_the_stored_ones(home, name):
    stored, now = home.read(name), home.predict(name)
    assert now.folds == stored.folds == [0, 1] and now.test_ids == stored.test_ids
    for k in (0, 1):
        assert np.allclose(now.tests[k], stored.tests[k], atol=2e-5), (name, k)
    assert name == "soup" or not np.allclose(now.tests[0], now.tests[1], atol=1e-3)
    assert np.array_equal(now.oof_array, stored.oof_array)


def test_models_of_a_cascade_read_the_rows_alone_that_those_before_are_least_sure_of(home, monkeypatch, capsys):
    read = []
    predict = SavedModel.predict

    def watched(model, table, of_train=False):
        read.append((model.folder.parents[1].name, table["id"].tolist()))
        return predict(model, table, of_train)

    monkeypatch.setattr(SavedModel, "predict", watched)
    home.predict("cascade")
    sure = home.read("base").tests[0].max(axis=1)
    least = sorted(np.argsort(sure)[:5])
    assert read[:2] == [("base", home.test["id"].tolist()), ("stars", home.test["id"].iloc[least].tolist())]
    assert len(read) == 4
    assert "fold 0: stars reads 5 of 9 rows\nfold 0: tfidf reads 3 of 9 rows\n" in capsys.readouterr().out


def test_a_frozen_backbone_is_kept_for_the_next_fold_of_its_run_and_not_beside_another_run(home, monkeypatch):
    given = []

    class Kept(SavedModels):
        def predict(self, table, of_train=False):
            name, kept, self.spare = self.folders[0].parents[1].name, self.spare, None
            given.append((name, kept))
            found = super().predict(table, of_train)
            self.spare = f"that of {name}"
            return found

    monkeypatch.setattr("kagglekit.learners.inference.SavedModels", Kept)
    home.predict("base")
    assert given == [("base", None), ("base", "that of base")]
    given.clear()
    home.predict("nested")
    assert given == [(name, None) for name in ("base", "stars", "base", "stars")]


def test_hidden_test_rows_are_predicted_though_the_tables_of_home_know_other_ids(home):
    hidden = pd.concat([home.test.iloc[[4, 0]], home.train[["id", "text", "stars"]].iloc[:30]], ignore_index=True)
    hidden["id"] = [f"h{n}" for n in range(32)]
    with pytest.raises(ValueError, match=r"was made for another test file"):
        read_run(home.work, "nested", home.task, home.folds, hidden["id"])
    for name in ("base", "nested"):
        now = home.predict(name, hidden)
        assert now.test_ids == hidden["id"].tolist() and now.test_mean.shape == (32, 3)
        assert np.allclose(now.test_mean.sum(axis=1), 1, atol=1e-5)
    known = home.read("base").test_mean[[4, 0]]
    assert np.allclose(home.predict("base", hidden).test_mean[:2], known, atol=2e-5)


@pytest.mark.parametrize("name", ["nested", "tfidf", "base"])
def test_a_file_of_rows_is_predicted_by_the_command_line_as_test_was(home, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kagglekit.training.predict.choose_precision", lambda **_: "fp32")
    file, out = tmp_path / "my.rows.csv", tmp_path / f"my.rows.{name}.csv"
    test = home.test.rename(columns={"text": " Text"})  # names may differ in case
    test.to_csv(file, index=False)
    assert main(["predict", str(home.work), name, str(file)]) == 0
    assert f"9 rows: {out}" in capsys.readouterr().out
    table, stored = pd.read_csv(out, dtype={"id": str}), home.read(name)
    assert list(table.columns) == ["id", *home.task.classes, "predicted"] and table["id"].tolist() == stored.test_ids
    assert np.allclose(table[home.task.classes], stored.test_mean, atol=2e-5)
    assert table["predicted"].tolist() == [home.task.classes[place] for place in stored.test_mean.argmax(axis=1)]
    test.drop(columns="id")[4:6].to_csv(file, index=False)
    assert main(["predict", str(home.work), name, str(file), str(out)]) == 2
    assert "is there already: name a new file, or delete it" in capsys.readouterr().err
    out.unlink()
    assert main(["predict", str(home.work), name, str(file), str(out)]) == 0
    again = pd.read_csv(out)
    assert again["id"].tolist() == [1, 2]
    if name == "base":  # TF-IDF counts the words of train and of these rows
        assert np.allclose(again[home.task.classes], stored.test_mean[4:6], atol=2e-5)


def test_fixes_that_lie_in_the_folder_of_another_run_are_learned_again(home, tmp_path):
    work = shutil.copytree(home.work, tmp_path / "work")
    id, label = home.train[["id", "label"]].iloc[0]
    (work / "base" / "suspects.csv").write_text(f"id,fix\n{id},{'good' if label == 'bad' else 'bad'}\n")
    params = read_json(work / "tfidf" / "params.json")
    params["recipe"] |= {"fixes": str(work / "base" / "suspects.csv")}
    write_json(work / "tfidf" / "params.json", params)
    fixed, plain = home.predict("tfidf", work=work).tests, home.predict("tfidf").tests
    assert [np.array_equal(fixed[k], plain[k]) for k in (0, 1)] == [FOLDS[0] == 0, FOLDS[0] == 1]


def test_classes_that_are_called_like_the_columns_beside_them_lose_nothing(home):
    task = replace(home.task, classes=["id", "predicted", "row"])
    table = tabulate(task, ["a", "b"], np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]))
    assert table.to_dict("list") == {
        "id_": ["a", "b"],
        "id": [0.2, 0.6],
        "predicted": [0.7, 0.3],
        "row": [0.1, 0.1],
        "predicted_": ["predicted", "id"],
    }


@pytest.mark.parametrize(
    ("run", "rows", "words"),
    [
        ("nestd", "id,text,stars\n1,a b,2\n", "work has no run 'nestd': did you mean nested?"),
        ("nested", None, "there is no file"),
        ("nested", "", "rows.csv is empty (0 bytes)"),
        ("nested", "id,text,stars\n", "has a header and no rows"),
        ("nested", "id,txet,stars\n1,a b,2\n", "has no column 'text', the text: it has id, txet, stars"),
        ("nested", "id,text\n1,a b\n", "has no column 'stars', which the model reads: it has id, text"),
        ("tfidf", "text\n" + "3\n" * 5, "column 'text' is the text, and holds numbers alone, such as '3'"),
        ("stars", "id,text,stars\n1,a b,many\n", "many"),
    ],
)
def test_a_file_that_cannot_be_predicted_is_told_in_words(home, run, rows, words, tmp_path, capsys):
    if rows is not None:
        (tmp_path / "rows.csv").write_text(rows)
    assert main(["predict", str(home.work), run, str(tmp_path / "rows.csv")]) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1 and not list(tmp_path.glob("*.*.csv"))


@pytest.mark.parametrize("error", [MemoryError("the weights take 28.0 GB"), FloatingPointError("are no numbers")])
def test_what_ends_a_prediction_is_told_in_words(home, error, tmp_path, monkeypatch, capsys):
    def fail(*given):
        raise error

    monkeypatch.setattr("kagglekit.running.new_rows.predict_rows", fail)
    (tmp_path / "rows.csv").write_text("id,text,stars\n1,a b,2\n")
    assert main(["predict", str(home.work), "base", str(tmp_path / "rows.csv")]) == 2
    assert capsys.readouterr().err == f"{error}\n"


def test_when_the_time_is_over_the_mean_of_the_folds_that_are_done_is_left(home, monkeypatch, capsys):
    monkeypatch.setenv(STARTED, str(time.time() - 7200))
    late = home.predict("both", budget=TimeBudget(1.0))
    assert late.folds == [0] and np.allclose(late.test_mean, home.read("both").tests[0], atol=2e-5)
    assert "The time is nearly over: the mean of folds [0] of [0, 1], as another fold takes" in capsys.readouterr().out
    assert home.predict("both", budget=TimeBudget(3.0)).folds == [0, 1]
    assert "nearly over" not in capsys.readouterr().out


def test_what_cannot_predict_new_rows_is_refused_before_anything_is_predicted(home, tmp_path, capsys):
    work = shutil.copytree(home.work, tmp_path / "work")
    (work / "base" / "fold1" / "model" / "classifier.json").unlink()
    for name in ("base", "both", "nested"):
        with pytest.raises(ValueError, match="run='base' has no model of fold 1 that could predict new rows: setfit"):
            home.predict(name, work=work)
    stored = read_json(work / "both" / "weights.json")
    write_json(work / "both" / "weights.json", {**stored, "beside": ["meta"]})
    with pytest.raises(ValueError, match=r"run='both' is a blend whose stacker reads row features \(meta\)"):
        home.predict("nested", work=work)
    write_json(work / "both" / "weights.json", {**stored, "beside": ["documents"]})
    with pytest.raises(ValueError, match="is a blend by the column None, which test does not have"):
        home.predict("both", work=work)
    write_json(work / "both" / "weights.json", stored)
    shutil.copytree(work / "frozen" / "fold0", work / "tfidf" / "fold0", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="run='both' was blended from other predictions of tfidf than it has now"):
        home.predict("both", work=work)
    params = read_json(work / "stars" / "params.json")
    params["recipe"]["features"] |= {"vectors": "v.parquet", "test_vectors": "gone.parquet"}
    write_json(work / "stars" / "params.json", params)
    with pytest.raises(FileNotFoundError, match=r"run='stars' reads a vector of each row of test from gone.parquet"):
        home.predict("stars", work=work)
    with pytest.raises(FileNotFoundError, match="run='gone' does not exist"):
        home.predict("gone")
    assert "predicted in" not in capsys.readouterr().out


def test_feature_columns_are_named_and_missed(home):
    assert feature_columns(home.work, "nested") == feature_columns(home.work, "stars") == ["stars"]
    assert feature_columns(home.work, "both") == []
    with pytest.raises(ValueError, match="run='stars' reads the feature column 'stars'"):
        home.predict("nested", home.test.drop(columns="stars"))


def test_a_blend_that_reads_documents_finds_them_in_the_present_test(home):
    own, theirs = np.arange(40) // 2 * 2, np.arange(9) // 3
    train, test = home.train.assign(group=own.astype(str)), home.test.assign(group=theirs.astype(str))
    home.blend("grouped", ["base", "stars"], "mean", documents=own, test_documents=theirs)
    known = (home.folds, train, test, home.labels)
    now = Inference(home.work, home.task, *known, "fp32").predict("grouped", TimeBudget())
    assert np.allclose(now.test_mean, home.read("grouped").test_mean, atol=2e-5)


def test_a_blend_is_made_again_of_the_folds_it_had_though_its_members_have_got_more(home, tmp_path):
    early = copy.copy(home)
    early.work = shutil.copytree(home.work, tmp_path / "work")
    for name in ("base", "tfidf"):
        shutil.rmtree(early.work / name / "fold1")
    early.blend("early", ["base", "tfidf"], "weights")
    for name in ("base", "tfidf"):
        shutil.copytree(home.work / name / "fold1", early.work / name / "fold1")
    now = early.predict("early")
    assert now.folds == [0] and np.allclose(now.tests[0], early.read("early").tests[0], atol=2e-5)


def test_an_average_over_all_folds_is_one_model(home):
    models = RunRecord(home.work / "soup").saved_models
    assert models == {k: [home.work / "soup" / "model"] for k in (0, 1)}
    assert RunRecord(home.work / "base").saved_models[1] == [home.work / "base" / "fold1" / "model"]
    assert RunRecord(home.work / "tfidf").saved_models == {} == RunRecord(home.work / "both").saved_models


def test_the_notebook_submits_the_same_with_stored_and_with_new_predictions(home, tmp_path, run_here):
    work = shutil.copytree(home.work, tmp_path / "work")
    parameters = read_parameters(find_notebook("5_submit"))
    assert parameters["predict"].default is False and parameters["hours"].default == 0.0
    written = []
    for predict in (False, True):
        run_here("5_submit", work=str(work), run="nested", predict=predict)
        written.append(pd.read_csv(work / "submission.csv"))
        assert json.loads((work / "submission.json").read_text())["predicted anew"] is predict
    assert written[0].equals(written[1]) and len(written[0]) == len(read_sample(home.task)) == 9
