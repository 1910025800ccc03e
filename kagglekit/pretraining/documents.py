"""Texts as pairs of neighbouring pieces, cut where sentences end."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from kagglekit.data.batches import Examples
from kagglekit.data.sentences import split_sentences
from kagglekit.data.tokens import WHOLE, join_tokens, special_ends, tokenize
from kagglekit.pretraining.words import make_word_table


def cut_places(sentences: np.ndarray, words: np.ndarray, room: int) -> list[int]:
    """Where to cut a document into an even number of pieces of like size, each of 1 to `room` tokens; with 0 and its
    end.

    sentences: (sentences,) tokens up to the end of each. words: (words,) tokens before each. Of the places that leave
    no piece too long, the end of a sentence nearest to equal sizes is taken; where there is none, the beginning of a
    word; and where there is none either, the place itself. room: 2 or more.
    """
    total = int(sentences[-1])
    n = 2 * -(-total // (2 * room))
    cuts = [0]
    for left in range(n - 1, 0, -1):  # pieces behind the next cut
        low, high = max(cuts[-1] + 1, total - left * room), min(cuts[-1] + room, total - left)
        wanted = cuts[-1] + (total - cuts[-1]) / (left + 1)
        fitting = (places[(places >= low) & (places <= high)] for places in (sentences, words))
        places = next(filter(len, fitting), np.clip([round(wanted)], low, high))
        cuts.append(int(places[np.abs(places - wanted).argmin()]))
    return [*cuts, total]


def cut_documents(texts: Sequence[str], tokenizer, room: int) -> list[list[np.ndarray]]:
    """The pieces of each text, in order, without special tokens: see `cut_places`. Texts of one token are left out.

    Where words begin is read off the vocabulary; where it does not tell, each token counts as a word.
    """
    try:
        begins = make_word_table(tokenizer).begins.numpy()
    except ValueError:
        begins = np.ones(len(tokenizer), dtype=bool)
    sentences = [split_sentences(text) for text in texts]
    first, last = special_ends(tokenizer)
    rows = iter(tokenize([sentence for text in sentences for sentence in text], tokenizer, WHOLE))
    documents = []
    for text in sentences:
        bodies = [row[len(first) : len(row) - len(last)] for row in islice(rows, len(text))]
        body = np.concatenate(bodies)
        if len(body) > 1:
            cuts = cut_places(np.cumsum([len(part) for part in bodies]), np.flatnonzero(begins[body]), room)
            documents.append(np.split(body, cuts[1:-1]))
    return documents


class PiecePairs(Examples):
    """Two neighbouring pieces of a document as one row, half of the rows with a wrong pair: `order` (rows,) is 1 there.

    documents: of `cut_documents`. wrong: "swapped", the two change places, or "other", the second is one of another
    document. Which rows have a wrong pair, and whose piece they get, is drawn anew in every epoch: `seed`, epoch and
    row decide. types: give `token_type_ids` too, 0 for the first piece and the separator behind it, 1 for the second.
    Raises ValueError for no document, and where "other" has a single one.
    """

    def __init__(self, documents: Sequence[Sequence[np.ndarray]], tokenizer, wrong: str, types: bool, seed: int):
        self.layout = pair_layout(tokenizer)
        if len(documents) < (2 if wrong == "other" else 1):
            raise ValueError(
                f"{len(documents)} texts of two tokens or more are too few for pairs: give more text, or hold more out"
            )
        self.wrong, self.types, self.seed = wrong, types, seed
        pairs = [pair for pieces in documents for pair in zip(pieces[::2], pieces[1::2], strict=True)]
        self.lengths = np.array([len(first) for first, _ in pairs])
        counts = np.array([len(pieces) // 2 for pieces in documents])
        self.counts = np.repeat(counts, counts)  # of each row: how many its document has ...
        self.starts = np.repeat(np.cumsum(counts) - counts, counts)  # ... and which is the first of them
        super().__init__(join_tokens(self._join(*pair) for pair in pairs), tokenizer.pad_token_id)

    def _join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        before, between, behind = self.layout
        return np.concatenate([before, first, between, second, behind])

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        draws = [np.random.default_rng([self.seed, self.epoch, row]) for row in rows]
        order = [int(draw.random() < 0.5) for draw in draws]
        others = list(map(self._other, rows, draws)) if self.wrong == "other" else rows
        read = list(map(self._split, self.tokens[[*rows, *others]], self.lengths[[*rows, *others]]))
        shown, starts = [], []
        for number, wrong in enumerate(order):
            first, second = read[number]
            if wrong:
                first, second = (second, first) if self.wrong == "swapped" else (first, read[len(rows) + number][1])
            shown.append(self._join(first, second))
            starts.append(len(shown[-1]) - len(second) - len(self.layout[2]))
        batch = join_tokens(shown).pad(self.pad_id)
        if self.types:
            places = torch.arange(batch["input_ids"].shape[1])
            batch["token_type_ids"] = (places >= torch.tensor(starts)[:, None]) * batch["attention_mask"]
        return {**batch, "order": torch.tensor(order)}

    def _other(self, row: int, random: np.random.Generator) -> int:
        """A row of another document."""
        drawn = int(random.integers(len(self) - self.counts[row]))  # counted without the rows of its own document
        return drawn + int(self.counts[row]) * (drawn >= self.starts[row])

    def _split(self, tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        before, between, behind = map(len, self.layout)
        return tokens[before : before + length], tokens[before + length + between : len(tokens) - behind]


def pair_layout(tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The special tokens before, between and behind two texts, int32 each."""
    before, behind = special_ends(tokenizer)
    one, two = tokenizer("a")["input_ids"], tokenizer("a", "a")["input_ids"]
    body = len(one) - len(before) - len(behind)
    between = two[len(before) + body : len(two) - len(behind) - body]
    return before, np.array(between, dtype=np.int32), behind
