"""Sequences: what a network answers at every step, and what goes on in it. Axes: T time, H
features."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from advdl.present import figure


def draw_by_step(
    lines: Mapping[str, Sequence[np.ndarray]],
    path: str | os.PathLike,
    title: str = "",
    xlabel: str = "length",
    ylabel: str = "",
    references: Mapping[str, float] = {},
    border: float | None = None,
    border_label: str = "",
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> pathlib.Path:
    """Draws a figure against the step, or the length: for each label lines (T,), one for each seed;
    into a PNG; returns its path.

    references: label -> value, horizontal lines. border: a step at which something ends, such as
      the lengths trained on.
    limits: of the vertical axis, so that pictures compare.
    """
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 8.0, 3.8)
        for number, (label, each) in enumerate(lines.items()):
            color, dash = figure.stroke(number)
            for seed, line in enumerate(each):
                axis.plot(
                    np.arange(1, len(line) + 1),
                    line,
                    color=color,
                    linestyle=dash,
                    linewidth=1.4,
                    alpha=0.85,
                    label=None if seed else label,
                )
        for label, value in references.items():
            axis.axhline(value, color="black", linewidth=1.0, linestyle=":")
            figure.beside(axis, label, value)
        if border is not None:
            axis.axvline(border, color=figure.GRAY, linewidth=1.0, linestyle="--")
            where = axis.get_xaxis_transform()
            axis.annotate(border_label, (border, 0.75), (4, 0), where, "offset points", fontsize=9)
        if log:
            axis.set_yscale("log")
            # The usual formatter needs math text.
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        if limits:
            axis.set_ylim(*limits)
        axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
        drawing.legend(loc="outside lower center", ncols=min(len(lines), 5))
        return figure.save(drawing, path)


def draw_states(
    rows: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    labels: Sequence[str] = (),
    xlabel: str = "step",
    names: Mapping[str, Sequence[str]] = {},
) -> pathlib.Path:
    """Draws features over time, label -> (T, H), blue below 0 and red above, the first feature at
    the top; into a PNG; returns its path.

    labels: what was read at each step, written below where there is room. names: label -> names of
    its features, written beside them.
    """
    heights = [
        float(np.clip(values.shape[1] / (6 if label in names else 12), 0.35, 3.0))
        for label, values in rows.items()
    ]
    steps = max(len(values) for values in rows.values())
    with figure.style():
        drawing, axes = figure.panels(
            len(rows), 1, 9.0, sum(heights) / len(rows) + 0.75, heights=heights
        )
        for axis, (label, values) in zip(axes, rows.items(), strict=True):
            most = max(float(np.abs(values).max()), 1e-9)
            drawn: dict[str, Any] = dict(cmap="RdBu_r", vmin=-most, vmax=most)
            axis.imshow(values.T, aspect="auto", interpolation="nearest", **drawn)
            axis.grid(False)
            own = names.get(label, ()) if values.shape[1] <= 24 else ()
            axis.set_yticks(range(len(own)), own, fontsize=8)
            axis.set_xticks([])
            axis.set_title(label)
        if labels and steps <= 80:
            axes[-1].set_xticks(np.arange(len(labels)), labels, fontsize=8)
        axes[-1].set_xlabel(xlabel)
        return figure.save(drawing, path)


def draw_attention(
    pairs: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]],
    path: str | os.PathLike,
) -> pathlib.Path:
    """Draws for each pair (source tokens, target tokens, weights (target, source)) which source
    each target word looked at, dark for much; into a PNG; returns its path."""
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    with figure.style():
        drawing, axes = figure.panels(rows, columns, 4.4, 3.8)
        for axis in axes[len(pairs) :]:
            axis.set_visible(False)
        for axis, (source, target, weights) in zip(axes, pairs, strict=False):
            axis.imshow(
                weights, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
            )
            axis.grid(False)
            axis.set_xticks(range(len(source)), source, rotation=60, ha="right", fontsize=8)
            axis.set_yticks(range(len(target)), target, fontsize=8)
        return figure.save(drawing, path)
