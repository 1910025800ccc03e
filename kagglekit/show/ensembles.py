"""The methods to blend: what each does, and its in-sample and cross-fitted scores, as a table and a chart."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import EVERYTHING, BlendPlan
from kagglekit.progress import UNITS, Progress
from kagglekit.scoring.metrics import is_higher_better
from kagglekit.show.style import BLUE, ORANGE, PALE, legend_above, make_axes, name_rows, note, short, styled


def show_methods(plan: BlendPlan) -> pd.DataFrame:
    """The methods that a plan tries: what each does, in the words of its class, and how it is made. The steps that
    follow each of them (a calibration, thresholds) have a row of their own, as in "+ classes"."""
    steps = [step for step in (plan.calibrate, plan.rule) if step]
    table = {name: plan.options.get(name, {}) for name in plan.names}
    table |= {f"+ {step}": plan.options.get(step, {}) for step in steps}
    made = {name: EVERYTHING[name.removeprefix("+ ")].make(**knobs) for name, knobs in table.items()}
    rows = [((type(one).__doc__ or "").split("\n\n")[0].replace("`", ""), repr(one)) for one in made.values()]
    return pd.DataFrame(rows, columns=["what it does", "made as"], index=pd.Index(made, name="method"))


def compare(
    candidates: dict[str, Ensembler], inputs: StackInput, labels: np.ndarray, folds: np.ndarray
) -> pd.DataFrame:
    """The estimate of each ensembler: a row each, with the columns in_sample, cross_fitted, gap, and the
    standard_error, low and high of the cross-fitted score. The best of many is a little too good again."""
    names = ("in_sample", "cross_fitted", "gap", "standard_error", "low", "high")
    found = {}
    with Progress("comparing", len(candidates), "method", line=False) as progress:
        for number, (name, one) in enumerate(candidates.items()):
            progress.update(number, next=name)
            found[name] = make_estimate(one, inputs, labels, folds)
    rows = [[getattr(estimate, name) for name in names] for estimate in found.values()]
    return pd.DataFrame(rows, columns=names, index=pd.Index(found, name="ensemble"))


@styled
def optimism(table: pd.DataFrame, metric: str) -> Figure:
    """In-sample against cross-fitted scores of the table of `compare`, the best cross-fitted one on top. The grey line
    is how much in-sample is too good."""
    higher = is_higher_better(metric)
    table = table.sort_values("cross_fitted", ascending=not higher, kind="stable")
    ax, places = make_axes(7.5, 1.5 + 0.34 * len(table), grid="x"), np.arange(len(table))
    ax.hlines(places, table["in_sample"], table["cross_fitted"], color=PALE, linewidth=4)
    ax.plot(table["in_sample"], places, "o", color=ORANGE, markersize=6, markerfacecolor="white", label="in-sample")
    reach = (table["cross_fitted"] - table["low"], table["high"] - table["cross_fitted"])
    style = {"fmt": "o", "color": BLUE, "markersize": 6, "elinewidth": 1.4, "capsize": 2.5}
    ax.errorbar(table["cross_fitted"], places, xerr=reach, label="cross-fitted, 95 %", **style)
    for place, (score, gap) in enumerate(zip(table["cross_fitted"], table["gap"], strict=True)):
        note(ax, f"{score:.4f}, {gap:+.4f}", 1, place, xycoords=("axes fraction", "data"))
    name_rows(ax, table.index)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    legend_above(ax)
    better = "higher" if higher else "lower"
    ax.set(xlabel=f"{metric} ({better} is better; right: cross-fitted, and by how much in-sample is too good)")
    return ax.figure


@styled
def cascade_curve(table: pd.DataFrame, metric: str, last: str, own: float, rows: int) -> Figure:
    """The table of `replay`: scores against the time, or against the share of the last run where that is not known.

    The bars are standard errors of the difference to the last run on all rows that it may read. last: its name. own:
    the share that it has in the cascade, the orange point. rows: of test.
    """
    unit = next((name for name in UNITS if name in table), "")
    x = table[unit] if unit else pd.Series(table.index, index=table.index)
    ax = make_axes(6.4, 3.6)
    ax.errorbar(x, table["score"], yerr=table["standard_error"], fmt="-o", color=BLUE, markersize=5, capsize=2.5)
    ax.plot(x[own], table["score"][own], "o", color=ORANGE, markersize=9, zorder=3)
    away, side = (-4, "right") if table["score"].iloc[-1] >= table["score"].iloc[0] else (4, "left")  # from the line
    for share in table.index if unit else ():
        note(ax, f"{100 * share:.3g}%", x[share], table["score"][share], xytext=(away, 5), ha=side)
    ax.margins(x=0.08)
    name, better = short([last])[0], "higher" if is_higher_better(metric) else "lower"
    what = f"{unit} to predict {rows:,} rows of test, on this machine\n(at each point: share of rows that {name} reads)"
    ax.set(xlabel=what if unit else f"share of rows that {name} reads", ylabel=f"{metric} ({better} is better)")
    return ax.figure
