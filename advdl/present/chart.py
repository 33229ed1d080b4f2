"""Bars, histograms and what is traded for what. Axes: K classes, N values."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from advdl.present import figure


def draw_bars(
    values: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    names: Sequence[str],
    title: str = "",
) -> pathlib.Path:
    """Draws shares of classes as a bar a class, or several side by side, into a PNG; returns its
    path.

    values: label -> (K,). names: of the K classes. Raises ValueError where the lengths differ.
    """
    series = {label: np.asarray(value, np.float64) for label, value in values.items()}
    if any(value.shape != (len(names),) for value in series.values()):
        raise ValueError(
            f"values of shapes {[value.shape for value in series.values()]} for {len(names)} names"
        )
    place, width = np.arange(len(names)), 0.8 / len(series)
    with figure.style():
        drawing, (axis,) = figure.panels(
            1, 1, float(np.clip(0.25 * len(names) * (1 + len(series)), 5.5, 14)), 3.4
        )
        for number, (label, value) in enumerate(series.items()):
            offset = (number - (len(series) - 1) / 2) * width
            color = figure.COLORS[number % len(figure.COLORS)]
            axis.bar(place + offset, value, 0.92 * width, color=color, label=label)
        axis.grid(False, axis="x")
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.set_xticks(place, names, rotation=90 if max(map(len, names)) > 6 else 0)
        axis.set(xlabel="class", ylabel="share", title=title)
        if len(series) > 1:
            drawing.legend(loc="outside lower center", ncols=len(series))
        return figure.save(drawing, path)


def draw_histogram(
    values: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    title: str = "",
    xlabel: str = "",
) -> pathlib.Path:
    """Draws how several sets of numbers are distributed, over 30 common bins, into a PNG; returns
    its path.

    values: label -> (N,), any N each; heights are shares of the set, so sets of different sizes
    compare. What is not finite is left out. Raises ValueError where nothing is left.
    """
    series = {label: np.asarray(value, np.float64).ravel() for label, value in values.items()}
    series = {label: value[np.isfinite(value)] for label, value in series.items()}
    if empty := [label for label, value in series.items() if not value.size] or (
        [] if series else ["everything"]
    ):
        raise ValueError(f"no finite values in {', '.join(empty)}")
    edges = np.histogram_bin_edges(np.concatenate(list(series.values())), 30)
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 7.0, 3.6)
        for number, (label, value) in enumerate(series.items()):
            share = np.histogram(value, edges)[0] / value.size
            color, dash = figure.stroke(number)
            axis.stairs(share, edges, fill=True, color=color, alpha=0.15)
            axis.stairs(share, edges, color=color, linewidth=1.8, linestyle=dash, label=label)
        axis.set_ylim(bottom=0)
        axis.set(xlabel=xlabel, ylabel="share", title=title)
        drawing.legend(loc="outside lower center", ncols=min(len(series), 4))
        return figure.save(drawing, path)


def draw_trade(
    points: Mapping[str, tuple[float, float]],
    path: str | os.PathLike,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> pathlib.Path:
    """Draws how one figure falls as another rises: points (x, y), each called by its label, joined
    in their order, into a PNG; returns its path."""
    x, y = np.array(list(points.values()), np.float64).T
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 6.0, 3.6)
        axis.plot(x, y, "o-", color=figure.COLORS[0], linewidth=1.6)
        for label, place in points.items():
            axis.annotate(label, place, (6, 6), textcoords="offset points", fontsize=9)
        axis.margins(0.15)
        axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
        return figure.save(drawing, path)
