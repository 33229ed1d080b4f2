"""Generative visual manipulation on the natural image manifold: Zhu et al. 2016 (arXiv:1609.03552),
iGAN: what an edit asks of a generated image, and how it is carried over to the original. The
encoder is `dcgan.Encoder`.

Axes: B batch, H height, W width, C channels, O orientations, G places of a coarse grid. Pixels lie
  in [-1, 1] or [0, 1].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl.nn import resize_bilinear

ORIENTATIONS = 8
SKETCH = 0.2  # weight of the edges beside the colors, as in the released code


class Wanted(NamedTuple):
    """Colors (H, W, C) where `colored` (H, W) is 1, and edges (H, W) where `sketched` (H, W) is
    1."""

    color: jax.Array
    colored: jax.Array
    edges: jax.Array
    sketched: jax.Array


def edge_histogram(x_BHW: jax.Array, cell: int) -> jax.Array:
    """(B, H / cell, W / cell, O): how strong edges of each orientation are in each cell, divided by
    all of that cell; the histogram of oriented gradients in a form that has derivatives (section
    4.1, "sketch"). A pixel's gradient is its difference from the pixels above and to the left; at
    the border, where there is none, it is 0. Remainders are left out."""
    down = jnp.diff(x_BHW, axis=1, prepend=x_BHW[:, :1])
    right = jnp.diff(x_BHW, axis=2, prepend=x_BHW[:, :, :1])
    strength = jnp.sqrt(down**2 + right**2 + 1e-6)
    turn = jnp.arctan2(down, right + 1e-9)  # counted twice below: an edge has no direction
    bins = jnp.arange(ORIENTATIONS).reshape(1, 1, 1, -1) * (jnp.pi / ORIENTATIONS)
    share = jax.nn.softmax(4 * jnp.cos(2 * (turn[..., None] - bins)), axis=-1)
    votes = (strength - 1e-3)[..., None] * share
    batch, height, width, _ = votes.shape
    rows, columns = height // cell, width // cell
    votes = (
        votes[:, : rows * cell, : columns * cell]
        .reshape(batch, rows, cell, columns, cell, ORIENTATIONS)
        .mean((2, 4))
    )
    return votes / jnp.sqrt(jnp.square(votes).sum(-1, keepdims=True) + 1e-3)


def edit_error(x_BHWC: jax.Array, wanted: Wanted, cell: int) -> jax.Array:
    """(B,): the mean square error of the colors where they are asked for, and SKETCH times that of
    the edges' histograms in the cells that a sketch touches (equation 5)."""
    apart = jnp.square(x_BHWC - wanted.color[None]).mean(-1) * wanted.colored[None]
    error = apart.sum((1, 2)) / (wanted.colored.sum() + 1e-5)
    height, width = (side // cell for side in wanted.edges.shape)
    touched = (
        wanted.sketched[: height * cell, : width * cell]
        .reshape(height, cell, width, cell)
        .max((1, 3))
    )
    seen, drawn = edge_histogram(x_BHWC.mean(-1), cell), edge_histogram(wanted.edges[None], cell)
    edges = jnp.square(seen - drawn).sum(-1) * touched[None]
    return error + SKETCH * edges.sum((1, 2)) / (touched.sum() + 1e-5)


def moved(x_HWC: jax.Array, offset_HW2: jax.Array) -> jax.Array:
    """The image whose pixel p is what lies at p + offset, (x, y) in pixels, by bilinear
    interpolation; at the border the last pixel goes on."""
    height, width, _ = x_HWC.shape
    y, x = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij"
    )
    at = [y + offset_HW2[..., 1], x + offset_HW2[..., 0]]

    def pick(channel):
        return jax.scipy.ndimage.map_coordinates(channel, at, order=1, mode="nearest")

    return jax.vmap(pick, in_axes=-1, out_axes=-1)(x_HWC)


class Change(NamedTuple):
    """How one image becomes another, on a coarse grid: where each place comes from, (G, G, 2) in
    shares of the image's sides, and an affine map of its colors, (G, G, C, C) and (G, G, C)."""

    flow: jax.Array
    matrix: jax.Array
    shift: jax.Array

    def of(self, x_HWC: jax.Array) -> jax.Array:
        """The change applied to an image of any size."""
        size = x_HWC.shape[:2]

        def fine(field):
            return resize_bilinear(field.reshape(1, *field.shape[:2], -1), size)[0]

        channels = x_HWC.shape[2]
        flow = fine(self.flow) * jnp.array([[[size[1], size[0]]]], jnp.float32)
        matrix = fine(self.matrix).reshape(*size, channels, channels)
        return jnp.einsum("hwij,hwj->hwi", matrix, moved(x_HWC, flow)) + fine(self.shift)


def change_between(
    before_HWC: jax.Array,
    after_HWC: jax.Array,
    grid: int = 8,
    steps: int = 300,
    smooth: float = 0.02,
    rate: float = 0.02,
) -> Change:
    """The smooth flow and change of colors that take `before` to `after` (section 4.2, equation 6),
    by gradient descent from no change. grid: places a side, at most. smooth: weight of the
    differences between neighboring places."""
    channels, grid = before_HWC.shape[2], min(grid, *before_HWC.shape[:2])
    one = jnp.broadcast_to(jnp.eye(channels), (grid, grid, channels, channels))
    start = Change(jnp.zeros((grid, grid, 2)), one, jnp.zeros((grid, grid, channels)))

    def uneven(field):
        return sum(jnp.square(jnp.diff(field, axis=axis)).sum() for axis in (0, 1)) / grid**2

    def cost(change):
        apart = jnp.square(change.of(before_HWC) - after_HWC).mean()
        kept = jnp.square(change.flow).mean() * 0.1 + jnp.square(change.matrix - one).mean() * 0.01
        return (
            apart
            + smooth * (4 * uneven(change.flow) + uneven(change.matrix) + uneven(change.shift))
            + smooth * kept
        )

    rule = optax.adam(rate)

    def step(carry, _):
        change, state = carry
        updates, state = rule.update(jax.grad(cost)(change), state)
        return (jax.tree.map(jnp.add, change, updates), state), None

    (change, _), _ = jax.lax.scan(step, (start, rule.init(start)), length=steps)
    return change


def cell_of(size: tuple[int, int]) -> int:
    """Pixels of a cell's side: the paper's 8 at 64 pixels, in proportion, and at least 2."""
    return int(np.clip(min(size) // 8, 2, 8))
