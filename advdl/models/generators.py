"""The networks of a GAN by name, as `gan.py` trains them and others build on them, and their noise.

Axes: B batch, Z dimensions of the noise.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advdl.errors import UserError
from advdl.models import dcgan, goodfellow, sngan
from advdl.nn import BatchNorm, Bias, Conv, GroupNorm, replica, spectral

NOISE_BOUNDS = {"uniform": math.sqrt(3), "unit-uniform": 1.0}
"""b of the priors U(-b, b), by name: of variance 1 as in the code released by Goodfellow et al.
2014, and that of Radford et al. 2015. The prior "normal" has no bound."""

LOWEST_PIXEL: Mapping[str, float] = {"dcgan": -1.0, "resnet": -1.0, "mlp": 0.0}
"""The lowest value of a pixel that the generator of this name makes; the highest is 1."""

SCALED = nn.initializers.he_normal()
"""Initializer of dcgan's kernels where nothing normalizes: with N(0, 0.02) every layer makes its
input smaller, and samples hardly differ."""


class Convolutional(NamedTuple):
    """A generator of convolutions.

    make: shape, width, classes, dtype, norm -> network. halvings: how often a height and width
      halve, a ValueError where they do not. plain: what it is given where nothing normalizes.
    """

    make: Callable[..., nn.Module]
    halvings: Callable[[int, int], int]
    plain: Mapping[str, Any]


CONVOLUTIONAL = {
    "dcgan": Convolutional(dcgan.Generator, dcgan.levels_of, {"norm": Bias, "kernel_init": SCALED}),
    "resnet": Convolutional(sngan.Generator, sngan.halvings, {"norm": Bias}),
}


class Noise(NamedTuple):
    """A generator's prior p_z: independent numbers, "normal" or a key of `NOISE_BOUNDS`."""

    prior: str
    dimensions: int

    @property
    def bound(self) -> float | None:
        """b of U(-b, b); None where the prior is normal."""
        return NOISE_BOUNDS.get(self.prior)

    def draw(self, key: jax.Array) -> jax.Array:
        """One noise (Z,)."""
        if self.bound is None:
            return jax.random.normal(key, (self.dimensions,))
        return jax.random.uniform(key, (self.dimensions,), minval=-self.bound, maxval=self.bound)

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """Noise (count, Z) of a batch, see `replica.sample`."""
        return replica.sample(self.draw, key, count)

    def by_index(self, index_B: jax.Array) -> jax.Array:
        """Noise (B, Z) of the examples of an evaluation, see `replica.sample_by_index`."""
        return replica.sample_by_index(self.draw, index_B)

    def of_seed(self, seed: int, count: int) -> np.ndarray:
        """Noise (count, Z) on the host, a function of the seed; the first rows of more are the
        same."""
        return np.asarray(self.sample(jax.random.key(seed), count))


def generator(
    name: str,
    shape: tuple[int, int, int],
    width: int,
    classes: int = 0,
    dtype: Any = jnp.float32,
    pixel_means: Any = None,
    normalization: bool = True,
) -> nn.Module:
    """The generator of this name: noise (B, Z) -> images (B, *shape), from `LOWEST_PIXEL` to 1.

    name: dcgan, resnet or mlp. width, classes: see those networks. pixel_means: means of the
    training images, in [0, 1], from which mlp starts; the others do not use them. normalization:
    whether layers of dcgan and resnet are normalized over the batch. Raises UserError for a shape
    that does not halve as often as the network doubles, and for classes where it knows none.
    """
    if name == "mlp":
        if classes:
            raise UserError("--network mlp knows no --conditional; take dcgan, or --no-conditional")
        return goodfellow.Generator(
            shape, hidden=(width, width), pixel_means=pixel_means, dtype=dtype
        )
    kind = CONVOLUTIONAL[name]
    try:
        kind.halvings(*shape[:2])
    except ValueError as error:
        raise UserError(f"{error}; give --image-size, or --network mlp") from error
    given: Mapping[str, Any] = {"norm": BatchNorm} if normalization else kind.plain
    return kind.make(shape, width=width, classes=classes, dtype=dtype, **given)


def discriminator(
    name: str,
    width: int,
    classes: int = 0,
    dtype: Any = jnp.float32,
    spectral_norms: bool = False,
    penalized: bool = False,
    normalization: bool = True,
) -> nn.Module:
    """The discriminator beside that generator: images (B, H, W, C) -> (logit (B,), features).

    spectral_norms: kernels are divided by their spectral norms, in place of batch normalization.
    penalized: its gradient at single examples is penalized, which has to be a function of that
    example alone; so dcgan's has layer normalization in place of batch normalization (Gulrajani et
    al. 2017, section 4, "No critic batch normalization"). normalization: False for neither of
    them. The others have no normalization. Raises UserError for mlp with spectral norms.
    """
    if name == "mlp":
        if spectral_norms:
            raise UserError("--network mlp knows no --spectral; take dcgan")
        return goodfellow.Discriminator(dtype=dtype)
    conv, dense = (spectral(Conv), spectral(nn.Dense)) if spectral_norms else (Conv, nn.Dense)
    if name == "resnet":
        return sngan.Discriminator(width, classes, conv, dense, dtype)
    norm = functools.partial(GroupNorm, groups=1) if penalized else BatchNorm
    norm = norm if normalization and not spectral_norms else Bias
    init = dcgan.NORMAL if normalization else SCALED
    return dcgan.Discriminator(
        width, classes=classes, conv=conv, dense=dense, norm=norm, kernel_init=init, dtype=dtype
    )
