"""Which GPUs work: each one multiplies two matrices, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

PROGRAM = """\
import json, sys, torch
index, report = int(sys.argv[1]), lambda **facts: print(json.dumps(facts), flush=True)
report(count=torch.cuda.device_count())
if index < torch.cuda.device_count():
    about = torch.cuda.get_device_properties(index)
    report(name=about.name, capability=[about.major, about.minor], memory=about.total_memory)
    ones = torch.ones(256, 256, device=torch.device("cuda", index), dtype=torch.float16)
    product = ones @ ones
    torch.cuda.synchronize(index)
    report(problem="" if bool((product == 256).all()) else "ones times ones gave a wrong product")
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
    not built for it. Each is tested by a process of its own, so that this one touches no GPU and errors that spoil CUDA
    stay there. patience: seconds for each process; 2 to 10 are usual, nearly all for the import of torch.
    """
    loaded = sys.modules.get("torch")
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or (loaded and not loaded.backends.cuda.is_built()):
        return Gpus()
    gpus: list[Gpu] = []
    count = 1
    while len(gpus) < count:
        facts = {"problem": "", **_test(len(gpus), patience)}
        if "count" not in facts:
            return Gpus(problem=f"torch could not count the GPUs: {facts['problem']}")
        count = facts.pop("count")
        if count:
            gpus.append(Gpu(len(gpus), **facts | {"capability": tuple(facts.get("capability", (0, 0)))}))
    return Gpus(tuple(gpu for gpu in gpus if not gpu.problem), tuple(gpu for gpu in gpus if gpu.problem))


def _test(index: int, patience: float) -> dict:
    """What a process finds out about a GPU; its last words are the problem when it did not come to its end."""
    line = [sys.executable, "-c", PROGRAM, str(index)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=patience)
        output, errors = done.stdout, [text for text in done.stderr.splitlines() if re.match(r"\w+(\.\w+)*: ", text)]
        end = errors[-1] if errors else f"the process that tested it ended with code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output, end = late.stdout or "", f"no answer in {patience:g} seconds"
        output = output if isinstance(output, str) else output.decode(errors="replace")  # bytes, despite text=True
    facts = {}
    for text in output.splitlines():
        facts |= json.loads(text) if text.startswith('{"') else {}
    return facts if "problem" in facts or facts.get("count", 1) <= index else facts | {"problem": end}
