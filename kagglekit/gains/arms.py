"""Arms of a race: a base and recipes as whole settings of 3_train, checked against the task before anything is trained.

An arm has every parameter of 3_train that says how a model is trained. Where a run is, which folds it has, and how long
it may take, is the race's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagglekit.declared import read_names
from kagglekit.files import check_run_name, read_json, resolve, shorten
from kagglekit.gains.recipes import MODELS, SHIPPED, RaceRecipe, apply
from kagglekit.options import did_you_mean, find_idle
from kagglekit.progress import command
from kagglekit.reports.run_settings import as_given
from kagglekit.running.arguments import check_each, check_parameters
from kagglekit.running.beforehand import check_beforehand
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import REST, Parameter, read_parameters
from kagglekit.runs.leaks import selection_warning
from kagglekit.runs.record import RunRecord

NOTEBOOK = "3_train"
OUTSIDE = {  # parameters that say nothing of how a cell is trained
    *("work", "run", "folds", "seeds", "hours", "overwrite", "checkpoint_every", "report_to", "find_learning_rate"),
    *("full_fit", "full_fit_epochs", "extra_check", REST),
}
BACKBONES = read_names("model/catalogue.py", "BACKBONES")
LONGER = 0.02  # share of the texts that is cut, from which on recipes for long texts are tried
LARGER = 4  # times the size of the base, up to which other backbones are tried


@dataclass(frozen=True)
class Arm:
    """What one racer is trained with. settings: all parameters of 3_train but OUTSIDE. parts: of a combination."""

    name: str
    settings: dict[str, Any]
    words: str = ""
    parts: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its name as that of a folder, or of a run."""
        return self.name.replace("+", "-")


def known_parameters() -> dict[str, Parameter]:
    """The parameters of 3_train that arms have."""
    return {name: one for name, one in read_parameters(find_notebook(NOTEBOOK)).items() if name not in OUTSIDE}


def defaults() -> dict[str, Any]:
    """The settings of 3_train as it comes."""
    return {name: one.default for name, one in known_parameters().items()}


def read_base(work: Path, name: str, given: Mapping[str, Any]) -> Arm:
    """The base: the settings of the run of that name, or, where there is none, the defaults of 3_train; over them those
    that are given. Raises ValueError for a run that 3_train has not made, and for settings that do not fit."""
    values, words = defaults(), "the defaults of 3_train"
    if (work / name / "weights.json").is_file():
        raise ValueError(f"base={name!r} is a blend, and recipes are of single models: name a run of 3_train")
    if (work / name / "params.json").is_file():
        recipe = as_given(RunRecord(work / name).asked)
        if "objective" in recipe:
            raise ValueError(
                f"base={name!r} is a run of 2_pretrain: give its name as start= after --, and leave base out"
            )
        recipe |= {key: value for key, value in (recipe.pop("learner_options", None) or {}).items() if key in values}
        options = as_given(RunRecord(work / name).asked).get("learner_options") or {}
        recipe["learner_options"] = {key: value for key, value in options.items() if key not in values}
        values, words = values | {key: recipe[key] for key in values if key in recipe}, f"the run {name!r}"
    elif name != "base":
        there = [path.parent.name for path in work.glob("*/params.json")]
        meant = did_you_mean(name, there) or (
            f": there are {', '.join(sorted(there))}" if there else ", which has none yet: leave base= out"
        )
        raise FileNotFoundError(f"base={name!r} is no run of {shorten(work)}{meant}")
    words += f", with {', '.join(given)} changed" if given else ""
    values = drop_idle(values | given, given)
    check_arm(work, values)
    return Arm("base", values, words)


def choose_recipes(recipes: list[str] | dict[str, Any]) -> dict[str, RaceRecipe]:
    """The recipes that are named: shipped ones, backbones of the catalogue, files of JSON, or a dict, name -> settings
    of 3_train; all shipped ones where none is. Raises ValueError for a name that is none, and for settings that 3_train
    does not have."""
    if not recipes:
        return dict(SHIPPED)
    backbones = {name: RaceRecipe({"backbone": name}, "another backbone") for name in BACKBONES}
    found, known = {}, SHIPPED | MODELS | backbones
    for name in [recipes] if isinstance(recipes, dict) else recipes:
        if isinstance(name, dict) or name.endswith(".json"):
            if not isinstance(name, dict) and not resolve(name).is_file():
                raise FileNotFoundError(f"recipes={name!r} does not exist: there is no {resolve(name)}")
            content = name if isinstance(name, dict) else read_json(resolve(name))
            where = "recipes" if isinstance(name, dict) else name
            if not isinstance(content, dict):
                raise ValueError(f'{where}: an object of recipes is needed, {{"mine": {{"epochs": 5}}}}')
            found |= {key: _read_recipe(f"{where}: {key}", key, value) for key, value in content.items()}
        elif name in known:
            found[name] = known[name]
        else:
            meant = did_you_mean(name, known) or f": there are {', '.join(SHIPPED | MODELS)}; or name a file of JSON"
            raise ValueError(f"recipes: there is no recipe {name!r}{meant}")
    return found


def _read_recipe(where: str, name: str, settings: Any) -> RaceRecipe:
    """A recipe of the user."""
    if not isinstance(settings, dict) or not settings:
        raise ValueError(f'{where} is {settings!r}: settings of {NOTEBOOK} are needed, such as {{"epochs": 5}}')
    check_run_name(where, name)
    if name == "base":
        raise ValueError(f"{where}: this is the name of what recipes are compared with: name it otherwise")
    if outside := [key for key in settings if key in OUTSIDE]:
        raise ValueError(f"{where}: {outside[0]} is the race's: leave it out")
    try:
        check_each(NOTEBOOK, known_parameters(), settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return RaceRecipe(settings, ", ".join(settings))


def check_arm(work: Path, values: Mapping[str, Any]) -> None:
    """Raise ValueError or FileNotFoundError for settings that do not go together, or do not fit the task."""
    if values["tasks"]:
        raise ValueError(
            "tasks: a race trains its cells on one work folder: leave it out, or name a base without tasks"
        )
    known = read_parameters(find_notebook(NOTEBOOK))
    changed = {name: value for name, value in values.items() if value != known[name].default}
    changed = check_parameters(NOTEBOOK, known, changed)
    whole = {name: one.default for name, one in known.items() if name != REST} | changed
    check_beforehand(NOTEBOOK, known, whole | {"work": str(work), "run": ""})
    if chosen := selection_warning(work, whole):  # it would beat any base by that alone
        raise ValueError(chosen)


def make_arms(work: Path, base: Arm, recipes: Mapping[str, RaceRecipe]) -> tuple[list[Arm], dict[str, str]]:
    """The arms of recipes on top of a base, and those that are left out -> why. Settings of the base that have no
    effect beside a recipe are dropped: what TF-IDF does not read, for one."""
    arms, left_out = [], {}
    for name, recipe in recipes.items():
        try:
            settings = drop_idle(apply(recipe, base.settings), recipe.settings)
            check_arm(work, settings)
        except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
            left_out[name] = str(error).removeprefix(f"{NOTEBOOK}: ")
            continue
        if twin := next((one.name for one in (base, *arms) if one.settings == settings), ""):
            left_out[name] = f"the same as {'the base' if twin == base.name else twin}"
            continue
        arms.append(Arm(name, settings, recipe.words))
    return arms, left_out


def drop_idle(settings: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, where those that have no effect are the defaults again, but for a recipe's own: these are mistakes."""
    known = known_parameters()
    kinds = list(dict.fromkeys(one.kind for one in known.values() if one.kind))
    for _ in range(2):  # what is dropped may leave others without effect
        idle = find_idle(kinds, settings)
        settings = settings | {name: known[name].default for name in idle if name not in own}
    floats = {name for name, one in known.items() if isinstance(one.default, float)}
    whole = {name for name, value in settings.items() if type(value) is int and name in floats}
    return {name: float(value) if name in whole else value for name, value in settings.items()}  # 3 is 3.0


def combine(work: Path, base: Arm, first: Arm, second: Arm) -> Arm:
    """Two arms in one. Raises ValueError where they set the same thing otherwise, or do not go together."""
    settings = dict(base.settings)
    for name in base.settings:
        changes = [one.settings[name] for one in (first, second) if one.settings[name] != base.settings[name]]
        if len(changes) == 2 and changes[0] != changes[1]:
            if not all(isinstance(one, dict) for one in changes):
                raise ValueError(f"both set {name}")
            if clash := [key for key in changes[0] if key in changes[1] and changes[0][key] != changes[1][key]]:
                raise ValueError(f"both set {name}: {clash[0]}")
            changes = [changes[0] | changes[1]]
        if changes:
            settings[name] = changes[0]
    if settings["loss"] and len(settings["loss"]) > max(len(first.settings["loss"]), len(second.settings["loss"])):
        raise ValueError("both set loss")
    if settings in (first.settings, second.settings):
        raise ValueError("one holds the other")
    check_arm(work, settings)
    return Arm(f"{first.name}+{second.name}", settings, f"{first.words}; {second.words}", (first.name, second.name))


def training_command(work: Path, run: str, settings: Mapping[str, Any]) -> str:
    """What to type to train a run with these settings, quoted for a shell."""
    plain = defaults()
    changed = {name: value for name, value in settings.items() if value != plain[name]}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in changed.items()}
    return command(NOTEBOOK, work=shorten(work), run=run, **texts)


def free_name(work: Path, name: str) -> str:
    """A name for a run that no run has yet: the given one, or with a number."""
    names = [name, *(f"{name}.{number}" for number in range(2, 1000))]
    return next(one for one in names if not (work / one).exists())


def describe_nothing(left_out: Mapping[str, str]) -> str:
    """That no recipe is left, and why each is not."""
    return f"there is nothing to race. Left out: {'; '.join(f'{name}: {why}' for name, why in left_out.items())}"
