"""The verdict on an executed kernel: the cell that failed, in words, and whether its submission is valid."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from kagglekit.competition.find_files import find_table
from kagglekit.competition.read import read_table
from kagglekit.competition.submission import check_submission
from kagglekit.competition.task import Task, as_task, read_sample, read_submission
from kagglekit.files import read_json
from kagglekit.running import nbformat
from kagglekit.running.jupyter_kernel import NotebookFailed, check_finished, explain

AGAIN = re.compile(r"\Acell \[\w+\](: | failed(?=\n))")  # how `explain` begins
NOISE = re.compile(r"over TCP without encryption|^\s*$|frozen_modules|-Xfrozen_modules|PYDEVD_DISABLE")


def find_error(notebook: Path, code: int, log: str) -> str:
    """Why a notebook that papermill executed did not reach its end, "" when it did. code: papermill's exit code.

    Names the cell by its number among all cells, from 1, and by its first line. Exit code 0 alone proves nothing:
    `sys.exit(0)` in a cell gives it too.
    """
    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError) as error:
        return f"{notebook.name} cannot be read ({error}); the log ends with\n{last_lines(log)}"
    content.cells = [cell for cell in content.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(content.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not (output.ename == "SystemExit" and code == 0):
                words = explain(SimpleNamespace(**output, exec_count=cell.execution_count))
                return f"{_name(number, cell)} failed: {AGAIN.sub('', words)}"
    if code != 0:
        return f"{where_it_was(notebook)}: {how_it_died(code, log)}"
    try:
        check_finished(content)
    except NotebookFailed as error:
        return str(error)
    return ""


def where_it_was(notebook: Path) -> str:
    """Where papermill was stopped: "in cell 2 (its first line)", "after cell 3", "before the first cell"."""
    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError):
        return f"in an unknown cell: {notebook.name} cannot be read"
    for number, cell in enumerate(content.cells, 1):
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("status") == "running":
            return f"in {_name(number, cell)}"
    done = [n for n, cell in enumerate(content.cells, 1) if cell.get("execution_count") is not None]
    return f"after cell {done[-1]}" if done else "before the first cell"


def how_it_died(code: int, log: str) -> str:
    """Why papermill ended with an exit code other than 0 though no cell shows an error."""
    if "DeadKernelError" in log or code in (137, 138):
        return "the kernel died: most often the machine ran out of memory; try a smaller batch or shorter texts"
    return f"papermill ended with exit code {code}; the log ends with\n{last_lines(log)}"


def last_lines(log: str, count: int = 12) -> str:
    """The last lines of a log, without empty ones and known noise."""
    return "\n".join([line for line in log.splitlines() if not NOISE.search(line)][-count:])


def judge_submission(working: Path, competition: Path | None, home: Path | None = None) -> tuple[bool, str]:
    """Whether submission.csv in `working` is valid, and a line that says why. A missing file is valid: (True, "none").

    competition: the folder with the sample submission. home: the work folder. The file is checked against the task
    (runs/NAME/task.json in `working`, else that of `home`); without a task columns, rows and ids are compared.
    """
    file = working / "submission.csv"
    if not file.is_file():
        return True, "none"
    if competition is None:
        return True, "there, and not checked: no competition is attached"
    try:
        task = _find_task(working, home)
        if task is not None:
            frame, name = read_submission(task, file), task.files.get("sample_submission", task.files["test"])
            check_submission(frame, read_sample(replace(task, data=str(competition))), task)
            return True, f"valid: {len(frame):,} rows, as {Path(name).name}{_made_of(working)}"
        path = find_table(competition, "sample_submission")
        sample, frame = read_table(path), read_table(file)
        _compare(frame, sample)
        return True, f"columns, rows and ids as {path.name} ({len(frame):,} rows){_made_of(working)}"
    except (ValueError, OSError) as error:
        return False, str(error)


def _made_of(working: Path) -> str:
    """From kernel.json: what a submission was made of, where that is less than was asked for."""
    file = working / "kernel.json"
    made = read_json(file).get("submission", {}) if file.is_file() else {}
    if made.get("from") == "sample":
        return "; but it is the SAMPLE SUBMISSION itself, since no fold is finished"
    return f"; the mean of folds {made['folds']} of {made['run']}" if made.get("from") == "folds" else ""


def _find_task(working: Path, home: Path | None) -> Task | None:
    files = sorted(working.glob("*/*/task.json"))
    files += [home / "task.json"] if home is not None and (home / "task.json").is_file() else []
    return as_task(read_json(files[0])) if files else None


def _compare(frame: pd.DataFrame, sample: pd.DataFrame) -> None:
    if list(frame.columns) != list(sample.columns):
        raise ValueError(
            f"submission.csv has the columns {', '.join(frame.columns)}, the sample {', '.join(sample.columns)}"
        )
    id = sample.columns[0]
    if len(frame) != len(sample) or (frame[id].to_numpy(object) != sample[id].to_numpy(object)).any():
        raise ValueError(
            f"submission.csv has {len(frame):,} rows and the sample {len(sample):,}: the {id} of each row must be that "
            "of the sample, in its order"
        )


def _name(number: int, cell) -> str:
    lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
    return f"cell {number} ({lines[0][:70]})" if lines else f"cell {number}"
