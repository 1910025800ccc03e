"""Where the files of this machine go in a kernel: `runs/NAME/...` for what is in a work folder, else `inputs/NAME`."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from kagglekit.files import resolve
from kagglekit.model.catalogue import PACKAGES
from kagglekit.options import knobs_of
from kagglekit.pretraining.stage import Stage
from kagglekit.runs.knobs import PretrainingRun, TrainingRun
from kagglekit.runs.record import split_start
from kagglekit.training.recipe import Recipe

FIELDS = knobs_of(TrainingRun, Recipe, PretrainingRun, Stage).values()
KNOBS = {knob.name for knob in FIELDS if knob.kinds - {"column"}} | {"files"}  # they name files or runs


class Places:
    """The places of a kernel, whose working directory they count from. work: the work folder of its steps."""

    def __init__(self, work: Path):
        self.work = work
        self.places: dict[Path, str] = {work: f"runs/{work.name}"}  # here -> in the kernel

    def moved_knobs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters, or a recipe, with the kernel's paths for those of this machine."""
        return {name: self.moved(value) if name in KNOBS else value for name, value in values.items()}

    def of(self, path: Path) -> str:
        """Where a file or folder of this machine is in the kernel, from its working directory."""
        if path in self.places:
            return self.places[path]
        work = next((one for one in path.parents if one == self.work or (one / "task.json").is_file()), None)
        if work:
            return f"{self._name(work, 'runs')}/{path.relative_to(work).as_posix()}"
        return self._name(path, "inputs")

    def _name(self, path: Path, below: str) -> str:
        """A place of its own for `path`, by its name, with a number where the name is taken."""
        number, name = 1, f"{below}/{path.name}"
        while path not in self.places and name in self.places.values():
            number += 1
            name = f"{below}/{number}-{path.name}"
        return self.places.setdefault(path, name)

    def typed(self, text: str) -> str:
        """The place of a path as it was typed: the same where it counts from the working directory here too, so that a
        run has the same recipe on both sides."""
        here, typed = resolve(text), PurePosixPath(text)
        far = typed.is_absolute() or text.startswith("~") or ".." in typed.parts
        below = any((one / "task.json").is_file() for one in here.parents)
        if not (far or below or typed.as_posix() in self.places.values()):
            self.places.setdefault(here, typed.as_posix())
        return self.of(here)

    def moved(self, value: Any) -> Any:
        """A parameter with the kernel's paths for those of this machine, also in lists and dicts, and in "a+b"."""
        if isinstance(value, list):
            return [self.moved(one) for one in value]
        if isinstance(value, dict):
            return {name: self.moved(one) for name, one in value.items()}
        if not isinstance(value, str) or value in PACKAGES or not value.strip():
            return value
        if "+" in value and "/" in value and not resolve(value).exists():
            return "+".join(map(self.moved, split_start(value)))
        is_path = value.startswith(("/", "~")) or ("/" in value and resolve(value).exists())
        return self.typed(value) if is_path else value
