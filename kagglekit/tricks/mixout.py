"""Mixout: dropout to the pretrained weights instead of to zero (Lee, Cho and Kang, 2020, arXiv 1909.11299)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.decoders.lora import Adapted, adapters_of
from kagglekit.tricks.trick import Trick, knob, trick
from kagglekit.tricks.weights import distance


def mixout(weight: torch.Tensor, pretrained: torch.Tensor, probability: float) -> torch.Tensor:
    """Each element of `weight` replaced by that of `pretrained` with `probability`, scaled to the same expectation.

    `(mask * pretrained + (1 - mask) * weight - probability * pretrained) / (1 - probability)`: an interpolation from
    `pretrained` to `weight` by 0 where the mask is 1, and by 1 / (1 - probability) elsewhere; the gradient is
    multiplied by the same. Probability 0 returns `weight` itself.
    """
    if not probability:
        return weight
    kept = torch.rand_like(weight).ge_(probability)  # three times as fast as F.dropout on a CPU
    return torch.lerp(pretrained, weight, kept.div_(1 - probability))


@contextmanager
def mixed(
    linears: Sequence[nn.Linear],
    pretrained: Sequence[torch.Tensor],
    probability: float,
    adapters: Sequence[Adapted] = (),
) -> Iterator[None]:
    """While the block runs, each forward of one of `linears` in training draws its weights by `mixout`; each of
    `adapters` draws what it adds to a frozen weight, whose pretrained value is 0.

    Parameters stay the same objects, under the same names. Each is drawn where it is used, from torch's global
    generator, as dropout is: layers that checkpointing computes again for the backward pass draw the same again.
    """

    def forward(linear, source, inputs):
        weight = mixout(linear.weight, source, probability) if linear.training else linear.weight
        return F.linear(inputs, weight, linear.bias)

    def adapted(linear, inputs):
        if not linear.training:
            return type(linear).forward(linear, inputs)
        delta = linear.delta()
        return linear.frozen(inputs) + F.linear(inputs, mixout(delta, torch.zeros_like(delta), probability))

    try:
        for linear, source in zip(linears, pretrained, strict=True):
            linear.forward = partial(forward, linear, source)
        for linear in adapters:
            linear.forward = partial(adapted, linear)
        yield
    finally:
        for linear in (*linears, *adapters):
            vars(linear).pop("forward", None)


@trick
class Mixout(Trick):
    """In every pass, each weight of the backbone's linear layers goes back to its pretrained value with `probability`.

    "Pretrained" is the value when training began, also where layers were initialised again: the model is kept near it,
    where weight decay pulls to zero. One draw holds for all rows of a pass. Biases, norms, embeddings and frozen layers
    are left alone; of a frozen layer with an adapter, "pretrained" is its weight without the adapter, and no copy.
    Evaluation has the plain weights. The paper's choice is for a few thousand rows or fewer. Costs one copy of these
    matrices, also in each checkpoint, and two more while a pass runs; and a random number per weight in each pass: 1.1
    times the step for 16 texts of 128 tokens, 1.5 times for 16 of 32 (MiniLM, one core).
    """

    needs_layers = True
    pretrained_ = ()  # the matrices when training began

    probability: float = knob(
        0.1, "0: plain training; 0.7 to 0.9: the paper's; near 1: nothing learned", least=0, below=1
    )

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not self.pretrained_:  # a resumed run has those of its checkpoint: the model is trained by now
            self.pretrained_ = [linear.weight.detach().clone() for linear in trained_linears(model.backbone)[0]]

    def training_step(self, step, model, inputs):
        linears, adapters = trained_linears(model.backbone) if self.probability else ([], [])
        with mixed(linears, self.pretrained_ if linears else [], self.probability, adapters):
            loss = step(inputs)
        self.steps_ += 1
        return loss

    def receipt(self, model):
        linears, adapters = trained_linears(model.backbone)
        pairs = [(one.weight, before) for one, before in zip(linears, self.pretrained_, strict=True)]
        pairs += [(one.weight.detach() + one.delta().detach(), one.weight.float()) for one in adapters]
        return {**super().receipt(model), "distance to pretrained weights": float(distance(*zip(*pairs, strict=True)))}


def trained_linears(backbone: nn.Module) -> tuple[list[nn.Linear], list[Adapted]]:
    """The linear layers of a backbone whose weights are trained, and those whose adapters are. Raises ValueError when
    there are none."""
    adapters = list(adapters_of(backbone).values())
    linears = [module for module in backbone.modules() if isinstance(module, nn.Linear) and module.weight.requires_grad]
    if not (linears or adapters):
        raise ValueError("Mixout mixes the backbone's linear layers, and none is trained: leave Mixout out")
    return linears, adapters
