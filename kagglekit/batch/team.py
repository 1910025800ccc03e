"""Processes that train the folds of a run, one a slot: started, listened to, replaced and stopped."""

import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from kagglekit.batch.kernel import NotebookFailed
from kagglekit.time_budget import STARTED, kernel_began

OF_THE_GPU = re.compile(r"CUDA error|CUDA driver|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|no kernel image")
OF_SHARING = re.compile(r"was killed \(SIGKILL\)")  # for the memory of the machine, of which each slot takes its part
PATIENCE = 20  # seconds that processes have to end when they are told to


class Team:
    """Processes that train the folds of a run, see `train_side_by_side`.

    command: fold -> the command line that trains it; it ends well with a fold unfinished when its time is over, and
    ends with its input. finished: fold -> whether it is. place: a folder for what the processes write to stderr.
    Slots are the names that CUDA has for GPUs; a process sees its own alone.
    """

    def __init__(self, command: Callable[[int], list[str]], finished: Callable[[int], bool], place: Path):
        self.command, self.finished, self.place = command, finished, place
        self.processes: dict[str, subprocess.Popen] = {}  # slot -> what runs there
        self.fold: dict[str, int] = {}  # slot -> what is trained there
        self.said: SimpleQueue[tuple[str, str | None]] = SimpleQueue()  # slot and line; None: that was all

    def train(self, folds: list[int], slots: list[str], limit: float | None) -> list[int]:
        """Train folds, each in the first slot that is free; those that are finished, as soon as all or the time is.

        limit: seconds. Raises NotebookFailed for the limit, and for an error that is not of the slot.
        """
        to_do, free, done = deque(folds), list(slots), []
        end = None if limit is None else time.monotonic() + limit
        shares = max(1, (os.cpu_count() or 1) // min(len(slots), len(folds) or 1))
        while to_do or self.fold:
            while to_do and free:
                self._begin(to_do.popleft(), free.pop(0), shares)
            try:
                slot, line = self.said.get(timeout=None if end is None else max(end - time.monotonic(), 0.001))
            except Empty:
                raise NotebookFailed(f"the limit of {limit:g} seconds is over", 124) from None
            if line is not None:
                print(f"slot {slot}  {line}", flush=True)
                continue
            code, fold, message = self._end(slot)
            if not code and self.finished(fold):
                done.append(fold)
                free.append(slot)
            elif not code:
                print(f"slot {slot}  time is over: fold {fold} is not finished, and none is begun any more", flush=True)
                to_do.clear()
            elif self._of_the_slot(message, len(self.fold) + len(free)):
                print(f"slot {slot}  is given up, fold {fold} goes on in another: {message}", flush=True)
                to_do.appendleft(fold)
            else:
                raise NotebookFailed(f"fold {fold} in slot {slot}: {message}", code if code > 0 else 1)
        return sorted(done)

    def stop(self) -> None:
        """End the processes that still run, each with its kernel."""
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + PATIENCE
        for process in self.processes.values():
            try:
                process.wait(max(end - time.monotonic(), 0.001))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        self.processes.clear()

    def _begin(self, fold: int, slot: str, threads: int) -> None:
        home = Path(__file__).parents[2]
        paths = [str(home)] if home.name not in ("site-packages", "dist-packages") else []  # a checkout, as in `Kernel`
        environment = {"OMP_NUM_THREADS": str(threads), STARTED: repr(kernel_began()), **os.environ}
        environment |= {
            "CUDA_VISIBLE_DEVICES": slot,
            "PYTHONPATH": os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH")])),
        }
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")
        with open(self.place / slot, "w") as errors:
            process = subprocess.Popen(
                self.command(fold), env=environment, stderr=errors, start_new_session=True, **pipes
            )
        self.processes[slot], self.fold[slot] = process, fold
        Thread(target=self._listen, args=(slot, process.stdout), daemon=True).start()
        print(f"slot {slot}  fold {fold} begins", flush=True)

    def _listen(self, slot: str, stream) -> None:
        with stream:
            for line in stream:
                self.said.put((slot, line.rstrip("\n")))
        self.said.put((slot, None))

    def _end(self, slot: str) -> tuple[int, int, str]:
        """Exit code, fold and last words of a process that has closed its output."""
        process, fold = self.processes.pop(slot), self.fold.pop(slot)
        code = process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        lines = (self.place / slot).read_text(errors="replace").strip().splitlines()
        return code, fold, "\n".join(lines[-25:]) or f"the process ended with code {code}"

    @staticmethod
    def _of_the_slot(message: str, others: int) -> bool:
        """Whether a failure says nothing about the run, so that another slot may do better."""
        return others > 0 and bool(OF_THE_GPU.search(message) or OF_SHARING.search(message))
