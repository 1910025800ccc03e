"""Run one notebook in batch: papermill with checked parameters, a time limit, and a marker that says it is done."""

import os
import sys
import time
from pathlib import Path

from kagglekit.files import resolve, shorten, sweep
from kagglekit.options import did_you_mean
from kagglekit.progress import clock
from kagglekit.running.arguments import check_parameters, fold, with_defaults
from kagglekit.running.beforehand import check_beforehand
from kagglekit.running.done import changes, fill, fingerprint, read_marker, write_marker
from kagglekit.running.parameters import Parameter, read_parameters
from kagglekit.time_budget import unfinished

LAB = "lab"  # the folder of copies for JupyterLab, in a work folder's notebooks/


def notebook_folder() -> Path:
    """`notebooks/` of the checkout; for an installed library that of the working directory, or else those inside the
    library."""
    home, inside = Path(__file__).parents[2], Path(__file__).parents[1] / "notebooks"
    checkout = [home / "notebooks"] if home.name not in ("site-packages", "dist-packages") else []
    places = [place for place in (*checkout, resolve("notebooks"), inside) if place.is_dir()]
    return places[0] if places else resolve("notebooks")


def find_notebook(name: str, folder: Path | None = None) -> Path:
    """`3_train` -> the path of 3_train.ipynb. Raises FileNotFoundError with the known names."""
    folder = Path(folder or notebook_folder())
    known = [path.stem for path in sorted(folder.glob("*.ipynb"))]
    name = Path(name).name.removesuffix(".ipynb")
    if name not in known:
        meant = did_you_mean(name, known) or f": {folder} has {', '.join(known) or 'no notebooks'}"
        raise FileNotFoundError(f"there is no notebook {name!r}{meant}")
    return folder / f"{name}.ipynb"


def tell_changed_defaults(source: Path, known: dict[str, Parameter], title: str) -> None:
    """Print which defaults in a notebook's own cell are not those of its knobs: someone has saved what was tried."""
    own = [one for one in known.values() if one.shown and one.knob and one.default != one.knob.default]
    if changed := [one for one in own if source.parent.name != LAB or one.name not in ("data", "work")]:
        listed = ", ".join(f"{one.name}={one.default!r} (kagglekit: {one.knob.default!r})" for one in changed)
        print(f"{title}  CAUTION: {shorten(source)} itself was changed, and counts in every run: {listed}", flush=True)


def run_notebook(
    notebook: str | Path,
    parameters: dict,
    *,
    folder: Path | None = None,
    force: bool = False,
    limit: float | None = None,
    part: str = "",
) -> Path:
    """Run a notebook unless it is done and nothing has changed since; returns the path of the executed copy.

    parameters: those that differ from the notebook's defaults. limit: seconds for the whole run. part: the name of this
    part of a run that several processes share, such as fold0; it has its own copy and lock, and no marker, as the run
    is not complete. Raises ValueError for wrong parameters before anything starts, NotebookFailed when a cell fails,
    the kernel dies or the limit is over, and RuntimeError while another process runs the same.
    """
    source = find_notebook(str(notebook), folder)
    known = read_parameters(source)
    given = check_parameters(source.stem, known, parameters)
    values = with_defaults(known, given)
    if limit is not None and limit <= 0:
        raise ValueError(f"the limit is {limit:g} seconds: it has to be more than 0")
    if not values.get("work"):
        raise ValueError(f"{source.stem} needs the parameter work: the folder that it works in")
    check_beforehand(source.stem, known, values)
    title = " ".join(filter(None, [source.stem, values.get("run", ""), part]))
    if sys.stdout.isatty():
        print(f"{title}  begins", end="\r", flush=True)
    tell_changed_defaults(source, known, title)
    from kagglekit.running import nbformat  # it and Jupyter take time: what is wrong with the parameters is told before
    from kagglekit.running.jupyter_kernel import execute, locked
    from kagglekit.running.terminal import describe

    content = nbformat.read(source, as_version=4)
    writes = content.metadata.get("kagglekit", {}).get("writes", [])
    fill(writes, values)  # a wrong template is an error now, not after the training
    copies, stem = resolve(values["work"]) / "notebooks", title.replace(" ", ".")
    copies.mkdir(parents=True, exist_ok=True)
    copy, failed, marker = (copies / f"{stem}{end}" for end in (".ipynb", ".failed.ipynb", ".done.json"))
    draft = copies / f".{stem}.part.ipynb"
    with locked(copies / f".{stem}.lock", title) as lock:
        sweep(copies.parent)
        now = None if part else fingerprint(content, values, known)
        if now and marker.is_file() and copy.is_file() and not force:
            changed = changes(marker, now)
            if not changed:
                before = read_marker(marker)
                how = f"done before, nothing has changed ({clock(before['seconds'])})"
                print(describe(title, before.get("result", []), how, shorten(copy)), flush=True)
                os.utime(marker)  # later than `finished_at`, which the summary shows
                return copy
            print(f"{title}  runs again, for these changed: {changed}", flush=True)
        for stale in [marker, failed, draft]:
            stale.unlink(missing_ok=True)
        began = time.monotonic()
        try:
            result = execute(source, draft, fold(known, given), title, lock, limit)
        except BaseException as error:
            if draft.is_file():
                os.replace(draft, failed)
                error.add_note(f"{title} did not finish ({clock(time.monotonic() - began)}): see {shorten(failed)}")
            raise
        os.replace(draft, copy)
        if now:
            write_marker(marker, now, writes, time.monotonic() - began, result)
        cut = unfinished(resolve(values["work"]) / values["run"]) if "run" in values else {}
        how = "stopped by the clock, unfinished," if cut else "done"
        how += f" in {clock(time.monotonic() - began)}"
        print(describe(title, result, how, shorten(copy)), flush=True)
    return copy


def report(error: BaseException, message: str, code: int) -> int:
    """Print an error after its notes; returns `code`."""
    print("\n".join([*getattr(error, "__notes__", []), message]), file=sys.stderr, flush=True)
    return code
