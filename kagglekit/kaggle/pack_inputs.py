"""Pack the files that a kernel reads: found here, and given a place there, `runs/NAME/...` or `inputs/NAME`."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kagglekit.competition.task import is_work, load_task
from kagglekit.decoders.lora_base import BASE, find_base, read_base
from kagglekit.decoders.packed_weights import PACKED, dense_folder
from kagglekit.files import ONLY_HASH, read_json, resolve, write_json
from kagglekit.kaggle.bundle import GOLDEN_FILE, measure
from kagglekit.kaggle.cells import Step, refuse
from kagglekit.model.catalogue import PACKAGES
from kagglekit.options import current_names, knobs_of, named
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.running.arguments import names_in
from kagglekit.running.done import fill
from kagglekit.runs.blend_knobs import EnsembleRun
from kagglekit.runs.initial_weights import pack_starts
from kagglekit.runs.record import RunRecord, split_start, with_ancestors
from kagglekit.runs.run_knobs import PretrainingRun, TrainingRun
from kagglekit.runs.tables import list_runs
from kagglekit.samples import SAMPLES
from kagglekit.training.recipe import Recipe

LEARNERS = ("2_pretrain", "3_train")  # they start from models, not from predictions alone
FIELDS = knobs_of(TrainingRun, Recipe, PretrainingRun, Stage, EnsembleRun).values()
KNOBS = {knob.name for knob in FIELDS if knob.kinds - {"column"}}  # they name files or runs


class Inputs:
    """The files that the steps of a kernel read: `files`, path in the kernel -> file here.

    steps: of one kernel, in order. scratch: a folder for files that are rewritten without local paths. A run that is
    not here comes with another source: `check_steps` has told any other.
    Raises FileNotFoundError and ValueError for what is missing, or cannot be in a kernel.
    """

    def __init__(self, steps: Sequence[Step], competition: str, scratch: Path):
        self.work, self.competition, self.scratch = resolve(steps[0].work), competition, scratch
        self.files: dict[str, Path] = {}
        self.record: dict[str, Any] = {}  # more for bundle.json
        self.places = Places(self.work)
        self.written: set[Path] = set()  # by earlier steps: not packed
        self.predicts = any(step.values.get("predict") for step in steps)
        self.steps = [self._step(step) for step in steps]
        for path in [path for path in self.files if path.removesuffix(ONLY_HASH) in self.files.keys() - {path}]:
            del self.files[path]  # what another step packs whole

    def _step(self, step: Step) -> Step:
        """Find what a step reads, and return the step with the paths of the kernel."""
        values = step.values
        refuse(step)
        for template in step.travels.get("reads", []):
            if template == "{data}":
                values["data"] = self._data(values["data"])
            elif template.startswith("{work}/"):
                path = self.work / template.removeprefix("{work}/")
                if "*" not in template and path not in self.written:
                    self._add_task() if path.name == "task.json" else self._add(path)
            else:
                for path in fill([template], values):
                    self._read_path(path, required=True, what=f"{step.title}: {template}")
        for kind in ("model", "file"):
            for label, path in names_in(step.known, values, kind):
                self._read_path(path, required=kind == "file", what=f"{step.title}: {label}")
        named = names_in(step.known, values, "run")
        if values.get("runs") == [] and not values.get("files"):
            named = [("runs", name) for name in list_runs(self.work)]
        averaged = self._average_starts(step)
        for label, name in named:
            self._read_run(step, name, models=not (averaged and label == "start"))
        self.written |= step.writes
        values = self.places.moved_knobs(values)
        values["work"] = self.places.of(self.work)
        given = {name: values[name] for name in step.known if name in {*step.parameters, "work"} or name == "data"}
        return Step(step.notebook, given, step.notebooks)

    def _data(self, data: str) -> str:
        if self.competition:
            return self.competition
        if data in SAMPLES or resolve(data).is_dir():
            raise ValueError(
                f"data={data!r} is a folder of this machine or a sample: name the competition that the kernel reads in "
                "its place, competition=its slug on Kaggle"
            )
        return data

    def _average_starts(self, step: Step) -> bool:
        """Add the averages that the folds of a step begin with, in place of the models of many runs; whether it has
        some."""
        values, table = step.values, self.work / "folds.parquet"
        runs = [RunRecord.open(self.work, name) for name in split_start(values.get("start", ""))]
        made = self.written & {table, *(run.folder for run in runs)}
        here = table.is_file() and all(run.folder.is_dir() for run in runs) and not made
        if step.notebook not in LEARNERS or not here or not (len(runs) > 1 or any(map(self._has_several, runs))):
            return False
        from kagglekit.runs.tables import choose_folds, read_parquet  # torch comes with an average, and takes seconds

        folds = choose_folds(read_parquet(table), values["folds"] if step.notebook == "3_train" else [])
        place = self.scratch / f"starts{len(self.files)}"
        place.mkdir()
        found = pack_starts(self.work, values["start"], values["backbone"], folds, place)
        for path, file in (found or {}).items():
            self.files.setdefault(self.places.of(path), file)
        return bool(found)

    def _has_several(self, run: RunRecord) -> bool:
        """Whether a fold begins with the average of several models of a run: of its seeds, or of another's folds."""
        return not run.is_of_data(self.work) or any(len(each) > 1 for each in run.models.values())

    def _read_run(self, step: Step, name: str, models: bool = True) -> None:
        run = RunRecord.open(self.work, name)
        if run.folder in self.written or not run.folder.is_dir():
            return
        asked = self.predicts and step.notebook not in LEARNERS
        full = step.values.get("full", "") if asked else ""
        self.add_run(run, models=models and (asked or step.notebook in LEARNERS), full=full)
        if asked:
            self._add_golden(name, full)

    def _read_path(self, path: str, required: bool, what: str) -> None:
        """Add a file or a folder that a parameter names, unless it is a name on the hub or in the catalogue."""
        here = resolve(path)
        if path in PACKED and not here.exists():  # the kernel finds it by its name, as a folder
            here = dense_folder(path)
            self.places.places.setdefault(here, path)
            self._add(here)
            return
        required = required or path.startswith(("/", "~", "."))
        if path in PACKAGES or not (here.exists() or required):
            return
        if not here.exists():
            raise FileNotFoundError(f"{what} is {path!r}, and {here} does not exist")
        if is_work(here):
            raise ValueError(
                f"{what} is the work folder {path!r}, and a kernel or a cluster gets the files of one competition: "
                "pretrain here, and let start= begin with that run"
            )
        self.places.typed(path)
        run = RunRecord.around(here) if here.is_dir() else None
        if run and (run.work / "task.json").is_file():  # a model of a run: what that was made from counts too
            self.add_run(run, models=False)
        self._add(here)

    def add_run(self, run: RunRecord, models: bool, full: str = "") -> None:
        """Add a run, the base runs of a blend, and without their models all parents. full: of 5_submit."""
        asked = {run} if models else set()
        while models and (more := {member for one in asked for member in one.members} - asked):
            asked |= more
        for one in with_ancestors([run]):
            if one.work != self.work:
                self._add_task(one.work)
                self._add(one.work / "folds.parquet")
            if one in asked:
                for label, file in files_to_predict(one):
                    self._read_path(file, True, label)
                for label, encoder in named([knobs_of(Recipe)["features"]], one.recipe, "model"):
                    self._read_path(encoder, False, label)
            for file in one.files(models=one in asked, full=full):
                if file.name == GOLDEN_FILE:  # new ones are made
                    continue
                self._add(file)
            if one.params:
                self.rewrite(one.folder / "params.json", moved_params(one.params, self.places.moved_knobs))

    def _add_base(self, file: Path) -> None:
        """Add the frozen backbone that a model stands on, where `file` names it: once for all folds; and say in the
        model where it is."""
        if file.name != BASE:
            return
        from kagglekit.model.backbones import backbone_folder, find_backbone  # as for golden rows

        base, run = read_base(file.parent), RunRecord.around(file)
        name = run.recipe["backbone"] if run else base["backbone"]
        here = backbone_folder(find_base(file.parent, base, find_backbone, backbone_folder))
        if name in PACKED:
            self.places.places.setdefault(here, name)
        elif here == resolve(name):
            self.places.typed(name)
        self._add(here)
        there = self.places.of(here)
        self.rewrite(file, {**base, "backbone": name if name in PACKED else there, "folder": there})

    def _add_task(self, work: Path | None = None) -> None:
        """Add task.json, without the local folder of the competition's files."""
        work = work or self.work
        if work == self.work:
            task = load_task(work)
            digest = measure(Path(task.data, task.files["train"]))["sha256"]
            self.record["train"] = {"name": task.files["train"], "sha256": digest}
        mounted = f"/kaggle/input/competitions/{self.competition}" if self.competition else "/kaggle/input"
        self.rewrite(work / "task.json", {**read_json(work / "task.json"), "data": mounted})

    def _add_golden(self, run: str, full: str) -> None:
        """Add golden rows, which do not stay here: a run with one more file would count as changed."""
        from kagglekit.kaggle.golden_rows import write_golden  # torch comes with it, and takes seconds

        golden = write_golden(self.work, run, full=full)
        if golden is None:
            return
        place = self.places.of(golden)
        (self.scratch / place).parent.mkdir(parents=True, exist_ok=True)
        self.files[place] = Path(shutil.move(golden, self.scratch / place))

    def rewrite(self, file: Path, value: dict[str, Any]) -> None:
        """Add a JSON file of here with another value."""
        place = self.places.of(file)
        write_json(self.scratch / place, value)
        self.files[place] = self.scratch / place

    def _add(self, path: Path) -> None:
        """Add a file, or all of a folder except hidden files."""
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                    self.files.setdefault(f"{self.places.of(path)}/{file.relative_to(path).as_posix()}", file)
                    self._add_base(file)
        elif path.is_file():
            self.files.setdefault(self.places.of(path), path)
            self._add_base(path)
        else:
            raise FileNotFoundError(f"{path} does not exist, and the kernel reads it: run 1_eda first")


def files_to_predict(run: RunRecord) -> list[tuple[str, str]]:
    """The files that a run reads to predict, each with its knob. Saved models hold the rows that they have learned and
    their vectors of words; a learner that is fitted again reads all."""
    knobs = [knobs_of(Recipe)["features"], *(knobs_of(TrainingRun)[name] for name in ("extra", "fixes"))]
    needless = ("features: word_vectors", "extra", "fixes") if run.saved_models else ()
    return [(label, file) for label, file in named(knobs, run.recipe, "file") if label not in needless]


class Places:
    """Where local files go in a kernel, relative to its working directory. work: the work folder of its steps."""

    def __init__(self, work: Path):
        self.work = work
        self.places: dict[Path, str] = {work: f"runs/{work.name}"}  # here -> in the kernel

    def moved_knobs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters, or a recipe, with the kernel's paths in place of local ones."""
        return moved_knobs(values, self.moved)

    def of(self, path: Path) -> str:
        """The place of a local file or folder in the kernel."""
        if path in self.places:
            return self.places[path]
        work = next((one for one in path.parents if one == self.work or (one / "task.json").is_file()), None)
        if work:
            return f"{self._name(work, 'runs')}/{path.relative_to(work).as_posix()}"
        return self._name(path, "inputs")

    def _name(self, path: Path, below: str) -> str:
        """A free place for `path` by its name, with a number where the name is taken."""
        number, name = 1, f"{below}/{path.name}"
        while path not in self.places and name in self.places.values():
            number += 1
            name = f"{below}/{number}-{path.name}"
        return self.places.setdefault(path, name)

    def typed(self, text: str) -> str:
        """The place of a path as it was typed: the same where it is relative to the working directory here too, so that
        a run has the same recipe on both sides."""
        here, typed = resolve(text), PurePosixPath(text)
        far = typed.is_absolute() or text.startswith("~") or ".." in typed.parts
        below = any((one / "task.json").is_file() for one in here.parents)
        if not (far or below or typed.as_posix() in self.places.values()):
            self.places.setdefault(here, typed.as_posix())
        return self.of(here)

    def moved(self, text: str) -> str:
        """A path of a parameter with the kernel's in place of the local one, also in "a+b"."""
        if text in PACKAGES or not text.strip():
            return text
        if "+" in text and "/" in text and not resolve(text).exists():
            return "+".join(map(self.moved, split_start(text)))
        is_path = text.startswith(("/", "~")) or ("/" in text and resolve(text).exists())
        return self.typed(text) if is_path else text


def moved_params(params: dict[str, Any], move: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The params.json of a run with the paths of its recipe moved, and of what was asked."""
    return params | {name: move(current_names(params[name])) for name in ("recipe", "asked") if name in params}


def moved_knobs(values: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """Parameters, or a recipe, with the paths of those that name files or runs moved, also in lists and dicts."""

    def each(value: Any) -> Any:
        if isinstance(value, list):
            return [each(one) for one in value]
        if isinstance(value, dict):
            return {name: each(one) for name, one in value.items()}
        return move(value) if isinstance(value, str) else value

    return {name: each(value) if name in KNOBS else value for name, value in values.items()}
