"""Recipes fitted to a task before a race: rates of the base, long texts, and what else is at hand to learn with.

The shipped list is of tricks. Here come the models: backbones that are found without a network, TF-IDF, and the base's
own vectors with a classifier; recipes for long texts go where no text is long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModel

from kagglekit.competition.task import Task, read_train
from kagglekit.gains.arms import LARGER, LONGER, Arm
from kagglekit.gains.recipes import MODELS, RaceRecipe
from kagglekit.model.backbones import find_backbone, load_config, load_tokenizer, without_pooler
from kagglekit.model.catalogue import BACKBONES
from kagglekit.runs.run_knobs import PLAIN
from kagglekit.training.learning_rates import suggest_learning_rate
from kagglekit.training.model_inputs import read_inputs
from kagglekit.training.recipe import Recipe


def fit_recipes(
    work: Path, task: Task, base: Arm, recipes: Mapping[str, RaceRecipe], shipped: bool
) -> tuple[dict[str, RaceRecipe], dict[str, str]]:
    """The recipes as they fit a task, and those that are left out -> why.

    shipped: the list is ours, to which the models at hand are added.
    """
    tunes = base.settings["learner"] == "finetune" and base.settings["backbone"] not in PLAIN
    found, left_out = {}, {}
    for name, recipe in recipes.items():
        lacking = [one for one in recipe.times if base.settings[one] is None]
        if lacking and not tunes:
            left_out[name] = f"the base has no {lacking[0]}"
            continue
        if lacking:
            rate = suggest_rate(base.settings["backbone"], base.settings.get("tuning", "full"))
            values = {one: rate * recipe.times[one] for one in lacking}  # a learning rate is all that may be None
            rest = {one: factor for one, factor in recipe.times.items() if one not in lacking}
            recipe = replace(recipe, settings=recipe.settings | values, times=rest)
        found[name] = recipe
    longer = [name for name, recipe in found.items() if recipe.longer]
    if longer and (share := share_of_long(work, task, base) if tunes else 0.0) < LONGER:
        length = base.settings["max_length"]
        why = f"{100 * share:.1f} % of the texts have more than {length} tokens" if tunes else "it cuts no texts"
        left_out |= dict.fromkeys(longer, why)
        found = {name: recipe for name, recipe in found.items() if name not in longer}
    if shipped:
        found |= MODELS if tunes else {}
        more, too_large = find_backbones(base.settings) if tunes else ({}, {})
        found, left_out = found | more, left_out | too_large
    return found, left_out


def suggest_rate(backbone: str, tuning: str) -> float:
    """The learning rate that fine-tuning takes for a backbone where none is given; its weights are not read."""
    with torch.device("meta"):
        model = without_pooler(AutoModel.from_config(load_config(find_backbone(backbone))))
        return suggest_learning_rate(model, tuning)


def share_of_long(work: Path, task: Task, base: Arm) -> float:
    """The share of the texts of train that have more tokens than the base reads."""
    knobs = {name: base.settings[name] for name in Recipe.__dataclass_fields__ if name in base.settings}
    recipe = Recipe(**knobs)
    train = read_train(task, recipe.train_columns)
    tokenizer = load_tokenizer(find_backbone(base.settings["backbone"]))
    tokens = read_inputs(train, tokenizer, recipe, work / "tokens").tokens
    if recipe.chunks:
        return 0.0
    return float((tokens.lengths >= recipe.max_length).mean())


def find_backbones(settings: Mapping[str, Any]) -> tuple[dict[str, RaceRecipe], dict[str, str]]:
    """Encoders of the catalogue that are here, in a package or in the hub's cache, as recipes; of those that are much
    larger than the base, why they are not."""
    sizes = {one.name: one.size for one in BACKBONES}
    own, found, left_out = sizes.get(settings["backbone"]), {}, {}
    for one in BACKBONES:
        if one.name == settings["backbone"] or one.kind == "decoder" or not is_here(one.name):
            continue
        if own and one.size > LARGER * own:
            left_out[one.name] = f"{one.size / own:.0f} times as large as the base: name it to try it"
        else:
            found[one.name] = RaceRecipe({"backbone": one.name}, f"another backbone, {one.size} million parameters")
    return found, left_out


def is_here(name: str) -> bool:
    """Whether a backbone of the catalogue can be loaded without a network."""
    try:
        found = find_backbone(name)
    except (FileNotFoundError, ValueError):  # a package that is not installed; several inputs of that name
        return False
    cached = (try_to_load_from_cache(found, file) for file in ("model.safetensors", "pytorch_model.bin"))
    return Path(found).is_dir() or any(isinstance(one, str) for one in cached)
