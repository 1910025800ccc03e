"""A fold that starts from another run, plans and trials of rates; and what is an error before anything is trained."""

import random
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.training.conftest import AT_EMBEDDINGS, AUXILIARY, EVERYTHING, TRAIN, VALID, fit_and_load

SOFT = [f"votes {name}" for name in ("bad", "mixed", "good")]


@pytest.fixture
def tuner(feature_tuner):
    """tuner(kind, **knobs): see `feature_tuner`."""
    return feature_tuner


# What is an error before anything is trained


@pytest.mark.parametrize(
    ("kind", "knobs", "words"),
    [
        ("multiclass", {"auxiliary": {"nowhere": 1.0}}, "auxiliary: train has no column 'nowhere'"),
        ("multiclass", {"auxiliary": {"label": 1.0}}, "column 'label' is the id, a label or part of the text"),
        ("multiclass", {"soft_targets": SOFT[:2]}, "soft_targets: 2 columns for 3 classes"),
        ("multiclass", {"features": {"numbers": ["place"]}}, "train.csv: column 'place' holds 'a' in data row 1"),
        ("multiclass", {"features": {"numbers": ["price"]}}, "test.csv has no column 'price'"),
        ("multiclass", {"features": {"categories": ["label"]}}, "column 'label' is a label"),
        ("multiclass", {"features": {"vectors": "nowhere.csv"}}, "nowhere.csv does not exist"),
        ("multiclass", {"features": {"word_vectors": "nowhere.txt"}}, "nowhere.txt does not exist"),
        ("multiclass", {"learned_weights": True}, "learned_weights are of several targets"),
        ("multiclass", {"loss": {"corn": {}}}, "loss='corn' does not fit kind='multiclass'"),
        ("multiclass", {"loss": {"focal": {"class_weights": [1.0, 2.0]}}}, "a list of 3 numbers"),
        ("multilabel", {"loss": {"bce": {"pos_weight": [1.0]}}, "learned_weights": True}, "a list of 2 numbers"),
        ("multiclass", {"chunks": 2, "max_length": 6, "chunk_stride": 5}, "stride=5 is out of range"),
        ("multiclass", {"max_length": 41}, "max_length=41 is out of range"),
    ],
)
def test_what_does_not_fit_is_an_error_when_the_fine_tuner_is_made(tuner, kind, knobs, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        tuner(kind, **knobs)


def test_ids_that_are_in_train_and_in_test_need_a_file_each(tuner, tmp_path):
    pd.read_csv("vectors.csv").iloc[:7].to_csv("test_vectors.csv", index=False)
    fine = tuner()
    test = fine.test.assign(id=fine.train["id"][:7])
    make = partial(FineTuner, fine.task, fine.train, test, fine.backbone)
    with pytest.raises(ValueError, match="name a file for each of them"):
        make(Recipe(max_length=24, features={"vectors": "vectors.csv"}))
    both = make(Recipe(max_length=24, features={"vectors": "vectors.csv", "test_vectors": "test_vectors.csv"}))
    assert np.array_equal(both.rows.vectors[:7], both.test_rows.vectors)


def test_test_vectors_of_another_width_are_an_error_before_training(tuner, tmp_path):
    pd.read_csv("vectors.csv").drop(columns="z").to_csv("narrow.csv", index=False)
    fine = tuner(features={"vectors": "vectors.csv", "test_vectors": "narrow.csv"})
    with pytest.raises(ValueError, match="the vectors have 2 numbers, those of train 3"):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert not (tmp_path / "fold0").exists()


@pytest.mark.parametrize(
    ("name", "knobs", "words"),
    [
        ("bert", {"reinit_layers": 3}, "reinit_layers=3 is out of range: it must be from 0 to 2, the layers of this"),
        ("bert", {"freeze_layers": 3}, "freeze_layers=3 is out of range: it must be from 0 to 2"),
        ("distilbert", {"pooling": "pooler"}, "DistilBertModel has no pooler of its own"),
    ],
)
def test_what_a_backbone_lacks_is_an_error_before_training(tuner, tmp_path, backbones, name, knobs, words):
    fine = tuner(folder=backbones[name], **knobs)
    with pytest.raises(ValueError, match=words):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert not (tmp_path / "fold0").exists()


# A start from another run


def still(tuner, **knobs):
    """A FineTuner that leaves the weights as they are."""
    return tuner(learning_rate=1e-12, weight_decay=0.0, **knobs)


def alike(model, other, weights):
    ours, theirs = weights(model), weights(other)
    return ours.keys() == theirs.keys() and all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_a_fold_starts_from_the_model_of_another_run(tuner, tmp_path, weights, pooling):
    tuner(pooling=pooling, head="queries", features=AT_EMBEDDINGS).fit(TRAIN, VALID, tmp_path / "first", 0)
    fit_and_load(still(tuner), tmp_path, start=str(tmp_path / "first" / "model"))
    ours, theirs = (Classifier.load(tmp_path / name / "model").backbone for name in ("fold0", "first"))
    assert alike(ours, theirs, weights) and not alike(ours, load_backbone(still(tuner).backbone), weights)


def test_a_fold_starts_from_a_folder_of_transformers(tuner, tmp_path, backbone, weights):
    other = load_backbone(backbone)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    other.save_pretrained(tmp_path / "other")
    fit_and_load(still(tuner), tmp_path, start=str(tmp_path / "other"))
    assert alike(Classifier.load(tmp_path / "fold0" / "model").backbone, other, weights)


def test_a_start_from_the_backbone_itself_is_no_start_bit_for_bit(tuner, tmp_path, backbone):
    fine = tuner(dropout=0.1, reinit_layers=1)
    fits = [fine.fit(TRAIN, VALID, tmp_path / str(n), 0, start) for n, start in enumerate((None, backbone))]
    assert np.array_equal(fits[0].test, fits[1].test) and fits[0].history == fits[1].history


# Plans and trials


def random_states():
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


@pytest.mark.parametrize("schedule", ["linear", "cosine_warm_restarts"])
def test_a_plan_has_the_rates_of_training_and_leaves_no_trace(tuner, tmp_path, schedule):
    cycles = 2 if schedule == "cosine_warm_restarts" else 1
    knobs = {"epochs": 2.5, "warmup": 0.3, "reinit_layers": 1, "schedule": schedule, "cycles": cycles}
    fine = tuner(accumulation=2, head_learning_rate=1e-2, cycle_growth=cycles, **knobs)
    before = random_states()
    plan = fine.plan_rates(TRAIN)
    assert random_states() == before
    fitted = fit_and_load(fine, tmp_path)
    assert plan.columns.tolist() == list(fitted.receipts["learning rates"])
    assert len(plan) == fitted.history[-1]["step"] == 5
    used = [row["learning_rate"] for row in fitted.history if "learning_rate" in row]
    assert used == pytest.approx(plan["embeddings"].tolist())


def test_weights_of_losses_are_not_in_the_plan(tuner):
    plan = tuner(auxiliary=AUXILIARY, learned_weights=True).plan_rates(TRAIN)
    assert set(plan.columns) == {"embeddings", "layer 1", "layer 2", "head"}


def test_a_trial_of_rates_leaves_no_trace(tuner, tmp_path):
    fine = tuner(dropout=0.1, features=EVERYTHING, auxiliary=AUXILIARY, learned_weights=True)
    plain = fine.fit(TRAIN, VALID, tmp_path / "one", 0)
    before = random_states()
    table = fine.find_learning_rate(TRAIN, seed=0)
    assert random_states() == before and len(table) > 10 and np.isfinite(table["loss"]).all()
    assert table.equals(fine.find_learning_rate(TRAIN, seed=0))
    again = fine.fit(TRAIN, VALID, tmp_path / "two", 0)
    assert np.array_equal(again.test, plain.test) and again.history == plain.history
