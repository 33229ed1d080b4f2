"""Auto-encoders as parts of a report. Axes: N images, H height, W width, C channels. Pixels lie in
[0, 1]."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw

from advdl.present import figure, grid

COLORS = (*figure.COLORS, "#777777", "#7A3E9D", "#8B4513")
MARKERS = "osD^vPXp<>"


def draw_rows(
    rows: Mapping[str, np.ndarray], path: str | os.PathLike, columns: int = 16
) -> pathlib.Path:
    """The same images in several versions, label -> (N, H, W, C): in each band a row of `columns`
    of them for each version, its label before it. What is left over in a last band that is not full
    is not shown, unless it is the only one.

    Returns the picture's path. Raises ValueError where the versions' shapes differ or there are no
    images.
    """
    versions = [np.asarray(images, np.float32) for images in rows.values()]
    if len({images.shape for images in versions}) != 1 or not len(versions[0]):
        raise ValueError(f"versions of shapes {[images.shape for images in versions]}")
    stacked, columns, font = np.stack(versions), min(columns, len(versions[0])), grid.typeface()
    bands = []
    for first in range(0, stacked.shape[1] // columns * columns, columns):
        band = stacked[:, first : first + columns].reshape(-1, *stacked.shape[2:])
        bands.append(grid.tile(band, low=0.0, high=1.0, columns=columns))
    height, width, _ = bands[0].shape
    left, gap = 8 + int(np.ceil(max(map(font.getlength, rows)))), 10
    sheet = Image.new("RGB", (left + width, len(bands) * (height + gap) - gap), grid.PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, band in enumerate(bands):
        top = number * (height + gap)
        sheet.paste(Image.fromarray(band), (left, top))
        for row, label in enumerate(rows):
            middle = top + round((row + 0.5) * height / len(rows))
            draw.text((left - 2 - font.getlength(label), middle - 7), label, grid.INK, font)
    return grid.write(np.asarray(sheet), path)


def draw_map(
    points_N2: np.ndarray,
    label_N: np.ndarray,
    names: Sequence[str],
    path: str | os.PathLike,
    axes: tuple[str, str] = ("code 1", "code 2"),
) -> pathlib.Path:
    """A point for each image in the color and marker of its class, one scale for both axes; returns
    the picture's path.

    Each class has its name at the median of its points; of more than 30 there is no legend. Raises
    ValueError where the shapes do not fit.
    """
    points, label = np.asarray(points_N2, np.float64), np.asarray(label_N)
    if points.shape != (len(label), 2):
        raise ValueError(f"points of shape {points.shape} with {len(label)} labels")
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 7.6, 6.0)
        for k, name in enumerate(names):
            own, color = points[label == k], COLORS[k % len(COLORS)]
            if not len(own):
                continue
            marker = MARKERS[(k + k // len(COLORS)) % len(MARKERS)]
            size = float(np.clip(4000 / len(points), 3, 26))
            axis.scatter(
                *own.T, s=size, c=color, marker=marker, alpha=0.75, linewidths=0, label=name
            )
            around: dict[str, Any] = dict(color=color, weight="bold", fontsize=14, zorder=3)
            halo = [withStroke(linewidth=3, foreground="white")]
            x, y = np.median(own, 0)
            axis.text(x, y, name, path_effects=halo, **around)
        axis.set_aspect("equal", "datalim")
        axis.set(xlabel=axes[0], ylabel=axes[1])
        if len(names) <= 30:
            drawing.legend(loc="outside right upper", ncols=1 + len(names) // 16)
        return figure.save(drawing, path)
