"""SimCSE: text vectors by contrastive training, before there is a classifier (Gao et al., 2021, arXiv 2104.08821).

A text stays close to itself, read with other dropout, or to another text of its class, and apart from all others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.competition.read import read_table
from kagglekit.data.batches import Examples
from kagglekit.data.chunks import Chunks
from kagglekit.data.tokens import Tokens, join_tokens, special_ends, tokenize
from kagglekit.device import choose_precision
from kagglekit.model.backbones import load_config, token_types
from kagglekit.model.pooling import choose_pooling, make_pooling
from kagglekit.model.shallow import embed
from kagglekit.options import check_range
from kagglekit.pretraining.objective import Prepared, Setup
from kagglekit.pretraining.stage_knobs import Stage

OPTIONS = {"temperature": 0.05, "pooling": "mean", "projection": False, "dropout": 0.1}
MOST = 2000  # texts that are measured: all pairs of them are compared


def prepare_simcse(setup: Setup) -> Prepared:
    """Unsupervised: a text, read twice with other dropout, has to find itself among the texts of the batch.

    Options: temperature (0.05; the lower, the more the nearest texts count), pooling ("mean" or "cls"), projection
    (False; True is the paper's with "cls"), and dropout (0.1), which holds where `stage.dropout` is 0, since without
    dropout there is nothing to learn. Texts are truncated to `max_length`, never packed; equal ones then count once.
    Costs two passes. A larger batch has more texts to be kept apart from; of several processes each compares its own
    rows. Measured by `measure_vectors`.
    Raises ValueError for an option out of range, and a model without dropout.
    """
    tokens = tokenize(setup.texts, setup.tokenizer, setup.stage.max_length)
    _, firsts = np.unique([text.tobytes() for text in tokens], return_index=True)
    tokens = tokens[np.sort(firsts)]
    prepared = _prepare(setup, Examples(tokens, setup.tokenizer.pad_token_id, np.arange(len(tokens))))
    if not any(isinstance(module, nn.Dropout) and module.p for module in prepared.model.modules()):
        raise ValueError("simcse learns from dropout, and the backbone has none: set dropout=0.1")
    return prepared


def prepare_simcse_supervised(setup: Setup) -> Prepared:
    """Supervised: a text has to find its partner, another one of its class or the other one of a pair.

    Options as in `prepare_simcse`. `setup.labels`: of the training rows of one fold, or pairs; `setup.texts` are not
    used. Labelled texts that are held out, or where none is, a share of them, are measured on: same_class is how often
    the labelled text nearest to one of them is of its class, pairs_at_1 how often one of them finds its partner.
    Raises ValueError as `prepare_simcse` does, but needs no dropout, and when there is nothing to learn from.
    """
    labels, stage, pad_id = setup.labels, setup.stage, setup.tokenizer.pad_token_id
    if labels is None:
        raise ValueError("simcse_supervised needs labels: texts with classes, or pairs")
    read, classes = partial(tokenize, tokenizer=setup.tokenizer, max_length=stage.max_length), labels.classes()
    if len(labels.texts):
        tokens, (kept, learned) = read(list(labels.texts)), _split(labels.texts, setup.held_out, stage)
        examples = ClassPairs(tokens[learned], pad_id, classes[learned], stage.seed)
        shown, n = np.concatenate([kept[:MOST], learned[: 5 * MOST]]), min(len(kept), MOST)
        known = torch.from_numpy(classes[shown])
        return _prepare(setup, examples, "same_class", tokens[shown], lambda vectors: same_class(vectors, known, n))
    views, anchors = len(labels.pairs[0]), np.unique([pair[0] for pair in labels.pairs])
    kept, learned = (np.flatnonzero(np.isin(classes, part)) for part in _split(anchors, setup.held_out, stage))
    if len(anchors) < 2:
        raise ValueError("all pairs have the same first text: there is nothing to keep it apart from")
    tokens = Chunks(read([text for pair in labels.pairs for text in pair]), np.full(len(classes), views))
    examples, pairs = Examples(tokens[learned], pad_id, classes[learned].astype(np.int64)), tokens[kept[:MOST]].pieces
    return _prepare(setup, examples, "pairs_at_1", pairs, lambda x: recall_at_1(x[::views], x[1::views]))


def _split(texts: Sequence[str], held_out: list[str], stage: Stage) -> list[np.ndarray]:
    """Which of `texts` are measured on and which are learned from: those of `held_out` are not, and where none of them
    is, or all are, a share of its own is drawn."""
    rows, known = np.random.default_rng(stage.seed).permutation(len(texts)), set(held_out)
    inside = np.array([texts[row] in known for row in rows])
    if 0 < inside.sum() < len(rows):
        return [rows[inside], rows[~inside]]
    return np.split(rows, [min(max(1, round(stage.held_out * len(rows))), len(rows) - 1)])


def _prepare(setup: Setup, examples: Examples, name: str = "", further=None, figure=None) -> Prepared:
    """name, further, figure: a figure beside those of `measure_vectors`, figure(vectors of the tokens `further`)."""
    stage, (temperature, pooling, projection, dropout) = setup.stage, setup.options.values()
    check_range("temperature", temperature, 0 < temperature < math.inf, "above 0")
    check_range("pooling", pooling, pooling in ("mean", "cls"), "mean or cls")
    choose_pooling(pooling, load_config(setup.backbone))  # the first token of a decoder has read no other
    check_range("dropout", dropout, 0 <= dropout < 1, "from 0 to below 1")
    check_range("batch_size", stage.batch_size, stage.batch_size > 1, "2 or more: texts are compared within a batch")
    whole = setup.load(None, dropout=dropout if stage.dropout == 0 else None)
    model = SimCSE(whole.base_model, pooling, projection)
    tokens = tokenize(setup.held_out[:MOST], setup.tokenizer, stage.max_length)
    halves = halve(tokens, setup.tokenizer)

    def vectors_of(tokens: Tokens) -> torch.Tensor:
        pad_id = setup.tokenizer.pad_token_id
        return torch.from_numpy(embed(model.backbone, tokens, pad_id, choose_precision(), pooling))

    def measure() -> dict[str, float]:
        figures = measure_vectors(vectors_of, tokens, halves)
        return figures | ({name: figure(vectors_of(further))} if name else {})

    return Prepared(model, examples, partial(info_nce, temperature=temperature), [], measure, whole)


class SimCSE(nn.Module):
    """A backbone whose text vectors are compared; a text without a partner is read twice, with other dropout.

    pooling: "mean" or "cls". projection: a linear layer and tanh behind it, which is dropped after training.
    """

    def __init__(self, backbone: nn.Module, pooling: str = "mean", projection: bool = False):
        super().__init__()
        self.backbone = backbone
        self.pooling = make_pooling(pooling, backbone)
        width = self.pooling.width
        self.projection = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if projection else nn.Identity()

    def forward(self, input_ids, attention_mask, token_type_ids=None) -> dict[str, torch.Tensor]:
        """Text vectors (batch, views, width) as logits; the inputs are (batch, views, tokens), or (batch, tokens) of
        texts that are read twice. token_type_ids: the text column of each token, where there are several."""
        given = [input_ids, attention_mask] + ([] if token_type_ids is None else [token_type_ids])
        if input_ids.dim() == 2:
            given = [x.unsqueeze(1).expand(-1, 2, -1) for x in given]
        rows, mask, *columns = (x.flatten(0, 1) for x in given)  # (batch * views, tokens)
        types = token_types(self.backbone, *columns)
        states = self.backbone(input_ids=rows, attention_mask=mask, **types).last_hidden_state
        vectors = self.projection(self.pooling((states,), mask))
        return {"logits": vectors.unflatten(0, given[0].shape[:2])}


def info_nce(views: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """The contrastive loss: how badly each text finds its partner in the batch, by the cosine of vectors; a scalar.

    views: (batch, 2 or 3, width): a text, its partner, and perhaps its hard negative, from which all texts of the batch
    are kept apart. labels: (batch,); partners of other texts with the same label are no wrong choice, and left out.
    """
    with torch.autocast(views.device.type, enabled=False):  # cosines in bf16 would be too coarse
        views = F.normalize(views.float(), dim=-1)
        scores = torch.einsum("iw,jvw->ivj", views[:, 0], views[:, 1:]) / temperature  # (batch, 1 or 2, batch)
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    scores = torch.cat([scores[:, 0].masked_fill(alike, -torch.inf), *scores[:, 1:].unbind(dim=1)], dim=1)
    return F.cross_entropy(scores, torch.arange(len(labels), device=labels.device))


@dataclass(frozen=True)
class LabelledTexts:
    """What supervised SimCSE learns from: texts with classes, or pairs; one or the other.

    texts, labels: (rows,) classes, or (rows, outputs), where equal rows are one class; the training rows of one fold.
    pairs: all of them (text, partner), or all (text, partner, hard negative): a text that looks like the first and
    means something else.
    Raises ValueError for both at once and for none, labels that do not fit the texts, and pairs of unequal sizes.
    """

    texts: Sequence[str] = ()
    labels: np.ndarray | None = None
    pairs: Sequence[tuple[str, ...]] = ()

    def __post_init__(self):
        if bool(len(self.texts)) == bool(len(self.pairs)):
            raise ValueError("supervised SimCSE learns from texts with labels, or from pairs: give one of the two")
        if len(self.texts) and (self.labels is None or len(self.labels) != len(self.texts)):
            raise ValueError(f"{len(self.texts)} texts need as many labels, one each")
        if {len(pair) for pair in self.pairs} not in (set(), {2}, {3}):
            raise ValueError("pairs must all be (text, partner), or all (text, partner, hard negative)")

    def classes(self) -> np.ndarray:
        """The class number of each text, or of the first text of each pair: (rows,) int64."""
        values = np.asarray(self.labels) if len(self.texts) else [pair[0] for pair in self.pairs]
        return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)


def read_pairs(path: str | Path, encoding: str = "utf-8") -> LabelledTexts:
    """Pairs from a table with the columns anchor and positive, and negative where there are hard negatives.

    Raises ValueError that names a missing column, or the first row with an empty text (from 1).
    """
    table = read_table(path, encoding)
    for name in ("anchor", "positive"):
        if name not in table:
            raise ValueError(f"{path} has no column {name!r}: it has {', '.join(table.columns)}")
    columns = [name for name in ("anchor", "positive", "negative") if name in table]
    for name in columns:
        empty = np.flatnonzero(table[name].str.strip() == "")
        if len(empty):
            raise ValueError(f"{path}: column {name!r} is empty in row {empty[0] + 1}: fill it, or leave the row out")
    return LabelledTexts(pairs=list(table[columns].itertuples(index=False, name=None)))


class ClassPairs(Examples):
    """Each text with a partner of its class, another one in every epoch; `seed`, epoch and row decide which.

    tokens, classes: of all rows (rows,); a text that is the only one of its class is left out.
    Raises ValueError when no two texts have the same class.
    """

    def __init__(self, tokens: Tokens, pad_id: int, classes: np.ndarray, seed: int):
        _, classes, counts = np.unique(classes, return_inverse=True, return_counts=True)
        kept = counts[classes] > 1
        if not kept.any():
            raise ValueError("no two texts have the same label: simcse_supervised needs classes with several texts")
        super().__init__(tokens[kept], pad_id, np.unique(classes[kept], return_inverse=True)[1].astype(np.int64))
        self.seed = seed
        labels = self.arrays["labels"]
        self.counts = np.bincount(labels)
        self.starts = np.cumsum(self.counts) - self.counts
        self.order = np.argsort(labels, kind="stable")  # class by class
        self.places = np.argsort(self.order)  # of each row in it

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        shown = [text for row in rows for text in (row, self.partner(row))]
        labels = torch.from_numpy(self.arrays["labels"][rows])
        return {**Chunks(self.tokens[shown], np.full(len(rows), 2)).pad(self.pad_id), "labels": labels}

    def partner(self, row: int) -> int:
        """The row that goes with a row in this epoch."""
        label = self.arrays["labels"][row]
        start, count = self.starts[label], self.counts[label]
        step = np.random.default_rng([self.seed, self.epoch, row]).integers(1, count)
        return int(self.order[start + (self.places[row] - start + step) % count])


def measure_vectors(
    embed: Callable[[Tokens], torch.Tensor], whole: Tokens, halves: tuple[Tokens, Tokens] | None
) -> dict[str, float]:
    """How good text vectors are without a task, on texts that nothing was trained on; NaN where there are too few.

    alignment: how far apart the two halves of a text are. recall_at_1: how often the first half finds its second half
    among those of all texts. uniformity: of the whole texts. embed: tokens -> vectors (texts, width). halves: from
    `halve`.
    """
    begins, ends = map(embed, halves) if halves else (None, None)
    return {
        "alignment": alignment(begins, ends) if halves else math.nan,
        "uniformity": uniformity(embed(whole)) if len(whole) > 1 else math.nan,
        "recall_at_1": recall_at_1(begins, ends) if halves else math.nan,
    }


def halve(tokens: Tokens, tokenizer) -> tuple[Tokens, Tokens] | None:
    """The first and the second half of each text of two tokens or more, with special tokens of their own; None if there
    is no such text."""
    first, last = special_ends(tokenizer)
    bodies = [text[len(first) : len(text) - len(last)] for text in tokens]
    parts = [np.split(body, [(len(body) + 1) // 2]) for body in bodies if len(body) > 1]
    if not parts:
        return None
    begins, ends = (join_tokens(np.concatenate([first, pair[k], last]) for pair in parts) for k in (0, 1))
    return begins, ends


def alignment(vectors: torch.Tensor, others: torch.Tensor) -> float:
    """The mean squared distance of the two unit vectors of a pair, from 0 (the same) to 4 (Wang and Isola, 2020,
    arXiv 2005.10242). vectors, others: (pairs, width)."""
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
