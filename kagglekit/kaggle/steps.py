"""The steps of a kernel: notebooks with parameters, as on a command line, checked before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kagglekit.files import run_folder
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import (
    Parameter,
    check_parameters,
    choose_shared,
    parse_arguments,
    read_arguments,
    read_parameters,
    with_defaults,
)


@dataclass(frozen=True)
class Step:
    """A notebook, such as 3_train, and those of its parameters that differ from its own.

    Raises FileNotFoundError for a notebook that is not there, and ValueError that lists its parameters for one that it
    does not have, or of another type. notebooks: their folder; None: those of the library.
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    notebooks: Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "notebook", self.source.stem)
        object.__setattr__(self, "parameters", check_parameters(self.notebook, self.known, self.parameters))
        values = self.values
        if "run" in values:
            run_folder(values["work"], values["run"])

    @property
    def source(self) -> Path:
        """The notebook's file."""
        return find_notebook(self.notebook, self.notebooks)

    @cached_property
    def known(self) -> dict[str, Parameter]:
        """The parameters that the notebook takes."""
        return read_parameters(self.source)

    @property
    def values(self) -> dict[str, Any]:
        """All its parameters: its own, and over them those that were given."""
        return with_defaults(self.known, self.parameters)

    @property
    def work(self) -> str:
        """The work folder, as given."""
        return self.values["work"]

    @property
    def title(self) -> str:
        """What it is called: "3_train base"."""
        return " ".join(filter(None, [self.notebook, self.values.get("run", "")]))

    def with_values(self, **values) -> "Step":
        """The same step with some parameters changed; those that the notebook does not have are left out."""
        known = self.known
        kept = {name: value for name, value in values.items() if name in known}
        return Step(self.notebook, self.parameters | kept, self.notebooks)


def parse_steps(texts: Sequence[str], notebooks: Path | None = None) -> list[Step]:
    """["3_train", "work=runs/bbc", "run=base", "+", "5_submit", "run=base"] -> two steps.

    A lone + begins the next step. work= of the first holds for all. After a lone --: parameters for every step that has
    them, where what a step says itself wins. notebooks: their folder; None: those of the library.
    Raises ValueError and FileNotFoundError that say what there is in place of what was typed.
    """
    cut = texts.index("--") if "--" in texts else len(texts)
    shared, groups = read_arguments(list(texts[cut + 1 :])), [[]]
    for text in texts[:cut]:
        if text == "+":
            groups.append([])
        else:
            groups[-1].append(text)
    steps: list[Step] = []
    for number, group in enumerate(groups, 1):
        if not group or "=" in group[0]:
            raise ValueError(f"step {number} names no notebook: write it first, as in 3_train work=runs/bbc run=base")
        notebook = find_notebook(group[0], notebooks)
        own = parse_arguments(notebook, read_parameters(notebook), read_arguments(group[1:]))
        first = {"work": steps[0].work} if steps else {}
        steps.append(Step(notebook.stem, first | choose_shared(notebook, shared) | own, notebooks))
        if "work" not in steps[0].parameters:
            raise ValueError(f"{notebook.stem} needs work=: the folder that it works in, such as work=runs/bbc")
        if steps[-1].work != steps[0].work:
            raise ValueError(
                f"step {number}, {notebook.stem}, has work={steps[-1].work!r} and the first {steps[0].work!r}: the "
                "steps of a kernel share a work folder"
            )
    return steps
