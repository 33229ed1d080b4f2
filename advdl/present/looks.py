"""Where in an image a network looked while it wrote each word. Axes: N images, H height, W width, C
channels, T words."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from advdl.present import grid
from advdl.present.classified import overlay

_SIDE = 112  # pixels of a tile, at least


def draw_looks(
    images_NHWC: np.ndarray,
    sentences: Sequence[Sequence[str]],
    weights: Sequence[np.ndarray],
    path: str | os.PathLike,
) -> pathlib.Path:
    """Draws a row for each image: as it is, and for each of its T words with the word's weights (T,
    h, w) laid over it, bright for the largest of that word; into a PNG; returns its path. Raises
    ValueError where a sentence has not one map a word."""
    columns = 1 + max(map(len, sentences))
    tiles, captions = [], []
    for image, words, maps in zip(images_NHWC, sentences, weights, strict=True):
        if len(words) != len(maps):
            raise ValueError(f"{len(words)} words with weights of shape {np.shape(maps)}")
        color = np.broadcast_to(image, (*image.shape[:2], 3))
        blank = [np.full_like(color, 255)] * (columns - 1 - len(words))
        tiles += [
            color,
            *(overlay(image, heat / max(float(np.max(heat)), 1e-12)) for heat in maps),
            *blank,
        ]
        captions += ["", *words, *[""] * len(blank)]
    scale = max(1, -(-_SIDE // max(tiles[0].shape[:2])))
    return grid.draw_grid(np.stack(tiles), path, columns=columns, scale=scale, captions=captions)
