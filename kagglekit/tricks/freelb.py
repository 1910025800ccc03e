"""FreeLB: adversarial training that learns from each point on the way (Zhu et al., 2020, arXiv 1909.11764)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from kagglekit.tricks.pgd import climb, project
from kagglekit.tricks.trick import Adversarial, knob, trick
from kagglekit.tricks.weights import gradients_averaged

TEXT = (1, 2)  # dimensions of tokens and width: one norm for each text


def noise(mask: torch.Tensor, width: int, magnitude: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Uniform noise with a norm of about `magnitude / sqrt(3)` for each text, and none on padding.

    mask: (texts, tokens), true for real tokens. Returns (texts, tokens, width) float32.
    """
    uniform = torch.rand((*mask.shape, width), generator=generator, device=mask.device) * 2 - 1
    numbers = mask.sum(dim=1, keepdim=True).clamp_min(1) * width  # (texts, 1)
    return uniform * (magnitude * mask / numbers.sqrt()).unsqueeze(-1)  # (texts, tokens, width)


@contextmanager
def embeddings_moved(model: torch.nn.Module, begin: Callable) -> Iterator[list[torch.Tensor]]:
    """While the block runs, add a tensor to the output of the word embeddings, the same one in every pass.

    The block is given the list of these tensors, and may change it. There is one for each call of the embeddings in a
    pass: long texts are embedded slice by slice. A slice that is computed again for the backward pass gets its own one.
    begin: f(token ids, embeddings) -> the first tensor.
    """
    deltas: list[torch.Tensor] = []
    calls: dict[
        int, tuple
    ] = {}  # address of token ids -> which call of a pass, and the ids, to keep the address theirs
    place = None  # number of the next call; None outside the passes

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


@trick
class FreeLB(Adversarial):
    """Free large-batch: `steps` passes, each on embeddings moved further along their gradient; gradients are averaged.

    The output of the embeddings is moved, for each text (each chunk of a long one) by itself: a step of length `alpha`
    along the gradient, never further than `epsilon` from the clean text, beginning with noise of about 0.6 `magnitude`.
    The embedding of one token is about 1 long. Padding has no gradient and does not move. All passes see the same
    dropout, as in the paper; the loss is a mean. A step costs `steps` passes. The embeddings may be frozen.
    """

    mean = "norm_", "mean perturbation norm"
    norm_ = 0.0  # a sum over the steps, on the device: reading it would wait

    steps: int = knob(3, "passes; 2 to 4 are usual; 1 with magnitude=0: plain training", least=1)
    alpha: float = knob(0.1, "length of a move; 0 with magnitude=0: plain training at a higher price", least=0)
    epsilon: float = knob(0.5, "radius of the ball; 0.4 to 0.7 is usual; 0: plain training at a higher price", least=0)
    magnitude: float = knob(0.3, "of the noise at the start; 0 to 1 is usual", least=0)

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

        with embeddings_moved(model, begin) as deltas, gradients_averaged(model, self.steps):
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
