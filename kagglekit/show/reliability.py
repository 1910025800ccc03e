"""Do probabilities mean what they say? As a table, as one number, and as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES
from kagglekit.show.style import COLOURS, INK, PERCENT, make_panels, short, styled


def confidences(
    labels: np.ndarray, probs: np.ndarray, kind: str, column: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How sure each row is, and whether it is right: float64 and bool (m,).

    labels as from `encode_labels`, probs (n, columns). Binary: the probability of the second class, and whether it is
    the one; multiclass: the probability of the likeliest class; multilabel: all cells, m = n times labels. `column`: of
    that class or label alone. Raises ValueError for values, which have no probability.
    """
    labels, probs = np.asarray(labels), np.asarray(probs, dtype=np.float64)
    if kind not in (*CLASSES, "multilabel"):
        raise ValueError(f"kind={kind!r} has values, not probabilities: it must be binary, multiclass or multilabel")
    if len(labels) != len(probs) or not len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(probs)} predictions")
    if column is None and kind == "multiclass":
        return probs.max(axis=1), probs.argmax(axis=1) == labels
    right = labels == 1 if kind == "multilabel" else labels[:, None] == np.arange(probs.shape[1])
    if column is None and kind == "multilabel":
        return probs.ravel(), right.ravel()
    column = 1 if column is None else column
    fits = 0 <= column < probs.shape[1]
    check_range("column", column, fits, f"from 0 to {probs.shape[1] - 1}")
    return probs[:, column], right[:, column]


def reliability_table(
    labels: np.ndarray, probs: np.ndarray, kind: str, bins: int = 15, column: int | None = None
) -> pd.DataFrame:
    """A row per bin of equal width that has rows: low, high, rows, confidence (mean probability), share (how often
    right), gap (share minus confidence: below 0 where too sure). What a row is: see `confidences`."""
    check_range("bins", bins, bins >= 1, "1 or more")
    sure, right = confidences(labels, probs, kind, column)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    there = rows > 0
    means = [np.bincount(place, values, minlength=bins)[there] / rows[there] for values in (sure, right)]
    edges = np.linspace(0, 1, bins + 1)
    table = {"low": edges[:-1][there], "high": edges[1:][there], "rows": rows[there]}
    return pd.DataFrame(table | {"confidence": means[0], "share": means[1], "gap": means[1] - means[0]})


def expected_calibration_error(
    labels: np.ndarray, probs: np.ndarray, kind: str, bins: int = 15, classwise: bool = False
) -> float:
    """How far, on average over the rows, the probability lies from the share that is right in its bin; 0 is perfect.

    Shapes as in `confidences`: of the second class for binary, of the likeliest one for multiclass. For multilabel, and
    with `classwise` for classes, the mean of the columns' errors. It never is quite 0: chance alone gives about the
    square root of bins / rows, times 0.3; more bins, more chance. Source: Naeini, Cooper and Hauskrecht, 2015; for the
    likeliest class Guo et al., 2017; classwise Kull et al., 2019.
    """
    by_column = classwise or kind == "multilabel"
    columns = range(np.asarray(probs).shape[1]) if by_column else [None]
    tables = [reliability_table(labels, probs, kind, bins, column) for column in columns]
    return float(np.mean([np.average(table["gap"].abs(), weights=table["rows"]) for table in tables]))


@styled
def reliability(
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    kind: str,
    bins: int = 15,
    column: int | None = None,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """How often rows are right against how sure they are, and how many are how sure; a line for each of `predictions`.

    predictions: by name, such as {"before": ..., "after": ...}, each (n, columns), of rows with these labels. On the
    diagonal probabilities mean what they say; below it they are too sure. The legend has the expected calibration error
    (ECE) of what is drawn. Bins of fewer than 5 rows are left out of the line. `axes`: two.
    """
    left, right = make_panels(axes, (4.4, 4.0), 3.6)
    left.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.0)
    usual = {"binary": "the second class", "multiclass": "the likeliest class", "multilabel": "a label"}
    what = usual.get(kind) if column is None else f"column {column}"
    for number, (label, probs) in enumerate(zip(short(predictions), predictions.values(), strict=True)):
        colour, style = COLOURS[number % len(COLOURS)], ("-", "-.", ":")[number // len(COLOURS) % 3]
        table = reliability_table(labels, probs, kind, bins, column)
        error = np.average(table["gap"].abs(), weights=table["rows"])
        shown = table[table["rows"] >= 5] if (table["rows"] >= 5).any() else table
        marker = {"marker": "o", "markersize": 4.5, "clip_on": False}
        line = {"color": colour, **marker, "label": f"{label}: ECE {error:.3f}"}
        left.plot(shown["confidence"], shown["share"], style, **line)
        sure, _ = confidences(labels, probs, kind, column)
        weights = np.full(len(sure), 1 / len(sure))
        options = {"weights": weights, "color": colour, "linewidth": 1.6, "label": label}
        right.hist(sure, np.linspace(0, 1, bins + 1), histtype="step", **options)
        if number == 0:
            right.hist(sure, np.linspace(0, 1, bins + 1), weights=weights, color=colour, alpha=0.12)
    left.legend(loc="best")  # too careful lines run through the upper left
    left.set(
        xlim=(0, 1), ylim=(0, 1), xlabel=f"probability of {what}", ylabel="share that is right", title="Reliability"
    )
    right.set(xlim=(0, 1), xlabel=f"probability of {what}", ylabel="share of rows", title="How sure")
    right.yaxis.set_major_formatter(PERCENT)
    return left.figure
