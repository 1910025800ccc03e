"""A second device without hardware: it computes on the CPU, and refuses operands of which some lie on the CPU.

On a GPU a tensor that was made without `device=`, or a weight that was left behind, ends a training; on a CPU nobody
sees it. `with second_device():` lets kagglekit train and predict on torch's device for backends from elsewhere, in
Python (torch.utils.backend_registration, an experiment of theirs, tried with torch 2.13). Import it in a process of its
own: it stays registered. What is left to a GPU: half precision, its kernels and memory, several of them.
"""

import contextlib
import sys
import unittest.mock

import accelerate
import torch
import transformers
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "second"
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXING = ("aten::index.", "aten::index_put", "aten::_index_put")  # indices may lie on the CPU


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


class _Null(contextlib.ContextDecorator):
    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
DEVICE = torch.device(NAME, 0)
AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
AUTOCAST.fallback(torch.library.fallthrough_kernel)
torch.__future__.set_swap_module_params_on_conversion(True)  # a moved weight stays the one that the optimizer has
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else _Null()  # before kagglekit is imported


class There(torch.Tensor):
    """A tensor on the second device; `raw` has its values."""

    @staticmethod
    def __new__(cls, raw, requires_grad=False):
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), device=DEVICE, requires_grad=requires_grad, **layout
        )
        tensor.raw = raw
        return tensor

    def __repr__(self):
        return f"There({self.raw})"

    def tolist(self):
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


def _compute(func, args, kwargs):
    """What `func` gives, computed on the CPU, and placed where the operands lie, or where it is told to be made."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    here = [one for one in tensors if one.dim() and not isinstance(one, There)]
    if there and here and func not in MOVES and not func.name().startswith(INDEXING):
        shapes = [[tuple(one.shape) for one in some] for some in (here, there)]
        raise RuntimeError(f"{func.name()}: {shapes[0]} on the CPU, {shapes[1]} on the second device")
    place = isinstance(args[0], There) if func is torch.ops.aten.copy_.default else bool(there)
    if kwargs.get("device") is not None:
        place = torch.device(kwargs["device"]).type == NAME
    given = tree_map(_on_cpu, (args, kwargs))
    if "pin_memory" in kwargs:
        given[1]["pin_memory"] = False
    made = func(*given[0], **given[1])
    known = {id(one.raw): one for one in there}  # of operations in place

    def placed(one):
        return known.get(id(one), There(one)) if place and isinstance(one, torch.Tensor) else one

    return tree_map(placed, made)


def _on_cpu(one):
    if isinstance(one, torch.device):
        return torch.device("cpu")
    return one.raw if isinstance(one, There) else one


class _Operations(TorchDispatchMode):
    """Sends to `_compute` what makes tensors there; what has such operands goes there anyway."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if any(issubclass(one, There) for one in types) or (device is not None and torch.device(device).type == NAME):
            return _compute(func, args, kwargs)
        return func(*args, **kwargs)


class _Factories(TorchFunctionMode):
    """`torch.tensor` makes its storage in C++, where no mode sees it: made on the CPU, and moved."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and str(kwargs.get("device")).startswith(NAME):
            return func(*args, **{name: value for name, value in kwargs.items() if name != "device"}).to(DEVICE)
        return func(*args, **kwargs)


def _saving_from_cpu(save):
    """Files read the storage of a tensor, and one there has none."""

    def saved(tensors, *args, **kwargs):
        return save(tree_map(lambda one: one.raw.detach() if isinstance(one, There) else one, tensors), *args, **kwargs)

    return saved


@contextlib.contextmanager
def second_device():
    """While the block runs, kagglekit and transformers take the second device for the one of this machine."""
    from kagglekit import device
    from kagglekit.training.trainer import Arguments

    with contextlib.ExitStack() as stack:

        def patch(*what):
            stack.enter_context(unittest.mock.patch.object(*what))

        chosen = device.choose_device
        for name, module in list(sys.modules.items()):
            if name.startswith("kagglekit") and getattr(module, "choose_device", None) is chosen:
                patch(module, "choose_device", lambda: DEVICE)
            if name.startswith("kagglekit") and hasattr(module, "save_file"):
                patch(module, "save_file", _saving_from_cpu(module.save_file))
        asked = transformers.TrainingArguments.device.fget  # it has effects
        patch(Arguments, "device", property(lambda self: (asked(self), DEVICE)[1]))
        patch(accelerate.Accelerator, "device", property(lambda self: DEVICE))
        generator = torch.Generator
        patch(torch, "Generator", lambda device="cpu": generator())
        patch(torch, "save", _saving_from_cpu(torch.save))
        stack.enter_context(_Factories())
        stack.enter_context(_Operations())
        yield
