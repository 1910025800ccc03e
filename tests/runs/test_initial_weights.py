"""Initial weights: runs of 2_pretrain, trained runs fold by fold, averages of several; leaks are in test_leaks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kagglekit.files import write_json
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_weights
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.initial_weights import (
    find_scorer,
    find_starts,
    find_vocabulary,
    make_backbone,
    make_start,
    read_sources,
    refuse_trained_encoder,
)
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import write_folds, write_predictions
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

IDS = [str(n) for n in range(24)]
FOLDS = np.arange(24) % 2
OTHER_FOLDS = np.arange(24) // 12


@pytest.fixture
def place(tmp_path, monkeypatch, task):
    """place(name, fingerprint, folds): a work folder `runs/name`, below the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(name, fingerprint="ours", folds=FOLDS):
        work = tmp_path / "runs" / name
        task("multiclass", fingerprint=fingerprint).save(work)
        write_folds(work, IDS, folds)
        return work

    return make


@pytest.fixture
def work(place):
    return place("bbc")


@pytest.fixture
def trained(classifier, tokenizer, backbone):
    """trained(work, name, folds, start): a run with a model for each fold, every one another."""

    def make(work, name, folds=(0, 1), start="", backbone=backbone, **options):
        run = open_run(work, name, {"backbone": backbone, "start": start})
        for fold in folds:
            model = classifier(seed=len(str(run)) + fold, **options)
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
            model.save(run / f"fold{fold}" / "model", tokenizer)
            for table in ("test", "oof"):
                write_predictions(run / f"fold{fold}" / f"{table}.parquet", ["1"], np.ones((1, 1)), ["a"])
        return run

    return make


@pytest.fixture
def pretrained(backbone):
    """pretrained(work): a run of 2_pretrain, whose model is the backbone itself."""

    def make(work, name="mlm"):
        run = open_run(work, name, {"backbone": backbone}, folds=False)
        shutil.copytree(backbone, run / "model")
        return run

    return make


def encoder(folder):
    """The weights of the backbone of a model."""
    return Classifier.load(Path(folder)).backbone.state_dict()


def test_no_start_is_no_model(place, backbone):
    assert find_starts(place("bbc"), "", backbone, [0, 1]) == {}


def test_a_run_of_2_pretrain_is_the_start_of_every_fold(work, pretrained, backbone):
    model = str(pretrained(work) / "model")
    assert find_starts(work, "mlm", backbone, [0, 1]) == {0: {model: 1.0}, 1: {model: 1.0}}
    assert make_start({model: 1.0}, work / "base" / "fold0") == model and not (work / "base").exists()


def test_a_run_of_2_pretrain_needs_weights_and_its_backbone_may_be_spelled_out(work, pretrained):
    run = pretrained(work)
    write_json(run / "params.json", {"recipe": {"backbone": "roberta-base"}, "inputs": {}})
    assert find_starts(work, "mlm", "FacebookAI/roberta-base", [0]) == {0: {str(run / "model"): 1.0}}
    (run / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="mlm/model has no weights"):
        find_starts(work, "mlm", "roberta-base", [0])


def test_a_trained_run_is_the_start_of_each_fold_by_its_own_model(work, trained, backbone):
    run = trained(work, "base")
    assert find_starts(work, "base", backbone, [0, 1]) == {k: {str(run / f"fold{k}" / "model"): 1.0} for k in (0, 1)}


def test_several_runs_are_averaged_fold_by_fold(work, trained, pretrained, backbone, same, weights):
    runs = [trained(work, "base"), trained(work, "other"), pretrained(work)]
    starts = find_starts(work, "base + other+mlm", backbone, [0, 1])
    for fold in (0, 1):
        members = [encoder(run / f"fold{fold}" / "model") for run in runs[:2]]
        mean = average_weights([*members, weights(load_backbone(backbone))])
        begin = make_start(starts[fold], work / "joint" / f"fold{fold}")
        assert begin == str(work / "joint" / f"fold{fold}" / "start")
        assert same(weights(load_backbone(begin)), mean)
    assert make_start(starts[1], work / "joint" / "fold1") == begin  # again, after a kill
    assert same(weights(load_backbone(begin)), mean)


def test_a_run_of_other_data_counts_once_with_the_mean_of_all_its_folds(work, place, trained, backbone, same, weights):
    elsewhere = place("news", "theirs", OTHER_FOLDS)
    base, theirs = trained(work, "base"), trained(elsewhere, "long")
    starts = find_starts(work, "base+runs/news/long", backbone, [0])
    ours, *others = [str(base / "fold0" / "model"), *(str(model) for (model,) in RunRecord(theirs).models.values())]
    assert starts == {0: {ours: 1.0, others[0]: 0.5, others[1]: 0.5}}
    mean = average_weights([encoder(folder) for folder in (ours, *others)], [1, 0.5, 0.5])
    assert same(weights(load_backbone(make_start(starts[0], work / "joint" / "fold0"))), mean)
    assert find_starts(work, str(theirs), backbone, [7]) == {7: dict.fromkeys(others, 0.5)}


def test_a_run_of_the_same_data_and_folds_in_another_work_folder_goes_fold_by_fold(work, place, trained, backbone):
    copy = place("again")
    run = trained(copy, "base")
    assert find_starts(work, "runs/again/base", backbone, [1]) == {1: {str(run / "fold1" / "model"): 1.0}}


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("none", "start='none': .*none does not exist: run 2_pretrain with run='none' first"),
        ("half", "start='half': .*half has no model: name a run of 2_pretrain that is done, or one of 3_train"),
        ("tfidf", "start='tfidf': .*tfidf has no model: name a run of 2_pretrain"),
        ("blend", "start='blend': .*blend has no model"),
        ("base+base", "start: .*base is named twice"),
        ("base+", "run='' cannot name a run"),
        ("alien", "start='alien' was made from the backbone 'roberta', not '.*bert': name another run"),
        ("mlm-alien", "start='mlm-alien' was made from the backbone 'roberta', not '.*bert': name another run"),
        ("short", "start='short' has no model of fold 1, only of 0: train that fold first"),
        ("runs/lost/base", "lost has no task.json: a run is found in the work folder where it was trained"),
    ],
)
def test_a_start_that_is_none_is_an_error_in_words(work, trained, pretrained, backbone, start, words):
    trained(work, "base")
    trained(work, "short", folds=[0])
    trained(work, "alien", backbone="roberta")
    shutil.rmtree(trained(work, "tfidf") / "fold0" / "model"), shutil.rmtree(work / "tfidf" / "fold1" / "model")
    shutil.copytree(pretrained(work), work / "mlm-alien")
    write_json(work / "mlm-alien" / "params.json", {"recipe": {"backbone": "roberta"}, "inputs": {}})
    shutil.copytree(work / "tfidf", work / "blend", ignore=shutil.ignore_patterns("params.json"))
    open_run(work, "half", {"backbone": backbone})
    shutil.copytree(work / "base", work.parent / "lost" / "base")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        find_starts(work, start, backbone, [0, 1])


def test_a_model_of_one_fold_is_no_backbone_of_all(work, place, trained, pretrained, staged, backbone):
    """Nor by way of a run on other data."""
    elsewhere = place("news", "theirs")
    run = trained(work, "base")
    plain = make_backbone({str(run / "fold0" / "model"): 1.0}, run / "fold1")  # as transformers reads it
    stage = staged(work, "probed", {"0": "step40/model", "1": "model"})
    for model in (plain, str(stage / "model"), str(stage / "step40" / "model")):
        with pytest.raises(ValueError, match=r"a run of this data: it has seen labels of .*Set start='(base|probed)'"):
            find_starts(work, "", model, [0, 1])
        assert find_starts(elsewhere, "", model, [0, 1]) == {}
    trained(elsewhere, "on", backbone=plain)
    with pytest.raises(ValueError, match=r"start='runs/news/on' is made from .*base, a run of this data"):
        find_starts(work, "runs/news/on", backbone, [0])
    assert find_starts(work, "", str(pretrained(work) / "model"), [0]) == {}  # has read our texts, and no labels
    with pytest.raises(ValueError, match="is a trained model, whose backbone has other names of weights: set start"):
        find_starts(elsewhere, "", str(run / "fold0" / "model"), [0])


def test_an_image_encoder_of_one_fold_reads_no_images_of_all(work, place, pretrained, staged, backbone):
    """Nor one that was learned from it on other data; `staged` has a model for each fold."""
    elsewhere = place("news", "theirs")
    probed, whole = staged(work, "probed", {"0": "step40/model", "1": "model"}), pretrained(work, "pics")
    folders = [run / "model/image_encoder" for run in (probed, whole)]
    for folder in folders:
        folder.mkdir()
    refused, known = map(str, folders)
    with pytest.raises(ValueError, match=r"images_by='.*' is made from .*probed, a run of this data with a model for"):
        refuse_trained_encoder(work, refused, "images_by")
    for place_, encoder in ((elsewhere, refused), (work, known), (work, "openai/clip"), (work, str(place))):
        refuse_trained_encoder(place_, encoder, "images_by")
    on = pretrained(elsewhere, "on")
    write_json(on / "params.json", {"recipe": {"objective_options": {"image_encoder": refused}}, "inputs": {}})
    (on / "model/image_encoder").mkdir()
    with pytest.raises(ValueError, match=r"image_encoder'.* is made from .*probed, a run of this data"):
        refuse_trained_encoder(work, str(on / "model/image_encoder"), "images_by")
    with pytest.raises(ValueError, match=r"start='runs/news/on' is made from .*probed, a run of this data"):
        find_starts(work, "runs/news/on", backbone, [0])


def test_backbones_that_differ_cannot_be_averaged(work, trained, backbone, backbones):
    trained(work, "base")
    trained(work, "other", folder=backbones["electra"])  # which params.json does not tell
    words = r"base/fold0/model and .*other/fold0/model cannot be averaged: model_type is bert in one, electra in the"
    with pytest.raises(ValueError, match=words):
        find_starts(work, "base+other", backbone, [0])
    with pytest.raises(ValueError, match=words):  # of a fold whose models alone differ
        make_start({str(work / name / "fold0" / "model"): 0.5 for name in ("base", "other")}, work / "on" / "fold0")


def test_a_trained_run_with_a_model_of_all_folds_still_goes_fold_by_fold(work, trained, backbone):
    """A soup over folds has such a model, which has seen every row."""
    run = trained(work, "soup")
    shutil.copytree(run / "fold0" / "model", run / "model")
    (source,) = read_sources(work, ["soup"])
    assert source.by_fold and find_starts(work, "soup", backbone, [1])[1] == {str(run / "fold1" / "model"): 1.0}


def test_training_begins_from_the_model_of_its_own_fold(place, trained, task, tables, backbone):
    """With a rate next to nothing the backbone stays at its start, and the average that was made for it goes."""
    work, what = place("bbc"), task("multiclass")
    runs = [trained(work, "base"), trained(work, "other")]
    train, test = tables(what)
    recipe = Recipe(max_length=24, epochs=1, learning_rate=1e-12)
    learner = FineTuner(what, train, test, backbone, recipe)
    for start in ("base", "base+other"):
        folder = open_run(work, start.replace("+", "-") + "-on", {"backbone": backbone, "start": start})
        starts = find_starts(work, start, backbone, [0, 1])
        for fold in (0, 1):
            at, held_out = folder / f"fold{fold}", np.flatnonzero(fold == FOLDS)
            begin = make_start(starts[fold], at)
            fitted = learner.fit(np.flatnonzero(fold != FOLDS), held_out, at, seed=fold, start=begin)
            save_fold(folder, fold, fitted, train["id"].iloc[held_out], test["id"], what)
            assert {path.name for path in at.iterdir()} == {"history.jsonl", "model", "oof.parquet", "test.parquet"}
            members = runs if "+" in start else runs[:1]
            mean = average_weights([encoder(run / f"fold{fold}" / "model") for run in members])
            kept = load_file(at / "model" / "model.safetensors")
            assert all(torch.allclose(kept[f"backbone.{name}"], mean[name], atol=1e-6) for name in mean)


@pytest.fixture
def staged(backbone):
    """staged(work, name, models, start): a run of 2_pretrain that goes fold by fold, fold -> folder of its model."""

    def make(work, name, models, **recipe):
        run = open_run(work, name, {"backbone": backbone, **recipe})
        for folder in {"model", *models.values()}:
            shutil.copytree(backbone, run / folder)
        write_json(run / "models.json", models)
        return run

    return make


def test_a_stage_that_goes_fold_by_fold_says_where_its_models_are(work, staged, backbone):
    """Folds may share one; the model of the run itself, the best for all of them together, is not among them."""
    run = staged(work, "probed", {"0": "step40/model", "1": "model"})
    assert RunRecord(run).models == {0: [run / "step40" / "model"], 1: [run / "model"]}
    assert find_starts(work, "probed", backbone, [0]) == {0: {str(run / "step40" / "model"): 1.0}}
    write_json(run / "models.json", {"0": "step40/model", "1": "part1/model"})  # which is not there yet
    with pytest.raises(ValueError, match="start='probed' has no model of fold 1, only of 0"):
        find_starts(work, "probed", backbone, [1])


def test_a_model_that_several_folds_of_other_data_share_counts_for_each_of_them(work, place, staged, backbone):
    elsewhere = place("news", "theirs")
    run = staged(elsewhere, "probed", {"0": "model", "1": "model", "2": "model", "3": "step40/model"})
    found = find_starts(work, "runs/news/probed", backbone, [0])[0]
    assert found == {str(run / "model"): 0.75, str(run / "step40" / "model"): 0.25}


def test_a_stage_that_depends_on_folds_is_no_start_before_models_json_lists_its_models(work, staged, backbone):
    (staged(work, "probed", {"0": "model"}) / "models.json").unlink()
    with pytest.raises(ValueError, match=r"start='probed': .*probed has no model: name a run of 2_pret"):
        find_starts(work, "probed", backbone, [0])


def test_the_backbone_of_a_trained_model_is_made_for_a_stage_to_begin_from(work, trained, pretrained, backbone, same):
    run = trained(work, "base")
    begin = make_backbone(find_starts(work, "base", backbone, [1])[1], work / "on" / "part1")
    assert begin == str(work / "on" / "part1" / "start")
    assert same(load_backbone(begin).state_dict(), encoder(run / "fold1" / "model"))
    model = str(pretrained(work) / "model")  # of a stage, with its head
    assert make_backbone({model: 1.0}, work / "on" / "part0") == model and not (work / "on" / "part0").exists()


def test_the_vocabulary_is_that_of_the_models_to_begin_from(work, pretrained, backbone):
    model = str(pretrained(work) / "model")
    assert find_vocabulary(find_starts(work, "mlm", backbone, [0, 1]), backbone) == model
    assert find_vocabulary({}, backbone) == backbone


def test_a_scorer_is_a_trained_run_with_our_folds_and_backbone(work, place, trained, pretrained, backbone):
    elsewhere = place("news", "theirs")
    trained(work, "base")
    assert find_scorer(work, "base", backbone).by_fold
    trained(elsewhere, "base"), pretrained(work), trained(work, "alien", backbone="roberta")
    none = "is no run of 3_train with the folds of"
    for name, words in (("runs/news/base", none), ("mlm", none), ("alien", "was made from the backbone 'roberta'")):
        with pytest.raises(ValueError, match=f"scorer='{name}' {words}"):
            find_scorer(work, name, backbone)


def test_a_stage_is_not_averaged_with_trained_runs(work, staged):
    staged(work, "probed", {"0": "model"})
    with pytest.raises(ValueError, match="soup_of='probed' is a run of 2_pretrain: name one of 3_train"):
        read_sources(work, ["probed"], "soup_of")
