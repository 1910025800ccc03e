"""Masked-language modelling (Devlin et al., 2019), as further pretraining (Sun et al., 2019, arXiv 1905.05583).

Texts are packed: short ones and the ends of long ones share a sequence, so that no step is spent on padding.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.data.batches import Examples, prediction_batches, training_batches
from kagglekit.data.chunks import chunk, split_texts
from kagglekit.data.tokens import WHOLE, Tokens, join_tokens, special_ends, tokenize
from kagglekit.device import autocast, choose_precision, random_state_kept
from kagglekit.pretraining.masking import Masking
from kagglekit.pretraining.objective import Prepared, Setup
from kagglekit.pretraining.stage_knobs import Stage


def prepare_mlm(setup: Setup) -> Prepared:
    """Predict the tokens that the masking hides; measured by the perplexity on the hidden tokens of held-out texts.

    Whole texts are read, see `read_pieces`. A backbone that was saved without its head gets a new one; the model is
    saved with its head. There are no options.
    """
    model = setup.load(AutoModelForMaskedLM)
    train, valid = read_examples(setup)
    masked = MaskedLM(model)

    def measure() -> dict[str, float]:
        return {"perplexity": perplexity(masked, valid, setup.masking, choose_precision())}

    return Prepared(masked, train, masked_cross_entropy, [setup.masking], measure, model)


class MaskedLM(nn.Module):
    """A masked-language model whose head reads the chosen tokens only: a seventh of the work of a large vocabulary."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.backbone.register_forward_hook(self._keep_chosen)
        self._chosen: torch.Tensor | None = None

    @property
    def backbone(self) -> nn.Module:
        return self.model.base_model

    def _keep_chosen(self, module, args, output):
        if self._chosen is None:  # the backbone is called by itself, as a probe does
            return output
        kept = output["last_hidden_state"][self._chosen]  # (chosen, width)
        self._count = len(kept)
        kept = F.pad(kept, (0, 0, 0, -len(kept) % 128))  # few shapes: oneDNN keeps a kernel, and memory, for each
        output["last_hidden_state"] = kept[None]
        return output

    def forward(self, input_ids, attention_mask, chosen) -> dict[str, torch.Tensor]:
        """Logits of the `chosen` (batch, tokens) positions: (chosen, vocabulary)."""
        self._chosen = chosen
        try:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[0]
        finally:
            self._chosen = None
        return {"logits": logits[: self._count]}


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the chosen tokens; 0 for a batch in which none was chosen."""
    return summed_loss(logits, labels) / max(len(labels), 1)


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sum of the cross entropies of hidden tokens: logits (chosen, vocabulary), labels (chosen,)."""
    return F.cross_entropy(logits, labels, reduction="sum")


@torch.inference_mode()
def evaluate_hidden(
    model: nn.Module,
    examples: Examples,
    masking: Masking,
    precision: str,
    figure: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], Any],
    seed: int = 0,
) -> list[Any]:
    """`figure(batch, outputs)` for each batch of `examples` with hidden tokens: a list. A batch has its `labels`.

    The same tokens are hidden at every call with the same seed. Mode and random state stay as they were.
    """
    device, training, found = next(model.parameters()).device, model.training, []
    model.eval()
    try:
        with random_state_kept(), autocast(device, precision):
            torch.manual_seed(seed)
            for rows in prediction_batches(examples.tokens.lengths, 4096):
                batch = {name: x.to(device) for name, x in examples.__getitems__(rows.tolist()).items()}
                batch = masking.hide(batch)
                read = {name: x for name, x in batch.items() if name not in ("labels", "order")}
                found.append(figure(batch, model(**read)))
    finally:
        model.train(training)
    return found


def perplexity(model: nn.Module, examples: Examples, masking: Masking, precision: str, seed: int = 0) -> float:
    """exp of the mean loss on the hidden tokens of `examples`: NaN of no token, infinite for a model that diverged."""

    def losses(batch, outputs):
        return float(summed_loss(outputs["logits"].float(), batch["labels"])), len(batch["labels"])

    return exp_of_mean(evaluate_hidden(model, examples, masking, precision, losses, seed))


def exp_of_mean(losses: list[tuple[float, int]]) -> float:
    """The perplexity of summed losses and their numbers of tokens, batch by batch."""
    loss, count = 0.0, 0
    for summed, tokens in losses:
        loss, count = loss + summed, count + tokens
    return float(torch.tensor(loss / count, dtype=torch.float64).exp()) if count else math.nan


def read_examples(setup: Setup) -> tuple[Examples, Examples]:
    """The pieces of the texts to train on, and of the held-out ones."""
    pad_id, parts = setup.tokenizer.pad_token_id, (setup.texts, setup.held_out)
    train, valid = (Examples(read_pieces(texts, setup.tokenizer, setup.stage), pad_id) for texts in parts)
    return train, valid


def read_pieces(texts: list[str], tokenizer, stage: Stage) -> Tokens:
    """Whole texts in pieces of at most `stage.max_length` tokens: packed, or each text by itself, see `Stage.packs`."""
    whole = tokenize(texts, tokenizer, WHOLE)
    return (pack if stage.packs else chunk)(whole, tokenizer, stage.max_length)


def pack(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Put several texts into one sequence of at most `max_length` tokens, with the tokenizer's separator between them.

    tokens: whole texts, from `tokenize` with `WHOLE`; those without a token are left out. A text that fits a sequence
    is never split; a longer one fills sequences of its own, and its rest is packed as a text. Texts of a sequence keep
    their order, and read each other (FULL-SENTENCES of RoBERTa; Liu et al., 2019, arXiv 1907.11692). The longest go
    first, each where it leaves the least room (best fit; Krell et al., 2021, arXiv 2107.02027): linear in the number of
    texts. Raises ValueError for a tokenizer without a separator.
    """
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise ValueError("the tokenizer has no separator to put between texts: set pack=False")
    first, last = special_ends(tokenizer)
    pieces = (piece for pieces in split_texts(tokens, tokenizer, max_length) for piece in pieces)
    bodies = [body for piece in pieces if len(body := piece[len(first) : len(piece) - len(last)])]
    between = np.array([separator], dtype=np.int32)
    sequences = []
    for members in fit_best([len(body) for body in bodies], max_length - len(first) - len(last)):
        inner = [part for number in members for part in (between, bodies[number])][1:]
        sequences.append(np.concatenate([first, *inner, last]))
    return join_tokens(sequences or [np.concatenate([first, last])])


def fit_best(lengths: list[int], room: int, gap: int = 1) -> list[list[int]]:
    """Best fit, the longest first: bins of `room` as lists of item numbers in rising order, `gap` between two items.

    Each item goes to the bin that it leaves fullest, or to a new one; none may be longer than `room`. Bins come in the
    order of their first items.
    """
    bins: list[list[int]] = []
    free: dict[int, list[int]] = {}  # room that is left -> bins
    open_rooms = 0  # bit n is set where a bin has room n left: the smallest that is enough is found in one step
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        needed = lengths[item] + gap
        enough = open_rooms >> needed
        if enough:
            had = needed + (enough & -enough).bit_length() - 1
            place, left = free[had].pop(), had - needed
            open_rooms ^= 0 if free[had] else 1 << had
            bins[place].append(item)
        else:
            place, left = len(bins), room - lengths[item]
            bins.append([item])
        free.setdefault(left, []).append(place)
        open_rooms |= 1 << left
    return sorted(sorted(members) for members in bins)


def padding_shares(lengths: np.ndarray, max_length: int, batch_size: int, seed: int = 0) -> dict[str, float]:
    """The share of padding in all positions, filled up to `max_length` and in the length-grouped batches of an epoch.

    lengths: tokens of each sequence. See `training_batches`.
    """
    made = sum(len(rows) * lengths[rows].max() for rows in training_batches(lengths, batch_size, seed))
    return {
        "padding to max_length": 1 - lengths.sum() / (len(lengths) * max_length),
        "padding in batches": 1 - lengths.sum() / made,
    }


def show_packing(texts: list[str], tokenizer, stage: Stage) -> pd.DataFrame:
    """Sequences, steps of an epoch and shares of padding, for each text by itself and for packed ones."""
    whole = tokenize(texts, tokenizer, WHOLE)
    rows = {}
    for name, make in (("each text by itself", chunk), ("packed", pack)):
        lengths = make(whole, tokenizer, stage.max_length).lengths
        rows[name] = {"sequences": len(lengths), "steps of an epoch": -(-len(lengths) // stage.batch_size)}
        rows[name] |= padding_shares(lengths, stage.max_length, stage.batch_size, stage.seed)
    table = pd.DataFrame(rows).T.round(3).astype({"sequences": int, "steps of an epoch": int})
    table.attrs["percent"] = [name for name in table if name.startswith("padding")]
    return table
