"""EMA: evaluate and keep an exponential moving average of the weights (Polyak and Juditsky, 1992)."""

from torch.optim.swa_utils import get_ema_multi_avg_fn

from kagglekit.options import check_range
from kagglekit.tricks.weights import WeightAverage, trainable


def warmed_up(decay: float, updates: int) -> float:
    """The decay after so many `updates`: 0.1, 0.18, 0.25 and so on, up to `decay` (as in TensorFlow's averages)."""
    return min(decay, (1 + updates) / (10 + updates))


class EMA(WeightAverage):
    """After every step `average = decay * average + (1 - decay) * weights`; the average is evaluated and saved.

    It begins as the weights before its first step.
    decay: 0 is the live model, 1 stands still where it began; 0.999 looks back about 1,000 steps: a run of a few
    hundred steps wants 0.99 or less. warmup: the decay rises to that from 0.1, so that the average soon forgets where
    it began; for one that starts early. Costs one more copy of the weights; the step is as fast as before. Best started
    late, when the weights have settled. Beside SWA or another average, the last of the recipe is evaluated and saved.
    """

    def __init__(self, decay: float = 0.99, warmup: bool = False, start: float = 0.5):
        self.decay = decay
        self.warmup = warmup
        self.start = start
        self.average_ = []

    def check(self):
        super().check()
        check_range("EMA: decay", self.decay, 0 <= self.decay <= 1, "from 0 to 1")

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if self.started(state) and not self.average_:
            self.average_ = [weight.clone() for weight in trainable(model)]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not self.average_:
            return
        decay = warmed_up(self.decay, self.steps_) if self.warmup else self.decay
        get_ema_multi_avg_fn(decay)(self.average_, trainable(model), None)
        self.steps_ += 1
