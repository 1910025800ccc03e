"""What training minimises. In a notebook it is data: `{}` is the default of the kind of task, `{"focal": {"gamma": 2}}`
another loss, `{"mse": {}, "pearson": {"weight": 0.5}}` a weighted sum."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight

from kagglekit.losses import functions
from kagglekit.losses.functions import squared_error
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES

__all__ = ["DEFAULTS", "LOSSES", "Loss", "check_loss", "default_loss", "fitting_losses", "make_loss", "squared_error"]


def _kinds(function: Callable, link: str, *kinds: str) -> dict[str, tuple[Callable, str]]:
    return {kind: (function, link) for kind in kinds}


LOSSES = {  # name -> kind of task -> (function, name of the link that reads the logits)
    "cross_entropy": _kinds(functions.cross_entropy, "softmax", *CLASSES)
    | _kinds(functions.cross_entropy, "expectation", "ordinal"),
    "bce": _kinds(functions.bce, "sigmoid", "multilabel"),
    "focal": _kinds(functions.focal, "softmax", *CLASSES) | _kinds(functions.focal_bce, "sigmoid", "multilabel"),
    "soft_f1": _kinds(functions.soft_f1, "softmax", *CLASSES) | _kinds(functions.soft_f1_bce, "sigmoid", "multilabel"),
    "mse": _kinds(squared_error, "identity", "regression", "ordinal"),
    "smooth_l1": _kinds(functions.smooth_l1, "identity", "regression", "ordinal"),
    "bce_scaled": _kinds(functions.bce_scaled, "unit", "regression", "ordinal"),
    "pearson": _kinds(functions.pearson, "identity", "regression", "ordinal"),
    "ranking": _kinds(functions.ranking, "identity", "regression", "ordinal"),
    "corn": _kinds(functions.corn, "corn", "ordinal"),
    "cumulative": _kinds(functions.cumulative, "cumulative", "ordinal"),
}
DEFAULTS = {**dict.fromkeys(CLASSES, "cross_entropy"), "multilabel": "bce", "regression": "mse", "ordinal": "mse"}
RULES = {  # option -> (which numbers fit, the rule in words)
    "weight": (lambda value: value >= 0, "a number, 0 or more"),
    "gamma": (lambda value: value >= 0, "a number, 0 or more"),
    "beta": (lambda value: value >= 0, "a number, 0 or more"),
    "label_smoothing": (lambda value: 0 <= value < 1, "a number from 0 to below 1"),
}
WHOLE_BATCH = (functions.soft_f1, functions.soft_f1_bce, functions.pearson, functions.ranking, functions.corn)
WEIGHTS = ("class_weights", "pos_weight")  # options with one number a class or label


@dataclass
class Loss:
    """f(logits (batch, outputs), targets) -> scalar: a weighted sum of (function, weight, options)."""

    terms: list[tuple[Callable, float, dict[str, Any]]]

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        for _, _, options in self.terms:  # tensors go to the device once: a copy at every step would wait for it
            options.update({k: v.to(logits.device) for k, v in options.items() if isinstance(v, torch.Tensor)})
        return sum(weight * function(logits, targets, **options) for function, weight, options in self.terms)

    def weighted(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The same, with the loss of each row times its weight (batch,); all weights 1 give what a call gives.

        targets: (batch, outputs). Raises ValueError for a loss that is no mean over rows.
        """
        return sum(weight * _weigh_rows(f, logits, targets, weights, o) for f, weight, o in self.terms)


def _weigh_rows(function: Callable, logits, targets, weights, options: dict[str, Any]) -> torch.Tensor:
    if function in WHOLE_BATCH:
        raise ValueError(
            f"loss: {function.__name__} is no mean over rows, so that rows cannot count more or less in it"
        )
    options = {k: v.to(logits.device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    each = torch.func.vmap(lambda row, target: function(row[None], target[None], **options))(logits, targets)
    classes = options.get("class_weights")
    mass = torch.ones_like(weights) if classes is None else targets @ classes  # a row by itself would always weigh 1
    return (weights * mass * each).sum() / mass.sum().clamp_min(torch.finfo(mass.dtype).tiny)


def fitting_losses(kind: str) -> list[str]:
    """The names of the losses that fit a kind of task."""
    return [name for name, kinds in LOSSES.items() if kind in kinds]


def default_loss(kind: str) -> Callable:
    """The loss of a kind of task: cross entropy for binary and multiclass, binary cross entropy for multilabel, squared
    error for regression and ordinal."""
    return LOSSES[DEFAULTS[kind]][kind][0]


def check_loss(recipe: dict[str, dict[str, Any]], kind: str) -> str:
    """The link that the losses of a recipe need: a name of `kagglekit.model.heads.LINKS`.

    Raises ValueError for a loss that is unknown or does not fit the kind (and says which do), for an unknown option or
    one out of range, and for losses that read the logits in different ways.
    """
    fits = ", ".join(fitting_losses(kind))
    if not isinstance(recipe, dict):
        raise ValueError(f'loss={recipe!r} must be names with options, as in {{"{fitting_losses(kind)[0]}": {{}}}}')
    for name, options in recipe.items():
        if str(name).lower() == "supcon":
            raise ValueError('loss: supervised contrastive is a trick, added to any loss: tricks={"SupCon": {}}')
        if name not in LOSSES:
            raise ValueError(f"loss: there is no loss {name!r}; for kind={kind!r} there are {fits}")
        if kind not in LOSSES[name]:
            its = ", ".join(LOSSES[name])
            raise ValueError(f"loss={name!r} does not fit kind={kind!r}: it is for {its}; kind={kind!r} has {fits}")
        knobs = ["weight", *list(inspect.signature(LOSSES[name][kind][0]).parameters)[2:]]
        if not isinstance(options, dict) or set(options) - set(knobs):
            raise ValueError(f"loss: {name} for kind={kind!r} takes the options {', '.join(knobs)}, not {options!r}")
        for option, value in options.items():
            _check_option(f"loss: {name}: {option}", option, value)
    links = {name: LOSSES[name][kind][1] for name in recipe or [DEFAULTS[kind]]}
    if len(set(links.values())) > 1:
        how = ", ".join(f"{name} by {link}" for name, link in links.items())
        raise ValueError(f"loss: losses that add up must read the logits in the same way, and these are read {how}")
    if recipe and not any(options.get("weight", 1) for options in recipe.values()):
        raise ValueError("loss: every weight is 0, so there is nothing to learn")
    return next(iter(links.values()))


def make_loss(recipe: dict[str, dict[str, Any]], kind: str, labels: np.ndarray, columns: int) -> tuple[Loss, str]:
    """The loss of a recipe, name -> options, and the name of its link; an empty recipe is the default of the kind.

    labels: of the training rows, as `competition.task.encode_labels` has them; columns: how many classes, or labels.
    Every loss takes `weight`, 1 unless said otherwise, 0 to leave it out. class_weights and pos_weight are a list, in
    the order of the classes or labels, or "balanced": rows / (classes * rows of the class), and negatives / positives.
    Raises ValueError as `check_loss` does, and for a list of the wrong length.
    """
    link = check_loss(recipe, kind)
    terms = []
    for name, options in (recipe or {DEFAULTS[kind]: {}}).items():
        options = dict(options)
        weight = float(options.pop("weight", 1))
        for option in set(WEIGHTS) & set(options):
            options[option] = _numbers(f"loss: {name}: {option}", option, options[option], labels, columns)
        terms.append((LOSSES[name][kind][0], weight, options))
    return Loss(terms), link


def _check_option(where: str, option: str, value: Any) -> None:
    if option in WEIGHTS:
        numbers = isinstance(value, list) and all(_is_number(one) and one >= 0 for one in value) and any(value)
        fits = value is None or value == "balanced" or numbers
        check_range(where, value, fits, 'None, "balanced", or a list of numbers, 0 or more and not all 0')
    else:
        fits, rule = RULES[option]
        check_range(where, value, _is_number(value) and fits(value), rule)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(where: str, option: str, value: Any, labels: np.ndarray, columns: int) -> torch.Tensor | None:
    if value is None:
        return None
    if value == "balanced":
        value = balanced_classes(labels, columns) if option == "class_weights" else balanced_positives(labels)
    check_range(where, value, len(value) == columns, f"a list of {columns} numbers, one for each class or label")
    return torch.tensor(value, dtype=torch.float32)


def balanced_classes(labels: np.ndarray, classes: int) -> list[float]:
    """n / (classes * rows of the class); a class without rows weighs 1, which is the mean over rows."""
    present = np.unique(labels)
    weights = np.ones(classes)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights.tolist()


def balanced_positives(labels: np.ndarray) -> list[float]:
    """Negatives / positives of each label, where either counts as at least 1."""
    positives = labels.sum(axis=0)
    return (np.maximum(len(labels) - positives, 1) / np.maximum(positives, 1)).tolist()
