"""Metrics over the steps of a run. Axes: N points of a line."""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from advdl.errors import nearest
from advdl.present import figure

_SMOOTH_FROM = 40  # points: a line of fewer is shown as it is, with its points


class Panel(NamedTuple):
    """One chart of `draw_curves`.

    series: metric names, or a mapping of label -> metric name; several, or one with a label, get a
    legend. A label may have several metrics, such as one for each seed: each is drawn thin, and
    their mean, where all were measured, bold.
    references: label -> value, drawn as a horizontal line with its label, such as {"−log 4":
    -1.386}. log: logarithmic vertical axis, unless nothing is positive. styles: label -> numbers of
    its color and its dash, so that two lines have one in common (default: both are the place among
    the series). smooth: whether many points are drawn strongly as a moving average; False for what
    has no noise.
    """

    title: str
    series: Sequence[str] | Mapping[str, str | Sequence[str]]
    references: Mapping[str, float] = {}
    log: bool = False
    styles: Mapping[str, tuple[int, int]] = {}
    smooth: bool = True


def draw_curves(
    lines: Sequence[Mapping[str, Any]],
    path: str | os.PathLike,
    panels: Sequence[Panel],
    xlabel: str = "step",
    share: bool = False,
) -> pathlib.Path:
    """Draws metrics over steps, one panel beside or below another, into a PNG; returns its path.

    lines: dicts as `read_metrics` gives them, each with its `step` and some metrics. A metric of
      many points is drawn faintly as it is and strongly as its centered moving average over a 15th
      of the points; values that are not finite are left out.
    share: panels of one row, of which there are two, have one vertical axis and, where their labels
      are the same, one legend, in the second.

    Raises ValueError for a metric that no line has.
    """
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with figure.style():
        drawing, axes = figure.panels(rows, columns, 5.2 if columns > 1 else 7.5, 3.3, share)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for number, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
            beside = panels[number + 1 : number + 2] if share and number % columns == 0 else []
            shared = any(list(panel.series) == list(other.series) for other in beside)
            _draw(axis, panel, lines, legend=not shared)
            axis.set_xlabel(xlabel)
        return figure.save(drawing, path)


def _draw(axis: Axes, panel: Panel, lines: Sequence[Mapping[str, Any]], legend: bool) -> None:
    series = (
        panel.series if isinstance(panel.series, Mapping) else {name: name for name in panel.series}
    )
    steps: set[float] = set()
    for number, (label, names) in enumerate(series.items()):
        color, dash = figure.stroke(*panel.styles.get(label, (number,)))
        each = [points(lines, name) for name in ([names] if isinstance(names, str) else names)]
        at, value = each[0] if len(each) == 1 else mean(each)
        steps |= set(at)
        few = len(at) < _SMOOTH_FROM or not panel.smooth
        if len(each) > 1 or not few:
            for one in each:
                axis.plot(
                    *one, color=color, linestyle=dash if few else "-", linewidth=0.8, alpha=0.3
                )
        axis.plot(
            at,
            value if few else smooth(value),
            color=color,
            linestyle=dash,
            linewidth=1.8,
            label=label,
            marker="o" if len(at) < _SMOOTH_FROM else None,
            markersize=3.5,
        )
    for label, value in panel.references.items():
        axis.axhline(value, color=figure.GRAY, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=1.5)
        figure.beside(axis, label, value)
    if panel.log and any((np.asarray(line.get_ydata()) > 0).any() for line in axis.lines):
        axis.set_yscale("log", nonpositive="mask")
        # The usual formatter needs math text.
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:.4g}" if _narrow(axis) else "")
        )
    axis.set_title(panel.title)
    axis.margins(x=0.02, y=0.08)
    if len(steps) == 1:
        _alone(axis, steps.pop())
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if legend and (len(series) > 1 or panel.series is series):
        axis.legend(loc="best")


def _alone(axis: Axes, step: float) -> None:
    """Lets the axes of what was measured once begin at zero, since one point spans nothing, and
    writes the values beside it."""
    dots = [np.asarray(line.get_xydata()) for line in axis.lines if line.get_marker() == "o"]
    for at, value in {tuple(dot) for each in dots for dot in each}:
        around: dict[str, Any] = dict(ha="right", va="center", fontsize=9)
        axis.annotate(f"{value:.3g}", (at, value), (-6, 0), "data", "offset points", **around)
    axis.set_xlim(0, 1.02 * step or 1)
    if axis.get_yscale() == "linear":
        low, high = axis.dataLim.intervaly
        axis.set_ylim(1.08 * min(low, 0), 1.08 * max(high, 0) or 1)


def _narrow(axis: Axes) -> bool:
    """Whether a logarithmic axis spans less than a factor of ten, where powers of ten alone would
    label nothing."""
    low, high = axis.get_ylim()
    return high < 10 * low


def points(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a metric was measured and its finite values there, (N,) float64 each."""
    found = [(line["step"], line[name]) for line in lines if name in line]
    if not found:
        known = sorted({key for line in lines for key in line} - {"step"})
        raise ValueError(f"no line has the metric {name!r}{nearest(name, known)}")
    at, value = np.array(found, np.float64).T
    finite = np.isfinite(value)
    return at[finite], value[finite]


def mean(each: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Of several `points`, their mean where all of them are: (N,) float64 each."""
    at = functools.reduce(np.intersect1d, (at for at, _ in each))
    return at, np.mean([value[np.searchsorted(own, at)] for own, value in each], 0)


def smooth(value_N: np.ndarray) -> np.ndarray:
    """Centered moving average over a 15th of the points, at least five; towards the ends, where no
    such window fits, the straight line fitted to the outermost one. (N,) float64, N >= 5. A
    straight line is left as it is."""
    half = max(2, len(value_N) // 30)
    width = 2 * half + 1
    ends = []
    for window in (value_N[:width], value_N[-width:]):
        place = np.arange(width) - half
        ends.append(window.mean() + place * (place @ window) / (place @ place))
    middle = np.convolve(value_N, np.full(width, 1 / width), "valid")
    return np.concatenate([ends[0][:half], middle, ends[1][-half:]])
