"""SupCon: texts of one class move together, others apart (Khosla et al., 2020, arXiv 2004.11362).

As a term beside the loss of fine-tuning: Gunel et al., 2021, arXiv 2011.01403.
"""

import math

import torch
from torch.nn import functional as F

from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick


def supervised_contrastive(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """How badly each text picks its like out of the batch by the cosine of their vectors: a scalar, 0 without any pair.

    vectors: (batch, width) float32. labels: int (batch,) class numbers, or float (batch, classes) or (batch, labels):
    then a pair counts by the dot product of its rows, which is the chance of one class, or the number of labels they
    share (Su, Wang and Dai, 2022). One-hot rows give what class numbers give. A text whose pairs count less than 1 in
    sum counts less itself.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # cosines in bf16 would be too coarse
        alike = labels @ labels.T if labels.is_floating_point() else (labels[:, None] == labels).float()
        vectors = F.normalize(vectors, dim=-1)
        scores = vectors @ vectors.T / temperature  # (batch, batch)
    alike, scores = alike.fill_diagonal_(0), scores.fill_diagonal_(torch.finfo(scores.dtype).min)
    pairs = alike.sum(dim=1)
    losses = -(alike * scores.log_softmax(dim=1)).sum(dim=1) / pairs.clamp_min(1)
    return losses.sum() / pairs.clamp_max(1).sum().clamp_min(1)


def find_classes(labels: torch.Tensor, link: str, outputs: int) -> torch.Tensor:
    """Labels of a batch as `supervised_contrastive` takes them; of several targets those of the first.

    Levels of ordered classes, P(label > k), become P(label = k). Raises ValueError for values, which have no classes.
    """
    if link in ("identity", "unit"):
        raise ValueError("SupCon needs classes or labels, and this task has values: leave SupCon out")
    if not labels.is_floating_point():
        return labels
    labels = labels[:, :outputs]
    if link in ("corn", "cumulative"):
        labels = F.pad(F.pad(labels, (1, 0), value=1.0), (0, 1)).diff(dim=1).neg()  # (batch, classes)
    return labels


class SupCon(Trick):
    """`(1 - weight)` times the loss plus `weight` times the contrastive loss of the text vectors in the batch.

    weight: 0 is plain training, 0.1 to 0.9 are usual, 1 leaves the head untrained. temperature: of the cosines; 0.3 is
    usual for text, lower ones look at the nearest texts only. Costs next to nothing. It compares the texts of one
    batch: with few of a class in it there is little to learn, and accumulation does not make the batch larger.
    """

    contrast_: torch.Tensor | float = 0.0  # sum over the steps; it stays on the device: no waiting

    def __init__(self, weight: float = 0.1, temperature: float = 0.3, start: float = 0.0):
        self.weight = weight
        self.temperature = temperature
        self.start = start

    def check(self):
        super().check()
        check_range("SupCon: weight", self.weight, 0 <= self.weight <= 1, "from 0 to 1")
        check_range("SupCon: temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")

    def compute_loss(self, compute, model, inputs):
        labels = find_classes(inputs["labels"], *model.blocks[0])
        loss, outputs = compute(inputs)
        contrast = supervised_contrastive(outputs["pooled"].float(), labels, self.temperature)
        self.steps_ += 1
        self.contrast_ = self.contrast_ + contrast.detach()
        return (1 - self.weight) * loss + self.weight * contrast, outputs

    def receipt(self, model):
        mean = float(self.contrast_) / max(self.steps_, 1)
        return {**super().receipt(model), "mean contrastive loss": mean}
