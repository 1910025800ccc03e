"""EMA: evaluate and keep an exponential moving average of the weights (Polyak and Juditsky, 1992)."""

from contextlib import contextmanager

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kagglekit.training.trick import Trick
from kagglekit.training.weights import distance, restored


class EMA(Trick):
    """After every step `average = decay * average + (1 - decay) * weights`; the average is evaluated and saved.

    decay: 0 is the live model, 0.999 looks back about 1,000 steps: a run of a few hundred steps wants 0.99 or less.
    Costs one more copy of the weights; the step is as fast as before. Best started late, when the weights have settled.
    """

    def __init__(self, decay: float = 0.99, start: float = 0.5):
        self.decay = decay
        self.start = start
        self.average_: list[torch.Tensor] = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not self.started(state):
            return
        weights = trainable(model)
        if not self.average_:
            self.average_ = [weight.clone() for weight in weights]
        get_ema_multi_avg_fn(self.decay)(self.average_, weights, None)
        self.steps_ += 1

    @contextmanager
    def evaluating(self, model):
        weights = trainable(model)
        with restored(weights):
            if self.average_:
                torch._foreach_copy_(weights, self.average_)
            yield

    def receipt(self, model):
        moved = float(distance(self.average_, trainable(model))) if self.average_ else 0.0
        return {**super().receipt(model), "distance of average to last weights": moved}

    def state_dict(self):
        average = {f"average_.{i}": tensor for i, tensor in enumerate(self.average_)}
        return {"steps_": torch.tensor(self.steps_), **average}

    def load_state_dict(self, state):
        self.steps_ = int(state["steps_"])
        self.average_ = [state[f"average_.{i}"] for i in range(len(state) - 1)]


def trainable(model: torch.nn.Module) -> list[torch.Tensor]:
    """The weights that are trained, without their gradients."""
    return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
