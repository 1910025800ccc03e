"""SimCSE: a text stays close to itself, or to its like, and apart from all others (Gao et al., 2021, arXiv 2104.08821).

Contrastive training of text vectors before there is a classifier, without labels or with them.

How good text vectors are without a task: alignment, uniformity and retrieval. All but the last take tensors.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Chunks, Tokens, join_tokens, special_ends, tokenize
from kagglekit.device import choose_precision
from kagglekit.model.backbones import quiet
from kagglekit.model.pooling import make_pooling
from kagglekit.model.shallow import embed
from kagglekit.options import check_range
from kagglekit.pretraining.masking_catalogue import Masking
from kagglekit.pretraining.objective import Prepared, Stage, freeze_pooler, load_model, read_options
from kagglekit.pretraining.pairs import ClassPairs, LabelledTexts

OPTIONS = {"temperature": 0.05, "pooling": "mean", "projection": False, "dropout": 0.1}


def info_nce(views: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """How badly each text picks its partner out of those of the whole batch, by the cosine of their vectors: a scalar.

    views: (batch, 2 or 3, width): a text, its partner, and if there is one its hard negative, from which all texts of
    the batch are kept apart. labels: (batch,); the partners of other texts with the same label are no wrong choice,
    and left out.
    """
    with torch.autocast(views.device.type, enabled=False):  # cosines in bf16 would be too coarse
        views = F.normalize(views.float(), dim=-1)
        scores = torch.einsum("iw,jvw->ivj", views[:, 0], views[:, 1:]) / temperature  # (batch, 1 or 2, batch)
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    scores = torch.cat([scores[:, 0].masked_fill(alike, -torch.inf), *scores[:, 1:].unbind(dim=1)], dim=1)
    return F.cross_entropy(scores, torch.arange(len(labels), device=labels.device))


class SimCSE(nn.Module):
    """A backbone whose text vectors are compared; a text without a partner is read twice, with other dropout.

    pooling: "mean" or "cls". projection: a linear layer and tanh behind it, which is left away after training.
    """

    def __init__(self, backbone: nn.Module, pooling: str = "mean", projection: bool = False):
        super().__init__()
        self.backbone = backbone
        self.pooling = make_pooling(pooling, backbone)
        width = self.pooling.width
        self.projection = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if projection else nn.Identity()

    def forward(self, input_ids, attention_mask) -> dict[str, torch.Tensor]:
        """Text vectors (batch, views, width) as logits; both inputs are (batch, views, tokens), or (batch, tokens) of
        texts that are read twice."""
        if input_ids.dim() == 2:
            input_ids, attention_mask = (x.unsqueeze(1).expand(-1, 2, -1) for x in (input_ids, attention_mask))
        rows, mask = input_ids.flatten(0, 1), attention_mask.flatten(0, 1)  # (batch * views, tokens)
        states = self.backbone(input_ids=rows, attention_mask=mask).last_hidden_state
        vectors = self.projection(self.pooling((states,), mask))
        return {"logits": vectors.unflatten(0, input_ids.shape[:2])}


def prepare_simcse(
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    stage: Stage,
    masking: Masking | None = None,
    labels: LabelledTexts | None = None,
) -> Prepared:
    """Unsupervised: each text is read twice with other dropout, and has to find itself among the texts of the batch.

    Options: temperature (0.05; the lower, the more the nearest texts count), pooling ("mean" or "cls"), projection
    (False; True is what the paper has with "cls"), and dropout (0.1), which holds where `stage.dropout` is 0, since
    without dropout there is nothing to learn. Texts are cut to `max_length`, never packed; those that are equal then
    count once. Costs two passes. A larger batch has more texts to be kept apart from; of several processes each
    compares its own rows. masking and labels are not looked at. Measured by `make_figures`.
    Raises ValueError for an unknown option, one out of range, and a model without dropout.
    """
    options = read_options(stage, **OPTIONS)
    tokens = tokenize(texts, tokenizer, stage.max_length)
    _, firsts = np.unique([text.tobytes() for text in tokens], return_index=True)
    tokens = tokens[np.sort(firsts)]
    examples = Examples(tokens, tokenizer.pad_token_id, np.arange(len(tokens)))
    prepared = _prepare(backbone, tokenizer, examples, held_out, stage, options)
    if not any(isinstance(module, nn.Dropout) and module.p for module in prepared.model.modules()):
        raise ValueError("simcse learns from dropout, and the backbone has none: set dropout=0.1")
    return prepared


def prepare_simcse_supervised(
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    stage: Stage,
    masking: Masking | None = None,
    labels: LabelledTexts | None = None,
) -> Prepared:
    """Supervised: each text has to find its partner, another one of its class or the other one of a pair.

    labels: of the training rows of one fold, or pairs. Options as in `prepare_simcse`. What of them is in `held_out`,
    or where nothing is, a share of them, is measured on: same_class is how often the labelled text nearest to such a
    text is of its class, pairs_at_1 how often such a text finds its partner among theirs. `make_figures` measures on
    `held_out`; `texts` are not used.
    Raises ValueError as `prepare_simcse` does, but needs no dropout, and when there is nothing to learn from.
    """
    options = read_options(stage, **OPTIONS)
    if labels is None:
        raise ValueError("simcse_supervised needs labels: texts with classes, or pairs")
    read, pad_id = partial(tokenize, tokenizer=tokenizer, max_length=stage.max_length), tokenizer.pad_token_id
    classes = labels.classes()
    if len(labels.texts):
        tokens, (kept, learned) = read(list(labels.texts)), _split(labels.texts, held_out, stage)
        examples = ClassPairs(tokens[learned], pad_id, classes[learned], stage.seed)
        shown, n = np.concatenate([kept[:MOST], learned[: 5 * MOST]]), min(len(kept), MOST)
        known = torch.from_numpy(classes[shown])
        further = ("same_class", tokens[shown], lambda vectors: same_class(vectors, known, n))
    else:
        views, anchors = len(labels.pairs[0]), np.unique([pair[0] for pair in labels.pairs])
        kept, learned = (np.flatnonzero(np.isin(classes, part)) for part in _split(anchors, held_out, stage))
        if len(anchors) < 2:
            raise ValueError("all pairs have the same first text: there is nothing to keep it apart from")
        tokens = Chunks(read([text for pair in labels.pairs for text in pair]), np.full(len(classes), views))
        examples = Examples(tokens[learned], pad_id, classes[learned].astype(np.int64))
        pairs = tokens[kept[:MOST]].pieces
        further = ("pairs_at_1", pairs, lambda vectors: recall_at_1(vectors[::views], vectors[1::views]))
    return _prepare(backbone, tokenizer, examples, held_out, stage, options, *further)


def _split(texts: Sequence[str], held_out: list[str], stage: Stage) -> list[np.ndarray]:
    """Which of `texts` are measured on and which are learned from: those of `held_out` are not, and where none of them
    is, or all are, a share of its own is drawn."""
    rows, known = np.random.default_rng(stage.seed).permutation(len(texts)), set(held_out)
    inside = np.array([texts[row] in known for row in rows])
    if 0 < inside.sum() < len(rows):
        return [rows[inside], rows[~inside]]
    return np.split(rows, [min(max(1, round(stage.held_out * len(rows))), len(rows) - 1)])


def _prepare(backbone, tokenizer, examples, held_out, stage, options, name="", further=None, figure=None) -> Prepared:
    """name, further, figure: a figure beside those of `make_figures`, figure(vectors of the tokens `further`)."""
    temperature, pooling, dropout = options["temperature"], options["pooling"], options["dropout"]
    check_range("temperature", temperature, 0 < temperature < math.inf, "above 0")
    check_range("pooling", pooling, pooling in ("mean", "cls"), "mean or cls")
    check_range("dropout", dropout, 0 <= dropout < 1, "from 0 to below 1")
    check_range("batch_size", stage.batch_size, stage.batch_size > 1, "2 or more: a text is told from its neighbours")
    dropout = dropout if stage.dropout == 0 else stage.dropout
    whole = load_model(None, backbone, tokenizer, stage.max_length, dropout)
    freeze_pooler(whole.base_model)
    model = SimCSE(whole.base_model, pooling, options["projection"])

    def vectors_of(tokens: Tokens) -> torch.Tensor:
        return torch.from_numpy(embed(model.backbone, tokens, tokenizer.pad_token_id, choose_precision(), pooling))

    figures = make_figures(vectors_of, tokenize(held_out, tokenizer, stage.max_length), tokenizer)

    def measure() -> dict[str, float]:
        return figures() | ({name: figure(vectors_of(further))} if name else {})

    def save(folder) -> None:
        with quiet():
            whole.save_pretrained(folder)

    return Prepared(model, examples, partial(info_nce, temperature=temperature), [], measure, save)


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
