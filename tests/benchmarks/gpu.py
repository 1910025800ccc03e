"""Training and prediction on a GPU, against an earlier checkout and `transformers.Trainer` at its best.

`python -m tests.benchmarks.gpu --before DIR` from the root of the repository takes at most 8 minutes and writes the
table of tests/benchmarks/README.md. It needs no files: models have the published shapes and random weights, texts are
random tokens of usual lengths. Each system has a process of its own and only one works at a time, in interleaved
rounds; the first round is not counted. Then it trains with each trick while CUDA forbids to wait for the GPU.
`--cpu` runs everything with a tiny model in seconds: it shows that each part works, and measures nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from tests.benchmarks import gpu_systems
from tests.benchmarks.deberta_speed import PUBLISHED, SHAPES
from tests.benchmarks.page import write_table
from tests.benchmarks.train_speed import machine

HERE = Path(__file__).parent
BERT = {"vocab_size": 30522, "max_position_embeddings": 512}
MODELS = {  # name -> model type and configuration
    "minilm": ("bert", {**BERT, "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
    "bert-base": ("bert", BERT),
    "deberta-v3-base": ("deberta-v2", {**PUBLISHED, **SHAPES["base"]}),
}
TEXTS = {  # name -> lengths of texts in tokens: the median, the deviation of their logarithm, the longest
    "short": {"median": 45, "deviation": 0.5, "longest": 128, "rows": 3072},
    "long": {"median": 300, "deviation": 0.6, "longest": 512, "rows": 512},
}
WORKLOADS = [("bert-base", "short"), ("bert-base", "long"), ("deberta-v3-base", "long"), ("minilm", "short")]
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 99}
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "T4": 65e12}
MARKS = "<!-- gpu -->\n", "<!-- end of gpu -->"
FLASH = "with disentangled-flash"  # where it is installed: whether it would pay
STARTED = {name: {"start": 0.0} for name in ("FGM", "PGD", "AWP", "FreeLB", "EMA", "SWA", "Mixup", "NEFTune", "Mixout")}
STARTED |= {name: {} for name in ("RDrop", "SupCon", "TokenMasking", "GradualUnfreezing")}


class System:
    """A process that answers requests, with kagglekit of a checkout."""

    def __init__(self, checkout: Path):
        command = [sys.executable, str(HERE / "gpu_systems.py")]
        environment = {"CUDA_VISIBLE_DEVICES": "0", **os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment, cwd=checkout)

    def wait(self) -> None:
        """Until it is ready."""
        self._read()

    def ask(self, request: dict) -> dict:
        """The answer to a request. Raises RuntimeError when the process has ended, whose words stand above."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended with code {self.process.wait()}: see above")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Here:
    """The same in this process, for the CPU."""

    ask = staticmethod(gpu_systems.answer)

    def wait(self) -> None:
        """It is ready."""

    def close(self) -> None:
        """There is nothing to end."""


def make_models(folder: Path, tiny: bool) -> dict[str, dict]:
    """Name -> its folder, number of words, and operations a token and a pair of tokens need in a forward pass."""
    made = {}
    for name, (kind, options) in MODELS.items():
        config = AutoConfig.for_model(kind, **({**options, **TINY} if tiny else options))
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder / name)
        layers, width, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
        products = 4 * width**2 + 2 * width * inner  # weights that a token meets in a layer
        made[name] = {"folder": str(folder / name), "words": config.vocab_size}
        made[name] |= {"per token": 2 * layers * products, "per pair": 4 * layers * width}
    return made


def measure(systems: dict, models: dict[str, dict], tiny: bool, end: float, rounds: int) -> dict:
    """(model, texts) -> system -> answers of each round but the first, until the time is over."""
    workloads = WORKLOADS[2:] if tiny else WORKLOADS
    answers = {workload: {name: [] for name in systems} for workload in workloads}
    longest = {workload: 0.0 for workload in workloads}
    for number in range(rounds + 1):
        for model, texts in workloads:
            start = time.monotonic()
            if start + 1.2 * longest[model, texts] > end:
                return answers
            shape = {**TEXTS[texts], **({"rows": 8, "longest": 40} if tiny else {})}
            request = {**models[model], **shape, "batch_size": 4 if tiny else 32, "seed": number}
            for name, (system, ask) in systems.items():
                if name == FLASH and not model.startswith("deberta"):
                    continue
                found = system.ask({**request, "ask": ask, "flash": name == FLASH})
                if number or tiny or "error" in found:
                    answers[model, texts][name].append(found)
            longest[model, texts] = max(longest[model, texts], time.monotonic() - start)
            print(f"round {number}: {model}, {texts} texts, {time.monotonic() - start:.0f} s", file=sys.stderr)
    return answers


def table(answers: dict, models: dict[str, dict], peak: float) -> str:
    """Markdown. Operations are those of real tokens: of padding and of what is computed again there are none."""
    lines = ["| model | texts | phase | system | real tokens/s (min to max) | faster | MFU | memory, MB |"]
    lines.append("|---|---|---|---|---:|---:|---:|---:|")
    for (model, texts), systems in answers.items():
        for phase, passes in (("training", 3), ("prediction", 1)):
            ours = None
            for system, found in systems.items():
                if system == FLASH and not model.startswith("deberta"):
                    continue
                good = [one for one in found if "error" not in one]
                cells = [model, texts, phase, system]
                if not good:
                    words = next((one["error"] for one in found), "not measured: the time was over")
                    lines.append(f"| {' | '.join(cells)} | {words} | | | |")
                    continue
                speeds = [one["tokens"] / one[f"{phase}, seconds"] for one in good]
                middle = statistics.median(speeds)
                ours = ours or middle
                token, pair = models[model]["per token"], models[model]["per pair"]
                costs = [passes * (one["tokens"] * token + one["pairs"] * pair) for one in good]
                rates = [cost / one[f"{phase}, seconds"] for cost, one in zip(costs, good, strict=True)]
                memory = statistics.median(one.get(f"{phase}, MB", 0) for one in good)
                cells.append(f"{middle:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})")
                faster = "" if ours == middle else f"{ours / middle:.2f} times"
                cells += [faster, f"{statistics.median(rates) / peak:.1%}"]
                lines.append(f"| {' | '.join(cells)} | {memory:,.0f} |")
    return "\n".join(lines)


def find_waits(system: System, models: dict[str, dict], tiny: bool) -> str:
    """A sentence on which recipes wait for the GPU in steady steps, by CUDA's own check."""
    request = {**models["minilm"], **TEXTS["short"], "rows": 32 if tiny else 256, "seed": 0, "ask": "kagglekit"}
    request |= {"longest": 40 if tiny else 128, "batch_size": 4 if tiny else 32}
    recipes = {"plain training": {}} | {name: {name: knobs} for name, knobs in STARTED.items()}
    recipes = dict(list(recipes.items())[:3]) if tiny else recipes
    waits = {name: system.ask({**request, "tricks": tricks}).get("error") for name, tricks in recipes.items()}
    found = [f"{name} ({error})" for name, error in waits.items() if error]
    which = f"these wait: {'; '.join(found)}" if found else "none waits"
    return f"Of {len(waits)} recipes {which} for the GPU between logged steps."


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--before", type=Path, help="an earlier checkout of this repository")
    parser.add_argument("--minutes", type=float, default=8, help="that it may take (8)")
    parser.add_argument("--rounds", type=int, default=5, help="that count; one more comes before them")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md", help="page that the table is written into")
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU, in seconds: shows that it works")
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here, so that nothing was measured. --cpu shows that each part works.")
    end = time.monotonic() + 60 * options.minutes
    ours = Here() if options.cpu else System(HERE.parent.parent)
    systems = {"kagglekit": (ours, "kagglekit")}
    if options.before:
        systems["before"] = System(options.before.resolve()), "kagglekit"
    if find_spec("disentangled_flash") and not options.cpu:
        systems[FLASH] = ours, "kagglekit"
    systems["Trainer, at its best"] = (ours if options.cpu else System(HERE.parent.parent)), "trainer"
    processes = {system for system, _ in systems.values()}
    try:
        with tempfile.TemporaryDirectory() as folder:
            models = make_models(Path(folder), options.cpu)
            for system in processes:
                system.wait()
            rate = ours.ask({"ask": "matmul", "size": 64 if options.cpu else 8192})["rate"]
            reserve = 0 if options.cpu else 60  # seconds, for the search for waits
            answers = measure(systems, models, options.cpu, end - reserve, 0 if options.cpu else options.rounds)
            waits = find_waits(ours, models, options.cpu)
    finally:
        for system in processes:
            system.close()
    device = "the CPU" if options.cpu else torch.cuda.get_device_name()
    peak = next((value for name, value in PEAKS.items() if name in device.replace("-", " ").split()), rate)
    known = f"{peak / 1e12:.0f} TFLOP/s, {'its published peak' if peak != rate else 'what a large product reaches'}"
    lines = [
        table(answers, models, peak),
        waits,
        f"{machine()}. MFU: of {known}; a large product has {rate / 1e12:.1f}.",
    ]
    if options.cpu:
        lines.insert(0, "A tiny model on a CPU: nothing here is a measurement.")
    text = "\n\n".join(lines)
    print(text)
    if not options.cpu or options.readme != HERE / "README.md":
        write_table(text, options.readme, MARKS)


if __name__ == "__main__":
    main()
