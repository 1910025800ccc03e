"""Run a notebook in batch: papermill, with checked parameters, a limit for the whole run, and a trustworthy `done`.

python -m kagglekit.run 3_train work=runs/bbc run=base folds='[0]' [-- epochs=3 ...] [--force] [--limit SECONDS]
python -m kagglekit.run 3_train work=runs/bbc run=base --slots auto    (a fold on each GPU at a time)
python -m kagglekit.run --summary runs/bbc
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread

import nbformat

from kagglekit.batch.done import changes, fill, fingerprint, shorten, summarize, write_marker
from kagglekit.batch.kernel import execute, locked
from kagglekit.batch.parameters import Parameter, check_parameters, did_you_mean, read_parameters, with_defaults
from kagglekit.batch.progress import clock
from kagglekit.paths import resolve, run_folder
from kagglekit.time_budget import unfinished


def notebook_folder() -> Path:
    """`notebooks/` beside the library; where the library is installed elsewhere, that of the working directory, or else
    those that came along inside the library."""
    home, inside = Path(__file__).parents[1], Path(__file__).parent / "notebooks"
    checkout = [home / "notebooks"] if home.name not in ("site-packages", "dist-packages") else []  # else another's
    places = [place for place in (*checkout, resolve("notebooks"), inside) if place.is_dir()]
    return places[0] if places else resolve("notebooks")


def find_notebook(name: str, folder: Path | None = None) -> Path:
    """`3_train` -> the path of 3_train.ipynb. Raises FileNotFoundError with the names that there are."""
    folder = Path(folder or notebook_folder())
    known = [path.stem for path in sorted(folder.glob("*.ipynb"))]
    name = Path(name).name.removesuffix(".ipynb")
    if name not in known:
        listed = ", ".join(known) or "no notebooks"
        raise FileNotFoundError(f"there is no notebook {name!r}{did_you_mean(name, known)} {folder} has {listed}")
    return folder / f"{name}.ipynb"


def run_notebook(
    notebook: str | Path,
    parameters: dict,
    *,
    folder: Path | None = None,
    force: bool = False,
    limit: float | None = None,
    part: str = "",
) -> Path:
    """Run a notebook unless that was done before and nothing has changed since; the path of the executed copy.

    `parameters`: those that differ from the notebook's own. `limit`: seconds for the whole run. `part`: a name for what
    these parameters do of a run that several processes make together, such as fold0: it has a copy and a lock of its
    own, and no marker, for what it wrote is not all. Raises ValueError for wrong parameters before anything starts,
    NotebookFailed when a cell fails, the kernel dies or the limit is over, and RuntimeError while another process runs
    the same.
    """
    source = find_notebook(str(notebook), folder)
    known = read_parameters(source)
    given = check_parameters(source.stem, known, parameters)
    values = with_defaults(known, given)
    if limit is not None and limit <= 0:
        raise ValueError(f"the limit is {limit:g} seconds: it has to be more than 0")
    if not values.get("work"):
        raise ValueError(f"{source.stem} needs the parameter work: the folder that it works in")
    title = source.stem
    if "run" in values:
        title += f" {run_folder(values['work'], values['run']).name}"
    title += f" {part}" if part else ""
    content = nbformat.read(source, as_version=4)
    writes = content.metadata.get("kagglekit", {}).get("writes", [])
    fill(writes, values)  # a wrong template is told now, not after the training

    copies, stem = resolve(values["work"]) / "notebooks", title.replace(" ", ".")
    copies.mkdir(parents=True, exist_ok=True)
    copy, failed, marker = (copies / f"{stem}{end}" for end in (".ipynb", ".failed.ipynb", ".done.json"))
    draft = copies / f".{stem}.part.ipynb"
    with locked(copies / f".{stem}.lock", title) as lock:
        now = None if part else fingerprint(content, values)
        if now and marker.is_file() and copy.is_file() and not force:
            changed = changes(marker, now)
            if not changed:
                print(f"{title}  done before, nothing has changed: {shorten(copy)}", flush=True)
                os.utime(marker)  # later than `finished_at`: the summary can tell
                return copy
            print(f"{title}  runs again, for these changed: {changed}", flush=True)
        for stale in [marker, failed, draft, *copies.glob(f".{marker.name}.*.part")]:
            stale.unlink(missing_ok=True)
        began = time.monotonic()
        try:
            execute(source, draft, given, title, lock, limit)
        except BaseException as error:
            if draft.is_file():
                os.replace(draft, failed)
                error.add_note(f"{title} did not finish ({clock(time.monotonic() - began)}): see {shorten(failed)}")
            raise
        os.replace(draft, copy)
        if now:
            write_marker(marker, now, writes, time.monotonic() - began)
        cut = unfinished(resolve(values["work"]) / values["run"]) if "run" in values else {}
        how = "stopped by the clock, unfinished," if cut else "done"
        print(f"{title}  {how} in {clock(time.monotonic() - began)}: {shorten(copy)}", flush=True)
    return copy


def read_arguments(texts: list[str]) -> dict[str, str]:
    """["epochs=3"] -> {"epochs": "3"}."""
    for text in texts:
        if not text.partition("=")[0].isidentifier() or "=" not in text:
            raise ValueError(f"{text!r} is no name=value")
    return dict(text.split("=", 1) for text in texts)


def parse_arguments(notebook: Path, known: dict[str, Parameter], texts: dict[str, str]) -> dict:
    """Texts of the command line as checked values."""
    values = {name: known[name].parse(text) if name in known else text for name, text in texts.items()}
    return check_parameters(notebook.stem, known, values)


def choose_shared(notebook: Path, texts: dict[str, str]) -> dict:
    """The values after `--` that this notebook takes, each checked against every notebook of the folder that has it."""
    all_known = {path: read_parameters(path) for path in sorted(notebook.parent.glob("*.ipynb"))}
    names = {name for known in all_known.values() for name in known}
    for name in texts:
        if name not in names:
            takes = "\n".join(f"{path.stem} takes {', '.join(known)}" for path, known in all_known.items() if known)
            raise ValueError(f"no notebook has a parameter {name!r}{did_you_mean(name, names)}\n{takes}")
    chosen = {}
    for path, known in all_known.items():
        chosen[path] = parse_arguments(path, known, {name: text for name, text in texts.items() if name in known})
    return chosen[notebook]


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kagglekit.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebook", nargs="?", help="such as 3_train")
    parser.add_argument(
        "parameters", nargs="*", metavar="name=value", help="after a lone --: for notebooks that have it"
    )
    parser.add_argument("--force", action="store_true", help="run it, also when it is done and nothing has changed")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="for the whole run; then the exit code is 124")
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="where the notebooks are")
    parser.add_argument("--slots", metavar="GPUS", help="auto, or numbers of GPUs such as 0,1: one fold on each")
    parser.add_argument("--part", default="", help="what is run of a run that several processes make; see --slots")
    parser.add_argument("--summary", metavar="WORK", help="print what came out in this work folder")
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_intermixed_args(arguments[:cut] + arguments[cut + 1 :])
    own = len(parser.parse_intermixed_args(arguments[:cut]).parameters)
    try:
        if options.summary:
            print(summarize(options.summary))
            return 0
        if not options.notebook:
            parser.error("which notebook?")
        notebook = find_notebook(options.notebook, options.notebooks)
        texts = read_arguments(options.parameters[:own])
        values = parse_arguments(notebook, read_parameters(notebook), texts)
        values = choose_shared(notebook, read_arguments(options.parameters[own:])) | values
        how = dict(folder=notebook.parent, force=options.force, limit=options.limit)
        if options.slots:
            from kagglekit.batch.slots import parse_slots, run_in_slots  # it needs this module

            run_in_slots(notebook, values, parse_slots(options.slots), **how)
            return 0
        if options.part:
            Thread(target=end_with_parent, daemon=True).start()
        run_notebook(notebook, values, part=options.part, **how)
        return 0
    except KeyboardInterrupt as error:
        return report(error, "interrupted; the same command goes on from there", 130)
    except (ValueError, OSError) as error:
        return report(error, str(error), 2)
    except RuntimeError as error:
        return report(error, str(error), getattr(error, "code", 1))


def end_with_parent() -> None:
    """Stop when the process that started this one has closed our input, as it does when it dies, however that is."""
    while os.read(0, 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def report(error: BaseException, message: str, code: int) -> int:
    """Print an error in words, what to know about it first; `code` comes back."""
    print("\n".join([*getattr(error, "__notes__", []), message]), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the kernel is stopped, and the copy kept
    sys.exit(main())
