"""Settings of runs in few words: how each differs from the defaults, or from an earlier run that is more alike."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kagglekit.declared import read_learner
from kagglekit.options import knobs_of
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.runs.identity import changes
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import PLAIN, PretrainingRun, TrainingRun
from kagglekit.training.recipe import Recipe

PATH = re.compile(r"(?:~|/|[A-Za-z]:[\\/])")  # what an absolute path begins with


def write_value(value: Any) -> str:
    """A setting as short text: {FGM: {epsilon: 0.5}, EMA}; of an absolute path its last part."""
    if isinstance(value, Mapping):
        ones = [str(key) if inner == {} else f"{key}: {write_value(inner)}" for key, inner in value.items()]
        return f"{{{', '.join(ones)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] if PATH.match(text) else text


def write_settings(values: Mapping[str, Any]) -> str:
    """Settings as they are given on the command line, but for quotes: `epochs=5 tricks={EMA}`."""
    return " ".join(f"{name}={write_value(value)}" for name, value in values.items())


def default_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the notebook that makes runs of such a recipe: 2_pretrain, or 3_train."""
    kinds = (Stage, PretrainingRun) if "objective" in recipe else (Recipe, TrainingRun)
    return {name: knob.default for name, knob in knobs_of(*kinds).items()}


def find_learner(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Who learns by a recipe: runs of one learner read the same settings."""
    backbone = recipe.get("backbone", "")
    return (recipe.get("objective", ""), recipe.get("learner", ""), backbone if backbone in PLAIN else "")


def as_given(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as it was given: of the options in it, which params.json has all, those that are not the defaults."""
    known = {name: knobs_of(one.inner) for name, one in knobs_of(TrainingRun).items() if one.options}
    if recipe.get("learner") in ("frozen", "setfit"):
        known["learner_options"] = read_learner(recipe["learner"]).knobs
    found = dict(recipe)
    for name in (name for name in known if isinstance(recipe.get(name), Mapping)):
        defaults = {key: one.default for key, one in known[name].items()}
        found[name] = {key: one for key, one in recipe[name].items() if one not in ({}, defaults.get(key, ...))}
    return found


def find_differences(recipe: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that differ from those before; what only one of the two has, is its default there."""
    recipe, before = as_given(recipe), as_given(before)
    defaults = default_settings(recipe)
    names = dict.fromkeys([*recipe, *before])
    values = {name: [one.get(name, defaults.get(name)) for one in (recipe, before)] for name in names}
    return {name: now for name, (now, then) in values.items() if now != then}


def describe_settings(run: RunRecord, earlier: Iterable[RunRecord]) -> str:
    """How the settings of a run differ from the defaults, or from an earlier run of the same learner that is at least
    as alike (earlier: in the order in which they were made); of a blend its runs and its method."""
    if members := run.weights.get("members"):
        method = describe_method(run)
        return f"blend of {', '.join(members)}{f' ({method})' if method else ''}"
    alike = [one for one in earlier if one.recipe and find_learner(one.recipe) == find_learner(run.recipe)]
    differences = [(find_differences(run.recipe, one.recipe), one) for one in reversed(alike)]
    found, nearest = min(differences, key=lambda pair: len(pair[0]), default=({}, None))
    from_defaults = find_differences(run.recipe, {})
    if nearest is None or len(from_defaults) < len(found):
        found, nearest = from_defaults, None
    words = write_settings(found)
    if nearest is not None:
        other = changes(nearest.params, run.params) if not found else []
        return f"like {nearest.name}: {words or '; '.join(other) or 'the same settings'}"
    return words or "the defaults"


def describe_method(run: RunRecord) -> str:
    """How a blend was made: "auto: best, mean, weights" names the methods that its folds chose."""
    method = run.weights.get("plan", {}).get("method", "")
    chosen = ", ".join(dict.fromkeys(run.weights.get("chosen", {}).values()))
    return f"{method}: {chosen}" if chosen and chosen != method else method or chosen
