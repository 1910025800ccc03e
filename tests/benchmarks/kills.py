"""Kills: the five notebooks are killed at seeded instants and run again, and must end as if nobody had killed them.

`python -m tests.benchmarks.kills --kills 100 --seed 0` from the root of the repository prints a table for the README. A
made-up competition of 60 rows goes through all steps once, undisturbed. Then, kill by kill, a step begins from what the
steps before it left, is killed by SIGKILL, and runs again to its end. Every file in the work folder must then be that
of the undisturbed run, byte for byte, and no half-written or temporary one may be left.

"at a write": as the n-th file of the step is opened to be written, renamed or removed. "at any time": after a random
time. "runner": the same of `python -m kagglekit.run`, with its kernel or without. Every third is killed twice.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pandas as pd

from kagglekit.files import sweep
from tests.benchmarks.bad_inputs import make_competition
from tests.conftest import run_cells

SMALL = {"max_length": 24, "batch_size": 8, "checkpoint_every": 0.0}
STEPS = {  # name -> notebook, its parameters, kills of it among 16
    "1_eda": ("1_eda", {"n_folds": 2, "backbone": "FOLDER/bert", "near_duplicates": 0.0}, 2),
    "2_pretrain": ("2_pretrain", {"run": "mlm", "backbone": "FOLDER/bert", "steps": 12, **SMALL}, 3),
    "3_train tfidf": ("3_train", {"run": "tfidf", "backbone": "tfidf", "start": ""}, 2),
    "3_train BERT": (
        "3_train",
        {
            "run": "bert",
            "backbone": "FOLDER/bert",
            "start": "mlm",
            "epochs": 3,
            "dropout": 0.1,
            "keep_best": True,
            **SMALL,
        }
        | {"tricks": {"EMA": {"decay": 0.9}, "FGM": {}}},
        5,
    ),
    "4_ensemble": ("4_ensemble", {"run": "blend", "runs": ["tfidf", "bert"]}, 2),
    "5_submit": ("5_submit", {"run": "blend"}, 2),
}
WHERE = {"at a write": 10, "at any time": 5, "runner": 1}  # how often among 16
RUNNERS = re.compile(r"^notebooks/|\.lock$|cost\.json$")
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree"}


@dataclass
class Ground:
    """The competition, its work folder, and what it held after each step: `after/NAME`."""

    place: Path
    writes: dict[str, int] = field(default_factory=dict)  # of each step
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.place / "work"

    def after(self, step: str) -> Path:
        return self.place / "after" / (step or "nothing").replace(" ", "-")

    def parameters(self, step: str) -> dict:
        notebook, given, _ = STEPS[step]
        given = {
            name: value.replace("FOLDER", str(self.place)) if isinstance(value, str) else value
            for name, value in given.items()
        }
        return given | {"work": str(self.work)} | ({"data": str(self.place / "data")} if notebook == "1_eda" else {})


def make_ground(place: Path) -> Ground:
    """A competition and a tiny BERT; then all steps, undisturbed."""
    make_competition(place)
    (place / "temporary").mkdir()
    ground = Ground(place)
    ground.work.mkdir()
    ground.after("").mkdir(parents=True)
    for step in STEPS:
        began = time.monotonic()
        code, writes = run_step(ground, step)
        if code:
            raise RuntimeError(f"{step} failed without a kill:\n{(place / 'log.txt').read_text()[-3000:]}")
        ground.writes[step], ground.seconds[step] = writes, time.monotonic() - began
        copytree(ground.work, ground.after(step))
    return ground


def run_step(ground: Ground, step: str, at_write: int = 0, after: float | None = None) -> tuple[int, int]:
    """Run the cells of a step in a forked process: its exit code (-9: killed) and the number of files it wrote.

    at_write: the write at which it kills itself; 0: none. after: seconds until it is killed from outside.
    """
    report = ground.place / "writes.txt"
    report.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _be_the_step(ground, step, at_write, report)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(report.read_text()) if report.is_file() else 0


def _be_the_step(ground: Ground, step: str, at_write: int, report: Path) -> None:
    """The forked process, which never returns."""
    log, count = os.open(ground.place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 0
    os.dup2(log, 1)
    os.dup2(log, 2)
    ours = str(ground.work), str(ground.place / "temporary")

    def watch(event: str, args: tuple) -> None:
        nonlocal count
        opened = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event in WRITES) and str(args[0]).startswith(ours):
            count += 1
            if count == at_write:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.addaudithook(watch)
        sweep(ground.work)  # as `kagglekit.run` does
        run_cells(STEPS[step][0], **ground.parameters(step))
        report.write_text(str(count))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_by_runner(ground: Ground, step: str, after: float | None = None, whole: bool = False) -> int:
    """Run a step by `python -m kagglekit.run`: its exit code. after: seconds until the runner is killed; whole: with
    its kernel, as when the power is cut."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in ground.parameters(step).items()
    }
    line = [sys.executable, "-m", "kagglekit.run", STEPS[step][0], *(f"{name}={text}" for name, text in texts.items())]
    with open(ground.place / "log.txt", "w") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(after)
        except subprocess.TimeoutExpired:
            for number in [process.pid, *(_children(process.pid) if whole else [])]:
                os.kill(number, signal.SIGKILL)
            return process.wait()


def _children(parent: int) -> list[int]:
    """The processes that a process has started."""
    file = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(number) for number in file.read_text().split()]


def kill(ground: Ground, step: str, where: str, random: np.random.Generator) -> list[str]:
    """Kill a step once or twice, run it again, and say what differs from the undisturbed run."""
    before = ["", *STEPS][list(STEPS).index(step)]
    rmtree(ground.work)
    copytree(ground.after(before), ground.work)
    seconds, whole = ground.seconds[step] + 12 * (where == "runner"), bool(random.integers(2))

    def run(after: float | None = None) -> int:
        return run_by_runner(ground, step, after, whole) if where == "runner" else run_step(ground, step, 0, after)[0]

    for _ in range(1 if random.random() < 2 / 3 else 2):
        if where == "at a write":
            run_step(ground, step, int(random.integers(1, ground.writes[step] + 1)))
        else:
            run(float(random.uniform(0.05, 1) * seconds))
    if code := run():
        return [f"run again, it ended with {code}: {(ground.place / 'log.txt').read_text().strip().splitlines()[-1:]}"]
    return differences(ground, step)


def differences(ground: Ground, step: str) -> list[str]:
    """The files that are not those of the undisturbed run, and what was left; but for copies, locks and times."""
    found, expected = (
        {
            name: path
            for path in root.rglob("*")
            if path.is_file() and not RUNNERS.search(name := str(path.relative_to(root)))
        }
        for root in (ground.work, ground.after(step))
    )
    wrong = [f"{name} is left" for name in sorted(found.keys() - expected.keys())]
    wrong += [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    both = sorted(found.keys() & expected.keys())
    wrong += [f"{name} is another" for name in both if found[name].read_bytes() != expected[name].read_bytes()]
    left = [*ground.work.rglob(".*.part"), *(ground.place / "temporary").glob("kagglekit-*")]
    return wrong + [f"{path.name} is left" for path in left]


def run_kills(kills: int, seed: int, place: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of kills, a row for each step and a column for each place, and the differences, one a line."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / "temporary")
    ground, random = make_ground(place), np.random.default_rng(seed)
    steps = [step for step, (_, _, often) in STEPS.items() for _ in range(often)]
    places = [where for where, often in WHERE.items() for _ in range(often)]
    counts, wrong = pd.DataFrame(0, index=list(STEPS), columns=[*WHERE, "differences"]), []
    for number in range(kills):
        step, where = str(random.choice(steps)), str(random.choice(places))
        differ = kill(ground, step, where, random)
        counts.loc[step, where] += 1
        counts.loc[step, "differences"] += bool(differ)
        wrong += [f"kill {number}, {step}, {where}: {line}" for line in differ]
        print(f"kill {number}: {step}, {where}: {'; '.join(differ) or 'as if nothing had happened'}", flush=True)
    return counts, wrong


def kill_many(kills: int, seed: int = 0) -> int:
    """Kill so often, and print a table; the number of kills after which something was not as it should be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        counts, wrong = run_kills(kills, seed, Path(place).resolve() / "kills")
    rows = [[step, *map(str, row)] for step, row in zip(counts.index, counts.to_numpy(), strict=True)]
    lines = [
        ["step", *counts.columns],
        ["---", *["---:"] * len(counts.columns)],
        *rows,
        ["all", *map(str, counts.sum())],
    ]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    print("\n".join([f"{kills} kills in {time.monotonic() - began:.0f} s", *wrong]))
    return int(counts["differences"].sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return bool(kill_many(options.kills, options.seed))


if __name__ == "__main__":
    sys.exit(main())
