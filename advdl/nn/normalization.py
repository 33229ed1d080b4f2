"""Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) over the whole batch, wherever its
parts are.

Axes: B batch, C channels (last); between them any number of others, H height and W width for
  images.

Fast implementation (CPU): XLA turns a reduction over batch and space into nested windows, several
times slower than reading the array. All means here, forward and backward, are matrix products with
a row of ones, one row per example, summed after: that is fast, keeps the error of an f32 sum small,
and leaves the batch axis alone for a mesh to shard.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from advdl.nn import replica, tracing


def channel_mean(x: jax.Array) -> jax.Array:
    """Mean over all axes but the last, in float32: (B, …, C) -> (C,). Of what this replica sees."""
    return channel_sum(x) / (x.size // x.shape[-1])


def channel_sum(x: jax.Array) -> jax.Array:
    """Sum over all axes but the last, otherwise as `channel_mean`."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if not tracing.fast():
        return x.sum(range(x.ndim - 1))
    if x.ndim == 2:
        return (jnp.ones((1, len(x)), x.dtype) @ x).reshape(-1)
    rows = x.reshape(len(x), -1, x.shape[-1])
    return (jnp.ones((len(x), 1, rows.shape[1]), x.dtype) @ rows).sum((0, 1))


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x (B, …, C) + bias (C,), of one dtype."""
    return (_fast_add_bias if tracing.fast() else _add_bias)(x, bias)


def _add_bias(x, bias):
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


_fast_add_bias = jax.custom_vjp(_add_bias)
_fast_add_bias.defvjp(
    lambda x, bias: (_fast_add_bias(x, bias), None),
    lambda _, g: (g, channel_sum(g).astype(g.dtype)),
)


def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """((x - mean) / sqrt(var + epsilon) · scale + bias, mean, var), statistics over all of the
    batch on all replicas.

    x (B, …, C) of any float type, scale and bias (C,); y has x's dtype, mean and the biased
    variance are (C,) float32. Differentiable to any order by reverse mode; gradients of scale and
    bias are, as any parameter's, this replica's part.
    """
    implementation = _fast_normalize if tracing.fast() else _plain_normalize
    return implementation(x, scale, bias, epsilon)


def _plain_normalize(x, scale, bias, epsilon):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = replica.mean((channel_mean(wide), channel_mean(lax.square(wide))))
    var = jnp.maximum(square - lax.square(mean), 0.0)
    return _affine(x, mean, scale * lax.rsqrt(var + epsilon), bias), mean, var


def _affine(x, mean, gain, bias):
    """(x - mean) · gain + bias by channel, in float32, back in x's dtype."""
    lift = (1,) * (x.ndim - 1) + (-1,)
    return ((x - mean.reshape(lift)) * gain.reshape(lift) + bias.reshape(lift)).astype(x.dtype)


def _normalized(x, scale, bias, epsilon) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = replica.mean(channel_mean(x))
    lift = (1,) * (x.ndim - 1) + (-1,)
    var = replica.mean(channel_mean(lax.square(x - mean.reshape(lift))))
    return _affine(x, mean, scale * lax.rsqrt(var + epsilon), bias), mean, var


_fast_normalize = jax.custom_vjp(_normalized, nondiff_argnums=(3,))


def _forward(x, scale, bias, epsilon):
    y, mean, var = _fast_normalize(x, scale, bias, epsilon)
    return (y, mean, var), (x, scale, mean, var)


def _backward(epsilon, saved, cotangents):
    """With g = dy, d = x - mean, r = 1/sqrt(var + epsilon), over N values a channel:

    dbias = Σg, dscale = r Σgd, dx = r·scale (g - mean(g) - d r² mean(g d)) + (dmean + 2 d dvar) /
    N.
    """
    x, scale, mean, var = saved
    g, dmean, dvar = cotangents
    lift = (1,) * (x.ndim - 1) + (-1,)
    count = x.size // x.shape[-1]
    r = lax.rsqrt(var + epsilon)
    d = x - mean.reshape(lift)
    local_g, local_gd = channel_mean(g), channel_mean(g * d)
    mean_g, mean_gd, dmean, dvar = replica.mean((local_g, local_gd, dmean, dvar))
    gain = r * scale
    slope = 2 * dvar / count - gain * r * r * mean_gd
    offset = dmean / count - gain * mean_g
    dx = gain.reshape(lift) * g + slope.reshape(lift) * d + offset.reshape(lift)
    return (
        dx.astype(x.dtype),
        (count * r * local_gd).astype(scale.dtype),
        (count * local_g).astype(scale.dtype),
    )


_fast_normalize.defvjp(_forward, _backward)


class BatchNorm(nn.Module):
    """Batch normalization of (B, …, C): batch statistics if `train`, else their moving averages.

    Parameters scale and bias (C,) in `param_dtype`; collection "batch_stats" has mean and var (C,),
    float32 always, with new = momentum · old + (1 - momentum) · batch's. The variance averaged is
    the biased one (Flax's convention), or with `unbiased` n / (n - 1) of it (torch's, whose
    momentum is 1 - this one). Statistics are of the global batch under `pmap` and on a mesh.
    Returns `dtype` (default: what input and parameters promote to).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = False
    use_scale: bool = True
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    scale_init: Callable = nn.initializers.ones
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = (
            self.param("scale", self.scale_init, shape, self.param_dtype)
            if self.use_scale
            else None
        )
        bias = (
            self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        )
        x, *_ = promote_dtype(x, scale, bias, dtype=self.dtype)
        scale, bias = (
            jnp.full(shape, neutral)
            if value is None
            else value.astype(jnp.promote_types(value.dtype, jnp.float32))
            for value, neutral in ((scale, 1.0), (bias, 0.0))
        )
        if not train:
            return _affine(x, mean.value, scale * lax.rsqrt(var.value + self.epsilon), bias)
        y, batch_mean, batch_var = normalize(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            if self.unbiased:
                count = x.size // x.shape[-1] * replica.count()
                batch_var = batch_var * (count / max(count - 1, 1))
            for old, new in ((mean, batch_mean), (var, batch_var)):
                new = (1 - self.momentum) * lax.stop_gradient(new)
                old.value = self.momentum * old.value + new
        return y


class ConditionalBatchNorm(nn.Module):
    """Batch normalization of (B, …, C) with a scale and a bias for each of K classes, which share
    their statistics (de Vries et al. 2017, arXiv:1707.00683; by classes as in Dumoulin et al. 2017,
    arXiv:1610.07629, and in the generator of Miyato and Koyama 2018, arXiv:1802.05637).

    Parameters scale and bias (K, C), K = `classes`; collection, `momentum` and `epsilon` as in
    `BatchNorm`. Called with labels (B,), integers from 0 to K - 1; an example of any other label
    becomes zeros.
    """

    classes: int
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    param_dtype: Any = jnp.float32
    scale_init: Callable = nn.initializers.ones
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, label_B: jax.Array | None) -> jax.Array:
        shape = (self.classes, x.shape[-1])
        scale_KC = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias_KC = self.param("bias", self.bias_init, shape, self.param_dtype)
        bare: dict[str, Any] = dict(
            use_scale=False, use_bias=False, dtype=self.dtype, name="statistics"
        )
        plain = BatchNorm(self.momentum, self.epsilon, **bare)
        # A product with a matrix of ones: rows taken by index would be a gather, whose gradient is
        # a scatter.
        one_BK = jax.nn.one_hot(label_B, self.classes, dtype=self.param_dtype)

        def own(table_KC):
            return jnp.matmul(one_BK, table_KC, precision="highest")

        scale_BC, bias_BC = own(scale_KC), own(bias_KC)
        x, scale_BC, bias_BC = promote_dtype(plain(x, train), scale_BC, bias_BC, dtype=self.dtype)
        lift = (len(x),) + (1,) * (x.ndim - 2) + (-1,)
        return x * scale_BC.reshape(lift) + bias_BC.reshape(lift)


class Bias(nn.Module):
    """A bias for each channel of (B, …, C), to stand where a normalization would; called as
    `BatchNorm` is, whose `scale_init` has no meaning here."""

    scale_init: Callable | None = None
    bias_init: Callable = nn.initializers.zeros
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        bias = self.param("bias", self.bias_init, (x.shape[-1],), self.param_dtype)
        x, bias = promote_dtype(x, bias, dtype=self.dtype)
        return add_bias(x, bias)


class GroupNorm(nn.Module):
    """Group normalization (Wu and He 2018, arXiv:1803.08494) of (B, …, C), each example by itself;
    called as `BatchNorm` is.
    groups: at most so many, as many as divide the channels."""

    groups: int = 8
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones
    bias_init: Callable = nn.initializers.zeros
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        groups, channels = self.groups, x.shape[-1]
        while channels % groups:
            groups -= 1
        rows = (len(x), -1, groups, channels // groups)
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        x, scale, bias = promote_dtype(x, scale, bias, dtype=self.dtype)
        d = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(rows)
        d = d - d.mean((1, 3), keepdims=True)
        y = (
            (d * lax.rsqrt(jnp.square(d).mean((1, 3), keepdims=True) + self.epsilon))
            .astype(x.dtype)
            .reshape(x.shape)
        )
        lift = (1,) * (x.ndim - 1) + (-1,)
        return y * scale.reshape(lift) + bias.reshape(lift)
