"""Style of all figures: colours (Okabe and Ito, 2008, safe for the colour-blind), sizes, axes, labels."""

from collections.abc import Callable, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
INK, PALE, LINES = "#333333", "#DDDDDD", "#EBEBEB"
SHADES = LinearSegmentedColormap.from_list("shades", ["#F7FAFC", "#9CC6E0", BLUE, "#00395A"])
PERCENT = PercentFormatter(1, decimals=0)
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "savefig.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#BBBBBB",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a "$"
}


def styled(draw: Callable) -> Callable:
    """Draw in this style, and close new figures, so that a notebook shows them once, as a cell's result."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        before = set(plt.get_fignums())
        try:
            with plt.rc_context(STYLE):
                return draw(*args, **kwargs)
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return drawn


def make_figure(width: float, height: float) -> Figure:
    """A new figure of that size in inches."""
    return plt.figure(figsize=(width, height), layout="constrained")


def make_axes(width: float, height: float, grid: str = "y") -> Axes:
    """The axes of a new figure of that size in inches; `grid` is "x", "y" or "" for none."""
    return dress(make_figure(width, height).subplots(), grid)


def make_panels(widths: Sequence[float], height: float) -> list[Axes]:
    """The axes of a new figure with panels side by side, of these widths in inches."""
    panels = make_figure(sum(widths), height).subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    return [dress(ax, "y") for ax in panels]


def dress(ax: Axes, grid: str) -> Axes:
    """Ticks without marks, and grid lines only in the direction asked for."""
    ax.tick_params(which="both", length=0, labelsize=9, labelcolor=INK, pad=4)
    ax.grid(False)
    if grid:
        ax.grid(True, axis=grid, color=LINES, linewidth=0.8)
    return ax


def short(names: Sequence, length: int = 28) -> list[str]:
    """Names as labels: on one line, at most `length` characters."""
    names = [" ".join(str(name).split()) for name in names]
    return [name if len(name) <= length else name[: length - 1] + "…" for name in names]


def name_rows(ax: Axes, names: Sequence) -> None:
    """Names on the y axis, the first one on top."""
    ax.set_yticks(range(len(names)), short(names))
    ax.set_ylim(len(names) - 0.4, -0.6)


def note(ax: Axes, text: str, x: float, y: float, **options) -> None:
    """Small text to the right of a point."""
    options = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "size": 9} | options
    ax.annotate(text, (x, y), **options)


def legend_above(ax: Axes) -> None:
    """A legend in one line in place of the title."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handletextpad=0.4, borderpad=0.2)


def heat_map(
    ax: Axes, values: np.ndarray, names: Sequence, texts: Callable, low: float, label: str, format=None
) -> None:
    """A square of values up to 1 as colours, with `texts(row, column)` in each cell up to 12 x 12."""
    size, step = len(values), -(-len(values) // 40)
    image = ax.imshow(values, cmap=SHADES, vmin=low, vmax=1)
    for row, column in np.ndindex(values.shape) if size <= 12 else ():
        colour = "white" if values[row, column] > low + 0.5 * (1 - low) else INK
        note(ax, texts(row, column), column, row, xytext=(0, 0), ha="center", color=colour)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if size > 3 else {}
    ax.set_xticks(range(0, size, step), short(names[::step], 20), **turned)
    ax.set_yticks(range(0, size, step), short(names[::step], 20))
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, label=label, format=format)
    bar.outline.set_visible(False)
    dress(bar.ax, "")
