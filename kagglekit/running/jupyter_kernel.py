"""Execute a notebook with papermill in a kernel of its own, with a time limit and a lock, and explain how it failed."""

import builtins
import errno
import fcntl
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from kagglekit.files import temporary_folder
from kagglekit.progress import VARIABLE
from kagglekit.running import nbformat
from kagglekit.running.terminal import REPORTED, TerminalLine, sections
from kagglekit.running.warm_kernels import find_imports, import_path, warm_process

PATH_OF_SOCKET = 100  # bytes that a Unix socket's path may have here: 104 with macOS, 108 with Linux, less "-5" and end


class NotebookFailed(RuntimeError):
    """A notebook did not finish; `code` is the exit code (1: an error or a dead kernel; 124: over the limit)."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter and this kagglekit, whatever kernelspecs are installed.

    log: a file for output outside of cells. progress: the file that `Progress` writes. lock: an open lock file that the
    process inherits, so that it stays locked while runner or kernel live. imports: statements to have done before; such
    a kernel is forked where that is possible. on_cell: is told the source of each cell that begins.
    """

    def __init__(
        self,
        log: Path,
        progress: Path,
        lock: int,
        imports: Sequence[str] = (),
        on_cell: Callable[[str], None] = lambda source: None,
    ):
        super().__init__(kernel_name="python3")
        sockets = str(log.with_suffix(""))
        if sys.platform != "win32" and len(os.fsencode(sockets)) <= PATH_OF_SOCKET:
            self.transport, self.ip = "ipc", sockets  # of TCP ports, another process can take one before the kernel
        self.on_cell = on_cell
        self.output, self.progress, self.lock, self.imports = log, progress, lock, imports
        self.process = self.channels = None
        self.stopped = False

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += ["--Session.packer=kagglekit.progress.pack"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

    async def start_kernel(self, **options):
        environment = {**os.environ, VARIABLE: str(self.progress), **import_path()}
        with open(self.output, "w") as output:
            await super().start_kernel(**options, env=environment, stdout=output, stderr=output, pass_fds=[self.lock])
        self.process = self.provisioner.process

    async def _async_launch_kernel(self, kernel_cmd, **options):
        if (warm := warm_process()) is None:
            return await super()._async_launch_kernel(kernel_cmd, **options)
        place, files = options.get("cwd") or os.getcwd(), (options["stdout"].fileno(), self.lock)
        try:
            process = warm.fork(self.imports, options["env"], place, kernel_cmd[3:], *files)
        except OSError:  # it has died: of memory, or of what a notebook imports
            return await super()._async_launch_kernel(kernel_cmd, **options)
        self.provisioner.process, self.provisioner.pid, self.provisioner.pgid = process, process.pid, process.pid
        self._reconcile_connection_info(self.provisioner.connection_info)

    def client(self, **options):
        self.channels = channels = super().client(**options)
        send = channels.execute

        def execute(code: str, *args, **more):
            self.on_cell(code)
            return send(code, *args, **more)

        channels.execute = execute
        return channels

    def stop(self) -> None:
        """Kill the process and its children at once."""
        self.stopped = True
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop, and release channels and files."""
        self.stop()
        if self.process is not None:
            self.process.wait()
        if self.channels is not None:
            self.channels.stop_channels()
        run_sync(self.cleanup_resources)()

    def why_dead(self) -> str:
        """How the process ended, after its last lines outside of cells."""
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
    """Hold a lock file, as its file descriptor. Raises RuntimeError when another process holds it for `patience` s.

    The system releases it when its holders die: a runner, and the kernel it left behind (which ends within seconds).
    Unlike with filelock, the file keeps the holder's process number, and the kernel inherits the lock.
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
                    holder = f"by process {file.read().strip() or '?'}"
                    raise RuntimeError(
                        f"{what} is being run already ({holder}): wait until it is done, or stop it"
                    ) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def execute(source: Path, target: Path, parameters: dict, title: str, lock: int, limit: float | None) -> list[str]:
    """Execute a notebook into `target` in a kernel of its own, with one progress line in the terminal; its result, see
    `progress.result`."""
    import papermill  # slow, and a run that is skipped needs none
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    with temporary_folder() as temporary:
        reports = Path(os.environ.get(REPORTED) or temporary / "progress.json")
        line = TerminalLine(title, reports, sections(nbformat.read(source, as_version=4)))
        kernel = Kernel(temporary / "kernel.log", line.file, lock, find_imports(source), line.enter)
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
            with line.printing_above():
                content = papermill.execute_notebook(
                    *paths, parameters, kernel_name="python3", language="python", km=kernel, start_timeout=300,
                    progress_bar=False, coalesce_streams=True,
                )  # fmt: skip
        except PapermillExecutionError as error:
            raise NotebookFailed(explain(error, line.section)) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise NotebookFailed(f"the disk of {target.parent} is full: free some space and run it again") from None
        except RuntimeError:  # nbclient's DeadKernelError is one
            if kernel.stopped:
                raise NotebookFailed(f"the limit of {limit:g} seconds is over", 124) from None
            if kernel.process is None or kernel.process.poll() is None:
                raise
            raise NotebookFailed(kernel.why_dead()) from None
        finally:
            ended.set()
            watcher.join()
            kernel.end()
            with suppress(OSError):
                line.close()
    check_finished(content)
    del content.metadata["papermill"]  # paths of this machine, and a status not to be trusted
    nbformat.write(content, target)
    return line.state["result"]


def check_finished(content) -> None:
    """Raise NotebookFailed unless every cell finished; papermill takes `sys.exit(0)` for success."""
    for cell in content.cells:
        if cell.cell_type != "code" or not cell.source.strip() or "skip-execution" in cell.metadata.get("tags", []):
            continue
        if any(output.output_type == "error" for output in cell.outputs):
            raise NotebookFailed(
                f"cell [{cell.execution_count}] left the notebook by sys.exit: the cells below did not run"
            )
        if cell.execution_count is None:
            raise NotebookFailed(f"a cell did not run: {cell.source.strip().splitlines()[0]}")


def explain(error, section: str = "") -> str:
    """A cell's error in words: the message alone where kagglekit raised it, else with the kind of error. The traceback
    is in the executed notebook. section: of the notebook, that the cell is in."""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).splitlines()
    places = [line for line in trace if re.match(r"File |Cell In|[~/]\S*\.py in ", line)]  # the last: IPython 7
    kind, place = getattr(builtins, error.ename, Exception), f"cell [{error.exec_count}]"
    place += f", {section}" if section else ""
    if issubclass(kind, (ValueError, OSError)) and places and re.search(r"kagglekit/(?!.*site-packages/)", places[-1]):
        return f"{place}: {error.evalue}"
    return "\n".join(f"{place}: {error.ename}: {error.evalue}".rstrip(": ").splitlines()[:15])
