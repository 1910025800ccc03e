"""Between logged steps nothing waits for a GPU: no number is read back, no shape depends on values, nothing is copied.

A GPU computes while Python goes on, until Python asks for a value. Here the tensors of the model and of batches, and
all that is computed from them, count as being on a GPU, and each call that would wait for it is noted with its place.
`torch.cuda.set_sync_debug_mode("error")` in tests/benchmarks/gpu.py shows the same on a real one.
"""

import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import TrainerCallback

from kagglekit import device
from kagglekit.device import checkpoint_activations
from kagglekit.losses.catalogue import LOSSES, make_loss
from kagglekit.model import deberta_attention
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.training import trainer as training
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.trainer import Trainer, training_arguments
from kagglekit.tricks import TRICKS

VALUES = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}
VALUES |= {"aten::is_nonzero", "aten::equal", "aten::repeat_interleave", "aten::bincount", "aten::allclose"}
READS = {"tolist", "numpy", "cpu", "__array__"}
MAKES = {"tensor", "as_tensor"}  # with a device: copied to it, which waits
ON_CPUS = {"row_gradients.py", "fast_layers.py"}  # of modules that act on a CPU alone
ALLOWED = {  # (call, place): why it is no waiting
    ("aten::_local_scalar_dense", "mixup.py: mix_inputs"): "one_hot checks its numbers on a CPU alone",
    ("aten::_local_scalar_dense", "functions.py: _as_probs"): "the same",
}


class Watch(TorchDispatchMode):
    """Notes calls that wait, while `noting`; as a context it is watched together with what Python calls."""

    def __init__(self):
        super().__init__()
        self.held, self.noting, self.found = {}, False, set()

    def hold(self, *values):
        """Take tensors to be on a GPU."""
        for tensor in tree_iter(values):
            if isinstance(tensor, torch.Tensor):
                storage = StorageWeakRef(tensor.untyped_storage())
                self.held[storage.cdata] = storage  # a weak reference: no other storage gets its address

    def holds(self, *values):
        tensors = [x for x in tree_iter(values) if isinstance(x, torch.Tensor)]
        return any(x.untyped_storage()._cdata in self.held for x in tensors)

    def note(self, call):
        if self.noting:
            codes = [frame.f_code for frame, _ in traceback.walk_stack(sys._getframe())]  # the innermost first
            files = {code: Path(code.co_filename) for code in codes}
            ours = [code for code in codes if not {"torch", "tests"} & set(files[code].parts)]
            if not ON_CPUS & {files[code].name for code in ours}:
                self.found.add((call, f"{files[ours[0]].name}: {ours[0].co_name}"))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func._schema.name, kwargs or {}
        if self.holds(args, kwargs):
            indices = args[1] if name.startswith("aten::index") and isinstance(args[1], list | tuple) else ()
            masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
            if name in VALUES or masks:
                self.note(name)
            result = func(*args, **kwargs)
            written = [a for a, s in zip(args, func._schema.arguments, strict=False) if s.alias_info is not None]
            self.hold(result, [a for a in written if a is not None], kwargs.get("out"))
            return result
        return func(*args, **kwargs)


class Calls(TorchFunctionMode):
    """Calls from Python that leave no trace below it on a CPU."""

    def __init__(self, watch):
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if (name in READS and self.watch.holds(args)) or (name in MAKES and kwargs.get("device") is not None):
            self.watch.note(name)
        return func(*args, **kwargs)


class Steady(TrainerCallback):
    """Notes from the end of the third step to that of the last but one."""

    def __init__(self, watch):
        self.watch = watch

    def on_step_end(self, args, state, control, **kwargs):
        self.watch.noting = 3 <= state.global_step < state.max_steps - 1


@pytest.fixture
def waits(tmp_path, examples, backbones, monkeypatch):
    """waits(tricks, ...): the calls that would wait in the steady steps of such a training."""

    def run(
        tricks=(), kind="multiclass", loss=None, architecture="bert", pooling="mean", checkpointing=False, **others
    ):
        torch.manual_seed(0)
        encoder = load_backbone(backbones[architecture], 0.1)
        data = examples(kind="multilabel" if kind == "ordinal" else kind)
        measured, output_layer = make_loss(loss or {}, kind, data.arrays["labels"], 3)
        model = Classifier(encoder, output_layer, 3, pooling, head_dropout=0.1)
        if checkpointing:
            checkpoint_activations(model.backbone)
        model.mask_id, model.special_ids = 4, (0, 1, 2, 3, 4)
        watch = Watch()
        options = {"epochs": 1.5, "batch_size": 4, "precision": "fp32", "seed": 0, "log_every": 100, **others}
        optimizer = adamw(parameter_groups(model, 1e-3))
        arguments = training_arguments(tmp_path, **options)
        score = (lambda model: {"score": 0.0}) if "evaluate_every" in others else None
        run = Trainer(model, arguments, data, measured, optimizer, tricks, score, [Steady(watch)])
        step = run.training_step

        def held(model, inputs, items=None):
            watch.hold(inputs)
            return step(model, inputs, items)

        run.training_step = held
        watch.hold(list(model.parameters()), list(model.buffers()))
        with watch, Calls(watch):
            run.train()
        assert run.state.global_step == 9
        return watch.found

    monkeypatch.setattr(training, "padding_known", lambda _, padded: device.padding_known(torch.device("cuda"), padded))
    monkeypatch.setattr(deberta_attention, "_attend_on_cpu", deberta_attention._attend)
    return run


def test_the_watch_sees_what_waits():
    """And not what is read from tensors that were never on the GPU."""
    watch, there, here = Watch(), torch.arange(4.0), torch.arange(4.0)
    watch.hold(there)
    watch.noting = True
    seen = {}
    with watch, Calls(watch):
        for name, act in {
            "item": lambda x: (x * 2).sum().item(),
            "bool": lambda x: bool(x[0] > 0),
            "index": lambda x: x[x > 1],
            "tolist": lambda x: (x + 1).tolist(),
            "cpu": lambda x: x.view(2, 2).cpu(),
            "numpy": lambda x: x.numpy(),
            "nonzero": lambda x: x.nonzero(),
            "in place": lambda x: torch.zeros(4).add_(x).sum().item(),
            "each": lambda x: torch._foreach_add([x], 1)[0][0].item(),
        }.items():
            for tensor in (there, here):
                watch.found.clear()
                act(tensor)
                seen.setdefault(name, []).append(len(watch.found))
    assert set(map(tuple, seen.values())) == {(1, 0)}, seen


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_plain_training_waits_for_nothing(waits, architecture, checkpointing):
    assert not waits(architecture=architecture, checkpointing=checkpointing)


@pytest.mark.parametrize("name", TRICKS)
def test_no_trick_waits(waits, name):
    knobs = {"EMA": {"start": 0.0}, "SWA": {"start": 0.0}, "AWP": {"start": 0.0}, "Mixup": {"alpha": 1.0}}
    evaluated = {"evaluate_every": 100} if name == "CheckpointSoup" else {}
    assert waits([TRICKS[name](**knobs.get(name, {}))], **evaluated) <= set(ALLOWED)


@pytest.mark.parametrize(("loss", "kind"), [(loss, kind) for loss, kinds in LOSSES.items() for kind in kinds])
def test_no_loss_waits(waits, loss, kind):
    assert waits(loss={loss: {}}, kind=kind) <= set(ALLOWED)


@pytest.mark.parametrize("pooling", ["max", "attention", "gem", "last_token", "all_cls_lstm", "last4_concat"])
def test_no_pooling_waits(waits, pooling):
    assert not waits(pooling=pooling)


def test_accumulation_does_not_wait(waits):
    assert not waits(accumulation=2, batch_size=2)


def test_transformers_waits_unless_it_is_told_of_the_padding(waits, monkeypatch):
    monkeypatch.setattr(training, "padding_known", lambda *_: nullcontext())
    assert waits() == {("aten::_local_scalar_dense", "masking_utils.py: _ignore_bidirectional_mask_sdpa")}


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_what_it_is_told_changes_no_number(backbones, architecture):
    model = load_backbone(backbones[architecture], 0.0).eval()
    ids = torch.randint(5, 30, (3, 11))
    for shortest in (11, 7):
        mask = (torch.arange(11) < torch.tensor([11, shortest, 11])[:, None]).long()
        with device.padding_known(torch.device("cuda"), padded=shortest < 11):
            told = model(ids, attention_mask=mask)[0]
        assert torch.equal(told, model(ids, attention_mask=mask)[0])


def test_everything_that_is_allowed_still_happens(waits):
    assert waits([TRICKS["Mixup"](alpha=1.0)]) | waits(loss={"focal": {}}) == set(ALLOWED)
