"""Gradual unfreezing: the head learns first, then one more layer after the other (Howard and Ruder, 2018)."""

from kagglekit.model.surgery import split_by_depth
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick


def frozen_parts(parts: int, share: float) -> int:
    """How many of `parts`, counted from the bottom, are still frozen after this `share` (0 to 1) of the unfreezing."""
    return max(0, parts - int(parts * share + 1e-9))


class GradualUnfreezing(Trick):
    """At `start` only what is not in the backbone learns; then, from the top, one more layer after each equal time.

    until: share of all steps after which everything learns, the embeddings last; 0 freezes nothing, 0.3 to 0.5 is
    usual for two or three epochs, near 1 leaves the embeddings hardly a step.
    A frozen layer drops its gradients before the optimizer's step: no update, no weight decay, no momentum. So it works
    with every other trick and in several processes, and saves no time: to save time, freeze layers for good
    (`freeze_layers`). Gradients are clipped before, by the norm of them all, and that is the norm which is logged.
    """

    frozen_: int = 0  # parts at the last step: layers, and the embeddings

    def __init__(self, until: float = 0.5, start: float = 0.0):
        self.until = until
        self.start = start

    def check(self):
        super().check()
        fits = self.until == 0 or self.start < self.until < 1
        check_range("GradualUnfreezing: until", self.until, fits, f"0, or above start={self.start} and below 1")

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.started(state) or not self.until:
            return
        parts = split_by_depth(model.backbone)
        done = state.global_step / state.max_steps
        self.frozen_ = frozen_parts(len(parts), (done - self.start) / (self.until - self.start))
        for part in parts[: self.frozen_]:
            for parameter in part:
                parameter.grad = None
        self.steps_ += self.frozen_ > 0

    def receipt(self, model):
        """`steps`: those on which something was frozen."""
        return {**super().receipt(model), "parts frozen at the end": int(self.frozen_)}
