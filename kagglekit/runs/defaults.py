"""Defaults that a recipe leaves to this version: recorded with a run, which goes on with those that it began with."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from typing import Any

from transformers import PretrainedConfig

from kagglekit.declared import read_augmenters, read_tricks
from kagglekit.decoders.lora_options import ADAPTED, LoraOptions
from kagglekit.losses.catalogue import LOSSES
from kagglekit.model.pooling import choose_pooling
from kagglekit.options import Knobs, knobs_of


def find_defaults(recipe: Knobs, kind: str, config: PretrainedConfig) -> dict[str, Any]:
    """What a recipe does not say, and other knobs do not record: "tricks: FGM: epsilon" -> 1.0, "pooling" -> "mean".

    That is the pooling of "auto", and the options of tricks, augmenters, losses and adapters that are not given. kind:
    of task. config: of the backbone.
    """
    found = {"pooling": choose_pooling("auto", config)} if recipe.pooling == "auto" and not recipe.verbalizer else {}
    for name, given, known in _options(recipe, kind):
        left = {option: value for option, value in known.items() if option not in given and value is not MISSING}
        found |= {f"{name}: {option}": value for option, value in left.items()}
    return json.loads(json.dumps(found))  # as a run's record has them


def _options(recipe: Knobs, kind: str) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Whatever takes options in a recipe: its place, the options that are given, and the defaults of all."""
    for knob, known in (("tricks", read_tricks()), ("augment", read_augmenters())):
        for name, given in getattr(recipe, knob).items():
            yield f"{knob}: {name}", given, {one.name: one.default for one in known[name].knobs.values()}
    for name, given in recipe.loss.items():
        entry = LOSSES[name][kind]
        signature = inspect.signature(entry.function).parameters
        yield f"loss: {name}", given, {option: signature[option].default for option in entry.own}
    if recipe.tuning in ADAPTED:
        yield "lora", recipe.lora, {one.name: one.default for one in knobs_of(LoraOptions).values()}


def changed_defaults(begun: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Those with which a run began that are others now. Both: as of `find_defaults`; what only one of them has is an
    option that a version added, or no longer has."""
    return {name: value for name, value in begun.items() if name in now and now[name] != value}


def fill_in_defaults(recipe: Knobs, begun: Mapping[str, Any]) -> Knobs:
    """A recipe that says what it left to its version, such as {"lora: r": 16}."""
    filled: dict[str, Any] = {}
    for name, value in begun.items():
        knob, *path, option = name.split(": ") if ": " in name else ("", name)
        if not knob:
            filled[option] = value
            continue
        inner = filled.setdefault(knob, json.loads(json.dumps(getattr(recipe, knob))))
        for step in path:
            inner = inner[step]
        inner[option] = value
    return replace(recipe, **filled)


def describe_defaults(changed: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, that a run goes on with other defaults than it would begin with now."""
    listed = ", ".join(f"{name} {value!r} (now {now[name]!r})" for name, value in changed.items())
    return f"this run goes on with the defaults that it began with: {listed}"


def describe_precisions(folds: Mapping[int, str], now: str) -> str:
    """In which precisions the folds of a run were learned, and are here: "fold 0, 1 in fp32, here in bf16"; empty where
    it is the same."""
    if not set(folds.values()) - {now}:
        return ""
    found = {one: [str(fold) for fold in folds if folds[fold] == one] for one in dict.fromkeys(folds.values())}
    return ", ".join([*(f"fold {', '.join(each)} in {one}" for one, each in found.items()), f"here in {now}"])
