"""Trackers get what is logged, a run for each fold, and change nothing."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from transformers.integrations import integration_utils

from kagglekit.runs import tracking
from kagglekit.runs.tracking import TRACKERS, check_tracker, report_callbacks

TRAIN, VALID = np.arange(6, 24), np.arange(6)


def test_transformers_has_the_trackers():
    assert TRACKERS.keys() <= integration_utils.INTEGRATION_TO_CALLBACK.keys()


def test_tensorboard_gets_losses_and_scores_of_each_fold_and_the_model_stays_the_same(
    tuner, tmp_path, monkeypatch, capsys
):
    written = {}

    class SummaryWriter:
        def __init__(self, log_dir):
            self.rows = written.setdefault(log_dir, [])

        def add_scalar(self, name, value, step):
            self.rows.append((name, step, value))

        def add_text(self, *given):
            pass

        flush = close = lambda self: None

    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(SummaryWriter=SummaryWriter))
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    tracking._tell.cache_clear()
    run, fitted = tmp_path / "bbc" / "base", {}
    run.mkdir(parents=True)
    (run / "params.json").write_text("{}")
    for place, report_to in ((run / "fold0", "tensorboard"), (run / "fold1", "tensorboard"), (tmp_path / "plain", "")):
        fine = tuner()
        fine.report_to = report_to
        fitted[place.name] = fine.fit(TRAIN, VALID, place, seed=0)
    assert list(written) == [str(run / "fold0" / "tensorboard"), str(run / "fold1" / "tensorboard")]
    rows, plain = next(iter(written.values())), fitted["plain"]
    assert [(step, value) for name, step, value in rows if name == "train/loss"] == [
        (row["step"], row["loss"]) for row in plain.history if "loss" in row
    ]
    assert [value for name, _, value in rows if name == "eval/score"] == [plain.history[-1]["score"]]
    assert np.array_equal(fitted["fold0"].oof, plain.oof) and np.array_equal(fitted["fold0"].test, plain.test)
    assert capsys.readouterr().out.count(f"tensorboard: tensorboard --logdir {run}\n") == 1


def test_a_run_of_wandb_ends_with_its_training_and_is_named_by_its_folder(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: ended.append("wandb")))
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    monkeypatch.setattr("transformers.integrations.get_reporting_integration_callbacks", lambda names: [lambda: names])
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "bbc" / "base").mkdir(parents=True)
    (tmp_path / "bbc" / "base" / "params.json").write_text("{}")
    arguments = SimpleNamespace()
    first, last = report_callbacks("wandb", arguments, tmp_path / "bbc" / "base" / "fold0" / "round1")
    assert first == ["wandb"] and (arguments.project, arguments.run_name) == ("bbc", "bbc/base/fold0/round1")
    last.on_train_end(None, None, None)
    assert ended == ["wandb"]


def test_a_tracker_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for name, (packages, _) in TRACKERS.items():
        with pytest.raises(ModuleNotFoundError, match=f"report_to='{name}' .*: pip install {packages[0]}$"):
            check_tracker(name)
    check_tracker("")
