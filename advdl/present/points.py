"""The game of Goodfellow et al. 2014 on points: their figure 1 on a line, and clouds of samples in
the plane.

Axes: N places on the line, M noises, K centers.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from advdl.present import figure

DATA, SAMPLES, JUDGE = "black", figure.COLORS[2], figure.COLORS[0]
_BEST = figure.COLORS[1]


class Line(NamedTuple):
    """One panel of `draw_lines`: densities of data and samples and what the discriminator says,
    (N,) each at the same places; the best discriminator where it is shown; noises in [low, high]
    and where they go, (M,) each, if there are."""

    title: str
    data_N: np.ndarray
    samples_N: np.ndarray
    discriminator_N: np.ndarray
    best_N: np.ndarray | None = None
    noise_M: np.ndarray | None = None
    image_M: np.ndarray | None = None


def smoothed_density(samples_M: np.ndarray, x_N: np.ndarray) -> np.ndarray:
    """Density of numbers at even places x, (N,) float64: counts in cells around them, smoothed by a
    Gaussian two cells wide. Numbers beyond the places are counted in none."""
    width = x_N[1] - x_N[0]
    counts = np.histogram(samples_M, np.append(x_N - width / 2, x_N[-1] + width / 2))[0] / (
        len(samples_M) * width
    )
    kernel = np.exp(-np.square(np.arange(-8, 9) / 2) / 2)
    return np.convolve(counts, kernel / kernel.sum(), "same")


def draw_lines(
    x_N: np.ndarray,
    panels: Sequence[Line],
    path: str | os.PathLike,
    title: str = "",
) -> pathlib.Path:
    """Figure 1 of Goodfellow et al. 2014, a panel each side by side, into a PNG; returns its path.

    Dotted black the data's density, green the samples', dashed blue the discriminator; below, where
    there are noises, lines from each z, its range stretched over the axis, up to x = G(z).
    Densities above 1.3 leave the picture. Raises ValueError where one panel has noises and
    another has none.
    """
    noisy = {panel.noise_M is not None for panel in panels}
    if len(noisy) != 1:
        raise ValueError("either every panel has noises or none has")
    rows = 1 + noisy.pop()
    wide = 7.0 if len(panels) == 1 else 4.6
    with figure.style():
        drawing, axes = figure.panels(rows, len(panels), wide, 4.4 / rows, heights=(3, 1)[:rows])
        for number, panel in enumerate(panels):
            axis = axes[number]
            axis.plot(x_N, panel.data_N, ":", color=DATA, linewidth=2, label="data")
            axis.plot(x_N, panel.samples_N, color=SAMPLES, linewidth=2, label="samples")
            if panel.best_N is not None:
                label = "best discriminator for these samples"
                axis.plot(x_N, panel.best_N, color=_BEST, linewidth=1.2, label=label)
            axis.plot(
                x_N, panel.discriminator_N, "--", color=JUDGE, linewidth=1.8, label="discriminator"
            )
            axis.set(xlim=(x_N[0], x_N[-1]), ylim=(-0.02, 1.3), title=panel.title)
            if panel.noise_M is None or panel.image_M is None:
                axis.set_xlabel("x")
                continue
            axis.set_xticklabels([])
            below = axes[len(panels) + number]
            low, high = panel.noise_M.min(), panel.noise_M.max()
            start_M = x_N[0] + (panel.noise_M - low) / (high - low) * (x_N[-1] - x_N[0])
            below.plot(np.stack([start_M, panel.image_M]), [0, 1], color=figure.GRAY, linewidth=0.7)
            below.set(xlim=(x_N[0], x_N[-1]), ylim=(0, 1), xlabel="x = G(z)")
            below.set_yticks([0, 1], ["z", "x"])
            below.grid(False)
        handles, labels = axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=4)
        if title:
            drawing.suptitle(title, x=0.01, ha="left")
        return figure.save(drawing, path)


class Cloud(NamedTuple):
    """One panel of `draw_clouds`: samples (N, 2), and groups (N,) from 0 that have a color each,
    where there are."""

    title: str
    points_N2: np.ndarray
    group_N: np.ndarray | None = None


def draw_clouds(
    centers_K2: np.ndarray,
    panels: Sequence[Cloud],
    path: str | os.PathLike,
    title: str = "",
) -> pathlib.Path:
    """Samples as dots over the centers of the data's modes, a panel each side by side, into a PNG;
    returns its path. What lies beyond 1.3 times the outermost center's distance from the middle
    leaves the picture."""
    middle = (centers_K2.min(0) + centers_K2.max(0)) / 2
    reach = 1.3 * np.abs(centers_K2 - middle).max()
    wide = 4.6 if len(panels) == 1 else 3.6
    with figure.style():
        drawing, axes = figure.panels(1, len(panels), wide, wide + 1.0)
        for axis, panel in zip(axes, panels, strict=True):
            axis.scatter(
                *centers_K2.T,
                s=130,
                facecolors="none",
                edgecolors=_BEST,
                linewidths=1.2,
                label="modes of the data",
            )
            color = (
                JUDGE
                if panel.group_N is None
                else np.asarray(figure.COLORS)[panel.group_N % len(figure.COLORS)]
            )
            axis.scatter(*panel.points_N2.T, s=5, c=color, alpha=0.5, linewidths=0, label="samples")
            (left, low), (right, high) = middle - reach, middle + reach
            axis.set(xlim=(left, right), ylim=(low, high), aspect="equal", title=panel.title)
        handles, labels = axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=2)
        if title:
            drawing.suptitle(title, x=0.01, ha="left")
        return figure.save(drawing, path)
