"""A stand-in for the step of training, and what the tests of several tricks look at."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from kagglekit.tricks import FGM
from kagglekit.tricks.trick import Trick


class Twice(Trick):
    """Every pass twice: what an adversarial trick is that moves nothing."""

    def training_step(self, step, model, inputs):
        self.steps_ += 1
        loss = step(inputs)
        step(inputs)
        return loss


class MeanOfTwo(Trick):
    """R-Drop without the disagreement: the mean of two passes, or the loss of every row twice."""

    def __init__(self, doubled):
        self.doubled = doubled

    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        if self.doubled:
            return compute({name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in inputs.items()})
        loss, outputs = compute(inputs)
        return (loss + compute(inputs)[0]) / 2, outputs


class Snapshots(TrainerCallback):
    """The weights before the first step and after each, in `steps`."""

    def __init__(self):
        self.steps = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.on_step_end(args, state, control, model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append([parameter.detach().clone() for parameter in model.parameters()])


@pytest.fixture
def baselines():
    """Name -> tricks that are written down in a few lines, for off positions to be compared with."""
    two = {"two passes": [MeanOfTwo(False)], "two rows": [MeanOfTwo(True)]}
    return {"plain": [], "twice": [Twice()], "FGM": [FGM(0.4)], **two}


@pytest.fixture
def snapshots():
    """snapshots(): a callback that keeps the weights of each step."""
    return Snapshots


@pytest.fixture
def stepping(compute):
    """stepping(model): forward and backward of a batch. It notes inputs, loss and logits of each pass, the output
    of the embeddings and the weights. scale: of the loss. loss: called in place of the model. spoil: f(number of the
    pass) after each backward. break_at: the pass that ends in an exception."""

    def make(model, scale=1.0, loss=None, spoil=None, break_at=None):
        def step(inputs):
            embeddings = model.get_input_embeddings()
            with embeddings.register_forward_hook(lambda _, __, output: step.embedded.append(output.detach())):
                value, outputs = (loss or compute(model))(inputs)
            (scale * value).backward()
            step.inputs.append(inputs)
            step.losses.append(value.item())
            step.logits.append(outputs["logits"].detach())
            step.weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
            if spoil:
                spoil(len(step.losses))
            if len(step.losses) == break_at:
                raise InterruptedError
            return value.detach()

        vars(step).update(inputs=[], losses=[], logits=[], embedded=[], weights=[])
        return step

    return make


@pytest.fixture
def scored(trainer):
    """scored(tricks, folder, score): a trainer that is evaluated every 2 steps, by `score(step)`."""

    def make(tricks=(), folder="run", score=float, seen=None, **options):
        def evaluation(model):
            if seen is not None:
                seen.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
            return {"score": score(run.state.global_step)}

        run = trainer(tricks, folder, evaluation=evaluation, **{"evaluate_every": 2, **options})
        run.args.greater_is_better = True
        return run

    return make


@pytest.fixture
def shown(weights):
    """shown(run): the weights that are evaluated and saved."""

    def make(run):
        with run.evaluating():
            return weights(run.model)

    return make


@pytest.fixture
def gradients():
    """gradients(model): of all its parameters, in order; None where there is none."""
    return lambda model: [parameter.grad for parameter in model.parameters()]


@pytest.fixture
def near():
    """near(a, b): whether two lists of tensors are equal, up to rounding."""

    def compare(some, others, rtol=1e-4, atol=1e-6):
        return all(torch.allclose(one, other, rtol=rtol, atol=atol) for one, other in zip(some, others, strict=True))

    return compare


@pytest.fixture
def kit(classifier, batch, compute, stepping, fitted, scored, trainer, snapshots):
    """What the effect of a trick is measured with."""
    return SimpleNamespace(**locals())
