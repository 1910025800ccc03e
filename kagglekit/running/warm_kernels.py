"""Kernels that begin in under a second: forks of one process that has imported what the notebooks import.

The runner starts that process first of all, so that it imports torch and the like while parameters are checked and
papermill is loaded. It forks a kernel for each notebook, and imports for the next one while that runs. It only imports:
what a notebook makes ends with its kernel. It ends with the runner, however that ends, and takes its kernels along.
"""

import ast
import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NoReturn

from kagglekit.running.parameters import read_notebook

KERNEL = ["import ipykernel.kernelapp", "import ipykernel.ipkernel"]
BACKEND = "module://matplotlib_inline.backend_inline"  # a kernel's own choice, made before matplotlib is imported
GPU = ("/dev/nvidiactl", "/dev/kfd")  # a process that has looked for GPUs must not fork
UNREAD = {"PYTEST_CURRENT_TEST", "KAGGLEKIT_STARTED", "KAGGLEKIT_CHAINED"}  # they change, and no import reads them
SERVE = (
    "import sys; sys.path.remove('') if '' in sys.path else None; "
    "from kagglekit.running.warm_kernels import serve; serve(int(sys.argv[1]))"
)


def import_path() -> dict[str, str]:
    """The PYTHONPATH with which other processes import this kagglekit, also from a checkout that is not installed."""
    home, paths = Path(__file__).parents[2], [os.environ.get("PYTHONPATH", "")]
    if home.name not in ("site-packages", "dist-packages"):
        paths.insert(0, str(home))
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def find_imports(notebook: Path) -> list[str]:
    """The import statements of a notebook's cells, as text; of a cell that is not plain Python none."""
    found = []
    for cell in read_notebook(notebook)["cells"]:
        if cell.get("cell_type") == "code":
            with suppress(SyntaxError):
                nodes = ast.parse("".join(cell["source"])).body
                found += [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    return found


class Fork:
    """The process of a forked kernel, in the way of `subprocess.Popen`. ended: a pipe that gives its exit code."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, ended: int):
        self.pid, self.returncode = pid, None
        self._ended, self._lock = ended, Lock()

    def poll(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code; None while it runs after `timeout` seconds. A pipe without one: the forking process died."""
        with self._lock:
            if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
                self.returncode = int(os.read(self._ended, 16) or -signal.SIGKILL)
                os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmProcess:
    """The runner's side of the process that imports and forks."""

    def __init__(self):
        self.made_for = _circumstances()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                env={"MPLBACKEND": BACKEND, **os.environ, **import_path()},
                pass_fds=[theirs.fileno()], start_new_session=True, **nowhere,
            )  # fmt: skip

    def load(self, imports: Iterable[str]) -> None:
        """Import when there is time; returns at once."""
        with suppress(OSError):  # it has died: the next kernel begins from nothing
            self.channel.send(json.dumps({"imports": [*imports]}).encode())

    def fork(
        self, imports: Iterable[str], environment: Mapping[str, str], cwd: str, arguments: list[str], output, lock
    ):
        """A `Fork` that runs a kernel with `imports` done. output, lock: open files, for its output and to keep."""
        ended, told = os.pipe()
        try:
            order = {"imports": [*imports], "env": dict(environment), "cwd": cwd, "arguments": arguments}
            socket.send_fds(self.channel, [json.dumps(order).encode()], [output, lock, told])
            pid = int(self.channel.recv(32) or 0)
            if not pid:
                raise OSError("the process that forks kernels has died")
        except BaseException:
            os.close(ended)
            raise
        finally:
            os.close(told)
        return Fork(pid, ended)

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


_warm: WarmProcess | None = None


def warm_process() -> WarmProcess | None:
    """This process's `WarmProcess`, started at the first call, and anew after a change of the environment or the
    library; None where kernels cannot be forked: not on Linux, or beside a GPU."""
    global _warm
    if sys.platform != "linux" or any(map(os.path.exists, GPU)):
        return None
    if _warm and (_warm.process.poll() is not None or _warm.made_for != _circumstances()):
        _warm.close()
        _warm = None
    if not _warm:
        _warm = WarmProcess()
        atexit.register(_warm.close)
    return _warm


def _circumstances() -> tuple:
    """What imports depend on: environment variables, and the library's files."""
    files = sorted((path.as_posix(), path.stat().st_mtime_ns) for path in Path(__file__).parents[1].rglob("*.py"))
    return {name: value for name, value in os.environ.items() if name not in UNREAD}, files


def serve(fd: int) -> None:
    """The other side: import, fork, and tell how kernels end, until the runner closes the channel `fd`."""
    channel = socket.socket(fileno=fd)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    to_load, loaded, kernels = deque(KERNEL), set(), {}  # kernels: process number -> the pipe for its exit code
    while True:
        ready, _, _ = select.select([channel, wake], [], [], 0 if to_load else None)
        if wake in ready:
            os.read(wake, 512)
            _tell_ends(kernels)
        if channel in ready:
            try:
                message, files, _, _ = socket.recv_fds(channel, 1 << 20, 3)
            except ConnectionResetError:  # the runner was killed
                break
            if not message:
                break
            order = json.loads(message)
            if not files:
                to_load += order["imports"]
                continue
            for line in [*KERNEL, *order["imports"]]:
                _load(line, loaded)
            gc.collect()
            gc.freeze()  # no collection copies the shared pages of what is imported
            apart, told = os.pipe()
            pid = os.fork()
            if not pid:
                os.setsid()
                for own in (apart, told, channel.detach(), wake, woken, files[2], *kernels.values()):
                    os.close(own)
                _become_kernel(order, *files[:2])
            kernels[pid] = files.pop()
            for file in (*files, told):
                os.close(file)
            os.read(apart, 1)  # until it leads a process group: only such a one can be killed with its children
            os.close(apart)
            with suppress(BrokenPipeError):
                channel.send(str(pid).encode())
        elif to_load:
            _load(to_load.popleft(), loaded)
    for pid in kernels:
        os.killpg(pid, signal.SIGKILL)


def _load(line: str, loaded: set[str]) -> None:
    if line not in loaded:
        loaded.add(line)
        with suppress(Exception):  # the notebook's cell shows the error
            exec(line, {"__name__": "imports"})


def _tell_ends(kernels: dict[int, int]) -> None:
    for pid in list(kernels):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            told = kernels.pop(pid)
            with suppress(BrokenPipeError):
                os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(told)


def _become_kernel(order: dict, output: int, lock: int) -> NoReturn:
    """Run a kernel in this fork as `python -m ipykernel_launcher` would; it ends when its parent does."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = ["ipykernel_launcher", *order["arguments"]]
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # or all forks would draw the same numbers, where none is seeded
    from ipykernel.kernelapp import launch_new_instance

    try:
        launch_new_instance([*order["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"])
    except Exception:  # the usual end waits for ever where ipykernel (7.4) has opened a part of its sockets
        traceback.print_exc()
        os._exit(1)
    sys.exit(0)
