"""Transforms of a batch, random per example yet written for the whole batch at once.

A transform has `draws`, how many uniform numbers it wants for each example, and is called with a batch and these numbers
u (B, draws) in [0, 1), which are the example's own (see `advdl.data.batches`). Axes: B batch, H height, W width,
C channels.
"""

from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]


class Transform(Protocol):
    """A function of a batch and of each example's own uniform numbers."""

    draws: int

    def __call__(self, batch: Batch, u: np.ndarray) -> Batch: ...


class to_float:  # noqa: N801 - used as a function
    """uint8 images to float32, 0 to `low` and 255 to `high`."""

    draws = 0

    def __init__(self, low: float, high: float):
        self._table = np.linspace(low, high, 256, dtype=np.float32)

    def __call__(self, batch: Batch, u: np.ndarray | None = None) -> Batch:
        return {**batch, "image": self._table[batch["image"]]}


class standardize:  # noqa: N801
    """(image - mean) / std by channel, of float images; mean and std (C,)."""

    draws = 0

    def __init__(self, mean, std):
        self._mean, self._std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def __call__(self, batch: Batch, u: np.ndarray | None = None) -> Batch:
        return {**batch, "image": (batch["image"] - self._mean) / self._std}


class random_crop:  # noqa: N801
    """A crop of the image's own size at a random place of the image padded by `padding` pixels on each side
    (He et al. 2015, section 4.2, padding 4). The padding has the value `fill`."""

    draws = 2

    def __init__(self, padding: int, fill: float = 0.0):
        self._padding, self._fill = padding, fill

    def __call__(self, batch: Batch, u: np.ndarray) -> Batch:
        image, p = batch["image"], self._padding
        count, height, width, _ = image.shape
        padded = np.pad(image, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self._fill)
        top, left = (u * (2 * p + 1)).astype(np.intp).T
        cropped = np.empty_like(image)
        for n in range(count):
            cropped[n] = padded[n, top[n] : top[n] + height, left[n] : left[n] + width]
        return {**batch, "image": cropped}


class random_flip:  # noqa: N801
    """Mirrors half of the images, left to right."""

    draws = 1

    def __call__(self, batch: Batch, u: np.ndarray) -> Batch:
        image = batch["image"]
        flip = u[:, 0] < 0.5
        mirrored = image.copy()
        mirrored[flip] = image[flip, :, ::-1]
        return {**batch, "image": mirrored}


class compose:  # noqa: N801
    """One transform after another, each with numbers of its own."""

    def __init__(self, *transforms: Transform):
        self._transforms = transforms
        self.draws = sum(transform.draws for transform in transforms)

    def __call__(self, batch: Batch, u: np.ndarray | None = None) -> Batch:
        first = 0
        for transform in self._transforms:
            batch = transform(batch, None if u is None else u[:, first : first + transform.draws])
            first += transform.draws
        return batch
