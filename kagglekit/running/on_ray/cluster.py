"""Cells on a Ray cluster: map a function over them; lost ones are made up for, and nothing stays running."""

import copy
import math
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PATIENCE = 20  # seconds that tasks have to end when they are asked to
ATTEMPTS = 3  # of a cell whose node or worker is lost
Report = Callable[[Any], None]


class CellFailed(RuntimeError):
    """A cell did not come to its end; code: the exit code (124: over the limit)."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return type(self), (*self.args, self.code)


class TryElsewhere(RuntimeError):
    """Raised by a function of a cell for a fault of its machine: the cell is tried again."""


@dataclass(frozen=True)
class Share:
    """What a task gets. cores: also its threads. gpus: 1, a share of one, or 0."""

    cores: int
    gpus: float

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        return f"{self.gpus:g} GPU, {cores}" if self.gpus else cores


@dataclass(frozen=True)
class Outcome:
    """How a cell ended. failed: why it did not; code: the exit code of that; elsewhere: worth trying again."""

    node: str
    result: Any = None
    failed: str = ""
    code: int = 1
    elsewhere: bool = False


class Cluster:
    """A connection to a cluster. on: as it was named; ours: it was started for this connection."""

    def __init__(self, on: str, ours: bool = False):
        self.on, self.ours = on, ours

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has: CPU, GPU, ..."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]

    def share(self, cores: int | None = None, gpus: float | None = None) -> Share:
        """What a task gets: as asked; else a GPU where there are any, and as many cores as leave each GPU of a node as
        many; without GPUs all cores of a node.

        Raises ValueError for more than any node has.
        """
        nodes = self.nodes()
        if gpus is None:
            gpus = float(any(node.get("GPU") for node in nodes))
        fit = [node for node in nodes if node.get("GPU", 0) >= gpus]
        if not fit:
            raise ValueError(f"gpus={gpus:g}: no node of the cluster has a GPU: say gpus=0 to train on its cores")
        if cores is None:
            sides = [max(node.get("GPU", 0) // gpus, 1) if gpus else 1 for node in fit]  # tasks side by side on a node
            cores = max(int(min(node["CPU"] / side for node, side in zip(fit, sides, strict=True))), 1)
        if cores > (most := max(node["CPU"] for node in fit)):
            raise ValueError(f"cores={cores}: no node of the cluster has so many, the most is {most:g}")
        return Share(int(cores), gpus)

    def at_once(self, share: Share) -> int:
        """How many tasks of a share fit into the cluster at a time."""
        count = 0.0
        for node in self.nodes():
            by_gpus = node.get("GPU", 0) // share.gpus if share.gpus else math.inf
            count += min(node["CPU"] // share.cores, by_gpus)
        return int(count)

    def map_cells(
        self,
        function: Callable[[Any, Any, Report], Any],
        cells: Iterable[Any],
        share: Share,
        shared: Any = None,
        *,
        watch: Callable[[Mapping[Any, tuple[str, Any]]], None] = lambda reports: None,
        lost: Callable[[Any, str], None] = lambda cell, why: None,
        end: float | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """Call function(cell, shared, report) for each cell in a task of its own; yields cell and result, as they end.

        function: of a module that the nodes have, such as kagglekit's, which comes along. cells: hashable. shared: goes
        to each node once. Both come as copies that may be written into: what Ray's store gives is read-only for numpy,
        but not for `torch.from_numpy`, by which one cell would change what the next one gets. Each task runs with
        `share.cores` threads, also where its process has had others, and sees no GPU that it has not asked for.
        report(anything): what the cell is at. watch: is called twice a second with cell -> (node, last report).
        lost: is called for a cell that begins again elsewhere. end: of time.monotonic(), when all has to be done.
        Raises CellFailed for what a function raises (also SystemExit), for a cell that is lost three times, and over
        the time. All tasks have ended when the iterator has, however it ends: close it, where its loop may be left.
        """
        import ray

        head = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
        board = ray.remote(Board).options(**head).remote()
        task = ray.remote(work).options(num_cpus=share.cores, num_gpus=share.gpus, max_retries=0)
        place, running, tries = ray.put(shared), {}, Counter()

        def begin(cell: Any) -> None:
            tries[cell] += 1
            running[task.remote(function, cell, place, share, board)] = cell

        try:
            for cell in cells:
                begin(cell)
            while running:
                ended, _ = ray.wait([*running], num_returns=1, timeout=0.5)
                if end is not None and time.monotonic() > end and not ended:
                    raise CellFailed("the limit of time is over", 124)
                watch(ray.get(board.read.remote(), timeout=60))
                for ref in ended:
                    cell = running.pop(ref)
                    outcome = _outcome(ref)
                    if not outcome.failed:
                        yield cell, outcome.result
                    elif outcome.elsewhere and tries[cell] < ATTEMPTS:
                        lost(cell, outcome.failed)
                        begin(cell)
                    else:
                        at = f"{cell} on {outcome.node}" if outcome.node else cell
                        raise CellFailed(f"{at}: {outcome.failed}", outcome.code)
        except ray.exceptions.RayError as error:
            raise CellFailed(f"on={self.on!r}: the cluster is gone: {_first_sentence(error)}") from None
        finally:
            _stop([*running])
            with suppress(Exception):
                ray.kill(board)


def _outcome(ref: Any) -> Outcome:
    """How a task ended; where its node or its process has died, that is worth another try."""
    from ray import exceptions, get

    final = (exceptions.RayTaskError, exceptions.RuntimeEnvSetupError, exceptions.TaskCancelledError)
    try:
        return get(ref)
    except final as error:  # its last line is the error, those above it are where it was raised
        return Outcome("", failed=str(error).strip().splitlines()[-1])
    except exceptions.RayError as error:
        return Outcome("", failed=_first_sentence(error), elsewhere=True)


def _first_sentence(error: Exception) -> str:
    """What Ray says first: advice for its commands follows."""
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__


def _stop(refs: list) -> None:
    """Cancel tasks, and wait until they have ended: those that do not answer are killed."""
    import ray

    for force in (False, True):
        for ref in refs:
            with suppress(Exception):
                ray.cancel(ref, force=force)
        if refs:
            with suppress(Exception):
                _, refs = ray.wait(refs, num_returns=len(refs), timeout=PATIENCE)


class Board:
    """An actor on the head node: what the cells are at."""

    def __init__(self):
        self.reports: dict[Any, tuple[str, Any]] = {}

    def note(self, cell: Any, node: str, words: Any) -> None:
        self.reports[cell] = node, words

    def read(self) -> dict[Any, tuple[str, Any]]:
        return self.reports


def work(function: Callable, cell: Any, shared: Any, share: Share, board: Any) -> Outcome:
    """The task of a cell, on its node: with its own threads and copies; whatever the function raises is its outcome."""
    from threadpoolctl import threadpool_limits

    node = socket.gethostname()
    board.note.remote(cell, node, None)
    os.environ["OMP_NUM_THREADS"] = str(share.cores)  # of processes that it starts, of torch where it comes later
    if not share.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if torch := sys.modules.get("torch"):  # it keeps the threads of the first task of this process
        torch.set_num_threads(share.cores)
    own, all_shared = copy.deepcopy((cell, shared))
    try:
        with threadpool_limits(share.cores):
            return Outcome(node, function(own, all_shared, lambda words: board.note.remote(cell, node, words)))
    except SystemExit as error:  # Ray would take it for a crash, and begin again
        return Outcome(node, failed=f"it left by sys.exit({error.code!r})")
    except TryElsewhere as error:
        return Outcome(node, failed=str(error), elsewhere=True)
    except Exception as error:
        return Outcome(node, failed=str(error) or type(error).__name__, code=getattr(error, "code", 1))
