"""Style of all figures: colours (Okabe and Ito, 2008, safe for the colour-blind), sizes, axes, labels."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, wraps

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
INK, PALE, LINES = "#333333", "#DDDDDD", "#EBEBEB"
SHADES = LinearSegmentedColormap.from_list("shades", ["#F7FAFC", "#9CC6E0", BLUE, "#00395A"])
PERCENT = PercentFormatter(1, decimals=0)
FONT = "DejaVu Sans"  # comes with matplotlib, and has no Chinese, Japanese, Korean, Hindi, Thai ... letters
FALLBACKS = (  # for these, where the system has one of them
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB"),
    *("Heiti TC", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji"),
)
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
            with plt.rc_context(STYLE | {"font.family": find_fonts()}):
                figure = draw(*args, **kwargs)
            if figure is not None:
                tell_missing(figure)
            return figure
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return drawn


@cache
def find_fonts() -> list[str]:
    """The fonts of all figures: matplotlib's own, and those of `FALLBACKS` that are installed, for what it lacks."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return [FONT, *(name for name in FALLBACKS if name in there)]


@cache
def _letters() -> frozenset[int]:
    """The letters that the fonts of the figures have, as numbers."""
    files = [font_manager.findfont(name) for name in find_fonts()]
    return frozenset(number for file in files for number in font_manager.get_font(file).get_charmap())


def tell_missing(figure: Figure) -> None:
    """Say which letters of a figure no font here has, each once: they are drawn as boxes."""
    used = {letter for text in figure.findobj(Text) for letter in text.get_text() if not letter.isspace()}
    new = sorted(letter for letter in used if ord(letter) not in _letters() and letter not in _told)
    if new:
        _told.update(new)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # said here, once, in words
        shown = "".join(new[:20]) + ("..." if len(new) > 20 else "")
        print(f"{shown} are boxes in pictures: no font here has them. On Debian and Ubuntu: apt install fonts-noto-cjk")


_told: set[str] = set()


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
    """Names as labels: on one line, at most `length` characters; of longer ones the beginning and the end."""
    names, end = [" ".join(str(name).split()) for name in names], length // 3
    return [name if len(name) <= length else f"{name[: length - end - 1]}…{name[-end:]}" for name in names]


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
    wide = size > 3 or max(map(len, short(names, 20)), default=0) > 9
    turned = {"rotation": 40 if size <= 15 else 90, "ha": "right", "rotation_mode": "anchor"} if wide else {}
    if size > 15:
        turned |= {"va": "center"}
    ax.set_xticks(range(0, size, step), short(names[::step], 20), **turned)
    ax.set_yticks(range(0, size, step), short(names[::step], 20))
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.2 if size <= 12 else 0.5)
    ax.tick_params(which="minor", length=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, label=label, format=format)
    bar.outline.set_visible(False)
    dress(bar.ax, "")
