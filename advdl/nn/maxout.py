"""Maxout (Goodfellow et al. 2013, arXiv:1302.4389). Axes: B batch, D features."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype


class Maxout(nn.Module):
    """Dense layer whose every output is the largest of `pieces` affine functions: (B, D) -> (B,
    features).

    Parameters: kernel (D, pieces, features) and bias (pieces, features), in `param_dtype`. Computes
      in `dtype`.
    """

    features: int
    pieces: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.variance_scaling(
        1.0, "fan_in", "truncated_normal", in_axis=0, out_axis=(1, 2)
    )
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x_BD: jax.Array) -> jax.Array:
        shape = (x_BD.shape[-1], self.pieces, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, shape[1:], self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = promote_dtype(x_BD, kernel, bias, dtype=self.dtype)
        y = x @ kernel.reshape(shape[0], -1)
        y = y.reshape(*y.shape[:-1], *shape[1:])
        return (y if bias is None else y + bias[None]).max(-2)
