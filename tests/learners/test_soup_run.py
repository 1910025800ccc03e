"""Soups of two trained runs, fold by fold, as 3_train makes them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from kagglekit.competition.task import read_test
from kagglekit.data.batches import Examples
from kagglekit.files import read_json, write_json
from kagglekit.learners.soup import Soup, average_scalers
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_models, average_weights
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.tables import read_folds, read_parquet, read_run, write_folds
from kagglekit.scoring.metrics import score
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler
from kagglekit.training.predict import SavedModel, predict
from kagglekit.training.recipe import Recipe
from tests.conftest import make_task

ROWS, FOLDS = 36, np.arange(36) % 3
FILES = {"train": "train.csv", "test": "test.csv", "sample_submission": "sample_submission.csv"}
TASK = make_task("multiclass", metric="log_loss", files=FILES, fingerprint="f")
KNOBS = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 5e-3}


def train_run(work, name, tables, backbone, folds=(0, 1), seed=0, **knobs):
    """What 3_train does."""
    recipe = Recipe(**{**KNOBS, **knobs})
    learner = FineTuner(TASK, *tables, backbone, recipe)
    learner.precision = "fp32"
    folder = open_run(work, name, dict(backbone=backbone, start="", seed=seed) | recipe.as_dict())
    fit_folds(learner, folder, tables, folds, seed)


def fit_folds(learner, folder, tables, folds, seed=0):
    for fold in folds:
        ours, held_out = np.flatnonzero(fold != FOLDS), np.flatnonzero(fold == FOLDS)
        fitted = learner.fit(ours, held_out, folder / f"fold{fold}", seed=seed + fold)
        save_fold(folder, fold, fitted, tables[0]["id"].iloc[held_out], tables[1]["id"], TASK)


@pytest.fixture(scope="module")
def tables(texts):
    words, balance = texts(ROWS)
    labels = np.array(TASK.classes)[np.sign(balance) + 1]
    numbers = np.arange(ROWS).astype(str)
    train = pd.DataFrame({"id": numbers, "text": words, "label": labels, "stars": numbers, "shop": numbers})
    train["shop"] = np.where(np.arange(ROWS) < 18, "a", "b")
    test = train.iloc[:5][["text", "stars", "shop"]].assign(id=[f"t{n}" for n in range(5)])
    return train, test


@pytest.fixture(scope="module")
def trained(tables, backbone, tmp_path_factory):
    """A work folder with two runs of folds 0 and 1, which differ in how they were trained."""
    work = tmp_path_factory.mktemp("soups") / "work"
    task = replace(TASK, data=str(work.parent))
    for name, table in zip(("train", "test"), tables, strict=True):
        table.to_csv(work.parent / task.files[name], index=False)
    task.save(work)
    write_folds(work, tables[0]["id"], FOLDS)
    train_run(work, "base", tables, backbone)
    train_run(work, "other", tables, backbone, seed=1, learning_rate=2e-2, epochs=3, head_dropout=0.1)
    return work


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(trained, tmp_path / "work")


@pytest.fixture
def soup(trained):
    """soup(work, runs, how): in float32."""

    def make(work, runs=("base", "other"), how="uniform"):
        made = Soup(replace(TASK, data=str(trained.parent)), work, list(runs), how)
        made.precision = "fp32"
        return made

    return make


def fit(soup, fold, folder):
    return soup.fit(np.flatnonzero(fold != FOLDS), np.flatnonzero(fold == FOLDS), folder / f"fold{fold}", seed=0)


def close(a, b):
    return np.allclose(a, b, atol=1e-6)


def weights_of(folder):
    return load_file(Path(folder) / "model.safetensors")


@pytest.mark.parametrize("how", ["uniform", "greedy", "folds"])
def test_a_soup_of_one_run_is_that_run(trained, soup, tmp_path, same, how):
    made = soup(trained, ["base"], how)
    for fold in (0, 1):
        fitted, folder = fit(made, fold, tmp_path), trained / "base" / f"fold{fold}"
        assert close(fitted.oof, read_parquet(folder / "oof.parquet").iloc[:, 2:])
        assert how == "folds" or close(fitted.test, read_parquet(folder / "test.parquet").iloc[:, 1:])
        assert same(weights_of(tmp_path / f"fold{fold}" / "model"), weights_of(folder / "model"))


def test_a_uniform_soup_predicts_as_the_average_of_the_models_of_its_fold(trained, soup, tmp_path, same, weights):
    made = soup(trained)
    fitted = fit(made, 1, tmp_path)
    model = average_models([trained / name / "fold1" / "model" for name in ("base", "other")])
    held_out = Examples(made.rows.tokens[np.flatnonzero(FOLDS == 1)], 0)
    assert close(fitted.oof, predict(model, held_out, "fp32"))
    assert close(fitted.test, predict(model, Examples(made.test_rows.tokens, 0), "fp32"))
    assert same(weights_of(tmp_path / "fold1" / "model"), weights(model))
    receipt = {"how": "uniform", "members": ["base", "other"], "number": 2, "models averaged for test": 2}
    assert fitted.receipts == {"precision": "fp32", "soup": receipt} and fitted.history == []
    assert FeatureScaler.load(tmp_path / "fold1" / "model") == FeatureScaler(None, None, None, False)


def test_a_greedy_soup_is_chosen_by_the_other_folds(trained, soup, tmp_path):
    """By hand: of fold 1, the better run alone, and with the other one if their soup is no worse."""
    made = soup(trained, how="greedy")
    fitted = fit(made, 0, tmp_path)
    rows = np.flatnonzero(FOLDS == 1)
    held_out, losses = Examples(made.rows.tokens[rows], 0), {}
    for names in (["base"], ["other"], ["base", "other"]):
        model = average_models([trained / name / "fold1" / "model" for name in names])
        losses[tuple(names)] = score("log_loss", made.labels[rows], predict(model, held_out, "fp32"))
    best = min(("base",), ("other",), key=losses.get)
    best = ("base", "other") if losses["base", "other"] <= losses[best] else best
    assert fitted.receipts["soup"]["members"] == list(best) and fitted.receipts["soup"]["number"] == len(best)
    model = average_models([trained / name / "fold0" / "model" for name in best])
    assert close(fitted.oof, predict(model, Examples(made.rows.tokens[np.flatnonzero(FOLDS == 0)], 0), "fp32"))


def test_a_greedy_soup_never_looks_at_the_labels_of_its_own_fold(trained, soup, tmp_path, same):
    made = soup(trained, how="greedy")
    for fold in (0, 1):
        members = fit(made, fold, tmp_path / "right").receipts
        wrong = soup(trained, how="greedy")
        wrong.labels[fold == FOLDS] = 1
        assert (wrong.labels != made.labels).any()
        assert fit(wrong, fold, tmp_path / "wrong").receipts == members
        seen = {other for _, other in wrong.scores_}
        assert seen == {1 - fold}
        ours, theirs = (weights_of(tmp_path / name / f"fold{fold}" / "model") for name in ("right", "wrong"))
        assert same(ours, theirs)


def test_a_greedy_soup_leaves_out_a_run_that_spoils_it(work, soup, tmp_path):
    for fold in (0, 1):
        place = work / "other" / f"fold{fold}" / "model"
        model = Classifier.load(place)
        with torch.no_grad():
            model.head.bias += torch.tensor([50.0, -50.0, 0.0])
        tokenizer, scaler = soup(work).tokenizer, FeatureScaler.load(place)
        model.save(place, tokenizer)
        scaler.save(place)
    fitted = fit(soup(work, ["other", "base"], how="greedy"), 0, tmp_path)
    assert fitted.receipts["soup"]["members"] == ["base"]


def test_the_soup_of_all_folds_is_one_model_for_test_and_its_folds_stay_apart(trained, soup, tmp_path, same):
    made = soup(trained, how="folds")
    fits = [fit(made, fold, tmp_path) for fold in (0, 1)]
    uniform = [fit(soup(trained), fold, tmp_path / "uniform") for fold in (0, 1)]
    every = [trained / name / f"fold{fold}" / "model" for name in ("base", "other") for fold in (0, 1)]
    model = average_models(every)
    for ours, theirs, fold in zip(fits, uniform, (0, 1), strict=True):
        assert np.array_equal(ours.oof, theirs.oof) and not np.allclose(ours.test, theirs.test)
        assert close(ours.test, predict(model, Examples(made.test_rows.tokens, 0), "fp32"))
        assert same(*(weights_of(at / f"fold{fold}" / "model") for at in (tmp_path, tmp_path / "uniform")))
        assert ours.receipts["soup"]["number"] == 2 and ours.receipts["soup"]["models averaged for test"] == 4
    assert same(weights_of(tmp_path / "model"), average_weights(map(weights_of, every)))
    assert close(predict(Classifier.load(tmp_path / "model"), Examples(made.test_rows.tokens, 0), "fp32"), fits[0].test)


def test_a_soup_is_a_run_that_can_be_read_scored_and_averaged_again(work, soup, tables):
    made = soup(work)
    folder = open_run(work, "soup", made.settings)
    fit_folds(made, folder, tables, [0, 1])
    run = read_run(work, "soup", TASK, read_folds(work, tables[0]["id"]), tables[1]["id"])
    assert run.folds == [0, 1] and read_json(folder / "params.json")["receipts"]["0"]["soup"]["number"] == 2
    assert open_run(work, "soup", soup(work).settings) == folder
    assert soup(work, ["soup", "base"]).settings["backbone"] == made.settings["backbone"]
    shutil.copy(work / "base/fold0/model/model.safetensors", work / "other/fold0/model/model.safetensors")
    with pytest.raises(ValueError, match="the weights of other changed"):
        open_run(work, "soup", soup(work).settings)


def test_more_folds_of_the_members_change_a_greedy_soup_and_not_a_uniform_one(work, soup, tables, backbone):
    for how in ("uniform", "greedy"):
        made = soup(work, how=how)
        fit_folds(made, open_run(work, how, made.settings), tables, [0])
    for name in ("base", "other"):
        shutil.copytree(work / name / "fold1", work / name / "fold2")
    before = read_json(work / "uniform" / "params.json")
    folder = open_run(work, "uniform", soup(work).settings)
    after = read_json(folder / "params.json")
    assert before["receipts"] == after["receipts"] and (folder / "fold0").is_dir()
    assert list(after["inputs"]["weights of base"]) == ["0", "1", "2"]
    with pytest.raises(ValueError, match="the weights of base changed; the weights of other changed"):
        open_run(work, "greedy", soup(work, how="greedy").settings)


@pytest.mark.parametrize(
    ("ours", "theirs", "soups"), [("fp32", "fp32", "fp32"), ("bf16", "bf16", "bf16"), ("fp32", "bf16", "fp32")]
)
def test_a_soup_predicts_and_is_predicted_again_in_the_precision_of_its_members(trained, work, ours, theirs, soups):
    for name, precision in (("base", ours), ("other", theirs)):
        params = read_json(work / name / "params.json")
        params["recipe"]["precision"] = precision
        write_json(work / name / "params.json", params)
    made = Soup(replace(TASK, data=str(trained.parent)), work, ["base", "other"])
    assert made.precision == made.settings["precision"] == soups
    fitted = fit(made, 0, work / "soup")
    saved = SavedModel(work / "soup" / "fold0" / "model", made.settings)
    assert saved.precision == soups
    assert np.allclose(saved.predict(read_test(made.task)), fitted.test, atol=1e-6)


def test_a_soup_reads_what_its_members_read(work, soup):
    made = soup(work)
    assert made.recipe == Recipe(max_length=24) and made.settings["max_length"] == 24


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ({"max_length": 20}, "base and odd cannot be averaged: max_length is 24 in one, 20 in the other"),
        ({"truncation": "tail"}, "base and odd cannot be averaged: truncation is head in one, tail in the other"),
        ({"head": "flat"}, "base and odd cannot be averaged: head is linear in one, flat in the other"),
        ({"pooling": "cls"}, "base and odd cannot be averaged: pooling is mean in one, cls in the other"),
        ({"backbone": "elsewhere"}, "base and odd cannot be averaged: backbone is .*, elsewhere in the other"),
    ],
)
def test_runs_that_differ_in_inputs_or_models_are_named(work, soup, knob, words):
    shutil.copytree(work / "base", work / "odd")
    for file in [work / "odd" / "params.json", *(work / "odd").glob("fold*/model/classifier.json")]:
        stored = read_json(file)
        write_json(file, {**stored, "recipe": stored["recipe"] | knob} if "recipe" in stored else stored | knob)
    with pytest.raises(ValueError, match=words):
        soup(work, ["base", "odd"])


@pytest.mark.parametrize(
    ("runs", "how", "words"),
    [
        ([], "uniform", "soup_of=.* it must be the names of one or more trained runs"),
        (["base", "base"], "uniform", "soup_of: .*base is named twice"),
        (["base", "none"], "uniform", "soup_of='none': .*none does not exist: run 3_train with run='none' first"),
        (["base", "other"], "best", "soup='best' is out of range: it must be one of uniform, greedy, folds"),
        (["base", "mlm"], "uniform", "soup_of='mlm' is a run of 2_pretrain: only runs with the folds of"),
        (["short", "base"], "greedy", "short, base share fold 0 alone: train a second one, or set soup='uniform'"),
    ],
)
def test_what_cannot_be_averaged_is_an_error_in_words(work, soup, runs, how, words):
    shutil.copytree(work / "base", work / "short")
    shutil.rmtree(work / "short" / "fold1")
    (work / "mlm" / "model").mkdir(parents=True)
    write_json(work / "mlm" / "params.json", {"recipe": {}, "inputs": {}})
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        soup(work, runs, how)


def test_a_fold_that_a_member_lacks_is_an_error(work, soup, tmp_path):
    shutil.rmtree(work / "other" / "fold1")
    with pytest.raises(ValueError, match="soup_of='other' has no model of fold 1, only of 0: train that fold first"):
        fit(soup(work), 1, tmp_path)


@pytest.fixture
def featured(trained, tables, backbone, tmp_path):
    """A copy of the work folder with a third run, which reads columns as features."""
    work = shutil.copytree(trained, tmp_path / "featured")
    train_run(work, "columns", tables, backbone, features={"numbers": ["stars"], "categories": ["shop"]})
    return work


def test_features_are_scaled_as_in_each_fold_and_averaged_over_folds(featured, soup, tmp_path):
    made = soup(featured, ["columns"], "folds")
    fitted, place = fit(made, 0, tmp_path), featured / "columns"
    assert close(fitted.oof, read_parquet(place / "fold0" / "oof.parquet").iloc[:, 2:])
    both = [FeatureScaler.load(place / f"fold{fold}" / "model").features.center[0] for fold in (0, 1)]
    assert FeatureScaler.load(tmp_path / "fold0" / "model").features.center[0] == both[0] != both[1]
    assert FeatureScaler.load(tmp_path / "model").features.center[0] == pytest.approx(np.mean(both))
    assert fit(soup(featured, ["columns"]), 1, tmp_path).test.shape == (5, 3)
    with pytest.raises(ValueError, match=r"base and columns cannot be averaged: features is \{\} in one"):
        soup(featured, ["base", "columns"])
    file = place / "fold1" / "model" / "beside.json"
    stored = read_json(file)
    stored["features"]["known"] = [["b", "a"]]
    write_json(file, stored)
    with pytest.raises(ValueError, match=r"fold0/model and .*fold1/model cannot be averaged: in their features"):
        soup(featured, ["columns"], "folds")


def test_document_vectors_are_scaled_by_the_mean_of_the_folds(tmp_path):
    for number, center in enumerate(([0.0, 2.0], [1.0, 4.0])):
        (tmp_path / str(number)).mkdir()
        FeatureScaler(None, center, [1.0, 1.0], False).save(tmp_path / str(number))
    mean = average_scalers([tmp_path / "0", tmp_path / "1"])
    assert mean == FeatureScaler(None, [0.5, 3.0], [1.0, 1.0], False)
