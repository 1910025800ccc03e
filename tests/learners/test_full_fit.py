"""A run with extra rows, the check of what they bring, and the model of all rows, from training to the submission."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.files import read_json
from kagglekit.files.parquet import read_metadata, read_parquet
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.full_fit import check_full_fit, fit_full
from kagglekit.learners.inference import Inference
from kagglekit.options import find_idle, knobs_of, named
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun, without_full
from kagglekit.runs.tables import add_full, read_folds, read_run, training_rows, write_folds
from kagglekit.time_budget import OutOfTime, TimeBudget
from kagglekit.training.extra_files import WITHOUT, measure_extra
from kagglekit.training.recipe import Recipe

SMALL = {"max_length": 16, "epochs": 1.0, "batch_size": 10, "learning_rate": 2e-2}


class Home:
    """A work folder of 40 rows in two folds, and 20 extra rows in more.csv."""

    def __init__(self, folder, texts, backbone):
        self.folder, self.work, self.backbone = folder, folder / "work", backbone
        words, balance = texts(60)
        rows = pd.DataFrame(
            {"id": [f"a{n}" for n in range(60)], "text": words, "label": np.where(balance > 0, "g", "b")}
        )
        rows[:40].to_csv(folder / "train.csv", index=False)
        rows[40:].to_csv(folder / "more.csv", index=False)
        test = pd.DataFrame({"id": [f"t{n}" for n in range(9)], "text": texts(9, seed=1)[0]})
        test.to_csv(folder / "test.csv", index=False)
        test[["id"]].assign(label="b").to_csv(folder / "sample_submission.csv", index=False)
        self.task, _ = infer(folder, train="train.csv")
        self.task.save(self.work)
        self.train, self.test = read_train(self.task), read_test(self.task)
        write_folds(self.work, self.train["id"], np.arange(40) % 2)
        self.folds, self.labels = read_folds(self.work, self.train["id"]), encode_labels(self.task, self.train)

    def choose(self, **given):
        given = {"work": str(self.work), "backbone": self.backbone, "extra": str(self.folder / "more.csv")} | given
        given = given if given["backbone"] == "tfidf" or given.get("learner") else SMALL | given
        run, recipe = (
            kind(**{name: value for name, value in given.items() if name in knobs_of(kind)})
            for kind in (TrainingRun, Recipe)
        )
        return choose_learner(run, recipe, self.task, self.train, self.test, self.folds, [0, 1])

    def run(self, choice, name, without=False):
        folder = open_run(self.work, name, {"seed": 0, **choice.settings})
        for k in (0, 1):
            held_out = np.flatnonzero(self.folds["fold"] == k)
            rows = training_rows(self.folds, k)
            fitted = choice.fit(rows, held_out, folder / f"fold{k}", k)
            save_fold(folder, k, fitted, self.train["id"].iloc[held_out], self.test["id"], self.task)
            if without:
                choice.fit_without(rows, held_out, folder / f"fold{k}", k)
        return folder

    def read(self, name):
        return read_run(self.work, name, self.task, self.folds, self.test["id"])

    def infer(self, name, full):
        parts = self.work, self.task, self.folds, self.train, self.test, self.labels
        return Inference(*parts).predict(name, TimeBudget(), full)


@pytest.fixture
def home(tmp_path, texts, backbone):
    return Home(tmp_path, texts, backbone)


LEARNERS = {
    "tfidf": {"backbone": "tfidf"},
    "frozen": {"learner": "frozen", "max_length": 16},
    "finetune": {"extra_source": "prefix", "extra_weight": 0.5},
}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_them_and_its_model_of_all_rows_is_submitted(home, name):
    choice, task, ids = home.choose(**LEARNERS[name], extra_check=True), home.task, home.test["id"]
    folder = home.run(choice, name, without=True)
    plain = home.run(home.choose(**LEARNERS[name] | {"extra": "", "extra_source": "", "extra_weight": 1.0}), "plain")
    ours, other = (read_parquet(one / "fold0" / "oof.parquet") for one in (folder, plain))
    assert not ours.equals(other)
    assert read_parquet(folder / "fold0" / WITHOUT).equals(other)
    found = measure_extra(home.read(name), task, home.labels)
    assert found["folds"] == [0, 1] and not list(folder.rglob("without"))
    fit_full(choice, folder, task, ids, None, TimeBudget())
    run, before = home.read(name), home.read(name).test_mean
    only, both = (add_full(run, task, ids, only) for only in (True, False))
    assert np.allclose(both.test_mean, (2 * before + only.test_mean) / 3, atol=1e-6)
    assert not np.allclose(only.test_mean, before, atol=1e-6)
    for kind, stored in (("only", only), ("with", both)):
        assert np.allclose(home.infer(name, kind).test_mean, stored.test_mean, atol=1e-5)
    file = folder / "full" / "test.parquet"
    assert read_metadata(file)["saw"] == "all folds" and read_metadata(folder / "fold0" / "test.parquet") != "all folds"
    with pytest.raises(FileNotFoundError, match=r"run='plain' has no finished model of all rows: run 3_train again"):
        add_full(home.read("plain"), task, ids, True)


def test_the_model_of_all_rows_has_its_epochs_stays_and_stops_in_time(home, capsys):
    choice = home.choose()
    folder = home.run(choice, "base")
    args = choice, folder, home.task, home.test["id"]
    with pytest.raises(OutOfTime, match="no time is left for the model of all rows"):
        fit_full(*args, 2.0, TimeBudget(1e-9))
    fit_full(*args, 2.0, TimeBudget())
    steps = len((folder / "full" / "history.jsonl").read_text().splitlines())
    assert steps == 2 * 6 and choice.learner.recipe.epochs == 1.0  # 60 rows in batches of 10
    fit_full(*args, 2.0, TimeBudget())
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"full was trained with full_fit_epochs=2.0, and now it is None: delete"):
        fit_full(*args, None, TimeBudget())


@pytest.mark.parametrize("teacher", ["", "base"])
def test_pseudo_labels_go_with_extra_rows(home, teacher):
    if teacher:
        home.run(home.choose(extra=""), "base")
    choice = home.choose(pseudo={"teacher": teacher, "threshold": 0.0})
    folder = home.run(choice, "student")
    params = read_json(folder / "params.json")["receipts"]["1"]
    assert params["pseudo"]["rounds"][0]["added"] == 9 and params["extra rows"]["learned"] == 20
    assert 40 < len(choice.learner.train) == len(choice.learner.labelling.labels) == 60


def test_a_bundle_has_the_extra_rows_and_the_model_of_all_rows_of_a_run_that_predicts_again(home):
    choice = home.choose()
    folder = home.run(choice, "base")
    fit_full(choice, folder, home.task, home.test["id"], None, TimeBudget())
    ours, whole = "fold1/model/model.safetensors", "full/model/model.safetensors"
    for models, full, kept in (
        (True, "with", (ours, whole)),
        (True, "", (ours,)),
        (True, "only", (whole,)),
        (False, "with", ()),
    ):
        files = {str(file.relative_to(folder)) for file in RunRecord(folder).files(models, full)}
        assert "full/test.parquet" in files and {ours, whole} & files == {*kept}
    assert named([knobs_of(TrainingRun)["extra"]], RunRecord(folder).recipe, "file") == [
        ("extra", str(home.folder / "more.csv"))
    ]


def test_other_extra_rows_make_another_run(home):
    choice = home.choose(backbone="tfidf")
    home.run(choice, "tfidf")
    file = home.folder / "more.csv"
    file.write_text(file.read_text().replace(",g\n", ",b\n", 1))
    with pytest.raises(ValueError, match="the extra changed"):
        open_run(home.work, "tfidf", {"seed": 0, **choice.settings})


def test_what_needs_rows_to_be_validated_on_is_refused(home):
    run = TrainingRun(work=str(home.work), backbone=home.backbone, full_fit=True)
    with pytest.raises(ValueError, match="CheckpointSoup chooses weights by scores on held-out rows"):
        check_full_fit(run, Recipe(tricks={"CheckpointSoup": {}}))
    home.run(home.choose(extra=""), "base")
    with pytest.raises(ValueError, match="start='base' has a model for each fold, and none for all rows"):
        home.choose(start="base", full_fit=True)
    idle = find_idle(
        [TrainingRun, Recipe], {"backbone": "minilm", "learner": "finetune", "full_fit": True, "keep_best": True}
    )
    assert "with keep_best=True" in idle["full_fit"]


def test_workers_and_later_kernels_leave_the_model_of_all_rows_out():
    assert without_full({"full_fit": True, "full_fit_epochs": 2.0}) == {"full_fit": False, "full_fit_epochs": None}
    assert without_full({"epochs": 1.0}) == {}
