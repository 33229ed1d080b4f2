"""Masks in colors, over their images, beside what a network made of them; what a unit of a network
sees.

Axes: N images, H height, W width, C channels (1 or 3), K classes. Images are uint8, masks integers
of 0 … K-1; every other id is void.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from advdl.present import grid

VOID = (224, 224, 192)  # as in PASCAL VOC
RIGHT, WRONG = (205, 225, 240), (213, 60, 0)
_SWATCH, _ROW = 12, 18  # pixels of a legend


def default_palette(classes: int) -> np.ndarray:
    """(K, 3) uint8, every color another: those of PASCAL VOC, where bit 3n + c of the id is bit 7 -
    n of channel c. The first is black. Raises ValueError for more than 256."""
    if not 0 < classes <= 256:
        raise ValueError(f"{classes} classes; the palette has 1 to 256 colors")
    bits = np.arange(classes)[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1
    return (bits << np.arange(7, -1, -1)[:, None]).sum(1).astype(np.uint8)


def colorize(mask: np.ndarray, palette: np.ndarray, void: int | None = None) -> np.ndarray:
    """The color of every pixel of a mask (…, H, W), (…, H, W, 3) uint8: the palette's (K, 3), and
    `VOID` where it is void or no class."""
    mask = np.asarray(mask).astype(np.int64)
    colors = np.concatenate([np.asarray(palette, np.uint8), np.array([VOID], np.uint8)])
    none = (mask < 0) | (mask >= len(palette))
    if void is not None:
        none |= mask == void
    return colors[np.where(none, len(palette), mask)]


def overlay_mask(
    image: np.ndarray,
    mask: np.ndarray,
    palette: np.ndarray,
    void: int | None = None,
    opacity: float = 0.6,
) -> np.ndarray:
    """A mask (…, H, W) over an image (…, H, W, C), (…, H, W, 3) uint8."""
    return np.rint(
        (1 - opacity) * image.astype(np.float32) + opacity * colorize(mask, palette, void)
    ).astype(np.uint8)


def error_map(
    truth: np.ndarray, prediction: np.ndarray, classes: int, void: int | None = None
) -> np.ndarray:
    """(…, H, W, 3) uint8: `RIGHT` or `WRONG`, and `VOID` where the truth is void or no class."""
    truth = np.asarray(truth).astype(np.int64)
    state = np.where(truth == np.asarray(prediction), 0, 1)
    state[(truth < 0) | (truth >= classes) | (False if void is None else truth == void)] = 2
    return np.array([RIGHT, WRONG, VOID], np.uint8)[state]


def legend(names: Sequence[str], palette: np.ndarray, width: int) -> np.ndarray:
    """Colors and names in as many rows as `width` pixels need: (height, width, 3) uint8. An entry
    that is wider by itself is cut off."""
    font = grid.typeface()
    places, left, row = [], 4, 0
    for name in names:
        wide = _SWATCH + 4 + int(np.ceil(font.getlength(name))) + 10
        if left > 4 and left + wide > width:
            left, row = 4, row + 1
        places.append((left, row * _ROW + 3))
        left += wide
    sheet = Image.new("RGB", (width, (row + 1) * _ROW + 2), grid.PAPER)
    draw = ImageDraw.Draw(sheet)
    for (x, y), name, color in zip(places, names, palette, strict=True):
        draw.rectangle((x, y, x + _SWATCH - 1, y + _SWATCH - 1), tuple(map(int, color)), grid.INK)
        draw.text((x + _SWATCH + 4, y - 1), name, grid.INK, font)
    return np.asarray(sheet)


def tile_overlays(
    images_NHWC: np.ndarray,
    truth_NHW: np.ndarray,
    prediction_NHW: np.ndarray,
    names: Sequence[str],
    palette: np.ndarray | None = None,
    void: int | None = None,
    captions: Sequence[str] | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """One sheet, (height, width, 3) uint8: a row an image, with the truth over it, the prediction
    over it, and where that is wrong; a legend of the classes below.

    palette: (K, 3), by default `default_palette`. captions: one an image, under it. scale: as in
    `tile`, by default so that the longer side has at least 128 pixels. Raises ValueError where
    shapes or counts do not fit.
    """
    images_NHWC, truth_NHW, prediction_NHW = (
        np.asarray(array) for array in (images_NHWC, truth_NHW, prediction_NHW)
    )
    if not images_NHWC.shape[:3] == truth_NHW.shape == prediction_NHW.shape:
        raise ValueError(
            f"images {images_NHWC.shape}, masks {truth_NHW.shape} and {prediction_NHW.shape} do"
            " not fit"
        )
    palette = default_palette(len(names)) if palette is None else np.asarray(palette)
    if len(palette) != len(names):
        raise ValueError(f"{len(palette)} colors for {len(names)} classes")
    if captions is not None and len(captions) != len(images_NHWC):
        raise ValueError(f"{len(captions)} captions for {len(images_NHWC)} images")
    columns = [
        np.broadcast_to(images_NHWC, (*truth_NHW.shape, 3)),
        overlay_mask(images_NHWC, truth_NHW, palette, void),
        overlay_mask(images_NHWC, prediction_NHW, palette, void),
        error_map(truth_NHW, prediction_NHW, len(names), void),
    ]
    rows = np.stack(columns, 1).reshape(-1, *truth_NHW.shape[1:], 3)
    under = [
        text
        for n in range(len(truth_NHW))
        for text in (captions[n] if captions else "", "truth", "prediction", "errors")
    ]
    scale = scale or max(1, -(-128 // max(truth_NHW.shape[1:])))
    sheet = grid.tile(rows, columns=4, scale=scale, captions=under)
    named, colors = [*names, "void", "wrong"], np.array([*palette, VOID, WRONG])
    return np.concatenate([sheet, legend(named, colors, sheet.shape[1])])


def draw_overlays(
    images_NHWC: np.ndarray,
    truth_NHW: np.ndarray,
    prediction_NHW: np.ndarray,
    path: str | os.PathLike,
    names: Sequence[str],
    most: int = 4,
    **options,
) -> pathlib.Path:
    """Writes `tile_overlays` of the `most` worst images and the `most` best, worst first, as a PNG;
    returns its path. How good one is says the share of its counted pixels that are right; one that
    is all void comes last and is not shown where there are others."""
    scores_N = image_accuracy(truth_NHW, prediction_NHW, len(names), options.get("void"))
    rows, titles = extremes(scores_N, most)
    captions = [f"{title} {scores_N[row]:.0%}" for row, title in zip(rows, titles, strict=True)]
    images, truth, prediction = (
        np.asarray(array)[rows] for array in (images_NHWC, truth_NHW, prediction_NHW)
    )
    given: dict[str, Any] = {"captions": captions} | options
    return grid.write(tile_overlays(images, truth, prediction, names, **given), path)


def image_accuracy(
    truth_NHW: np.ndarray, prediction_NHW: np.ndarray, classes: int, void: int | None = None
) -> np.ndarray:
    """(N,) share of the counted pixels of each image that are right; NaN where none counts."""
    truth_NHW = np.asarray(truth_NHW).astype(np.int64)
    counted = (
        (truth_NHW >= 0) & (truth_NHW < classes) & (True if void is None else truth_NHW != void)
    )
    total = counted.sum((1, 2))
    right = (counted & (truth_NHW == np.asarray(prediction_NHW))).sum((1, 2))
    return np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)


def extremes(scores_N: np.ndarray, most: int) -> tuple[np.ndarray, list[str]]:
    """Rows of the `most` lowest scores and the `most` highest, from low to high, each row once, and
    `worst` or `best` for each; equal ones by row. NaN is left out unless there is nothing else."""
    scores_N = np.asarray(scores_N, np.float64)
    order = np.argsort(scores_N, kind="stable")
    order = order[: int((~np.isnan(scores_N)).sum()) or len(order)]
    low = order[: min(most, -(-len(order) // 2))]
    high = order[len(low) :][-most:] if most else order[:0]
    return np.concatenate([low, high]), ["worst"] * len(low) + ["best"] * len(high)


def draw_receptive_field(
    image_HWC: np.ndarray,
    size: float,
    stride: float,
    offset: float,
    path: str | os.PathLike,
    unit: tuple[int, int] | None = None,
    scale: int | None = None,
) -> pathlib.Path:
    """Draws what a unit of a layer sees as a rectangle on an image, with its center and, dotted,
    those of the units beside it along both axes, into a PNG; returns its path.

    size, stride, offset: of an `advdl.nn.receptive_field.Field`: unit i is centered on pixel offset
    + stride·i. unit: (row, column), by default the one nearest to the image's middle. What lies
    outside of the image is paper, as far as the rectangle reaches but no farther than the image is
    long. scale: as in `tile`.
    """
    image_HWC = np.asarray(image_HWC)
    height, width, _ = image_HWC.shape
    size, stride, offset = float(size), float(stride), float(offset)
    middle = [(side - 1) / 2 for side in (height, width)]
    own = [round((place - offset) / stride) for place in middle] if unit is None else unit
    y, x = (offset + stride * n + 0.5 for n in own)  # from the image's edge
    half = size / 2
    over = max(half - y, half - x, y + half - height, x + half - width, 0)
    pad = int(min(np.ceil(over), max(height, width))) + 2
    scale = scale or max(1, -(-256 // max(height, width)))
    canvas = np.full((height + 2 * pad, width + 2 * pad, 3), grid.PAPER, np.uint8)
    canvas[pad : pad + height, pad : pad + width] = image_HWC
    sheet = Image.fromarray(canvas.repeat(scale, 0).repeat(scale, 1))
    draw = ImageDraw.Draw(sheet)

    def dot(y: float, x: float, radius: float) -> None:
        x, y = (x + pad) * scale, (y + pad) * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), WRONG, grid.PAPER)

    count = int(max(height, width) / stride) + 1 if stride > 0 else 0
    for n in range(-count, count + 1):
        for row, column in ((y + n * stride, x), (y, x + n * stride)):
            if 0 <= row <= height and 0 <= column <= width:
                dot(row, column, 2)
    dot(y, x, 4)
    corners = [(place + pad) * scale for place in (x - half, y - half, x + half, y + half)]
    if half > 0:  # a unit may see nothing at all
        box = (corners[0], corners[1], corners[2] - 1, corners[3] - 1)
        draw.rectangle(box, outline=WRONG, width=3)
    return grid.write(np.asarray(sheet), path)
