import copy
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

from kagglekit import device
from kagglekit.device import CoreSharing, checkpoint_activations, choose_device, random_state_kept, share_cores
from kagglekit.training.predict import predict
from kagglekit.tricks import EMA, FGM, RDrop

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]


@pytest.fixture
def pair(classifier, backbones):
    """pair(name, dropout, freeze): a tiny model, and the same one with checkpointing."""

    def make(name, dropout=0.1, freeze=False):
        model = classifier(folder=backbones[name], dropout=dropout, pooling="attention")
        if freeze:
            model.get_input_embeddings().requires_grad_(False)
        other = copy.deepcopy(model)
        checkpoint_activations(other.backbone)
        return model, other

    return make


def gradients(model, batch, compute):
    """The loss of a batch in training, and the gradient of every weight."""
    torch.manual_seed(3)
    model.train()
    loss, _ = compute(model)(batch)
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("freeze", [False, True], ids=["all", "frozen embeddings"])
@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_gives_the_same_loss_and_gradients(pair, batch, compute, name, freeze):
    models = pair(name, freeze=freeze)
    (loss, plain), (other, again) = (gradients(model, batch, compute) for model in models)
    assert torch.equal(loss, other)
    trained = {key for key, parameter in models[0].named_parameters() if parameter.requires_grad}
    assert len(trained) == len(plain) - freeze
    for key, gradient in plain.items():
        assert torch.equal(gradient, again[key]) if key in trained else gradient is again[key] is None, key


@pytest.mark.parametrize("name", NAMES)
def test_with_checkpointing_each_layer_is_computed_twice_in_training_and_once_otherwise(pair, batch, compute, name):
    _, model = pair(name)
    layers = max((m for m in model.backbone.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    linear = [next(m for m in layer.modules() if isinstance(m, torch.nn.Linear)) for layer in layers]
    calls = []
    for module in linear:
        module.register_forward_hook(lambda *args: calls.append(1))
    gradients(model, batch, compute)
    assert len(calls) == 2 * len(layers)
    calls.clear()
    model.eval()
    compute(model)(batch)
    assert len(calls) == len(layers)


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_does_not_change_predictions(pair, examples, name):
    model, other = pair(name)
    rows = examples(rows=5)
    assert np.array_equal(predict(model, rows, "fp32"), predict(other, rows, "fp32"))


def test_a_run_with_checkpointing_is_one_without(trainer, weights, same):
    found = []
    for folder in ("plain", "other"):
        run = trainer([RDrop(), FGM(), EMA(0.8)], folder, dropout=0.1)
        if folder == "other":
            checkpoint_activations(run.model.backbone)
        receipts = run.fit()
        found.append((weights(run.model), receipts))
    assert same(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def test_each_of_several_processes_has_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == torch.device("cuda", 1)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_random_numbers_go_on_as_if_the_block_had_not_been_also_after_an_exception(error):
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()

    found = []
    for block in (False, True):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        with suppress(ZeroDivisionError):
            if block:
                with random_state_kept():
                    draw()
                    if error:
                        raise error
        found.append(draw())
    assert found[0] == found[1]


def teams():
    return sum(thread.name == "waiting team" for thread in threading.enumerate())


@pytest.mark.skipif(sys.platform != "linux", reason="the load is read from /proc/stat")
def test_waiting_threads_sleep_while_others_are_at_work_and_spin_again_afterwards(monkeypatch):
    load, began = [0.0], time.monotonic()
    monkeypatch.setattr(device, "_core_seconds", lambda: (load[0] * (time.monotonic() - began), time.monotonic()))
    sharing = CoreSharing(every=0.01)
    sharing.start()
    for cores, count in ((0.0, 0), (2.0 * len(os.sched_getaffinity(0)), 1), (0.0, 0)):
        load[0] = cores
        end = time.monotonic() + 10
        while teams() != count and time.monotonic() < end:
            time.sleep(0.01)
        assert teams() == count
    sharing.stopped.set()
    sharing.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the load is read from /proc/stat")
def test_the_load_of_others_counts_and_not_our_own(monkeypatch):
    before, began = device._core_seconds()
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        time.sleep(1)
        after, ended = device._core_seconds()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert 0.6 < (after - before) / (ended - began) / len(hogs) < 1.1
    counted, used = device._core_seconds()[0], sum(os.times()[:2])
    monkeypatch.setattr(os, "times", lambda: os.times_result((0.0,) * 5))
    assert device._core_seconds()[0] - counted == pytest.approx(used, abs=0.5)


def test_one_thread_waits_for_nobody():
    share_cores()
    assert not CoreSharing.started  # tests have one thread
