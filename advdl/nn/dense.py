"""A dense layer whose bias' gradient is a product."""

import flax.linen as nn
import jax

from advdl.nn.normalization import add_bias


class Dense(nn.Dense):
    """Flax's layer, (…, I) -> (…, features), with its fields and parameters; for answers of many classes at many places, where
    XLA's CPU code for the gradient of a bias takes longer than a product (`add_bias`)."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return x @ kernel if bias is None else add_bias(x @ kernel, bias)
