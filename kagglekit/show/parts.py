"""Scores and errors by parts of the rows: by length, by the values of a column, of a regression by the true value."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kagglekit.competition.task import BY, Task, free_columns, read_train
from kagglekit.scoring.bootstrap import bootstrap_scores, interval
from kagglekit.scoring.metrics import is_catalogued, is_higher_better, metric_column, score
from kagglekit.show.classes import draw_spreads
from kagglekit.show.plots import worst_targets
from kagglekit.show.style import BLUE, GREEN, ORANGE, dress, make_axes, make_figure, name_rows, note, short, styled

FEW = 20  # rows: of fewer an interval says nothing
VALUES = 8  # of a column; the rest are "others"
COLUMNS = 6  # at most
DRAWS = 200  # bootstrap samples of a part


def find_parts(task: Task, train: pd.DataFrame, rows: np.ndarray) -> dict[str, pd.Series]:
    """What `rows` (numbers) of train can be told apart by: the length of their texts in five parts, and each column of
    few values; name -> the part of each row, an ordered categorical.

    train: as from `read_train`; its file has the columns: those that are neither text, id nor label, and the group.
    A column counts where it has at most 20 values, or where 8 values have a third of the rows; 6 columns at most.
    """
    found = {"length": _fifths(train["text"].str.len().to_numpy()[rows], "characters")}
    columns = read_train(task, [name for name in free_columns(task) if name not in task.text]).iloc[rows]
    for name in columns.columns.difference(["id", "text", BY, *task.labels], sort=False):
        part = _values(columns[name].str.strip().reset_index(drop=True))
        if part is not None and len(found) <= COLUMNS:
            found[str(task.group) if name == "group" else name] = part
    return {name: part for name, part in found.items() if part.nunique() > 1}


def _fifths(numbers: np.ndarray, unit: str = "") -> pd.Series:
    """Five parts of as many rows each, as far as equal numbers allow; "80 to 120 characters"."""
    cut = pd.qcut(pd.Series(numbers), 5, duplicates="drop", labels=False).fillna(0)
    cut = np.unique(cut, return_inverse=True)[1]  # without parts that no row is in
    ends = pd.Series(numbers).groupby(cut).agg(["min", "max"])
    whole, reach = np.issubdtype(np.asarray(numbers).dtype, np.integer), np.ptp(ends.to_numpy())
    places = 0 if whole or not reach else int(np.clip(2 - np.floor(np.log10(reach)), 0, 9))
    words = [" to ".join(dict.fromkeys(f"{end:,.{places}f}" for end in row)) for row in ends.to_numpy()]
    words = [f"{word} {unit}".strip() for word in words]
    return pd.Series(pd.Categorical.from_codes(cut, words if len(set(words)) == len(words) else ends.index.astype(str)))


def _values(column: pd.Series) -> pd.Series | None:
    """The values of a column, the most frequent first, rare ones as "others"; None where they are no categories."""
    counts = column.value_counts()
    if len(counts) < 2 or (len(counts) > 20 and counts[:VALUES].sum() < len(column) / 3) or counts.iloc[1] < 2:
        return None
    kept = list(counts.index[: VALUES if len(counts) > VALUES + 1 else len(counts)])
    others = f"{len(counts) - len(kept):,} others"
    part = column.where(column.isin(kept), others)
    names = [*kept, others] if len(kept) < len(counts) else kept
    words = {name: name or "(empty)" for name in names}
    return pd.Series(pd.Categorical(part.map(words), list(dict.fromkeys(words.values()))))


def score_parts(
    task: Task, labels: np.ndarray, predictions: np.ndarray, parts: Mapping[str, pd.Series], groups=None
) -> pd.DataFrame:
    """The score of each part with its 95 % interval (bootstrap): index by and part; columns rows, score, low, high.

    labels, predictions, and each of `parts` (see `find_parts`): of the same rows. groups: of rows that are drawn
    together. Below 20 rows there is no interval; where the metric is not defined (ROC AUC of one class), no score.
    """
    table = {}
    for by, part in parts.items():
        codes = part.cat.codes.to_numpy()
        for code, name in enumerate(part.cat.categories):
            rows = np.flatnonzero(codes == code)
            if len(rows):
                together = None if groups is None else np.asarray(groups)[rows]
                table[by, name] = _score_part(task.metric, labels[rows], predictions[rows], together)
    columns = ["rows", "score", "low", "high"]
    index = pd.MultiIndex.from_tuples(table, names=["by", "part"])
    return pd.DataFrame(table.values(), columns=columns, index=index)


def _score_part(metric: str, labels: np.ndarray, predictions: np.ndarray, groups) -> tuple[int, float, float, float]:
    try:
        value = score(metric, labels, predictions)
    except Exception:  # not defined on these rows; a function of the user may raise anything
        return len(labels), np.nan, np.nan, np.nan
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < FEW:
        return len(labels), value, np.nan, np.nan
    draws = DRAWS if is_catalogued(metric) or metric_column(metric) else DRAWS // 4  # no fast form
    drawn = bootstrap_scores(metric, labels, [predictions], groups, draws)[:, 0]
    return len(labels), value, *(interval(drawn, units) if np.isfinite(drawn).sum() > 1 else (np.nan, np.nan))


@styled
def part_scores(table: pd.DataFrame, overall: float, metric: str) -> Figure | None:
    """The scores of the table of `score_parts`, with that of all rows as a line; None for an empty table."""
    table, names, heads = table[table["score"].notna()], [], []
    if not len(table):
        return None
    ax = make_axes(7.5, 1.3 + 0.3 * (len(table) + table.index.get_level_values(0).nunique()), grid="x")
    ax.axvline(overall, color=GREEN, linewidth=1.2, linestyle="--")
    note(ax, f"all: {overall:.4f}", overall, 1, xycoords=("data", "axes fraction"), xytext=(4, 6), color=GREEN)
    for (by, part), (count, value, low, high) in zip(table.index, table.to_numpy(), strict=True):
        if by not in heads:
            heads.append(by)
            names.append(f"by {by}")
        sure, place = np.isfinite(low), len(names)
        names.append(str(part))
        ax.plot([low, high], [place] * 2, color=BLUE, linewidth=1.8)
        ax.plot(value, place, "o" if sure else "D", color=BLUE, markersize=6, markerfacecolor=BLUE if sure else "white")
        words = f"{value:.4f}   {count:,.0f} rows{'' if sure else ', few'}"
        note(ax, words, 1, place, xycoords=("axes fraction", "data"))
    name_rows(ax, names)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in short([f"by {by}" for by in heads]) else "normal")
    ax.margins(x=0.08)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    better = "higher" if is_higher_better(metric) else "lower"
    ax.set_xlabel(f"{metric} ({better} is better; lines: 95 % intervals; few: under {FEW} rows)")
    return ax.figure


@styled
def residual_parts(task: Task, labels: np.ndarray, predictions: np.ndarray, lengths: pd.Series | None) -> Figure | None:
    """The errors of a regression (predicted minus true) by the true value, in fifths, and by the length; a row of
    panels for each target, of more than six those with the largest errors. None for any other task.

    lengths: the part of each row, see `find_parts`; None: all are as long. Rows that are pulled to the mean have errors
    above 0 on top.
    """
    if task.kind != "regression":
        return None
    labels = np.asarray(labels, dtype=np.float64).reshape(predictions.shape)
    shown = worst_targets(labels, predictions)
    kinds = 1 if lengths is None else 2
    figure = make_figure(4.8 * kinds, 2.6 * len(shown))
    panels = figure.subplots(len(shown), kinds, squeeze=False)
    for axes, number in zip(panels, shown, strict=True):
        errors, name = predictions[:, number] - labels[:, number], short([task.labels[number]])[0]
        for ax, part, by in zip(axes, (_fifths(labels[:, number]), lengths), ("true value", "length"), strict=False):
            dress(ax, "x")
            codes, words = part.cat.codes.to_numpy(), part.cat.categories
            draw_spreads(ax, [errors[codes == code] for code in range(len(words))], BLUE, 0.0, "o", None)
            ax.axvline(0, color=ORANGE, linewidth=1.2, linestyle="--")
            counts = [f"{word} ({(codes == code).sum():,})" for code, word in enumerate(words)]
            name_rows(ax, counts)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.set(xlabel="predicted minus true", title=f"{name}, by {by}")
    return figure
