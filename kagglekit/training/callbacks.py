"""Callbacks of training: checkpoints by the clock, an end by the time budget, and a progress bar."""

import time

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from kagglekit.progress import Progress
from kagglekit.time_budget import OutOfTime, TimeBudget


class SaveEvery(TrainerCallback):
    """Saves a checkpoint when `seconds` have passed since the last one, at the next logged step.

    When several processes train together, the clock of the first one decides.
    """

    def __init__(self, seconds: float = 60.0):
        self.seconds = seconds
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_log and state.global_step < state.max_steps:
            (due,) = broadcast_object_list([time.monotonic() - self.last >= self.seconds])
            control.should_save |= due

    def on_save(self, args, state, control, **kwargs):
        self.last = time.monotonic()


class StopInTime(TrainerCallback):
    """Ends training at the first step after the budget is over: with a checkpoint, and OutOfTime.

    phase: name of the training, for messages. When the budget is over before the first step, nothing is begun; after
    the last step, training has ended anyway. When several processes train together, the clock of the first one decides.
    It must be the last callback: it raises when the others have ended.
    """

    def __init__(self, budget: TimeBudget, phase: str):
        self.budget = budget
        self.phase = phase
        self.asked = self.stopped = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.asked = self.stopped = False
        if self._is_over():
            raise self.budget.refusal(self.phase)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and self._is_over():
            control.should_save = control.should_training_stop = self.asked = True

    def on_save(self, args, state, control, **kwargs):
        """Not called when early stopping ends training at the same step: there is no checkpoint then."""
        self.stopped = self.asked

    def on_train_end(self, args, state, control, **kwargs):
        if self.stopped:
            raise OutOfTime(
                f"stopped at step {state.global_step} of {state.max_steps} of {self.phase}: the checkpoint is kept, "
                "the same command goes on from there"
            )

    def _is_over(self) -> bool:
        return bool(self.budget.hours) and broadcast_object_list([self.budget.over()])[0]


class ShowProgress(TrainerCallback):
    """Shows step, last logged loss, learning rate and score, and the time left, under the name `phase`."""

    def __init__(self, phase: str):
        self.phase = phase
        self.figures: dict[str, float] = {}
        self.progress: Progress | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.progress = Progress(self.phase, state.max_steps, start=state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.update(state.global_step, **self.figures)

    def on_log(self, args, state, control, logs=None, **kwargs):
        names = {"loss": "loss", "learning_rate": "lr", "eval_score": "score"}
        self.figures |= {short: logs[name] for name, short in names.items() if name in logs}

    def on_train_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.close()
