"""EMA: evaluate and keep an exponential moving average of the weights (Polyak and Juditsky, 1992)."""

from torch.optim.swa_utils import get_ema_multi_avg_fn

from kagglekit.tricks.trick import knob, share, trick
from kagglekit.tricks.weights import WeightAverage, trained


def warmed_up(decay: float, updates: int) -> float:
    """The decay after so many `updates`: 0.1, 0.18, 0.25 and so on, up to `decay` (as TensorFlow does)."""
    return min(decay, (1 + updates) / (10 + updates))


@trick
class EMA(WeightAverage):
    """After every step `average = decay * average + (1 - decay) * weights`; the average is evaluated and saved.

    It begins with the weights before its first step. A run of a few hundred steps wants a decay of 0.99 or less. Best
    started late, when the weights have settled.
    """

    decay: float = knob(0.99, "0.999 looks back 1,000 steps; 0: the live model; 1: never moves", least=0, most=1)
    warmup: bool = knob(False, "let the decay rise from 0.1, so that the average soon forgets an early start")
    start: float = share(0.5)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if self.started(state) and not self.average_:
            self.average_ = [weight.clone() for weight in trained(model).values()]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not self.average_:
            return
        decay = warmed_up(self.decay, self.steps_) if self.warmup else self.decay
        get_ema_multi_avg_fn(decay)(self.average_, list(trained(model).values()), None)
        self.steps_ += 1
