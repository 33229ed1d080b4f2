"""Scenes of handwritten digits on round counters, made here.

Axes: N examples, H height, W width.
"""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from advdl.data.digits import BUILT_IN, SPLITS
from advdl.data.source import ArraySource
from advdl.errors import UserError, nearest
from advdl.memory import check_fits
from advdl.ranges import Range, whole_number

DIGIT_SCENES = {"digit_scenes": "digits", "mnist_scenes": "mnist"}
"""Of which built-in digits (`digits.BUILT_IN`) the scenes of each name are made."""


def of_digits(spec: str) -> tuple[str, int] | None:
    """(name in `DIGIT_SCENES`, diameter in pixels) of scenes of digits, by the name of
    `open_scenes`; None for others."""
    kind, colon, rest = spec.partition(":")
    diameter = whole_number(rest, Range(1, 8192, "[]")) if colon else 28
    return (kind, diameter) if kind in DIGIT_SCENES and diameter is not None else None


def singles_of(spec: str) -> Callable[[str], ArraySource] | None:
    """From a split to `single_digits` of the kind and diameter of the scenes that `open_scenes`
    knows by this name; None where they are not of digits."""
    if made := of_digits(spec):
        name, diameter = made
        return lambda split: single_digits(split, diameter, name)
    return None


@functools.lru_cache(4)
def digit_scenes(
    split: str,
    size: tuple[int, int] = (64, 64),
    diameter: int = 28,
    count: int | None = None,
    name: str = "digit_scenes",
) -> ArraySource:
    """Handwritten digits on round counters, some of them over others: images (H, W, 1), 11 classes.

    Class 0 is the background, a gradient with noise; class 1 + d is a counter with digit d on it,
    all of its pixels, so that a network must look past a pixel's surroundings to know them.
    Counters are `diameter` pixels wide, give or take 12 %, whole, and may lie over the rims of
    earlier ones, not over the middles of their digits; there are as many as would cover 35 to 60 %
    of the scene, as far as they find room.

    `train` is made of the training digits and `test` of the test digits; scene n is a function of
    the split, n, the size, the diameter and the kind of digits. count: by default 2,000 and 300.
    name: which digits, see `DIGIT_SCENES`. Raises UserError for another split, a diameter below 16
    pixels, or a scene that has no room for a counter.
    """
    if split not in SPLITS:
        raise UserError(
            f"{name} have no split {split!r}; there are {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    if diameter < 16 or min(size) < 1.25 * diameter:
        raise UserError(
            f"scenes of {size[1]} by {size[0]} pixels with digits of {diameter}; digits need 16,"
            " and scenes 1.25 times theirs"
        )
    pictures, label_N, names = _pictures(name, split)
    count = {"train": 2000, "test": 300}[split] if count is None else count
    check_fits(2.0 * count * size[0] * size[1], "the scenes", "take a smaller --size")
    images, masks = np.empty((count, *size, 1), np.uint8), np.empty((count, *size), np.uint8)
    for n in range(count):
        rng = np.random.default_rng([SPLITS.index(split), n, *size, diameter])
        counters = max(
            1, round(rng.uniform(0.35, 0.6) * size[0] * size[1] / (np.pi / 4 * diameter**2))
        )
        images[n, ..., 0], masks[n] = _scene(rng, size, diameter, counters, pictures, label_N)
    return ArraySource(name, split, {"image": images, "mask": masks}, ("background", *names))


def single_digits(split: str, diameter: int = 28, name: str = "digit_scenes") -> ArraySource:
    """Scenes of one counter each, with its digit as the label: images (S, S, 1), S = 1.25
    diameters, rounded up to a multiple of 8; 6,000 and 1,000 of them. What an encoder can learn its
    first features from. name: which digits, see `DIGIT_SCENES`."""
    pictures, label_N, names = _pictures(name, split)
    side = -int(-1.25 * diameter // 8) * 8
    count = {"train": 6000, "test": 1000}[split]
    images, labels = np.empty((count, side, side, 1), np.uint8), np.empty(count, np.int64)
    for n in range(count):
        rng = np.random.default_rng([SPLITS.index(split), n, diameter])
        images[n, ..., 0], mask = _scene(rng, (side, side), diameter, 1, pictures, label_N)
        labels[n] = mask.max() - 1
    return ArraySource("single digits", split, {"image": images, "label": labels}, names)


def _pictures(name: str, split: str):
    source = BUILT_IN[DIGIT_SCENES[name]](split)
    found = source.read(np.arange(len(source)))
    return (
        [Image.fromarray(image[..., 0]) for image in found["image"]],
        found["label"],
        source.label_names,
    )


def _scene(
    rng: np.random.Generator, size, diameter, counters, pictures, label_N
) -> tuple[np.ndarray, np.ndarray]:
    image = ground(rng, size)
    mask = np.zeros(size, np.uint8)
    placed: list[tuple[float, float, float]] = []
    for n in rng.integers(len(pictures), size=counters):
        radius = rng.uniform(0.44, 0.56) * diameter
        for _ in range(20):
            y, x = (rng.uniform(radius + 1, side - radius - 1) for side in size)
            if all(
                np.hypot(y - v, x - u) > max(radius + 0.5 * r, r + 0.5 * radius)
                for v, u, r in placed
            ):
                break
        else:
            continue  # no room left
        placed.append((y, x, radius))
        paper, ink = rng.uniform(190, 250), rng.uniform(0, 40)
        mask[draw_counter(image, (y, x), radius, pictures[n], paper, ink)] = 1 + label_N[n]
    return grainy(rng, image), mask


def ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """What scenes lie on, (H, W) float64: a gradient."""
    down, across = (np.linspace(-0.5, 0.5, n) for n in size)
    slope = rng.uniform(-40, 40, 2)
    return rng.uniform(90, 140) + slope[0] * down[:, None] + slope[1] * across


def grainy(rng: np.random.Generator, image_HW: np.ndarray) -> np.ndarray:
    """With noise, as uint8."""
    return (image_HW + rng.normal(0, 5, image_HW.shape)).clip(0, 255).astype(np.uint8)


def draw_counter(
    image_HW: np.ndarray,
    middle: tuple[float, float],
    radius: float,
    picture: Image.Image,
    paper: float,
    ink: float,
) -> np.ndarray:
    """Draws a round counter with a picture of a digit on it into an image, in place; returns which
    pixels are its, (H, W) bool.
    middle: (y, x) in pixels. paper, ink: its gray levels."""
    y, x = middle
    box = tuple(slice(max(int(c - radius) - 1, 0), int(c + radius) + 3) for c in (y, x))
    part = image_HW[box]
    rows, columns = (np.arange(n)[s] + 0.5 for n, s in zip(image_HW.shape, box, strict=True))
    distance = np.hypot(rows[:, None] - y, columns - x)
    part += np.clip(radius - distance + 0.5, 0, 1) * (
        paper - part
    )  # a rim's pixel is covered in part
    part += np.clip(1 - np.abs(distance - radius + 0.5), 0, 1) * (ink - part)
    side = round(1.4 * radius)
    top, left = round(y - side / 2), round(x - side / 2)
    place = image_HW[top : top + side, left : left + side]
    place += (
        np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float64)
        / 255
        * (ink - place)
    )
    covered = np.zeros(image_HW.shape, bool)
    covered[box] = distance < radius
    return covered
