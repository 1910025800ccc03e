"""Batches that do not fit the memory: they are halved, until they do, and the steps stay those of whole batches."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch

from kagglekit.progress import say

Inputs = dict[str, Any]
REFUSED = ("can't allocate memory", "not enough memory")  # what a RuntimeError of the CPU's allocator says
ADVICE = "shorter texts (max_length), a smaller backbone, checkpointing=True, or tuning='lora' of a decoder need less"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in REFUSED)
    )


def split_batch(inputs: Inputs, parts: int) -> Iterator[tuple[Inputs, float]]:
    """The parts of a batch, each with its share of the rows: at most `parts`, of at least a row."""
    rows = len(inputs["attention_mask"])
    for place in torch.arange(rows).tensor_split(min(parts, rows)):
        within = slice(int(place[0]), int(place[-1]) + 1)
        some = {name: x[within] if torch.is_tensor(x) and x.dim() else x for name, x in inputs.items()}
        yield some, len(place) / rows


class Halving:
    """Runs the batches of an optimizer step, in `parts` parts each, whose gradients add up to those of the whole.

    When a device has no memory left, the gradients of the step are dropped, `parts` doubles, and all of its batches run
    again; later ones begin with that number, which checkpoints keep. What rows of a batch do to each other (Mixup,
    SupCon) happens within a part. Random numbers are drawn part by part.
    share: of the rows of a batch, in the part that runs; its loss, a mean over rows, is multiplied by it.
    """

    said = 1

    def __init__(self):
        self.parts, self.share, self.number, self.waiting = 1, 1.0, -1, []

    def run(self, inputs: Inputs, step: Callable[[Inputs], torch.Tensor], model: torch.nn.Module, number: int):
        """The loss of a batch after its backward pass, by `step(inputs)`. number: of the optimizer step. Raises
        OutOfMemoryError that says what to do, when a row alone does not fit."""
        waiting = [*self.waiting, inputs] if number == self.number else [inputs]
        self.number, losses = number, []
        if self._fits(losses, [inputs], step):
            self.waiting = waiting
            return losses[-1]
        rows = len(inputs["attention_mask"])
        while self.parts < rows:
            self.parts *= 2
            model.zero_grad()
            free()
            most = -(-rows // self.parts)
            if self.parts > Halving.said:  # of several folds the first says it
                Halving.said = self.parts
                say(f"the memory is too small for {rows} texts at once: each batch is read in {self.parts} parts, here")
                say(f"of {most} texts or fewer; an optimizer step is still that of whole batches")
            if self._fits(losses, waiting, step):
                self.waiting = waiting
                return losses[-1]
        tokens = inputs["attention_mask"].shape[-1]
        raise torch.OutOfMemoryError(f"the memory is too small for one text of {tokens} tokens: {ADVICE}")

    def _fits(self, losses: list[torch.Tensor], batches: list[Inputs], step: Callable[[Inputs], torch.Tensor]) -> bool:
        """Run batches, part by part, and add their losses to the list."""
        try:
            for batch in batches:
                loss = 0.0
                for part, share in split_batch(batch, self.parts):
                    self.share = share
                    loss = loss + step(part)
                losses.append(loss)
        except RuntimeError as error:  # OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
            return False  # outside of the handler, which holds on to what lies in the frames of the error
        finally:
            self.share = 1.0
        return True


def free() -> None:
    """Give back what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(run: Callable[[Any], list], rows: Any) -> list:
    """run(rows) -> a list of results in their order; where the memory is too small for them, that of both halves.

    Raises OutOfMemoryError that says what to do, when a row alone does not fit."""
    try:
        return run(rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            raise torch.OutOfMemoryError(f"the memory is too small for one text: {ADVICE}") from None
    free()
    half = len(rows) // 2
    return [*halved(run, rows[:half]), *halved(run, rows[half:])]
