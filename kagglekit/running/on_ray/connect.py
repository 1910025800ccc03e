"""Connect to a Ray cluster that runs, or start one of this machine alone, with words for what does not answer."""

import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from kagglekit.options import check_range
from kagglekit.running.command_line import parse_address
from kagglekit.running.on_ray.cluster import Cluster

INSTALL = "pip install 'ray[client]>=2.49'"
LIBRARY = Path(__file__).parents[2]
# Since 2.50 a task that asks for no GPU sees all of them: as before, none
SETTINGS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
OWN_SETTINGS = {  # where the user has none; the times of Ray's client add up to half a minute
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "2",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "4",
}


@contextmanager
def connect(on: str) -> Iterator[Cluster]:
    """A cluster: with "ray" the one that runs on this machine (RAY_ADDRESS, `ray start`), or a new one of this machine
    alone, which ends with the block; with "ray://host:10001" any other.

    Raises ModuleNotFoundError without Ray, ConnectionError for a cluster that does not answer.
    """
    local = _local_address()
    on = local if on == "ray" and local.startswith("ray://") else on
    place = parse_address(on)
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError(f"on={on!r} needs Ray, here and on each node: {INSTALL}")
    if place and importlib.util.find_spec("grpc") is None:
        raise ModuleNotFoundError(f"on={on!r} needs Ray's client: {INSTALL}")
    if place or local:
        _knock(on, *(place or _split(local)))
    _choose_token(ours=not (place or local))
    os.environ.update({name: value for name, value in OWN_SETTINGS.items() if name not in os.environ})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    how = {"log_to_driver": False, "configure_logging": False}
    how["runtime_env"] = {"py_modules": [str(LIBRARY)], "env_vars": SETTINGS}
    handler, stack = signal.getsignal(signal.SIGTERM), ExitStack()
    stack.enter_context(redirect_stdout(_WithoutRay(sys.stdout)))
    stack.enter_context(redirect_stderr(_WithoutRay(sys.stderr)))
    warnings.filterwarnings("ignore", "Ray Client connection timed out")
    try:  # not "auto": it joins whichever cluster `ps` shows, such as that of another program, which ends with it
        if place:
            ray.init(f"ray://{place[0]}:{place[1]}", **how)
        elif local:
            ray.init(local, **how)
        else:
            ray.init("local", include_dashboard=False, **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        stack.close()
        why = " ".join(str(error).split())[:400] or type(error).__name__
        why += ": does Ray's client server listen there, and is ~/.ray/auth_token that of the cluster?" * bool(place)
        raise ConnectionError(f"on={on!r}: the cluster cannot be used: {why}") from None
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, handler)  # Ray's own would lose the exit code
    try:
        yield Cluster(on, ours=not (place or local))
    finally:
        ray.shutdown()
        stack.close()


class _WithoutRay:
    """A stream without what Ray's own threads print about its nodes, which `log_to_driver` does not stop."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _knock(on: str, host: str, port: int) -> None:
    """Raise ConnectionError where nobody listens: Ray would try for half a minute, and not say so."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise ConnectionError(f"on={on!r}: nothing answers at {host}:{port} ({why}): is the cluster up?") from None


def _local_address() -> str:
    """Of a cluster that this machine belongs to: RAY_ADDRESS, or that of the last `ray start`, if it still answers."""
    if address := os.environ.get("RAY_ADDRESS", ""):
        return address
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    with suppress(OSError, ValueError):
        _knock("ray", *_split(address := file.read_text().strip()))
        return address
    return ""


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    check_range("RAY_ADDRESS", address, port.isdecimal(), "HOST:PORT")
    return host, int(port)


def _choose_token(ours: bool) -> None:
    """The way to prove who we are, before Ray is imported and reads it: for another cluster the token that is there,
    which Ray's client would not send by itself; for a new one of ours a token of its own: Ray would leave one in ~."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    home = Path("~/.ray/auth_token").expanduser()
    if home.is_file() or os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        os.environ["RAY_AUTH_MODE"] = "token"
    elif ours:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
