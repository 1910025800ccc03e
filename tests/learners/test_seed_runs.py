"""Runs of several seeds from training to the submission: resumed, asked again, averaged, taught, and packed."""

import itertools
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.files import read_json
from kagglekit.files.parquet import read_parquet
from kagglekit.kaggle.golden_rows import check_golden_rows, write_golden
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.full_fit import fit_full
from kagglekit.learners.inference import Inference
from kagglekit.model.classifier import Classifier
from kagglekit.options import knobs_of, make_knobs
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.initial_weights import find_starts
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.seeds import seed_tables, trainings
from kagglekit.runs.tables import add_full, read_folds, read_run, training_rows, write_folds
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.show.occlusion import explain_errors
from kagglekit.time_budget import OutOfTime, TimeBudget
from kagglekit.training.extra_files import WITHOUT, measure_extra
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe

SMALL = {"max_length": 12, "epochs": 1.0, "batch_size": 4, "dropout": 0.1, "learning_rate": 2e-2}


@dataclass(frozen=True)
class Asked(TimeBudget):
    """A time budget that is over after so many questions, and then again after the same number."""

    answers: object = field(default=None)

    def over(self):
        return next(self.answers)


def asked_often(questions):
    return Asked(1000.0, answers=itertools.chain([False] * questions, itertools.repeat(True)))


class Home:
    """A work folder of 24 rows in three folds, and 8 extra rows in more.csv. classes: of good texts, and of others."""

    def __init__(self, folder, texts, backbone, classes="gb", folds=tuple(range(3)) * 8):
        self.folder, self.work, self.backbone = folder, folder / "work", backbone
        words, balance = texts(32)
        rows = pd.DataFrame({"id": [f"a{n}" for n in range(32)], "text": words})
        rows = rows.assign(label=np.where(balance > 0, *classes))
        rows[:24].to_csv(folder / "train.csv", index=False)
        rows[24:].to_csv(folder / "more.csv", index=False)
        test = pd.DataFrame({"id": [f"t{n}" for n in range(7)], "text": texts(7, seed=1)[0]})
        test.to_csv(folder / "test.csv", index=False)
        test[["id"]].assign(label=classes[1]).to_csv(folder / "sample_submission.csv", index=False)
        self.task, _ = infer(folder, train="train.csv")
        self.task.save(self.work)
        self.train, self.test = read_train(self.task), read_test(self.task)
        write_folds(self.work, self.train["id"], np.array(folds))
        self.folds, self.labels = read_folds(self.work, self.train["id"]), encode_labels(self.task, self.train)

    def choose(self, run, **given):
        given = {"work": str(self.work), "run": run, "backbone": self.backbone, **SMALL} | given
        options, recipe = (
            kind(**{name: value for name, value in given.items() if name in knobs_of(kind)})
            for kind in (TrainingRun, Recipe)
        )
        return choose_learner(options, recipe, self.task, self.train, self.test, self.folds, [0, 1, 2])

    def fit(self, run, seeds=2, folds=(0, 1), budget=None, **given):
        """What the cells of 3_train do."""
        choice = self.choose(run, seeds=seeds, **given)
        if choice.tuner:
            choice.tuner.budget = budget or TimeBudget()
        folder = open_run(self.work, run, {"seed": 0, **choice.settings})
        for fold, number, place in trainings(folder, folds, seeds):
            held_out, rows = np.flatnonzero(self.folds["fold"] == fold), training_rows(self.folds, fold)
            fitted = choice.fit(rows, held_out, place, fold, number)
            save_fold(folder, fold, fitted, self.train["id"][held_out], self.test["id"], self.task, number, seeds)
            if given.get("extra_check") and number == seeds - 1:
                choice.fit_without(rows, held_out, folder / f"fold{fold}", fold)
        return folder

    def read(self, run):
        return read_run(self.work, run, self.task, self.folds, self.test["id"])

    def infer(self, run, full="", test=None):
        parts = self.work, self.task, self.folds, self.train, self.test if test is None else test, self.labels
        return Inference(*parts).predict(run, TimeBudget(), full)


def full_column(explained, task):
    return task.columns.index(explained.heading.split(": ")[1].split(" (")[0])


@pytest.fixture
def home(tmp_path, texts, backbone):
    return Home(tmp_path, texts, backbone)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, texts, backbone):
    home = Home(tmp_path_factory.mktemp("seeds"), texts, backbone)
    home.fit("base")
    return home


def contents(folder):
    """The files of a run that say what was trained, and their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name not in ("params.json", "cost.json")
    }


@pytest.mark.parametrize(
    ("given", "questions"),
    [({"keep_best": True}, 2), ({"distill": {"by": "nested"}}, 2), ({"pseudo": {"threshold": 0.0}}, 5)],
    ids=["plain", "nested teachers", "pseudo labels"],
)
def test_two_seeds_stopped_again_and_again_are_those_that_never_stopped(home, given, questions):
    straight = home.fit("straight", folds=[0], **given)
    stopped, stops = None, -1
    while stopped is None:
        stops += 1
        with suppress(OutOfTime):
            stopped = home.fit("stopped", folds=[0], budget=asked_often(questions), **given)
    assert stops > 2
    ours, theirs = contents(straight), contents(stopped)
    assert "fold0/seed1/model/model.safetensors" in ours and ours.keys() == theirs.keys()
    tables = {name for name in ours if name.endswith(".parquet")}  # their metadata have the name of the run
    assert [name for name in ours if name not in tables and ours[name] != theirs[name]] == []
    assert all(read_parquet(straight / name).equals(read_parquet(stopped / name)) for name in tables)
    receipts = [read_json(folder / "params.json")["receipts"] for folder in (straight, stopped)]
    assert receipts[0] == receipts[1] and receipts[0]["0"].keys() - {"seed 1"} == receipts[0]["0"]["seed 1"].keys()


def test_a_run_of_one_seed_gets_the_others_and_is_the_one_that_had_them_from_the_start(trained, monkeypatch):
    grown = trained.fit("grown", seeds=1)
    before = contents(grown)
    fitted = []
    monkeypatch.setattr(
        "kagglekit.training.finetune.set_seed", lambda seed: fitted.append(seed) or torch.manual_seed(seed)
    )
    trained.fit("grown")
    assert fitted == [1000, 1001]
    now, ours = contents(grown), contents(trained.work / "base")
    assert now["fold0/model/model.safetensors"] == before["fold0/model/model.safetensors"]
    assert now.keys() == ours.keys()
    for name in (name for name in ours if name.endswith(".parquet")):
        assert read_parquet(grown / name).equals(read_parquet(trained.work / "base" / name))
    for number, table in seed_tables(RunRecord(grown))[0].items():
        own = read_parquet(grown / "fold0" / f"seed{number}" / "oof.parquet")
        assert table.equals(own)
    assert ours["fold0/model/model.safetensors"] != ours["fold0/seed1/model/model.safetensors"]


def test_the_saved_models_predict_what_test_has(trained):
    stored, now = trained.read("base"), trained.infer("base")
    assert all(np.allclose(now.tests[k], stored.tests[k], atol=1e-5) for k in (0, 1))
    first = read_parquet(trained.work / "base" / "fold0" / "seed0" / "test.parquet").iloc[:, 1:].to_numpy()
    assert not np.allclose(first, stored.tests[0], atol=1e-2)
    turned = trained.infer("base", test=trained.test[::-1].reset_index(drop=True))
    assert np.allclose(turned.tests[1][::-1], stored.tests[1], atol=2e-3)


def test_the_golden_rows_and_the_bundle_have_the_models_of_all_seeds(trained):
    write_golden(trained.work, "base", 4)
    table = check_golden_rows(trained.work, "base")
    assert table["fold"].tolist() == [f"{k} seed {n}" for k in (0, 1) for n in (0, 1)]
    record = RunRecord(trained.work / "base")
    packed = {str(file.relative_to(record.folder)) for file in record.files(models=True)}
    places = [f"fold{k}/{seed}model" for k in (0, 1) for seed in ("", "seed1/")]
    assert {f"{place}/model.safetensors" for place in places} <= packed
    assert {"fold0/seed0/oof.parquet", "fold0/seed1/test.parquet"} <= packed
    assert not any("model/" in str(file) for file in record.files(models=False))


def test_a_teacher_asks_all_seeds_and_so_does_the_explanation_of_an_error(trained):
    ids = trained.test["id"]
    teacher = read_teacher(trained.work, "base", trained.task, trained.folds, ids, trained.labels)
    held_out = np.flatnonzero(trained.folds["fold"] == 0)
    assert np.allclose(teacher.predict(0, trained.train.iloc[held_out], True), teacher.oof[held_out], atol=1e-5)
    assert teacher.model(0) == trained.work / "base" / "fold0" / "model" and len(teacher.models(0)) == 2
    run, record = trained.read("base"), RunRecord(trained.work / "base")
    (one,) = explain_errors(record, trained.task, trained.train, trained.labels, run, n=1)
    place = trained.train["id"].tolist().index(one.heading.split(":")[0])
    row, found = trained.train.iloc[[place]], []
    for model in record.saved_models[trained.folds["fold"][place]]:
        saved = SavedModel(model, record.recipe)
        less = row.assign(text=" ".join(row["text"].iloc[0].split()[1:]))
        found.append([saved.predict(table, True)[0] for table in (row, less)])
    full, without = np.mean(found, axis=0)[:, full_column(one, trained.task)]
    assert one.pieces[0].effect == pytest.approx(logit(full) - logit(without), abs=1e-3)


def test_a_start_and_a_soup_average_the_seeds_of_a_fold(trained, backbone, weights, same):
    models = [trained.work / "base" / "fold0" / name for name in ("model", "seed1/model")]
    assert find_starts(trained.work, "base", backbone, [0]) == {0: dict.fromkeys(map(str, models), 0.5)}
    folder = trained.fit("soup", seeds=1, backbone="soup", soup_of=["base"])
    receipts = read_json(folder / "params.json")["receipts"]
    assert receipts["0"]["soup"]["models averaged for test"] == 2 and receipts["0"]["soup"]["number"] == 1
    states = [Classifier.load(place).state_dict() for place in (folder / "fold0" / "model", *models)]
    mean = {name: (states[1][name] + states[2][name]) / 2 for name in states[0] if states[0][name].is_floating_point()}
    assert all(torch.allclose(states[0][name], mean[name], atol=1e-6) for name in mean)
    inputs = RunRecord(folder).params["inputs"]["weights of base"]
    assert inputs.keys() == {"0", "1"}


def test_what_was_made_of_a_run_is_of_another_when_it_gets_more_seeds(home):
    home.fit("base", seeds=1, folds=[0])
    home.fit("student", seeds=1, folds=[0], pseudo={"teacher": "base", "threshold": 0.0})
    home.fit("base", seeds=2, folds=[0])
    with pytest.raises(ValueError, match="the predictions of base changed"):
        home.fit("student", seeds=1, folds=[0], pseudo={"teacher": "base", "threshold": 0.0})


def test_the_model_of_all_rows_and_the_check_of_extra_rows_have_as_many_seeds(home):
    given = {"extra": str(home.folder / "more.csv")}
    folder = home.fit("base", folds=[0], extra_check=True, **given)
    plain = home.fit("plain", folds=[0])
    for name in ("", "seed0/", "seed1/"):
        assert read_parquet(folder / "fold0" / f"{name}{WITHOUT}").equals(
            read_parquet(plain / "fold0" / f"{name}oof.parquet")
        )
    assert measure_extra(home.read("base"), home.task, home.labels)["folds"] == [0]
    home.fit("base", seeds=3, folds=[0], **given)
    assert measure_extra(home.read("base"), home.task, home.labels) == {}  # of two seeds against three
    choice, ids = home.choose("base", **given), home.test["id"]
    fit_full(choice, folder, home.task, ids, None, TimeBudget())
    one = read_parquet(folder / "full" / "test.parquet")
    fit_full(choice, folder, home.task, ids, None, TimeBudget(), 2)
    tables = [read_parquet(folder / "full" / f"{name}test.parquet") for name in ("seed0/", "seed1/", "")]
    assert tables[0].equals(one) and not tables[1].equals(one)
    assert np.allclose((tables[0].iloc[:, 1:] + tables[1].iloc[:, 1:]) / 2, tables[2].iloc[:, 1:], atol=1e-7)
    stored = add_full(home.read("base"), home.task, ids, True)
    assert np.allclose(home.infer("base", "only").test_mean, stored.test_mean, atol=1e-5)
    weights = {"full/model/model.safetensors", "full/seed1/model/model.safetensors"}
    for full in ("", "add", "only"):
        packed = {str(file.relative_to(folder)) for file in RunRecord(folder).files(models=True, full=full)}
        assert weights & packed == (weights if full else set())
        assert ("fold0/model/model.safetensors" in packed) == (full != "only")


@pytest.mark.parametrize(
    "given", [{"backbone": "tfidf"}, {"backbone": "soup", "soup_of": ["base"]}, {"learner": "frozen"}], ids=str
)
def test_learners_that_draw_nothing_refuse_several_seeds(given):
    with pytest.raises(ValueError, match=r"seeds=2 has no effect with (backbone|learner)="):
        make_knobs(TrainingRun, Recipe, shown={}, rest={**given, "seeds": 2})
    make_knobs(TrainingRun, Recipe, shown={}, rest=given)
