"""Image-text pretraining: a text finds its image among those of the batch, and a head tells whether the two match.

Contrast with a learned temperature as in CLIP (Radford et al., 2021, arXiv 2103.00020); matching with hard negatives,
drawn by how similar they are, as in ALBEF (Li et al., 2021, arXiv 2107.07651).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.competition.read import read_table
from kagglekit.data.batches import Examples
from kagglekit.data.folds import join_groups
from kagglekit.data.tokens import tokenize
from kagglekit.device import choose_precision
from kagglekit.files import resolve
from kagglekit.model.backbones import load_config, token_types
from kagglekit.model.pooling import choose_pooling, make_pooling
from kagglekit.model.shallow import embed
from kagglekit.options import check_range
from kagglekit.pretraining.masking import Masking, make_masking
from kagglekit.pretraining.mlm import MaskedLM, masked_cross_entropy
from kagglekit.pretraining.objective import Prepared, Setup
from kagglekit.training.images import ImageEncoder, check_images, find_images
from kagglekit.tricks.trick import Trick, knob, trick

OPTIONS = {"image_encoder": "", "temperature": 0.07, "pooling": "mean", "width": 256, "matching": 1.0, "mlm": 0.0}
MOST = 2000  # pairs that are measured: all of them are compared
HOTTEST = 100.0  # what cosines are multiplied by at most (Radford et al., 2021)
COLUMNS = ("text", "image")  # of a table of pairs
FOLDER = "image_encoder"  # below that of the model


@dataclass(frozen=True)
class ImagePairs:
    """Texts with the files of their images, one each, and hashes of what the files hold, see `check_images`."""

    texts: Sequence[str] = field(repr=False)
    files: Sequence[Path] = field(repr=False)
    hashes: Sequence[str] = field(repr=False)

    def numbers(self) -> np.ndarray:
        """(pairs, 2) int64: equal numbers are equal texts, and equal images."""
        columns = [np.unique(np.array(one, dtype=object), return_inverse=True)[1] for one in (self.texts, self.hashes)]
        return np.column_stack(columns).astype(np.int64)

    def split(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs to train on and pairs to measure with: no text and no image is in both.

        Pairs that hang together through equal texts or equal images stay together. Raises ValueError where all do.
        """
        group = join_groups(self.texts, self.hashes)
        order = np.random.default_rng(seed).permutation(np.unique(group))
        if len(order) < 4:
            raise ValueError(
                f"pairs: the {len(group):,} rows are {len(order)} groups that share a text or an image, and 4 are "
                "needed, to train and to measure with: give more pairs that differ"
            )
        ends = np.cumsum(np.bincount(group)[order])
        count = int(np.searchsorted(ends, share * len(group))) + 1
        held = np.isin(group, order[: min(max(2, count), len(order) - 2)])
        return np.flatnonzero(~held), np.flatnonzero(held)


def read_image_pairs(path: str | Path, columns: Sequence[str], encoding: str = "utf-8") -> tuple[list[str], list[Path]]:
    """The texts and the files of images of a table.

    columns: that of the texts and that of the files, none: COLUMNS. Files are below the table's folder: `find_images`.
    Raises FileNotFoundError and ValueError that name a missing column, or the first row (from 1) with an empty cell or
    a file that is not there.
    """
    columns = columns or COLUMNS
    file = resolve(path)
    table = read_table(file, encoding)
    for name in columns:
        if name not in table:
            raise ValueError(
                f"{path} has no column {name!r}: it has {', '.join(table.columns)}. Name the columns of text and image "
                'as pair_columns=["text", "image"]'
            )
        empty = np.flatnonzero(table[name].str.strip() == "")
        if len(empty):
            raise ValueError(f"{path}: column {name!r} is empty in row {empty[0] + 1}: fill it, or leave the row out")
    return table[columns[0]].tolist(), find_images(table[columns[1]], file.parent, name_rows(path, columns))


def name_rows(path: str | Path, columns: Sequence[str]):
    """What an error calls the image of a row of pairs."""
    return lambda number: f"{path}: column {columns[1]!r} in row {number + 1}"


def check_pairs(texts: Sequence[str], files: Sequence[Path], path: str, columns: Sequence[str]) -> ImagePairs:
    """The pairs, each of whose images was decoded. Raises ValueError that names the row of one that is damaged."""
    return ImagePairs(texts, files, check_images(files, name_rows(path, columns)))


def prepare_image_text(setup: Setup) -> Prepared:
    """Texts and images find each other in the batch, and a head tells pairs from hard negatives.

    `setup.labels`: `ImagePairs`; `setup.texts` are not used. Options. image_encoder: a vision model of transformers, a
    folder or a name of the hub. temperature: 0.07, where the learned one begins. pooling: of tokens, "mean" or "cls".
    width: 256, of the vectors that are compared. matching: 1.0, weight of the loss of the matching head; 0 leaves it
    out. mlm: weight of masked-language modelling of the same texts beside, with `masking="dynamic"`; 0 leaves it out.
    Equal texts, or equal images, are not each other's negatives. A larger batch has more negatives; of several
    processes each compares its own rows. Measured on held-out pairs, see `recalls`.
    The model is saved as by the other objectives, with the image encoder in `image_encoder` below.
    Raises ValueError for an option out of range, no pairs, and a model that reads no images.
    """
    stage, pairs, options = setup.stage, setup.labels, setup.options
    if not isinstance(pairs, ImagePairs):
        raise ValueError('itc_itm needs pairs="posts.csv", a table with a column of texts and one of image files')
    _check_options(setup)
    with_mlm = options["mlm"] > 0
    whole = setup.load(AutoModelForMaskedLM if with_mlm else None)
    images = ImageEncoder.load(options["image_encoder"])
    masked = MaskedLM(whole) if with_mlm else None
    model = ImageText(whole.base_model, images, options, masked)
    train, held = pairs.split(stage.held_out, stage.seed)
    tokens = tokenize(list(pairs.texts), setup.tokenizer, stage.max_length)
    numbers, pad_id = pairs.numbers(), setup.tokenizer.pad_token_id
    files = [pairs.files[row] for row in train]
    examples = PairExamples(tokens[train], pad_id, numbers[train], {"pairs": numbers[train]}, files, images)
    held = held[:MOST]

    def measure() -> dict[str, float]:
        precision = choose_precision()
        device = model.scale.device
        vectors = embed(model.backbone, tokens[held], pad_id, precision, options["pooling"])
        with torch.inference_mode():
            texts = model.text_projection(torch.from_numpy(vectors).to(device))
            seen = model.image_projection(images.vectors([pairs.files[row] for row in held], precision))
        return recalls(texts.cpu(), seen.cpu(), torch.from_numpy(numbers[held]))

    masking = make_masking("dynamic", setup.tokenizer, stage.mask_probability, {}) if with_mlm else None
    beside = Matching(options["matching"], options["mlm"], masking)
    return Prepared(
        model, examples, image_text_contrast, [beside], measure, whole, beside=lambda at: images.save(at / FOLDER)
    )


def _check_options(setup: Setup) -> None:
    options, batch = setup.options, setup.stage.batch_size
    check_range("temperature", options["temperature"], 1 / HOTTEST <= options["temperature"] < math.inf, "0.01 or more")
    check_range("pooling", options["pooling"], options["pooling"] in ("mean", "cls"), "mean or cls")
    choose_pooling(options["pooling"], load_config(setup.backbone))  # the first token of a decoder has read no other
    width = options["width"]
    check_range("width", width, 0 < width < 64 or width > 0 == width % 64, "a multiple of 64, or below")
    for name in ("matching", "mlm"):
        check_range(name, options[name], 0 <= options[name] < math.inf, "0 or more")
    check_range("batch_size", batch, batch > 1, "2 or more: texts and images are compared within a batch")


class PairExamples(Examples):
    """Texts with the pixels of their images, which are read anew for each batch."""

    def __init__(self, tokens, pad_id, labels, features, files: Sequence[Path], images: ImageEncoder):
        super().__init__(tokens, pad_id, labels, features)
        self.files, self.images = files, images

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return {**super().__getitems__(rows), "pixels": self.images.pixels([self.files[row] for row in rows])}


class ImageText(nn.Module):
    """A text backbone and an image encoder, with projections to one space and a matching head.

    options: of the objective. masked: the same backbone with a head for hidden tokens, or None. The matching head is a
    layer in which the tokens of a text attend to the patches of an image, and a linear layer on their mean.
    """

    def __init__(self, backbone: nn.Module, images: ImageEncoder, options: dict, masked: MaskedLM | None = None):
        super().__init__()
        self.backbone, self.images, self.masked = backbone, images, masked
        self.pooling = make_pooling(options["pooling"], backbone)
        width, inside = options["width"], self.pooling.width
        self.text_projection = nn.Linear(inside, width)
        self.image_projection = nn.Linear(images.width, width)
        self.scale = nn.Parameter(torch.tensor(1 / options["temperature"]).log())
        self.matching = None
        if options["matching"]:
            layer = nn.TransformerDecoderLayer(width, max(1, width // 64), 4 * width, 0.0, "gelu", batch_first=True)
            self.matching = nn.ModuleDict(
                {"tokens": nn.Linear(inside, width), "patches": nn.Linear(images.width, width)}
            )
            self.matching.update({"layer": layer, "head": nn.Linear(width, 2)})

    def forward(
        self, input_ids, attention_mask, pixels, pairs, token_type_ids=None, hidden=None, chosen=None
    ) -> dict[str, torch.Tensor]:
        """logits: (batch, batch) cosines of texts and images over the temperature. pairs: (batch, 2), equal numbers are
        equal texts and equal images. matched: (examples, 2) of the matching head, the batch first, then `negatives`.
        tokens: logits of the `chosen` places of `hidden`, texts with hidden tokens."""
        types = token_types(self.backbone, token_type_ids)
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        vectors, patches = self.images(pixels)
        texts = self.text_projection(self.pooling((states,), attention_mask))
        seen = self.image_projection(vectors)
        with torch.autocast(texts.device.type, enabled=False):  # cosines in bf16 would be too coarse
            cosines = F.normalize(texts.float(), dim=-1) @ F.normalize(seen.float(), dim=-1).T
            outputs = {"logits": cosines * self.scale.clamp(max=math.log(HOTTEST)).exp()}
        if self.matching is not None:
            outputs["matched"] = self._match(states, attention_mask, patches, outputs["logits"].detach(), pairs)
        if hidden is not None:
            outputs["tokens"] = self.masked(hidden, attention_mask, chosen)["logits"]
        return outputs

    def _match(self, states, mask, patches, scores, pairs) -> torch.Tensor:
        """The matching head on each pair, on each text with a wrong image, and on each image with a wrong text."""
        own = torch.arange(len(states), device=states.device)
        apart = ~alike(pairs)
        (text, image), (other, reader) = draw_negatives(scores, apart), draw_negatives(scores.T, apart)
        rows, columns = torch.cat([own, text, reader]), torch.cat([own, image, other])
        tokens, seen = self.matching["tokens"](states)[rows], self.matching["patches"](patches)[columns]
        read = self.matching["layer"](tokens, seen, tgt_key_padding_mask=mask[rows] == 0)  # (examples, tokens, width)
        real = mask[rows].unsqueeze(-1)
        return self.matching["head"]((read * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)).float()


def alike(pairs: torch.Tensor) -> torch.Tensor:
    """Which pairs have the same text or the same image, (batch, batch), each with itself too. pairs: (batch, 2)."""
    return (pairs[:, None] == pairs).any(dim=-1)


def draw_negatives(scores: torch.Tensor, apart: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows, and for each a column that is `apart` from it, drawn with the probability softmax(scores); rows without any
    are left out. scores, apart: (batch, batch). Uses the global generator of random numbers."""
    rows = torch.nonzero(apart.any(dim=1)).squeeze(1)
    if not len(rows):
        return rows, rows
    chances = scores.float().masked_fill(~apart, -torch.inf)[rows].softmax(dim=1)
    return rows, torch.multinomial(chances, 1).squeeze(1)


def image_text_contrast(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE: the mean of how badly texts find their images, and images their texts; a scalar.

    logits: (batch, batch), a row for each text. labels: (batch, 2), the numbers of text and image; pairs with an equal
    one are no wrong choice, and left out.
    """
    own = torch.arange(len(logits), device=logits.device)
    scores = logits.masked_fill(alike(labels).fill_diagonal_(False), -torch.inf)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


@trick
class Matching(Trick):
    """Adds the losses beside the contrast: of the matching head, and of hidden tokens."""

    mean = ("matching_", "mean matching loss")
    matching_ = hidden_ = 0.0  # sums over the steps

    weight: float = knob(1.0, "of the matching head; 0 leaves it out", least=0)
    mlm: float = knob(0.0, "of masked-language modelling; 0 leaves it out", least=0)
    masking: Masking | None = knob(None, "how tokens are hidden")

    def compute_loss(self, compute, model, inputs):
        seen, self.steps_ = dict(inputs), self.steps_ + 1
        if self.mlm:
            hidden = self.masking.hide({name: inputs[name] for name in ("input_ids", "attention_mask")})
            seen |= {"hidden": hidden["input_ids"], "chosen": hidden["chosen"]}
        loss, outputs = compute(seen)
        if self.weight:
            matched = outputs["matched"]
            wrong = torch.arange(len(matched), device=matched.device) >= len(inputs["input_ids"])
            matching = F.cross_entropy(matched, (~wrong).long())
            self.matching_ = self.matching_ + matching.detach()
            loss = loss + self.weight * matching
        if self.mlm:
            tokens = masked_cross_entropy(outputs["tokens"], hidden["labels"])
            self.hidden_ = self.hidden_ + tokens.detach()
            loss = loss + self.mlm * tokens
        return loss, outputs

    def receipt(self, model):
        """Also the temperature that was learned, and the mean loss of hidden tokens."""
        learned = {"temperature": float((-model.scale.detach()).exp().clamp(min=1 / HOTTEST))}
        more = {"mean loss of hidden tokens": float(self.hidden_) / max(self.steps_, 1)} if self.mlm else {}
        return super().receipt(model) | learned | more


def recalls(texts: torch.Tensor, images: torch.Tensor, pairs: torch.Tensor) -> dict[str, float]:
    """How often the image of a text is among the 1 or 5 nearest ones by cosine, and the text of an image likewise.

    texts, images: (pairs, width). pairs: (pairs, 2), see `alike`: an equal text or image is as right.
    """
    scores, right = F.normalize(texts, dim=1) @ F.normalize(images, dim=1).T, alike(pairs)
    found = {}
    for name, cosines in (("text_to_image", scores), ("image_to_text", scores.T)):
        nearest = right.gather(1, cosines.topk(min(5, len(texts))).indices)  # (pairs, 5)
        found |= {f"{name}_at_{k}": float(nearest[:, :k].any(dim=1).float().mean()) for k in (1, 5)}
    return found
