"""Mixup: train on mixtures of two texts and of their labels (Zhang et al., 2018, arXiv 1710.09412).

Of their word embeddings (Guo, Mao and Zhang, 2019, arXiv 1905.08941), or of the hidden states of a layer (manifold
mixup, Verma et al., 2019, arXiv 1806.05236; TMix, Chen, Yang and Yang, 2020, arXiv 2004.12239).
"""

import math

import torch
from torch.distributions import Beta
from torch.nn import functional as F

from kagglekit.model.surgery import find_layers, output_changed
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick, knob, trick


def partners(values: torch.Tensor, shift: int, rows: int) -> torch.Tensor:
    """For each row the row `shift` places before it, around the end, in a batch of `rows`.

    values: (rows, ...), or several times as many where a trick has repeated the batch: each copy keeps to itself.
    """
    return values.unflatten(0, (-1, rows)).roll(shift, dims=1).flatten(0, 1)


def mix(values: torch.Tensor, share: float, shift: int, rows: int) -> torch.Tensor:
    """`share` of each row and `1 - share` of its partner, in the shape and type of `values`."""
    return share * values + (1 - share) * partners(values, shift, rows)


def mix_inputs(inputs: dict[str, torch.Tensor], classes: int, share: float, shift: int) -> dict[str, torch.Tensor]:
    """The inputs of a mixed batch; the words themselves are mixed in the model.

    Class numbers become mixed distributions over `classes`. Float labels and the float features of a row are mixed;
    whole numbers (token ids, categories) stay those of the text itself. The mask covers the tokens of both texts.
    """
    labels, rows = inputs["labels"], len(inputs["labels"])
    soft = labels if labels.is_floating_point() else F.one_hot(labels, classes).float()  # (rows, classes)
    mixed = {
        name: mix(values, share, shift, rows) if values.is_floating_point() else values
        for name, values in {**inputs, "labels": soft}.items()
    }
    mask = inputs["attention_mask"]
    return {**mixed, "attention_mask": torch.maximum(mask, partners(mask, shift, rows))}


def find_mixed(model: torch.nn.Module, layer: int) -> torch.nn.Module:
    """The module whose output is mixed: the word embeddings for 0, else that layer, counted from 1 or from the end."""
    if layer == 0:
        return model.get_input_embeddings()
    layers = find_layers(model.backbone)
    depth = len(layers)
    if getattr(model.backbone.config, "num_hidden_layers", depth) != depth:
        raise ValueError(f"Mixup: layer={layer} cannot be told from the others: they share weights. Use layer=0")
    if model.pooling.all_layers:
        raise ValueError(
            f"Mixup: layer={layer} leaves the layers below unmixed, and the pooling reads them. Use layer=0"
        )
    check_range("Mixup: layer", layer, -depth <= layer <= depth, f"from {-depth} to {depth}")
    return layers[layer - 1 if layer > 0 else layer]


@trick
class Mixup(Trick):
    """Each text becomes `lambda` of itself and `1 - lambda` of another of the batch, and so do its labels.

    One lambda holds for a batch; with alpha=0.2 most texts stay nearly as they are. Costs next to nothing. The tokens
    of both texts count as real in all layers: where one text is shorter, its padding is mixed in. A batch of one is
    mixed with itself. Tricks that come after it in the recipe, and R-Drop in any place, see one mixture per step. Texts
    cut into chunks are an error, and so is a layer other than 0 with a pooling that reads several layers.
    """

    fits_chunks = False
    mixes_texts = True
    mean = "lambda_", "mean lambda"
    lambda_ = 0.0  # a sum over the steps

    alpha: float = knob(
        0.2, "lambda is drawn from Beta(alpha, alpha); 0: plain training; 1: evenly; large: halves", least=0
    )
    layer: int = knob(0, "0: the word embeddings; n: the states after layer n; -1: those after the last")

    def check(self):
        super().check()
        fits = self.alpha == 0 or 0.01 <= self.alpha < math.inf  # torch draws wrongly from Beta(0.001, 0.001)
        check_range("Mixup: alpha", self.alpha, fits, "0, or 0.01 or more")

    def training_step(self, step, model, inputs):
        rows, *shape = inputs["input_ids"].shape
        if len(shape) == 2:
            raise ValueError("Mixup needs texts that are not cut into chunks: leave it out, or cut texts to one piece")
        module = find_mixed(model, self.layer)
        drawn = Beta(self.alpha, self.alpha).sample() if self.alpha else torch.tensor(1.0)  # on the CPU: no waiting
        self.steps_ += 1
        self.lambda_ = self.lambda_ + drawn
        if not self.alpha:
            return step(inputs)  # no random number is drawn
        share, shift = float(drawn), int(torch.randint(1, rows, ())) if rows > 1 else 0
        # around forward and backward: layers that are computed again for the backward pass must mix again
        with output_changed(module, lambda hidden: mix(hidden, share, shift, rows)):
            return step(mix_inputs(inputs, model.options["outputs"], share, shift))
