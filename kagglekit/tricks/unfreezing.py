"""GradualUnfreezing: train the head first, then one layer more at a time (Howard and Ruder, 2018)."""

from kagglekit.model.surgery import split_by_depth
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick, knob, trick


def frozen_parts(parts: int, share: float) -> int:
    """How many of `parts`, counted from the bottom, are still frozen after this `share` (0 to 1) of the unfreezing."""
    return max(0, parts - int(parts * share + 1e-9))


@trick
class GradualUnfreezing(Trick):
    """At `start` only the head learns; then, from the top, one layer more after each equal share of the steps.

    The embeddings learn last; with `until` near 1 they hardly learn. The usual values are for two or three epochs.
    A frozen layer drops its gradients before the optimizer's step: no update, no weight decay, no momentum. So it works
    with every other trick and in several processes, but saves no time: to save time, freeze layers for good
    (`freeze_layers`). Gradients are clipped before that, by the norm of all of them, which is also the norm logged.
    """

    needs_layers = True
    frozen_ = 0  # parts that were frozen at the last step: layers, and the embeddings

    until: float = knob(
        0.5, "share of the steps after which all learn; 0.3 to 0.5 is usual; 0: nothing is frozen", least=0, below=1
    )

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
