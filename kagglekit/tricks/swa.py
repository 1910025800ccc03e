"""SWA: evaluate and keep the mean of the weights at the end of training (Izmailov et al., 2018, arXiv 1803.05407)."""

import math

from torch.optim.swa_utils import get_swa_multi_avg_fn

from kagglekit.tricks.trick import knob, share, trick
from kagglekit.tricks.weights import WeightAverage, trained


def sawtooth(step: int, cycle: int) -> float:
    """The factor of a rate at `step` (from 0): from 1 to 0.1 on a line over each `cycle` steps; 1 for a cycle of 1."""
    return 1 - 0.9 * (step % cycle) / max(cycle - 1, 1)


@trick
class SWA(WeightAverage):
    """Stochastic weight averaging: from `start` on, the equal mean of the weights at the end of every cycle.

    With a rate of 0 the schedule is low by then and keeps the weights close to each other; a higher one lets them
    wander. Within a cycle the rate falls on a line to a tenth of it; with cycle=1 it is constant. A cycle longer than
    the steps left averages nothing: that is an error. There are no batch norms to measure again.
    """

    rate: float = knob(0.0, "share of the base rates from start on; 0.5 to 1 as in the paper; 0: the schedule", least=0)
    cycle: int = knob(1, "steps between two of the averaged weights", least=1)
    start: float = share(0.75)

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        step = state.global_step - self._first(state)
        if not self.rate or step < 0:
            return
        for group in optimizer.param_groups:  # for this step alone: the schedule sets the next one
            group["lr"] = group["initial_lr"] * self.rate * sawtooth(step, self.cycle)
        lr_scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # so that it is logged

    def on_step_end(self, args, state, control, model=None, **kwargs):
        steps = state.global_step - self._first(state)  # done since the start
        if steps <= 0 or steps % self.cycle:
            return
        weights = list(trained(model).values())
        if not self.average_:
            self.average_ = [weight.clone() for weight in weights]
        get_swa_multi_avg_fn()(self.average_, weights, self.steps_)
        self.steps_ += 1

    def _first(self, state) -> int:
        return math.ceil(self.start * state.max_steps)
