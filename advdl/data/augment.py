"""Transforms that change what an image looks like: operations drawn from a table, erasing, and
colors along their axes.

Axes: B batch, H height, W width, C channels.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageEnhance, ImageOps
from scipy.special import ndtri

from advdl.data.source import Source
from advdl.data.transforms import Batch, Transform
from advdl.data.views import TRIES, random_sides

BINS = 31  # magnitudes run from 0 to 30

# Principal axes of the colors of ImageNet, images in [0, 1]: Krizhevsky et al. 2012, section 4.1;
# the figures are those of fb.resnet.torch. Column i of the eigenvectors belongs to eigenvalue i.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


class Operation(NamedTuple):
    """`apply(image, magnitude)`; magnitudes (31,) in the operation's own units, of either sign
    where `signed`."""

    magnitudes: np.ndarray
    signed: bool
    apply: Callable[[Image.Image, float], Image.Image]


def trivial_augment() -> Transform:
    """One operation an image, every one as likely, at a magnitude from its whole range:
    TrivialAugmentWide (Müller & Hutter 2021, arXiv:2103.10158, Table 1 and section 3; the
    operations and ranges of torchvision). uint8 images."""

    def apply(batch: Batch, u: np.ndarray) -> Batch:
        space = list(wide_operations().values())
        return _each(
            batch,
            u,
            lambda image, v: _operate(image, space[int(v[0] * len(space))], int(v[1] * BINS), v[2]),
        )

    return Transform(3, apply)


def rand_augment(n: int = 2, magnitude: int = 9) -> Transform:
    """n operations an image, one after another, every one as likely, at the same magnitude of 0 …
    30 (Cubuk et al. 2020, arXiv:1909.13719, section 3; the operations and ranges of torchvision).
    uint8 images."""
    if not 0 <= magnitude < BINS:
        raise ValueError(f"magnitude is {magnitude}; expected 0 … {BINS - 1}")

    def apply(batch: Batch, u: np.ndarray) -> Batch:
        space = list(operations(*batch["image"].shape[1:3]).values())

        def operate(image: Image.Image, v: np.ndarray) -> Image.Image:
            for which, sign in v.reshape(n, 2):
                image = _operate(image, space[int(which * len(space))], magnitude, sign)
            return image

        return _each(batch, u, operate)

    return Transform(2 * n, apply)


def operations(height: int, width: int) -> dict[str, Operation]:
    """RandAugment's, by name, for images of this size. Shifts in pixels, rotations in degrees, the
    rest in shares."""
    shift = 150 / 331  # of 331 pixels, those of AutoAugment's ImageNet networks
    return _operations(0.3, shift * width, shift * height, 30, 0.9, 4)


def wide_operations() -> dict[str, Operation]:
    """TrivialAugmentWide's, by name."""
    return _operations(0.99, 32, 32, 135, 0.99, 6)


def random_erasing(
    p: float = 0.1, scale: Sequence[float] = (0.02, 0.33), ratio: Sequence[float] = (0.3, 3.3)
) -> Transform:
    """With probability p a rectangle becomes 0, which after `standardize` is the mean color (Zhong
    et al. 2017, arXiv:1708.04896, algorithm 1).

    Its share of the image is uniform in `scale`, the logarithm of its height / width over `ratio`;
    of ten tries the first that fits (torchvision's RandomErasing). Images of any type.
    """

    def erase(batch: Batch, u: np.ndarray) -> Batch:
        image_BHWC = batch["image"].copy()
        _, height, width, _ = image_BHWC.shape
        for n in np.flatnonzero(u[:, 0] < p):
            tall, wide = random_sides(height * width, scale, ratio, u[n, 1:])
            fits = np.flatnonzero((tall < height) & (wide < width))
            if len(fits):
                h, w = tall[fits[0]], wide[fits[0]]
                top, left = int(u[n, -2] * (height - h + 1)), int(u[n, -1] * (width - w + 1))
                image_BHWC[n, top : top + h, left : left + w] = 0
        return {**batch, "image": image_BHWC}

    return Transform(3 + 2 * TRIES, erase)


def pca_color(
    sigma: float = 0.1,
    eigenvalues: ArrayLike = IMAGENET_EIGENVALUES,
    eigenvectors: ArrayLike = IMAGENET_EIGENVECTORS,
) -> Transform:
    """Adds [p₁ p₂ p₃] [a₁λ₁ a₂λ₂ a₃λ₃]ᵀ to all pixels of an image, aᵢ ~ N(0, sigma²) once an image
    (Krizhevsky et al. 2012, section 4.1).

    eigenvalues (C,) λ, eigenvectors (C, C) with pᵢ in column i, of images in [0, 1]. Float images
    are taken to lie there (before `standardize`) and may leave it; uint8 ones are rounded and
    clipped.
    """
    values, axes = np.asarray(eigenvalues), np.asarray(eigenvectors)

    def shift(batch: Batch, u: np.ndarray) -> Batch:
        a_BC = sigma * ndtri(np.maximum(u, 2.0**-54))  # u may be 0, whose normal is not finite
        shift_B11C = ((a_BC * values) @ axes.T)[:, None, None, :]
        image_BHWC = batch["image"]
        if image_BHWC.dtype == np.uint8:
            image_BHWC = np.rint(image_BHWC + 255 * shift_B11C).clip(0, 255).astype(np.uint8)
        else:
            image_BHWC = image_BHWC + shift_B11C.astype(image_BHWC.dtype)
        return {**batch, "image": image_BHWC}

    return Transform(len(values), shift)


def principal_colors(source: Source, examples: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalues (C,), falling; eigenvectors (C, C), one a column) of the covariance of all
    pixels, images in [0, 1].

    examples: how many images are looked at, evenly spread over the source. Gives what `pca_color`
      takes.
    """
    size, channels = len(source), source.image_shape[-1]
    rows = (
        np.arange(size) if size <= examples else np.linspace(0, size - 1, examples).astype(np.int64)
    )
    u = np.random.default_rng(0).random((len(rows), source.draws))
    count, total, products = 0, np.zeros(channels), np.zeros((channels, channels))
    for part in np.array_split(np.arange(len(rows)), len(rows) // 256 + 1):
        pixels = source.read(rows[part], u[part])["image"].reshape(-1, channels).astype(np.float64)
        count, total, products = (
            count + len(pixels),
            total + pixels.sum(0),
            products + pixels.T @ pixels,
        )  # exact: integers
    mean = total / count
    values, vectors = np.linalg.eigh((products / count - np.outer(mean, mean)) / 255**2)
    return values[::-1], vectors[:, ::-1]


def _each(
    batch: Batch, u: np.ndarray, change: Callable[[Image.Image, np.ndarray], Image.Image]
) -> Batch:
    image_BHWC = batch["image"]
    if image_BHWC.dtype != np.uint8:
        raise ValueError(
            f"operations on colors need uint8 images, not {image_BHWC.dtype}; put them before"
            " to_float"
        )
    changed = np.empty_like(image_BHWC)
    for n, image in enumerate(image_BHWC):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        changed[n] = np.asarray(change(picture, u[n])).reshape(image.shape)
    return {**batch, "image": changed}


def _operate(image: Image.Image, operation: Operation, number: int, u: float) -> Image.Image:
    magnitude = float(operation.magnitudes[number])
    return operation.apply(image, -magnitude if operation.signed and u < 0.5 else magnitude)


def _operations(shear, shift_x, shift_y, angle, enhance, bits) -> dict[str, Operation]:
    """torchvision's table, its ranges given: the greatest shear, shifts, rotation, enhancement, and
    bits taken away."""

    def upto(most):
        return np.linspace(0, most, BINS)

    none = np.zeros(BINS)

    def enhanced(kind):
        return Operation(upto(enhance), True, lambda image, m: kind(image).enhance(1 + m))

    return {
        "Identity": Operation(none, False, lambda image, m: image),
        "ShearX": Operation(upto(shear), True, lambda image, m: _affine(image, 1, m, 0, 0, 1, 0)),
        "ShearY": Operation(upto(shear), True, lambda image, m: _affine(image, 1, 0, 0, m, 1, 0)),
        "TranslateX": Operation(
            upto(shift_x), True, lambda image, m: _affine(image, 1, 0, -math.trunc(m), 0, 1, 0)
        ),
        "TranslateY": Operation(
            upto(shift_y), True, lambda image, m: _affine(image, 1, 0, 0, 0, 1, -math.trunc(m))
        ),
        "Rotate": Operation(upto(angle), True, lambda image, m: image.rotate(m)),
        "Brightness": enhanced(ImageEnhance.Brightness),
        "Color": enhanced(ImageEnhance.Color),
        "Contrast": enhanced(ImageEnhance.Contrast),
        "Sharpness": enhanced(ImageEnhance.Sharpness),
        "Posterize": Operation(
            8 - np.rint(np.arange(BINS) * bits / (BINS - 1)),
            False,
            lambda image, m: ImageOps.posterize(image, int(m)),
        ),
        "Solarize": Operation(
            255 - upto(255), False, lambda image, m: ImageOps.solarize(image, math.ceil(m))
        ),
        "AutoContrast": Operation(none, False, lambda image, m: ImageOps.autocontrast(image)),
        "Equalize": Operation(none, False, lambda image, m: ImageOps.equalize(image)),
    }


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    """Pixel (x, y) from (ax + by + c, dx + ey + f) of the image, the nearest one, black outside."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
