"""The formulas of the losses: f(logits (batch, outputs), targets, options) -> scalar, a mean over the batch.

Targets are class numbers (batch,) or, for soft labels, probabilities (batch, classes); for all other losses, numbers
in the shape of the logits. All compute in float32; value and gradient are finite even for logits of 10,000.
"""

import torch
from torch.nn import functional as F


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy: the mean of -log p(class). With soft labels it has the gradients of KL(targets, prediction).

    class_weights (classes,): each row has the weight of its class; None or all equal is the plain mean, 0 ignores a
    class. label_smoothing: this share of a target goes to all classes alike; 0 is none, 0.1 is usual, near 1 nothing
    is left to learn (Szegedy et al., 2016, arXiv 1512.00567).
    """
    logits, targets = logits.float(), targets.float() if targets.is_floating_point() else targets
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing, reduction="sum")
    return total / _mass(_as_probs(targets, logits), class_weights)


def bce(
    logits: torch.Tensor, targets: torch.Tensor, pos_weight: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Binary cross entropy, the mean over labels; targets from 0 to 1.

    pos_weight (labels,): weight of positives; 1 is plain, more finds more positives. label_smoothing: targets go this
    far from 0 and 1 towards 0.5; 0 is none.
    """
    targets = targets.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=pos_weight)


def focal(
    logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Focal loss: cross entropy with weights (1 - p)^gamma, so that hard rows count more.

    gamma: 0 is `cross_entropy`, 2 is usual, at 5 only badly wrong rows count. class_weights: alpha of the
    paper (Lin et al., 2017, arXiv 1708.02002).
    """
    logs = logits.float().log_softmax(dim=-1)
    targets = _as_probs(targets, logs)
    weights = torch.ones_like(logs[0]) if class_weights is None else class_weights
    hard = (-logs.expm1()).clamp_min(1e-6) ** gamma  # the power has no finite slope at 0 when gamma is below 1
    return -(targets * weights * hard * logs).sum() / _mass(targets, weights)


def focal_bce(
    logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, pos_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Focal loss for multilabel (Lin et al., 2017). gamma: 0 is `bce`. pos_weight: as in `bce`."""
    logits, targets = logits.float(), targets.float()
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = -targets * (gamma * no).exp() * yes * (1 if pos_weight is None else pos_weight)
    return (positive - (1 - targets) * (gamma * yes).exp() * no).mean()


def soft_f1(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Soft macro F1: 1 minus F1, with probabilities in place of decisions.

    A class without rows in the batch counts as F1 of 0 and gets no gradient: batches should be large, and
    {"cross_entropy": {}, "soft_f1": {}} learns faster at first. Source: competition write-ups.
    """
    probs = logits.float().softmax(dim=-1)
    return _one_minus_f1(probs, _as_probs(targets, probs))


def soft_f1_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Soft macro F1 for multilabel."""
    return _one_minus_f1(logits.float().sigmoid(), targets.float())


def squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared error; targets (batch,) count as one column."""
    return F.mse_loss(logits.float(), targets.reshape(logits.shape).float())


def smooth_l1(logits: torch.Tensor, targets: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """Smooth L1: squared error up to beta, absolute error (less beta / 2) beyond, so that outliers pull less.

    beta: in standard deviations of the target; 0 is absolute error, a large one squared error / (2 beta). Girshick,
    2015, arXiv 1504.08083.
    """
    return F.smooth_l1_loss(logits.float(), targets.reshape(logits.shape).float(), beta=beta)


def bce_scaled(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy on targets scaled to 0 to 1: predictions stay in the range of the training rows.

    Its lowest value is the targets' own entropy, not 0. Source: competition write-ups.
    """
    return bce(logits, targets.reshape(logits.shape))


def pearson(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 minus the Pearson correlation within the batch, mean over columns: 0 is perfect, 2 is reversed.

    A column in which predictions or targets are constant, as in a batch of one, gives 1 and no gradient. It learns
    neither mean nor scale: {"mse": {}, "pearson": {}} does. Source: competitions scored by correlation.
    """
    logits = logits.float()
    x, x_varies = _deviations(logits)
    y, y_varies = _deviations(targets.reshape(logits.shape).float())
    varies = x_varies & y_varies  # (outputs,)
    spread = torch.where(varies, x.square().sum(dim=0), 1).sqrt() * torch.where(varies, y.square().sum(dim=0), 1).sqrt()
    return (1 - torch.where(varies, (x * y).sum(dim=0) / spread, 0)).mean()


def ranking(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Pairwise ranking: softplus(s_j - s_i), mean over pairs of the batch with target i above j, then over columns.

    It is 0 without such a pair. It learns the order, not the values. Burges et al., 2005 (RankNet).
    """
    logits = logits.float()
    targets = targets.reshape(logits.shape)
    above = (targets[:, None] > targets[None]).float()  # (batch, batch, outputs)
    losses = F.softplus(logits[None] - logits[:, None]) * above
    return (losses.sum(dim=(0, 1)) / above.sum(dim=(0, 1)).clamp_min(1)).mean()


def corn(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """CORN: binary cross entropy of level k on the rows whose label is above k - 1, mean over rows and levels.

    targets (batch, classes - 1): 1 where the label is above k; with soft levels, level k - 1 is the weight of the row.
    Shi, Cao and Raschka, 2021, arXiv 2111.08851.
    """
    logits, targets = logits.float(), targets.float()
    rows = torch.cat([torch.ones_like(targets[:, :1]), targets[:, :-1]], dim=1)  # (batch, classes - 1)
    losses = targets * F.logsigmoid(logits) + (rows - targets) * F.logsigmoid(-logits)
    return -losses.sum() / rows.sum()


def cumulative(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cumulative logits: binary cross entropy of every level on all rows.

    targets (batch, classes - 1): 1 where the label is above k. Cheng et al., 2008, arXiv 0704.1028; the loss of CORAL
    (Cao et al., 2020, arXiv 1901.07884), but each level has weights of its own.
    """
    return bce(logits, targets)


def _as_probs(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Class numbers (batch,) as probabilities (batch, classes); probabilities as they are."""
    soft = targets if targets.is_floating_point() else F.one_hot(targets, logits.shape[-1])
    return soft.float()


def _mass(targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weight of a batch: the sum over rows of the weights of their classes; 1 instead of 0."""
    mass = (targets * weights).sum()
    return mass + (mass == 0)


def _one_minus_f1(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    hits, both = (probs * targets).sum(dim=0), (probs + targets).sum(dim=0)  # (classes,)
    return 1 - (2 * hits / both.clamp_min(1e-6)).mean()  # 2 tp + fp + fn is the sum of probabilities and of targets


def _deviations(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deviations from the column means, and whether a column varies by more than rounding."""
    deviations = values - values.mean(dim=0)
    size = values.detach().abs().amax(dim=0).clamp_min(1e-6)
    return deviations, deviations.detach().square().mean(dim=0).sqrt() > 1e-6 * size
