"""Callbacks of training: checkpoints that are whole, an end by the time budget, and a progress bar."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import save_file
from transformers import TrainerCallback

from kagglekit.files import Damaged, checksum_files, name_training, read_json, reading, remove, write_json
from kagglekit.files.arrays import read_tensors
from kagglekit.progress import Progress, say
from kagglekit.runs.environment import versions
from kagglekit.runs.record import RunRecord
from kagglekit.time_budget import OutOfTime, TimeBudget
from kagglekit.training.learning_rates import describe_rates, group_rates

COMPLETE = "complete"  # file in a checkpoint that was written to its end: the checksums of the others
UNLOGGED = "unlogged.json"  # file in a checkpoint between two logged steps: the losses since the last one
HALVED = "halved.json"  # file in a checkpoint where batches are read in parts: how many
LEARNED = "learned.json"  # file in a checkpoint: how many rows an epoch has, and in which precisions it was trained


class Checkpoints(TrainerCallback):
    """Completes the checkpoints of a `Trainer`: state of the tricks, losses since the last logged step, and in how many
    parts a batch is read."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        """Restore them from the checkpoint that training goes on from, if any."""
        trainer, folder = self.trainer, Path(args.output_dir) / f"checkpoint-{state.global_step}"
        trainer.losses_, trainer.logged_ = torch.zeros(()), state.global_step
        if not state.global_step:
            return
        self._check_rows(folder, state.max_steps)
        usual, trainer.rates_ = trainer.rates_, group_rates(trainer.optimizer)  # as the checkpoint has them
        if trainer.rates_ != usual and args.process_index == 0:
            say(f"{name_training(Path(args.output_dir).parent)} {describe_rates(trainer.rates_, usual)}")
        if (folder / HALVED).is_file():
            trainer.halving.parts = read_json(folder / HALVED)["parts"]
        if (folder / UNLOGGED).is_file():
            unlogged = read_json(folder / UNLOGGED)
            trainer.losses_, trainer.logged_ = torch.tensor(unlogged["losses"][args.process_index]), unlogged["since"]
        with going_on(folder):
            for number, trick in enumerate(trainer.tricks):
                learned = read_tensors(folder / f"trick-{number}.safetensors")
                trick.load_state_dict({name: tensor.to(args.device) for name, tensor in learned.items()})

    def _check_rows(self, checkpoint: Path, steps: int) -> None:
        """Raise ValueError for a checkpoint of other rows, or, of earlier versions, of another number of steps."""
        rows, before = len(self.trainer.train_dataset), {}
        if (checkpoint / LEARNED).is_file():
            before = read_json(checkpoint / LEARNED)
            now, last = self.trainer.precisions_, before["precisions"][-1]
            if [last] != now and self.trainer.args.process_index == 0:
                say(f"{name_training(checkpoint.parents[1])} goes on in {now[0]}; so far it was trained in {last}")
            self.trainer.precisions_ = [one for one in before["precisions"] if one not in now] + now
        then = read_json(checkpoint / "trainer_state.json")["max_steps"]
        with going_on(checkpoint):
            if before.get("rows", rows) != rows:
                raise ValueError(f"it learned from {before['rows']:,} rows, and now there are {rows:,}")
            if then != steps:
                raise ValueError(f"it was to take {then:,} steps, and now there are {steps:,}")

    def on_save(self, args, state, control, **kwargs):
        trainer, folder = self.trainer, Path(args.output_dir) / f"checkpoint-{state.global_step}"
        losses = trainer.sum_losses().tolist()
        trainer.accelerator.wait_for_everyone()  # each process has written its random state
        if not args.should_save:
            return
        if trainer.logged_ < state.global_step:
            write_json(folder / UNLOGGED, {"since": trainer.logged_, "losses": losses})
        write_json(folder / LEARNED, {"rows": len(trainer.train_dataset), "precisions": trainer.precisions_})
        if trainer.halving.parts > 1:
            write_json(folder / HALVED, {"parts": trainer.halving.parts})
        for number, trick in enumerate(trainer.tricks):
            save_file(trick.state_dict(), folder / f"trick-{number}.safetensors")
        (folder / COMPLETE).unlink(missing_ok=True)  # of an earlier stop at this step
        write_json(folder / COMPLETE, checksum_files(folder))
        remove_checkpoints(folder.parent, keep=folder)


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


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`; a half-written or damaged one does not count (0.3 s a GB)."""
    complete = [file.parent for file in folder.glob(f"checkpoint-*/{COMPLETE}")]
    for checkpoint in sorted(complete, key=lambda checkpoint: int(checkpoint.name.split("-")[1]), reverse=True):
        if _is_whole(checkpoint):
            return checkpoint
        say(f"{name_training(folder.parent)}: {checkpoint} is damaged, and is not used")
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        written = read_json(checkpoint / COMPLETE)
    except Damaged:
        return not (checkpoint / COMPLETE).stat().st_size  # version 0.2 wrote nothing into it
    found = checksum_files(checkpoint)
    return all(found.get(name) == checksum for name, checksum in written.items())


@contextmanager
def going_on(checkpoint: Path) -> Iterator[None]:
    """Whatever does not fit while a checkpoint is loaded becomes a ValueError that says what to do."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, FileNotFoundError) as error:
        said, run = str(error).splitlines() or [type(error).__name__], RunRecord.around(checkpoint)
        begun, now = (one.get("kagglekit") for one in (run.params.get("versions", {}) if run else {}, versions()))
        other = f"; kagglekit {begun}, which began the run, may go on from it" if begun and begun != now else ""
        raise ValueError(
            f"{name_training(checkpoint.parents[1])} cannot go on from its checkpoint, which is of another training "
            f"({' '.join(said[:2]).strip()[:200]}): delete {checkpoint.parent} to begin it again, or name another run="
            f"{other}"
        ) from error


def check_groups(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless an optimizer has the groups of parameters, in the same order, that a checkpoint has."""
    with reading(file := checkpoint / "optimizer.pt"):
        saved = torch.load(file, map_location="meta", weights_only=True)
    both = saved["param_groups"], optimizer.param_groups
    then, now = ([(group.get("name"), len(group["params"])) for group in groups] for groups in both)
    if then != now:
        name = next(one for one, other in zip([*then, *now], [*now, *then], strict=True) if one != other)[0]
        counts = [sum(count for group, count in groups if group == name) for groups in (then, now)]
        raise ValueError(f"{name} had {counts[0]} parameters in {len(then)} groups, and has {counts[1]} in {len(now)}")
    for number, parameter in enumerate(one for group in optimizer.param_groups for one in group["params"]):
        shape = saved["state"].get(number, {}).get("exp_avg", parameter).shape
        if shape != parameter.shape:
            raise ValueError(f"a parameter had the shape {tuple(shape)}, and has {tuple(parameter.shape)}")


def remove_checkpoints(folder: Path, keep: Path | None = None) -> None:
    """Remove `folder`, or all its checkpoints except `keep`; each is marked incomplete first, in case of a kill."""
    for checkpoint in set(folder.glob("checkpoint-*")) - {keep}:
        (checkpoint / COMPLETE).unlink(missing_ok=True)
        remove(checkpoint)
    if keep is None:
        remove(folder)


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
    """Shows step, last logged loss and score, and the time left, under the name `phase`.

    evaluation, following: what each evaluation, and all that comes after the last step, takes, in steps.
    """

    def __init__(self, phase: str, evaluation: float = 0.0, following: float = 0.0):
        self.phase, self.evaluation, self.following = phase, evaluation, following
        self.figures: dict[str, float] = {}
        self.progress: Progress | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            total, every = state.max_steps, args.eval_steps or state.max_steps + 1

            def rest(done: int) -> float:
                evaluations = total // every - max(done - 1, 0) // every  # that of a step comes after it
                return total - done + self.evaluation * evaluations + self.following

            self.progress = Progress(self.phase, total, start=state.global_step, rest=rest)

    def on_step_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.update(state.global_step, **self.figures)

    def on_log(self, args, state, control, logs=None, **kwargs):
        names = {"loss": "loss", "eval_score": "score"}
        self.figures |= {short: logs[name] for name, short in names.items() if name in logs}

    def on_train_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.close()
