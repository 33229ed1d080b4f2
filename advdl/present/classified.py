"""A classifier as parts of a report. Axes: N images, H height, W width, C channels, K classes.

Images are uint8, as a person sees them.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from advdl.data.selection import selected
from advdl.present.confusion import draw_confusion
from advdl.present.grid import draw_grid
from advdl.present.report import Section


def confusion_section(
    counts_KK: np.ndarray, names: Sequence[str], folder: pathlib.Path, of: str = "test images"
) -> Section:
    """Rows are the true classes. of: what was put into classes."""
    draw_confusion(counts_KK, folder / "confusion.png", names, f"confusion on the {of}")
    counts = counts_KK.sum(1)
    figures = {"always the most frequent class": float(counts.max() / counts.sum())}
    return Section("Confusion", "", ["confusion.png"], figures)


def mistaken_section(
    images_NHWC: np.ndarray,
    label_N: np.ndarray,
    p_NK: np.ndarray,
    names: Sequence[str],
    total: int,
    folder: pathlib.Path,
) -> Section:
    """Test images that were taken for something else, and how sure the network was; `total` images
    were seen. Of more than 40, forty drawn at random, since test images may be sorted by class."""
    rows = selected(len(images_NHWC), 40)
    shown = images_NHWC[rows]
    captions = [
        f"{names[int(label_N[n])]} as {names[int(p_NK[n].argmax())]} {p_NK[n].max():.0%}"
        for n in rows
    ]
    scale = max(1, 80 // max(shown.shape[1:3]))
    draw_grid(shown, folder / "mistaken.png", columns=8, scale=scale, captions=captions)
    some = f", {len(rows)} of them drawn at random" if len(rows) < len(images_NHWC) else ""
    text = f"{len(images_NHWC)} of {total} test images{some}."
    return Section("Taken for something else", text, ["mistaken.png"])


def filters_section(kernel: np.ndarray, folder: pathlib.Path) -> Section | None:
    """The first layer's kernels (kh, kw, C, O), or (T, kh, kw, C, O) by towers, each stretched to
    its own range (Krizhevsky et al. 2012, figure 3). None where they are not seen as gray or
    color."""
    kernel = np.asarray(kernel, np.float32)
    filters = np.moveaxis(kernel, -1, -4).reshape(-1, *kernel.shape[-4:-1])
    if filters.shape[-1] not in (1, 3):
        return None
    low, high = (f(axis=(1, 2, 3), keepdims=True) for f in (filters.min, filters.max))
    stretched = (filters - low) / np.maximum(high - low, 1e-12)
    sheet: dict[str, Any] = dict(
        columns=min(16, len(filters)), scale=max(2, 36 // max(filters.shape[1:3]))
    )
    draw_grid(stretched, folder / "filters.png", low=0.0, high=1.0, **sheet)
    text = f"Its {len(filters)} kernels, each stretched to its own range."
    return Section("First layer", text, ["filters.png"])


def heat_section(
    images_NHWC: np.ndarray,
    heat_Nhw: np.ndarray,
    captions: Sequence[str],
    layer: str,
    folder: pathlib.Path,
) -> Section:
    """Grad-CAM: what the network looked at for the class it named, laid over each image."""
    laid = np.stack(
        [overlay(image, heat) for image, heat in zip(images_NHWC, heat_Nhw, strict=True)]
    )
    color = np.broadcast_to(images_NHWC, (*images_NHWC.shape[:3], 3))
    pairs = np.stack([color, laid], 1).reshape(-1, *laid.shape[1:])
    both = [text for caption in captions for text in ("", caption)]
    scale = max(1, 96 // max(laid.shape[1:3]))
    draw_grid(pairs, folder / "heat.png", columns=8, scale=scale, captions=both)
    text = f"Grad-CAM at {layer}: beside each image what counted for the class named."
    return Section("Where it looks", text, ["heat.png"])


def overlay(image_HWC: np.ndarray, heat_hw: np.ndarray) -> np.ndarray:
    """A heat map in [0, 1] over an image, (H, W, 3) uint8: brought to its size, in color, half
    transparent."""
    height, width, _ = image_HWC.shape
    small = Image.fromarray(np.asarray(heat_hw, np.float32))
    heat = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    color = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    return np.rint(0.5 * image_HWC + 0.5 * color).astype(np.uint8)
