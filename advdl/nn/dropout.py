"""Dropout (Srivastava et al. 2014). Axes: B batch, then whatever an example has."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import replica


class Dropout(nn.Module):
    """If `train`, zeroes each value with probability `rate` and divides the others by 1 - rate;
    else the identity.

    Each example's mask comes from the stream "dropout" and from the example's place in the global
    batch, so it is the same under every placement.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        if self.rate == 1.0:
            return jnp.zeros_like(x)
        keep = replica.sample(
            lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]),
            self.make_rng("dropout"),
            len(x),
        )
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))
