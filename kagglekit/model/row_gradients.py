"""Gradients of word embeddings on a CPU: one table for all steps, of which only rows in use are written

PyTorch makes a table of zeros for every batch, 30,000 to 250,000 rows long, of which a batch uses a few hundred: on
short texts this, and the norm and the scaling over all rows, is a tenth of a step. The gradient is the same, and is
found at the same place, `weight.grad`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        self.table, self.rows, self.used, self.spare = None, [], False, None
        places = [p for _, p in model.named_parameters(remove_duplicate=False) if p is embeddings.weight]
        if type(embeddings) is nn.Embedding and len(places) == 1 and not embeddings.max_norm:
            embeddings.forward = partial(_embed, self, embeddings)

    def __getstate__(self):
        return {"table": None, "rows": [], "used": False, "spare": None}  # a copy of a model begins without gradients

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
        self.table = self.spare = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let what is added in the block go to another table, which is cleared at the end."""
        kept = self.table, self.rows, self.used
        self.table, self.rows, self.used = self.spare, [], False
        try:
            yield
        finally:
            self.clear()
            self.spare = self.table
            self.table, self.rows, self.used = kept

    def in_use(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Numbers of the rows in which a gradient can have values; None: in all."""
        return torch.cat(self.rows).unique() if self.used and gradient is self.table else None


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix. numbers: of them, (rows,) in rising order; None: all rows."""

    numbers: torch.Tensor | None = None

    def take(self, matrix: torch.Tensor) -> torch.Tensor:
        """These rows, as a copy; all rows are the matrix itself."""
        return matrix if self.numbers is None else matrix.index_select(0, self.numbers)

    def put(self, matrix: torch.Tensor, values: torch.Tensor) -> None:
        """Write these rows."""
        matrix.copy_(values) if self.numbers is None else matrix.index_copy_(0, self.numbers, values)

    def add(self, matrix: torch.Tensor, values: torch.Tensor) -> None:
        """Add to these rows."""
        matrix.add_(values) if self.numbers is None else matrix.index_add_(0, self.numbers, values)


def rows_in_use(model: nn.Module, parameter: torch.Tensor) -> Rows:
    """The rows in which the gradient of a parameter can have values."""
    table = getattr(model, "row_gradients", None)
    return Rows(table.in_use(parameter.grad) if table is not None and parameter.grad is not None else None)


@contextmanager
def rows_written(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The gradients of a model, to be read or changed in place; of word embeddings the rows in use, at the end."""
    found = [(p.grad, rows_in_use(model, p)) for p in model.parameters() if p.grad is not None]
    tables = [(gradient, rows) for gradient, rows in found if rows.numbers is not None]
    parts = [rows.take(gradient) for gradient, rows in tables]
    try:
        yield [*(gradient for gradient, rows in found if rows.numbers is None), *parts]
    finally:
        for (gradient, rows), part in zip(tables, parts, strict=True):
            rows.put(gradient, part)


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


def clip_norm(model: nn.Module, most: float) -> torch.Tensor:
    """Scale the gradients of a model down to a norm of `most`, and return the norm before.

    As `torch.nn.utils.clip_grad_norm_`, without rows not in use, and without a pass over gradients that are short.
    """
    with rows_written(model) as gradients:
        norm = get_total_norm(gradients)
        scale = most / (norm + 1e-6)
        if not scale >= 1:
            torch._foreach_mul_(gradients, scale)
    return norm
