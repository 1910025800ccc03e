"""A run whose folds are trained apart, on GPUs or on a cluster: which it lacks, and the command line of each."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagglekit.files import resolve, run_folder
from kagglekit.files.parquet import read_parquet
from kagglekit.running.arguments import check_parameters, with_defaults
from kagglekit.running.beforehand import check_beforehand
from kagglekit.running.jupyter_kernel import locked
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import Parameter, read_parameters
from kagglekit.runs.record import count_seeds
from kagglekit.runs.run_knobs import without_full
from kagglekit.runs.tables import choose_folds
from kagglekit.time_budget import STARTED, kernel_began

NEEDS = ("work", "run", "folds", "learner")  # parameters of a notebook that trains fold by fold


@dataclass(frozen=True)
class FoldPlan:
    """A run whose folds are trained apart, each by the notebook with that fold alone.

    source: the notebook; known: its parameters; given: those that differ from its defaults, without the model of all
    rows, which is trained once, by the notebook itself; values: of all; to_do: the folds that the run lacks.
    """

    source: Path
    known: dict[str, Parameter]
    given: dict[str, Any]
    values: dict[str, Any]
    to_do: list[int]

    @classmethod
    def make(cls, notebook: str, parameters: dict[str, Any], folder: Path | None = None) -> "FoldPlan":
        """Raises ValueError for a notebook that does not train fold by fold, and for what `run_notebook` refuses."""
        source = find_notebook(notebook, folder)
        if missing := missing_parameters(source):
            raise ValueError(f"{source.stem} does not train fold by fold: it has no parameter {missing[0]!r}")
        known = read_parameters(source)
        given = check_parameters(source.stem, known, parameters)
        values = with_defaults(known, given)
        check_beforehand(source.stem, known, values)
        return cls(source, known, {**given, **without_full(given)}, values, _folds_to_do(values))

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return run_folder(self.values["work"], self.values["run"])

    @property
    def title(self) -> str:
        return f"{self.source.stem} {self.run.name}"

    def is_finished(self, fold: int) -> bool:
        return count_seeds(self.run / f"fold{fold}") >= self.values.get("seeds", 1)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While its folds are trained nobody else runs the same."""
        copies = self.run.parent / "notebooks"
        copies.mkdir(exist_ok=True)
        with locked(copies / f".{self.title.replace(' ', '.')}.lock", self.title):
            yield

    def arguments(self, given: Mapping[str, Any], notebooks: str | Path) -> list[str]:
        """The notebook with these parameters as arguments of `kagglekit.run`, all but those of `part`."""
        texts = [write_argument(self.known[name], value) for name, value in given.items() if name != "folds"]
        return [self.source.stem, *texts, "--notebooks", str(notebooks)]

    @staticmethod
    def part(fold: int) -> list[str]:
        """What makes it one fold: with a copy of its own; it ends when its input is closed."""
        return [f"folds=[{fold}]", "--part", f"fold{fold}"]


def write_argument(parameter: Parameter, value) -> str:
    """A parameter as `kagglekit.run` reads it back. Raises ValueError for a value that it would read as another."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    back = parameter.parse(text)
    if json.dumps(back) != json.dumps(value):
        problem = f"{parameter.name}={value!r} cannot stand on a command line, where it would be {back!r}"
        raise ValueError(f"{problem}: choose another value")
    return f"{parameter.name}={text}"


def missing_parameters(source: Path) -> list[str]:
    """What a notebook lacks to train fold by fold."""
    known = read_parameters(source)
    return [name for name in NEEDS if name not in known]


def _folds_to_do(values: Mapping[str, Any]) -> list[int]:
    """The chosen folds that the run lacks; with `overwrite` all, as finished ones may be of another run."""
    path = resolve(values["work"]) / "folds.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 1_eda first, with the same work=")
    folds = choose_folds(read_parquet(path), values["folds"])
    run, seeds = run_folder(values["work"], values["run"]), values.get("seeds", 1)
    return [fold for fold in folds if values.get("overwrite") or count_seeds(run / f"fold{fold}") < seeds]


@contextmanager
def one_clock() -> Iterator[None]:
    """Make all processes that are started in the block count their hours from the start of this one."""
    before = os.environ.get(STARTED)
    os.environ[STARTED] = before or repr(kernel_began())
    try:
        yield
    finally:
        if before is None:
            del os.environ[STARTED]
