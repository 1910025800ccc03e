"""Arguments of a notebook: texts of the command line as values, checked one by one and together before a kernel."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kagglekit.annotations import example
from kagglekit.files import check_run_name, read_json, resolve
from kagglekit.options import check_idle, did_you_mean, explain_renamed, find_idle, named
from kagglekit.running.command_line import program
from kagglekit.running.parameters import REST, Parameter, read_parameters


@dataclass(frozen=True)
class Asked:
    """What a notebook is asked for. known: its parameters. values: of all of them. comes: of a step of a kernel, says
    whether a file or a run will be there, by an earlier step or by what is attached; None: it runs here."""

    notebook: str
    known: dict[str, Parameter]
    values: Mapping[str, Any]
    comes: Callable[[Path], bool] | None = None

    def awaits(self, *names: str) -> bool:
        """Whether any of these, files of the work folder or runs, is made later than now."""
        return self.comes is not None and any(
            self.comes(resolve(name) if "/" in name else self.work / name) for name in names
        )

    @cached_property
    def work(self) -> Path:
        return resolve(self.values["work"])

    @cached_property
    def task(self) -> dict[str, Any]:
        """task.json of the work folder; empty where there is none, or the notebook reads none."""
        reads = "data" not in self.values and not self.values.get("files") and not self.awaits("task.json")
        return read_json(self.work / "task.json") if reads and (self.work / "task.json").is_file() else {}

    def has(self, *names: str) -> bool:
        """Whether these are parameters that the library's knobs describe: notebooks of one's own have others."""
        return all(name in self.known and self.known[name].kind for name in names)

    def named(self, kind: str) -> list[tuple[str, str]]:
        """What the values name of a kind, see `named` of options."""
        return names_in(self.known, self.values, kind)


def check_parameters(notebook: str, parameters: dict[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, when each is a parameter of the notebook, of its type and in its range, and they go together; else a
    ValueError.

    What `recipe` holds stands beside the others in what comes back.
    """
    values = check_each(notebook, parameters, values)
    whole = with_defaults(parameters, values)
    kinds, known = _kinds(parameters), {name for name, one in parameters.items() if one.kind}
    try:
        for kind in kinds:
            kind(**{name: value for name, value in whole.items() if name in known and parameters[name].kind is kind})
        check_idle(kinds, {name: whole[name] for name in known})
        if isinstance(whole.get("run"), str):
            check_run_name("run", whole["run"])
        for label, name in names_in(parameters, whole, "run"):
            check_run_name(label, name, path=label != "runs")
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(f"{notebook}: ") else f"{notebook}: {text}") from None
    return values


def _kinds(parameters: Mapping[str, Parameter]) -> list[type]:
    return list(dict.fromkeys(one.kind for one in parameters.values() if one.kind))


def drop_idle(
    notebook: str, parameters: dict[str, Parameter], shared: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Shared values, of several notebooks, without those that have no effect in this one: each is told.

    own: the notebook's own values, which win.
    """
    shared = {name: value for name, value in _flat(notebook, parameters, shared).items() if name not in own}
    whole = with_defaults(parameters, {**shared, **_flat(notebook, parameters, own)})
    known = {name: whole[name] for name, one in parameters.items() if one.kind}
    for name, why in find_idle(_kinds(parameters), known).items():
        if name in shared:
            reason = why.split(": leave it out")[0]
            print(f"{notebook}: {name}={shared.pop(name)!r} has no effect {reason}, and is left out", flush=True)
    return shared


def check_each(notebook: str, parameters: dict[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with those of `recipe` beside the others, when each is a parameter of the notebook, of its type and in
    its range; else a ValueError."""
    values = _flat(notebook, parameters, values)
    for name, value in values.items():
        if name not in parameters:
            if renamed := explain_renamed(name, parameters):
                raise ValueError(f"{notebook}: {renamed}")
            raise ValueError(f"{notebook} has no parameter {name!r}{_meant(name, parameters, notebook)}")
        one = parameters[name]
        if not one.accepts(value):
            problem = f"{notebook}: {name}={value!r} is of type {type(value).__name__}, and {name} takes {one.takes}"
            raise ValueError(problem + example(name, one.takes, value))
        if one.knob:
            one.knob.check(value, notebook)
    return values


def _meant(name: str, known: Iterable[str], notebook: str) -> str:
    """What may have been meant by a name; where nothing is close, what lists them all."""
    return did_you_mean(name, known) or f": see {program('run')} {notebook} --help"


def _flat(notebook: str, parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with what `recipe` holds beside the others, where the notebook has knobs that its cell does not show."""
    values = dict(values)
    if all(parameter.shown for parameter in parameters.values()) or not isinstance(values.get(REST), dict):
        return values
    rest = values.pop(REST)
    if twice := [name for name in rest if name in values]:
        raise ValueError(
            f"{notebook}: {twice[0]} is {values[twice[0]]!r}, and in recipe {rest[twice[0]]!r}: say it once"
        )
    return values | rest


def with_defaults(parameters: dict[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """All values that a notebook runs with: its own defaults, and over them those that were given."""
    defaults = {name: parameter.default for name, parameter in parameters.items() if parameter.shown}
    hidden = {name: parameter.default for name, parameter in parameters.items() if not parameter.shown}
    return hidden | _flat("", parameters, defaults) | _flat("", parameters, given)


def fold(parameters: dict[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Given values as the notebook takes them: those that its cell does not show are in `recipe`."""
    given = _flat("", parameters, given)
    rest = {name: value for name, value in given.items() if name in parameters and not parameters[name].shown}
    shown = {name: value for name, value in given.items() if name not in rest}
    return shown | {REST: {**parameters[REST].default, **rest}} if rest else shown


def names_in(parameters: dict[str, Parameter], values: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """What the values name of a kind, see `named`."""
    return named([parameter.knob for parameter in parameters.values() if parameter.knob], values, kind)


def parse_arguments(notebook: Path, known: dict[str, Parameter], texts: dict[str, str]) -> dict:
    """Texts of the command line as values that were checked one by one, see `check_each`."""
    values = {name: known[name].parse(text) if name in known else text for name, text in texts.items()}
    return check_each(notebook.stem, known, values)


def read_arguments(texts: list[str]) -> dict[str, str]:
    """["epochs=3"] -> {"epochs": "3"}."""
    for text in texts:
        if not text.partition("=")[0].isidentifier() or "=" not in text:
            raise ValueError(f"{text!r} is no name=value")
    names = [text.split("=", 1)[0] for text in texts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is given twice: say it once")
    return dict(text.split("=", 1) for text in texts)


def choose_shared(notebook: Path, texts: dict[str, str], own: Mapping[str, Any] | None = None) -> dict:
    """The values after `--` that this notebook takes, each checked against every notebook of the folder that has it.

    own: the notebook's own values, which win, and with which some of the others have no effect, see `drop_idle`.
    """
    all_known = {path: read_parameters(path) for path in sorted(notebook.parent.glob("*.ipynb"))}
    names = {name for known in all_known.values() for name in known}
    for name in texts:
        if name not in names:
            if renamed := explain_renamed(name, names):
                raise ValueError(renamed)
            raise ValueError(f"no notebook has a parameter {name!r}{_meant(name, names, 'NOTEBOOK')}")
    chosen = {}
    for path, known in all_known.items():
        chosen[path] = parse_arguments(path, known, {name: text for name, text in texts.items() if name in known})
    return drop_idle(notebook.stem, all_known[notebook], chosen[notebook], own or {})
