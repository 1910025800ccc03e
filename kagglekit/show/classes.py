"""Scores and predictions by class, label or target: precision, recall, F1, probabilities, out of fold against test."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from kagglekit.competition.submission import decide
from kagglekit.competition.task import Task
from kagglekit.show.style import (
    BLUE,
    ORANGE,
    PERCENT,
    dress,
    legend_above,
    make_axes,
    make_figure,
    name_rows,
    short,
    styled,
)

FEW = 12  # classes that are shown in their own order; of more, the worst come first
MOST = 30  # classes of a figure
PANELS = 6  # of a figure, at most


def report(task: Task, labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """The scores of each class, label or target, a row each; of more than 12 the worst on top.

    labels: from `encode_labels`; predictions: (n, columns) of the same rows. Classes: precision, recall and F1 of the
    likeliest class, rows, how many are predicted so, and which class its rows are taken for most. Labels: the same at
    0.5, and ROC AUC where there are rows with and without. Targets: RMSE, MAE, the mean error (predicted minus true),
    and the correlation.
    """
    if task.kind == "regression":
        return _report_values(task, np.asarray(labels, dtype=np.float64).reshape(predictions.shape), predictions)
    names = task.classes or task.labels
    if task.classes:
        truth, given = np.asarray(labels), decide(task, predictions)
        have, get = (values[:, None] == np.arange(len(names)) for values in (truth, given))
    else:
        have, get = np.asarray(labels) == 1, predictions >= 0.5
    hits, rows, predicted = (part.sum(axis=0) for part in (have & get, have, get))
    table = {
        "precision": hits / predicted.clip(1),
        "recall": hits / rows.clip(1),
        "F1": 2 * hits / (rows + predicted).clip(1),
    }
    table = pd.DataFrame(table | {"rows": rows, "predicted": predicted}, index=pd.Index(names, name="class"))
    if task.classes:
        table["most taken for"] = [_taken_for(truth, given, number, names) for number in range(len(names))]
    else:
        pairs = zip(have.T, predictions.T, strict=True)
        table["ROC AUC"] = [roc_auc_score(true, probs) if 0 < true.mean() < 1 else np.nan for true, probs in pairs]
        table.index.name = "label"
    ordered = task.kind == "ordinal" or len(table) <= FEW
    return table if ordered else table.sort_values("F1", kind="stable")


def _taken_for(truth: np.ndarray, given: np.ndarray, number: int, names: list[str]) -> str:
    """The class that most rows of class `number` are taken for, with their number; empty where none is."""
    wrong = np.bincount(given[(truth == number) & (given != number)], minlength=len(names))
    return f"{names[wrong.argmax()]} ({wrong.max():,})" if wrong.any() else ""


def _report_values(task: Task, labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    errors = predictions - labels
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = zip(labels.T, predictions.T, strict=True)
        together = [np.corrcoef(true, given)[0, 1] if len(true) > 1 else np.nan for true, given in pairs]
    table = {
        "RMSE": np.sqrt((errors**2).mean(axis=0)),
        "MAE": np.abs(errors).mean(axis=0),
        "mean error": errors.mean(axis=0),
        "correlation": together,
        "mean": labels.mean(axis=0),
        "sd": labels.std(axis=0),
    }
    table = pd.DataFrame(table, index=pd.Index(task.labels, name="target"))
    return table if len(table) <= FEW else table.sort_values("correlation", kind="stable", na_position="first")


@styled
def spread_by_class(task: Task, labels: np.ndarray, predictions: np.ndarray) -> Figure | None:
    """What the rows of each class are given: the probability of that class, and what other rows are given; of two
    classes that of the second one, and of an ordinal task the value. None for a regression.

    Dot: the median; thick line: half of the rows; thin line: 90 %. Of more than 30 classes those are shown whose rows
    are given least. labels, predictions: as in `report`.
    """
    if task.kind == "regression":
        return None
    truth, names = np.asarray(labels), list(task.classes or task.labels)
    if task.kind in ("binary", "ordinal"):
        values = predictions[:, -1]
        ours, others = [values[truth == number] for number in range(len(names))], None
        what = f"probability of {names[1]}" if task.kind == "binary" else f"predicted value, 0 to {len(names) - 1}"
    else:
        inside = truth[:, None] == np.arange(len(names)) if task.classes else truth == 1
        ours, others = ([predictions[rows, k] for k, rows in enumerate(part.T)] for part in (inside, ~inside))
        what = f"probability of the {'class' if task.classes else 'label'}"
    shown = [number for number in range(len(names)) if len(ours[number])]
    if not shown:
        return None
    if len(shown) > MOST:
        shown = sorted(shown, key=lambda number: np.median(ours[number]))[:MOST]
    ax = make_axes(6.5, 1.3 + (0.42 if others else 0.34) * len(shown), grid="x")
    shift = 0.17 if others else 0.0
    draw_spreads(ax, [ours[number] for number in shown], BLUE, -shift, "o", "rows that have it" if others else None)
    if others:
        draw_spreads(ax, [others[number] for number in shown], ORANGE, shift, "D", "other rows")
        legend_above(ax)
    else:
        ax.set_title("Predicted for the rows of each class")
    name_rows(ax, [names[number] for number in shown])
    more = f", the {MOST} of {len(names)} that are given least" if len(shown) < len(names) > MOST else ""
    ax.set(xlabel=f"{what}{more}\n(dot: median, thick: half of the rows, thin: 90 %)")
    if task.kind != "ordinal":
        ax.set_xlim(-0.02, 1.02)
    return ax.figure


def draw_spreads(ax: Axes, groups: list[np.ndarray], colour: str, shift: float, marker: str, label: str | None) -> None:
    """A line for each group of values, from the first on top: 90 % of them thin, half of them thick, the median."""
    there = [(row, values) for row, values in enumerate(groups) if len(values)]
    for row, values in there:
        low, left, middle, right, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        ax.plot([low, high], [row + shift] * 2, color=colour, linewidth=1.1, solid_capstyle="butt")
        ax.plot([left, right], [row + shift] * 2, color=colour, linewidth=4.5, alpha=0.55, solid_capstyle="butt")
        dot = {"color": colour, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.8}
        ax.plot(middle, row + shift, marker, label=label if row == there[0][0] else None, linestyle="", **dot)


@styled
def oof_and_test(task: Task, predictions: np.ndarray, tests: np.ndarray) -> Figure | None:
    """Histograms of what is predicted out of fold and for test: a panel for each class, label or target, of two classes
    for the second one; of more than six those that differ most. None for fewer than three rows of either.

    predictions: (n, columns), out of fold. tests: (folds, rows of test, columns), of each fold, as their mean would be
    less sure than any of them. The KS distance (Kolmogorov-Smirnov) is 0 for equal distributions; a star marks one that
    chance alone exceeds in less than one of twenty cases.
    """
    n, m = len(predictions), tests.shape[1]
    if min(n, m) < 3:
        return None
    names = list(task.columns)[1:] if task.kind == "binary" else list(task.columns)
    columns = range(predictions.shape[1] - len(names), predictions.shape[1])
    pairs = [(predictions[:, k].astype(np.float64), tests[:, :, k].ravel().astype(np.float64)) for k in columns]
    distances = np.array([ks_2samp(ours, theirs, method="asymp").statistic for ours, theirs in pairs])
    shown = sorted(np.argsort(-distances, kind="stable")[:PANELS])
    chance = 1.36 * np.sqrt((n + m) / (n * m))  # the 5 % point of the two-sample test, large samples
    width = min(len(shown), 3)
    figure = make_figure(1.2 + 3.3 * width, 0.6 + 2.5 * -(-len(shown) // width))
    panels = figure.subplots(-(-len(shown) // width), width, squeeze=False).ravel()
    for ax, number in zip(panels, shown, strict=False):
        dress(ax, "y")
        values, mark = pairs[number], " *" if distances[number] > chance else ""
        low, high = min(map(np.min, values)), max(map(np.max, values))
        for some, name, colour, style in zip(values, ("out of fold", "test"), (BLUE, ORANGE), ("-", "--"), strict=True):
            bars = {"bins": np.linspace(low, max(high, low + 1e-6), 26), "weights": np.full(len(some), 1 / len(some))}
            ax.hist(some, histtype="step", color=colour, linestyle=style, linewidth=1.6, label=name, **bars)
        ax.yaxis.set_major_formatter(PERCENT)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_title(f"{short([names[number]], 24)[0]}: {distances[number]:.2f}{mark}", fontsize=10)
    for ax in panels[len(shown) :]:
        ax.set_axis_off()
    panels[0].set_ylabel("share of rows")
    panels[0].legend(loc="best")
    more = f", the {len(shown)} of {len(names)} that differ most" if len(shown) < len(names) else ""
    figure.suptitle(f"KS distance; *: more than chance ({chance:.2f}){more}", x=0.01, ha="left", fontsize=9)
    return figure
