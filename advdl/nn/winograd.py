"""3×3 convolution with stride 1 in 4/9 of the products: F(2×2, 3×3) of Lavin and Gray 2015
(arXiv:1509.09308, section 4.1).

Axes: B batch, H height, W width, I channels in, O channels out; T rows and S columns of tiles.

Two outputs in a row are four products of sums of four inputs and three taps; so a tile of 2×2
outputs is, on each of 16 points, a matrix product over channels: y = Aᵀ [(G w Gᵀ) · (Bᵀ x B)] A.
Its adjoint in w is said here too; that in x is the convolution by the kernel turned.

Each of the three is traced once for its shapes: the layers of a network repeat them.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from advdl.nn import tracing

Pads = tuple[tuple[int, int], tuple[int, int]]
# Less makes too little of the products: fewer channels than this, fewer tiles, or more pixels of
# tiles for each of the output.
CHANNELS, TILES, WASTE = 64, 64, 1.35


def least_pairs() -> int:
    """The pairs of channels, in times out, from which on the kernel gradient is worth while: half
    as many where XLA calls oneDNN for it otherwise, which takes longer than Eigen."""
    return 64 * (64 if tracing.current().onednn else 128)


def suits(
    x: jax.Array, outputs: tuple[int, int], channels_out: int, taps: tuple[int, int], pairs: int = 0
) -> bool:
    """Whether this is worth while, for x (B, H, W, I) in at least 32 bits and at least so many
    pairs of channels."""
    (t, s), (rows, columns) = _tiles(outputs), outputs
    needed = 4 * t * s / (rows * columns)  # pixels of tiles for each of the output
    return (
        taps == (3, 3)
        and min(x.shape[-1], channels_out) >= CHANNELS
        and x.shape[-1] * channels_out >= pairs * needed
        and len(x) * t * s >= TILES
        and needed <= WASTE
        and jnp.finfo(x.dtype).bits >= 32
    )


@functools.partial(jax.jit, static_argnums=2, inline=True)
def conv(x_BHWI: jax.Array, kernel: jax.Array, padding: Pads) -> jax.Array:
    """The convolution by a kernel (3, 3, I, O), (B, H', W', O)."""
    return _by_points(x_BHWI, _kernels(kernel), padding)


@functools.partial(jax.jit, static_argnums=2, inline=True)
def turned(y_BHWO: jax.Array, kernel: jax.Array, padding: Pads) -> jax.Array:
    """`conv` of y by the kernel (3, 3, I, O) turned by 180° with I and O exchanged, (B, H', W', I):
    as the gradient by x needs it. No exchanged kernel is made: the products take each point's
    transpose."""
    return _by_points(y_BHWO, [kernels.T for kernels in _kernels(kernel[::-1, ::-1])], padding)


def _by_points(x_BHWI, kernels, padding):
    outputs = _outputs(x_BHWI, padding)
    points = [x @ w for x, w in zip(_inputs(x_BHWI, padding, outputs), kernels, strict=True)]
    tiles = (len(x_BHWI), *_tiles(outputs), kernels[0].shape[1])
    y = [[part.reshape(tiles) for part in row] for row in _both(_output, points, 4)]
    y = jnp.stack([jnp.stack(row, 3) for row in y], 2).reshape(
        len(x_BHWI), 2 * tiles[1], 2 * tiles[2], -1
    )
    return y[:, : outputs[0], : outputs[1]]


@functools.partial(jax.jit, static_argnums=2, inline=True)
def kernel_gradient(x_BHWI: jax.Array, y_BHWO: jax.Array, padding: Pads) -> jax.Array:
    """The gradient of <y, conv(x, kernel)> by the kernel, (3, 3, I, O)."""
    outputs = y_BHWO.shape[1:3]
    t, s = _tiles(outputs)
    y = jnp.pad(y_BHWO, ((0, 0), (0, 2 * t - outputs[0]), (0, 2 * s - outputs[1]), (0, 0)))
    y = [y[:, i::2, j::2].reshape(-1, y.shape[-1]) for i in range(2) for j in range(2)]
    points = [part for row in _both(_spread, y, 2) for part in row]
    gradient = [
        x.T @ point for x, point in zip(_inputs(x_BHWI, padding, outputs), points, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _both(_taps, gradient, 4)])


def _outputs(x, padding):
    return tuple(n + sum(pads) - 2 for n, pads in zip(x.shape[1:3], padding, strict=True))


def _tiles(outputs):
    return tuple(-(-n // 2) for n in outputs)


def _inputs(x, padding, outputs):
    """Bᵀ x B of every tile: of each of the 16 points, (B·T·S, I). A product for each is faster than
    one for all in a batch."""
    (t, s), zero = _tiles(outputs), jnp.zeros((), x.dtype)
    edges = [
        (before, 2 * m + 2 - n - before, 0)
        for (before, _), m, n in zip(padding, (t, s), x.shape[1:3], strict=True)
    ]
    x = lax.pad(x, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    x = [
        x[:, i : i + 2 * t - 1 : 2, j : j + 2 * s - 1 : 2].reshape(-1, x.shape[-1])
        for i in range(4)
        for j in range(4)
    ]
    return [part for row in _both(_input, x, 4) for part in row]


def _kernels(kernel):
    """G w Gᵀ: of each point, (I, O)."""
    return [
        part
        for row in _both(_kernel, [kernel[i, j] for i in range(3) for j in range(3)], 3)
        for part in row
    ]


def _both(along, parts, columns):
    """A map of one axis, applied to rows and columns of a list in row-major order: rows of the
    result."""
    rows = [along(parts[i : i + columns]) for i in range(0, len(parts), columns)]
    return list(zip(*(along(column) for column in zip(*rows, strict=True)), strict=True))


# Along one axis: Bᵀ, G, Aᵀ, and the adjoints A and Gᵀ.


def _input(d):
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]


def _kernel(g):
    even, odd = (g[0] + g[2]) / 2, g[1] / 2
    return g[0], even + odd, even - odd, g[2]


def _output(m):
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _spread(y):
    return y[0], y[0] + y[1], y[0] - y[1], -y[1]


def _taps(u):
    even = (u[1] + u[2]) / 2
    return u[0] + even, (u[1] - u[2]) / 2, even + u[3]
