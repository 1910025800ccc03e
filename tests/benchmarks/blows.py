"""Bad inputs and kills: each must end in one clear sentence, or in the result that an undisturbed run has.

    python -m tests.benchmarks.blows [--only WORD] [--kills 100] [--verbose]

An input ends in one of four ways. right: an error of ours that names what it should, or the right result. unclear: an
error of ours without these words. raw: an error that a library raised. silent: no error, and not the right result. A
command line should be refused before its kernel starts: late is right, but by a cell.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import matplotlib
import pandas as pd

import kagglekit.run
from kagglekit.running import jupyter_kernel as running
from tests.benchmarks.bad_cells import cells
from tests.benchmarks.bad_files import files
from tests.benchmarks.bad_folders import damaged, folders, imported
from tests.benchmarks.bad_inputs import Blow, make_base
from tests.benchmarks.bad_parameters import parameters
from tests.conftest import run_cells

AREAS = {
    "files": files,
    "cells": cells,
    "work folder": damaged,
    "parameters": parameters,
    "folders": folders,
    "imported predictions": imported,
}
OURS = (ValueError, OSError, RuntimeError)
LIBRARY = str(Path(kagglekit.run.__file__).parent)
RAW = ("Traceback", " object at 0x", "<class '", "[Errno")  # no sentence holds these


class KernelStarted(Exception):
    """A command got as far as starting a kernel."""


def command(arguments: list[str]) -> tuple[str, dict]:
    """A command line of `kagglekit run` up to the start of its kernel: the notebook, and the parameters that it gets.
    Raises ValueError with what it prints where it ends before."""
    started = []

    def start(source, draft, parameters, *args, **kwargs):
        started.append((source.stem, parameters))
        raise KernelStarted

    errors, execute = io.StringIO(), running.execute
    running.execute = start
    try:
        with contextlib.redirect_stderr(errors):
            code = kagglekit.run.main(arguments)
    except SystemExit as error:
        code = error.code
    except KernelStarted:
        return started[0]
    finally:
        running.execute = execute
    raise ValueError(errors.getvalue() or f"exit code {code}")


def is_ours(error: Exception) -> bool:
    """Whether the library raised an error on purpose: of a usual kind, in its own code, in words."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.filename.startswith((LIBRARY, __file__)) for frame in frames]
    return isinstance(error, OURS) and own[-1] and not any(word in str(error) for word in RAW)


def strike(blow: Blow, folder: Path, kept: Path) -> tuple[str, str]:
    """How a bad input ends, and what was said. The folder is put back to what is kept first: its path never changes."""
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)
    blow.damage(folder)
    right = "right"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if blow.command:
                name, given = command([part.replace("FOLDER", str(folder)) for part in blow.command])
                right = "late"
                run_cells(name, **given)
            for name, given in blow.steps:
                named = {k: v.replace("FOLDER", str(folder)) if isinstance(v, str) else v for k, v in given.items()}
                run_cells(name, **{"work": str(folder / "work")} | named)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if not is_ours(error):
            return "raw", said
        missing = [word for word in blow.words if word.lower() not in str(error).lower()]
        return ("unclear" if missing or not blow.words else right), said + (f" [{missing}]" if missing else "")
    try:
        return ("right" if blow.fine and blow.fine(folder, kept) else "silent"), ""
    except Exception as error:
        return "silent", f"{type(error).__name__}: {error}"


def main() -> int:
    """Strike with all bad inputs, then with kills; print a table. The exit code is 1 when one is not right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="bad inputs whose area or name contains this")
    parser.add_argument("--kills", type=int, default=0, help="seeded kills of the five notebooks")
    parser.add_argument("--verbose", action="store_true", help="print what every input was told")
    options = parser.parse_args()
    matplotlib.use("agg")
    rows = []
    with tempfile.TemporaryDirectory(prefix="base-") as place:
        base, kept = Path(place) / "base", Path(place) / "kept"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            make_base(base)
        shutil.copytree(base, kept, symlinks=True)
        for area, blows in AREAS.items():
            for blow in blows(kept):
                if options.only not in f"{area} {blow.name}":
                    continue
                outcome, said = strike(blow, base, kept)
                rows.append((area, outcome))
                if outcome != "right" or options.verbose:
                    print(f"{outcome:8}{area}: {blow.name}: {said.strip()[:600]}", flush=True)
    counts = pd.DataFrame([Counter({"area": 0} | {outcome: 1}) | {"area": area} for area, outcome in rows])
    table = (
        counts.groupby("area", sort=False)
        .sum()
        .reindex(columns=["right", "late", "unclear", "raw", "silent"])
        .fillna(0)
    )
    table = table.astype(int)
    print(pd.concat([table, table.sum().to_frame("all").T]).to_string())
    failed = int(table.drop(columns=["right", "late"]).to_numpy().sum())
    if options.kills:
        from tests.benchmarks.kills import kill_many

        failed += kill_many(options.kills)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
