"""Generative visual manipulation on the natural image manifold: Zhu et al. 2016 (arXiv:1609.03552),
iGAN: the search for the noise of an image and of an edit, what an edit asks of a generated image,
and how it is carried over to the original. The encoder is `dcgan.Encoder`.

Axes: B batch, Z dimensions of the noise, H height, W width, C channels, O orientations, G places of
a coarse grid. Pixels lie in [-1, 1] or [0, 1].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import chdtri

from advdl import losses
from advdl.models.generators import Noise
from advdl.nn import resize_bilinear

ORIENTATIONS = 8
SKETCH = 0.2  # weight of the edges beside the colors, as in the released code
FAR = 0.01
"""The share of normal noise, that farthest from 0, in which no noise is sought."""
SMOOTHNESS = 0.3
"""Weight of the mean square change of the noise of an edit."""
RATE, EDIT_RATE = 0.05, 0.1
"""Step sizes of Adam, of a projection and of an edit."""


class LatentSpace(NamedTuple):
    """The images that a generator draws of noise, and the search for the noise of one.

    The search is by gradient descent, every example by itself. variables: the generator's. low: the
    lowest value of a pixel; the highest is 1.
    """

    generator: nn.Module
    noise: Noise
    low: float

    def generate(self, variables: Any, z_BZ: jax.Array) -> jax.Array:
        """Images (B, H, W, C) of noise."""
        image: Any = self.generator.apply(variables, z_BZ, train=False)
        return image.astype(jnp.float32)

    def inside(self, z_BZ: jax.Array) -> jax.Array:
        """The nearest noise that the generator has been trained with: in the cube of uniform noise,
        in the ball in which normal noise lies but for the `FAR` farthest."""
        if self.noise.bound is not None:
            return z_BZ.clip(-self.noise.bound, self.noise.bound)
        radius = float(np.sqrt(chdtri(self.noise.dimensions, FAR)))
        length = jnp.sqrt(jnp.square(z_BZ).sum(-1, keepdims=True) + 1e-12)
        return z_BZ * jnp.minimum(1, radius / length)

    def error(self, variables: Any, z_BZ: jax.Array, x_BHWC: jax.Array) -> jax.Array:
        """Mean square error (B,) of the pixels that noise gives."""
        return losses.mean_squared_error(self.generate(variables, z_BZ), x_BHWC)

    def project(
        self, variables: Any, x_BHWC: jax.Array, z_BZ: jax.Array, steps: int = 200
    ) -> jax.Array:
        """The noise (B, Z) that comes nearest to images, sought from `z_BZ` on (equation 3)."""

        def cost(z):
            error = self.error(variables, z, x_BHWC)
            return error.sum(), error

        return self._descend(cost, z_BZ, RATE, steps)[0]

    def edit(
        self,
        variables: Any,
        z_BZ: jax.Array,
        before_BZ: jax.Array,
        wanted: "Wanted",
        smoothness_B: jax.Array,
        steps: int = 60,
    ) -> dict[str, jax.Array]:
        """The noise `z` (B, Z), sought from `z_BZ` on, of an image that has what is wanted and
        stays near that of `before_BZ` (equation 5); and the `error` (B,) of what is wanted there,
        and the `first` one, where the search began.

        smoothness: weight of the mean square distance from `before_BZ`.
        """
        _, height, width = wanted.edges.shape
        cell = cell_of((height, width))

        def cost(z):
            image = (self.generate(variables, z) - self.low) / (1 - self.low)
            error = edit_error(image, wanted, cell)
            return (error + smoothness_B * jnp.square(z - before_BZ).mean(1)).sum(), error

        z, errors = self._descend(cost, z_BZ, EDIT_RATE, steps)
        return {"z": z, "error": cost(z)[1], "first": errors[0]}

    def functions(self, name: str) -> Mapping[str, Callable[..., Any]]:
        """`sample`, `project` and `edit` as functions of a learner, whose generator is
        `variables["frozen"][name]`."""

        def sample(variables, batch):
            return self.generate(variables["frozen"][name], batch["z"])

        def project(variables, batch, steps):
            return self.project(variables["frozen"][name], batch["image"], batch["z"], steps)

        def edit(variables, batch, steps):
            wanted = Wanted(*(batch[part] for part in Wanted._fields))
            given = batch["z"], batch["before"], wanted, batch["smoothness"]
            return self.edit(variables["frozen"][name], *given, steps=steps)

        return {"sample": sample, "project": project, "edit": edit}

    def _descend(self, cost, z, rate, steps):
        """(the noise after these steps of Adam, the errors (steps, B) before each).
        `cost(z) -> (sum of the costs of all examples, errors (B,))`."""
        rule = optax.adam(rate)

        def step(carry, _):
            z, state = carry
            gradient, errors = jax.grad(cost, has_aux=True)(z)
            updates, state = rule.update(gradient, state)
            return (self.inside(z + updates), state), errors

        (z, _), errors = jax.lax.scan(step, (z, rule.init(z)), length=steps)
        return z, errors


class Wanted(NamedTuple):
    """What an edit asks for: colors (B, H, W, C) where `colored` (B, H, W) is 1, and edges
    (B, H, W) where `sketched` (B, H, W) is 1. B is 1 where all images are asked for the same."""

    color: jax.Array | np.ndarray
    colored: jax.Array | np.ndarray
    edges: jax.Array | np.ndarray
    sketched: jax.Array | np.ndarray


def edge_histogram(x_BHW: jax.Array | np.ndarray, cell: int) -> jax.Array:
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
    apart = jnp.square(x_BHWC - wanted.color).mean(-1) * wanted.colored
    error = apart.sum((1, 2)) / (wanted.colored.sum((1, 2)) + 1e-5)
    height, width = (side // cell for side in wanted.edges.shape[1:])
    touched = (
        wanted.sketched[:, : height * cell, : width * cell]
        .reshape(-1, height, cell, width, cell)
        .max((2, 4))
    )
    seen, drawn = edge_histogram(x_BHWC.mean(-1), cell), edge_histogram(wanted.edges, cell)
    edges = jnp.square(seen - drawn).sum(-1) * touched
    return error + SKETCH * edges.sum((1, 2)) / (touched.sum((1, 2)) + 1e-5)


def wanted_by(strokes: Any, image_HWC: np.ndarray) -> Wanted:
    """What strokes ask of an image, pixels in [0, 1]: where something is moved, its colors, moved.

    strokes: a `data.Edit`. The arrays have B = 1.
    """
    shifted = np.asarray(moved(jnp.asarray(image_HWC), jnp.asarray(strokes.offset)))
    color = np.where(strokes.colored[..., None] > 0, strokes.color, shifted)
    colored = np.maximum(strokes.colored, strokes.moved)
    return Wanted(*(x[None] for x in (color, colored, strokes.edges, strokes.sketched)))


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


def around(z_Z: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Noise (count, Z) from which an edit is sought: first the image's own, then places near it."""
    offset = np.random.default_rng(seed).uniform(-1, 1, (count, len(z_Z))).astype(np.float32)
    offset[0] = 0
    return z_Z + 0.5 * offset


def ranked(cost_N: np.ndarray, most: int = 16) -> np.ndarray:
    """Which results of a search are shown, the best first: at most so many, of no more than twice
    the mean cost of the better half."""
    order = np.argsort(cost_N)
    limit = 2 * cost_N[order[: len(order) // 2]].mean()
    return order[cost_N[order] <= limit][:most]


def between(first_Z: np.ndarray, last_Z: np.ndarray, count: int) -> np.ndarray:
    """Noise (count, Z) on the line from one to another, both ends with it."""
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    line = (1 - share) * first_Z + share * last_Z
    line[-1] = last_Z
    return line


_change_between = jax.jit(change_between)


def transfer(
    before_HWC: np.ndarray, after_HWC: np.ndarray, original_HWC: np.ndarray, low: float
) -> np.ndarray:
    """The original, of any size, changed as `before` became `after`; pixels from `low` to 1."""
    change = _change_between(jnp.asarray(before_HWC), jnp.asarray(after_HWC))
    return np.asarray(change.of(jnp.asarray(original_HWC))).clip(low, 1)


def cell_of(size: Sequence[int]) -> int:
    """Pixels of a cell's side: the paper's 8 at 64 pixels, in proportion, and at least 2."""
    return int(np.clip(min(size) // 8, 2, 8))
