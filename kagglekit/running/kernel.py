"""Execute a notebook in a process of its own, with a limit and a lock, and tell how it failed."""

import builtins
import fcntl
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from kagglekit.progress import VARIABLE, TerminalLine


class NotebookFailed(RuntimeError):
    """A notebook did not come to its end; `code` is the exit code (1: an error, a dead kernel; 124: over the limit)."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class Kernel(AsyncKernelManager):
    """A kernel of the running interpreter, whatever kernelspecs are installed, to which this kagglekit can be imported.

    `log`: a file for what its process writes outside of cells. `progress`: the file that `batch.progress` writes.
    `lock`: an open lock file that the process inherits, so that it is locked for as long as runner or kernel live.
    """

    def __init__(self, log: Path, progress: Path, lock: int):
        super().__init__(kernel_name="python3")
        self.output, self.progress, self.lock = log, progress, lock
        self.process = self.talk = None
        self.stopped = False

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

    async def start_kernel(self, **options):
        environment = {**os.environ, VARIABLE: str(self.progress)}
        home = Path(__file__).parents[2]
        if home.name not in ("site-packages", "dist-packages"):  # a checkout, perhaps not installed
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
        with open(self.output, "w") as output:
            await super().start_kernel(**options, env=environment, stdout=output, stderr=output, pass_fds=[self.lock])
        self.process = self.provisioner.process

    def client(self, **options):
        self.talk = super().client(**options)
        return self.talk

    def stop(self) -> None:
        """Kill the process and its children at once: cells are done, or not wanted any more."""
        self.stopped = True
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop, and give back channels and files."""
        self.stop()
        if self.process is not None:
            self.process.wait()
        if self.talk is not None:
            self.talk.stop_channels()
        run_sync(self.cleanup_resources)()

    def obituary(self) -> str:
        """How the process ended, after the last lines that it wrote outside of cells."""
        code = self.process.poll() if self.process is not None else None
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL): most often the machine ran out of memory; try a smaller batch or shorter texts"
        elif code is not None and code < 0:
            how = f"died of {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        lines = [line for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join([*(line for line in lines[-5:] if "over TCP" not in line), f"the kernel {how}"])


@contextmanager
def locked(path: Path, what: str, patience: float = 5) -> Iterator[int]:
    """Hold a lock file, as its file descriptor. Raises RuntimeError when another process holds it all of `patience` s.

    The system gives it back when its holders die: a runner, and the kernel it left behind (which ends within seconds).
    """
    give_up = time.monotonic() + patience
    with open(path, "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    file.seek(0)
                    holder = file.read().strip() or "?"
                    raise RuntimeError(
                        f"{what} is being run already (by process {holder}): wait until it is done, or stop it"
                    ) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def execute(source: Path, target: Path, parameters: dict, title: str, lock: int, limit: float | None) -> None:
    """Execute a notebook into `target` in a kernel of its own, with one line of progress in the terminal."""
    import papermill  # not before it is needed: a run that is skipped takes no second
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="kagglekit-") as temporary:
        kernel = Kernel(Path(temporary, "kernel.log"), Path(temporary, "progress.json"), lock)
        line = TerminalLine(title, kernel.progress)
        ended, began = Event(), time.monotonic()

        def watch():
            while not ended.wait(0.5):
                if limit is not None and time.monotonic() - began > limit:
                    kernel.stop()
                with suppress(OSError):  # a terminal that is gone ends no run
                    line.refresh()

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, target))
        try:
            content = papermill.execute_notebook(
                *paths, parameters, kernel_name="python3", language="python", km=kernel, start_timeout=300,
                progress_bar=False, coalesce_streams=True,
            )  # fmt: skip
        except PapermillExecutionError as error:
            raise NotebookFailed(explain(error)) from None
        except RuntimeError:  # nbclient's DeadKernelError is one
            if kernel.stopped:
                raise NotebookFailed(f"the limit of {limit:g} seconds is over", 124) from None
            if kernel.process is None or kernel.process.poll() is None:
                raise
            raise NotebookFailed(kernel.obituary()) from None
        finally:
            ended.set()
            watcher.join()
            kernel.end()
            with suppress(OSError):
                line.close()
    check_finished(content)
    del content.metadata["papermill"]  # paths of this machine, and a status not to be trusted
    nbformat.write(content, target)


def check_finished(content) -> None:
    """Raise NotebookFailed unless every cell ran to its end; papermill takes `sys.exit(0)` for success."""
    for cell in content.cells:
        if cell.cell_type != "code" or not cell.source.strip() or "skip-execution" in cell.metadata.get("tags", []):
            continue
        if any(output.output_type == "error" for output in cell.outputs):
            raise NotebookFailed(
                f"cell [{cell.execution_count}] left the notebook by sys.exit: the cells below did not run"
            )
        if cell.execution_count is None:
            raise NotebookFailed(f"a cell did not run: {cell.source.strip().splitlines()[0]}")


def explain(error) -> str:
    """A cell's error in words: the message alone where kagglekit itself refused, else the end of the traceback."""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).splitlines()
    places = [line for line in trace if re.match(r"File |Cell In|[~/]\S*\.py in ", line)]  # the last: IPython 7
    kind = getattr(builtins, error.ename, Exception)
    if issubclass(kind, (ValueError, OSError)) and places and re.search(r"kagglekit/(?!.*site-packages/)", places[-1]):
        return f"cell [{error.exec_count}]: {error.evalue}"
    return "\n".join([f"cell [{error.exec_count}] failed", *trace[-15:]])
