"""What averages of weights have in common: they stand beside the weights, and are what is evaluated and saved."""

from contextlib import contextmanager

import torch

from kagglekit.training.trick import Trick
from kagglekit.training.weights import distance, restored


class WeightAverage(Trick):
    """A trick with an average of the trained weights in `average_`, empty until it begins.

    Training never sees the average. Of several in one recipe the last one is evaluated and saved: each puts its own in
    place of what the one before it had put there. Costs one more copy of the weights, also in each checkpoint.
    """

    average_: list[torch.Tensor]

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
