"""Pooling. Axes: B batch, H height, W width, C channels.

A window that reaches beyond the image sees nothing there: a maximum ignores it, an average counts
zeros or leaves them out. With `ceil` the last window may start inside the image (or its padding
before) and reach beyond the padding after, as in Caffe and torch's `ceil_mode`; without, what does
not fill a window is dropped.

Fast implementation (CPU): XLA takes the gradient of a maximum as a scatter over windows. Here a
maximum is taken over strided slices, along rows and then along columns, and its gradient goes back
through the same slices. Of equal values the first in row-major order gets the gradient, in both
implementations and as in torch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advdl.nn import remat, tracing
from advdl.nn.convolution import Padding, Pair, pads, pair


def max_pool(
    x_BHWC: jax.Array, window: Pair, strides: Pair, padding: Padding = 0, ceil: bool = False
) -> jax.Array:
    """Maxima over windows, overlapping where strides < window (Krizhevsky et al. 2012, section
    3.4): (B, H', W', C).

    H' = floor((H + top + bottom - window) / stride) + 1, rounded up with `ceil`, and so W'. Raises
    ValueError for an image without room for one window.
    """
    window, strides = pair(window), pair(strides)
    edges = edges_of(x_BHWC.shape[1:3], window, strides, pads(padding), ceil)
    if tracing.fast():
        for axis in (2, 1):
            x_BHWC = _max_along(x_BHWC, axis, window[axis - 1], strides[axis - 1], edges[axis - 1])
        return x_BHWC
    return lax.reduce_window(
        x_BHWC,
        -jnp.inf,
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *((before, max(after, 0)) for before, after in edges), (0, 0)),
    )


def avg_pool(
    x_BHWC: jax.Array,
    window: Pair,
    strides: Pair,
    padding: Padding = 0,
    ceil: bool = False,
    count_padding: bool = True,
) -> jax.Array:
    """Means over windows, (B, H', W', C) as for `max_pool`.

    count_padding: divide by the window's part inside image and padding (torch's default), or inside
      the image alone.
    """
    window, strides, padding = pair(window), pair(strides), pads(padding)
    sizes = x_BHWC.shape[1:3]
    edges = edges_of(sizes, window, strides, padding, ceil)
    axes = []
    for n, k, s, pad, edge in zip(sizes, window, strides, padding, edges, strict=True):
        starts = np.arange((n + sum(edge) - k) // s + 1) * s - pad[0]
        inside = (starts[:, None] <= np.arange(n)) & (np.arange(n) < starts[:, None] + k)
        last = n + pad[1] if count_padding else n
        first = -pad[0] if count_padding else 0
        count = np.minimum(starts + k, last) - np.maximum(starts, first)
        axes.append(inside / count[:, None])
    return _weighted(x_BHWC, *axes)


def adaptive_avg_pool(x_BHWC: jax.Array, size: Pair) -> jax.Array:
    """Means over a grid of size (H', W') of windows as equal as can be, torch's AdaptiveAvgPool2d:
    (B, H', W', C).

    Window i of n pixels covers floor(i·n / H') … ceil((i + 1)·n / H') - 1.
    """
    axes = []
    for n, m in zip(x_BHWC.shape[1:3], pair(size), strict=True):
        cells, pixels = np.arange(m)[:, None], np.arange(n)
        inside = (pixels >= cells * n // m) & (pixels < -(-(cells + 1) * n // m))
        axes.append(inside / inside.sum(1, keepdims=True))
    return _weighted(x_BHWC, *axes)


def global_average_pool(x_BHWC: jax.Array) -> jax.Array:
    """Mean over height and width: (B, H, W, C) -> (B, C), summed in float32 at least, in x's dtype.

    Fast implementation (CPU): a matrix product with a row of ones, as in `advdl.nn.normalization`.
    """
    wide = x_BHWC.astype(jnp.promote_types(x_BHWC.dtype, jnp.float32))
    if not tracing.fast():
        return wide.mean((1, 2)).astype(x_BHWC.dtype)
    rows = wide.reshape(len(wide), -1, wide.shape[-1])
    ones = jnp.ones((len(wide), 1, rows.shape[1]), wide.dtype)
    return ((ones @ rows)[:, 0] / rows.shape[1]).astype(x_BHWC.dtype)


def _weighted(x, rows, columns):
    """Sums over height and width with the weights rows (H', H) and columns (W', W), a window being
    their product."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, weights in ((1, rows), (2, columns)):
        if tracing.fast():
            wide = jnp.moveaxis(
                jnp.tensordot(wide, jnp.asarray(weights, wide.dtype), (axis, 1)), -1, axis
            )
        else:
            sums = [
                (wide.take(w.nonzero()[0], axis) * w.max()).sum(axis, keepdims=True)
                for w in weights
            ]
            wide = jnp.concatenate(sums, axis)
    return wide.astype(x.dtype)


def edges_of(sizes, window, strides, padding, ceil):
    """Padding of each axis, before and after, such that windows fill it; after may be negative
    where pixels drop out."""
    edges = []
    for n, k, s, (before, after) in zip(sizes, window, strides, padding, strict=True):
        room = n + before + after - k
        last = -(-room // s) if ceil else room // s
        if last < 0:
            raise ValueError(
                f"a window of {window} does not fit into an image of {sizes} padded by {padding}"
            )
        if ceil and last * s >= n + before:  # a window that would start beyond the image
            last -= 1
        edges.append((before, last * s + k - n - before))
    return tuple(edges)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_along(x, axis, window, stride, edge):
    taps = _taps(x, axis, window, stride, edge)
    return functools.reduce(jnp.maximum, taps)


def _taps(x, axis, window, stride, edge):
    """The window's pixels: `window` arrays, of output's size along the axis."""
    configuration = [(0, 0, 0)] * x.ndim
    configuration[axis] = (*edge, 0)
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), configuration)
    count = (padded.shape[axis] - window) // stride + 1
    return [
        lax.slice_in_dim(padded, tap, tap + (count - 1) * stride + 1, stride, axis)
        for tap in range(window)
    ]


def _max_forward(x, axis, window, stride, edge):
    y = _max_along(x, axis, window, stride, edge)
    return y, (x, y)


def _max_backward(axis, window, stride, edge, saved, g):
    x, y, g = remat.prevent_cse(*saved, g)
    n = x.shape[axis]
    free, total = jnp.ones(y.shape, bool), jnp.zeros_like(x)
    for tap, pixels in enumerate(_taps(x, axis, window, stride, edge)):
        first = free & (pixels == y)
        free = free & ~first
        configuration = [(0, 0, 0)] * x.ndim
        before = tap - edge[0]
        configuration[axis] = (before, n - before - (y.shape[axis] - 1) * stride - 1, stride - 1)
        total = total + lax.pad(jnp.where(first, g, 0), jnp.zeros((), g.dtype), configuration)
    return (total,)


_max_along.defvjp(_max_forward, _max_backward)
