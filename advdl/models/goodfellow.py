"""The perceptrons of Goodfellow et al. 2014, *Generative Adversarial Nets* (arXiv:1406.2661).

Axes: B batch, Z noise, H height, W width, C channels. Pixels lie in [0, 1].

Widths, initial ranges and dropout are those of the MNIST configuration released with the paper
(github.com/goodfeli/adversarial): noise of 100 dimensions, generator 1200-1200-784, maxout
discriminator 240×5-240×5-1.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advdl.models.variant import Variant
from advdl.nn import Dropout, Maxout


def symmetric_uniform(bound: float):
    """Initializer U(-bound, bound)."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


class Generator(nn.Module):
    """Noise (B, Z) -> images (B, H, W, C) in (0, 1): rectifier layers, then a sigmoid for every
    pixel.

    shape: (H, W, C). hidden: units of each layer.
    pixel_means: mean of every pixel over the data, (H, W, C) or flat; the output's bias starts at
      their logits, so that training starts from the mean image. Clipped to [1e-7, 1 - 1e-7]. None:
      zeros.
    `train` changes nothing.
    """

    shape: tuple[int, int, int]
    hidden: Sequence[int] = (1200, 1200)
    pixel_means: Any = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z_BZ: jax.Array, train: bool = False) -> jax.Array:
        dense = dict(
            kernel_init=symmetric_uniform(0.05), dtype=self.dtype, param_dtype=self.param_dtype
        )
        h = z_BZ
        for number, units in enumerate(self.hidden, 1):
            h = nn.relu(nn.Dense(units, name=f"hidden{number}", **dense)(h))
        logits = nn.Dense(math.prod(self.shape), bias_init=self._bias, name="pixels", **dense)(h)
        return nn.sigmoid(logits).reshape(-1, *self.shape)

    def _bias(self, key, shape, dtype):
        if self.pixel_means is None:
            return jnp.zeros(shape, dtype)
        means = np.clip(np.asarray(self.pixel_means, np.float64).reshape(shape), 1e-7, 1 - 1e-7)
        return jnp.asarray(np.log(means) - np.log1p(-means), dtype)


class Discriminator(nn.Module):
    """Images (B, H, W, C) -> (logit of "real" (B,), {"hidden1": (B, D1), …}): maxout layers with
    dropout.

    In training mode each input is dropped with probability `input_dropout`, each hidden unit with
    `hidden_dropout`; draws from the stream "dropout".
    """

    hidden: Sequence[int] = (240, 240)
    pieces: int = 5
    input_dropout: float = 0.2
    hidden_dropout: float = 0.5
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        layer = dict(
            kernel_init=symmetric_uniform(0.005), dtype=self.dtype, param_dtype=self.param_dtype
        )
        h = Dropout(self.input_dropout)(x_BHWC.reshape(len(x_BHWC), -1), train)
        seen = {}
        for number, units in enumerate(self.hidden, 1):
            h = seen[f"hidden{number}"] = Maxout(
                units, self.pieces, name=f"hidden{number}", **layer
            )(h)
            h = Dropout(self.hidden_dropout)(h, train)
        return nn.Dense(1, name="logit", **layer)(h)[:, 0], seen


VARIANTS: Mapping[str, Variant] = {
    "goodfellow_generator": Variant(
        partial(Generator, (28, 28, 1)),
        "Goodfellow 2014",
        (100,),
        2_503_984,
        2_500_800,
        "225 ± 2 nats by a Parzen window on MNIST (table 1)",
    ),
    "goodfellow_discriminator": Variant(
        Discriminator, "Goodfellow 2014", (28, 28, 1), 1_231_441, 1_229_040
    ),
}
