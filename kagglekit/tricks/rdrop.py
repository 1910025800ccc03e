"""R-Drop: two dropout passes of one batch must agree (Liang et al., 2021, arXiv 2106.14448)."""

import torch
from torch.nn import functional as F

from kagglekit.training.trick import Trick


def disagreement(logits: torch.Tensor, others: torch.Tensor, kind: str) -> torch.Tensor:
    """KL(p, q) + KL(q, p) of two passes, a mean over the batch.

    logits, others: (batch, outputs). Softmax distributions for binary and multiclass, one Bernoulli distribution per
    label for multilabel; for regression and ordinal the squared difference stands for it.
    """
    if kind in ("regression", "ordinal"):
        return 2 * F.mse_loss(logits, others)
    if kind == "multilabel":  # KL + KL of Bernoulli distributions is (p - q) * (logit p - logit q)
        return ((logits.sigmoid() - others.sigmoid()) * (logits - others)).mean()
    p, q = logits.log_softmax(-1), others.log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()


class RDrop(Trick):
    """Mean of the two losses plus `alpha / 2` times the disagreement of the two predictions.

    alpha: 0 is plain training on the mean of two passes, 0.5 to 5 are usual, large ones make the model timid. Doubles
    the step. It needs dropout: without any, both passes agree and the receipt is an error.
    """

    def __init__(self, alpha: float = 1.0, start: float = 0.0):
        self.alpha = alpha
        self.start = start

    def compute_loss(self, compute, model, inputs):
        loss, outputs = compute(inputs)
        other_loss, others = compute(inputs)
        apart = disagreement(outputs["logits"].float(), others["logits"].float(), model.kind)
        self.steps_ += 1
        self.disagreement_ = getattr(self, "disagreement_", 0) + apart.detach()
        return (loss + other_loss) / 2 + self.alpha / 2 * apart, outputs

    def receipt(self, model):
        mean = float(getattr(self, "disagreement_", 0)) / max(self.steps_, 1)
        if self.steps_ and mean == 0:
            raise ValueError(
                "RDrop compared two equal passes: the model has no dropout. Set dropout=0.1, or leave RDrop out"
            )
        return {**super().receipt(model), "mean disagreement": mean}
