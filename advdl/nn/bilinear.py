"""Bilinear interpolation as a transposed convolution (Long et al. 2015, FCN, section 3.3). Axes: B,
H, W, C.

Fixed, it is one matrix for rows and one for columns; learned, it is where a transposed convolution
starts.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def bilinear_weights(size: int) -> np.ndarray:
    """1 - |i - c| / f for i = 0 … size - 1, f = ceil(size / 2), c the middle; float64 (size,).
    Caffe's filler `bilinear`.

    With size = 2s - s mod 2 it interpolates between pixels s apart; its sum is then s.
    """
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - center) / factor


def bilinear_init(key, shape, dtype=jnp.float32) -> jax.Array:
    """Initializer of a transposed convolution (kh, kw, C, C): each channel is interpolated by
    itself.

    Raises ValueError where the channels in and out differ.
    """
    height, width, inputs, outputs = shape
    if inputs != outputs:
        raise ValueError(
            f"bilinear interpolation keeps channels; the kernel has {inputs} in and {outputs} out"
        )
    plane = np.outer(bilinear_weights(height), bilinear_weights(width))
    return jnp.asarray(plane[:, :, None, None] * np.eye(inputs), dtype)


def bilinear_upsample(x_BHWC: jax.Array, stride: int, size: int | None = None) -> jax.Array:
    """Transposed convolution with the bilinear kernel of this size (default: 2·stride), without
    padding.

    (B, H, W, C) -> (B, (H - 1)·stride + size, (W - 1)·stride + size, C). At the border it fades to
    zero, as Caffe's does.
    """
    weights = bilinear_weights(size or 2 * stride)
    wide = x_BHWC.astype(jnp.promote_types(x_BHWC.dtype, jnp.float32))
    for axis in (1, 2):
        matrix = _matrix(weights, x_BHWC.shape[axis], stride)
        wide = jnp.moveaxis(
            jnp.tensordot(wide, jnp.asarray(matrix, wide.dtype), (axis, 1)), -1, axis
        )
    return wide.astype(x_BHWC.dtype)


def _matrix(weights: np.ndarray, inputs: int, stride: int) -> np.ndarray:
    matrix = np.zeros(((inputs - 1) * stride + len(weights), inputs))
    for i in range(inputs):
        matrix[i * stride : i * stride + len(weights), i] = weights
    return matrix


def resize_bilinear(x_BHWC: jax.Array, size: Sequence[int]) -> jax.Array:
    """To (B, *size, C), height and width, with half-pixel centers and no antialiasing: torch's
    `interpolate(align_corners=False)`."""
    shape = (x_BHWC.shape[0], *size, x_BHWC.shape[-1])
    return jax.image.resize(x_BHWC, shape, "bilinear", antialias=False)
