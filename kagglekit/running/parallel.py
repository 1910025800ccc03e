"""Train several folds at a time, one on each GPU: a slot takes the next fold as soon as it is free.

Processes that train the folds of a run, one a slot: started, listened to, replaced and stopped.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import pandas as pd

from kagglekit.files import fold_folders, resolve, run_folder
from kagglekit.options import check_range
from kagglekit.running.gpus import working_gpus
from kagglekit.running.kernel import NotebookFailed, locked
from kagglekit.running.notebook import find_notebook, run_notebook
from kagglekit.running.parameters import Parameter, check_parameters, read_parameters, with_defaults
from kagglekit.time_budget import STARTED, kernel_began

NEEDS = ("work", "run", "folds", "learner")  # parameters by which a notebook is known to train fold by fold


def parse_slots(text: str) -> list[int] | None:
    """`auto` -> None, "0,1" -> [0, 1]: the numbers of GPUs."""
    if text == "auto":
        return None
    fits = re.fullmatch(r"\d+(,\d+)*", text) is not None and len(set(text.split(","))) == text.count(",") + 1
    check_range("slots", text, fits, "auto, or the numbers of GPUs, each once, such as 0,1")
    return [int(number) for number in text.split(",")]


def run_in_parallel(
    notebook: str,
    parameters: dict[str, Any],
    slots: Sequence[int] | None = None,
    folder: Path | None = None,
    *,
    force: bool = False,
    limit: float | None = None,
) -> Path:
    """Run a notebook as `run_notebook` does, its folds before that side by side, see `train_in_parallel`.

    The run of the whole notebook comes last: it finds the folds finished, and makes scores and pictures. A notebook
    that does not train fold by fold is just run. Two kernels that train at a time take half the time of one (for GPUs
    of their own), and a quarter of a minute for each fold to begin.
    """
    began, trains = time.monotonic(), not _missing(find_notebook(notebook, folder))
    with _one_clock():
        if trains:
            train_in_parallel(notebook, parameters, slots, folder, limit=limit)
        left = None if limit is None else max(limit - (time.monotonic() - began), 0.001)
        return run_notebook(notebook, parameters, folder=folder, force=force, limit=left)


def train_in_parallel(
    notebook: str,
    parameters: dict[str, Any],
    slots: Sequence[int] | None = None,
    folder: Path | None = None,
    *,
    limit: float | None = None,
) -> list[int]:
    """Train the folds of a run that are still to do, one on each GPU at a time; those that are finished now.

    notebook: such as 3_train; parameters: those that differ from its own. slots: numbers of GPUs, as this process
    counts them; None is those that work, and with fewer than two of these nothing is done, nor for a single fold: the
    notebook trains them one after another. folder: of the notebooks. limit: seconds for all.

    Each fold is a run of the notebook in a process that sees one GPU alone, with a copy of its own such as
    3_train.base.fold0.ipynb; its lines begin with the slot. A slot whose GPU fails, or whose kernel is killed for the
    machine's memory while others run, is given up: its fold goes on from its checkpoint in another. Any other error
    ends all, as NotebookFailed with its message. When `hours` of the notebook are over no other fold is begun. All
    processes end when this one does.
    """
    source = find_notebook(notebook, folder)
    if missing := _missing(source):
        raise ValueError(f"{source.stem} does not train fold by fold: it has no parameter {missing[0]!r}")
    known = read_parameters(source)
    given = check_parameters(source.stem, known, parameters)
    values = with_defaults(known, given)
    to_do = _folds_to_do(values)
    if slots is None:
        if len(to_do) < 2:
            return []
        gpus = working_gpus()
        slots = gpus.indices
        if len(slots) < 2:
            print(f"{len(slots)} working GPUs: the folds are trained one after another", flush=True)
            return []
    check_range("slots", list(slots), len(slots) > 0, "the number of one GPU at least")
    home, name = resolve(values["work"]), run_folder(values["work"], values["run"]).name
    title = f"{source.stem} {name}"
    (home / "notebooks").mkdir(exist_ok=True)
    with locked(home / "notebooks" / f".{title.replace(' ', '.')}.lock", title), tempfile.TemporaryDirectory() as place:
        texts = [write_argument(known[name], value) for name, value in given.items() if name != "folds"]
        line = [sys.executable, "-m", "kagglekit.run", source.stem, *texts, "--notebooks", str(source.parent)]
        team = Team(
            lambda fold: [*line, f"folds=[{fold}]", "--part", f"fold{fold}"],
            lambda fold: fold in fold_folders(home / name),
            Path(place),
        )
        try:
            return team.train(to_do, [_device(slot) for slot in slots], limit)
        finally:
            team.stop()


def _missing(source: Path) -> list[str]:
    known = read_parameters(source)
    return [name for name in NEEDS if name not in known]


def _folds_to_do(values: Mapping[str, Any]) -> list[int]:
    """The folds that a run lacks, of those that are asked for; with `overwrite` all, for they may be of another one."""
    from kagglekit.runs.tables import choose_folds  # pandas comes with it

    path = resolve(values["work"]) / "folds.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 1_eda first, with the same work=")
    folds = choose_folds(pd.read_parquet(path, columns=["fold"]), values["folds"])
    done = {} if values.get("overwrite") else fold_folders(run_folder(values["work"], values["run"]))
    return [fold for fold in folds if fold not in done]


def _device(slot: int) -> str:
    """What CUDA calls the GPU that is number `slot` in this process."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return str(slot)
    shown = [name for name in names.split(",") if name]
    check_range("slot", slot, slot < len(shown), f"below {len(shown)}, for CUDA_VISIBLE_DEVICES={names}")
    return shown[slot]


@contextmanager
def _one_clock() -> Iterator[None]:
    """All processes that are started in the block count their hours from when this one began."""
    before = os.environ.get(STARTED)
    os.environ[STARTED] = before or repr(kernel_began())
    try:
        yield
    finally:
        if before is None:
            del os.environ[STARTED]


def write_argument(parameter: Parameter, value) -> str:
    """A parameter as `kagglekit.run` reads it back. Raises ValueError for a value that it would take for another."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    back = parameter.parse(text)
    if json.dumps(back) != json.dumps(value):
        raise ValueError(
            f"{parameter.name}={value!r} cannot stand on a command line, where it would be {back!r}: "
            "choose another value"
        )
    return f"{parameter.name}={text}"


OF_THE_GPU = re.compile(r"CUDA error|CUDA driver|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|no kernel image")
OF_SHARING = re.compile(r"was killed \(SIGKILL\)")  # for the memory of the machine, of which each slot takes its part
PATIENCE = 20  # seconds that processes have to end when they are told to


class Team:
    """Processes that train the folds of a run, see `train_in_parallel`.

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
