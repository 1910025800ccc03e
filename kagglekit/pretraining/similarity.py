"""How good text vectors are without a task: alignment, uniformity and retrieval. All but the last take tensors."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from kagglekit.data.tokens import Tokens, join_tokens, special_ends

MOST = 2000  # texts that are measured: all pairs of them are looked at


def alignment(vectors: torch.Tensor, others: torch.Tensor) -> float:
    """How far apart the two texts of a pair are: the mean squared distance of unit vectors, from 0 (the same) to 4
    (Wang and Isola, 2020, arXiv 2005.10242). vectors, others: (pairs, width)."""
    return float((F.normalize(vectors, dim=1) - F.normalize(others, dim=1)).square().sum(dim=1).mean())


def uniformity(vectors: torch.Tensor) -> float:
    """How evenly texts spread over the sphere: log of the mean of exp(-2 squared distance) over all pairs of unit
    vectors, from 0 (all in one place) down to about -4 (Wang and Isola, 2020). vectors: (texts, width)."""
    return float(torch.pdist(F.normalize(vectors, dim=1)).square().mul(-2).exp().mean().log())


def recall_at_1(vectors: torch.Tensor, others: torch.Tensor) -> float:
    """The share of `vectors` whose nearest one of `others`, by cosine, is their own; both (texts, width)."""
    nearest = (F.normalize(vectors, dim=1) @ F.normalize(others, dim=1).T).argmax(dim=1)
    return float((nearest == torch.arange(len(nearest))).float().mean())


def same_class(vectors: torch.Tensor, classes: torch.Tensor, n: int) -> float:
    """The share of the first `n` texts whose nearest other one of all texts, by cosine, is of their class.

    vectors: (texts, width). classes: (texts,).
    """
    unit = F.normalize(vectors, dim=1)
    scores = (unit[:n] @ unit.T).fill_diagonal_(-torch.inf)  # (n, texts)
    return float((classes[scores.argmax(dim=1)] == classes[:n]).float().mean())


def halve(tokens: Tokens, tokenizer) -> tuple[Tokens, Tokens] | None:
    """The first and the second half of each text, with special tokens of their own; None where no text has two tokens.

    tokens: as `tokenize` makes them. Texts of one token are left out.
    """
    first, last = special_ends(tokenizer)
    bodies = [text[len(first) : len(text) - len(last)] for text in tokens]
    bodies = [body for body in bodies if len(body) > 1]
    if not bodies:
        return None
    parts = [np.split(body, [(len(body) + 1) // 2]) for body in bodies]
    begins, ends = (join_tokens(np.concatenate([first, pair[k], last]) for pair in parts) for k in (0, 1))
    return begins, ends


def make_figures(embed: Callable[[Tokens], torch.Tensor], whole: Tokens, tokenizer) -> Callable[[], dict[str, float]]:
    """A function that gives the figures of the vectors of `whole`, texts that nothing was trained on.

    Pairs are the two halves of a text: how far apart they are (alignment), and how often the first half finds its
    second half among those of all texts (recall_at_1). uniformity: of the whole texts. At most MOST texts are read. A
    figure that so few texts do not have is NaN. embed: tokens -> vectors (texts, width), of the model as it is.
    """
    whole = whole[np.arange(min(len(whole), MOST))]
    halves = halve(whole, tokenizer)

    def measure() -> dict[str, float]:
        begins, ends = map(embed, halves) if halves else (None, None)
        return {
            "alignment": alignment(begins, ends) if halves else math.nan,
            "uniformity": uniformity(embed(whole)) if len(whole) > 1 else math.nan,
            "recall_at_1": recall_at_1(begins, ends) if halves else math.nan,
        }

    return measure
