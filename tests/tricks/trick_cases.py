"""One entry a trick: its seam, its knobs, where it is off, its effect. A trick without one fails the battery."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from kagglekit.tricks import TRICKS
from kagglekit.tricks.mixout import mixed
from kagglekit.tricks.rdrop import disagreement
from kagglekit.tricks.supcon import supervised_contrastive


@dataclass
class Case:
    seam: str  # "step": training_step; "loss": compute_loss; "optimizer"; "beside": training is not touched
    off: list[tuple[dict, str]]  # knobs, and what they equal: a baseline of test_battery.py
    effects: list[Callable]  # f(kit) -> numbers, each above the one before
    usual: dict = field(default_factory=dict)  # at work from the first step on, and not too slow
    wrong: dict = field(default_factory=dict)  # knob -> values out of its range
    resumed: list[tuple[dict, int]] = field(default_factory=lambda: [({}, 4)])  # knobs, and the step of the stop
    receipts: list[tuple[dict, dict]] = field(default_factory=list)  # knobs -> figure -> what it lies between
    passes: int = 1  # how often it runs the inner loop
    draws: bool = False  # random numbers


def climbing(name: str, knobs: dict, backwards: str, kit) -> list[float]:
    """The losses from pass to pass: they rise, and with a negative `backwards` they fall."""
    losses = []
    for sign in (-1, 1):
        model = kit.classifier()
        step = kit.stepping(model)
        returned = TRICKS[name](**{**knobs, backwards: sign * knobs[backwards]}).training_step(step, model, kit.batch)
        mean = sum(step.losses) / len(step.losses) if name == "FreeLB" else step.losses[0]
        assert math.isclose(returned.item(), mean, rel_tol=1e-6)
        losses.append(step.losses)
    return [*losses[0][:0:-1], *losses[1]]


def between(name: str, knobs: dict, steps: slice, kit) -> list[float]:
    """An average is not the last weights, and lies between those of `steps`."""
    seen = kit.snapshots()
    run = kit.scored([TRICKS[name](**knobs)], callbacks=[seen], evaluate_every=1)
    run.fit()
    with run.evaluating():
        averages = [parameter.detach().clone() for parameter in run.model.parameters()]
    assert not any(map(torch.equal, averages, run.model.parameters()))
    inside = 0
    for average, *weights in zip(averages, *seen.steps[steps], strict=True):
        low, high = torch.stack(weights).aminmax(dim=0)
        inside += bool((average >= low - 1e-6).all() and (average <= high + 1e-6).all())
    return [inside - 1, len(averages) - 0.5, inside]


def passes_agree_more(doubled: bool, kit) -> list[float]:
    apart = []
    for alpha in (20.0, 0.0):
        run = kit.fitted([TRICKS["RDrop"](alpha, doubled)], f"alpha{alpha}", dropout=0.2, epochs=12)
        run.model.train()
        torch.manual_seed(0)
        with torch.no_grad():
            passes = [kit.compute(run.model)(kit.batch)[1]["logits"] for _ in range(40)]
        pairs = zip(passes[::2], passes[1::2], strict=True)
        apart.append(sum(disagreement(p, q, "softmax") for p, q in pairs).item() / 20)
    return [apart[0], 0.5 * apart[1]]


def texts_of_a_class_are_closer(kit) -> list[float]:
    apart = []
    for weight in (0.9, 0.0):
        run = kit.fitted([TRICKS["SupCon"](weight)], f"weight{weight}", epochs=8)
        with torch.no_grad():
            vectors = kit.compute(run.model.eval())(kit.batch)[1]["pooled"]
        apart.append(supervised_contrastive(vectors, kit.batch["labels"], 0.3).item())
    return [apart[0], 0.95 * apart[1]]


def mixtures_make_less_sure(layer: int, kit) -> list[float]:
    sure = []
    for tricks in ([TRICKS["Mixup"](1.0, layer)], []):
        run = kit.fitted(tricks, f"{tricks}", epochs=10)
        sure.append(kit.compute(run.model.eval())(kit.batch)[1]["logits"].softmax(-1).amax(-1).mean().item())
    return [sure[0], sure[1] - 0.02]


def more_noise_moves_further(kit) -> list[float]:
    model = kit.classifier().train()
    step, plain = kit.stepping(model), kit.compute(model)(kit.batch)[1]["logits"]
    for alpha in (0.1, 1.0, 10.0):
        torch.manual_seed(0)
        TRICKS["NEFTune"](alpha).training_step(step, model, kit.batch)
    near, middle, far = ((logits - plain).norm().item() for logits in step.logits)
    return [0.0, near, 0.5 * middle, middle, far]


def less_text_costs_more(kit) -> list[float]:
    run, losses = kit.fitted(epochs=12), []
    for probability in (0.0, 0.3, 0.9):
        torch.manual_seed(0)
        step = kit.stepping(run.model)
        for _ in range(20):
            TRICKS["TokenMasking"](probability).training_step(step, run.model, kit.batch)
        losses.append(sum(step.losses))
    return losses


def pulled_to_the_pretrained(probability: float, kit) -> list[float]:
    """A squared loss is higher by p / (1 - p) times the squared distance, each weight times the square of its input."""
    torch.manual_seed(0)
    inputs, weight, pretrained = torch.randn(16, 5), torch.randn(5), torch.randn(5)
    linear = torch.nn.Linear(5, 20_000, bias=False)  # as many draws of the same five weights
    linear.weight.data = weight.expand(20_000, 5).clone()
    with mixed([linear], [pretrained.expand(20_000, 5)], probability):
        loss = linear(inputs).square().mean().item()
    pull = probability / (1 - probability) * ((weight - pretrained) ** 2 * inputs.square().mean(dim=0)).sum()
    expected = ((inputs @ weight).square().mean() + pull).item()
    return [0.97 * expected, loss, 1.03 * expected]


def top_layers_move_further(kit) -> list[float]:
    """In the first steps the weight and the bias of the head move, and nothing else."""
    start = [p.detach().clone() for p in kit.classifier().parameters()]
    run = kit.trainer([TRICKS["GradualUnfreezing"](0.75)], stop=2, warmup=0)
    run.train()
    moved = [not torch.equal(p, before) for p, before in zip(run.model.parameters(), start, strict=True)]
    return [sum(moved) - 1, 2.5, sum(moved) + 0.6]


LENGTHS, SHARES = [-0.1, math.inf], [-0.1, 1.0]
NORM = "mean perturbation norm"
CASES = {
    "AWP": Case(
        "step",
        [({"strength": 0.0, "start": 0.0}, "twice"), ({"epsilon": 0.0, "start": 0.0}, "twice")],
        [
            partial(climbing, "AWP", {"strength": strength, "epsilon": epsilon}, "strength")
            for strength, epsilon in [(0.5, 0.01), (0.001, 0.5), (1.0, 0.05)]
        ],
        usual={"start": 0.0},
        wrong={"strength": LENGTHS, "epsilon": SHARES},
        resumed=[({}, 4), ({"every": 3}, 5)],
        receipts=[
            ({"start": 0.5}, {"steps": (6, 6), "mean relative perturbation": (0.005, 0.01)}),
            ({"strength": 0.003, "epsilon": 0.9}, {"steps": (12, 12), "mean relative perturbation": (0.0024, 0.0036)}),
        ],
        passes=2,
    ),
    "CheckpointSoup": Case(
        "beside",
        [({"keep": 1}, "plain")],
        [partial(between, "CheckpointSoup", {"keep": 3, "start": 0.0}, slice(-3, None))],
        usual={"start": 0.0},
        wrong={"keep": [0, -1]},
        resumed=[({"keep": 2, "start": 0.0}, stop) for stop in (1, 4, 7, 10)],
    ),
    "EMA": Case(
        "beside",
        [({"decay": 0.0, "start": 0.0}, "plain")],
        [partial(between, "EMA", {"decay": 0.7, "start": 0.0}, slice(None))],
        usual={"decay": 0.8, "start": 0.0},
        wrong={"decay": [-0.1, 1.1]},
        receipts=[
            ({"decay": 0.9}, {"steps": (12, 12), "distance of average to last weights": (1e-9, 1)}),
            ({"decay": 0.0}, {"steps": (12, 12), "distance of average to last weights": (0, 0)}),
        ],
    ),
    "FGM": Case(
        "step",
        [({"epsilon": 0.0}, "twice")],
        [partial(climbing, "FGM", {"epsilon": epsilon}, "epsilon") for epsilon in (0.01, 0.1)],
        wrong={"epsilon": LENGTHS},
        resumed=[({}, 4), ({"every": 3}, 5)],
        receipts=[
            ({"epsilon": 0.5, "every": every}, {"steps": (steps, steps), NORM: (0.499995, 0.500005)})
            for every, steps in [(1, 12), (5, 3), (99, 1)]
        ],
        passes=2,
    ),
    "FreeLB": Case(
        "step",
        [
            ({"steps": 1, "magnitude": 0.0}, "plain"),
            ({"steps": 2, "epsilon": 0.0, "magnitude": 0.0}, "plain"),  # the mean of two equal gradients rounds nothing
            ({"steps": 2, "alpha": 0.0, "magnitude": 0.0}, "plain"),
        ],
        [
            partial(climbing, "FreeLB", {"steps": 4, "alpha": 0.05, "epsilon": 2.0, "magnitude": magnitude}, "alpha")
            for magnitude in (0.0, 0.3)
        ],
        usual={"steps": 2},
        wrong={"steps": [0], "alpha": LENGTHS, "epsilon": LENGTHS, "magnitude": LENGTHS},
        resumed=[({}, 4), ({"every": 3}, 5)],
        receipts=[({"steps": 3, "epsilon": 0.15, "magnitude": 0.0}, {"steps": (12, 12), NORM: (0.1485, 0.1515)})],
        passes=2,
        draws=True,
    ),
    "GradualUnfreezing": Case(
        "optimizer",
        [({"until": 0.0}, "plain")],
        [top_layers_move_further],
        wrong={"until": SHARES},
        resumed=[({}, stop) for stop in (1, 3, 8)],
        receipts=[({"until": 0.5}, {"steps": (6, 6), "parts frozen at the end": (0, 0)})],
    ),
    "Mixout": Case(
        "step",
        [({"probability": 0.0}, "plain")],
        [partial(pulled_to_the_pretrained, probability) for probability in (0.3, 0.7)],
        usual={"probability": 0.2},
        wrong={"probability": SHARES},
        resumed=[({"probability": 0.5, "start": start}, stop) for start in (0.0, 0.5) for stop in (3, 8)],
        receipts=[({}, {"steps": (12, 12), "distance to pretrained weights": (1e-9, math.inf)})],
        draws=True,
    ),
    "Mixup": Case(
        "step",
        [({"alpha": 0.0, "layer": layer}, "plain") for layer in (0, 1, -1)],
        [partial(mixtures_make_less_sure, layer) for layer in (0, 1, -1)],
        wrong={"alpha": [*LENGTHS, 0.005, 0.001]},
        resumed=[({"alpha": 0.4, "layer": layer}, 4) for layer in (0, 1, -1)],
        receipts=[
            ({"alpha": 1.0}, {"steps": (12, 12), "mean lambda": (0.25, 0.75)}),
            ({"alpha": 0.0}, {"steps": (12, 12), "mean lambda": (1, 1)}),
        ],
        draws=True,
    ),
    "NEFTune": Case(
        "step",
        [({"alpha": 0.0}, "plain")],
        [more_noise_moves_further],
        wrong={"alpha": LENGTHS},
        receipts=[  # texts of 3 to 12 tokens
            ({"alpha": 3.0}, {"steps": (12, 12), "mean noise bound": (3 / (12 * 16) ** 0.5, 3 / (3 * 16) ** 0.5)}),
            ({"alpha": 0.0}, {"steps": (12, 12), "mean noise bound": (0, 0)}),
        ],
        draws=True,
    ),
    "PGD": Case(
        "step",
        [({"epsilon": 0.0}, "twice"), ({"alpha": 0.0}, "twice"), ({"steps": 1, "alpha": 0.4}, "FGM")],
        [partial(climbing, "PGD", {"steps": 4, "alpha": 0.05}, "alpha")],
        usual={"steps": 2},
        wrong={"steps": [0], "epsilon": LENGTHS, "alpha": LENGTHS},
        resumed=[({}, 4), ({"every": 3}, 5)],
        receipts=[({"steps": 3, "epsilon": 0.4, "alpha": 0.3}, {"steps": (12, 12), NORM: (0.3996, 0.4004)})],
        passes=3,
    ),
    "RDrop": Case(
        "loss",
        [({"alpha": 0.0, "doubled": False}, "two passes"), ({"alpha": 0.0, "doubled": True}, "two rows")],
        [partial(passes_agree_more, doubled) for doubled in (False, True)],
        wrong={"alpha": LENGTHS},
        resumed=[({"alpha": 2.0, "doubled": doubled}, 4) for doubled in (False, True)],
        receipts=[
            ({"doubled": doubled}, {"steps": (12, 12), "mean disagreement": (1e-9, 1)}) for doubled in (False, True)
        ],
    ),
    "SWA": Case(
        "beside",
        [({"cycle": 3, "start": 0.75}, "plain"), ({"cycle": 1, "start": 0.9}, "plain")],  # the average of one
        [partial(between, "SWA", {"rate": 1.0, "start": 0.5}, slice(7, None))],
        usual={"start": 0.0},
        wrong={"rate": LENGTHS, "cycle": [0]},
        resumed=[({"rate": 0.5, "cycle": 2, "start": 0.5}, stop) for stop in (2, 6, 8, 11)],
        receipts=[({"rate": 0.5, "start": 0.75}, {"steps": (3, 3), "distance of average to last weights": (1e-9, 1)})],
    ),
    "SupCon": Case(
        "loss",
        [({"weight": 0.0}, "plain")],
        [texts_of_a_class_are_closer],
        wrong={"weight": [-0.1, 1.1], "temperature": [0.0, *LENGTHS]},
        resumed=[({"weight": 0.5}, 4)],
        receipts=[({}, {"steps": (12, 12), "mean contrastive loss": (1e-9, 10)})],
    ),
    "TokenMasking": Case(
        "step",
        [({"probability": 0.0}, "plain")],
        [less_text_costs_more],
        wrong={"probability": SHARES},
        resumed=[({"probability": 0.3}, 4)],
        draws=True,
    ),
}
