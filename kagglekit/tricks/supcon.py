"""SupCon: texts of one class move together, others apart (Khosla et al., 2020, arXiv 2004.11362).

As a term beside the loss of fine-tuning: Gunel et al., 2021, arXiv 2011.01403. `Descriptions` compares texts with what
describes their classes, in place of each other: an idea of practice notes, whose author saw no gain.
"""

import torch
from torch.nn import functional as F

from kagglekit.tricks.trick import Trick, knob, trick


def supervised_contrastive(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """The mean over texts of -log softmax(cosine / temperature) at the other texts of its class: 0 without any pair.

    vectors: (batch, width) float32. labels: int (batch,) class numbers, or float (batch, classes) or (batch, labels):
    then a pair is weighted by the dot product of its rows, the chance of one class or the number of shared labels (Su,
    Wang and Dai, 2022). One-hot rows give the same as class numbers. A text whose pairs weigh less than 1 in sum counts
    less itself. Returns a scalar.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # cosines in bf16 would be too coarse
        alike = labels @ labels.T if labels.is_floating_point() else (labels[:, None] == labels).float()
        vectors = F.normalize(vectors, dim=-1)
        scores = vectors @ vectors.T / temperature  # (batch, batch)
    alike, scores = alike.fill_diagonal_(0), scores.fill_diagonal_(torch.finfo(scores.dtype).min)
    pairs = alike.sum(dim=1)
    losses = -(alike * scores.log_softmax(dim=1)).sum(dim=1) / pairs.clamp_min(1)
    return losses.sum() / pairs.clamp_max(1).sum().clamp_min(1)


def find_classes(labels: torch.Tensor, output_layer: str, outputs: int) -> torch.Tensor:
    """Labels of a batch as `supervised_contrastive` takes them; of several targets those of the first.

    Levels of ordered classes, P(label > k), become P(label = k). Raises ValueError for values, which have no classes.
    """
    if output_layer in ("identity", "unit"):
        raise ValueError("SupCon needs classes or labels, and this task has values: leave SupCon out")
    if not labels.is_floating_point():
        return labels
    labels = labels[:, :outputs]
    if output_layer in ("corn", "cumulative"):
        labels = F.pad(F.pad(labels, (1, 0), value=1.0), (0, 1)).diff(dim=1).neg()  # (batch, classes)
    return labels


@trick
class SupCon(Trick):
    """`(1 - weight)` times the loss plus `weight` times the contrastive loss of the text vectors in the batch.

    Weights of 0.1 to 0.9 are usual, and a temperature of 0.3 for text. Costs next to nothing. It compares the texts of
    one batch: with few of a class in it there is little to learn, and accumulation does not make the batch larger.
    """

    reads_labels = True
    mean = "contrast_", "mean contrastive loss"
    contrast_ = 0.0  # a sum over the steps, on the device: reading it would wait

    weight: float = knob(
        0.1, "share of the contrastive loss; 0: plain training; 1: the head learns nothing", least=0, most=1
    )
    temperature: float = knob(0.3, "divides the cosines; lower: only the nearest texts count", above=0)

    def compute_loss(self, compute, model, inputs):
        labels = find_classes(inputs["labels"], *model.blocks[0])
        loss, outputs = compute(inputs)
        contrast = supervised_contrastive(outputs["pooled"].float(), labels, self.temperature)
        self.steps_ += 1
        self.contrast_ = self.contrast_ + contrast.detach()
        return (1 - self.weight) * loss + self.weight * contrast, outputs


def description_loss(
    vectors: torch.Tensor, described: torch.Tensor, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The mean over texts of the cross-entropy of softmax(cosine / temperature) over the descriptions of classes.

    vectors: (batch, width). described: (descriptions, width), their vectors. targets: (batch, descriptions), 1 at the
    class of a text, several or shares where it has several labels, which count alike in sum; a text with none of these
    classes does not count. Returns a scalar, 0 where no text counts.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # cosines in bf16 would be too coarse
        scores = F.normalize(vectors.float(), dim=-1) @ F.normalize(described.float(), dim=-1).T / temperature
    mass = targets.sum(dim=1)
    losses = -(targets * scores.log_softmax(dim=1)).sum(dim=1) / mass.clamp_min(1)
    return losses.sum() / mass.clamp_max(1).sum().clamp_min(1)


@trick
class Descriptions(Trick):
    """The loss plus `weight` times how far texts are from descriptions of their own classes, see `description_loss`.

    `tokens` and `numbers` are set by the fine-tuner, from `auxiliary_descriptions`: a batch of the descriptions, and
    the number of each one's class. The model reads them in every step, with gradients: as many texts more in a batch.
    """

    mean = "apart_", "mean loss of descriptions"
    apart_ = 0.0  # a sum over the steps, on the device
    tokens = None
    numbers = ()

    weight: float = knob(0.1, "of the loss of descriptions; 0: plain training", least=0)
    temperature: float = knob(0.1, "divides the cosines; lower: only the nearest descriptions count", above=0)

    def compute_loss(self, compute, model, inputs):
        loss, outputs = compute(inputs)
        vectors = outputs["pooled"]
        described = model(**{name: given.to(vectors.device) for name, given in self.tokens.items()})["pooled"]
        apart = description_loss(vectors, described, self._targets(inputs["labels"], model), self.temperature)
        self.steps_ += 1
        self.apart_ = self.apart_ + apart.detach()
        return loss + self.weight * apart, outputs

    def _targets(self, labels: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
        """Which description is that of the class of each text, (batch, descriptions), or with which share."""
        link, outputs = model.blocks[0]
        if link in ("identity", "unit"):  # ordered classes that are learned as values
            labels = (labels.reshape(len(labels), -1)[:, 0] * model.scale + model.center).round()
        else:
            labels = find_classes(labels, link, outputs)
        if labels.dim() > 1:
            return labels[:, list(self.numbers)].float()
        return (labels[:, None] == torch.tensor(self.numbers, device=labels.device)).float()
