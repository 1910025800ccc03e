"""Figures of the notebooks: each function takes data and returns a matplotlib figure, which a notebook shows once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import ks_2samp

from kagglekit.competition.submission import decide
from kagglekit.scoring.metrics import is_higher_better
from kagglekit.show.style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PERCENT,
    SKY,
    dress,
    heat_map,
    legend_above,
    make_axes,
    make_figure,
    make_panels,
    name_rows,
    note,
    short,
    styled,
)


@styled
def label_balance(labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Class balance: texts per class or label, or the histogram of targets.

    labels: from `encode_labels`; names: the task's classes, or else its label columns. Of many classes the 30
    most frequent are shown.
    """
    labels = np.asarray(labels)
    several = labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all()
    if labels.dtype.kind == "f" and not several:
        ax, values = make_axes(6.5, 3.2), labels.reshape(len(labels), -1)
        bins = np.linspace(values.min(), values.max(), 41)
        for k, name in enumerate(short(names)):
            style = "stepfilled" if len(names) == 1 else "step"
            ax.hist(values[:, k], bins, histtype=style, color=COLOURS[k % len(COLOURS)], label=name, linewidth=1.6)
        if len(names) > 1:
            ax.legend()
        ax.set(xlabel=short(names)[0] if len(names) == 1 else "value", ylabel="texts", title="Distribution of targets")
        return ax.figure
    counts = pd.Series(labels.sum(axis=0) if several else np.bincount(labels, minlength=len(names)), index=list(names))
    shown = counts if len(counts) <= 30 else counts.sort_values(ascending=False, kind="stable")[:30]
    ax = make_axes(6.5, 1.1 + 0.32 * len(shown), grid="x")
    ax.barh(range(len(shown)), shown, color=BLUE, height=0.68)
    for row, count in enumerate(shown):
        note(ax, f"{count:,.0f}  ({count / len(labels):.1%})", count, row)
    name_rows(ax, shown.index)
    ax.set_xlim(0, max(shown.max(), 1) * 1.22)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    title = f"Texts of each {'label' if several else 'class'}"
    ax.set(xlabel="texts", title=title if len(shown) == len(counts) else f"The 30 most frequent of {len(counts)}")
    return ax.figure


@styled
def token_lengths(lengths: np.ndarray, max_lengths: Sequence[int] = (64, 128, 256, 512)) -> Figure:
    """Histogram of token lengths, and for each max_length the share of texts that are truncated and of tokens lost.

    The histogram ends at the 99th percentile; longer texts are in its last bar. Where no text is truncated it is alone.
    """
    lengths = np.asarray(lengths)
    truncated = (lengths > min(max_lengths)).any()
    left, right, *_ = [*make_panels((6.0, 3.6) if truncated else (6.0,), 3.2), None]
    top = max(np.ceil(np.quantile(lengths, 0.99) * 1.03), 10)
    left.hist(np.minimum(lengths, top), bins=np.linspace(0, top, min(int(top), 50) + 1), color=BLUE)
    left.margins(y=0.12)
    for limit in max_lengths:
        if limit < top:
            left.axvline(limit, color=ORANGE, linewidth=1.2, linestyle="--")
            place = {"xycoords": ("data", "axes fraction"), "xytext": (3, -2), "va": "top", "color": ORANGE}
            note(left, str(limit), limit, 1, **place)
    left.set(xlabel=f"tokens per text (median {np.median(lengths):,.0f}, longest {lengths.max():,})", ylabel="texts")
    left.set(title="Token lengths", xlim=(0, top))
    if not truncated:
        return left.figure
    for row, limit in enumerate(max_lengths):
        cut, lost = np.mean(lengths > limit), 1 - np.minimum(lengths, limit).sum() / max(lengths.sum(), 1)
        for at, share, colour, name in ((-0.19, cut, ORANGE, "texts truncated"), (0.19, lost, PALE, "tokens lost")):
            right.barh(row + at, share, color=colour, height=0.36, label=name if row == 0 else None)
            note(right, f"{share:.1%}", share, row + at)
    name_rows(dress(right, "x"), max_lengths)
    right.set(xlim=(0, 1.3), xticks=[0, 0.5, 1], ylabel="max_length", xlabel="share", title="Truncation")
    right.xaxis.set_major_formatter(PERCENT)
    right.legend(loc="lower right")
    return left.figure


@styled
def compare_train_test(train: np.ndarray, test: np.ndarray) -> Figure:
    """Histograms of the lengths of texts of train and of test, in tokens.

    The KS distance (Kolmogorov-Smirnov) is 0 for equal distributions, 1 for disjoint ones. With a long tail the axis is
    logarithmic.
    """
    ax = make_axes(6.5, 3.2)
    train, test = (np.asarray(values, dtype=np.float64) for values in (train, test))
    both = np.concatenate([train, test])
    low, high = both.min(), both.max()
    if low > 0 and np.quantile(both, 0.99) > 8 * np.median(both):
        bins = np.geomspace(low, high, 41)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:,.0f}")
    else:
        bins = np.linspace(low, max(np.quantile(both, 0.995), low + 1), 41)
    for values, name, colour in ((train, "train", BLUE), (test, "test", ORANGE)):
        clipped, shares = values.clip(bins[0], bins[-1]), np.full(len(values), 1 / len(values))
        bars = {"bins": bins, "weights": shares, "color": colour}
        ax.hist(clipped, histtype="stepfilled", alpha=0.12, **bars)
        label = f"{name}: {len(values):,} texts, median {np.median(values):,.0f}"
        ax.hist(clipped, histtype="step", linewidth=1.6, label=label, **bars)
    ax.yaxis.set_major_formatter(PERCENT)
    ax.legend(loc="upper right")
    distance = ks_2samp(train, test).statistic
    ax.set(xlabel="tokens per text", ylabel="share of texts", title=f"Train against test (KS distance {distance:.3f})")
    return ax.figure


@styled
def fold_scores(
    scores: Mapping[int, float | None],
    mean: float,
    standard_error: float,
    metric: str = "score",
    seeds: Mapping[int, Sequence[float]] | None = None,
) -> Figure:
    """The score of each fold, with that of all out-of-fold rows (`mean`) and its standard error; small dots: those of
    the seeds of a fold, each by itself. None: the metric is not defined on the rows of that fold."""
    ax = make_axes(6.0, 1.2 + 0.32 * len(scores), grid="x")
    ax.axvspan(mean - standard_error, mean + standard_error, color=SKY, alpha=0.25, linewidth=0)
    ax.axvline(mean, color=BLUE)
    for row, fold in enumerate(scores):
        alone = [one for one in (seeds or {}).get(fold, ()) if one is not None]
        ax.plot(alone, [row] * len(alone), "o", color=INK, markersize=3.5, alpha=0.6, zorder=3)
    values = [np.nan if value is None else value for value in scores.values()]
    ax.plot(values, range(len(scores)), "o", color=ORANGE, markersize=8)
    for row, value in enumerate(scores.values()):
        note(ax, "not defined" if value is None else f"{value:.4f}", 1, row, xycoords=("axes fraction", "data"))
    name_rows(ax, [f"fold {fold}" for fold in scores])
    ax.margins(x=0.2)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    words = "band: one standard error" + "; small dots: each seed alone" * bool(seeds)
    ax.set(xlabel=f"{metric} ({words})", title=f"Out of fold: {mean:.4f} ± {standard_error:.4f}")
    return ax.figure


@styled
def confusion(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Confusion matrix: counts, and as colour the share of the true class. Both int (n,), class indices."""
    size = len(classes)
    counts = np.bincount(np.asarray(labels) * size + np.asarray(predicted), minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(2.0 + (0.72 if size <= 12 else 0.28) * size, 11)
    ax = make_axes(side + 1, side, grid="")

    def texts(row, column):
        return f"{counts[row, column]:,}\n{shares[row, column]:.0%}" if counts[row, column] else ""

    heat_map(ax, shares, classes, texts, 0, "share of the true class", PERCENT)
    right = np.trace(counts) / max(counts.sum(), 1)
    ax.set(xlabel="predicted", ylabel="true", title=f"{right:.1%} of {counts.sum():,} right")
    return ax.figure


@styled
def label_errors(labels: np.ndarray, probs: np.ndarray, names: Sequence[str]) -> Figure:
    """Of each of several labels, how many are found, missed and false alarms at 0.5. Both (n, labels)."""
    labels, given = np.asarray(labels) == 1, np.asarray(probs) >= 0.5
    ax = make_axes(6.5, 1.5 + 0.34 * len(names), grid="x")
    start = np.zeros(len(names))
    parts = {"found": labels & given, "missed": labels & ~given, "false alarm": ~labels & given}
    for (name, part), colour in zip(parts.items(), (BLUE, PALE, ORANGE), strict=True):
        ax.barh(range(len(names)), part.sum(axis=0), left=start, color=colour, height=0.68, label=name)
        start += part.sum(axis=0)
    name_rows(ax, names)
    legend_above(ax)
    ax.set(xlabel="texts")
    return ax.figure


def worst_targets(labels: np.ndarray, predictions: np.ndarray, n: int = 6) -> list[int]:
    """The numbers of the `n` targets with the largest errors in units of their standard deviation, in their order."""
    errors = np.sqrt(((predictions - labels) ** 2).mean(axis=0)) / np.maximum(labels.std(axis=0), 1e-12)
    return sorted(np.argsort(-errors, kind="stable")[:n].tolist())


@styled
def residuals(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> Figure:
    """Predicted against true values, and the histogram of errors; a row of panels per target, of more than six for
    those with the largest errors. Both (n, targets)."""
    labels, predictions = (np.asarray(values, dtype=np.float64) for values in (labels, predictions))
    shown = worst_targets(labels, predictions)
    figure = make_figure(8.8, 3.4 * len(shown))
    panels = figure.subplots(len(shown), 2, squeeze=False)
    columns, names = (labels[:, shown].T, predictions[:, shown].T), [short(names)[number] for number in shown]
    for axes, true, predicted, name in zip(panels, *columns, names, strict=True):
        (left, right), errors = (dress(ax, "y") for ax in axes), predicted - true
        if len(true) > 2000:
            image = left.hexbin(true, predicted, gridsize=36, cmap="Blues", bins="log", mincnt=1, linewidths=0.1)
            bar = figure.colorbar(image, ax=left, label="texts")
            bar.outline.set_visible(False)
            dress(bar.ax, "")
        else:
            left.plot(true, predicted, "o", color=BLUE, markersize=4.5, alpha=0.35, markeredgewidth=0)
        left.axline((true.mean(), true.mean()), slope=1, color=ORANGE, linewidth=1.2, linestyle="--")
        left.set(xlabel="true", ylabel="predicted", title=name)
        right.hist(errors, bins=41, color=BLUE)
        right.axvline(0, color=ORANGE, linewidth=1.2, linestyle="--")
        right.set(xlabel="predicted minus true", ylabel="texts")
        right.set(title=f"Errors: mean {errors.mean():+.3g}, sd {errors.std():.3g}")
    return figure


def errors(task, labels: np.ndarray, predictions: np.ndarray) -> Figure:
    """The errors of a run, in the figure for the task's kind: `confusion`, `label_errors` or `residuals`.

    labels: from `encode_labels`; predictions: (n, columns) of the same rows.
    """
    if task.classes:
        return confusion(labels, decide(task, predictions), task.classes)
    if task.kind == "multilabel":
        return label_errors(labels, predictions, task.labels)
    return residuals(labels.reshape(predictions.shape), predictions, task.labels)


@styled
def run_correlation(frame: pd.DataFrame, title: str = "Correlation of the runs") -> Figure:
    """Heat map of how similar the runs are, from the table of `blend.correlation`."""
    values, side = frame.to_numpy(dtype=np.float64), min(2.0 + 0.72 * len(frame), 11)
    ax = make_axes(side + 1, side, grid="")
    low, names = min(0.5, np.nanmin(values)), list(frame.index)
    heat_map(ax, values, names, lambda row, column: f"{values[row, column]:.2f}", low, "Pearson correlation")
    ax.set_title(title)
    return ax.figure


@styled
def run_scores(frame: pd.DataFrame, metric: str) -> Figure:
    """The runs by score, the best on top; a row per run with the columns `score` and `standard_error`."""
    higher = is_higher_better(metric)
    frame = frame[["score", "standard_error"]].astype(float).sort_values("score", ascending=not higher, kind="stable")
    ax = make_axes(7.0, 1.2 + 0.36 * len(frame), grid="x")
    for row, (score, error) in enumerate(frame.to_numpy()):
        style = {"color": ORANGE if row == 0 else BLUE, "markersize": 7, "elinewidth": 1.6, "capsize": 3}
        ax.errorbar(score, row, xerr=error, fmt="o", **style)
        note(ax, f"{score:.4f} ± {error:.4f}", 1, row, xycoords=("axes fraction", "data"))
    name_rows(ax, frame.index)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    better = "higher" if higher else "lower"
    ax.set(xlabel=f"{metric} ({better} is better; bars: one standard error)", title="Out-of-fold scores")
    return ax.figure


@styled
def label_rates(frame: pd.DataFrame) -> Figure:
    """Predicted labels of test against labels of train: a line per row of the table of `submission.label_rates`."""
    ax, unit = make_axes(6.5, 1.4 + 0.34 * len(frame), grid="x"), frame.columns.name or "share of rows"
    ax.hlines(range(len(frame)), frame.min(axis=1), frame.max(axis=1), color=PALE, linewidth=3)
    for name, colour, marker in zip(frame.columns, (BLUE, ORANGE, GREEN), ("o", "D", "|"), strict=False):
        style = {"markersize": 11 if marker == "|" else 7, "markeredgewidth": 2 if marker == "|" else 0}
        ax.plot(frame[name], range(len(frame)), marker, color=colour, label=name, **style)
    name_rows(ax, frame.index)
    if unit == "share of rows":
        ax.xaxis.set_major_formatter(PERCENT)
        ax.set_xlim(left=0)
    legend_above(ax)
    ax.set(xlabel=unit)
    return ax.figure
