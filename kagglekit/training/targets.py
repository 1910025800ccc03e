"""Targets: the labels of a task, soft labels, auxiliary targets (multi-task learning), and the loss of them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from kagglekit.competition.checks import first_bad, name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.features import MISSING
from kagglekit.losses.catalogue import Loss, make_loss
from kagglekit.model.heads import OUTPUT_LAYERS
from kagglekit.scoring.metrics import CLASSES


@dataclass(frozen=True)
class Auxiliary:
    """An auxiliary target: another column of train to learn. Rows without a value (NaN) do not count in its loss.

    kind: regression for numbers of more than 20 values, else multiclass. labels: (rows,) float32, class numbers or
    values. weight: of its loss; that of the task has 1.
    """

    name: str
    kind: str
    classes: list[str]
    labels: np.ndarray
    weight: float

    @property
    def columns(self) -> int:
        """Number of logits."""
        return len(self.classes) or 1


def read_auxiliary(table: pd.DataFrame, weights: dict[str, float]) -> list[Auxiliary]:
    """Auxiliary targets from columns of train. An empty cell is a missing label; among numbers "NA" and "nan" too.

    weights: name of a column -> weight of its loss; 0 leaves it out. Raises ValueError for a column that train does not
    have, and for one with fewer than two values, with names that mostly occur once, or with infinite numbers.
    """
    return [_read_auxiliary(_column(table, name, "auxiliary"), weight) for name, weight in weights.items() if weight]


def _read_auxiliary(column: pd.Series, weight: float) -> Auxiliary:
    column = column.str.strip()
    present = ~column.str.lower().isin(MISSING)
    numbers = bool(are_numbers(column[present]).all())
    present = present if numbers else column != ""
    given = column[present]
    several, what = given.nunique(), f"auxiliary: column {column.name!r} of train holds"
    if several < 2:
        raise ValueError(f"{what} fewer than two values: leave it out")
    if numbers and several > 20:
        classes, values = [], given.astype(float)  # "1e999" is infinite
        if not (values.abs() < np.finfo(np.float32).max).all():
            raise ValueError(f"{what} numbers that are not finite")
    elif several > len(given) / 2:
        raise ValueError(f"{what} {several:,} different values in {len(given):,} rows: too many for classes")
    else:
        classes = sorted(given.unique())
        values = given.map({value: number for number, value in enumerate(classes)})
    labels = np.full(len(column), np.nan, dtype=np.float32)
    labels[present.to_numpy()] = values.to_numpy(np.float32)
    return Auxiliary(str(column.name), "multiclass" if classes else "regression", classes, labels, weight)


def read_soft_targets(table: pd.DataFrame, columns: Sequence[str], classes: Sequence[str]) -> np.ndarray | None:
    """Soft labels from columns of train with votes or probabilities: (rows, classes) float32, each row sums to 1.

    columns: one a class, in the order of `classes`; none gives None. Raises ValueError for a column that train does not
    have, another number of columns, a cell that is no number of 0 or more, and a row of zeros.
    """
    if not columns:
        return None
    if len(columns) != len(classes):
        raise ValueError(f"soft_targets: {len(columns)} columns for {len(classes)} classes ({', '.join(classes)})")
    for name in columns:
        column = _column(table, name, "soft_targets")
        bad = ~are_numbers(column)
        if bad.any():
            raise ValueError(f"soft_targets: {first_bad(bad, column, table['id'], 'which is no number')}")
    values = table[list(columns)].astype(np.float64).to_numpy()
    sums = values.sum(axis=1)
    bad = (values < 0).any(axis=1) | (sums <= 0) | np.isinf(sums)
    if bad.any():
        where = name_row(int(np.argmax(bad)), table["id"].tolist())
        raise ValueError(f"soft_targets: {where} has a number below 0, one without end, or zeros alone for its classes")
    return (values / sums[:, None]).astype(np.float32)


def _column(table: pd.DataFrame, name: str, what: str) -> pd.Series:
    if name not in table.columns:
        raise ValueError(f"{what}: train has no column {name!r}; it has {', '.join(table.columns)}")
    return table[name]


@dataclass(frozen=True)
class Part:
    """The loss of one target, over its columns of logits and labels."""

    loss: Loss
    columns: slice
    weight: float = 1.0
    partial: bool = False  # some rows have no label
    flat: bool = False  # its loss is over the logits of all targets, of which only its own can be right


class MultiTaskLoss:
    """The weighted sum of the losses of several targets, with fixed or also learned weights.

    log_variances: a parameter with one number s a target, which turns its loss L into exp(-s) * L + s (Kendall, Gal and
    Cipolla, 2018, arXiv 1705.07115, without its factors of 2): exp(-s) settles at 1 / L, so that a noisy target counts
    less. None: fixed weights. A batch without any label of a target changes neither that target nor its weight.
    weighted: the last column of the labels is the weight of each row. by_rows: each loss counts by the share of the
    batch's rows that have a label of it, as where each row has one target and all rows count alike.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        log_variances: torch.Tensor | None = None,
        weighted: bool = False,
        by_rows: bool = False,
    ):
        self.parts, self.by_rows = parts, by_rows
        self.log_variances = log_variances
        self.weighted = weighted

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits, labels: (batch, outputs of all targets); NaN where a row has no label."""
        learned = [None] * len(self.parts) if self.log_variances is None else self.log_variances
        total, weights = logits.new_zeros(()), labels[:, -1] if self.weighted else None
        for part, s in zip(self.parts, learned, strict=True):
            ours, theirs, counts = logits[:, part.columns], labels[:, part.columns], weights
            if part.partial:
                present = ~theirs.isnan().any(dim=1)
                if part.flat:
                    ours, theirs = logits, labels.nan_to_num()
                ours, theirs, counts = ours[present], theirs[present], None if weights is None else weights[present]
            if not len(ours):
                total = total + ours.sum()  # 0, with a gradient: in several processes all parameters need one
                continue
            loss = part.loss(ours, theirs) if counts is None else part.loss.weighted(ours, theirs, counts)
            share = len(ours) / len(labels) if self.by_rows else 1.0
            total = total + part.weight * share * (loss if s is None else (-s).exp() * loss + s)
        return total


@dataclass(frozen=True)
class Labels:
    """Labels of some rows: those of the task, soft ones in their place, and auxiliary ones.

    kind: of the task. columns: number of classes, or of labels. values: as of `encode_labels`. auxiliary, soft: as of
    `read_auxiliary` and `read_soft_targets`. weights: (rows,) float32, of the loss of each row; None: all 1.
    """

    kind: str
    columns: int
    values: np.ndarray
    auxiliary: Sequence[Auxiliary] = ()
    soft: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __getitem__(self, rows: np.ndarray) -> "Labels":
        """The labels of these row numbers, in that order."""
        auxiliary = [replace(target, labels=target.labels[rows]) for target in self.auxiliary]
        soft, weights = (None if part is None else part[rows] for part in (self.soft, self.weights))
        return replace(self, values=self.values[rows], auxiliary=auxiliary, soft=soft, weights=weights)

    def in_both_orders(self, exchange: Sequence[int], without: Sequence[str] = ()) -> "Labels":
        """The rows, and then all of them again with classes or labels exchanged: number k becomes `exchange[k]`.
        without: auxiliary targets that have no labels there."""
        rows, places = np.arange(len(self.values)), np.array(exchange)
        both, second = self[np.concatenate([rows, rows])], slice(len(rows), None)
        values = np.array(both.values)
        if self.kind in CLASSES:
            values[second] = places[values[second]]
        elif values.ndim > 1:
            values[second] = values[second][:, places]
        soft = None if both.soft is None else np.concatenate([self.soft, self.soft[:, places]])
        auxiliary = [replace(target, labels=target.labels.copy()) for target in both.auxiliary]
        for target in auxiliary:
            target.labels[second] = np.nan if target.name in without else target.labels[second]
        return replace(both, values=values, soft=soft, auxiliary=auxiliary)

    def extended(self, labels: np.ndarray, weights: np.ndarray) -> "Labels":
        """With extra rows at the end: `labels` as for `soften`, weights of rows, and no auxiliary labels."""
        ours, soft = self.values, self.soft
        if self.kind in CLASSES:
            theirs = self.soften(labels)
            soft = np.concatenate([self.soften(ours) if soft is None else soft, theirs]).astype(np.float32)
            values = np.concatenate([ours, theirs.argmax(axis=1)])
        else:
            values = np.concatenate([ours, labels.astype(ours.dtype).reshape(-1, *ours.shape[1:])])
        none = np.full(len(labels), np.nan, dtype=np.float32)
        auxiliary = [replace(target, labels=np.concatenate([target.labels, none])) for target in self.auxiliary]
        plain = np.ones(len(ours), dtype=np.float32)
        given = np.concatenate([plain, weights.astype(np.float32)]) if (weights != 1).any() else None
        return replace(self, values=values, auxiliary=auxiliary, soft=soft, weights=given)

    def soften(self, labels: np.ndarray) -> np.ndarray:
        """Labels as (rows, columns of a predictions table) float32: class numbers become probabilities of 0 and 1."""
        if labels.ndim == 1 and self.kind in CLASSES:
            return np.eye(self.columns, dtype=np.float32)[labels]
        return labels.reshape(len(labels), -1).astype(np.float32)


def read_labels(task: Task, train: pd.DataFrame, auxiliary: dict[str, float], soft_targets: Sequence[str]) -> Labels:
    """The labels of train; auxiliary and soft_targets as in a `Recipe`. Raises ValueError as `read_auxiliary` does."""
    values, columns = encode_labels(task, train), len(task.classes or task.labels)
    others = read_auxiliary(train, auxiliary)
    return Labels(task.kind, columns, values, others, read_soft_targets(train, soft_targets, task.classes))


@dataclass
class Targets:
    """Labels of the training rows as a loss wants them, that loss, and what the model must know.

    labels: (rows,) int64 class numbers, or (rows, outputs of all targets) float32, those of the task first. center,
    scale: (outputs,), of the task, see `model.heads`. auxiliary: (output layer, outputs) of each auxiliary target.
    """

    output_layer: str
    labels: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    auxiliary: list[tuple[str, int]]

    @property
    def outputs(self) -> int:
        """Number of logits of the task."""
        return len(self.center)


def make_targets(labels: Labels, loss: dict[str, dict], apart: bool = False) -> Targets:
    """Labels and loss for training.

    loss: as in a `Recipe`. apart: one loss for each column of a task with several, so that their weights can be
    learned. Soft labels take the place of class numbers; weights of rows become the last column of the labels.
    """
    kind, values = labels.kind, labels.values
    whole, layer = make_loss(loss, kind, values, labels.columns)
    encoded, center, scale = OUTPUT_LAYERS[layer].encode(values, labels.columns)
    encoded = encoded if labels.soft is None else labels.soft.astype(np.float32)
    if not labels.auxiliary and not apart and labels.weights is None:
        return Targets(layer, encoded, center, scale, whole, [])
    blocks, auxiliary = [_one_hot(encoded, labels.columns)], []
    parts = [Part(whole, slice(0, blocks[0].shape[1]))]
    if apart and values.ndim == 2:
        losses = [make_loss(_of_column(loss, k), kind, values[:, [k]], 1)[0] for k in range(values.shape[1])]
        parts = [Part(part, slice(k, k + 1)) for k, part in enumerate(losses)]
    for target in labels.auxiliary:
        block, its_loss, its_layer = _encode(target)
        begin = parts[-1].columns.stop
        partial = bool(np.isnan(block).any())
        parts.append(Part(its_loss, slice(begin, begin + block.shape[1]), target.weight, partial))
        blocks.append(block)
        auxiliary.append((its_layer, block.shape[1]))
    if labels.weights is not None:
        blocks.append(labels.weights.reshape(-1, 1))
    everything = np.concatenate(blocks, axis=1).astype(np.float32)
    weighted = MultiTaskLoss(parts, weighted=labels.weights is not None)
    return Targets(layer, everything, center, scale, weighted, auxiliary)


def _of_column(loss: dict[str, dict], k: int) -> dict[str, dict]:
    """The loss of one column: its own number of each option that has one a column."""
    own = {name: options.items() for name, options in loss.items()}
    return {name: {o: [v[k]] if isinstance(v, list) else v for o, v in options} for name, options in own.items()}


def _one_hot(encoded: np.ndarray, columns: int) -> np.ndarray:
    return np.eye(columns, dtype=np.float32)[encoded] if encoded.ndim == 1 else encoded


def _encode(target: Auxiliary) -> tuple[np.ndarray, Loss, str]:
    """Labels for a loss, (rows, outputs) with NaN where there are none, the loss, and the output layer."""
    present = ~np.isnan(target.labels)
    if not present.any():
        raise ValueError(f"auxiliary: no row that this fold trains on has a value of {target.name!r}: leave it out")
    labels = target.labels[present].astype(np.int64) if target.classes else target.labels[present, None]
    loss, layer = make_loss({}, target.kind, labels, target.columns)
    block = np.full((len(present), target.columns), np.nan, dtype=np.float32)
    block[present] = _one_hot(OUTPUT_LAYERS[layer].encode(labels, target.columns)[0], target.columns)
    return block, loss, layer
