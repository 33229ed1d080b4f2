"""Small perceptrons that play the game of Goodfellow et al. 2014 (arXiv:1406.2661) on points
instead of images.

Axes: B batch, Z noise, D dimensions of a point. No paper fixes their widths; biases are drawn as
the kernels are, since with few inputs and zero biases all kinks would lie in one place.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant


class Generator(nn.Module):
    """Noise (B, Z) -> points (B, D), `hidden` units a layer and a linear last one. `train` changes
    nothing."""

    dimensions: int
    hidden: Sequence[int] = (32, 32)
    act: Callable[[jax.Array], jax.Array] = jnp.tanh
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z_BZ: jax.Array, train: bool = False) -> jax.Array:
        h = z_BZ
        for number, units in enumerate(self.hidden, 1):
            h = self.act(_dense(self, units, h, f"hidden{number}"))
        return _dense(self, self.dimensions, h, "point")


class Discriminator(nn.Module):
    """Points (B, D) -> (logit of "real" (B,), {"hidden1": (B, D1), …}); leaky rectifiers of slope
    0.2.

    mean, std: (D,) of the data; points are seen as (x - mean)/std. `train` changes nothing.
    """

    mean: Sequence[float]
    std: Sequence[float]
    hidden: Sequence[int] = (32, 32)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BD: jax.Array, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        mean, std = (jnp.asarray(value, x_BD.dtype)[None] for value in (self.mean, self.std))
        h, seen = (x_BD - mean) / std, {}
        for number, units in enumerate(self.hidden, 1):
            h = seen[f"hidden{number}"] = nn.leaky_relu(
                _dense(self, units, h, f"hidden{number}"), 0.2
            )
        return _dense(self, 1, h, "logit")[:, 0], seen


def _dense(module: nn.Module, units: int, x: jax.Array, name: str) -> jax.Array:
    bound = x.shape[-1] ** -0.5
    return nn.Dense(
        units,
        bias_init=_uniform(bound),
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        name=name,
    )(x)


def _uniform(bound: float):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


VARIANTS: Mapping[str, Variant] = {
    "points_generator": Variant(partial(Generator, 2), "Goodfellow 2014", (2,), 1_218, 1_152),
    "points_discriminator": Variant(
        partial(Discriminator, (0.0, 0.0), (1.0, 1.0)), "Goodfellow 2014", (2,), 1_185, 1_120
    ),
}
