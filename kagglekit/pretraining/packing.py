"""Short texts and the ends of long ones share a sequence, so that no step is spent on padding."""

import numpy as np
import pandas as pd

from kagglekit.data.batches import training_batches
from kagglekit.data.tokens import WHOLE, Tokens, chunk, join_tokens, special_ends, split_texts, tokenize
from kagglekit.pretraining.objective import Stage


def read_pieces(texts: list[str], tokenizer, stage: Stage) -> Tokens:
    """Whole texts in pieces of at most `stage.max_length` tokens: packed, or each text by itself, see `Stage.packs`.

    Nothing of any text is left out.
    """
    whole = tokenize(texts, tokenizer, WHOLE)
    return (pack if stage.packs else chunk)(whole, tokenizer, stage.max_length)


def pack(tokens: Tokens, tokenizer, max_length: int) -> Tokens:
    """Put several texts into one sequence of at most `max_length` tokens, with the tokenizer's separator between them.

    tokens: whole texts, as `tokenize` makes them with `WHOLE`. A text that fits a sequence is never cut; of a longer
    one, pieces fill sequences of their own, and the rest is packed as a text. Nothing is dropped; texts without a token
    are. In a sequence, texts stand in the order in which they came, and read each other (FULL-SENTENCES of RoBERTa; Liu
    et al., 2019, arXiv 1907.11692). The longest go first, each where it leaves the least room (best fit; Krell et al.,
    2021, arXiv 2107.02027): linear in the number of texts.
    Raises ValueError for a tokenizer that has no separator.
    """
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise ValueError("the tokenizer has no separator to put between texts: set pack=False")
    first, last = special_ends(tokenizer)
    bodies = [
        piece[len(first) : len(piece) - len(last)]
        for pieces in split_texts(tokens, tokenizer, max_length)
        for piece in pieces
    ]
    bodies = [body for body in bodies if len(body)]
    between = np.array([separator], dtype=np.int32)
    sequences = []
    for members in fit_best([len(body) for body in bodies], max_length - len(first) - len(last)):
        inner = [part for number in members for part in (between, bodies[number])][1:]
        sequences.append(np.concatenate([first, *inner, last]))
    return join_tokens(sequences or [np.concatenate([first, last])])


def fit_best(lengths: list[int], room: int, gap: int = 1) -> list[list[int]]:
    """Which items share a bin of `room`, with `gap` between two of them: lists of item numbers, each in rising order.

    Best fit of the longest first: each goes to the bin that it leaves fullest, or to a new one. No item may be longer
    than `room`. Bins come in the order of their first items.
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
    """What share of all positions is padding: where each sequence is filled to `max_length`, and in the batches of the
    first epoch, which are made of rows of like length, see `training_batches`. lengths: tokens of each sequence.
    """
    batches = training_batches(lengths, batch_size, seed)
    made = sum(len(rows) * lengths[rows].max() for rows in batches)
    return {
        "padding to max_length": 1 - lengths.sum() / (len(lengths) * max_length),
        "padding in batches": 1 - lengths.sum() / made,
    }


def show_packing(texts: list[str], tokenizer, stage: Stage) -> pd.DataFrame:
    """Sequences, steps of an epoch and shares of padding, each text by itself and packed."""
    whole = tokenize(texts, tokenizer, WHOLE)
    rows = {}
    for name, make in (("each text by itself", chunk), ("packed", pack)):
        lengths = make(whole, tokenizer, stage.max_length).lengths
        rows[name] = {"sequences": len(lengths), "steps of an epoch": -(-len(lengths) // stage.batch_size)}
        rows[name] |= padding_shares(lengths, stage.max_length, stage.batch_size, stage.seed)
    return pd.DataFrame(rows).T.round(3).astype({"sequences": int, "steps of an epoch": int})
