"""Gradients of word embeddings on a CPU: one table for all steps, of which only rows in use are written

PyTorch makes a table of zeros for every batch, 30,000 to 250,000 rows long, of which a batch uses a few hundred: on
short texts this, and the norm and the scaling over all rows, is a tenth of a step. The gradient is the same, and is
found at the same place, `weight.grad`.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm


class RowGradients:
    """The gradient of the word embeddings of a model, kept from step to step, and the rows that it has values in.

    It acts where a model is trained on a CPU by one process, its table is used in one place, and the embeddings are
    plain ones; elsewhere nothing changes. `clear` is to be called where gradients are set to None.
    """

    def __init__(self, model: nn.Module, embeddings: nn.Module):
        self.table, self.rows, self.used = None, [], False
        places = [p for _, p in model.named_parameters(remove_duplicate=False) if p is embeddings.weight]
        if type(embeddings) is nn.Embedding and len(places) == 1 and not embeddings.max_norm:
            embeddings.forward = partial(_embed, self, embeddings)

    def __getstate__(self):
        return {"table": None, "rows": [], "used": False}  # a copy of a model begins without gradients

    def add(self, weight: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add gradients (tokens, width) of these rows (tokens,)."""
        if weight.grad is None and not self.used:
            if self.table is None or self.table.shape != weight.shape:
                self.table = torch.zeros_like(weight)
            weight.grad = self.table
        elif weight.grad is None:  # the table is set aside
            weight.grad = torch.zeros_like(weight)
        rows, places = rows.unique(return_inverse=True)
        if weight.grad is self.table:
            self.rows.append(rows)
            self.used = True
        # tokens of one batch are added up first: two equal passes give exactly twice the gradient of one
        weight.grad.index_add_(
            0, rows, gradient.new_zeros(len(rows), gradient.shape[1]).index_add_(0, places, gradient)
        )

    def clear(self) -> None:
        """Make the rows in use zero again, once no one reads the gradient."""
        if self.used:
            self.table.index_fill_(0, torch.cat(self.rows), 0)
            self.rows, self.used = [], False

    def free(self) -> None:
        """Give the memory of the table back, after training."""
        self.clear()
        self.table = None

    def in_use(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Numbers of the rows in which a gradient can have values; None: in all."""
        return torch.cat(self.rows).unique() if self.used and gradient is self.table else None


def _embed(gradients: RowGradients, embeddings: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    weight, padding = embeddings.weight, embeddings.padding_idx
    trained = torch.is_grad_enabled() and weight.requires_grad
    if not trained or weight.device.type != "cpu" or torch.distributed.is_initialized():
        return F.embedding(ids, weight, padding)
    return _Embed.apply(weight, ids, -1 if padding is None else padding, gradients)


class _Embed(torch.autograd.Function):
    """Embeddings whose gradient goes to `RowGradients`."""

    @staticmethod
    def forward(ctx, weight, ids, padding, gradients):
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding, ctx.gradients = weight, padding, gradients
        return F.embedding(ids, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (ids,) = ctx.saved_tensors
        gradient = gradient.masked_fill((ids == ctx.padding).unsqueeze(-1), 0).flatten(0, -2)
        ctx.gradients.add(ctx.weight, ids.flatten(), gradient)
        return None, None, None, None


def clip_norm(parameters: Iterable[torch.Tensor], table: RowGradients, most: float) -> torch.Tensor:
    """Scale gradients, of which one can be in `table`, down to a norm of `most`, and return the norm before.

    As `torch.nn.utils.clip_grad_norm_`, without rows not in use, and without a pass over gradients that are short.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    tables = [(g, rows) for g in gradients if (rows := table.in_use(g)) is not None]
    others = [g for g in gradients if all(g is not one for one, _ in tables)]
    parts = [one.index_select(0, rows) for one, rows in tables]
    norm = get_total_norm([*others, *parts])
    scale = most / (norm + 1e-6)
    if not scale >= 1:
        torch._foreach_mul_([*others, *parts], scale)
        for (one, rows), part in zip(tables, parts, strict=True):
            one.index_copy_(0, rows, part)
    return norm
