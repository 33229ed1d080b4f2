"""Max pooling that remembers where the maxima were, and its inverse (Badrinarayanan et al. 2015,
SegNet, section 3).

Axes: B batch, H height, W width, C channels. An index is row · W + column of the pooled image,
int32, as in torch. Of equal values the first in row-major order is the maximum.

Both directions go by the taps of the window, so nothing is scattered: a pixel is a maximum where
its own index stands.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advdl.nn.convolution import Padding, Pair, pads, pair
from advdl.nn.pooling import edges_of


class _Window(NamedTuple):
    """Size of the image, and the geometry of the windows on it; hashable."""

    size: tuple[int, int]
    window: tuple[int, int]
    strides: tuple[int, int]
    edges: tuple[tuple[int, int], tuple[int, int]]

    @property
    def outputs(self) -> tuple[int, int]:
        rows, columns = (
            (n + sum(edge) - k) // s + 1
            for n, k, s, edge in zip(self.size, self.window, self.strides, self.edges, strict=True)
        )
        return rows, columns


def max_pool_with_indices(
    x_BHWC: jax.Array, window: Pair = 2, strides: Pair = 2, padding: Padding = 0, ceil: bool = False
) -> tuple[jax.Array, jax.Array]:
    """(maxima, their indices), both (B, H', W', C); sizes and errors as `max_pool`'s."""
    geometry = _geometry(x_BHWC.shape[1:3], window, strides, padding, ceil)
    return _pool(x_BHWC, geometry)


def max_unpool(
    y_BHWC: jax.Array,
    index_BHWC: jax.Array,
    size: tuple[int, int],
    window: Pair = 2,
    strides: Pair = 2,
    padding: Padding = 0,
    ceil: bool = False,
) -> jax.Array:
    """Each value at its index, zeros elsewhere: (B, *size, C); the inverse of pooling an image of
    this size.

    An index outside its own window puts the value nowhere. Raises ValueError where pooling an image
    of this size would not give y's shape.
    """
    geometry = _geometry(size, window, strides, padding, ceil)
    if geometry.outputs != y_BHWC.shape[1:3] or y_BHWC.shape != index_BHWC.shape:
        raise ValueError(
            f"values {y_BHWC.shape} with indices {index_BHWC.shape}: an image of {size} is pooled"
            f" to {geometry.outputs}"
        )
    return _unpool(y_BHWC, index_BHWC, geometry)


def _geometry(size, window, strides, padding, ceil) -> _Window:
    size, window, strides = (int(size[0]), int(size[1])), pair(window), pair(strides)
    return _Window(size, window, strides, edges_of(size, window, strides, pads(padding), ceil))


def _taps(geometry: _Window):
    """For each tap of the window, row by row: what it reads of an image of the geometry's size, the
    indices of that, and the configuration that puts it back."""
    (m, n), (h, w) = geometry.outputs, geometry.size
    for i in range(geometry.window[0]):
        for j in range(geometry.window[1]):
            starts = (i - geometry.edges[0][0], j - geometry.edges[1][0])
            rows = jnp.arange(m) * geometry.strides[0] + starts[0]
            columns = jnp.arange(n) * geometry.strides[1] + starts[1]
            inside = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))[None, :]
            index = jnp.where(inside, rows[:, None] * w + columns[None, :], -1).astype(jnp.int32)
            back = [(0, 0, 0)] * 4
            for axis, start, count, stride, full in zip(
                (1, 2), starts, (m, n), geometry.strides, (h, w), strict=True
            ):
                back[axis] = (start, full - start - (count - 1) * stride - 1, stride - 1)
            yield back, index[None, :, :, None]


def _read(x, back, outputs, fill):
    """The tap's pixels of an image: the reverse of `lax.pad` with `back`."""
    cut = [(-low, -high, 0) for low, high, _ in back]
    shifted = lax.pad(x, jnp.asarray(fill, x.dtype), cut)
    return shifted[:, :: back[1][2] + 1, :: back[2][2] + 1][:, : outputs[0], : outputs[1]]


def _pooled(x, geometry) -> tuple[jax.Array, jax.Array]:
    def tap(back, here):
        pixels = _read(x, back, geometry.outputs, -jnp.inf)
        return pixels, jnp.broadcast_to(here, pixels.shape)

    taps = _taps(geometry)
    best, index = tap(*next(taps))
    for one in taps:
        pixels, here = tap(*one)
        index = jnp.where(pixels > best, here, index)
        best = jnp.maximum(pixels, best)
    return best, index


_pool = jax.custom_vjp(_pooled, nondiff_argnums=(1,))


def _pool_forward(x, geometry):
    y, index = _pool(x, geometry)
    return (y, index), index


def _pool_backward(geometry, index, cotangents):
    g, _ = cotangents
    zero = jnp.zeros((), g.dtype)
    return (
        sum(
            lax.pad(jnp.where(index == here, g, zero), zero, back) for back, here in _taps(geometry)
        ),
    )


_pool.defvjp(_pool_forward, _pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _unpool(y, index, geometry):
    zero = jnp.zeros((), y.dtype)
    image = jnp.zeros((len(y), *geometry.size, y.shape[-1]), y.dtype)
    overlap = any(k > s for k, s in zip(geometry.window, geometry.strides, strict=True))
    for back, here in _taps(geometry):
        chosen = index == here
        placed = lax.pad(jnp.where(chosen, y, zero), zero, back)
        # A pixel that is the maximum of several windows gets its value once.
        image = (
            jnp.where(lax.pad(chosen, jnp.array(False), back), placed, image)
            if overlap
            else image + placed
        )
    return image


def _unpool_forward(y, index, geometry):
    return _unpool(y, index, geometry), index


def _unpool_backward(geometry, index, g):
    dy = jnp.zeros(index.shape, g.dtype)
    for back, here in _taps(geometry):
        dy = jnp.where(index == here, _read(g, back, geometry.outputs, 0), dy)
    return dy, None


_unpool.defvjp(_unpool_forward, _unpool_backward)
