"""AlexNet: Krizhevsky, Sutskever and Hinton 2012, *ImageNet Classification with Deep Convolutional
Neural Networks*.

Axes: T towers, B batch, H height, W width, C channels of one tower, D units of one tower, K
  classes.

The paper trains on two GPUs, each with half of the kernels of every layer (section 3.5, figure 2):
a tower sees only its own maps, except in conv3 and the fully connected layers, which see both. Here
the towers are an axis of the activations and of the parameters. On a mesh with `model=2` and
`RULES` each tower lies on a device of its own, and devices talk where the paper's GPUs do.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.sharding import PartitionSpec

from advdl.models.variant import DENSE, Variant
from advdl.nn import (
    Conv,
    Dropout,
    adaptive_avg_pool,
    conv,
    local_response_norm,
    max_pool,
    tap,
    towers,
)
from advdl.nn.elementwise import relu
from advdl.nn.pixels import CENTERED, IMAGENET, Pixels

RULES = ((r"/(conv\d/(kernel|bias)|fc[67]/(kernel|bias)|fc8/kernel)$", PartitionSpec("model")),)
"""Sharding rules for `advdl.train.placement`: one tower for each device of the axis `model`."""

NORMAL = nn.initializers.normal(0.01)
"""Section 5."""


class TowerConv(nn.Module):
    """Convolution of each tower's maps, (T, B, H, W, C) -> (T, B, H', W', features / T); with
    `across`, of all maps.

    An input (B, H, W, C) without towers is seen by all. Parameters: kernel (T, kh, kw, I, features
    / T), bias (T, features / T).
    """

    features: int
    kernel_size: int
    towers: int
    strides: int = 1
    padding: int = 0
    across: bool = False
    bias_init: Callable = nn.initializers.zeros
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.across:
            x = _together(x)
        size = self.kernel_size
        shape = (self.towers, size, size, x.shape[-1], self.features // self.towers)
        kernel = self.param("kernel", NORMAL, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.towers, shape[-1]), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        own = partial(conv, strides=self.strides, padding=self.padding)
        y_TBHWC = (
            towers.each(own)(x, kernel) if x.ndim == 5 else towers.each(partial(own, x))(kernel)
        )
        return y_TBHWC + bias[:, None, None, None, :]


class TowerDense(nn.Module):
    """Each tower's units of a fully connected layer that sees all towers: (T, B, D) -> (T, B, units
    / T).

    Parameters: kernel (T, T·D, units / T), bias (T, units / T).
    """

    units: int
    bias_init: Callable
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_TBD: jax.Array) -> jax.Array:
        towers = len(x_TBD)
        x_BD = _together(x_TBD)
        shape = (towers, x_BD.shape[-1], self.units // towers)
        kernel = self.param("kernel", NORMAL, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (towers, shape[-1]), self.param_dtype)
        x_BD, kernel, bias = promote_dtype(x_BD, kernel, bias, dtype=self.dtype)
        return jnp.einsum("bd,tdu->tbu", x_BD, kernel) + bias[:, None, :]


class TowerLogits(nn.Module):
    """The last layer, (T, B, D) -> (B, K): every tower adds its part. Parameters: kernel (T, D, K),
    bias (K,)."""

    num_classes: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_TBD: jax.Array) -> jax.Array:
        towers, _, units = x_TBD.shape
        kernel = self.param("kernel", NORMAL, (towers, units, self.num_classes), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,), self.param_dtype)
        x_TBD, kernel, bias = promote_dtype(x_TBD, kernel, bias, dtype=self.dtype)
        return jnp.einsum("tbd,tdk->bk", x_TBD, kernel) + bias[None]


class AlexNet(nn.Module):
    """(B, H, W, C) -> logits (B, K) and the intermediates by name, in `dtype`. H and W: 224 in the
    paper, 67 at least.

    Convolution, rectifier, local response normalization over each tower's maps, overlapping 3×3
    pooling with stride 2; dropout 1/2 after the rectifiers of fc6 and fc7 (sections 3.1 to 3.5,
    4.2).

    towers: 2 as in the paper; 1 is the same net with every layer dense.
    padding: of conv1. 2 makes the paper's 55×55 maps of 224×224 images; 0 is Caffe's, for 227×227.
    num_classes: None leaves out everything after conv5, which is then the first result.
    hidden_bias: at which conv2, conv4, conv5, fc6 and fc7 start: 1 in the paper (section 5), 0.1 in
      Caffe's net.
    Intermediates: conv1 to conv5 (B, H', W', T·C) after the rectifier, fc6 and fc7 (B, T·D).
    """

    pixels: ClassVar[Pixels] = CENTERED
    num_classes: int | None = 1000
    towers: int = 2
    padding: int = 2
    hidden_bias: float = 1.0
    dropout: float = 0.5
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        layer = partial(TowerConv, towers=self.towers, **dtypes)
        lifted = partial(layer, bias_init=nn.initializers.constant(self.hidden_bias))
        dense = partial(TowerDense, bias_init=nn.initializers.constant(self.hidden_bias), **dtypes)
        respond = towers.each(local_response_norm)
        pool = towers.each(lambda y: max_pool(y, 3, 2))
        x = seen1 = self._tap(
            "conv1", relu(layer(96, 11, strides=4, padding=self.padding, name="conv1")(x_BHWC))
        )
        x = pool(respond(x))
        x = seen2 = self._tap("conv2", relu(lifted(256, 5, padding=2, name="conv2")(x)))
        x = pool(respond(x))
        x = seen3 = self._tap("conv3", relu(layer(384, 3, padding=1, across=True, name="conv3")(x)))
        x = seen4 = self._tap("conv4", relu(lifted(384, 3, padding=1, name="conv4")(x)))
        x = seen5 = self._tap("conv5", relu(lifted(256, 3, padding=1, name="conv5")(x)))
        seen = dict(conv1=seen1, conv2=seen2, conv3=seen3, conv4=seen4, conv5=seen5)
        if self.num_classes is None:
            return _together(x), {name: _together(y) for name, y in seen.items()}
        x = pool(x)
        x_TBD = x.reshape(*x.shape[:2], -1)
        x_TBD = seen6 = relu(dense(4096, name="fc6")(x_TBD))
        x_TBD = self._drop(x_TBD, train)
        x_TBD = seen7 = relu(dense(4096, name="fc7")(x_TBD))
        x_TBD = self._drop(x_TBD, train)
        logits_BK = TowerLogits(self.num_classes, name="fc8", **dtypes)(x_TBD)
        seen |= dict(fc6=seen6, fc7=seen7)
        return logits_BK, {name: _together(y) for name, y in seen.items()}

    def _tap(self, name, x_TBHWC):
        def apart(x):
            return jnp.moveaxis(x.reshape(*x.shape[:-1], self.towers, -1), -2, 0)

        return tap(self, name, x_TBHWC, apart)

    def _drop(self, x_TBD, train):
        """Each example's mask is its own, so the batch axis goes first."""
        return jnp.moveaxis(Dropout(self.dropout)(jnp.moveaxis(x_TBD, 0, 1), train), 1, 0)


def _together(x):
    """(T, B, …, C) -> (B, …, T·C): all towers' maps side by side."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


class AlexNetTorchvision(nn.Module):
    """torchvision's `alexnet`, of Krizhevsky 2014 (arXiv:1404.5997): (B, H, W, C) -> logits (B, K),
    intermediates.

    One tower of other widths, no response normalization, dropout before fc6 and fc7, and an average
    to 6×6 before fc6 that makes any size from 63 on possible. num_classes and intermediates as
    `AlexNet`'s.
    """

    pixels: ClassVar[Pixels] = IMAGENET
    num_classes: int | None = 1000
    dropout: float = 0.5
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        seen, x = {}, x_BHWC
        rows = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
        for number, (features, kernel, strides, padding) in enumerate(rows, 1):
            name = f"conv{number}"
            x = relu(
                Conv(features, kernel, strides=strides, padding=padding, name=name, **dtypes)(x)
            )
            x = seen[name] = tap(self, name, x)
            if number in (1, 2, 5):
                x = max_pool(x, 3, 2)
        if self.num_classes is None:
            return seen["conv5"], seen
        x = adaptive_avg_pool(x, 6)
        x = x.reshape(len(x), -1)
        for name in ("fc6", "fc7"):
            x = Dropout(self.dropout)(x, train)
            x = seen[name] = relu(nn.Dense(4096, name=name, **dtypes)(x))
        return nn.Dense(self.num_classes, name="fc8", **dtypes)(x), seen


VARIANTS: Mapping[str, Variant] = {
    "alexnet": Variant(
        AlexNet,
        "Krizhevsky 2012",
        (224, 224, 3),
        60_965_224,
        724_406_816,
        "37.5 % top-1 and 17.0 % top-5 error on ILSVRC-2010 (abstract)",
        RULES,
        weights=("caffe",),
    ),
    "alexnet_one_tower": Variant(
        partial(AlexNet, towers=1), "Krizhevsky 2012", (224, 224, 3), 62_378_344, 1_135_256_096
    ),
    "alexnet_torchvision": Variant(
        AlexNetTorchvision,
        "Krizhevsky 2014",
        (224, 224, 3),
        61_100_840,
        714_188_480,
        "43.478 % top-1 error on ImageNet (torchvision)",
        DENSE,
        weights=("torchvision",),
    ),
}
