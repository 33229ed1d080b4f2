"""How every chart looks: matplotlib by its object interface, without pyplot.

Colors are those of Okabe and Ito (2008), told apart by the color-blind; lines differ in dash as
well.
"""

import contextlib
import io
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from advdl.present import files

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)))
GRAY = "#595959"
DPI = 120

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "text.parse_math": False,  # a class called "$5" is text
    "xtick.color": GRAY,
    "xtick.labelcolor": "black",
    "ytick.color": GRAY,
    "ytick.labelcolor": "black",
}


@contextlib.contextmanager
def style():
    """Inside, matplotlib's own defaults and ours hold, whatever the reader's matplotlibrc says;
    restored on leaving."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    share: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """An empty figure of so many axes, each `width` by `height` inches; call inside `style()`.
    share: a row has one vertical axis. heights: of the rows, by proportion (default: all the
    same)."""
    figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        rows, columns, squeeze=False, sharey="row" if share else "none", height_ratios=heights
    )
    return figure, list(axes.ravel())


def stroke(number: int, dash: int | None = None) -> tuple[str, Any]:
    """Color and dash of a line of this number; dash: another number for the dash."""
    dash = number if dash is None else dash
    return COLORS[number % len(COLORS)], DASHES[dash % len(DASHES)]


def beside(axis: Axes, label: str, value: float) -> None:
    """Names a horizontal line at `value`, to the right of the axes where no curve can run through
    the name."""
    where = axis.get_yaxis_transform()
    axis.annotate(label, (1, value), (4, 0), where, "offset points", va="center", fontsize=9)


def save(figure: Figure, path: str | os.PathLike) -> pathlib.Path:
    """Writes a PNG with neither date nor version in it. A character that the font lacks is drawn as
    a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return files.write(path, buffer.getvalue())
