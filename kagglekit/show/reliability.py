"""Reliability diagrams: do predicted probabilities match how often they are right? As a table, a number, a figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES
from kagglekit.show.style import COLOURS, INK, PERCENT, make_panels, short, styled


def confidences(labels: np.ndarray, probs: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each row, and whether it is right: float64 and bool (m,).

    labels: from `encode_labels`; probs: (n, columns). Binary: the probability of the second class, and whether it is
    the label; multiclass: that of the likeliest class; multilabel: of all cells, m = n times labels. Raises ValueError
    for ordinal and regression, which have no probabilities.
    """
    labels, probs = np.asarray(labels), np.asarray(probs, dtype=np.float64)
    if kind not in (*CLASSES, "multilabel"):
        raise ValueError(f"kind={kind!r} has values, not probabilities: it must be binary, multiclass or multilabel")
    if len(labels) != len(probs) or not len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(probs)} predictions")
    if kind == "multilabel":
        return probs.ravel(), labels.ravel() == 1
    if kind == "multiclass":
        return probs.max(axis=1), probs.argmax(axis=1) == labels
    return probs[:, 1], labels == 1


def reliability_table(labels: np.ndarray, probs: np.ndarray, kind: str, bins: int = 15) -> pd.DataFrame:
    """A line per non-empty bin of equal width: low, high, rows, confidence (mean probability), share (that is right),
    gap (share minus confidence: below 0 where over-confident). Rows and arguments as in `confidences`."""
    check_range("bins", bins, bins >= 1, "1 or more")
    sure, right = confidences(labels, probs, kind)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    there = rows > 0
    means = [np.bincount(place, values, minlength=bins)[there] / rows[there] for values in (sure, right)]
    edges = np.linspace(0, 1, bins + 1)
    table = {"low": edges[:-1][there], "high": edges[1:][there], "rows": rows[there]}
    return pd.DataFrame(table | {"confidence": means[0], "share": means[1], "gap": means[1] - means[0]})


def expected_calibration_error(table: pd.DataFrame) -> float:
    """ECE: the mean distance of confidence from accuracy over the bins of a `reliability_table`, weighted by rows; 0 is
    perfect. Chance alone gives about 0.3 * sqrt(bins / rows). (Naeini, Cooper and Hauskrecht, 2015; for the likeliest
    class Guo et al., 2017)"""
    return float(np.average(table["gap"].abs(), weights=table["rows"]))


@styled
def reliability(labels: np.ndarray, predictions: Mapping[str, np.ndarray], kind: str, bins: int = 15) -> Figure:
    """Reliability diagram and histogram of confidence, a line for each of `predictions`.

    predictions: by name, such as {"before": ..., "after": ...}, each (n, columns) for the rows of `labels`. On the
    diagonal probabilities are calibrated, below it over-confident, above it under-confident. The legend shows the
    expected calibration error (ECE). Bins of fewer than 5 rows are left out of the line.
    """
    left, right = make_panels((4.4, 4.0), 3.6)
    left.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.0)
    what = {"binary": "the second class", "multiclass": "the likeliest class", "multilabel": "a label"}.get(kind)
    for number, (label, probs) in enumerate(zip(short(predictions), predictions.values(), strict=True)):
        colour, style = COLOURS[number % len(COLOURS)], ("-", "-.", ":")[number // len(COLOURS) % 3]
        table = reliability_table(labels, probs, kind, bins)
        shown = table[table["rows"] >= 5] if (table["rows"] >= 5).any() else table
        name = f"{label}: ECE {expected_calibration_error(table):.3f}"
        marker = {"marker": "o", "markersize": 4.5, "clip_on": False}
        left.plot(shown["confidence"], shown["share"], style, color=colour, label=name, **marker)
        sure, _ = confidences(labels, probs, kind)
        bars = {"bins": np.linspace(0, 1, bins + 1), "weights": np.full(len(sure), 1 / len(sure)), "color": colour}
        right.hist(sure, histtype="step", linewidth=1.6, label=label, **bars)
        if number == 0:
            right.hist(sure, alpha=0.12, **bars)
    left.legend(loc="best")  # under-confident lines run through the upper left
    left.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right", title="Reliability")
    right.set(xlim=(0, 1), ylabel="share of rows", title="Confidence")
    for ax in (left, right):
        ax.set_xlabel(f"probability of {what}")
    right.yaxis.set_major_formatter(PERCENT)
    return left.figure
