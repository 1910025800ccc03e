"""Which GPUs work here: each one computes something, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

PROGRAM = """\
import json, sys

def tell(**told):
    print(json.dumps(told), flush=True)

import torch
count = torch.cuda.device_count()
tell(count=count)
for index in range(int(sys.argv[1]), count):
    tell(index=index)
    try:
        about = torch.cuda.get_device_properties(index)
        tell(index=index, name=about.name, capability=[about.major, about.minor], memory=about.total_memory)
        ones = torch.ones(256, 256, device=torch.device("cuda", index), dtype=torch.float16)
        product = ones @ ones
        torch.cuda.synchronize(index)
        right = bool((product == 256).all())
        tell(index=index, works=right, problem="" if right else "ones times ones gave a wrong product")
    except Exception as error:
        tell(index=index, works=False, problem=f"{type(error).__name__}: {error}")
        sys.exit(3)
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU. capability: of the hardware, (7, 5) for a T4. memory: bytes, 0 where it did not tell. problem: why it does
    not work; empty when it does."""

    index: int
    name: str = "GPU"
    capability: tuple[int, int] = (0, 0)
    memory: int = 0
    problem: str = ""

    def __str__(self):
        sizes = f", {self.memory / 2**30:.1f} GiB, sm_{self.capability[0]}{self.capability[1]}" if self.memory else ""
        return f"GPU {self.index}: {self.name}{sizes}{f', does not work: {self.problem}' if self.problem else ''}"


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a machine; as a sequence, those that work. broken: the others. problem: why nothing could be found
    out about GPUs, such as a driver that does not answer; empty when it could."""

    working: tuple[Gpu, ...] = ()
    broken: tuple[Gpu, ...] = ()
    problem: str = ""

    @property
    def indices(self) -> list[int]:
        """The numbers of those that work, as torch counts in this process."""
        return [gpu.index for gpu in self.working]

    def __len__(self) -> int:
        return len(self.working)

    def __iter__(self) -> Iterator[Gpu]:
        return iter(self.working)

    def __str__(self) -> str:
        lines = [str(gpu) for gpu in sorted((*self.working, *self.broken), key=lambda gpu: gpu.index)]
        return "\n".join([*lines, *filter(None, [self.problem])]) or "no GPU"


def working_gpus(patience: float = 120.0) -> Gpus:
    """The GPUs that multiply two matrices in half precision and give the right product.

    That a driver lists a GPU says little: on a P100 the first kernel fails ("no kernel image"), for today's torch is
    not built for it. The matrices are multiplied in another process, so that this one touches no GPU, and an error that
    would spoil every later call of CUDA stays there. After a GPU that fails, the next ones are asked by a new process.
    patience: seconds for each process; 2 to 10 are usual, nearly all for the import of torch.
    """
    loaded = sys.modules.get("torch")
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or (loaded and not loaded.backends.cuda.is_built()):
        return Gpus()
    found: dict[int, Gpu] = {}
    begin, count = 0, 1
    while begin < count:
        told, end = _ask(begin, patience)
        if not told:
            return Gpus(problem=f"torch could not count the GPUs: {end}")
        count, last = told[0]["count"], begin
        for answer in told[1:]:
            last = answer["index"]
            found[last] = _add(found.get(last, Gpu(last)), answer)
        if last < count and found.setdefault(last, Gpu(last, problem="-")).problem == "-":
            found[last] = _add(found[last], {"works": False, "problem": end})
        begin = last + 1
    gpus = [gpu for _, gpu in sorted(found.items())]
    return Gpus(tuple(gpu for gpu in gpus if not gpu.problem), tuple(gpu for gpu in gpus if gpu.problem))


def _ask(begin: int, patience: float) -> tuple[list[dict], str]:
    """What the process said about the GPUs from `begin` on, and how it ended."""
    line = [sys.executable, "-c", PROGRAM, str(begin)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=patience)
        output, errors = done.stdout, done.stderr.strip().splitlines()[-1:]
        end = "".join(errors) or f"the process that asked it ended with code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output, end = late.stdout or "", f"no answer in {patience:g} seconds"
        output = output if isinstance(output, str) else output.decode(errors="replace")  # bytes, whatever was asked
    return [json.loads(text) for text in output.splitlines() if text.startswith('{"')], end


def _add(gpu: Gpu, answer: dict) -> Gpu:
    """What is known of a GPU after one more answer; `-` is its problem until it has come to an end."""
    name, memory = answer.get("name", gpu.name), answer.get("memory", gpu.memory)
    problem = "-" if "works" not in answer else answer["problem"].splitlines()[0] if answer["problem"] else ""
    return Gpu(gpu.index, name, tuple(answer.get("capability", gpu.capability)), memory, problem)
