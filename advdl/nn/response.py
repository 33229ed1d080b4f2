"""Local response normalization (Krizhevsky et al. 2012, section 3.3). Axes: any, then C channels
(last).

Fast implementation (CPU): the sum over neighboring channels is a matrix product with a band of
ones.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advdl.nn import tracing


def local_response_norm(
    x: jax.Array,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    convention: Literal["paper", "mean"] = "paper",
) -> jax.Array:
    """x_i / (k + α Σ_j x_j²)^β, the sum over the `size` channels around i that exist: x's shape and
    dtype.

    The defaults are the paper's. convention "mean" divides α by `size` as torch's and Caffe's
    layers do: the paper's α = 1e-4 is their 5e-4. Raises ValueError for another convention.
    """
    if convention not in ("paper", "mean"):
        raise ValueError(f"convention {convention!r}; expected 'paper' or 'mean'")
    alpha = alpha / size if convention == "mean" else alpha
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    before, after = size // 2, (size - 1) // 2
    if tracing.fast():
        i = np.arange(x.shape[-1])
        band = (i[:, None] >= i - before) & (i[:, None] <= i + after)
        energy = lax.square(wide) @ jnp.asarray(band, wide.dtype)
    else:
        ones = (1,) * (x.ndim - 1)
        edges = ((0, 0),) * (x.ndim - 1) + ((before, after),)
        energy = lax.reduce_window(lax.square(wide), 0.0, lax.add, (*ones, size), (*ones, 1), edges)
    return (wide * (k + alpha * energy) ** -beta).astype(x.dtype)
