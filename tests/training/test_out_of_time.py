"""Training that ends with its hours goes on later as if it had never stopped."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerCallback

from kagglekit.files import hash_files, read_json
from kagglekit.learners.choose import choose_learner
from kagglekit.model.backbones import load_tokenizer
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import pretrain
from kagglekit.running.arguments import fold
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.tables import write_folds
from kagglekit.time_budget import STARTED, OutOfTime, TimeBudget, unfinished
from kagglekit.training.callbacks import StopInTime, last_checkpoint
from kagglekit.training.early_stopping import KeepBest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FOLDS = np.arange(24) % 3
SMALL = {"max_length": 12, "epochs": 1.0, "batch_size": 4, "dropout": 0.1}


@pytest.fixture
def in_short_kernels(over_after):
    """in_short_kernels(train, questions): what `train(budget)` gives when each kernel may ask so often, and how often
    it was stopped before."""

    def run(train, questions):
        for stops in range(30):
            try:
                return train(over_after(questions)), stops
            except OutOfTime as stop:
                assert "the same command goes on" in str(stop)
        raise AssertionError("it never comes to its end")

    return run


def test_without_a_limit_and_at_the_last_step_it_does_not_stop(over_after, trainer, monkeypatch, tmp_path):
    monkeypatch.setenv(STARTED, "1")
    run = trainer(callbacks=[StopInTime(TimeBudget(), "fold 0")])
    run.fit()
    trainer(folder="last", callbacks=[StopInTime(over_after(run.state.max_steps), "fold 0")]).fit()
    assert not last_checkpoint(tmp_path / "last")
    with pytest.raises(OutOfTime, match="of 1 hours no time is left for fold 0"):
        trainer(folder="none", callbacks=[StopInTime(TimeBudget(1.0), "fold 0")]).fit()
    assert not last_checkpoint(tmp_path / "none")


def test_training_that_ends_for_want_of_a_better_score_in_that_step_has_ended(over_after, trainer, tmp_path):
    options = {"evaluation": lambda model: {"score": 0.5}, "evaluate_every": 1}
    callbacks = [StopInTime(over_after(3), "fold 0")]
    run = trainer([KeepBest(patience=2)], callbacks=callbacks, **options)
    assert run.fit()["KeepBest"]["best step"] == 1 and run.state.global_step == 3
    assert not last_checkpoint(tmp_path / "run")


def test_a_checkpoint_of_the_clock_is_no_end(over_after, trainer):
    class Late(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = True

    run = trainer(callbacks=[Late(), StopInTime(over_after(99), "fold 0")])
    run.fit()
    assert run.state.global_step == run.state.max_steps


@pytest.fixture
def place(tmp_path, task, tables):
    """A work folder with a task of 24 rows in three folds."""
    what = task("multiclass")
    train, test = tables(what)
    made = {"train": train, "test": test, "sample_submission": test[["id"]].assign(label="bad")}
    for name, table in made.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    files = {name: f"{name}.csv" for name in made}
    print_of = hash_files([tmp_path / file for file in files.values()])
    replace(what, data=str(tmp_path), files=files, fingerprint=print_of).save(tmp_path / "work")
    write_folds(tmp_path / "work", [str(n) for n in range(24)], FOLDS)
    return tmp_path / "work"


@pytest.fixture
def notebook(backbone, place, monkeypatch):
    """notebook(name, **parameters): the cells of a notebook, one after the other, up to `last`; what they leave."""
    monkeypatch.chdir(place.parent)
    monkeypatch.setenv("KAGGLEKIT_PROGRESS", str(place / "progress.json"))

    def run(name, last=None, **parameters):
        file, left = NOTEBOOKS / f"{name}.ipynb", {}
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        given = fold(read_parameters(file), {"work": str(place), "backbone": backbone, **parameters})
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), left)
            if "parameters" in cell["metadata"].get("tags", []):
                left |= given
            if cell["id"] == last:
                break
        return left

    return run


@pytest.mark.parametrize(
    "parameters",
    [
        {"keep_best": True},
        {"distill": {"by": "nested"}},
        {"pseudo": {"threshold": 0.0}},
    ],
    ids=["plain", "nested teachers", "pseudo labels"],
)
def test_a_fold_in_many_short_kernels_is_that_of_one(in_short_kernels, notebook, place, parameters):
    given = notebook("3_train", last="task", **SMALL, **parameters)
    read = [given[name] for name in ("task", "train", "test", "table")]
    ours, held_out = np.flatnonzero(FOLDS != 0), np.flatnonzero(FOLDS == 0)

    def train(folder, budget):
        choice = choose_learner(given["options"], given["knobs"], *read, [0])
        choice.tuner.budget = budget
        return choice.learner.fit(ours, held_out, folder / "fold0", 7)

    straight = train(place / "straight", TimeBudget())
    stopped, stops = in_short_kernels(lambda budget: train(place / "stopped", budget), 2)
    assert stops >= (1 if "keep_best" in parameters else 3)
    assert np.array_equal(straight.oof, stopped.oof) and np.array_equal(straight.test, stopped.test)
    assert straight.history == stopped.history and straight.receipts == stopped.receipts
    models = [place / name / "fold0" / "model" / "model.safetensors" for name in ("straight", "stopped")]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert not list((place / "stopped").rglob("checkpoint-*"))


def test_a_stage_of_pretraining_in_many_short_kernels_is_that_of_one(in_short_kernels, backbone, tmp_path):
    texts = [f"the {a} film was {b} !" for a in ("good", "old", "new", "fun", "sad") for b in ("good", "bad", "poor")]
    stage = Stage(steps=9, max_length=16, batch_size=4, learning_rate=1e-2, held_out=0.2, pack=False, dropout=0.1)
    made = [backbone, load_tokenizer(backbone), texts]
    straight = pretrain(stage, *made, tmp_path / "straight")
    stopped, stops = in_short_kernels(lambda budget: pretrain(stage, *made, tmp_path / "stopped", budget=budget), 4)
    assert stops == 2 and stopped == straight
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("straight", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_when_the_hours_are_over_3_train_ends_well_and_the_same_command_goes_on(notebook, place, monkeypatch, capsys):
    recipe = {"run": "base", "hours": 2.0, **SMALL}
    monkeypatch.setenv(STARTED, str(time.time()))
    assert notebook("3_train", folds=[1], **recipe)["record"].folds.keys() == {*[1]}
    monkeypatch.setenv(STARTED, str(time.time() - 7200))
    left = notebook("3_train", folds=[1, 2], **recipe)
    assert left["record"].folds.keys() == {*[1]} and left["scores"]["folds"].keys() == {1}
    assert unfinished(place / "base").keys() == {"fold2"} and "written: " in capsys.readouterr().out
    baseline = {"run": "other", "backbone": "tfidf", "hours": 2.0}
    other = notebook("3_train", **baseline)
    assert other["record"].folds.keys() == {*[]} and unfinished(place / "other").keys() == {"fold0", "fold1", "fold2"}
    printed = capsys.readouterr().out
    assert (
        "of 2 hours no time is left for fold 1" in printed
        and "no fold is finished, so there is no score yet" in printed
    )
    monkeypatch.setenv(STARTED, str(time.time()))
    assert notebook("3_train", **baseline)["record"].folds.keys() == {*[0, 1, 2]}
    assert notebook("3_train", folds=[2], **recipe)["record"].folds.keys() == {*[1, 2]}
    assert unfinished(place / "base") == unfinished(place / "other") == {}


def test_when_the_hours_are_over_2_pretrain_ends_well_and_the_same_command_goes_on(
    notebook, place, monkeypatch, capsys
):
    recipe = {"run": "mlm", "hours": 2.0, "max_length": 16, "steps": 3, "batch_size": 4, "pack": False}
    monkeypatch.setenv(STARTED, str(time.time() - 7200))
    assert notebook("2_pretrain", **recipe)["results"] == {}
    assert unfinished(place / "mlm").keys() == {""} and "mlm: nothing is finished yet" in capsys.readouterr().out
    monkeypatch.setenv(STARTED, str(time.time()))
    (result,) = notebook("2_pretrain", **recipe)["results"].values()
    assert result.history[-1]["step"] == 3 and unfinished(place / "mlm") == {}
    monkeypatch.setenv(STARTED, str(time.time() - 7200))
    assert list(notebook("2_pretrain", **recipe)["results"]) == [""]  # what is done is read, whatever the time
    assert read_json(place / "mlm" / "pretraining.json")["steps"] == {"overall": 3}
