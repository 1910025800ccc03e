"""SWA: evaluate and keep the mean of the weights at the end of training (Izmailov et al., 2018, arXiv 1803.05407)."""

import math

from torch.optim.swa_utils import get_swa_multi_avg_fn

from kagglekit.options import check_range
from kagglekit.tricks.weights import WeightAverage, trainable


def sawtooth(step: int, cycle: int) -> float:
    """The factor of a rate at `step` (from 0): from 1 to 0.1 on a line over each `cycle` steps; 1 for a cycle of 1."""
    return 1 - 0.9 * (step % cycle) / max(cycle - 1, 1)


class SWA(WeightAverage):
    """Stochastic weight averaging: from `start` on, the equal mean of the weights at the end of every cycle.

    rate: share of each group's base rate at which training goes on from `start`; 0 leaves the schedule as it is, which
    by then is low and keeps the weights close to each other; 0.5 to 1 lets them wander, as in the paper. cycle: steps
    from one of the averaged weights to the next; within a cycle the rate falls on a line from `rate` to a tenth of it.
    1 averages after every step, at a constant rate; one longer than what is left averages nothing: that is an error.
    Costs one more copy of the weights; the step is as fast as before. There are no batch norms to be measured anew.
    Beside EMA or another average, the last of the recipe is evaluated and saved.
    """

    def __init__(self, rate: float = 0.0, cycle: int = 1, start: float = 0.75):
        self.rate = rate
        self.cycle = cycle
        self.start = start
        self.average_ = []

    def check(self):
        super().check()
        check_range("SWA: rate", self.rate, 0 <= self.rate < math.inf, "a share of the base rate, 0 or more")
        check_range("SWA: cycle", self.cycle, self.cycle >= 1, "1 step or more")

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        step = state.global_step - self._first(state)
        if not self.rate or step < 0:
            return
        for group in optimizer.param_groups:  # of this step alone: then the schedule sets it anew
            group["lr"] = group["initial_lr"] * self.rate * sawtooth(step, self.cycle)
        lr_scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # what is logged

    def on_step_end(self, args, state, control, model=None, **kwargs):
        steps = state.global_step - self._first(state)  # done since the start
        if steps <= 0 or steps % self.cycle:
            return
        weights = trainable(model)
        if not self.average_:
            self.average_ = [weight.clone() for weight in weights]
        get_swa_multi_avg_fn()(self.average_, weights, self.steps_)
        self.steps_ += 1

    def _first(self, state) -> int:
        return math.ceil(self.start * state.max_steps)
