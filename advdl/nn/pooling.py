"""Pooling. Axes: B batch, H height, W width, C channels."""

import jax
import jax.numpy as jnp

from advdl.nn import formulation


def global_average_pool(x_BHWC: jax.Array) -> jax.Array:
    """Mean over height and width: (B, H, W, C) -> (B, C), summed in float32 at least, in x's dtype.

    Fast formulation (CPU): a matrix product with a row of ones, as in `advdl.nn.normalization`.
    """
    wide = x_BHWC.astype(jnp.promote_types(x_BHWC.dtype, jnp.float32))
    if not formulation.fast():
        return wide.mean((1, 2)).astype(x_BHWC.dtype)
    rows = wide.reshape(len(wide), -1, wide.shape[-1])
    ones = jnp.ones((len(wide), 1, rows.shape[1]), wide.dtype)
    return ((ones @ rows)[:, 0] / rows.shape[1]).astype(x_BHWC.dtype)
