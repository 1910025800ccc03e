"""What to train on and how, by asking the hardware.

The state of random numbers, left as it was.
"""

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def choose_device() -> torch.device:
    """The first accelerator that works here: a CUDA GPU, Apple's, or the CPU. Of several processes each has its GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(device: torch.device | None = None) -> str:
    """ "bf16" where the CPU has AMX or AVX512-BF16 or the GPU is sm_80 or later, "fp16" on older GPUs, else "fp32".

    On a CPU without such instructions bf16 works but is 6 to 100 times slower than fp32, hence the question.
    """
    device = device or choose_device()
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu":
        for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):  # private, and absent on some builds
            if getattr(torch.cpu, question, bool)():
                return "bf16"
    return "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision; off for "fp32"."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def choose_attention(device: torch.device, max_length: int) -> str | None:
    """The attention of transformers that is faster for texts of up to `max_length` tokens; None is the backbone's own.

    On a CPU the plain one beats torch's flash kernel 1.5 times at 128 tokens, is even at 256 and loses at 512
    (MiniLM, bf16, training; 2 cores with AMX).
    """
    return "eager" if device.type == "cpu" and max_length <= 256 else None


@contextmanager
def fast_attention(backbone: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """On a CPU, torch's own attention in place of the plain one while nothing is trained: there it is always faster."""
    plain = device.type == "cpu" and backbone.config._attn_implementation == "eager"
    if plain and getattr(backbone, "_supports_sdpa", False):
        backbone.set_attn_implementation("sdpa")
        try:
            yield
        finally:
            backbone.set_attn_implementation("eager")
    else:
        yield


def checkpoint_activations(backbone: torch.nn.Module) -> None:
    """Keep only what goes into each layer, and compute the rest again in the backward pass (Chen et al., 2016).

    The result is the same, dropout too: its random numbers are drawn again as they were. A step takes a third to
    a half longer, and the memory for activations is about that of one layer instead of all. Evaluation does not change.
    """
    newer = getattr(backbone, "activation_checkpointing_enable", None)  # the older name warns where there is this one
    (newer or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    backbone.disable_input_require_grads()  # gradients through frozen embeddings: only the reentrant way needs them


def keep_memory() -> None:
    """Tell the C library to keep freed memory: a CPU step is about a tenth faster without giving it back each time.

    Only glibc (most Linux systems) is told, and only for a CPU; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc" and choose_device().type == "cpu":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for large blocks
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD, bytes


@contextmanager
def random_state_kept() -> Iterator[None]:
    """After the block the generators of Python, numpy and torch (CPU and all GPUs) are where they were before it, also
    after an exception."""
    ours, theirs = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)
