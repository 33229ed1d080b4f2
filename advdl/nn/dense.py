"""A dense layer whose gradients are products of matrices as they lie."""

import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype

from advdl.nn import tracing
from advdl.nn.normalization import add_bias


class Dense(nn.Dense):
    """Flax's layer, (…, I) -> (…, features), with its fields and parameters; for answers of many
    classes at many places.

    There XLA's CPU code for the gradient of a bias takes longer than a product (`add_bias`), and
    for that of a kernel by more than one axis it first writes the gradient of the answers out
    transposed. So all places are one axis, for the bias too: otherwise that gradient is kept twice.
    """

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel", self.kernel_init, (inputs.shape[-1], self.features), self.param_dtype
        )
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        flat = x.reshape(-1, x.shape[-1]) if tracing.fast() else x
        y = flat @ kernel
        y = y if bias is None else add_bias(y, bias)
        return y.reshape(*x.shape[:-1], -1)
