"""A stopped run goes on as if it had never been stopped: tricks together (tests/tricks/test_battery.py has each alone).

tests/training/test_finetune.py does it with a real kill.
"""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from kagglekit.training.callbacks import last_checkpoint, remove_checkpoints
from kagglekit.training.early_stopping import KeepBest
from kagglekit.training.learning_rates import adamw
from kagglekit.training.recipe import SCHEDULES
from kagglekit.training.trainer import history
from kagglekit.tricks import EMA, FGM, SWA, TRICKS, make_tricks

OPTIONS = {  # of every trick; each begins at the fourth of 12 steps
    **{name: {} for name in TRICKS},
    "FreeLB": {"steps": 2},
    "PGD": {"steps": 1},  # passes of all that attack multiply
    "SWA": {"rate": 0.5, "cycle": 2},
}
ALL = {name: {**options, "start": 0.25} for name, options in OPTIONS.items()}
SOME = {"FGM": {"epsilon": 0.5}, "RDrop": {"alpha": 2.0, "start": 0.3}, "EMA": {"decay": 0.8, "start": 0.5}}
HOURS = {"FGM": {}, "EMA": {"decay": 0.9}}
CASES = {  # name -> recipe of tricks; stops, before a trick begins and later; how it is trained and evaluated
    "plain": ({}, [1, 6, 8], {"evaluate_every": 3}),
    "some": (SOME, [1, 6, 8], {"evaluate_every": 3}),
    "all": (ALL, [8], {"evaluate_every": 3}),
    "all, accumulated": (ALL | {"SWA": {"start": 0.25}}, [3], {"evaluate_every": 1, "accumulation": 2}),
    "all, accumulated, bf16": (
        ALL | {"SWA": {"start": 0.25}},
        [3],
        {"evaluate_every": 1, "accumulation": 4, "precision": "bf16"},
    ),
    "some, accumulated, bf16": (SOME, [3], {"accumulation": 2, "precision": "bf16"}),
    "stopped twice": ({"EMA": {"decay": 0.9}}, [(4, 7)], {}),
    "hours, between logged steps": (HOURS, [3, 10], {"hours": True, "log_every": 5, "evaluate_every": 3}),
    "hours, accumulated, bf16": (
        HOURS,
        [3, 4],
        {"hours": True, "log_every": 5, "evaluate_every": 3, "accumulation": 2, "precision": "bf16"},
    ),
    "hours, at every step": ({}, [(1, 2, 3, 4, 5)], {"hours": True, "epochs": 1, "log_every": 5}),
}


class StopAt(TrainerCallback):
    """Stop at a step without saving there."""

    def __init__(self, at):
        self.at = at

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.at


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_is_never_stopped(alike, case):
    recipe, stops, options = CASES[case]
    alike(lambda: make_tricks(recipe), stops, **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_goes_on_where_it_was_also_with_rates_of_swa_and_patience(alike, schedule, logged):
    cycles = {"schedule": schedule, "cycles": 2, "cycle_growth": 2}
    straight, _ = alike(list, [1, 8], **cycles)  # in the rise, and in the second cycle
    rates = logged(straight, "learning_rate")
    straight, receipts = alike(lambda: [SWA(0.5, 2, start=0.4), KeepBest(patience=4)], [6], evaluate_every=1, **cycles)
    ours = logged(straight, "learning_rate")
    assert ours[:5] == rates[:5] and ours[5] != rates[5]
    assert 0 < receipts["KeepBest"]["best step"] <= straight.state.global_step


def test_a_checkpoint_holds_the_live_weights_and_the_average(trainer, tmp_path):
    ema = EMA(0.9, start=0)
    stopped = trainer([FGM(), ema], stop=5)
    stopped.train()
    folder = last_checkpoint(tmp_path / "run")
    live, average = load_file(folder / "model.safetensors"), load_file(folder / "trick-1.safetensors")
    assert folder.name == "checkpoint-5" and average["steps_"] == 5
    assert all(torch.equal(live[name], tensor) for name, tensor in stopped.model.named_parameters())
    assert all(torch.equal(average[f"average_.{i}"], tensor) for i, tensor in enumerate(ema.average_))


def test_an_incomplete_newest_checkpoint_is_ignored(trainer, tmp_path, weights, same):
    straight = trainer([FGM()], "straight", dropout=0.1)
    straight.fit()
    trainer([FGM()], dropout=0.1, stop=4).train()
    newest = tmp_path / "run" / "checkpoint-9"
    newest.mkdir()
    (newest / "optimizer.pt").write_bytes(b"half")
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-4"
    resumed = trainer([FGM()], dropout=0.1)
    resumed.fit()
    assert same(weights(straight.model), weights(resumed.model))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "trainer_state.json", "complete"])
def test_a_damaged_newest_checkpoint_is_ignored_and_named(trainer, tmp_path, file, capsys):
    trainer(stop=4).train()
    shutil.copytree(tmp_path / "run" / "checkpoint-4", tmp_path / "run" / "checkpoint-6")
    damaged = tmp_path / "run" / "checkpoint-6" / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-4"
    assert capsys.readouterr().out.endswith("/checkpoint-6 is damaged, and is not used\n")
    (damaged.parent / "complete").write_bytes(b"")  # by version 0.2
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-6"


def one_group(made):
    made.optimizer = adamw([{"params": [*made.model.parameters()], "lr": 0.1, "name": "head"}])


def turned(made):
    groups = [{**group, "params": group["params"][::-1]} for group in made.optimizer.param_groups]
    made.optimizer = adamw(groups)


def other_model(made):
    made.model.more = torch.nn.Linear(2, 2)


def fewer_rows(made):
    made.train_dataset.tokens = made.train_dataset.tokens[np.arange(21)]


@pytest.mark.parametrize(
    ("options", "other", "why"),
    [
        ({}, one_group, "head had 39 parameters in 1 groups, and has 2 in 8"),
        ({}, turned, "a parameter had the shape (2, 16), and has (30, 16)"),
        ({}, fewer_rows, "it learned from 21 rows, and now there are 24"),
        ({"epochs": 3}, None, "it was to take 18 steps, and now there are 12"),
        ({"tricks": [EMA()]}, None, "trick-1.safetensors does not exist"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_in_words_and_stays(trainer, tmp_path, options, other, why):
    old = trainer(**{"folder": "fold2/checkpoints", "stop": 4, **options})
    if other:
        other(old)
    old.train()
    with pytest.raises(ValueError, match=r"^fold 2 cannot go on from its checkpoint, which is of another ") as error:
        trainer([FGM(), EMA()] if "tricks" in options else [], folder="fold2/checkpoints").fit()
    assert why in str(error.value)
    assert str(error.value).endswith(f": delete {tmp_path}/fold2/checkpoints to begin it again, or name another run=")
    assert last_checkpoint(tmp_path / "fold2" / "checkpoints").name == "checkpoint-4"


def test_a_training_that_goes_on_knows_in_which_precisions_it_was(trainer):
    trainer(stop=4, precision="bf16").train()
    resumed = trainer(stop=8)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.precisions_ == ["bf16", "fp32"]
    again = trainer(precision="bf16")
    again.fit()
    assert again.precisions_ == ["fp32", "bf16"]


def test_what_a_kill_left_never_takes_the_place_of_a_whole_checkpoint(trainer, tmp_path):
    trainer(stop=4).train()
    for number in (2, 9):  # one that was being removed and one that was being written
        (tmp_path / "run" / f"checkpoint-{number}").mkdir()
    trainer(stop=6).train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "run")))
    assert [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-6"]
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-6"


def test_a_run_without_a_complete_checkpoint_begins_anew(trainer, tmp_path, weights, same):
    straight = trainer(folder="straight")
    straight.fit()
    trainer(stop=4).train()
    (tmp_path / "run" / "checkpoint-4" / "complete").unlink()
    fresh = trainer()
    fresh.fit()
    assert len(history(fresh.state.log_history)) == 12
    assert same(weights(straight.model), weights(fresh.model))


def test_one_checkpoint_is_kept_and_the_last_step_needs_none(trainer, tmp_path):
    trainer(save_seconds=0).fit()
    assert [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-11"]


def test_the_checkpoint_before_stays_until_the_next_is_whole(trainer, tmp_path, monkeypatch):
    trainer(stop=4).train()

    def full(*args, **kwargs):
        raise OSError("full")

    monkeypatch.setattr("kagglekit.training.callbacks.save_file", full)
    with pytest.raises(OSError, match="full"):
        trainer([FGM()], stop=6).train()
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-4"


def test_nothing_is_saved_before_its_time(trainer, tmp_path):
    trainer(save_seconds=1000).fit()
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_checkpoints_are_saved_at_logged_steps_so_that_the_history_is_the_same(trainer):
    straight = trainer(folder="straight", log_every=5)
    straight.fit()
    trainer(log_every=5, save_seconds=0, callbacks=[StopAt(7)]).train()
    resumed = trainer(log_every=5)
    resumed.fit()
    assert history(straight.state.log_history) == history(resumed.state.log_history)
    assert [row["step"] for row in history(resumed.state.log_history)] == [1, 5, 10]


def test_removed_checkpoints_first_lose_what_says_that_they_are_complete(trainer, tmp_path, monkeypatch):
    trainer(save_seconds=0).fit()
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # as if killed before it
    remove_checkpoints(tmp_path / "run")
    assert list((tmp_path / "run").glob("checkpoint-*/*")) and last_checkpoint(tmp_path / "run") is None
    monkeypatch.undo()
    remove_checkpoints(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_checkpoints_has_no_last_one(tmp_path):
    assert last_checkpoint(tmp_path / "none") is None
    remove_checkpoints(tmp_path / "none")
