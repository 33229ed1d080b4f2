"""Masks: which class each pixel of an image is of, as files hold it and as networks learn it.

Axes: B batch, H height, W width, K classes.
"""

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from advdl.data.decode import opened
from advdl.errors import UserError

NO_CLASS = 255  # an id that is never a class: there are 255 at most
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")


class Coding(NamedTuple):
    """What the ids of a set's files mean.

    label_names: the K classes. void: the id of pixels that are of none, never one of 0 … K-1, or
    None. palette: (K, 3) uint8, or None. table: (256,) int16, what a stored id becomes, -1 for one
    that means nothing. colors: (n, 3) uint8, the stored ids' colors in RGB masks, or None.
    """

    label_names: tuple[str, ...]
    void: int | None
    palette: np.ndarray | None
    table: np.ndarray
    colors: np.ndarray | None


def coding(
    names: Sequence[str],
    void: int | None = None,
    colors: np.ndarray | None = None,
    first: int = 0,
    name: str = "the set",
) -> Coding:
    """Stored ids first, first + 1 … are called `names` and become 0, 1 …

    void: such an id, whose pixels do not count. Where it is one of those named it is none of the
    classes: those above it move down by one, and it becomes the number of those that are left (of
    CamVid's 0 … 11, the last one void, nothing moves). By default the one called void, unlabelled,
    unlabeled or ignore, if any. colors: (len(names), 3) uint8. Raises UserError, about `name`,
    where there are no classes or more than 255, two have one name, or void is no id of 8 bits.
    """
    names = list(names)
    if twice := [called for called, times in Counter(names).items() if times > 1]:
        raise UserError(f"{name} has two classes called {twice[0]!r}")
    if void is None:
        void = next((n for n, called in enumerate(names) if called.lower() in VOID_NAMES), None)
    if void is not None and not 0 <= void <= 255 - first:
        raise UserError(f"void is {void} in {name}; an id from 0 to {255 - first} is needed")
    kept = [n for n in range(len(names)) if n != void]
    if not 1 <= len(kept) <= 255:
        raise UserError(f"{name} has {len(kept)} classes beside void; 1 to 255 are needed")
    table = np.full(256, -1, np.int16)
    table[np.array(kept) + first] = np.arange(len(kept))
    if void is not None:
        table[void + first] = void = len(kept) if void < len(names) else void
    palette = None if colors is None else np.asarray(colors, np.uint8)[kept]
    return Coding(tuple(names[n] for n in kept), void, palette, table, colors)


def decode_mask(
    file: pathlib.Path | bytes,
    name: str,
    code: Coding,
    natural: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """A mask's file, or its contents, as classes: uint8 (H, W), brought to `size` by nearest
    neighbor where that is given.

    Gray images of up to 8 bits hold ids and palette images are read by index; in RGB each color is
    that of an id. natural: (H, W) of the image that it belongs to. Raises UserError, which calls
    the file `name`, where it does not decode, is of another size or kind, or has a pixel that means
    nothing.
    """
    stored = opened(file, name, lambda image: _stored(image, name, code, natural, size))
    classes = code.table[stored]
    if classes.min() < 0:
        known = np.flatnonzero(code.table >= 0)
        wrong = stored[classes < 0][0]
        raise UserError(
            f"{name} has a pixel of id {wrong}; there are {_ranges(known)}; mend it, name the class"
            " or give void"
        )
    return classes.astype(np.uint8)


def _stored(
    image: Image.Image,
    name: str,
    code: Coding,
    natural: tuple[int, int],
    size: tuple[int, int] | None,
) -> np.ndarray:
    if image.size[::-1] != tuple(natural):
        here, there = (f"{width} by {height}" for height, width in (image.size[::-1], natural))
        raise UserError(f"mask {name} is {here} pixels and its image {there}; make them the same")
    colored = image.mode in ("RGB", "RGBA")
    if colored and code.colors is None:
        raise UserError(
            f"mask {name} is in colors; ids as gray or palette are needed, or palette.txt with r g"
            " b a line"
        )
    if not colored and image.mode not in ("1", "L", "P"):
        raise UserError(
            f"mask {name} is of mode {image.mode}; ids of 8 bits, as gray or palette, are needed"
        )
    image = image.convert("RGB") if image.mode == "RGBA" else image
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.NEAREST)
    if colored and code.colors is not None:
        return _by_color(np.asarray(image), name, code.colors)
    return np.asarray(image, np.uint8)


def _by_color(pixels_HW3: np.ndarray, name: str, colors: np.ndarray) -> np.ndarray:
    """The place of each pixel's color in the list."""

    def pack(rgb):
        return rgb.astype(np.int32) @ np.array([65536, 256, 1], np.int32)

    listed, found = pack(colors), pack(pixels_HW3)
    order = np.argsort(listed)
    place = order[np.searchsorted(listed, found, sorter=order).clip(max=len(listed) - 1)]
    unknown = listed[place] != found
    if unknown.any():
        wrong = pixels_HW3[unknown][0].tolist()
        raise UserError(
            f"mask {name} has a pixel of color {wrong}, which is none of the {len(colors)} in"
            " palette.txt"
        )
    return place.astype(np.uint8)


def _ranges(ids: np.ndarray) -> str:
    """`0 … 10 and 255`."""
    parts = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return " and ".join(
        str(part[0]) if len(part) == 1 else f"{part[0]} … {part[-1]}" for part in parts
    )
