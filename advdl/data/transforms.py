"""Transforms of a batch, random per example yet written for the whole batch at once.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Batch = dict[str, np.ndarray]

IMAGENET_MEAN = (
    0.485,
    0.456,
    0.406,
)  # of red, green and blue in [0, 1], as torchvision's recipes have them
IMAGENET_STD = (0.229, 0.224, 0.225)


class Transform(NamedTuple):
    """`transform(batch, u) -> batch`, where u (B, draws) holds each example's own uniform numbers
    in [0, 1).

    Where they come from is `advdl.data.batches`' affair; a transform without randomness (draws 0)
    needs none.
    """

    draws: int
    apply: Callable[[Batch, np.ndarray], Batch]

    def __call__(self, batch: Batch, u: np.ndarray | None = None) -> Batch:
        return self.apply(batch, np.empty((len(next(iter(batch.values()))), 0)) if u is None else u)


def to_float(low: float, high: float, *names: str) -> Transform:
    """uint8 images to float32, 0 to `low` and 255 to `high`; those of these names in the batch, by
    default `image`."""
    table = np.linspace(low, high, 256, dtype=np.float32)
    return Transform(
        0, lambda batch, u: {**batch, **{name: table[batch[name]] for name in names or ("image",)}}
    )


def to_uint8(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 of images in [low, high], rounded; what is outside is cut off. The inverse of
    `to_float`: what an image file holds, and what published measures of generated images are taken
    of."""
    return np.rint((np.asarray(images) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def standardize(mean: Sequence[float], std: Sequence[float]) -> Transform:
    """(image - mean) / std by channel, float32; mean and std (C,)."""
    middle, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def apply(batch: Batch, u: np.ndarray) -> Batch:
        image_BHWC = batch["image"]
        rows = image_BHWC.reshape(
            *image_BHWC.shape[:2], -1
        )  # numpy is slow along an axis as short as that of channels
        found = np.subtract(rows, np.resize(middle, rows.shape[-1]), dtype=np.float32)
        found /= np.resize(spread, rows.shape[-1])
        return {**batch, "image": found.reshape(image_BHWC.shape)}

    return Transform(0, apply)


def random_crop(padding: int, fill: float = 0.0) -> Transform:
    """A window of the image's own size at a random place of the image with `padding` pixels of
    value `fill` on each side (He et al. 2015, section 4.2: padding 4)."""

    def crop(batch: Batch, u: np.ndarray) -> Batch:
        image_BHWC, p = batch["image"], padding
        _, height, width, _ = image_BHWC.shape
        padded = np.pad(image_BHWC, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=fill)
        cropped = np.empty_like(image_BHWC)
        for n, (top, left) in enumerate((u * (2 * p + 1)).astype(int)):
            cropped[n] = padded[n, top : top + height, left : left + width]
        return {**batch, "image": cropped}

    return Transform(2, crop)


def random_flip() -> Transform:
    """Mirrors half of the images, left to right."""

    def flip(batch: Batch, u: np.ndarray) -> Batch:
        chosen_B = u[:, 0] < 0.5
        image_BHWC = batch["image"].copy()
        image_BHWC[chosen_B] = image_BHWC[chosen_B, :, ::-1]
        return {**batch, "image": image_BHWC}

    return Transform(1, flip)


def compose(*transforms: Transform) -> Transform:
    """One transform after another, each with numbers of its own."""
    ends = np.cumsum([transform.draws for transform in transforms]).tolist()

    def apply(batch: Batch, u: np.ndarray) -> Batch:
        for transform, end in zip(transforms, ends, strict=True):
            batch = transform(batch, u[:, end - transform.draws : end])
        return batch

    return Transform(ends[-1] if ends else 0, apply)
