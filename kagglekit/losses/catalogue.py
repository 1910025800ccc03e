"""The loss of training, by name: which losses fit a kind of task, their options, and their weighted sum.

In a notebook a loss is data: `{}` is the default of the kind of task, `{"focal": {"gamma": 2}}` is another loss,
`{"mse": {}, "pearson": {"weight": 0.5}}` is a weighted sum.

Torch is loaded where a loss is made: recipes are checked before a kernel starts, which takes less time than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kagglekit.options import check_range, did_you_mean
from kagglekit.scoring import CLASSES

if TYPE_CHECKING:
    import numpy as np
    import torch

Recipe = dict[str, dict[str, Any]]  # loss -> option -> value


def _not_negative(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_weights(value: Any) -> bool:
    return value in (None, "balanced") or (isinstance(value, list) and all(map(_not_negative, value)) and any(value))


NUMBER, WEIGHTS = "a number, 0 or more", 'None, "balanced", or a list of numbers, 0 or more and not all 0'
RULES = {  # option -> (which values fit, the rule in words)
    "weight": (_not_negative, NUMBER),
    "gamma": (_not_negative, NUMBER),
    "beta": (_not_negative, NUMBER),
    "label_smoothing": (lambda value: _not_negative(value) and value < 1, "a number from 0 to below 1"),
    "class_weights": (_are_weights, WEIGHTS),
    "pos_weight": (_are_weights, WEIGHTS),
}


@dataclass(frozen=True)
class Entry:
    """A loss for a kind of task. Raises ValueError when `RULES` does not know one of its options."""

    name: str  # of its function in `kagglekit.losses.functions`
    output_layer: str  # how its logits are read: a name of `kagglekit.model.heads.OUTPUT_LAYERS`
    own: tuple[str, ...]  # the options of its function
    by_rows: bool  # it is a mean over rows, so that rows can have weights

    def __post_init__(self):
        for option in self.options:
            if option not in RULES:
                raise ValueError(f"loss: {self.name} has an option {option!r} without a rule in RULES")

    @property
    def function(self) -> Callable[..., torch.Tensor]:
        """f(logits, targets, options) -> scalar."""
        return getattr(import_module("kagglekit.losses.functions"), self.name)

    @property
    def options(self) -> list[str]:
        """The names of its options: `weight`, and those of its function."""
        return ["weight", *self.own]


def _entries(
    name: str, output_layer: str, kinds: Iterable[str], *options: str, by_rows: bool = True
) -> dict[str, Entry]:
    return dict.fromkeys(kinds, Entry(name, output_layer, options, by_rows))


NUMBERS = ("regression", "ordinal")
LOSSES: dict[str, dict[str, Entry]] = {  # name -> kind of task -> entry
    "cross_entropy": _entries("cross_entropy", "softmax", CLASSES, "class_weights", "label_smoothing")
    | _entries("cross_entropy", "expectation", ["ordinal"], "class_weights", "label_smoothing"),
    "bce": _entries("bce", "sigmoid", ["multilabel"], "pos_weight", "label_smoothing"),
    "focal": _entries("focal", "softmax", CLASSES, "gamma", "class_weights")
    | _entries("focal_bce", "sigmoid", ["multilabel"], "gamma", "pos_weight"),
    "soft_f1": _entries("soft_f1", "softmax", CLASSES, by_rows=False)
    | _entries("soft_f1_bce", "sigmoid", ["multilabel"], by_rows=False),
    "mse": _entries("squared_error", "identity", NUMBERS),
    "smooth_l1": _entries("smooth_l1", "identity", NUMBERS, "beta"),
    "bce_scaled": _entries("bce_scaled", "unit", NUMBERS),
    "pearson": _entries("pearson", "identity", NUMBERS, by_rows=False),
    "ranking": _entries("ranking", "identity", NUMBERS, by_rows=False),
    "corn": _entries("corn", "corn", ["ordinal"], by_rows=False),
    "cumulative": _entries("cumulative", "cumulative", ["ordinal"]),
}
DEFAULTS = {**dict.fromkeys(CLASSES, "cross_entropy"), "multilabel": "bce", "regression": "mse", "ordinal": "mse"}


@dataclass
class Loss:
    """f(logits (batch, outputs), targets) -> scalar: a weighted sum of (entry, weight, options)."""

    terms: list[tuple[Entry, float, dict[str, Any]]]

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        import torch

        for _, _, options in self.terms:  # tensors go to the device once: a copy at every step would wait for it
            options.update({k: v.to(logits.device) for k, v in options.items() if isinstance(v, torch.Tensor)})
        return sum(weight * entry.function(logits, targets, **options) for entry, weight, options in self.terms)

    def weighted(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The loss with each row times its weight (batch,); weights of 1 give the same as a call.

        targets: (batch, outputs). Raises ValueError for a loss that is no mean over rows.
        """
        return sum(weight * _weigh_rows(entry, logits, targets, weights, o) for entry, weight, o in self.terms)


def _weigh_rows(entry: Entry, logits, targets, weights, options: dict[str, Any]) -> torch.Tensor:
    import torch

    function = entry.function
    if not entry.by_rows:
        raise ValueError(f"loss: {entry.name} is no mean over rows, so that rows cannot count more or less in it")
    options = {k: v.to(logits.device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    each = torch.func.vmap(lambda row, target: function(row[None], target[None], **options))(logits, targets)
    classes = options.get("class_weights")
    mass = torch.ones_like(weights) if classes is None else targets @ classes  # a row by itself would always weigh 1
    return (weights * mass * each).sum() / mass.sum().clamp_min(torch.finfo(mass.dtype).tiny)


def fitting_losses(kind: str) -> list[str]:
    """The names of the losses that fit a kind of task."""
    return [name for name, kinds in LOSSES.items() if kind in kinds]


def default_loss(kind: str) -> Callable:
    """The default loss of a kind of task: cross entropy, binary cross entropy for multilabel, squared error for
    regression and ordinal."""
    return LOSSES[DEFAULTS[kind]][kind].function


def check_loss_names(recipe: Recipe) -> None:
    """Raise ValueError for a loss or an option that no kind of task has, and for an option out of range."""
    for name, options in recipe.items():
        if str(name).lower() == "supcon":
            raise ValueError('loss: supervised contrastive is a trick, added to any loss: tricks={"SupCon": {}}')
        if name not in LOSSES:
            meant = did_you_mean(str(name), LOSSES)
            every = f"{meant} There are" if meant else "; there are"
            raise ValueError(f"loss: there is no loss {name!r}{every} {', '.join(LOSSES)}")
        known = list(dict.fromkeys(option for entry in LOSSES[name].values() for option in entry.options))
        if not isinstance(options, dict) or set(options) - set(known):
            odd = [one for one in options if one not in known] if isinstance(options, dict) else []
            meant = did_you_mean(odd[0], known) if odd else ""
            raise ValueError(f"loss: {name} takes the options {', '.join(known)}, not {options!r}{meant}")
        for option, value in options.items():
            fitting, rule = RULES[option]
            check_range(f"loss: {name}: {option}", value, fitting(value), rule)


def check_loss(recipe: Recipe, kind: str) -> str:
    """Check a recipe, and return the output layer that its losses need: a name of `model.heads.OUTPUT_LAYERS`.

    Raises ValueError for a loss that is unknown or does not fit the kind (and says which do), for an unknown option or
    one out of range, and for losses that read the logits in different ways.
    """
    fits = ", ".join(fitting_losses(kind))
    if not isinstance(recipe, dict):
        raise ValueError(f'loss={recipe!r} must be names with options, as in {{"{fitting_losses(kind)[0]}": {{}}}}')
    check_loss_names(recipe)
    for name, options in recipe.items():
        if kind not in LOSSES[name]:
            its = ", ".join(LOSSES[name])
            raise ValueError(f"loss={name!r} does not fit kind={kind!r}: it is for {its}; kind={kind!r} has {fits}")
        known = LOSSES[name][kind].options
        if set(options) - set(known):
            raise ValueError(f"loss: {name} for kind={kind!r} takes the options {', '.join(known)}, not {options!r}")
    layers = {name: LOSSES[name][kind].output_layer for name in recipe or [DEFAULTS[kind]]}
    if len(set(layers.values())) > 1:
        how = ", ".join(f"{name} by {layer}" for name, layer in layers.items())
        raise ValueError(f"loss: losses that add up must read the logits in the same way, and these are read {how}")
    if recipe and not any(options.get("weight", 1) for options in recipe.values()):
        raise ValueError("loss: every weight is 0, so there is nothing to learn")
    return next(iter(layers.values()))


def make_loss(recipe: Recipe, kind: str, labels: np.ndarray, columns: int) -> tuple[Loss, str]:
    """The loss of a recipe, and the name of its output layer; an empty recipe is the default of the kind of task.

    labels: of the training rows, as `competition.task.encode_labels` has them; columns: how many classes, or labels.
    Every loss takes `weight`: 1 by default, 0 leaves it out. class_weights and pos_weight are a list, in the order of
    the classes or labels, or "balanced": rows / (classes * rows of the class), and negatives / positives.
    Raises ValueError as `check_loss` does, and for a list of the wrong length.
    """
    import torch

    output_layer, terms = check_loss(recipe, kind), []
    for name, options in (recipe or {DEFAULTS[kind]: {}}).items():
        options = dict(options)
        weight = float(options.pop("weight", 1))
        for option, value in options.items():
            if value == "balanced":
                value = _balance(option, labels, columns)
            if isinstance(value, list):
                rule = f"a list of {columns} numbers, one for each class or label"
                check_range(f"loss: {name}: {option}", value, len(value) == columns, rule)
                options[option] = torch.tensor(value, dtype=torch.float32)
        terms.append((LOSSES[name][kind], weight, options))
    return Loss(terms), output_layer


def _balance(option: str, labels: np.ndarray, columns: int) -> list[float]:
    """Weights from the labels: a class without rows weighs 1, the mean over rows; positives and negatives count as at
    least 1."""
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    if option == "pos_weight":
        positives = labels.sum(axis=0)
        return (np.maximum(len(labels) - positives, 1) / np.maximum(positives, 1)).tolist()
    present, weights = np.unique(labels), np.ones(columns)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights.tolist()
