"""What happens beside the steps: checkpoints and an end by the clock, and progress for the eye."""

import time

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from kagglekit.progress import Progress
from kagglekit.time_budget import OutOfTime, TimeBudget


class SaveEvery(TrainerCallback):
    """A checkpoint whenever `seconds` have passed since the last one: hardly more work than that is lost.

    It waits for the next step that is logged, so that the mean loss of a logged step is never cut in two. Of several
    processes the first one's clock counts.
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
    """Ends training after the first step that ends when the time is over: with a checkpoint, and OutOfTime.

    phase: the name of what is trained. Nothing is begun when the time is over already; what has come to its last step
    is over anyway, and goes on to its predictions. Of several processes the first one's clock counts, for which each
    step waits. It comes last among callbacks: it raises when the others have ended.
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
        """Not where training has ended by itself at this step, for want of a better score: then nothing is saved."""
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
    """Steps, last logged loss and rate, last score, and the time left, under the name `phase`; of one process only."""

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
