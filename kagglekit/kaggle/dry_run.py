"""Run a built kernel here as Kaggle would: its sources mounted, the network off, a fresh environment, the limits."""

import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kagglekit.files import resolve
from kagglekit.kaggle.attach import attach, check_sources, release
from kagglekit.kaggle.attach import find_sources as find_sources
from kagglekit.kaggle.fresh import clean_environment, make_environment, prove_fresh
from kagglekit.kaggle.metadata import is_on, read_kernel_metadata
from kagglekit.kaggle.sandbox import NOT_ISOLATED, sandboxed, why_no_namespace
from kagglekit.kaggle.verdict import find_error, judge_submission, where_it_was
from kagglekit.kaggle.watch import Watched, size_of, watch
from kagglekit.options import check_range
from kagglekit.progress import clock

HOURS, HOURS_OF_CODE = 12.0, 9.0  # of a session, and what code competitions mostly set
MEMORY = 29e9  # bytes that Kaggle's machines with T4s have
NOTEBOOK = "__notebook__.ipynb"  # as Kaggle calls it
PAPERMILL = ["-m", "papermill", NOTEBOOK, NOTEBOOK, "-k", "python3", "-l", "python"]
PAPERMILL += ["--no-progress-bar", "--log-output", "--start-timeout", "300"]
MARKER = ".dry-run"  # in a root: it may be replaced


@dataclass(frozen=True)
class DryRun:
    """How a dry run went. `output` is /kaggle/working of it and `notebook` the executed kernel: gone when it went well
    and nothing was to be kept. bytes: of the output; memory: the most that it took, in bytes."""

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
        off = {
            "namespace": "off (a network namespace)",
            "sockets": "off for Python, whose sockets are refused; other programs get a dead proxy (no namespace)",
            "none": "on, as enable_internet says",
        }[self.isolation]
        files = ", ".join(f"{name} {_shown(size)}" for name, size in self.biggest)
        how = "ended well" if self.ok else "FAILED"
        lines = [
            f"dry run: {how} after {self.seconds:,.0f} s (the limit: {self.limit:g} hours)",
            f"  network     {off}",
            f"  output      {_shown(self.bytes)}{': ' + files if files else ''}",
            f"  memory      {_shown(self.memory)} at most"
            + (f": MORE than the {MEMORY / 1e9:.0f} GB that Kaggle has" if self.memory > MEMORY else ""),
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
    ...}; what is not given is looked for (`find_sources`). layout: "new" or "old", where Kaggle mounts them. hours: the
    limit of the session, 12, or 9 with `rerun`, when the kernel is told that it is scored on the hidden test; disk:
    bytes of /kaggle/working. root: where the output is to stay; else everything is deleted when it went well. keep:
    keep all of it, also environment and inputs. isolation: "" takes a network namespace where it may be made, else
    refuses sockets; "namespace" or "sockets" take only that. progress: print each cell as it begins.

    What fails in the kernel is told by `ok` and `error`. Raises FileNotFoundError for a source that is missing,
    ValueError for wrong metadata or options, RuntimeError when the network cannot be shut off. Takes 3 s more than the
    kernel; inputs take no space where a namespace and hard links can be had, else they are copied.
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
        tell = _teller(working / NOTEBOOK) if progress else lambda seconds: None
        watched = watch(words, variables, working, log, limit * 3600, disk, tell)
        text = log.read_text(encoding="utf-8", errors="replace")
        if watched.code == NOT_ISOLATED:
            raise RuntimeError(f"the network of the dry run could not be shut off: {text.strip()}")
        error = _explain(watched, working, text, limit, disk)
        competition = mounted[0] if len(mounted) == 1 else None
        valid, submission = judge_submission(working, competition, kernel.parent.parent)
        if rerun and submission == "none":
            valid, submission = False, "none, and a code competition takes what the rerun writes"
        error = error or ("" if valid else f"submission.csv: {submission}")
        sizes = sorted(((size_of(file), file) for file in working.rglob("*") if file.is_file()), reverse=True)
        result = DryRun(
            ok=not error,
            seconds=watched.seconds,
            bytes=size_of(working),
            output=working,
            notebook=working / NOTEBOOK,
            log=text,
            error=error,
            isolation=how,
            memory=watched.memory,
            biggest=tuple((str(file.relative_to(working)), size) for size, file in sizes[:5]),
            submission=submission if valid else f"WRONG: {submission}",
            limit=limit,
        )
    except BaseException:
        release(place)
        raise
    _tidy(place, everything=result.ok and root is None and not keep, keep=keep)
    return result


def _teller(notebook: Path) -> Callable[[float], None]:
    """A function of the seconds that have gone, which prints the cell that runs when it is another one."""
    shown = ""

    def tell(seconds: float) -> None:
        nonlocal shown
        where = where_it_was(notebook)
        if where.startswith("in cell ") and where != shown:
            shown = where
            print(f"{clock(seconds)}  {where}", flush=True)

    return tell


def _explain(watched: Watched, working: Path, log: str, limit: float, disk: float) -> str:
    """What went wrong, in words, or ""."""
    if watched.over == "time":
        return f"the limit of {limit:g} hours is over {where_it_was(working / NOTEBOOK)}"
    size = size_of(working)
    if watched.over == "disk" or size > disk:
        where = where_it_was(working / NOTEBOOK)
        return f"the output has {_shown(size)}, and Kaggle keeps {_shown(disk)}: {where}"
    error = find_error(working / NOTEBOOK, watched.code, log)
    if re.search(r"(?<![\w.-])/kaggle/(input|working)\b", error):
        error += (
            "\nA dry run has no folder /kaggle: read below os.environ.get('KAGGLEKIT_INPUTS', '/kaggle/input'), as the "
            "first cell does, and write to the working directory"
        )
    return error


def _choose(isolation: str, place: Path) -> str:
    why = "" if isolation == "sockets" else why_no_namespace(place / "kaggle")
    if why and isolation == "namespace":
        raise RuntimeError(f"isolation='namespace' cannot be had here: {why}. '' takes what can be had")
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


def _tidy(place: Path, everything: bool, keep: bool) -> None:
    if everything:
        release(place)
    elif not keep:
        for name in ("kaggle/input", "python", "home", "tmp"):
            release(place / name)


def _shown(size: float) -> str:
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"
