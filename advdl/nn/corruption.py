"""Noise on images, such as a denoising auto-encoder is trained to take away."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from advdl.errors import UserError

Kind = Literal["gaussian", "masking", "salt_pepper"]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """`corruption(key, x)`: one image in [0, 1], of any shape, with noise; 0 adds none.

    gaussian: x + amount · N(0, 1) in every number (Vincent et al. 2010, JMLR 11). masking: a fixed
    number of the image's d numbers, amount · d to the nearest, are chosen at random and set to 0
    (Vincent et al. 2008, ICML, section 2.3).
    salt_pepper: as many are set to 0 or to 1, by a fair coin each (Vincent et al. 2010).

    Raises UserError where the amount is no share, and the kind needs one.
    """

    kind: Kind = "gaussian"
    amount: float = 0.0

    def __post_init__(self):
        if self.kind != "gaussian" and not 0 < self.amount <= 1:
            raise UserError(
                f"--noise is {self.amount}; expected a share, above 0 and at most 1, with"
                f" --noise-kind {self.kind}"
            )

    @property
    def deviation(self) -> float:
        """Standard deviation of white noise; 0 for noise of another kind."""
        return self.amount if self.kind == "gaussian" else 0.0

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        if not self.amount:
            return x
        if self.kind == "gaussian":
            return x + self.amount * jax.random.normal(key, x.shape)
        key_place, key_coin = jax.random.split(key)
        count = round(self.amount * x.size)
        chosen = jax.random.permutation(key_place, jnp.arange(x.size) < count).reshape(x.shape)
        salt = jax.random.bernoulli(key_coin, shape=x.shape) & (self.kind == "salt_pepper")
        return jnp.where(chosen, salt.astype(x.dtype), x)
