"""How alike two images are to the eye. Axes: B images, H height, W width, C channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from advdl.metrics.base import Mean

SIGMA, REACH = 1.5, 5  # pixels: of the Gaussian window of 11 by 11


def ssim(a_BHWC: jax.Array, b_BHWC: jax.Array, span: float = 2.0) -> jax.Array:
    """Structural similarity at every pixel, (B, H, W) in [-1, 1], 1 where the images are equal
    around it: Wang et al. 2004 (IEEE Transactions on Image Processing 13, equation 13), its
    Gaussian window, each channel alone and their mean.

    span: of the pixels' values, 2 for [-1, 1]. At the border the image is mirrored. Raises
      ValueError where shapes differ.
    """
    if a_BHWC.shape != b_BHWC.shape:
        raise ValueError(f"images of shapes {a_BHWC.shape} and {b_BHWC.shape}")
    a, b = (x.astype(jnp.float32) for x in (a_BHWC, b_BHWC))
    down, across = (_window(side) for side in a.shape[1:3])

    def local(x):
        return jnp.einsum("ih,bhwc,jw->bijc", down, x, across, precision="highest")

    mean_a, mean_b = local(a), local(b)
    variance_a, variance_b, both = (local(x * y) - m * n for x, y, m, n in (
        (a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b)
    ))  # fmt: skip
    flat, faint = (0.01 * span) ** 2, (0.03 * span) ** 2
    alike = (2 * mean_a * mean_b + flat) * (2 * both + faint)
    return (alike / ((mean_a**2 + mean_b**2 + flat) * (variance_a + variance_b + faint))).mean(-1)


def bounding_box(mask_BHW: jax.Array) -> jax.Array:
    """1 in the smallest box around what a mask of 0 and 1 keeps, (B, H, W); 0 everywhere where it
    keeps nothing."""

    def between(kept):  # (B, N) -> 1 from the first to the last
        return jnp.minimum(jax.lax.cummax(kept, axis=1), jax.lax.cummax(kept, axis=1, reverse=True))

    return between(mask_BHW.max(2))[:, :, None] * between(mask_BHW.max(1))[:, None]


def detail(x_BHWC: jax.Array) -> jax.Array:
    """How much neighbors differ, at every pixel (B, H, W): the mean absolute difference to those
    below and to the right. Blur of an edge leaves the sum of it as it is, and noise adds to it."""
    return _difference(jnp.abs, x_BHWC)


def sharpness(x_BHWC: jax.Array) -> jax.Array:
    """How sharp edges are, at every pixel (B, H, W): the mean square difference to the neighbors
    below and to the right. Of an edge that is spread over n pixels the sum is an nth."""
    return _difference(jnp.square, x_BHWC)


def _difference(of, x):
    x = x.astype(jnp.float32)
    down, right = jnp.diff(x, axis=1, append=x[:, -1:]), jnp.diff(x, axis=2, append=x[:, :, -1:])
    return ((of(down) + of(right)) / 2).mean(-1)


def foreground_similarity(
    made_BHWC: jax.Array, target_BHWC: jax.Array, mask_BHW: jax.Array, weight_B: jax.Array
) -> dict[str, Mean]:
    """Mergeable figures of how an image compares with its target where a mask of 0 and 1 says that
    there is something to see: `ssim`, `detail` and `sharpness` in the smallest box around it, and
    `l1`, the mean absolute error, on the mask itself. weight_B: 0 leaves an image out."""
    on = mask_BHW * weight_B[:, None, None]
    around = bounding_box(mask_BHW) * weight_B[:, None, None]
    error = jnp.abs(made_BHWC.astype(jnp.float32) - target_BHWC).mean(-1)
    return {
        "ssim": Mean.of(ssim(made_BHWC, target_BHWC), around),
        "l1": Mean.of(error, on),
        "detail": Mean.of(detail(made_BHWC), around),
        "sharpness": Mean.of(sharpness(made_BHWC), around),
    }


@functools.lru_cache
def _window(side: int) -> np.ndarray:
    """(side, side): row i holds the weights of the pixels around i, mirrored at both ends."""
    offset = np.arange(-REACH, REACH + 1)
    weight = np.exp(-(offset**2) / (2 * SIGMA**2))
    place = (np.arange(side)[:, None] + offset) % (2 * side)
    place = np.where(place < side, place, 2 * side - 1 - place)
    matrix = np.zeros((side, side), np.float32)
    np.add.at(
        matrix,
        (np.arange(side)[:, None], place),
        np.broadcast_to(weight / weight.sum(), place.shape),
    )
    return matrix
