"""Run a built kernel here as Kaggle would: its sources mounted, no network, a fresh environment, the limits."""

import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from kagglekit.files import resolve
from kagglekit.kaggle.bundle import show_size
from kagglekit.kaggle.dry_run_result import find_error, judge_submission, where_it_was
from kagglekit.kaggle.fresh_environment import MARK, clean_environment, make_environment, prove_fresh
from kagglekit.kaggle.input_tree import attach, check_sources, release
from kagglekit.kaggle.metadata import is_on, read_kernel_metadata
from kagglekit.kaggle.sandbox import NOT_ISOLATED, sandboxed, why_no_namespace
from kagglekit.options import check_range
from kagglekit.progress import clock

HOURS, HOURS_OF_CODE = 12.0, 9.0  # of a session, and of most code competitions
MEMORY = 29e9  # bytes that Kaggle's machines with T4s have
NOTEBOOK = "__notebook__.ipynb"  # as Kaggle calls it
PAPERMILL = ["-m", "papermill", NOTEBOOK, NOTEBOOK, "-k", "python3", "-l", "python"]
PAPERMILL += ["--no-progress-bar", "--log-output", "--start-timeout", "300"]
MARKER = ".dry-run"  # in the root of a dry run: it may be replaced
EVERY = 0.5  # seconds between two looks at a running kernel, at least
NETWORK = {
    "namespace": "off (a network namespace)",
    "sockets": "off for Python, whose sockets are refused; other programs get a dead proxy (no namespace)",
    "none": "on, as enable_internet says",
}


@dataclass(frozen=True)
class DryRun:
    """The result of a dry run.

    output: its /kaggle/working, and notebook the executed kernel; both are deleted when it went well and nothing was to
    be kept. bytes: of the output; biggest: the largest files in it; memory: the peak, in bytes; limit: in hours.
    """

    ok: bool
    seconds: float
    bytes: int
    output: Path
    notebook: Path
    log: str = field(repr=False)
    error: str
    isolation: str
    memory: int = 0
    biggest: tuple[tuple[str, int], ...] = ()
    submission: str = "none"
    limit: float = HOURS

    def __str__(self):
        files = ", ".join(f"{name} {show_size(size)}" for name, size in self.biggest)
        more = f": MORE than the {MEMORY / 1e9:.0f} GB that Kaggle has" if self.memory > MEMORY else ""
        how = "ended well" if self.ok else "FAILED"
        lines = [
            f"dry run: {how} after {self.seconds:,.0f} s (the limit: {self.limit:g} hours)",
            f"  network     {NETWORK[self.isolation]}",
            f"  output      {show_size(self.bytes)}{': ' + files if files else ''}",
            f"  memory      {show_size(self.memory)} at most{more}",
            f"  submission  {self.submission}",
        ]
        lines += [f"  kept        {self.output}"] if self.output.is_dir() else []
        return "\n".join(lines + ([self.error] if self.error else []))


def dry_run(
    kernel: str | Path,
    sources: Mapping[str, str | Path] | None = None,
    *,
    layout: str = "new",
    hours: float | None = None,
    disk: float = 20e9,
    root: str | Path | None = None,
    rerun: bool = False,
    keep: bool = False,
    isolation: str = "",
    progress: bool = False,
) -> DryRun:
    """Execute a kernel folder from its first cell on, as Kaggle's batch session does; nothing of the user's is changed.

    sources: {"competition:slug": folder, "dataset:owner/slug": ..., "kernel:owner/slug": its output, "model:o/m/f/v/1":
    ...}; others are looked for (`find_sources`). layout: "new" or "old", where Kaggle mounts them. hours: the limit,
    by default 12, or 9 with `rerun`, which tells the kernel that it is scored on the hidden test. disk: bytes that
    /kaggle/working may take. root: where the output stays; by default all is deleted when it went well. keep: also keep
    environment and inputs. isolation: "" takes a network namespace where one may be made, else refuses sockets;
    "namespace" and "sockets" take only that. progress: print each cell as it begins.

    `ok` and `error` say what failed in the kernel. Raises FileNotFoundError for a missing source, ValueError for
    wrong metadata or options, RuntimeError when the network cannot be shut off. Takes 3 s more than the kernel; inputs
    take no space where a namespace and hard links can be had, else they are copied.
    """
    kernel, limit = Path(kernel).resolve(), hours if hours is not None else HOURS_OF_CODE if rerun else HOURS
    check_range("hours", hours, limit > 0, "more than 0, or None")
    check_range("disk", disk, disk > 0, "more than 0 bytes")
    check_range("isolation", isolation, isolation in ("", "namespace", "sockets"), "'', namespace or sockets")
    metadata = read_kernel_metadata(kernel)
    code = kernel / metadata["code_file"]
    if not code.is_file() or metadata["kernel_type"] != "notebook" or metadata["language"] != "python":
        raise ValueError(f"{kernel}: a dry run needs a notebook in Python, and code_file={code.name!r} is none")
    folders = check_sources(kernel, sources)
    mounted = [folder for source, folder in folders.items() if source.startswith("competition:")]
    gpu = is_on(metadata, "enable_gpu") or str(metadata.get("machine_shape") or "").startswith("Nvidia")
    internet, place = is_on(metadata, "enable_internet"), _make_root(root)
    inputs, working, log = place / "kaggle" / "input", place / "kaggle" / "working", place / "kaggle" / "log.txt"
    try:
        how = "none" if internet else _choose(isolation, place)
        attach(folders, inputs, layout, link=how == "namespace")
        python, mark = make_environment(place / "python", refuse=how == "sockets"), uuid.uuid4().hex
        variables = clean_environment(place, python, mark, gpu=gpu, refuse=how == "sockets", internet=internet)
        variables |= {"KAGGLE_IS_COMPETITION_RERUN": "1"} if rerun else {}
        prove_fresh(python, variables, working)
        shutil.copyfile(code, working / NOTEBOOK)
        words = sandboxed([python, *PAPERMILL], how, inputs, python)
        show = _show_cells(working / NOTEBOOK) if progress else lambda seconds: None
        watched = watch(words, variables, working, log, limit * 3600, disk, show)
        text = log.read_text(encoding="utf-8", errors="replace")
        if watched.code == NOT_ISOLATED:
            raise RuntimeError(f"the network of the dry run could not be shut off: {text.strip()}")
        sizes = {str(path.relative_to(working)): size for path, size in file_sizes(working).items()}
        error = _explain(watched, sum(sizes.values()), working / NOTEBOOK, text, limit, disk)
        valid, submission = judge_submission(working, mounted[0] if len(mounted) == 1 else None, kernel.parent.parent)
        if rerun and submission == "none":
            valid, submission = False, "none, and a code competition takes what the rerun writes"
        error = error or ("" if valid else f"submission.csv: {submission}")
        result = DryRun(
            ok=not error,
            seconds=watched.seconds,
            bytes=sum(sizes.values()),
            output=working,
            notebook=working / NOTEBOOK,
            log=text,
            error=error,
            isolation=how,
            memory=watched.memory,
            biggest=tuple(sorted(sizes.items(), key=lambda item: -item[1])[:5]),
            submission=submission if valid else f"WRONG: {submission}",
            limit=limit,
        )
    except BaseException:
        release(place)
        raise
    if result.ok and root is None and not keep:
        release(place)
    elif not keep:
        for name in ("kaggle/input", "python", "home", "tmp"):
            release(place / name)
    return result


@dataclass(frozen=True)
class Watched:
    """How a command ended: exit code, seconds, the peak memory of all its processes in bytes (shared pages count for
    each), and "time" or "disk" when that limit ended it."""

    code: int
    seconds: float
    memory: int
    over: str


def watch(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    seconds: float,
    disk: float,
    show: Callable[[float], None] = lambda seconds: None,
) -> Watched:
    """Run `words` in `folder`, both outputs into the file `log`, until it ends or exceeds a limit.

    seconds: of wall time. disk: bytes that files in `folder` may take. show: called at each look, with the seconds so
    far. All its processes are killed at the end: they are known by the variable MARK in `environment`, which has to be
    theirs alone. Killing the process group is not enough: Jupyter starts its kernels in sessions of their own.
    """
    memory, over, began = 0, "", time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            words, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            pause = 0.1
            while not over:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(pause, max(0.01, began + seconds - time.monotonic())))
                    break
                looked = time.monotonic()
                memory = max(memory, _memory(process.pid))
                show(looked - began)
                over = "time" if looked - began > seconds else ""
                over = "disk" if sum(file_sizes(folder).values()) > disk else over
                pause = max(EVERY, 10 * (time.monotonic() - looked))  # at most a tenth of the time is spent looking
        finally:
            process.kill()
            for _ in range(50):  # they may start others meanwhile
                if not (left := list(family(environment[MARK]))):
                    break
                for each in left:
                    with suppress(psutil.Error):
                        each.kill()
                psutil.wait_procs(left, timeout=0.1)
            process.wait()
    return Watched(process.returncode, time.monotonic() - began, memory, over)


def family(mark: str) -> Iterator[psutil.Process]:
    """The processes of this user in whose environment the variable MARK is `mark`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                yield process


def _memory(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def file_sizes(folder: Path) -> dict[Path, int]:
    """The size in bytes of each file below a folder; links are left out."""
    sizes = {}
    for below, _, names in os.walk(folder):
        for path in (Path(below, name) for name in names):
            with suppress(OSError):  # deleted in the meantime
                sizes |= {} if path.is_symlink() else {path: path.stat().st_size}
    return sizes


def _show_cells(notebook: Path) -> Callable[[float], None]:
    """A function of the seconds so far, which prints the running cell when it is a new one."""
    shown = ""

    def show(seconds: float) -> None:
        nonlocal shown
        where = where_it_was(notebook)
        if where.startswith("in cell ") and where != shown:
            shown = where
            print(f"{clock(seconds)}  {where}", flush=True)

    return show


def _explain(watched: Watched, size: int, notebook: Path, log: str, limit: float, disk: float) -> str:
    """What went wrong, in words, or ""."""
    if watched.over == "time":
        return f"the limit of {limit:g} hours is over {where_it_was(notebook)}"
    if watched.over == "disk" or size > disk:
        return f"the output has {show_size(size)}, and Kaggle keeps {show_size(disk)}: {where_it_was(notebook)}"
    error = find_error(notebook, watched.code, log)
    if re.search(r"(?<![\w.-])/kaggle/(input|working)\b", error):
        error += (
            "\nA dry run has no folder /kaggle: read below os.environ.get('KAGGLEKIT_INPUTS', '/kaggle/input'), as the "
            "first cell does, and write to the working directory"
        )
    return error


def _choose(isolation: str, place: Path) -> str:
    why = "" if isolation == "sockets" else why_no_namespace(place / "kaggle")
    if why and isolation == "namespace":
        raise RuntimeError(f"isolation='namespace' cannot be had here: {why}. Use '', which takes what can be had")
    return "sockets" if why or isolation == "sockets" else "namespace"


def _make_root(root: str | Path | None) -> Path:
    """A new folder with the places that a dry run needs; one of an earlier dry run is replaced."""
    place = Path(tempfile.mkdtemp(prefix="kagglekit-")).resolve() if root is None else resolve(root)
    if (place / MARKER).is_file():
        release(place)
    if place.is_dir() and any(place.iterdir()):
        raise ValueError(f"root={str(place)!r} holds other things: name a folder that is new, empty or a dry run's")
    for name in ("kaggle/working", "home", "tmp"):
        (place / name).mkdir(parents=True)
    (place / MARKER).touch()
    return place
