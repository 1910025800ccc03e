import pytest
import torch
from transformers import TrainerCallback

from kagglekit.model.surgery import split_by_depth
from kagglekit.tricks.ema import EMA
from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.unfreezing import GradualUnfreezing, frozen_parts


class Moves(TrainerCallback):
    """Which parts moved in each step: a list of switches, embeddings first, the head last."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before = [parameter.detach().clone() for parameter in model.parameters()]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        moved = {id(p): not torch.equal(p, b) for p, b in zip(model.parameters(), self.before, strict=True)}
        parts = [*split_by_depth(model.backbone), list(model.head.parameters())]
        assert all(len({moved[id(p)] for p in part if p.ndim > 1}) == 1 for part in parts)
        self.steps.append([any(moved[id(p)] for p in part) for part in parts])


@pytest.mark.parametrize("parts", [1, 3, 13])
def test_one_part_after_the_other_thaws_in_equal_times(parts):
    for share in (number / 100 for number in range(100)):
        thawed = sum(share >= part / parts - 1e-9 for part in range(1, parts + 1))
        assert frozen_parts(parts, share) == parts - thawed
    assert frozen_parts(parts, 0) == parts and frozen_parts(parts, 1) == frozen_parts(parts, 5) == 0


@pytest.mark.parametrize(
    ("until", "start", "first"),  # the step (of 12, from 0) from which layer 2, layer 1 and the embeddings learn
    [(0.75, 0.0, [3, 6, 9]), (0.5, 0.0, [2, 4, 6]), (0.5, 0.25, [4, 5, 6])],
)
def test_the_head_learns_first_then_one_more_layer_from_the_top(trainer, until, start, first):
    moves = Moves()
    receipt = trainer([GradualUnfreezing(until, start=start)], callbacks=[moves], warmup=0).fit()["GradualUnfreezing"]
    for step, (embeddings, one, two, head) in enumerate(moves.steps):
        plain = step < 12 * start
        assert head and [two, one, embeddings] == [plain or step >= begin for begin in first]
    assert receipt == {"steps": first[-1] - 12 * start, "parts frozen at the end": 0}


def test_it_equals_an_optimizer_that_knows_the_learning_parts_alone(trainer, weights, same):
    """While all but the head is frozen: no update, no weight decay, no momentum for the rest."""
    trained = []
    for tricks in ([GradualUnfreezing(0.99)], []):
        run = trainer(tricks, repr(tricks), dropout=0.1, max_grad_norm=0, stop=3)
        run.model.backbone.requires_grad_(bool(tricks))
        run.train()
        trained.append((weights(run.model), len(run.optimizer.state)))
    assert same(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1] == 2  # the optimizer remembers the head's weight and bias alone


def test_nothing_is_left_behind(fitted):
    run = fitted([GradualUnfreezing()])
    assert all(parameter.requires_grad for parameter in run.model.parameters())


@pytest.mark.parametrize(("accumulation", "precision"), [(2, "fp32"), (2, "bf16")])
def test_with_accumulation_and_bf16_it_counts_steps_of_the_optimizer(trainer, accumulation, precision):
    moves = Moves()
    run = trainer([GradualUnfreezing()], accumulation=accumulation, precision=precision, callbacks=[moves], warmup=0)
    run.fit()
    assert [sum(parts) for parts in moves.steps] == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("order", [1, -1])
def test_fgm_finds_its_gradients_also_while_the_embeddings_are_frozen(trainer, order, logged):
    moves = Moves()
    run = trainer([FGM(), GradualUnfreezing(), EMA(0.9)][::order], callbacks=[moves], warmup=0, epochs=6)
    receipts = run.fit()
    assert receipts["FGM"]["steps"] == 36 and receipts["GradualUnfreezing"]["steps"] == 18
    assert moves.steps[0] == [False, False, False, True] and moves.steps[-1] == [True] * 4
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < sum(losses[:6])


def test_frozen_weights_equal_their_average(trainer):
    ema = EMA(0.5, start=0)
    run = trainer([ema, GradualUnfreezing(0.9)], stop=3)
    run.train()
    table = [number for number, (name, _) in enumerate(run.model.named_parameters()) if "embeddings" in name]
    assert all(torch.equal(ema.average_[number], list(run.model.parameters())[number]) for number in table)
