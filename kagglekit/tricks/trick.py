"""The interface of a trick: three seams of the training loop, in onion form, and the `on_*` events of transformers."""

import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from transformers import TrainerCallback, TrainerState

from kagglekit.options import check_range, knobs_of, share
from kagglekit.options import knob as knob


def trick(kind: type) -> type:
    """Make a trick of a class with knobs: a dataclass, with a line for each knob in its docstring."""
    kind = dataclass(eq=False, repr=False)(kind)
    lines = [f"\n    {one.name}: {one.words}" for one in knobs_of(kind).values()]
    kind.__doc__ = (kind.__doc__ or "").rstrip() + "\n" + "".join(lines)
    return kind


@trick
class Trick(TrainerCallback):
    """Override the seams that the trick changes; `compute` and `step` run the inner loop: once, twice or not at all.

    The fields of a trick are its knobs, and nothing else happens when one is made. Learned state ends in `_`; numbers,
    tensors and lists of tensors among it are saved with every checkpoint. Until its `start` no seam is changed.

    A trick declares what it needs and does, so that no other module names one: `TRICKS[name].needs_dropout`.
    """

    needs_dropout = False  # it compares passes that differ by dropout alone: without any it does nothing
    fits_chunks = True  # it works on texts that are cut into chunks
    mixes_texts = False  # a row of its batches is more than one text
    reads_labels = False  # of a batch, which must be classes of one task
    needs_layers = False  # it works on what is trained of the backbone's layers: with tuning="head" there is nothing
    chooses = False  # weights are chosen by scores on the fold: those to save are not the last ones
    mean = ()  # a sum over the steps, and the name of its mean in the receipt
    steps_ = 0  # how often the trick acted

    start: float = share()

    def compute_loss(self, compute: Callable, model: torch.nn.Module, inputs: dict) -> tuple[torch.Tensor, dict]:
        """The loss of one batch in training: (loss, outputs). `compute(inputs)` returns both of the inner loop."""
        return compute(inputs)

    def training_step(self, step: Callable, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
        """Forward and backward for one batch: the detached loss. `step(inputs)` adds gradients of the inner loop."""
        return step(inputs)

    def evaluating(self, model: torch.nn.Module) -> AbstractContextManager:
        """A context in which `model` has the weights to evaluate and to save."""
        return nullcontext()

    def started(self, state: TrainerState) -> bool:
        """Whether the trick acts on the next step."""
        return state.global_step >= self.start * state.max_steps

    def check(self) -> None:
        """Raise ValueError for a knob out of range."""
        for one in knobs_of(type(self)).values():
            value = getattr(self, one.name)
            check_range(f"{type(self).__name__}: {one.name}", value, one.fits(value), one.rule)

    def receipt(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures that show that the trick acted: `steps`, which must be above 0, and means over these steps."""
        receipt = {"steps": int(self.steps_)}
        if self.mean:
            name, words = self.mean
            receipt[words] = float(getattr(self, name)) / max(self.steps_, 1)
        return receipt

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The learned state, from which a stopped run goes on exactly; tensors of lists are named `average_.0` etc."""
        state = {"steps_": torch.tensor(self.steps_)}
        for name, value in vars(self).items():
            if name.endswith("_") and isinstance(value, list):
                state |= {f"{name}.{i}": tensor for i, tensor in enumerate(value)}
            elif name.endswith("_"):
                state[name] = torch.as_tensor(value).clone()
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take back the state that `state_dict` gave."""
        for name in {key.split(".")[0] for key in state}:
            items = [state[f"{name}.{i}"] for i in range(len(state)) if f"{name}.{i}" in state]
            setattr(self, name, items or state[name])
        self.steps_ = int(self.steps_)

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


@trick
class Adversarial(Trick):
    """A trick that adds passes to a step, and need not do so in each of them."""

    every: int = knob(1, "acts on every so many steps; 2 costs half as much; 1: on each", least=1, kw_only=True)

    def started(self, state):
        first = math.ceil(self.start * state.max_steps)
        return super().started(state) and (state.global_step - first) % self.every == 0
