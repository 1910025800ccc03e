"""How training fares beside other work: tokens a second alone, and with one busy process on each core.

`python -m tests.benchmarks.busy` from the root of the repository prints a table for the README: MiniLM, 16 texts of 128
tokens a step. Each setting of OpenMP has a process of its own, as it is read when torch is loaded; each measures a few
steps a round, alone and in company, in turn. A fair share is what is left by equal parts of the cores: half.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = {  # name -> environment; PLAIN: without `kagglekit.device.CoreSharing`
    "OpenMP as it comes": {"PLAIN": "1"},
    "kagglekit": {},
    "OMP_WAIT_POLICY=passive": {"PLAIN": "1", "OMP_WAIT_POLICY": "passive"},
    "one thread": {"PLAIN": "1", "OMP_NUM_THREADS": "1"},
    **{f"GOMP_SPINCOUNT={n}": {"PLAIN": "1", "GOMP_SPINCOUNT": str(n)} for n in (1_000, 10_000, 100_000)},
}
NAMES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS")
TOKENS = 16 * 128  # a step
SAYS = "busy.py:"


def work(steps: int) -> None:
    """Print a step's mean seconds for each line of input."""
    from kagglekit.device import CoreSharing, keep_memory
    from tests.benchmarks.step_cost import CLOCK, make_workload, measure, transformers

    keep_memory()
    CoreSharing.started = "PLAIN" in os.environ
    transformers.trainer.DEFAULT_CALLBACKS.append(CLOCK)
    with tempfile.TemporaryDirectory() as name:
        workload = make_workload("articles", 16 * steps + 8, Path(name))
        measure(workload, 128, {}, Path(name))  # warms up
        print(f"{SAYS} ready", flush=True)
        for _ in sys.stdin:
            measure(workload, 128, {}, Path(name))
            print(SAYS, statistics.mean(CLOCK.seconds[2:]), flush=True)


def answer(worker: subprocess.Popen) -> str:
    """The next word of a worker, among the lines that training prints."""
    return next(line for line in worker.stdout if line.startswith(SAYS)).split()[-1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of settings; all by default")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.steps)
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    chosen = {name: given for name, given in SETTINGS.items() if not options.only or name in options.only}
    line = [sys.executable, "-m", __spec__.name, "--work", "--steps", str(options.steps)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    workers = {name: subprocess.Popen(line, env=plain | given, **pipes) for name, given in chosen.items()}
    company = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    speeds: dict[tuple[str, bool], list[float]] = {}
    try:
        for process in company:
            process.send_signal(signal.SIGSTOP)
        for worker in workers.values():
            answer(worker)
        for _ in range(options.rounds):
            for busy in (False, True):
                for process in company:
                    process.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)
                for name, worker in workers.items():
                    worker.stdin.write("go\n")
                    worker.stdin.flush()
                    speeds.setdefault((name, busy), []).append(TOKENS / float(answer(worker)))
    finally:
        for process in [*workers.values(), *company]:
            process.kill()
    print("| setting | alone, tokens/s | min to max | in company, tokens/s | min to max | share |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in chosen:
        alone, shared = speeds[name, False], speeds[name, True]
        cells = [f"{statistics.median(some):,.0f} | {min(some):,.0f} to {max(some):,.0f}" for some in (alone, shared)]
        share = statistics.median(shared) / statistics.median(speeds[next(iter(chosen)), False])
        print(f"| {name} | {' | '.join(cells)} | {share:.0%} |", flush=True)


if __name__ == "__main__":
    main()
