from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from kagglekit.training.callbacks import SaveEvery, ShowProgress


@pytest.fixture
def step():
    """step(callback, **options): whether a checkpoint is saved at a step that is logged, the fifth of ten."""

    def take(callback, should_log=True, at=5, should_save=False):
        control = TrainerControl(should_log=should_log, should_save=should_save)
        callback.on_step_end(None, TrainerState(global_step=at, max_steps=10), control)
        return control.should_save

    return take


def test_a_checkpoint_is_due_when_the_seconds_have_passed_at_a_logged_step_before_the_last(step):
    assert step(SaveEvery(0.0)) and not step(SaveEvery(1000.0))
    assert not step(SaveEvery(0.0), should_log=False) and not step(SaveEvery(0.0), at=10)
    assert step(SaveEvery(1000.0), should_save=True)  # another callback wants it


def test_the_seconds_count_from_the_last_checkpoint(step):
    callback = SaveEvery(1000.0)
    callback.last -= 2000
    assert step(callback)
    callback.on_save(None, None, None)
    assert not step(callback)


@pytest.mark.parametrize("first", [True, False])
def test_only_the_first_process_shows_its_progress(capfd, monkeypatch, tmp_path, first):
    monkeypatch.setenv("KAGGLEKIT_PROGRESS", str(tmp_path / "progress"))
    show, state = ShowProgress("fold 1", 2.0, 5.0), TrainerState(max_steps=3, is_world_process_zero=first)
    show.on_train_begin(SimpleNamespace(eval_steps=2), state, None)
    if first:  # three steps, an evaluation after the second one, and a prediction
        assert [show.progress.steps.rest(done) for done in range(4)] == [10.0, 9.0, 8.0, 5.0]
    for step in (1, 2, 3):
        state.global_step = step
        show.on_log(None, state, None, logs={"loss": 0.5})
        show.on_step_end(None, state, None)
    show.on_train_end(None, state, None)
    assert ("fold 1: 3 steps" in capfd.readouterr().out) == first
