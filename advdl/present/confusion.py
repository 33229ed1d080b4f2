"""The confusion matrix. Axes: K classes."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from advdl.present import figure

_WRITTEN = 30  # classes: with more, counts no longer fit into the cells


def draw_confusion(
    matrix_KK: np.ndarray,
    path: str | os.PathLike,
    names: Sequence[str] | None = None,
    title: str = "Confusion",
) -> pathlib.Path:
    """Draws counts (rows labels, columns predictions) into a PNG; returns its path.

    Color is the share of the row, so that rare classes are seen as well; counts are written in the
    cells (up to 30 classes), zeros left empty. Raises ValueError where the matrix is not square or
    names do not fit.
    """
    matrix = np.asarray(matrix_KK)
    names = [str(k) for k in range(len(matrix))] if names is None else list(names)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"a matrix of shape {matrix.shape} with {len(names)} names")
    classes = len(names)
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    side = float(np.clip(1.6 + 0.42 * classes, 4.0, 12.0))
    with figure.style():
        drawing, (axis,) = figure.panels(1, 1, side + 0.9, side)
        image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(True)
        if classes <= _WRITTEN:
            cell = 72 * (side - 1.2) / classes  # points
            size = float(np.clip(0.75 * cell / (0.64 * len(str(matrix.max()))), 5, 10))
            for i, j in zip(*np.nonzero(matrix), strict=True):
                color = "white" if share[i, j] > 0.5 else "black"
                axis.text(
                    j, i, f"{matrix[i, j]}", ha="center", va="center", color=color, fontsize=size
                )
        every = range(0, classes, max(1, -(-classes // 40)))
        long = max(map(len, names)) > 3
        axis.set_xticks(list(every), [names[k] for k in every], rotation=90 if long else 0)
        axis.set_yticks(list(every), [names[k] for k in every])
        axis.set(xlabel="predicted", ylabel="label", title=title)
        drawing.colorbar(image, label="share of the label", shrink=0.8, aspect=30, pad=0.02)
        return figure.save(drawing, path)
