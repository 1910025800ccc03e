"""Figures over training steps: learning curves, learning rates, and probes. Each takes a table, see `plots`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kagglekit.show.style import BLUE, COLOURS, ORANGE, PALE, SHADES, make_axes, make_panels, note, short, styled
from kagglekit.training.learning_rates import FEATURES, HEAD


@styled
def learning_curves(history: pd.DataFrame, metric: str = "score", by: str = "fold") -> Figure | None:
    """Learning curves: losses, score and learning rate over the steps, a line per fold (and seed); a panel for each
    column with at least two steps in a fold, three at most. A score that rises while the validation loss rises too is
    of a model that becomes too sure.

    by: the column with a line for each of its values; others than folds are named as they are.

    `history` has the columns `fold`, `step`, `loss`, `valid_loss` (log loss; of values the squared error), `score` (the
    value of `metric`) and `learning_rate`; rows may lack some. A loss with many points is drawn pale, under its mean
    over a twentieth of the run.
    """
    names = {"loss": "loss", "valid_loss": "loss", "score": metric, "learning_rate": "learning rate"}
    titles = {"loss": "Training loss", "valid_loss": "Validation loss", "score": f"Validation {metric}"}
    titles["learning_rate"] = "Learning rate"
    counts = history.groupby([name for name in dict.fromkeys((by, "fold", "seed")) if name in history]).count()
    if metric in ("log_loss", "mse"):  # the score is the validation loss
        del names["valid_loss"]
    present = [name for name in names if name in counts and counts[name].max() > 1][:3]
    if not present:
        return None
    panels = make_panels([3.2 if name == "learning_rate" else 4.2 for name in present], 3.2)
    for ax, name in zip(panels, present, strict=False):
        for number, (one, rows) in enumerate(history.dropna(subset=[name]).groupby(by, sort=by == "fold")):
            style = ("-", "--", ":")[number // len(COLOURS) % 3]
            line, label = {"color": COLOURS[number % len(COLOURS)]}, f"fold {one}" if by == "fold" else short([one])[0]
            for place, (_, each) in enumerate(rows.groupby("seed") if "seed" in rows else [(0, rows)]):
                values, marker = each[name], "o" if len(each) < 12 else ""
                if name == "loss" and len(each) > 40:
                    ax.plot(each["step"], values, alpha=0.2, linewidth=0.9, **line)
                    values = values.rolling(len(each) // 20, center=True, min_periods=1).mean()
                named = None if place else label
                ax.plot(each["step"], values, style, marker=marker, markersize=4.5, label=named, **line)
        ax.set(xlabel="step", ylabel=names[name], title=titles[name])
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if name == "learning_rate":
            ax.yaxis.set_major_formatter("{x:.3g}")
    if by != "fold" or history[by].nunique() > 1:
        panels[0].legend()
    return panels[0].figure


@styled
def learning_rates(table: pd.DataFrame) -> Figure:
    """The learning rate of every parameter group over the run, from a table of `learning_rates`: the deeper, the paler.

    The head has its own colour. The legend names the head, the highest and the lowest of the others, and the rate of
    features, which would flatten all lines and is not drawn.
    """
    ax = make_axes(7.0, 3.4)
    others = [name for name in table if name not in (HEAD, FEATURES)]
    for place, name in enumerate(others):
        colour = SHADES(0.25 + 0.75 * (place + 1) / len(others))
        label = f"{name}: {table[name].max():.2g}" if place in (0, len(others) - 1) else None
        ax.plot(table.index, table[name], color=colour, linewidth=1.3, label=label)
    if HEAD in table:
        ax.plot(table.index, table[HEAD], "--", color=ORANGE, label=f"{HEAD}: {table[HEAD].max():.2g}")
    if FEATURES in table:
        ax.plot([], [], " ", label=f"{FEATURES}: {table[FEATURES].max():.2g}, not drawn")
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], title="highest rate", loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(xlabel="step", ylabel="learning rate", title="The rate of each group over the run", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter("{x:.3g}")
    return ax.figure


@styled
def rate_trial(table: pd.DataFrame, suggestion: float) -> Figure:
    """Loss against learning rate, from a table of `find_learning_rate`, with the rate that it suggests. The
    axis ends where the smoothed loss is a third above the first one."""
    ax = make_axes(6.5, 3.2)
    rates, smoothed = table["learning_rate"], table["smoothed"]
    ax.plot(rates, table["loss"], color=PALE, linewidth=1.0, label="loss of a batch")
    ax.plot(rates, smoothed, color=BLUE, label="smoothed")
    ax.axvline(suggestion, color=ORANGE, linewidth=1.2, linestyle="--")
    note(ax, f"{suggestion:.2g}", suggestion, 1, xycoords=("data", "axes fraction"), xytext=(4, -6), color=ORANGE)
    low, high = np.nanmin(smoothed), np.nanmax(smoothed)
    top = min(high, smoothed.iloc[0] + (smoothed.iloc[0] - low) / 3)
    margin = 0.15 * (max(top, smoothed.iloc[0]) - low) + 1e-9
    ax.set(xscale="log", xlabel="learning rate of the topmost layer", ylabel="training loss")
    ax.set(title="A trial with a growing rate", ylim=(low - margin, max(top, smoothed.iloc[0]) + margin))
    ax.legend(loc="lower left")
    return ax.figure


@styled
def probe_scores(table: pd.DataFrame, steps: Mapping[str, int], metric: str) -> Figure:
    """Probe scores by pretraining step and the chosen step, from `Pretrained.scores` and `Pretrained.steps`.

    The thick line is overall, or the only fold; thin lines are folds, each scored without its own rows, with a dot at
    the step that is chosen for it.
    """
    ax = make_axes(6.5, 3.2)
    main = next(iter(steps))
    for name in [name for name in steps if name != main]:
        ax.plot(table.index, table[name], color=PALE, linewidth=1.0)
        ax.plot(steps[name], table[name][steps[name]], "o", color=ORANGE, markersize=4)
    ax.plot(table.index, table[main], color=BLUE, marker="o", markersize=4)
    ax.axvline(steps[main], color=ORANGE, linewidth=1.2, linestyle="--")
    place = {"xycoords": ("data", "axes fraction"), "xytext": (4, -6), "color": ORANGE}
    note(ax, f"step {steps[main]}: {table[main][steps[main]]:.4f}", steps[main], 1, **place)
    title = "Score of a linear model on the vectors"
    ax.set(xlabel="step", ylabel=metric, title=title if main == "overall" else f"{title}, without fold {main}")
    ax.margins(x=0.04, y=0.15)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return ax.figure
