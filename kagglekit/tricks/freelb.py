"""FreeLB: climb to worse embeddings, and learn from every point on the way (Zhu et al., 2020, arXiv 1909.11764)."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from kagglekit.options import check_range
from kagglekit.tricks.pgd import climb, project
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import gradients_averaged

TEXT = (1, 2)  # tokens and width: one length for each text


def noise(mask: torch.Tensor, width: int, magnitude: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Uniform noise of a length of about `magnitude / sqrt(3)` for each text, and none on padding.

    mask: (texts, tokens), true for real tokens -> (texts, tokens, width) float32.
    """
    uniform = torch.rand((*mask.shape, width), generator=generator, device=mask.device) * 2 - 1
    numbers = mask.sum(dim=1, keepdim=True).clamp_min(1) * width  # (texts, 1)
    return uniform * (magnitude * mask / numbers.sqrt()).unsqueeze(-1)  # (texts, tokens, width)


@contextmanager
def embeddings_moved(model: torch.nn.Module, begin: Callable) -> Iterator[list[torch.Tensor]]:
    """While the block runs, add a tensor to what the word embeddings give, the same one in every pass.

    The block is given the list of these tensors, to change it. There is one for each call of the embeddings in a pass:
    long texts are embedded slice by slice. A slice that is computed again for the backward pass gets the one it had.
    begin: f(token ids, embeddings) -> the tensor at first.
    """
    deltas: list[torch.Tensor] = []
    calls: dict[int, tuple] = {}  # address of token ids -> which call of a pass; and they, so that it stays theirs
    place = None  # of the next call; None outside the passes

    def enter(*_):
        nonlocal place
        place = 0

    def leave(*_):
        nonlocal place
        place = None

    def moved(module, inputs, output):
        nonlocal place
        where = inputs[0].data_ptr()
        if place is not None:
            calls[where] = place, inputs[0]
            place += 1
        if where not in calls:
            return output  # a trick looks something up
        call, ids = calls[where]
        if call == len(deltas):
            deltas.append(begin(ids, output))
        return output + deltas[call].to(output.dtype)

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(enter).remove)
        stack.callback(model.register_forward_hook(leave).remove)
        stack.callback(model.get_input_embeddings().register_forward_hook(moved).remove)
        yield deltas


class FreeLB(Trick):
    """Free large-batch: `steps` passes, each on embeddings moved further along their gradient; gradients are averaged.

    What is moved is the output of the embeddings, for each text (each chunk of a long one) by itself: a step of length
    `alpha` along the gradient, never further than `epsilon` from the start, which is noise of about 0.6 `magnitude`.
    Padding has no gradient and so is not moved. All passes see the same dropout, as in the paper; the loss is a mean.
    steps: 1 with magnitude 0 is plain training, 2 to 4 are usual, and a step costs that many passes. alpha, epsilon,
    magnitude: lengths, where the embedding of one token is about 1 long; 0.1, 0.4 to 0.7 and 0 to 1 are usual; epsilon
    0, or alpha and magnitude 0, are plain training at a higher price. The embeddings may be frozen.
    """

    norm_: torch.Tensor | float = 0.0  # sum over the steps; it stays on the device: no waiting

    def __init__(
        self, steps: int = 3, alpha: float = 0.1, epsilon: float = 0.5, magnitude: float = 0.3, start: float = 0.0
    ):
        self.steps = steps
        self.alpha = alpha
        self.epsilon = epsilon
        self.magnitude = magnitude
        self.start = start

    def check(self):
        super().check()
        check_range("FreeLB: steps", self.steps, self.steps >= 1, "1 or more")
        for knob in ("alpha", "epsilon", "magnitude"):
            value = getattr(self, knob)
            check_range(f"FreeLB: {knob}", value, 0 <= value < math.inf, "a length, 0 or more")

    def training_step(self, step, model, inputs):
        embeddings, losses = model.get_input_embeddings(), []
        device = embeddings.weight.device
        if self.magnitude:  # a generator of its own: dropout must be the same in the first pass and in the others
            generator = torch.Generator(device).manual_seed(int(torch.randint(2**31, ())))  # on the CPU: no waiting

        def begin(ids, embedded):
            delta = embedded.new_zeros(embedded.shape, dtype=torch.float32)  # (texts, tokens, width)
            if self.magnitude:
                real = torch.ones_like(ids) if embeddings.padding_idx is None else ids != embeddings.padding_idx
                delta = project(noise(real, embedded.shape[-1], self.magnitude, generator), self.epsilon, TEXT)
            return delta.requires_grad_()

        with embeddings_moved(model, begin) as deltas, gradients_averaged(model.parameters(), self.steps):
            for left in reversed(range(self.steps)):
                forked = [device] if device.type == "cuda" else []
                with torch.random.fork_rng(forked, enabled=left > 0, device_type="cuda"):
                    losses.append(step(inputs))
                if left:
                    deltas[:] = [
                        climb(delta.detach(), delta.grad, self.alpha, self.epsilon, TEXT).requires_grad_()
                        for delta in deltas
                    ]
        self.steps_ += 1
        self.norm_ = self.norm_ + torch.cat([torch.linalg.vector_norm(d.detach(), dim=TEXT) for d in deltas]).mean()
        return sum(losses) / self.steps

    def receipt(self, model):
        return {**super().receipt(model), "mean perturbation norm": float(self.norm_) / max(self.steps_, 1)}
