"""Predictions of many images, some at a time; dense ones at several scales, mirrored, and by
windows where an image is too large.

Axes: B batch, H height, W width, C channels, K classes.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advdl.nn import resize_bilinear

Scores = Callable[[jax.Array], jax.Array]


def in_portions(apply: Callable[..., Any], *arrays: np.ndarray, rows: int = 100) -> Any:
    """`apply(*arrays)`, `rows` examples at a time, the last ones filled up by zeros, so that one
    program serves all counts.

    arrays: (N, …) each, N at least 1. apply: gives a tree of arrays (rows, …), each row of its own
    example alone. Returns that tree of (N, …), on the host.
    """
    parts, count = [], len(arrays[0])
    for first in range(0, count, rows):
        part = [array[first : first + rows] for array in arrays]
        missing = max(0, first + rows - count)
        whole = [np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for x in part]
        parts.append(
            jax.tree.map(lambda y, kept=rows - missing: np.asarray(y)[:kept], apply(*whole))
        )
    return jax.tree.map(lambda *ys: np.concatenate(ys), *parts)


def interpolate(start_NZ: np.ndarray, end_NZ: np.ndarray, count: int) -> np.ndarray:
    """Codes that lie evenly on the straight line from each start to its end, both among them:
    (N·count, Z), line after line."""
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    between = (1 - share) * start_NZ[:, None] + share * end_NZ[:, None]
    return between.reshape(-1, start_NZ.shape[1])


def probabilities(
    predict: Scores,
    image_BHWC: jax.Array,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    window: int = 0,
) -> jax.Array:
    """Mean probability (B, H, W, K) of every pixel over scales and, with `mirror`, the mirrored
    image.

    predict: (B, h, w, C) -> probabilities (B, h, w, K), of any size. window: the largest side that
    it is given; a larger image is covered by windows that overlap by a third, and where they do
    their probabilities are averaged. 0: whole images.
    """
    size, found = image_BHWC.shape[1:3], []
    for scale in scales:
        x = (
            image_BHWC
            if scale == 1
            else resize_bilinear(image_BHWC, [max(1, round(scale * n)) for n in size])
        )
        for flip in (False, True)[: 1 + mirror]:
            p = _windows(predict, x[:, :, ::-1] if flip else x, window)
            p = p[:, :, ::-1] if flip else p
            found.append(p if scale == 1 else resize_bilinear(p, size))
    return functools.reduce(operator.add, found) / len(found)


def _windows(predict: Scores, x_BHWC: jax.Array, window: int) -> jax.Array:
    height, width = x_BHWC.shape[1:3]
    if not window or max(height, width) <= window:
        return predict(x_BHWC)
    total = count = jnp.zeros((1, height, width, 1))
    for top in _starts(height, window):
        for left in _starts(width, window):
            part = x_BHWC[:, top : top + window, left : left + window]
            p = predict(part)
            down, right = height - top - p.shape[1], width - left - p.shape[2]
            room = (0, 0), (top, down), (left, right), (0, 0)
            total = total + jnp.pad(p, room)
            count = count + jnp.pad(jnp.ones((1, *p.shape[1:3], 1)), room)
    return total / count


def _starts(length: int, window: int) -> list[int]:
    """Of windows that cover `length`, each a third over the one before, the last at the end."""
    if length <= window:
        return [0]
    step = max(1, window * 2 // 3)
    return [*range(0, length - window, step), length - window]
