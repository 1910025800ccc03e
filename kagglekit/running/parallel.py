"""Train the folds of a run in parallel: one on each GPU, or some at a time on the CPU."""

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from kagglekit.files import temporary_folder
from kagglekit.options import check_range
from kagglekit.running.fold_plan import FoldPlan, missing_parameters, one_clock
from kagglekit.running.gpus import working_gpus
from kagglekit.running.jupyter_kernel import NotebookFailed
from kagglekit.running.notebook import find_notebook, run_notebook
from kagglekit.running.warm_kernels import import_path
from kagglekit.time_budget import STARTED, kernel_began

GPU_FAILED = re.compile(r"CUDA error|CUDA driver|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|no kernel image")
OUT_OF_MEMORY = re.compile(r"was killed \(SIGKILL\)")  # of the machine, which all workers share
PATIENCE = 20  # seconds that workers have to end when they are asked to


def parse_slots(text: str) -> list[int | str] | None:
    """Where folds are trained: "auto" -> None, the GPUs "0,1" -> [0, 1], two at a time on the CPU "cpu:2" -> ["cpu0",
    "cpu1"]."""
    if text == "auto":
        return None
    if match := re.fullmatch(r"cpu:(\d+)", text):
        count, cores = int(match[1]), os.cpu_count() or 1
        check_range("slots", text, 1 <= count <= cores, f"cpu:1 to cpu:{cores}, which has a core for each fold")
        return [f"cpu{number}" for number in range(count)]
    fits = re.fullmatch(r"\d+(,\d+)*", text) is not None and len(set(text.split(","))) == text.count(",") + 1
    check_range("slots", text, fits, "auto, the numbers of GPUs, each once, such as 0,1, or cpu:2")
    return [int(number) for number in text.split(",")]


def run_in_parallel(
    notebook: str,
    parameters: dict[str, Any],
    slots: Sequence[int | str] | None = None,
    folder: Path | None = None,
    *,
    force: bool = False,
    limit: float | None = None,
) -> Path:
    """Run a notebook like `run_notebook`, after training its folds with `train_in_parallel`.

    The run of the whole notebook comes last: it finds the folds finished, and makes scores and figures. A notebook that
    does not train fold by fold is just run. Two GPUs take half the time of one, plus a quarter of a minute per fold.
    """
    began = time.monotonic()
    with one_clock():
        if not missing_parameters(find_notebook(notebook, folder)):
            train_in_parallel(notebook, parameters, slots, folder, limit=limit)
        left = None if limit is None else max(limit - (time.monotonic() - began), 0.001)
        return run_notebook(notebook, parameters, folder=folder, force=force, limit=left)


def train_in_parallel(
    notebook: str,
    parameters: dict[str, Any],
    slots: Sequence[int | str] | None = None,
    folder: Path | None = None,
    *,
    limit: float | None = None,
) -> list[int]:
    """Train the unfinished folds of a run, one on each GPU at a time; returns those that it finished.

    notebook: such as 3_train; parameters: those that differ from its defaults. slots: numbers of GPUs in this process,
    or "cpu0", "cpu1" and so on, which share the cores; None: the GPUs that work. With fewer than two of these, or a
    single fold, nothing is done: the notebook trains the folds one after another. folder: of the notebooks. limit:
    seconds for all.

    Each fold is a run of the notebook in a worker process that sees one GPU or none, with a copy of its own such as
    3_train.base.fold0.ipynb; its lines begin with the slot. When a GPU fails, or a kernel is killed for the machine's
    memory while others run, that GPU is given up and its fold resumes from its checkpoint on another. Any other error
    ends all workers, as NotebookFailed with its message. When the notebook's `hours` are over, no further fold begins.
    All workers end when this process does.
    """
    plan = FoldPlan.make(notebook, parameters, folder)
    to_do = plan.to_do
    if slots is None:
        if len(to_do) < 2:
            return []
        slots = working_gpus().indices
        if len(slots) < 2:
            print(f"{len(slots)} working GPUs: the folds are trained one after another", flush=True)
            return []
    check_range("slots", list(slots), len(slots) > 0, "the number of one GPU at least")
    with plan.locked(), temporary_folder() as place:
        line = [sys.executable, "-m", "kagglekit.run", *plan.arguments(plan.given, plan.source.parent)]
        workers = Workers(lambda fold: [*line, *plan.part(fold)], plan.is_finished, place)
        try:
            return workers.train(to_do, [_name(slot) for slot in slots], limit)
        finally:
            workers.stop()


class Workers:
    """Processes that train the folds of a run, one in each slot; see `train_in_parallel`.

    command: fold -> its command line, which exits with 0 also when its time is over, and ends when its input is closed.
    finished: fold -> whether it is trained. place: a folder for the workers' stderr. Slots are GPUs as in
    CUDA_VISIBLE_DEVICES, or cpu0, cpu1 and so on.
    """

    def __init__(self, command: Callable[[int], list[str]], finished: Callable[[int], bool], place: Path):
        self.command, self.finished, self.place = command, finished, place
        self.running: dict[str, tuple[int, subprocess.Popen]] = {}  # slot -> fold and process
        self.lines: SimpleQueue[tuple[str, str | None]] = SimpleQueue()  # slot and line; None: end of output

    def train(self, folds: list[int], slots: list[str], limit: float | None) -> list[int]:
        """Train folds, each in the first free slot; returns those that are finished when all are done or time is over.

        limit: seconds. Raises NotebookFailed over the limit, and for an error that another slot would not avoid.
        """
        to_do, free, done = deque(folds), list(slots), []
        end = None if limit is None else time.monotonic() + limit
        threads = max(1, (os.cpu_count() or 1) // min(len(slots), len(folds) or 1))
        while to_do or self.running:
            while to_do and free:
                self._begin(to_do.popleft(), free.pop(0), threads)
            try:
                slot, line = self.lines.get(timeout=None if end is None else max(end - time.monotonic(), 0.001))
            except Empty:
                raise NotebookFailed(f"the limit of {limit:g} seconds is over", 124) from None
            if line is not None:
                print(f"{_title(slot)}  {line}", flush=True)
                continue
            fold, code, message = self._end(slot)
            if not code and self.finished(fold):
                done.append(fold)
                free.append(slot)
            elif not code:
                print(f"{_title(slot)}  time is over: fold {fold} is not finished, and no other begins", flush=True)
                to_do.clear()
            elif (self.running or free) and (GPU_FAILED.search(message) or OUT_OF_MEMORY.search(message)):
                print(f"{_title(slot)}  is given up, fold {fold} resumes on another: {message}", flush=True)
                to_do.appendleft(fold)
            else:
                raise NotebookFailed(f"fold {fold} on {_title(slot)}: {message}", code if code > 0 else 1)
        return sorted(done)

    def stop(self) -> None:
        """End the workers that still run, each with its kernel."""
        for _, process in self.running.values():
            process.terminate()
        end = time.monotonic() + PATIENCE
        for _, process in self.running.values():
            try:
                process.wait(max(end - time.monotonic(), 0.001))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        self.running.clear()

    def _begin(self, fold: int, slot: str, threads: int) -> None:
        environment = {"OMP_NUM_THREADS": str(threads), STARTED: repr(kernel_began()), **os.environ, **import_path()}
        environment["CUDA_VISIBLE_DEVICES"] = "" if slot.startswith("cpu") else slot
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")
        with open(self.place / slot, "w") as errors:
            process = subprocess.Popen(
                self.command(fold), env=environment, stderr=errors, start_new_session=True, **pipes
            )
        self.running[slot] = fold, process
        Thread(target=self._listen, args=(slot, process.stdout), daemon=True).start()
        print(f"{_title(slot)}  fold {fold} begins", flush=True)

    def _listen(self, slot: str, stream) -> None:
        with stream:
            for line in stream:
                self.lines.put((slot, line.rstrip("\n")))
        self.lines.put((slot, None))

    def _end(self, slot: str) -> tuple[int, int, str]:
        """Fold, exit code and last lines of a worker that has closed its output."""
        fold, process = self.running.pop(slot)
        code = process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        lines = (self.place / slot).read_text(errors="replace").strip().splitlines()
        return fold, code, "\n".join(lines[-25:]) or f"the process ended with code {code}"


def _title(slot: str) -> str:
    return slot if slot.startswith("cpu") else f"GPU {slot}"


def _name(slot: int | str) -> str:
    """The name for CUDA_VISIBLE_DEVICES of a GPU that has this number in this process; a slot of the CPU as it is."""
    if isinstance(slot, str):
        return slot
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return str(slot)
    shown = [name for name in names.split(",") if name]
    check_range("slot", slot, slot < len(shown), f"below {len(shown)}, for CUDA_VISIBLE_DEVICES={names}")
    return shown[slot]
