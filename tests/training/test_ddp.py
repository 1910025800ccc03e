"""Two processes that train together give what one gives: gloo on the CPU, in one launch for all recipes."""

import copy
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from torch.multiprocessing import start_processes

from kagglekit.data.batches import Examples, training_batches
from kagglekit.data.tokens import Tokens
from kagglekit.learners.choose import Choice
from kagglekit.learners.joint import JointTuner
from kagglekit.losses.catalogue import default_loss
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.training.callbacks import SaveEvery, last_checkpoint
from kagglekit.training.early_stopping import KeepBest
from kagglekit.training.finetune import FineTuner
from kagglekit.training.learning_rates import parameter_groups
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from kagglekit.training.trainer import Trainer, history, training_arguments
from kagglekit.tricks import TRICKS, make_tricks
from tests.conftest import make_task

EVALUATED = {"evaluate_every": 2}
RECIPES = {  # name -> tricks, and options: stop and go on at that step, dropout, patience, or an argument of the loop
    "plain": ({}, {"log_every": 1}),
    "accumulation": ({"FGM": {}, "AWP": {"start": 0.0}}, {"accumulation": 2}),
    "KeepBest": ({"EMA": {"decay": 0.8, "start": 0.0}}, {"patience": 0, **EVALUATED}),
    "patience": ({}, {"patience": 2, "evaluate_every": 1, "log_every": 1}),
    "stopped": ({"FGM": {}, "EMA": {"decay": 0.8}}, {"stop": 5}),
    "stopped, with dropout": ({"RDrop": {}, "FGM": {}}, {"stop": 5, "dropout": 0.1}),
    **{name: ({name: {}}, {}) for name in TRICKS},
    "RDrop": ({"RDrop": {}}, {"dropout": 0.1}),
    "CheckpointSoup": ({"CheckpointSoup": {}}, EVALUATED),
}
ROWS = ["RDrop", "FreeLB", "Mixup", "NEFTune", "TokenMasking", "SupCon"]  # draw for each row, or look at pairs of them
START = "spawn" if torch.cuda.is_available() else "fork"  # a fork need not import everything again
CAN_GO_ON = Version(transformers.__version__) >= Version("5.18")  # before, only on GPUs: it looks for a device cpu:0
ALIKE = [name for name in RECIPES if name not in [*ROWS, "stopped, with dropout"]]


SHORT = Recipe(epochs=1, batch_size=6, max_length=32, precision="fp32", learning_rate=1e-6)
JOINT = {  # how two tasks are learned by one model
    "learned": {"losses": "learned"},
    "falling": {"losses": "falling", "mixed": False},
}


class Stop(SaveEvery):
    """A checkpoint at every step, by the clock of the first process; and an end at step `at`."""

    def __init__(self, at):
        super().__init__(0.0 if os.environ.get("RANK", "0") == "0" else 1e9)
        self.at = at

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        control.should_training_stop |= state.global_step == self.at


def train(model, examples, folder, name):
    """What a run of 8 steps leaves behind."""
    recipe, options = RECIPES[name]
    stop = options.get("stop") if CAN_GO_ON else None
    for at in (stop, None) if stop else (None,):
        run = make_trainer(copy.deepcopy(model), examples, folder, recipe, at, **options)
        receipts = run.fit() if at is None else run.train()
    live = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with run.evaluating():
        best = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    found = {"live": live, "best": best, "receipts": receipts, "history": history(run.state.log_history)}
    return {**found, "checkpoint": last_checkpoint(folder) and last_checkpoint(folder).name}


def make_trainer(model, examples, folder, recipe, at, stop=None, dropout=0.0, patience=None, **options):
    """`patience` among the options adds KeepBest."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout

    def score(model):
        drift = 0.01 * run.args.process_index  # a process that reckons differently must not go its own way
        return {"score": -float(np.square(predict(model, examples, "fp32") - 0.4).sum()) + drift}

    run = Trainer(
        model,
        training_arguments(folder, epochs=2, batch_size=4, precision="fp32", seed=0, **{"log_every": 3, **options}),
        examples,
        default_loss("multiclass"),
        torch.optim.SGD(parameter_groups(model, 0.1), momentum=0.9),  # Adam would make steps of mere rounding
        make_tricks(recipe) + ([] if patience is None else [KeepBest(patience)]),
        score if "evaluate_every" in options else None,
        [Stop(at)],
    )
    return run


def train_jointly(joints, folder):
    """What a model of two tasks predicts for each, and what it leaves behind, for each entry of JOINT."""
    rows, found = ([np.arange(18), np.arange(15)], [np.arange(18, 24), np.arange(15, 20)]), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kagglekit.training.finetune.adamw", lambda groups: torch.optim.SGD(groups, momentum=0.9))
        for name, joint in joints.items():
            found[name] = joint.fit_all(*rows, [folder / name / task for task in "ab"], 0)
    return found


def train_choice(choice, folder):
    """What a fold that begins with an average predicts, and the files that this process has put in their places."""
    written, replace = [], os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", lambda part, path: (written.append(Path(path).name), replace(part, path)))
        fitted = choice.fit(np.arange(18), np.arange(18, 24), folder / "fold0", 0)
    return fitted.oof, sorted(written)


def work(process, port, model, examples, joints, choice, folder):
    """One of two processes."""
    where = {"RANK": process, "LOCAL_RANK": process, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in where.items()}
    torch.set_num_threads(1)
    found = {recipe: train(model, examples, folder / recipe, recipe) for recipe in RECIPES}
    found |= {"joint": train_jointly(joints, folder), "choice": train_choice(choice, folder)}
    torch.save(found, folder / f"process{process}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def rows():
    """14 texts of 3 to 23 tokens, most of them short: batches of 1 to 6 texts, even and odd numbers of them."""
    random = np.random.default_rng(0)
    lengths = np.where(np.arange(14) % 8 == 0, 20, 3) + np.arange(14) % 4
    texts = [random.integers(5, 30, n).astype(np.int32) for n in lengths]
    return Examples(Tokens(np.concatenate(texts), lengths), 0, np.array([text[1] % 3 for text in texts], np.int64))


@pytest.fixture(scope="module")
def joints(backbone, tables):
    """A `JointTuner` of two tasks for each entry of JOINT."""
    recipe = Recipe(epochs=3, batch_size=4, max_length=32, precision="fp32", learning_rate=0.1)
    one, two = (
        FineTuner(kind, *tables(kind), backbone, recipe) for kind in (make_task("multiclass"), make_task("regression"))
    )
    return {
        name: JointTuner(one.task, one.train, one.test, backbone, recipe, others=[two], **options)
        for name, options in JOINT.items()
    }


@pytest.fixture(scope="module")
def choice(joints, backbone, tmp_path_factory):
    """A fine-tuner whose fold begins with the average of two backbones."""
    other = shutil.copytree(backbone, tmp_path_factory.mktemp("other") / "model")
    tuner = FineTuner(joints["learned"].task, joints["learned"].train, joints["learned"].test, backbone, SHORT)
    return Choice(tuner, {}, {0: {backbone: 1.0, str(other): 1.0}}, "")


@pytest.fixture(scope="module")
def together(backbone, rows, joints, choice, tmp_path_factory):
    """What each of two processes, and one alone, found for each recipe."""
    torch.manual_seed(0)
    model = Classifier(load_backbone(backbone, 0.0, attention="eager"), "softmax", 3)
    model.mask_id, model.special_ids = 4, (0, 1, 2, 3, 4)
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = start_processes(
        work, (port, model, rows, joints, choice, folder), 2, join=False, daemon=True, start_method=START
    )
    deadline = time.monotonic() + 300
    while not pair.join(timeout=5):
        assert time.monotonic() < deadline, "the two processes wait for each other"
    pair = [torch.load(folder / f"process{n}.pt", weights_only=False) for n in range(2)]
    alone = tmp_path_factory.mktemp("alone")
    found = {recipe: train(model, rows, alone / recipe, recipe) for recipe in RECIPES}
    found |= {"joint": train_jointly(joints, alone), "choice": train_choice(choice, alone)}
    return *pair, {**found, "places": (folder, alone)}


@pytest.mark.parametrize("recipe", ALIKE)
def test_two_processes_give_the_weights_of_one(together, recipe):
    first, _, alone = (found[recipe] for found in together)
    for kind in ("live", "best"):
        for name, tensor in alone[kind].items():
            assert torch.allclose(first[kind][name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_processes_have_the_same_weights(together, recipe):
    first, second, _ = (found[recipe] for found in together)
    for kind in ("live", "best"):
        assert all(torch.equal(tensor, second[kind][name]) for name, tensor in first[kind].items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_history_is_that_of_one_process(together, recipe):
    first, second, alone = (found[recipe] for found in together)
    assert [row["step"] for row in first["history"]] == [row["step"] for row in alone["history"]]
    for row, same, other in zip(first["history"], second["history"], alone["history"], strict=True):
        assert row == same and row.keys() == other.keys()
        if recipe in ALIKE:
            assert row == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_receipts_and_the_last_checkpoint_are_those_of_one_process(together, recipe):
    first, _, alone = (found[recipe] for found in together)
    assert first["checkpoint"] == alone["checkpoint"] is not None
    for name, receipt in alone["receipts"].items():
        assert first["receipts"][name]["steps"] == receipt["steps"] > 0
        if recipe in ALIKE:
            assert first["receipts"][name] == pytest.approx(receipt, rel=1e-4)


def test_what_keeps_the_best_did_not_keep_the_last(together):
    for name in ("KeepBest", "patience"):
        assert all(found[name]["receipts"]["KeepBest"]["best step"] not in (0, 8) for found in together)
    assert all(found["patience"]["history"][-1]["step"] < 8 for found in together)


def test_the_batches_have_even_and_odd_numbers_of_texts_and_one_alone(rows):
    sizes = {len(batch) for epoch in (0, 1) for batch in training_batches(rows.tokens.lengths, 4, 0, epoch)}
    assert 1 in sizes and {size % 2 for size in sizes} == {0, 1}


@pytest.mark.parametrize("name", JOINT)
def test_two_processes_learn_several_tasks_as_one_does(together, name):
    first, second, alone = (found["joint"][name] for found in together)
    for ours, same, other in zip(first, second, alone, strict=True):
        assert np.allclose(ours.oof, other.oof, atol=1e-4) and np.allclose(ours.test, other.test, atol=1e-4)
        assert np.array_equal(ours.oof, same.oof) and ours.history == same.history
        weights = [np.array(one.receipts["loss weights"]) for one in (ours, same, other)]
        assert np.array_equal(*weights[:2]) and np.allclose(weights[0], weights[2], atol=1e-5)
        assert len(np.unique(weights[0])) > 1
    shared, own = (sorted(path.relative_to(at) for path in (at / name).rglob("*")) for at in together[2]["places"])
    assert shared == own and any(path.name == "model.safetensors" for path in own)


def test_of_two_processes_the_first_alone_writes_the_average_and_the_cost(together):
    first, second, alone = (found["choice"] for found in together)
    assert np.array_equal(first[0], second[0]) and np.allclose(first[0], alone[0], atol=1e-6)
    assert first[1] == alone[1] and {"start", "cost.json", "model"} <= {*first[1]} and second[1] == []
