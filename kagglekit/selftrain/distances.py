"""How far a student is from its teacher: in what they predict, and in their hidden states.

Hinton, Vinyals and Dean (2015, arXiv 1503.02531). Distances of single rows, so that a row can count more or less.
"""

import math

import torch
from torch.nn import functional as F

from kagglekit.model.links import LINKS

DISTRIBUTIONS = ("softmax", "sigmoid")  # links whose predictions are probabilities


def soft_cross_entropy(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """Cross entropy of a distribution against a softer label.

    logs: of the student, probs: of the teacher, (..., outcomes) -> (...). It has the gradients of `kl`.
    """
    return -(probs * logs).sum(dim=-1)


def kl(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """KL(teacher, student): 0 where they agree. Shapes as in `soft_cross_entropy`."""
    return F.kl_div(logs, probs, reduction="none").sum(dim=-1)


def cosine(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """1 minus the cosine of the two vectors of probabilities: 0 where they agree, 1 where they share no outcome."""
    return 1 - F.cosine_similarity(logs.exp(), probs, dim=-1)


def mse(logs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """The squared difference of the probabilities, a mean over the outcomes."""
    return (logs.exp() - probs).square().mean(dim=-1)


LOSSES = {"cross_entropy": soft_cross_entropy, "kl": kl, "cosine": cosine, "mse": mse}


def soften(probs: torch.Tensor, link: str, temperature: float = 1.0) -> torch.Tensor:
    """Predictions of a teacher as distributions at a temperature: (batch, columns) -> (batch, labels, outcomes).

    softmax: one label, whose outcomes are the columns; sigmoid: each column is a label that holds or not. What a
    softmax at temperature T makes of the teacher's logits is p^(1/T), scaled to sum to 1: no logits are needed.
    """
    probs = probs.float().clamp(0, 1)
    probs = probs.unsqueeze(1) if link == "softmax" else torch.stack([probs, 1 - probs], dim=-1)
    probs = probs ** (1 / temperature)
    return probs / probs.sum(dim=-1, keepdim=True)


def student_logs(logits: torch.Tensor, link: str, temperature: float = 1.0) -> torch.Tensor:
    """The logarithms of a student's distributions, in the shape that `soften` gives; logits: (batch, columns)."""
    logits = logits.float() / temperature
    if link == "softmax":
        return logits.log_softmax(dim=-1).unsqueeze(1)
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=-1)


def distribution_distance(
    logits: torch.Tensor, teacher: torch.Tensor, link: str, loss: str = "kl", temperature: float = 1.0
) -> torch.Tensor:
    """How far a student is from its teacher, in classes or labels: (batch,), a mean over the labels.

    logits, teacher (probabilities): (batch, columns). link: softmax or sigmoid. loss: a name of LOSSES. temperature:
    above 1 both are softened, so that small probabilities count; the loss times its square has gradients of about the
    same size at every temperature.
    """
    logs, probs = student_logs(logits, link, temperature), soften(teacher, link, temperature)
    return temperature**2 * LOSSES[loss](logs, probs).mean(dim=1)


def value_distance(
    logits: torch.Tensor, teacher: torch.Tensor, link: str, center: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The squared difference of the predicted values, or expected classes: (batch,), a mean over the targets.

    logits: (batch, outputs), teacher: (batch, columns). center, scale: of the model, see `Link`; values count in units
    of the scale.
    """
    unit = scale if link in ("identity", "unit") else 1.0  # levels and distributions have none
    return ((LINKS[link].decode(logits, center, scale) - teacher) / unit).square().mean(dim=-1)


def hidden_distance(
    states: list[torch.Tensor], others: list[torch.Tensor], mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The squared difference of token states of two models, a mean over real tokens, width and the student's layers.

    states, others: of student and teacher, one (batch, tokens, width) a layer. A student with fewer layers learns those
    at equal distances, the last from the last (Jiao et al., 2020, TinyBERT, arXiv 1909.10351). weights: (batch,).
    """
    places = [math.ceil((layer + 1) * len(others) / len(states)) - 1 for layer in range(len(states))]
    counts = mask.unsqueeze(-1) * weights.view(-1, 1, 1)  # (batch, tokens, 1)
    differences = [(ours.float() - others[k].float()).square() for ours, k in zip(states, places, strict=True)]
    total = sum((counts * difference).sum() for difference in differences)
    return total / (mask.sum() * states[0].shape[-1] * len(states))
