"""Hardware: device, precision, attention, memory; and random state, restored."""

import ctypes
import os
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from typing import ClassVar

import numpy as np
import torch

try:
    import resource
except ImportError:  # Windows has none
    resource = None

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # those of autocast


def choose_device() -> torch.device:
    """The device to train on: a CUDA GPU, Apple's GPU, or the CPU. With several processes, each has its own GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(device: torch.device | None = None, wanted: str = "auto") -> str:
    """Precision: "bf16" on a GPU of sm_80 or later or a CPU with AMX or AVX512-BF16, "fp16" on older GPUs, else "fp32".

    On a CPU without these instructions bf16 is 6 to 100 times slower than fp32. wanted: another one than that; raises
    ValueError for "fp16" without a CUDA GPU.
    """
    device = device or choose_device()
    if wanted == "fp16" and device.type != "cuda":
        raise ValueError("precision='fp16' needs a CUDA GPU, and there is none: leave it out, or set precision='fp32'")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu":
        for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):  # private, and absent on some builds
            if getattr(torch.cpu, question, bool)():
                return "bf16"
    return "fp32"


def has_amx() -> bool:
    """Whether the CPU multiplies matrices in tiles (AMX)."""
    return getattr(torch.cpu, "_is_amx_tile_supported", bool)()  # private, and absent on some builds


def not_a_number(what: str, precision: str) -> FloatingPointError:
    """An error that says what is not a number, and what to do."""
    remedy = "set a lower learning_rate, or a longer warmup"
    if precision == "fp16":
        remedy = "numbers of fp16 end at 65,504: set precision='bf16' on a GPU that has it, or precision='fp32'"
    return FloatingPointError(f"{what} in {precision}: {remedy}")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast context of a precision; none for "fp32"."""
    return torch.autocast(device.type, dtype=PRECISIONS.get(precision, torch.bfloat16), enabled=precision != "fp32")


@contextmanager
def full_precision(device: torch.device) -> Iterator[bool]:
    """A head in float32 within autocast to float16, whose numbers end at 65,504; yields whether it is.

    bfloat16 has the range of float32: a head stays in it.
    """
    half = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    with torch.autocast(device.type, enabled=False) if half else nullcontext():
        yield half


def choose_attention(device: torch.device, max_length: int) -> str | None:
    """The faster attention of transformers for texts of up to `max_length` tokens; None: the backbone's own.

    On a CPU the plain one is 1.5 times as fast as torch's flash kernel at 128 tokens, even at 256 and slower at 512
    (MiniLM, bf16, training; 2 cores with AMX).
    """
    return "eager" if device.type == "cpu" and max_length <= 256 else None


@contextmanager
def fast_attention(backbone: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """On a CPU with AMX, torch's own attention in place of the plain one: for predictions it is faster there.

    Without AMX it takes 1.1 to 1.9 times as long (MiniLM, bf16, 32 to 256 tokens; 2 cores with AVX512-BF16).
    """
    plain = device.type == "cpu" and has_amx() and backbone.config._attn_implementation == "eager"
    if plain and getattr(backbone, "_supports_sdpa", False):
        backbone.set_attn_implementation("sdpa")
        try:
            yield
        finally:
            backbone.set_attn_implementation("eager")
    else:
        yield


@contextmanager
def padding_known(device: torch.device, padded: bool) -> Iterator[None]:
    """While the block runs, transformers is told whether a batch has padding, and that none has several texts in a row
    (of a decoder); it would wait for the GPU to see it.

    Forward and backward pass belong into one block: layers may be computed again. Nothing changes on other devices.
    """
    from transformers import masking_utils

    def told(padding_mask, kv_length=0, local_attention_size=None):
        return not padded and (local_attention_size is None or kv_length < local_attention_size)

    ours = {"_ignore_bidirectional_mask_sdpa": told, "find_packed_sequence_indices": lambda position_ids: None}
    theirs = {name: getattr(masking_utils, name) for name in ours if hasattr(masking_utils, name)}  # they are private
    if device.type != "cuda":
        theirs = {}
    for name in theirs:
        setattr(masking_utils, name, ours[name])
    try:
        yield
    finally:
        for name, function in theirs.items():
            setattr(masking_utils, name, function)


def checkpoint_activations(backbone: torch.nn.Module) -> None:
    """Gradient checkpointing: keep the input of each layer, and compute the rest again in the backward pass.

    Same result, also with dropout. A step takes a third to a half longer, and the activations need the memory of about
    one layer. Evaluation does not change. Source: Chen et al., 2016.
    """
    newer = getattr(backbone, "activation_checkpointing_enable", None)  # the older name warns where there is this one
    (newer or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    backbone.disable_input_require_grads()  # gradients through frozen embeddings: only the reentrant way needs them


@contextmanager
def measuring_cost() -> Iterator[dict[str, float]]:
    """Seconds and memory of a block, known at its end. memory: bytes, the most that tensors on a GPU took in it; on a
    CPU the most that this process has had until then, 0 where the system does not say."""
    device, began, found = choose_device(), time.monotonic(), {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    found["seconds"] = round(time.monotonic() - began, 1)
    if device.type == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
        found["memory"] = peak * (1 if platform.system() == "Darwin" else 1024)


def keep_memory() -> None:
    """Let the C library (glibc) keep freed memory: training on a CPU is about a tenth faster.

    Does nothing for a GPU, or with another C library.
    """
    if platform.libc_ver()[0] == "glibc" and choose_device().type == "cpu":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for large blocks
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD, bytes


class CoreSharing(Thread):
    """Lets OpenMP's waiting threads sleep at once while other processes keep the cores busy: a daemon thread on Linux.

    Alone they spin, which makes training a tenth faster; in company a thread that spins takes the time of one that
    works. GNU's OpenMP, which torch brings along, spins a thousandth as long while it has more threads than there are
    cores: a second team, which sleeps, sees to that. Results are the same, bit for bit, as no work is split otherwise.
    every: seconds between two looks at the load.
    """

    started: ClassVar[bool] = False

    def __init__(self, every: float = 1.0):
        super().__init__(daemon=True, name="core sharing")
        self.every, self.team, self.stopped = every, None, Event()

    def run(self) -> None:
        before = _core_seconds()
        while not self.stopped.wait(self.every):
            now = _core_seconds()
            others, before = (now[0] - before[0]) / (now[1] - before[1]), now  # cores that others use
            if self.team is None and others > 0.5:
                self.team = Event()
                Thread(target=self._hold, args=(self.team,), daemon=True, name="waiting team").start()
            elif self.team and others < 0.2:
                self._release()
        self._release()

    def _hold(self, until: Event) -> None:
        torch.zeros(1 << 20).add_(1)  # large enough for all threads: they are this thread's team as long as it lives
        until.wait()

    def _release(self) -> None:
        if self.team:
            self.team.set()
        self.team = None


def share_cores() -> None:
    """Start `CoreSharing` once in this process, where as many threads as there are cores work on a CPU."""
    there = os.path.exists("/proc/stat") and choose_device().type == "cpu"
    all_cores = there and torch.get_num_threads() >= len(os.sched_getaffinity(0)) > 1
    if all_cores and not CoreSharing.started:
        CoreSharing.started = True
        CoreSharing().start()


def _core_seconds() -> tuple[float, float]:
    """Seconds for which other processes have had our cores, since the machine began, and the time."""
    ours, busy = {f"cpu{number}" for number in os.sched_getaffinity(0)}, 0
    with open("/proc/stat") as file:
        for name, *ticks in (line.split() for line in file if line.startswith("cpu")):
            if name in ours:
                busy += sum(map(int, ticks[:3])) + sum(map(int, ticks[5:8]))  # without idle and waiting for the disk
    own = os.times()
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system, time.monotonic()


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
