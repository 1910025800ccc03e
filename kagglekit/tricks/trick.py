"""The interface of a trick: three seams of the training loop, in onion form, and the `on_*` events of transformers."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from transformers import TrainerCallback, TrainerState

from kagglekit.options import check_range


class Trick(TrainerCallback):
    """Override what the trick changes; `compute` and `step` run what lies inside, once, twice or not at all.

    A constructor stores its arguments under their own names and does nothing else. What a trick learns or counts ends
    in `_`; tensors among these are saved with every checkpoint. `start` is the share of all steps after which the trick
    begins: 0 is from the first step on, 0.5 at half the steps. Until then the three seams pass it by.

    A trick declares what it needs and does, so that no other module names one: `TRICKS[name].needs_dropout`.
    """

    needs_dropout: bool = False  # it compares passes that differ by dropout alone: without any it does nothing
    fits_chunks: bool = True  # it works on texts that are cut into chunks
    mixes_texts: bool = False  # a row of its batches is more than one text
    chooses: bool = False  # the weights to save are chosen by scores on the fold, and are not those of the last step

    start: float = 0.0
    steps_: int = 0  # how often the trick acted

    def compute_loss(self, compute: Callable, model: torch.nn.Module, inputs: dict) -> tuple[torch.Tensor, dict]:
        """The loss of one batch in training: (loss, outputs). `compute(inputs)` gives both for what lies inside."""
        return compute(inputs)

    def training_step(self, step: Callable, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
        """Forward and backward for one batch: the detached loss. `step(inputs)` adds gradients of what lies inside."""
        return step(inputs)

    def evaluating(self, model: torch.nn.Module) -> AbstractContextManager:
        """A context in which `model` has the weights to evaluate and to save."""
        return nullcontext()

    def started(self, state: TrainerState) -> bool:
        """Whether the next step is one on which the trick acts."""
        return state.global_step >= self.start * state.max_steps

    def check(self) -> None:
        """Raise ValueError for a knob out of range; a trick with ranges of its own adds them."""
        fits = 0 <= self.start < 1
        check_range(f"{type(self).__name__}: start", self.start, fits, "the share of steps before, from 0 to below 1")

    def receipt(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures that show what the trick did; `steps` must be above 0."""
        return {"steps": int(self.steps_)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a stopped run needs to go on as if it had never stopped, as tensors."""
        learned = {name: value for name, value in vars(self).items() if name.endswith("_")}
        return {name: torch.as_tensor(value).clone() for name, value in learned.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state_dict` gave."""
        vars(self).update({name: value.item() if name == "steps_" else value for name, value in state.items()})

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"
