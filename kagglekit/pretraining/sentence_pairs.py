"""Masked-language modelling of two pieces of text, and whether they belong together.

Next sentence (Devlin et al., 2019, arXiv 1810.04805): does the second piece follow the first, or is it from another
text? Sentence order (ALBERT; Lan et al., 2020, arXiv 1909.11942): do two neighbours stand in the order of the text?
"""

import inspect
import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.competition.text_columns import split_columns
from kagglekit.data.batches import Examples
from kagglekit.data.layout import find_layout
from kagglekit.data.tokens import WHOLE, join_tokens, special_ends, tokenize
from kagglekit.data.words import split_sentences
from kagglekit.device import choose_precision
from kagglekit.model.backbones import load_backbone
from kagglekit.model.pooling.over_tokens import apply_pooler, first_token
from kagglekit.options import check_range
from kagglekit.pretraining.masking import Masking
from kagglekit.pretraining.mlm import MaskedLM, evaluate_hidden, exp_of_mean, masked_cross_entropy, summed_loss
from kagglekit.pretraining.objective import Prepared, Setup
from kagglekit.pretraining.word_starts import make_word_table
from kagglekit.tricks.trick import Trick, knob, trick


def prepare_pairs(setup: Setup, wrong: str) -> Prepared:
    """Predict the hidden tokens of two neighbouring pieces, and whether they are a right pair, as half of them are.

    wrong: see `PiecePairs`: "swapped" is sentence order, "other" next sentence. Options: weight (1.0) of the pair loss
    beside that of the tokens; 0 is masked-language modelling of pairs. A text is split into pieces of at most half of
    `max_length`, where sentences end, English or Chinese, or inside a longer one; only texts of one token are left out,
    and nothing is packed. Pieces have `token_type_ids` 0 and 1 where the backbone has types. Measured by
    `measure_pairs`. The model is saved with its masked-language head, and with the backbone's pooler where it has one,
    which pooling "pooler" reads; the linear layer of the pairs is new in each stage.
    Raises ValueError for an option out of range and too few texts.
    """
    weight, stage, tokenizer = setup.options["weight"], setup.stage, setup.tokenizer
    check_range("weight", weight, 0 <= weight < math.inf, "0 or more")
    special = find_layout(tokenizer).special(2)
    room = (stage.max_length - special) // 2
    check_range("max_length", stage.max_length, room >= 2, f"{special + 4} or more for two pieces of two tokens")
    whole = setup.load(AutoModelForMaskedLM)
    pooler = getattr(load_backbone(setup.backbone, pooler=True), "pooler", None)
    model = PairedLM(MaskedLM(whole), pooler)
    has_types = "token_type_ids" in inspect.signature(model.backbone.forward).parameters
    types = has_types and getattr(whole.config, "type_vocab_size", 0) > 1
    train, valid = (
        PiecePairs(split_documents(part, tokenizer, room), tokenizer, wrong, types, stage.seed)
        for part in (setup.texts, setup.held_out)
    )

    def measure() -> dict[str, float]:
        return measure_pairs(model, valid, setup.masking, choose_precision())

    def state() -> dict[str, torch.Tensor]:
        pooled = pooler.state_dict() if pooler is not None else {}
        return whole.state_dict() | {f"{whole.base_model_prefix}.pooler.{name}": x for name, x in pooled.items()}

    return Prepared(model, train, masked_cross_entropy, [PairLoss(weight), setup.masking], measure, whole, state)


class PairedLM(nn.Module):
    """A masked-language model that also decides, from the first token's vector, whether two pieces belong together.

    pooler: of the backbone, a linear layer and tanh; None is a new one. On it is a linear layer with two outputs.
    """

    def __init__(self, masked: MaskedLM, pooler: nn.Module | None = None):
        super().__init__()
        self.masked = masked
        width = masked.backbone.config.hidden_size
        self.pooler = pooler or nn.Linear(width, width)
        self.head = nn.Linear(width, 2)
        self._types: dict[str, torch.Tensor] | None = None  # None where the backbone is called by itself
        self._states: torch.Tensor | None = None
        # around what `MaskedLM` does: the types go in, and the states of all tokens come out before it picks its own
        masked.model.register_forward_pre_hook(self._add_types, with_kwargs=True)
        masked.backbone.register_forward_hook(self._keep_states, prepend=True)

    @property
    def backbone(self) -> nn.Module:
        return self.masked.backbone

    def _add_types(self, module, args, inputs):
        return args, inputs | (self._types or {})

    def _keep_states(self, module, args, output):
        if self._types is not None:
            self._states = output["last_hidden_state"]  # (batch, tokens, width)

    def forward(self, input_ids, attention_mask, chosen, token_type_ids=None) -> dict[str, torch.Tensor]:
        """logits: of the `chosen` tokens (chosen, vocabulary); pair: (batch, 2), the second column for a wrong pair."""
        self._types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        try:
            outputs = self.masked(input_ids, attention_mask, chosen)
            pooled = apply_pooler(self.pooler, first_token(self._states, attention_mask))  # (batch, width)
        finally:
            self._types = self._states = None
        return {**outputs, "pair": self.head(pooled).float()}


@trick
class PairLoss(Trick):
    """Adds `weight` times the cross entropy of the pairs to the loss of the tokens.

    It takes `order` (batch,), 1 for a wrong pair, out of the inputs.
    """

    mean = ("pairs_", "mean pair loss")
    pairs_ = 0.0  # sum over the steps

    weight: float = knob(1.0, "0 learns from the tokens alone", least=0)

    def compute_loss(self, compute, model, inputs):
        loss, outputs = compute({name: value for name, value in inputs.items() if name != "order"})
        pairs = F.cross_entropy(outputs["pair"], inputs["order"])
        self.steps_ += 1
        self.pairs_ = self.pairs_ + pairs.detach()
        return loss + self.weight * pairs, outputs


def measure_pairs(
    model: PairedLM, examples: "PiecePairs", masking: Masking, precision: str, seed: int = 0
) -> dict[str, float]:
    """perplexity: exp of the mean loss on the hidden tokens. pair_accuracy: share of the pairs, half of them wrong,
    that are recognised. The same tokens are hidden, and the same pairs shown, at every call with the same seed."""

    def compare(batch, outputs):
        loss = float(summed_loss(outputs["logits"].float(), batch["labels"]))
        return (loss, len(batch["labels"])), int((outputs["pair"].argmax(dim=1) == batch["order"]).sum())

    losses, right = zip(*evaluate_hidden(model, examples, masking, precision, compare, seed), strict=True)
    return {"perplexity": exp_of_mean(losses), "pair_accuracy": sum(right) / len(examples)}


class PiecePairs(Examples):
    """Two neighbouring pieces of a document as one row, half of the rows with a wrong pair: `order` (rows,) is 1 there.

    documents: from `split_documents`. wrong: "swapped", the two change places, or "other", the second comes from
    another document. Which rows have a wrong pair, and with what, is drawn in every epoch: `seed`, epoch and row
    decide. types: give `token_type_ids` too, 0 up to the separator behind the first piece, 1 for the second.
    Raises ValueError for no document, and where "other" has a single one.
    """

    def __init__(self, documents: Sequence[Sequence[np.ndarray]], tokenizer, wrong: str, types: bool, seed: int):
        self.layout = find_layout(tokenizer)
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
        return self.layout.join([first, second])[0]

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
            starts.append(len(shown[-1]) - len(second) - len(self.layout.last))
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
        before, between, behind = map(len, (self.layout.first, self.layout.between, self.layout.last))
        return tokens[before : before + length], tokens[before + length + between : len(tokens) - behind]


def split_documents(texts: Sequence[str], tokenizer, room: int) -> list[list[np.ndarray]]:
    """The pieces of each text, in order, without special tokens: see `split_points`. Texts of one token are left out.

    The vocabulary says where words begin; where it does not, each token counts as a word.
    """
    try:
        begins = make_word_table(tokenizer).begins.numpy()
    except ValueError:
        begins = np.ones(len(tokenizer), dtype=bool)
    sentences = [[one for part in split_columns(text) for one in split_sentences(part)] for text in texts]
    first, last = special_ends(tokenizer)
    rows = iter(tokenize([sentence for text in sentences for sentence in text], tokenizer, WHOLE))
    documents = []
    for text in sentences:
        bodies = [row[len(first) : len(row) - len(last)] for row in islice(rows, len(text))]
        body = np.concatenate(bodies)
        if len(body) > 1:
            points = split_points(np.cumsum([len(part) for part in bodies]), np.flatnonzero(begins[body]), room)
            documents.append(np.split(body, points[1:-1]))
    return documents


def split_points(sentences: np.ndarray, words: np.ndarray, room: int) -> list[int]:
    """Where to split a document into an even number of pieces of like size, each of 1 to `room` tokens; with 0 and its
    end.

    sentences: (sentences,) tokens up to the end of each. words: (words,) tokens before each. Of the places that leave
    no piece too long, the end of a sentence nearest to equal sizes is taken; where there is none, the beginning of a
    word; and where there is none either, the place itself. room: 2 or more.
    """
    total = int(sentences[-1])
    n = 2 * -(-total // (2 * room))
    points = [0]
    for left in range(n - 1, 0, -1):  # pieces behind the next point
        low, high = max(points[-1] + 1, total - left * room), min(points[-1] + room, total - left)
        wanted = points[-1] + (total - points[-1]) / (left + 1)
        fitting = (places[(places >= low) & (places <= high)] for places in (sentences, words))
        places = next(filter(len, fitting), np.clip([round(wanted)], low, high))
        points.append(int(places[np.abs(places - wanted).argmin()]))
    return [*points, total]
