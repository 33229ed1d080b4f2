"""Views: the part of an image that a source hands out, and at which size; chosen before the image
is decoded.

A box is (top, left, height, width) in pixels of the upright image, not necessarily whole ones; it
lies inside the image and is brought to the view's size by antialiased bilinear interpolation. Sizes
are (height, width), or one side of a square.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Box = tuple[float, float, float, float]
TRIES = 10


class View(NamedTuple):
    """`box(height, width, u)`: the part of an image of that size that is brought to `size`.

    size: (H, W) of every image. draws: how many uniform numbers in [0, 1) an example needs, the
      length of u.
    """

    size: tuple[int, int]
    draws: int
    box: Callable[[int, int, np.ndarray], Box]


def cover(size: int | tuple[int, int]) -> View:
    """The largest centered box of the view's aspect: the image scaled until it just covers `size`,
    the middle cut out."""
    target = _pair(size)

    def box(height: int, width: int, u: np.ndarray) -> Box:
        aspect = target[1] / target[0]
        if width / height == aspect:
            part = height, width
        elif width / height > aspect:
            part = height, aspect * height
        else:
            part = width / aspect, width
        return (height - part[0]) * 0.5, (width - part[1]) * 0.5, part[0], part[1]

    return View(target, 0, box)


def center_crop(size: int | tuple[int, int], of: int) -> View:
    """The shorter side scaled to `of` pixels, then the middle of `size`: 224 of 256 is the usual
    evaluation on ImageNet.

    Rounds as torchvision's `Resize(of)` and `CenterCrop(size)` do, so that the pixels are theirs.
    Raises ValueError where `of` is less than a side of `size`.
    """
    target = _pair(size)
    _at_least(of, target)

    def box(height: int, width: int, u: np.ndarray) -> Box:
        scaled = _scaled(height, width, of)
        return _unscaled(
            (height, width), scaled, target, [round((scaled[n] - target[n]) / 2) for n in range(2)]
        )

    return View(target, 0, box)


def random_resized_crop(
    size: int | tuple[int, int],
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
) -> View:
    """A box with a random share of the image's area (uniform in `scale`) and a random aspect (width
    / height, uniform in its logarithm over `ratio`), at a random place (Szegedy et al. 2014,
    arXiv:1409.4842, section 6).

    Whole pixels, ten tries and then the largest centered box whose aspect is in range:
    torchvision's RandomResizedCrop.
    """
    target = _pair(size)

    def box(height: int, width: int, u: np.ndarray) -> Box:
        widths, heights = random_sides(height * width, scale, ratio, u)
        found = np.flatnonzero(
            (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        )
        if not len(found):
            part = min(height, round(width / min(ratio))), min(width, round(height * max(ratio)))
            return (height - part[0]) // 2, (width - part[1]) // 2, part[0], part[1]
        part = int(heights[found[0]]), int(widths[found[0]])
        top, left = int(u[-2] * (height - part[0] + 1)), int(u[-1] * (width - part[1] + 1))
        return top, left, part[0], part[1]

    return View(target, 2 * TRIES + 2, box)


def random_scale_crop(size: int | tuple[int, int], scales: Sequence[int] = (256, 480)) -> View:
    """The shorter side scaled to a whole number of pixels uniform in `scales`, then a random part
    of `size`.

    (256, 256): Krizhevsky et al. 2012, section 4.1. (256, 480): Simonyan & Zisserman 2014 and He et
    al. 2015 (section 3.4). Raises ValueError where the least scale is less than a side of `size`.
    """
    target, (low, high) = _pair(size), scales
    _at_least(low, target)

    def box(height: int, width: int, u: np.ndarray) -> Box:
        scaled = _scaled(height, width, low + int(u[0] * (high - low + 1)))
        return _unscaled(
            (height, width),
            scaled,
            target,
            [int(u[n + 1] * (scaled[n] - target[n] + 1)) for n in range(2)],
        )

    return View(target, 3, box)


def chosen(image_size: int | tuple[int, int] | None, view: View | None) -> View | None:
    """The view that is meant: `image_size` is short for `cover(image_size)`. Raises ValueError
    where both are given."""
    if image_size is not None and view is not None:
        raise ValueError("image_size and view both say how large images are; give one")
    return view if image_size is None else cover(image_size)


def random_sides(
    area: int, scale: Sequence[float], ratio: Sequence[float], u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ten pairs of sides (a, b) in whole pixels, of u's first 20 numbers: a·b is a share of `area`
    uniform in `scale` and a / b uniform in its logarithm over `ratio`."""
    shares, aspects = u[: 2 * TRIES : 2], u[1 : 2 * TRIES : 2]
    areas = area * (scale[0] + (scale[1] - scale[0]) * shares)
    low, high = np.log(ratio)
    ratios = np.exp(low + (high - low) * aspects)
    return np.rint(np.sqrt(areas * ratios)).astype(int), np.rint(np.sqrt(areas / ratios)).astype(
        int
    )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _at_least(side: int, target: tuple[int, int]) -> None:
    if side < max(target):
        raise ValueError(
            f"an image whose shorter side is {side} does not hold {target[0]} by {target[1]} pixels"
        )


def _scaled(height: int, width: int, shorter: int) -> tuple[int, int]:
    """The size of an image once its shorter side is `shorter`."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def _unscaled(original, scaled, target, corner) -> Box:
    """What is `target` at `corner` of the scaled image, in pixels of the original."""
    vertical, horizontal = (original[n] / scaled[n] for n in range(2))
    return (
        corner[0] * vertical,
        corner[1] * horizontal,
        target[0] * vertical,
        target[1] * horizontal,
    )
