"""Uncertainty-aware self-training (Mukherjee and Awadallah, 2020, arXiv 2006.15315).

A model predicts several times with its dropout on. Where the predictions differ it is uncertain, which a single
probability does not show. Rows are drawn class by class: easy ones, on which the passes agree, or hard ones, on which
they do not and there is most to learn; the less the passes vary, the more a row counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.device import autocast, random_state_kept
from kagglekit.progress import track
from kagglekit.scoring.metrics import CLASSES
from kagglekit.selftraining.pseudo_labels import Prediction, find_groups

TINY = 1e-10


def entropy(probs: np.ndarray) -> np.ndarray:
    """Of distributions over the last axis, in nats."""
    return -(probs * np.log(probs.clip(TINY))).sum(axis=-1)


def bald(draws: np.ndarray, kind: str) -> np.ndarray:
    """BALD, Bayesian active learning by disagreement (rows,): the entropy of the mean prediction less the mean entropy
    of the predictions; 0 where all passes agree (Houlsby et al., 2011, arXiv 1112.5745).

    draws: (passes, rows, columns). For several labels the mean of each one's; for values the share of the passes'
    variance in all variance, from 0 to 1.
    """
    draws = draws.astype(np.float64)
    if kind == "multilabel":
        draws = np.stack([draws, 1 - draws], axis=-1)
    elif kind not in CLASSES:
        return share_of_variance(draws)
    gain = entropy(draws.mean(axis=0)) - entropy(draws).mean(axis=0)
    return gain.reshape(len(gain), -1).mean(axis=1).clip(0)


def share_of_variance(draws: np.ndarray) -> np.ndarray:
    """The variance of values over the passes, as a share of it plus the variance between rows; the mean over targets,
    (rows,)."""
    within, between = draws.var(axis=0), draws.mean(axis=0).var(axis=0)
    return (within / (within + between).clip(TINY)).mean(axis=1)


def variance(draws: np.ndarray, kind: str) -> np.ndarray:
    """The variance of the predicted class's probability over the passes (rows,); the mean over several labels; for
    values `share_of_variance`."""
    draws = draws.astype(np.float64)
    if kind in CLASSES:
        predicted = draws.mean(axis=0).argmax(axis=1)
        return draws.var(axis=0)[np.arange(len(predicted)), predicted]
    return draws.var(axis=0).mean(axis=1) if kind == "multilabel" else share_of_variance(draws)


def confidence_weights(variances: np.ndarray) -> np.ndarray:
    """Minus log of the variance of each row, scaled to a mean of 1: float32 (rows,), none below 0."""
    weights = -np.log(variances.astype(np.float64).clip(TINY, 1.0))
    return (weights / max(weights.mean(), TINY)).astype(np.float32) if len(weights) else np.zeros(0, np.float32)


def draw_rows(guess: Prediction, kind: str, top: int, sample: str, seed: int) -> np.ndarray:
    """`top` rows of each group (all where it has fewer), drawn without replacement: row numbers, rising.

    sample: "easy" draws in proportion to 1 - BALD, where that is above 0; "hard" in proportion to BALD. The rows of the
    lowest BALD alone would teach nothing.
    """
    random, drawn = np.random.default_rng(seed), np.zeros(len(guess.mean), dtype=bool)
    asked = ~np.isnan(guess.mean).any(axis=1)
    share = np.where(sample == "easy", 1 - guess.uncertainty, guess.uncertainty)
    for group in find_groups(guess.mean, kind).T:
        members = np.flatnonzero(group & asked)
        chances = share[members].astype(np.float64).clip(1e-6)  # a row without a chance is drawn last, not never
        if len(members):
            drawn[random.choice(members, min(top, len(members)), replace=False, p=chances / chances.sum())] = True
    return np.flatnonzero(drawn)


@contextmanager
def dropout_on(model: nn.Module, share: float | None = None) -> Iterator[None]:
    """A context with dropout on and all else as in prediction: norms keep their running means, and the head draws one
    sample of its dropout, not several as in training.

    share: of every dropout, None as each one is. Modes and shares are restored, also after an exception.
    """
    modes = [(module, module.training) for module in model.modules()]
    shares = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    try:
        for module, _ in modes:
            module.training = module is not model and not isinstance(module, _NormBase)
        for module, p in shares:
            module.p = p if share is None else share
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, p in shares:
            module.p = p


@torch.inference_mode()
def draw_predictions(
    model: nn.Module, examples: Examples, precision: str, passes: int, seed: int, dropout: float | None = None
) -> np.ndarray:
    """The predictions of a `Classifier` in `passes` passes with dropout: (passes, rows, columns) float32.

    dropout: share of every dropout in these passes; None as the model was trained. The same seed gives the same passes,
    and random generators stay as they were. Costs a prediction of all rows for each pass. Raises ValueError for a model
    whose dropouts are all 0.
    """
    if dropout is None and not has_dropout(model):
        raise ValueError(
            "ust compares passes through dropout, and the model has none: train it with dropout=0.1, or say "
            'pseudo={"dropout": 0.1}, a dropout for these passes alone'
        )
    device = next(model.parameters()).device
    order = prediction_batches(examples.tokens.lengths, 2048 if device.type == "cpu" else 16384)
    back, draws = np.argsort(np.concatenate(order)), []
    with random_state_kept(), dropout_on(model, dropout), autocast(device, precision):
        for number in track(range(passes), "passes with dropout", "pass"):
            torch.manual_seed(1000 * seed + number)
            found = []
            for rows in order:
                batch = {name: x.to(device, non_blocking=True) for name, x in examples.__getitems__(rows).items()}
                batch.pop("labels", None)
                found.append(model.predictions(model(**batch)["logits"]))
            draws.append(torch.cat(found).cpu().numpy()[back])
    return np.stack(draws)


def has_dropout(model: nn.Module) -> bool:
    """Whether one of a model's dropouts is above 0; those of attention may be numbers of its module."""
    numbers = ("attention_dropout", "dropout_prob", "dropout")
    drops = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    drops += [getattr(module, name, 0) for module in model.backbone.modules() for name in numbers]
    return any(isinstance(drop, float) and drop > 0 for drop in drops)


def summarise(draws: np.ndarray, kind: str) -> Prediction:
    """The passes (passes, rows, columns) as a mean, the rows' BALD, and the variance of their labels."""
    mean = draws.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Prediction(mean, bald(draws, kind).astype(np.float32), variance(draws, kind).astype(np.float32))
