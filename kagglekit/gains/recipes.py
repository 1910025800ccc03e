"""Recipes that a race tries: each trick of the catalogue at a usual strength, poolings, rates, lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}


@dataclass(frozen=True)
class RaceRecipe:
    """Settings of `3_train` that differ from those of the base, and what they try.

    times: settings that are multiples of the base's own: {"learning_rate": 2.0} doubles it. longer: only where texts
    have more tokens than the base reads.
    """

    settings: dict[str, Any]
    words: str
    times: dict[str, float] = field(default_factory=dict)
    longer: bool = False


def _trick(name: str, words: str, **options: Any) -> RaceRecipe:
    return RaceRecipe({"tricks": {name: options}}, words)


SHIPPED: Mapping[str, RaceRecipe] = {
    "dropout": RaceRecipe(DROPOUT, "a tenth of hidden states and of attention weights dropped"),
    "rdrop": RaceRecipe({**DROPOUT, "tricks": {"RDrop": {}}}, "two passes through dropout, brought together"),
    "fgm": _trick("FGM", "adversarial word embeddings, one step, from half the training", start=0.5),
    "pgd": _trick("PGD", "adversarial word embeddings, three steps, from half the training", start=0.5),
    "awp": _trick("AWP", "adversarial weights, from half the training", start=0.5),
    "freelb": _trick("FreeLB", "adversarial word embeddings, every step learned, from half the training", start=0.5),
    "ema": _trick("EMA", "moving average of the weights, from half the training", decay=0.95, start=0.5),
    "swa": _trick("SWA", "mean of the weights at the end of training"),
    "mixup": _trick("Mixup", "hidden states and labels of two texts mixed"),
    "token_masking": _trick("TokenMasking", "tokens hidden at random"),
    "neftune": _trick("NEFTune", "noise in the word embeddings"),
    "mixout": _trick("Mixout", "weights put back to those of the backbone at random"),
    "supcon": _trick("SupCon", "texts of a class brought together"),
    "unfreezing": _trick("GradualUnfreezing", "layers trained from the top down"),
    "smoothing": RaceRecipe({"loss": {"cross_entropy": {"label_smoothing": 0.1}}}, "a tenth of each label spread"),
    "multi_sample": RaceRecipe({"head_dropout": 0.2, "dropout_samples": 5}, "five dropouts before the head, averaged"),
    "reinit": RaceRecipe({"reinit_layers": 1}, "the topmost layer begins from random weights"),
    "cls": RaceRecipe({"pooling": "cls"}, "the first token is the text vector"),
    "attention": RaceRecipe({"pooling": "attention"}, "tokens weighted by a small network"),
    "last4": RaceRecipe({"pooling": "last4_concat"}, "CLS of the last four layers joined"),
    "one_rate": RaceRecipe({"layer_decay": 1.0}, "all layers at one learning rate"),
    "rate_x2": RaceRecipe({}, "twice the learning rate", times={"learning_rate": 2.0}),
    "epochs_x2": RaceRecipe({}, "twice the epochs", times={"epochs": 2.0}),
    "eda": RaceRecipe({"augment": {"EDA": {}}}, "a changed copy of each text"),
    "head_tail": RaceRecipe({"truncation": "head_tail"}, "the beginning and the end of long texts", longer=True),
    "length_x2": RaceRecipe({}, "twice the tokens of a text", times={"max_length": 2.0}, longer=True),
}

MODELS: Mapping[str, RaceRecipe] = {  # tried besides, as are other backbones that are at hand
    "tfidf": RaceRecipe({"backbone": "tfidf"}, "words and letters, without a neural network"),
    "frozen": RaceRecipe({"learner": "frozen"}, "the backbone as it is, and a classifier on its vectors"),
}


def apply(recipe: RaceRecipe, base: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `3_train` of a recipe on top of those of a base, which must have a value for all in `times`.

    Tricks of the recipe come outside those of the base; another setting takes the place of the base's.
    """
    settings = {**base, **recipe.settings}
    if base.get("tricks") and recipe.settings.get("tricks"):
        settings["tricks"] = {**recipe.settings["tricks"], **base["tricks"]}
    for name, factor in recipe.times.items():
        settings[name] = type(base[name])(base[name] * factor)
    return settings
