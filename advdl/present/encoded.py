"""Auto-encoders as parts of a report. Axes: N images, H height, W width, C channels. Pixels lie in [0, 1]."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from advdl.present import figure
from advdl.present.grid import draw_grid

MARKERS = "osD^vPX*<>"
COLUMNS = 16


def draw_rows(rows: Mapping[str, np.ndarray], path: str | os.PathLike, columns: int = COLUMNS) -> pathlib.Path:
    """The same images in several versions, label -> (N, H, W, C): each version a row, the next one below it, `columns` of
    them abreast, and so on. Returns the picture's path. Raises ValueError where the versions' shapes differ."""
    versions = [np.asarray(images, np.float32) for images in rows.values()]
    if len({images.shape for images in versions}) != 1:
        raise ValueError(f"versions of shapes {[images.shape for images in versions]}")
    stacked = np.stack(versions)
    whole = max(stacked.shape[1] // columns, 1) * columns
    parts = [stacked[:, n : n + columns] for n in range(0, min(whole, stacked.shape[1]), columns)]
    images = np.concatenate([part.reshape(-1, *stacked.shape[2:]) for part in parts])
    return draw_grid(images, path, low=0.0, high=1.0, columns=min(columns, stacked.shape[1]))


def draw_map(
    points_N2: np.ndarray,
    label_N: np.ndarray,
    names: Sequence[str],
    path: str | os.PathLike,
    title: str = "",
    axes: tuple[str, str] = ("code 1", "code 2"),
) -> pathlib.Path:
    """A point for each image in the color and marker of its class, one scale for both axes; returns the picture's path.

    70 classes are told apart; of more than 30 there is no legend. Raises ValueError where the shapes do not fit.
    """
    points, label = np.asarray(points_N2, np.float64), np.asarray(label_N)
    if points.shape != (len(label), 2):
        raise ValueError(f"points of shape {points.shape} with {len(label)} labels")
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, 7.6, 6.0)
        for k, name in enumerate(names):
            own, color = points[label == k], figure.COLORS[k % len(figure.COLORS)]
            if not len(own):
                continue
            marker = MARKERS[(k // len(figure.COLORS) + k % len(figure.COLORS)) % len(MARKERS)]
            size = float(np.clip(4000 / len(points), 3, 26))
            axis.scatter(*own.T, s=size, c=color, marker=marker, alpha=0.75, linewidths=0, label=name)
        axis.set_aspect("equal", "datalim")
        axis.set_xlabel(axes[0])
        axis.set_ylabel(axes[1])
        axis.set_title(title)
        if len(names) <= 30:
            drawing.legend(loc="outside right upper", ncols=1 + len(names) // 16)
        return figure.save(drawing, path)
