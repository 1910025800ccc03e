"""A stopped run goes on as if it had never been stopped; tests/training/test_finetune.py does it with a real kill."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from kagglekit.training.best import KeepBest
from kagglekit.training.optim import SCHEDULES
from kagglekit.training.trainer import history, last_checkpoint, remove_checkpoints
from kagglekit.tricks import EMA, FGM, SWA, TRICKS, make_tricks

OPTIONS = {  # of every trick; each begins at the fourth of 12 steps
    **{name: {} for name in TRICKS},
    "FreeLB": {"steps": 2},
    "PGD": {"steps": 2},
    "SWA": {"rate": 0.5, "cycle": 2},
}
RECIPES = {
    "plain": {},
    "some": {"FGM": {"epsilon": 0.5}, "RDrop": {"alpha": 2.0, "start": 0.3}, "EMA": {"decay": 0.8, "start": 0.5}},
    "all": {name: {**options, "start": 0.25} for name, options in OPTIONS.items()},
    **{name: {name: {**options, "start": 0.25}} for name, options in OPTIONS.items()},
}


class StopAt(TrainerCallback):
    """Stop at a step without saving there."""

    def __init__(self, at):
        self.at = at

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.at


@pytest.fixture
def alike(trainer, weights, same):
    """alike(make, stops, **options): a run stopped at each of these steps and resumed is the run that never stopped."""

    def check(make, stops, **options):
        options = {"dropout": 0.1, "evaluation": lambda model: {"score": model.head.bias[0].item()}, **options}
        straight = trainer(make(), "straight", **options)
        receipts = straight.fit()
        for stop in stops:
            trainer(make(), f"stop{stop}", stop=stop, **options).train()
            assert last_checkpoint(Path(straight.args.output_dir).parent / f"stop{stop}").name == f"checkpoint-{stop}"
            resumed = trainer(make(), f"stop{stop}", **options)
            assert resumed.fit() == receipts
            assert same(weights(straight.model), weights(resumed.model))
            with straight.evaluating(), resumed.evaluating():
                assert same(weights(straight.model), weights(resumed.model))
            assert history(straight.state.log_history) == history(resumed.state.log_history)
            assert straight.state.global_step == resumed.state.global_step
        return straight, receipts

    return check


@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_and_resumed_is_never_stopped(alike, recipe):
    stops = (1, 6, 8) if recipe in ("plain", "some") else (8,) if recipe == "all" else (2, 8)  # before it begins, later
    _, receipts = alike(lambda: make_tricks(RECIPES[recipe]), stops, evaluate_every=3)
    assert list(receipts) == list(RECIPES[recipe])


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (4, "bf16")])
def test_with_all_of_them_it_does_so_with_accumulation_and_bf16(alike, accumulation, precision):
    make = lambda: make_tricks(RECIPES["all"] | {"SWA": {"start": 0.25}})  # noqa: E731
    alike(make, [3], evaluate_every=1, accumulation=accumulation, precision=precision)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_goes_on_where_it_was_also_with_rates_of_swa_and_patience(alike, schedule, logged):
    cycles = {"cycles": 2, "cycle_growth": 2} if schedule == "cosine_warm_restarts" else {}
    cycles = {"cycles": 3} if schedule == "cosine_with_restarts" else cycles
    straight, _ = alike(list, [1, 8], schedule=schedule, **cycles)
    rates = logged(straight, "learning_rate")
    make = lambda: [SWA(0.5, 2, start=0.4), KeepBest(patience=4)]  # noqa: E731
    straight, receipts = alike(make, [1, 6], schedule=schedule, evaluate_every=1, **cycles)
    ours = logged(straight, "learning_rate")
    assert ours[:5] == rates[:5] and ours[5] != rates[5]
    assert 0 < receipts["KeepBest"]["best step"] <= straight.state.global_step


@pytest.mark.parametrize("accumulation", [2, 4])
def test_it_does_so_with_accumulation_and_bf16(trainer, weights, same, accumulation):
    options = {"accumulation": accumulation, "precision": "bf16", "dropout": 0.1}
    straight = trainer([FGM(), EMA(0.9)], "straight", **options)
    straight.fit()
    trainer([FGM(), EMA(0.9)], stop=3, **options).train()
    resumed = trainer([FGM(), EMA(0.9)], **options)
    resumed.fit()
    assert same(weights(straight.model), weights(resumed.model))


def test_stopped_twice_is_never_stopped(trainer, weights, same):
    straight = trainer([EMA(0.9)], "straight", dropout=0.1)
    straight.fit()
    for stop in (4, 7):
        trainer([EMA(0.9)], dropout=0.1, stop=stop).train(resume_from_checkpoint=stop == 7)
    resumed = trainer([EMA(0.9)], dropout=0.1)
    resumed.fit()
    assert same(weights(straight.model), weights(resumed.model))


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

    monkeypatch.setattr("kagglekit.training.trainer.save_file", full)
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
