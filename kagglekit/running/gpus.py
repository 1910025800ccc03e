"""Which GPUs work: each one multiplies two matrices, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

PROGRAM = """\
import json, sys

def report(**facts):
    print(json.dumps(facts), flush=True)

import torch
count = torch.cuda.device_count()
report(count=count)
for index in range(int(sys.argv[1]), count):
    report(index=index, problem="-")
    try:
        about = torch.cuda.get_device_properties(index)
        report(index=index, name=about.name, capability=[about.major, about.minor], memory=about.total_memory)
        ones = torch.ones(256, 256, device=torch.device("cuda", index), dtype=torch.float16)
        product = ones @ ones
        torch.cuda.synchronize(index)
        right = bool((product == 256).all())
        report(index=index, problem="" if right else "ones times ones gave a wrong product")
    except Exception as error:
        report(index=index, problem=f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit(3)
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU. capability: of the hardware, (7, 5) for a T4. memory: bytes, 0 where unknown. problem: why it does not
    work; empty when it does."""

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
    """The GPUs of a machine; as a sequence, those that work. broken: the others. problem: why GPUs could not be
    counted, such as a driver that does not answer; empty when they could."""

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

    A GPU that the driver lists may still fail: on a P100 the first kernel does ("no kernel image"), as today's torch is
    not built for it. Another process tests them, so that this one touches no GPU and errors that spoil CUDA stay there;
    after a GPU that fails, a new process tests the next ones.
    patience: seconds for each process; 2 to 10 are usual, nearly all for the import of torch.
    """
    loaded = sys.modules.get("torch")
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or (loaded and not loaded.backends.cuda.is_built()):
        return Gpus()
    found: dict[int, Gpu] = {}
    begin, count = 0, 1
    while begin < count:
        reports, end = _ask(begin, patience)
        if not reports:
            return Gpus(problem=f"torch could not count the GPUs: {end}")
        count, last = reports[0]["count"], begin
        for facts in reports[1:]:
            last = facts["index"]
            facts = facts | ({"capability": tuple(facts["capability"])} if "capability" in facts else {})
            found[last] = replace(found.get(last, Gpu(last)), **facts)
        if last < count and found.setdefault(last, Gpu(last, problem="-")).problem == "-":  # it came to no end
            found[last] = replace(found[last], problem=end)
        begin = last + 1
    gpus = [gpu for _, gpu in sorted(found.items())]
    return Gpus(tuple(gpu for gpu in gpus if not gpu.problem), tuple(gpu for gpu in gpus if gpu.problem))


def _ask(begin: int, patience: float) -> tuple[list[dict], str]:
    """What a process reports about the GPUs from `begin` on, and how it ended."""
    line = [sys.executable, "-c", PROGRAM, str(begin)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=patience)
        output, errors = done.stdout, done.stderr.strip().splitlines()[-1:]
        end = "".join(errors) or f"the process that asked it ended with code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output, end = late.stdout or "", f"no answer in {patience:g} seconds"
        output = output if isinstance(output, str) else output.decode(errors="replace")  # bytes, despite text=True
    return [json.loads(text) for text in output.splitlines() if text.startswith('{"')], end
