"""Hardware: device, precision, attention, memory; and random state, restored."""

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def choose_device() -> torch.device:
    """The device to train on: a CUDA GPU, Apple's GPU, or the CPU. With several processes, each has its own GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(device: torch.device | None = None) -> str:
    """Precision: "bf16" on a GPU of sm_80 or later or a CPU with AMX or AVX512-BF16, "fp16" on older GPUs, else "fp32".

    On a CPU without these instructions bf16 is 6 to 100 times slower than fp32.
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
    """Autocast context of a precision; none for "fp32"."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def choose_attention(device: torch.device, max_length: int) -> str | None:
    """The faster attention of transformers for texts of up to `max_length` tokens; None: the backbone's own.

    On a CPU the plain one is 1.5 times as fast as torch's flash kernel at 128 tokens, even at 256 and slower at 512
    (MiniLM, bf16, training; 2 cores with AMX).
    """
    return "eager" if device.type == "cpu" and max_length <= 256 else None


@contextmanager
def fast_attention(backbone: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """On a CPU, torch's own attention in place of the plain one: for predictions it is always faster."""
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
    """Gradient checkpointing: keep the input of each layer, and compute the rest again in the backward pass.

    Same result, also with dropout. A step takes a third to a half longer, and the activations need the memory of about
    one layer. Evaluation does not change. Source: Chen et al., 2016.
    """
    newer = getattr(backbone, "activation_checkpointing_enable", None)  # the older name warns where there is this one
    (newer or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    backbone.disable_input_require_grads()  # gradients through frozen embeddings: only the reentrant way needs them


def keep_memory() -> None:
    """Let the C library (glibc) keep freed memory: training on a CPU is about a tenth faster.

    Does nothing for a GPU, or with another C library.
    """
    if platform.libc_ver()[0] == "glibc" and choose_device().type == "cpu":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for large blocks
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD, bytes


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random state of Python, numpy and torch (CPU and all GPUs) after the block, also on an exception."""
    ours, theirs = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)
