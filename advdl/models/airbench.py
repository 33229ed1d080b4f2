"""The network of airbench94: Jordan 2024, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU*
(arXiv:2404.00498), as in its release (github.com/KellerJordan/cifar10-airbench).

Axes: B batch, H height, W width, C channels, K classes. `tests/benchmarks/speedrun.py` trains it as
its author does.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, Dense, max_pool, tap
from advdl.nn.pixels import IMAGENET, Pixels

UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Between ±1 / sqrt(fan-in), as torch starts its convolutions."""


def identity_first(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A kernel (kh, kw, I, O) of odd sides whose first I channels out are the channels in; the
    others are between ±1 / sqrt(fan-in)."""
    kernel, same = UNIFORM(key, shape, dtype), min(shape[2:])
    middle = jnp.zeros((*shape[:3], same), dtype)
    middle = middle.at[shape[0] // 2, shape[1] // 2].set(jnp.eye(shape[2], same, dtype=dtype))
    return kernel.at[..., :same].set(middle)


def whitening(images_NHWC: jax.Array, side: int = 2, epsilon: float = 5e-4) -> jax.Array:
    """The first kernel, (side, side, C, 2·side²·C), float32: the eigenvectors of the second moments
    of all patches, largest first, each divided by the root of its eigenvalue + epsilon, and then
    their negatives. So the responses to such images are uncorrelated and of mean square 1."""
    count, height, width, channels = images_NHWC.shape
    rows, columns = height - side + 1, width - side + 1
    shifted = [
        images_NHWC[:, top : top + rows, left : left + columns]
        for top in range(side)
        for left in range(side)
    ]
    patch_ND = jnp.concatenate(shifted, -1).reshape(count * rows * columns, -1)
    moments_DD = jnp.matmul(patch_ND.T, patch_ND, precision="highest") / len(patch_ND)
    value_D, vector_DD = jnp.linalg.eigh(moments_DD)
    kernel = (vector_DD / jnp.sqrt(value_D + epsilon)[None])[:, ::-1]
    return jnp.concatenate([kernel, -kernel], 1).reshape(side, side, channels, -1)


class Group(nn.Module):
    """(B, H, W, C) -> (B, H / 2, W / 2, features): two convolutions of 3×3, the first one pooled,
    each with a normalization that has no scale and a GELU."""

    features: int
    epsilon: float = 1e-12
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv = partial(
            Conv, self.features, 3, padding=1, use_bias=False, kernel_init=identity_first, **dtypes
        )
        norm = partial(BatchNorm, 0.6, self.epsilon, unbiased=True, use_scale=False, **dtypes)
        x = max_pool(conv(name="conv1")(x_BHWC), 2, 2)
        x = gelu(norm(name="norm1")(x, train))
        x = conv(name="conv2")(x)
        return gelu(norm(name="norm2")(x, train))


def gelu(x: jax.Array) -> jax.Array:
    """x Φ(x), exactly (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return nn.gelu(x, approximate=False)


class Airbench(nn.Module):
    """(B, H, W, C) -> logits (B, K) and the intermediates by name, in `dtype`.

    A convolution of 2×2 without padding into 2·4·C channels, which the recipe sets by `whitening`
    and leaves as it is; three groups; the maximum of every channel; a linear layer without bias,
    whose result is divided by 9.
    widths: of the groups. epsilon: added to variances. Intermediates: group1 to group3.
    """

    pixels: ClassVar[Pixels] = IMAGENET
    num_classes: int = 10
    widths: tuple[int, int, int] = (64, 256, 256)
    epsilon: float = 1e-12
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        whitened = Conv(8 * x_BHWC.shape[-1], 2, kernel_init=UNIFORM, name="whiten", **dtypes)
        x, seen = gelu(whitened(x_BHWC)), {}
        for number, width in enumerate(self.widths, 1):
            name = f"group{number}"
            x = seen[name] = tap(
                self, name, Group(width, self.epsilon, name=name, **dtypes)(x, train)
            )
        x = x.max((1, 2))
        dense = Dense(
            self.num_classes, use_bias=False, kernel_init=UNIFORM, name="classifier", **dtypes
        )
        return dense(x) / 9, seen


VARIANTS: Mapping[str, Variant] = {
    "airbench94": Variant(
        Airbench,
        "Jordan 2024",
        (32, 32, 3),
        1_971_640,
        118_147_360,
        "94.01 % on CIFAR-10 in 3.83 s of an A100 (airbench)",
    )
}
