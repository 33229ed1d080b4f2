"""A series and what was forecast of it. Axes: N values, H steps ahead."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from advdl.present import figure


def draw_forecasts(
    values: np.ndarray,
    forecasts: Mapping[str, Sequence[tuple[int, np.ndarray]]],
    path: str | os.PathLike,
    labels: Sequence[str] = (),
    title: str = "",
    ylabel: str = "",
    intervals: Sequence[tuple[int, np.ndarray]] = (),
    interval_label: str = "",
) -> pathlib.Path:
    """Draws a series (N,) and over it, for each label, forecasts (place of the first value
    forecast, values (H,)), each joined to the value before it; into a PNG; returns its path.
    labels: of the values, written below; places by default.

    intervals: places and (2, H), the lowest and highest values, as areas in the color of the first
      label's forecasts.
    Forecasts may go on beyond the end. Where they begin there is a dot.
    """
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 10.0, 4.2)
        axis.plot(np.arange(len(values)), values, color="black", linewidth=1.0, label="the series")
        for number, (label, each) in enumerate(forecasts.items()):
            color, dash = figure.stroke(number)
            for n, (origin, line) in enumerate(each):
                at = np.arange(origin - 1, origin + len(line))
                joined = np.concatenate([values[origin - 1 : origin], line])
                axis.plot(
                    at,
                    joined,
                    color=color,
                    linestyle=dash,
                    linewidth=1.6 if number == 0 else 1.2,
                    zorder=3 if number == 0 else 2,
                    label=None if n else label,
                )
                if number == 0:
                    axis.plot(at[:1], joined[:1], "o", color=color, markersize=4, zorder=4)
        for n, (origin, ends) in enumerate(intervals):
            at, own = np.arange(origin, origin + ends.shape[1]), None if n else interval_label
            axis.fill_between(at, *ends, color=figure.COLORS[0], alpha=0.15, linewidth=0, label=own)
        if len(labels):
            places: list[int] = np.unique(np.linspace(0, len(values) - 1, 6).astype(int)).tolist()
            axis.set_xticks(places, [labels[n] for n in places])
        axis.margins(x=0.01)
        axis.set(ylabel=ylabel, title=title)
        drawing.legend(
            loc="outside lower center", ncols=min(1 + len(forecasts) + bool(intervals), 6)
        )
        return figure.save(drawing, path)
