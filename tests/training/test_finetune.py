import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kagglekit.data.batches import Examples
from kagglekit.device import choose_precision
from kagglekit.model.classifier import Classifier
from kagglekit.scoring.metrics import score
from kagglekit.training.predict import predict
from kagglekit.training.trainer import Trainer
from kagglekit.tricks.trick import Trick

TWO_TARGETS = {"labels": ["x", "y"], "metric": "mcrmse"}
KINDS = {  # name -> kind, options of the task, columns of its predictions
    "binary": ("binary", {}, 2),
    "multiclass": ("multiclass", {}, 3),
    "multilabel": ("multilabel", {}, 2),
    "regression": ("regression", {}, 1),
    "two regressions": ("regression", TWO_TARGETS, 2),
    "ordinal": ("ordinal", {}, 1),
}
TRAIN, VALID = np.arange(6, 24), np.arange(6)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_end_to_end_and_the_saved_model_predicts_alike(tuner, tmp_path, name):
    kind, options, columns = KINDS[name]
    fine = tuner(kind, options, epochs=2, tricks={"EMA": {"decay": 0.5}})
    fitted = fine.fit(TRAIN, VALID, tmp_path / "fold0", seed=0)
    assert fitted.oof.shape == (6, columns) and fitted.test.shape == (7, columns)
    assert fitted.oof.dtype == fitted.test.dtype == np.float32
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    if kind in ("binary", "multiclass"):
        assert np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)
    assert [row["step"] for row in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in fitted.history if "score" in row] == [3, 6]
    assert np.isfinite([row["loss"] for row in fitted.history]).all()
    assert fitted.history[-1]["score"] == score(fine.task.metric, fine.labels[VALID], fitted.oof)
    assert sorted(path.name for path in (tmp_path / "fold0").iterdir()) == ["model"]
    model = Classifier.load(tmp_path / "fold0" / "model")
    assert np.allclose(predict(model, Examples(fine.test_rows.tokens, 0), "fp32"), fitted.test, rtol=1e-5, atol=1e-5)
    oof = predict(model, Examples(fine.rows.tokens[VALID], 0), "fp32")
    assert np.allclose(oof, fitted.oof, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["regression", "two regressions", "ordinal"])
def test_predictions_come_in_the_units_of_the_target(tuner, tmp_path, name):
    kind, options, columns = KINDS[name]
    fine = tuner(kind, options, rows=60)
    targets = fine.labels[12:].reshape(48, -1)
    fitted = fine.fit(np.arange(12, 60), np.arange(12), tmp_path / "fold0", seed=0)
    assert (np.abs(fitted.oof.mean(axis=0) - targets.mean(axis=0)) < 1.5 * targets.std(axis=0)).all()
    model = Classifier.load(tmp_path / "fold0" / "model")
    assert np.allclose(model.center, targets.mean(axis=0)) and np.allclose(model.scale, targets.std(axis=0))
    assert model.center.shape == (columns,)


def test_a_target_that_never_changes_is_learned_exactly(tuner, tmp_path):
    fine = tuner("regression", epochs=2)
    fine.labels[:] = 7.0
    assert np.allclose(fine.fit(TRAIN, VALID, tmp_path / "fold0", 0).oof, 7.0, atol=1e-4)


def test_it_learns(tuner, tmp_path):
    fine = tuner("binary", rows=300, epochs=6, batch_size=16, learning_rate=1e-2)
    fitted = fine.fit(np.arange(60, 300), np.arange(60), tmp_path / "fold0", 0)
    assert fitted.history[-1]["score"] > 0.85  # ROC AUC


@pytest.mark.parametrize("epochs", [0.4, 1.5])
def test_a_fraction_of_an_epoch_ends_with_predictions_of_its_last_step(tuner, tmp_path, epochs):
    fine = tuner(epochs=epochs)
    fitted = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    oof = predict(Classifier.load(tmp_path / "fold0" / "model"), Examples(fine.rows.tokens[VALID], 0), "fp32")
    assert np.allclose(oof, fitted.oof, atol=1e-5)


def test_folds_and_seeds_differ_and_the_same_ones_do_not(tuner, tmp_path):
    fine = tuner(dropout=0.1)
    fits = [fine.fit(TRAIN, VALID, tmp_path / str(n), seed) for n, seed in enumerate((0, 0, 1))]
    assert np.array_equal(fits[0].test, fits[1].test) and fits[0].history == fits[1].history
    assert not np.allclose(fits[0].test, fits[2].test)


def test_labels_of_the_fold_to_predict_do_not_reach_the_model(tuner, tmp_path):
    first, second = tuner("regression"), tuner("regression")
    second.labels[VALID] += 1000
    fits = [fine.fit(TRAIN, VALID, tmp_path / str(n), 0) for n, fine in enumerate((first, second))]
    assert np.array_equal(fits[0].oof, fits[1].oof) and np.array_equal(fits[0].test, fits[1].test)


def test_receipts_name_what_each_trick_did(tuner, tmp_path):
    tricks = {"FGM": {"epsilon": 0.5}, "RDrop": {}, "EMA": {"decay": 0.9}}
    receipts = tuner(tricks=tricks, dropout=0.1).fit(TRAIN, VALID, tmp_path / "fold0", 0).receipts
    assert list(receipts) == ["learning rates", "precision", "FGM", "RDrop", "EMA"]
    rates = receipts["learning rates"]
    assert rates["embeddings"] < rates["layer 1"] < rates["layer 2"] == rates["head"]
    assert receipts["FGM"]["mean perturbation norm"] == pytest.approx(0.5, rel=1e-4)
    json.dumps(receipts)


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ({"epochs": -1}, "epochs=-1 is out of range: it must be 0 or more"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": 2}, "max_length=2"),
        ({"max_length": 41}, "max_length=41 is out of range: .* reads from 3 to 40 tokens"),
    ],
)
def test_a_knob_out_of_range_is_an_error_before_anything_is_loaded(tuner, knob, words):
    with pytest.raises(ValueError, match=words):
        tuner(**knob)


def test_a_disk_without_room_is_an_error_before_training(tuner, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="free some space, or put work= on another disk"):
        tuner().fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert not (tmp_path / "fold0").exists()


def test_a_stop_after_training_loses_nothing_and_harms_nothing(tuner, tmp_path, monkeypatch):
    """Killed while its checkpoints are being removed, a fold is fitted again with the same result."""
    fine = tuner(save_seconds=0, epochs=2)
    straight = fine.fit(TRAIN, VALID, tmp_path / "straight", 0)

    def killed(folder, **kwargs):
        if Path(folder).name == "checkpoint-5":  # the last one, of 6 steps
            (folder / "model.safetensors").unlink()
            raise KeyboardInterrupt
        return rmtree(folder, **kwargs)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    monkeypatch.undo()
    again = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert np.array_equal(again.oof, straight.oof) and again.history == straight.history


FOLD = """
import json, sys
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from kagglekit.competition.task import Task
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
torch.set_num_threads(1)
work = Path(sys.argv[1])
given = json.loads((work / "given.json").read_text())
tables = [pd.read_json(work / name, dtype=False) for name in ("train.json", "test.json")]
tuner = FineTuner(Task(**given["task"]), *tables, given["backbone"], Recipe(**given["recipe"]))
fitted = tuner.fit(np.arange(20, 80), np.arange(20), work / "fold0", seed=3)
np.savez(work / "predictions.npz", oof=fitted.oof, test=fitted.test)
(work / "rest.json").write_text(json.dumps([fitted.history, fitted.receipts]))
assert "nbformat" not in sys.modules  # training needs no library of notebooks
"""


def test_a_fold_killed_in_the_middle_goes_on_in_another_process_as_if_it_had_never_been(tuner, tmp_path):
    tricks = {"FGM": {"epsilon": 0.5}, "RDrop": {"alpha": 2.0, "start": 0.1}, "EMA": {"decay": 0.9, "start": 0.2}}
    knobs = {"dropout": 0.1, "tricks": tricks, "epochs": 4, "batch_size": 4, "learning_rate": 1e-3}
    fine = tuner(rows=80, save_seconds=0.0, **knobs)
    fine.precision = choose_precision()  # as in the other process
    fine.train.to_json(tmp_path / "train.json")
    fine.test.to_json(tmp_path / "test.json")
    given = {"task": asdict(fine.task), "backbone": fine.backbone, "recipe": fine.recipe.as_dict()}
    (tmp_path / "given.json").write_text(json.dumps(given))
    how = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")  # which need not import again
    fold = how.Process(target=fine.fit, args=(np.arange(20, 80), np.arange(20), tmp_path / "fold0", 3), daemon=True)
    fold.start()
    deadline, checkpoints = time.monotonic() + 120, tmp_path / "fold0" / "checkpoints"
    while not any(int(file.parent.name.split("-")[1]) >= 17 for file in checkpoints.glob("checkpoint-*/complete")):
        assert fold.is_alive() and time.monotonic() < deadline
        time.sleep(0.005)
    fold.kill()
    fold.join()
    assert fold.exitcode == -signal.SIGKILL
    done = max(int(folder.name.split("-")[1]) for folder in checkpoints.glob("checkpoint-*"))
    assert 17 <= done < 60 and not (tmp_path / "fold0" / "model").exists()  # EMA and all others are at work

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", FOLD, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    straight = fine.fit(np.arange(20, 80), np.arange(20), tmp_path / "straight", seed=3)
    history, receipts = json.loads((tmp_path / "rest.json").read_text())
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert np.array_equal(predictions["oof"], straight.oof) and np.array_equal(predictions["test"], straight.test)
    assert history == straight.history and receipts == straight.receipts
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("fold0", "straight"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not checkpoints.exists()


def test_the_trainer_is_given_what_the_knobs_say(tuner, tmp_path, monkeypatch):
    seen = {}

    class Watched(Trainer):
        def fit(self):
            seen.update(args=self.args, groups=[dict(group) for group in self.optimizer.param_groups])
            return super().fit()

    monkeypatch.setattr("kagglekit.training.finetune.Trainer", Watched)
    knobs = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "layer_decay": 0.5, "weight_decay": 0.1}
    tuner(**knobs, accumulation=2, schedule="cosine").fit(TRAIN, VALID, tmp_path / "fold0", 0)
    rates = {group["name"]: group["lr"] for group in seen["groups"]}
    assert rates == pytest.approx({"embeddings": 2.5e-4, "layer 1": 5e-4, "layer 2": 1e-3, "head": 1e-2})
    assert seen["args"].gradient_accumulation_steps == 2 and seen["args"].lr_scheduler_type == "cosine"
    assert {group["weight_decay"] for group in seen["groups"]} == {0.0, 0.1}


class KilledAt(Trick):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "knobs", [{}, {"tuning": "lora"}, {"features": {"numbers": ["number"]}, "learning_rate": 1e-3}]
)
def test_a_run_goes_on_at_the_rates_that_it_began_with(tuner, tmp_path, monkeypatch, capsys, knobs):
    """Rates that no knob names were others when the run began, in an earlier version."""

    def rates_are(suggested, features):
        monkeypatch.setattr("kagglekit.training.finetune.suggest_learning_rate", lambda *_: suggested)
        monkeypatch.setattr("kagglekit.training.learning_rates.FEATURES_RATE", features)

    made, now, killed = (tuner(**{"epochs": 2, "learning_rate": None} | knobs) for _ in range(3))
    killed.save_seconds = 0.0
    for run in ("straight", "run"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "params.json").write_text('{"receipts": {}}')
    rates_are(2e-3, 5e-3)
    plain = made.fit(TRAIN, VALID, tmp_path / "straight" / "fold0", 0)
    other = made.fit(VALID, TRAIN, tmp_path / "straight" / "fold1", 0)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(TRAIN, VALID, tmp_path / "run" / "fold0", 0, tricks=[KilledAt()])
    rates_are(1e-2, 2e-2)
    capsys.readouterr()
    found = now.fit(TRAIN, VALID, tmp_path / "run" / "fold0", 0)
    assert "fold 0 goes on at the learning rates that it began with, 0.00" in capsys.readouterr().out
    assert found.history == plain.history and found.receipts == plain.receipts and np.array_equal(found.oof, plain.oof)
    (tmp_path / "run" / "params.json").write_text(json.dumps({"receipts": {"0": found.receipts}}))
    planned = now.plan_rates(TRAIN, tmp_path / "run" / "fold1").max().to_dict()
    assert planned == {name: pytest.approx(rate, rel=1e-6) for name, rate in plain.receipts["learning rates"].items()}
    assert "this run goes on at the learning rates that it began with, 0.00" in capsys.readouterr().out
    assert now.fit(VALID, TRAIN, tmp_path / "run" / "fold1", 0).receipts == other.receipts
    assert now.fit(VALID, TRAIN, tmp_path / "new" / "fold1", 0).receipts != other.receipts
    assert "goes on" not in capsys.readouterr().out
